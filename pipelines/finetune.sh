#!/usr/bin/env bash
# The notebook's job: fine-tune MODEL on TRAIN.jsonl (or a folder with sidecar texts), write OUT. Further arguments go to pg-train.
# Usage: finetune.sh MODEL TRAIN OUT [pg-train options]     environment: PREFIX (caption en), LENGTH (128), SIZE (the model's), PG_BIN
set -euo pipefail
[ $# -ge 3 ] || { echo 'usage: finetune.sh MODEL TRAIN OUT [pg-train options]' >&2; exit 2; }
model=$1 train=$2 out=$3
shift 3
PATH=${PG_BIN:+$PG_BIN:}$PATH
size=${SIZE:-$(pg-info "$model" | sed -n 's/^image  *\([0-9]*\)x.*/\1/p')}
pg-fetch "$train" | pg-resize -s "$size" --drop-image | pg-tokenize -m "$model" -p "${PREFIX:-caption en}" -l "${LENGTH:-128}" |
    pg-train -m "$model" -o "$out" "$@" | pg-render -f text
