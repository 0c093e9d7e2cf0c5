#!/usr/bin/env bash
# Trains the small default model from nothing and puts it into data/nano.
# Killed and started again it continues where the last save was. Needs fonts-noto-color-emoji, unicode-cldr-core and sentencepiece
# (spm_train). The same steps give the same bits.
# Usage: nano.sh BUILD [STEPS]
# Environment: NANO_OUT (another folder than data/nano), NANO_WORK (another than BUILD/nano)
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/../pipelines/usage.sh"
operands 1 2 "$@"
build=$1
steps=${2:-30000}
here=$(cd "$(dirname "$0")" && pwd)
out=${NANO_OUT:-$here/nano}
languages='en es de fr'
font=/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
names=/usr/share/unicode/cldr/common/annotations
work=${NANO_WORK:-$build/nano}
mkdir -p "$work" "$out"
# shellcheck disable=SC2086 # the languages are words
"$build/data/emoji" "$font" "$names" "$work/emoji" $languages
lists=()
for lang in $languages; do lists+=("$work/emoji/$lang.jsonl"); done
texts() { "$build/data/augment" --size 4 "$@" "${lists[@]}" | "$build/pg-render" -f jsonl | sed -nE 's/.*"suffix":"([^"]*)".*/\1/p'; }

# The tokenizer sees what the model will: most words of the lexicon become one token.
if [ ! -f "$work/tokenizer.model" ]; then
    {
        texts -n 60000 --seed 1
        for lang in $languages; do
            for _ in {1..50}; do printf 'caption %s\ndescribe %s\n' "$lang" "$lang"; done
        done
    } >"$work/corpus.txt"
    # In its folder: the model keeps the paths that it was made with.
    (cd "$work" && spm_train --input=corpus.txt --model_prefix=new --model_type=bpe --vocab_size=4096 --pad_id=0 --eos_id=1 --bos_id=2 \
        --unk_id=3 --byte_fallback=true --add_dummy_prefix=false --normalization_rule_name=identity --remove_extra_whitespaces=false \
        --split_digits=true --user_defined_symbols=$'\n' --hard_vocab_limit=false --minloglevel=2)
    mv "$work/new.model" "$work/tokenizer.model"
fi
[ -f "$work/init.npz" ] || "$build/data/init" --image 64 --patch 16 --vocab 4096 "$work/init.npz"

if [ ! -f "$work/model.npz" ]; then
    "$build/data/augment" --size 64 -n $((32 * steps)) --ramp 200000 --seed 1 "${lists[@]}" |
        "$build/pg-tokenize" -q --keep-case -m "$work/tokenizer.model" |
        "$build/pg-train" -m "$work/init.npz" -o "$work/model.npz" --train all --optimizer adamw --lr 2e-3 --weight-decay 0.05 --b2 0.98 \
            --warmup 0.02 --batch 32 --stream --steps "$steps" --save-every 500 --resume |
        "$build/pg-render" -f text | awk '!/^step/ || $2 % 500 == 0 { print; fflush() }'
fi
"$build/data/half" "$work/model.npz" "$out/model.npz"
cp "$work/tokenizer.model" "$out/tokenizer.model"
