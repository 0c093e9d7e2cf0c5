#!/usr/bin/env bash
# Trains the small default model from nothing and puts it into data/nano. Usage: data/nano.sh BUILD [STEPS]
# 6000 steps of 32 take about 9 minutes on two cores. Needs fonts-noto-color-emoji, unicode-cldr-core and sentencepiece (spm_train).
set -euo pipefail
build=${1:?usage: nano.sh BUILD [STEPS]}
steps=${2:-6000}
font=/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
names=/usr/share/unicode/cldr/common/annotations
work=$build/nano
mkdir -p "$work"
"$build/data/emoji" "$font" "$names" "$build/emoji" en

# Text for the tokenizer: each name alone and on each background.
sed -E 's/.*"suffix":"([^"]*)".*/\1/' "$build/emoji/en.jsonl" >"$work/names.txt"
{
    for _ in 1 2 3 4 5 6; do cat "$work/names.txt"; done
    for colour in red orange yellow green blue purple pink brown gray black white; do
        article=a
        case $colour in orange) article=an ;; esac
        sed "s/\$/ on $article $colour background/" "$work/names.txt"
    done
    for _ in {1..50}; do printf 'caption en\ndescribe en\n'; done
} >"$work/corpus.txt"
spm_train --input="$work/corpus.txt" --model_prefix="$work/tokenizer" --model_type=bpe --vocab_size=1024 --pad_id=0 --eos_id=1 --bos_id=2 \
    --unk_id=3 --byte_fallback=true --add_dummy_prefix=false --normalization_rule_name=identity --remove_extra_whitespaces=false \
    --split_digits=true --user_defined_symbols=$'\n' --hard_vocab_limit=false --minloglevel=2

"$build/data/init" --vocab 1024 "$work/init.npz"
"$build/data/augment" -n $((32 * steps)) "$build/emoji/en.jsonl" | "$build/pg-tokenize" -q --keep-case -m "$work/tokenizer.model" |
    "$build/pg-train" -m "$work/init.npz" -o "$work/model.npz" --train all --optimizer adamw --lr 2e-3 --weight-decay 0.05 --b2 0.98 \
        --warmup 0.05 --batch 32 --stream --steps "$steps" --save-every 500 --resume >"$work/events.pgs"
"$build/data/half" "$work/model.npz" data/nano/model.npz
cp "$work/tokenizer.model" data/nano/tokenizer.model
