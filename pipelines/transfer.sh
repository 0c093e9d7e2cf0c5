#!/usr/bin/env bash
# Fine-tunes as one of big_vision's transfer configurations: the options of a recipe, one tool a line, from pipelines/recipes.
# Usage: transfer.sh RECIPE MODEL TRAIN OUT [pg-train options]     TRAIN: a .jsonl, or what else pg-fetch takes
#        transfer.sh RECIPE TOOL                                   prints the recipe's options for pg-tokenize, pg-train or pg-infer
#        transfer.sh                                               names the recipes
# Environment: PG_BIN. The picture's size is the model's; pg-train options come after the recipe's and so decide,
# also --steps where the recipe has --epochs.
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/usage.sh"
here=$(cd "$(dirname "$0")" && pwd)
recipes() { (cd "$here/recipes" && echo * | sed 's/README.md //'); }
if [ $# -eq 0 ]; then
    recipes
    exit
fi
recipe=$here/recipes/$1
[[ -f $recipe && $1 != *.md ]] || usage "no recipe '$1'; there are $(recipes)"
if [ $# -ne 2 ]; then operands 4 4 "${@:1:4}"; fi
together "$@"
PATH=${PG_BIN:+$PG_BIN:}$PATH:$(dirname "$(readlink -f "$0")")/../build

# options TOOL: the recipe's, into the array `of`. Quotes in a recipe are the shell's; xargs undoes them without running anything.
options() { mapfile -t of < <(sed -n "s/^$1 //p" "$recipe" | xargs printf '%s\n'); }

if [ $# -eq 2 ]; then
    grep -q "^$2 " "$recipe" || usage "no options for '$2' in '$1'"
    sed -n "s/^$2 //p" "$recipe"
    exit
fi
model=$2 train=$3 out=$4
shift 4
options pg-tokenize
tokenize=("${of[@]}")
options pg-train
case " $* " in
*' --steps '* | *' --steps='*) for i in "${!of[@]}"; do [ "${of[i]-}" != --epochs ] || unset "of[i]" "of[i+1]"; done ;;
esac
pg-fetch "$train" | pg-resize -m "$model" --drop-image | pg-tokenize -m "$model" "${tokenize[@]}" |
    pg-train -m "$model" -o "$out" "${of[@]}" "$@" | pg-render -f text || cause "${PIPESTATUS[@]}"
