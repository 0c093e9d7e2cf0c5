#!/usr/bin/env bash
# Measures a small model as data/nano/README.md reports it: exact names of known drawings under new augmentation, descriptions, and the
# transfer of make demo over five seeds.
# Usage: measure.sh BUILD MODEL
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/../pipelines/usage.sh"
operands 2 2 "$@"
build=$1 model=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
size=$("$build/pg-info" "$model" | sed -n 's/^image  *\([0-9]*\)x.*/\1/p')
"$build/data/emoji" /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf /usr/share/unicode/cldr/common/annotations "$work" en es de fr 2>"$work/log"
pictures() { # pictures LANG AUGMENT_OPTIONS...
    local lang=$1
    shift
    "$build/data/augment" --size "$size" "$@" "$work/$lang.jsonl" | "$build/pg-tokenize" -q --keep-case -m "$model"
}

# exact NAME STREAM: the share of captions that are the suffix, letter for letter
exact() {
    "$build/pg-render" -f jsonl "$2" | awk -v name="$1" '
        function value(key, rest) { rest = $0; return sub(".*\"" key "\":\"", "", rest) ? substr(rest, 1, index(rest, "\"") - 1) : "?" }
        /"suffix"/ { n++; if (value("suffix") == value("caption")) same++ }
        END { printf "%-58s %4d of %4d, %.1f %%\n", name, same, n, n ? 100 * same / n : 0 }'
}

for lang in en es de fr; do
    for on in white colours; do
        pictures $lang -n 1842 --seed 99 --text name --on $on | "$build/pg-infer" -q -m "$model" -n 24 >"$work/names.pgs"
        exact "$lang: names of known drawings, new backgrounds: $on" "$work/names.pgs"
    done
done
for seed in 1 2 3 4 5; do
    pictures en -n 90 --seed $seed --things described --text full >"$work/train.pgs"
    pictures en -n 100 --seed $((seed + 100)) --things named --text full >"$work/val.pgs"
    "$build/pg-infer" -q -m "$model" -n 32 <"$work/val.pgs" >"$work/before.pgs"
    "$build/pg-train" -q -m "$model" -o "$work/tuned" --steps 64 --batch 8 --lr 0.6 --clip 1 --seed $seed <"$work/train.pgs" >"$work/events.pgs"
    "$build/pg-infer" -q -m "$work/tuned" -n 32 <"$work/val.pgs" >"$work/after.pgs"
    exact "long captions of other things, seed $seed, before tuning" "$work/before.pgs"
    exact "long captions of other things, seed $seed, after tuning" "$work/after.pgs"
done
