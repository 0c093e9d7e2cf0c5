#!/usr/bin/env bash
# The demo: names 100 pictures in four languages, fine-tunes data/nano on 90 pictures of other things as the notebook does, captions the
# 100 again, writes a report. pg-demo(1) calls it where installed.
# Usage: demo.sh BUILD [OUT]     BUILD: the folder of the tools; OUT: where everything goes (BUILD/demo)
# Environment: DEMO_STEPS (64), DEMO_PICTURES (100, for validation)
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/usage.sh"
operands 1 2 "$@"
together "$@"
build=$(cd "$1" && pwd)
mkdir -p "${2:-$build/demo}"
demo=$(cd "${2:-$build/demo}" && pwd)
cd "$(dirname "$0")/.."
PATH=$build:$PATH
model=$PWD/data/nano
scripts=$(printf %q "$PWD/pipelines") # as the user calls them; where installed or in the usual place they find the tools
[ ! -e Makefile ] || [ "$build" = "$PWD/build" ] || scripts="PG_BIN=$(printf %q "$build") $scripts"
steps=${DEMO_STEPS:-64} lr=0.6

say() { printf '\n%s\n' "$1"; }
tokens() { pg-tokenize -q --keep-case -m "$model" -p "caption $1"; } # tokens LANGUAGE
examples() { pg-fetch "$demo/$1/examples.jsonl" | pg-resize -m "$model" | tokens en >"$demo/$1.pgs" || cause "${PIPESTATUS[@]}"; } # examples train|val
name_in() { # name_in LANGUAGE: what the model as it is says, from the pixels of val.pgs; one thread each, since all run at once
    if [ "$1" = en ]; then cat "$demo/val.pgs"; else tokens "$1" <"$demo/val.pgs"; fi |
        pg-infer -j 1 -m "$model" -n 32 | pg-score --annotate >"$demo/$1.pgs" || cause "${PIPESTATUS[@]}"
    pg-render -f captions "$demo/$1.pgs" >"$demo/$1.txt"
}
val_loss() { sed -n 's/^val.* loss: *\([0-9.]*\).*/\1/p' | tail -n 1; }
loss_before() { # a learning rate of 0 changes nothing
    pg-train -q -j 1 -m "$model" -o "$demo/same" --steps 1 --lr 0 --val "$demo/val.pgs" --val-captions 0 <"$demo/train.pgs" |
        pg-render -f text | val_loss >"$demo/loss-before" || cause "${PIPESTATUS[@]}"
    rm -r "$demo/same"
}
score() { # score KEY SCORES FORMAT FACTOR
    sed -nE "s/.*\"$1\":([0-9.]*).*/\1/p" <<<"$2" | awk -v format="$3" -v factor="$4" '{ printf format, factor * $1 }'
}
at_once() { # at_once COMMAND WORD...: the command with each word, all of them at the same time
    local word job jobs=()
    for word in "${@:2}"; do
        "$1" "$word" &
        jobs+=($!)
    done
    for job in "${jobs[@]}"; do wait "$job"; done
}
draw() { # draw train|val
    case $1 in
    train) set -- "$1" -n 90 --seed 1 --things described ;;
    val) set -- "$1" -n "${DEMO_PICTURES:-100}" --seed 2 --things named ;;
    esac
    "$build/data/augment" "${@:2}" --size 128 --text full -o "$demo/$1" "$demo/emoji/en.jsonl"
}

say 'pictures: emoji of Noto, names of CLDR, on backgrounds of random colour, scale and shift'
"$build/data/emoji" /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf /usr/share/unicode/cldr/common/annotations "$demo/emoji" en
rm -rf "$demo/train" "$demo/val"
at_once draw train val
at_once examples train val

say 'the model as it is names things; the prefix chooses the language (picture, en, es, de, fr):'
loss_before &
before=$!
at_once name_in en es de fr
wait "$before"
paste "$demo/en.txt" <(cut -f2 "$demo/es.txt") <(cut -f2 "$demo/de.txt") <(cut -f2 "$demo/fr.txt") >"$demo/languages.txt"
sed -n 1,4p "$demo/languages.txt"

say "fine-tuning on 90 pictures of other things: attention weights, SGD, gradients clipped, cosine schedule, $steps steps of 8"
pg-train -m "$model" -o "$demo/tuned" --steps "$steps" --batch 8 --lr "$lr" --clip 1 --val "$demo/val.pgs" --val-every 8 <"$demo/train.pgs" |
    tee "$demo/events.pgs" | pg-render -f text | awk '/^val/ || (/^step/ && $2 % 8 == 0) { print; fflush() }' || cause "${PIPESTATUS[@]}"
pg-infer -m "$demo/tuned" -n 32 <"$demo/val.pgs" | pg-score --annotate >"$demo/after.pgs" || cause "${PIPESTATUS[@]}"

say 'ten of the held-out pictures: reference, before, after'
paste <(pg-render -f jsonl "$demo/after.pgs" | sed -nE 's/.*"suffix":"([^"]*)".*/\1/p') <(cut -f2 "$demo/en.txt") \
    <(pg-render -f captions "$demo/after.pgs" | cut -f2) | sed -n 1,10p | awk -F'\t' '{ printf "  %s\n      before: %s\n      after:  %s\n", $1, $2, $3 }'
was=$(pg-score -f json "$demo/en.pgs") is=$(pg-score -f json "$demo/after.pgs")
scores=$(printf '%s\t%s\t%s\n' 'held-out pictures' before after \
    'loss' "$(cat "$demo/loss-before")" "$(pg-render -f text "$demo/events.pgs" | val_loss)" \
    'right to the letter' "$(score exact "$was" '%.0f %%' 100)" "$(score exact "$is" '%.0f %%' 100)" \
    'CIDEr' "$(score CIDEr "$was" %.2f 1)" "$(score CIDEr "$is" %.2f 1)")
say "$(awk -F'\t' '{ printf "%-28s %8s %8s\n", $1, $2, $3 }' <<<"$scores")"

next=$(cat <<end
your own pictures: a folder with a text beside each (cow.jpg, cow.txt), or JSON lines {"image":"cow.jpg","suffix":"a cow on a beach"};
from the folder where they lie:
  $scripts/finetune.sh $(printf %q "$model") pictures/ TUNED --steps $steps --lr $lr --clip 1
  $scripts/caption.sh TUNED more-pictures/ report.html
The same commands take a folder with PaliGemma-3B's weights and tokenizer for the model (README.md says where to get them), without --lr and
--clip: this small model learns little at the default rate, which is PaliGemma's.
end
)
as_it_is() { sed 's/^/    /'; }
{
    printf '# In four languages, before\npicture\tcaption en\tcaption es\tcaption de\tcaption fr\n'
    sed -n 1,8p "$demo/languages.txt"
    printf '\n# Before and after\n%s\n' "$scores"
    printf '\n# The commands\n'
    as_it_is <<end
cd $(printf %q "$demo")
PATH=$(printf %q "$build"):\$PATH MODEL=$(printf %q "$model")
pg-fetch train/examples.jsonl | pg-resize -m "\$MODEL" | pg-tokenize --keep-case -m "\$MODEL" -p 'caption en' >train.pgs
pg-fetch val/examples.jsonl | pg-resize -m "\$MODEL" | pg-tokenize --keep-case -m "\$MODEL" -p 'caption en' >val.pgs
pg-infer -m "\$MODEL" -n 32 <val.pgs | pg-score --annotate >before.pgs
pg-train -m "\$MODEL" -o tuned --steps $steps --batch 8 --lr $lr --clip 1 --val val.pgs --val-every 8 <train.pgs >events.pgs
pg-infer -m tuned -n 32 <val.pgs | pg-score --annotate >after.pgs
pg-render -o report.html --label before --label after before.pgs after.pgs events.pgs
end
    printf '\n# Next\n'
    as_it_is <<<"$next"
} >"$demo/note.txt"
pg-render -o "$demo/report.html" --compare --label before --label after --note "$demo/note.txt" \
    "$demo/en.pgs" "$demo/after.pgs" "$demo/events.pgs"
say "$next"
say "report: $demo/report.html"
echo "a page in the browser with this model: $scripts/serve.sh $(printf %q "$demo/tuned")"
