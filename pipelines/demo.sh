#!/usr/bin/env bash
# The demo: names 100 pictures in four languages, fine-tunes data/nano on 90 pictures of other things as the notebook does, captions the
# 100 again, writes a report. Usage: demo.sh BUILD     environment: DEMO_STEPS (64), DEMO_PICTURES (100 for validation)
set -euo pipefail
build=$(cd "${1:?usage: demo.sh BUILD}" && pwd)
cd "$(dirname "$0")/.."
PATH=$build:$PATH
demo=$build/demo model=data/nano steps=${DEMO_STEPS:-64}
size=$(pg-info "$model" | sed -n 's/^image  *\([0-9]*\)x.*/\1/p')
mkdir -p "$demo"

say() { printf '\n%s\n' "$1"; }
examples() { # examples FOLDER PREFIX
    pg-fetch "$1/examples.jsonl" | pg-resize -s "$size" | pg-tokenize -q --keep-case -m "$model" -p "$2"
}

say 'pictures: emoji of Noto, names of CLDR, on backgrounds of random colour, scale and shift'
"$build/data/emoji" /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf /usr/share/unicode/cldr/common/annotations "$demo/emoji" en
rm -rf "$demo/train" "$demo/val"
"$build/data/augment" -n 90 --size 128 --seed 1 --things described --text full -o "$demo/train" "$demo/emoji/en.jsonl"
"$build/data/augment" -n "${DEMO_PICTURES:-100}" --size 128 --seed 2 --things named --text full -o "$demo/val" "$demo/emoji/en.jsonl"

say 'the model as it is names things, in four languages (picture, en, es, de, fr):'
for lang in en es de fr; do
    examples "$demo/val" "caption $lang" | pg-infer -m "$model" -n 32 >"$demo/$lang.pgs"
    pg-render -f captions "$demo/$lang.pgs" >"$demo/$lang.txt"
done
paste "$demo/en.txt" <(cut -f2 "$demo/es.txt") <(cut -f2 "$demo/de.txt") <(cut -f2 "$demo/fr.txt") | sed -n 1,4p

say "fine-tuning on 90 pictures of other things: attention weights, SGD, cosine schedule, $steps steps of 8"
examples "$demo/val" 'caption en' >"$demo/val.pgs"
examples "$demo/train" 'caption en' >"$demo/train.pgs"
pg-train -m "$model" -o "$demo/tuned" --steps "$steps" --batch 8 --lr 0.1 --val "$demo/val.pgs" --val-every 16 <"$demo/train.pgs" |
    tee "$demo/events.pgs" | pg-render -f text | awk '/^val/ || (/^step/ && $2 % 8 == 0) { print; fflush() }'
pg-infer -m "$demo/tuned" -n 32 <"$demo/val.pgs" | pg-score -q --annotate >"$demo/after.pgs"
pg-score -q --annotate "$demo/en.pgs" >"$demo/before.pgs"

pg-render -o "$demo/report.html" --label before --label after "$demo/before.pgs" "$demo/after.pgs" "$demo/events.pgs"
say 'ten of the 100 held-out pictures: reference, before, after'
paste <(pg-render -f jsonl "$demo/after.pgs" | sed -nE 's/.*"suffix":"([^"]*)".*/\1/p') <(cut -f2 "$demo/en.txt") \
    <(pg-render -f captions "$demo/after.pgs" | cut -f2) | sed -n 1,10p | awk -F'\t' '{ printf "  %s\n      before: %s\n      after:  %s\n", $1, $2, $3 }'
say 'scores before (A) and after (B)'
pg-score -q --compare "$demo/before.pgs" "$demo/after.pgs" | sed -n '5,$s/^/  /p'

cat <<end

your own pictures: a folder with a text beside each (cow.jpg, cow.txt), or JSON lines {"image":"cow.jpg","suffix":"a cow on a beach"}
  PG_BIN=$build pipelines/finetune.sh MODEL pictures/ TUNED --steps 64
  PG_BIN=$build pipelines/caption.sh TUNED more-pictures/ report.html
MODEL is $model, or a folder with PaliGemma-3B and its tokenizer: the same commands (README.md says where it is).

report: $demo/report.html
end
