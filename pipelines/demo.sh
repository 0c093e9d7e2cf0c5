#!/usr/bin/env bash
# The demo: fine-tunes data/nano on 90 pictures as the notebook does, captions 100 pictures of other things before and after, writes a
# report. Usage: demo.sh BUILD
set -euo pipefail
build=$(cd "${1:?usage: demo.sh BUILD}" && pwd)
cd "$(dirname "$0")/.."
PATH=$build:$PATH
demo=$build/demo model=data/nano
mkdir -p "$demo"

echo 'pictures: emoji of Noto, names of CLDR, on coloured backgrounds'
"$build/data/emoji" /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf /usr/share/unicode/cldr/common/annotations "$demo/emoji" en
rm -rf "$demo/train" "$demo/val"
"$build/data/augment" -n 90 --seed 1 --things described --text full -o "$demo/train" "$demo/emoji/en.jsonl"
"$build/data/augment" -n 100 --seed 2 --things named --text full -o "$demo/val" "$demo/emoji/en.jsonl"

examples() { pg-fetch "$1/examples.jsonl" | pg-resize -s 96 | pg-tokenize -q -m "$model" -p 'caption en'; }

echo 'captions of 100 held-out pictures before fine-tuning'
examples "$demo/val" >"$demo/val.pgs"
pg-infer -m "$model" -n 32 <"$demo/val.pgs" >"$demo/before.pgs"
echo 'fine-tuning on 90 pictures: attention weights, SGD, cosine schedule, 64 steps of 8'
examples "$demo/train" >"$demo/train.pgs"
pg-train -m "$model" -o "$demo/tuned" --steps 64 --batch 8 --lr 0.1 --val "$demo/val.pgs" --val-every 16 <"$demo/train.pgs" |
    tee "$demo/events.pgs" | pg-render -f text | awk '/^val/ || (/^step/ && $2 % 8 == 0)'
echo 'captions after fine-tuning'
pg-infer -m "$demo/tuned" -n 32 <"$demo/val.pgs" >"$demo/after.pgs"
pg-render -o "$demo/report.html" --label before --label after "$demo/before.pgs" "$demo/after.pgs" "$demo/events.pgs"
echo
echo 'ten of them (picture, before, after):'
paste <(pg-render -f captions "$demo/before.pgs") <(pg-render -f captions "$demo/after.pgs" | cut -f2) | sed -n 1,10p
echo
echo "report: $demo/report.html"
echo "a page in the browser with this model: PG_BIN=$build pipelines/serve.sh $demo/tuned"
