#!/usr/bin/env bash
# The demo: names 100 pictures in four languages, fine-tunes data/nano on 90 pictures of other things as the notebook does, captions the
# 100 again, writes a report. Usage: demo.sh BUILD [OUT]     OUT: where everything goes (BUILD/demo); pg-demo(1) calls it where installed
# Environment: DEMO_STEPS (64), DEMO_PICTURES (100, for validation)
set -euo pipefail
build=$(cd "${1:?usage: demo.sh BUILD [OUT]}" && pwd)
mkdir -p "${2:-$build/demo}"
demo=$(cd "${2:-$build/demo}" && pwd)
cd "$(dirname "$0")/.."
PATH=$build:$PATH
model=data/nano scripts="PG_BIN=$1 pipelines" # as the user calls them
[ -e Makefile ] || model=$PWD/data/nano scripts=$PWD/pipelines
steps=${DEMO_STEPS:-64} lr=0.6

say() { printf '\n%s\n' "$1"; }
examples() { # examples FOLDER PREFIX
    pg-fetch "$1/examples.jsonl" | pg-resize -m "$model" | pg-tokenize -q --keep-case -m "$model" -p "$2"
}
val_loss() { sed -n 's/^val.* loss: *\([0-9.]*\).*/\1/p' | tail -n 1; }
score() { # score KEY STREAM FORMAT FACTOR
    pg-score -f json "$2" | sed -nE "s/.*\"$1\":([0-9.]*).*/\1/p" | awk -v format="$3" -v factor="$4" '{ printf format, factor * $1 }'
}

say 'pictures: emoji of Noto, names of CLDR, on backgrounds of random colour, scale and shift'
"$build/data/emoji" /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf /usr/share/unicode/cldr/common/annotations "$demo/emoji" en
rm -rf "$demo/train" "$demo/val"
"$build/data/augment" -n 90 --size 128 --seed 1 --things described --text full -o "$demo/train" "$demo/emoji/en.jsonl"
"$build/data/augment" -n "${DEMO_PICTURES:-100}" --size 128 --seed 2 --things named --text full -o "$demo/val" "$demo/emoji/en.jsonl"

say 'the model as it is names things; the prefix chooses the language (picture, en, es, de, fr):'
for lang in en es de fr; do
    examples "$demo/val" "caption $lang" | pg-infer -m "$model" -n 32 | pg-score --annotate >"$demo/$lang.pgs"
    pg-render -f captions "$demo/$lang.pgs" >"$demo/$lang.txt"
done
paste "$demo/en.txt" <(cut -f2 "$demo/es.txt") <(cut -f2 "$demo/de.txt") <(cut -f2 "$demo/fr.txt") >"$demo/languages.txt"
sed -n 1,4p "$demo/languages.txt"

say "fine-tuning on 90 pictures of other things: attention weights, SGD, gradients clipped, cosine schedule, $steps steps of 8"
examples "$demo/val" 'caption en' >"$demo/val.pgs"
examples "$demo/train" 'caption en' >"$demo/train.pgs"
# A learning rate of 0 changes nothing: the loss before.
before=$(pg-train -q -m "$model" -o "$demo/same" --steps 1 --lr 0 --val "$demo/val.pgs" <"$demo/train.pgs" | pg-render -f text | val_loss)
pg-train -m "$model" -o "$demo/tuned" --steps "$steps" --batch 8 --lr "$lr" --clip 1 --val "$demo/val.pgs" --val-every 8 <"$demo/train.pgs" |
    tee "$demo/events.pgs" | pg-render -f text | awk '/^val/ || (/^step/ && $2 % 8 == 0) { print; fflush() }'
after=$(pg-render -f text "$demo/events.pgs" | val_loss)
pg-infer -m "$demo/tuned" -n 32 <"$demo/val.pgs" | pg-score --annotate >"$demo/after.pgs"

say 'ten of the held-out pictures: reference, before, after'
paste <(pg-render -f jsonl "$demo/after.pgs" | sed -nE 's/.*"suffix":"([^"]*)".*/\1/p') <(cut -f2 "$demo/en.txt") \
    <(pg-render -f captions "$demo/after.pgs" | cut -f2) | sed -n 1,10p | awk -F'\t' '{ printf "  %s\n      before: %s\n      after:  %s\n", $1, $2, $3 }'
scores=$(printf '%-28s %8s %8s\n' 'held-out pictures' before after 'loss' "$before" "$after" \
    'right to the letter' "$(score exact "$demo/en.pgs" '%.0f %%' 100)" "$(score exact "$demo/after.pgs" '%.0f %%' 100)" \
    'CIDEr' "$(score CIDEr "$demo/en.pgs" %.2f 1)" "$(score CIDEr "$demo/after.pgs" %.2f 1)")
say "$scores"

next=$(cat <<end
your own pictures: a folder with a text beside each (cow.jpg, cow.txt), or JSON lines {"image":"cow.jpg","suffix":"a cow on a beach"}
  $scripts/finetune.sh MODEL pictures/ TUNED --steps 64
  $scripts/caption.sh TUNED more-pictures/ report.html
MODEL is $model, or a folder with PaliGemma-3B's weights and tokenizer: the same commands (README.md says where to get them).
end
)
as_it_is() { sed 's/^/    /'; }
{
    printf '# In four languages, before\npicture\tcaption en\tcaption es\tcaption de\tcaption fr\n'
    sed -n 1,8p "$demo/languages.txt"
    printf '\n# Before and after\n'
    as_it_is <<<"$scores"
    printf '\n# The commands\n'
    as_it_is <<end
pg-fetch train/examples.jsonl | pg-resize -m $model | pg-tokenize --keep-case -m $model -p 'caption en' >train.pgs
pg-fetch val/examples.jsonl | pg-resize -m $model | pg-tokenize --keep-case -m $model -p 'caption en' >val.pgs
pg-infer -m $model -n 32 <val.pgs | pg-score --annotate >before.pgs
pg-train -m $model -o tuned --steps $steps --batch 8 --lr $lr --clip 1 --val val.pgs --val-every 8 <train.pgs >events.pgs
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
echo "a page in the browser with this model: ${scripts/"$1"/"$build"}/serve.sh $demo/tuned"
