#!/usr/bin/env bash
# Speed of the parts on random weights of the shape of PaliGemma 3B at 224 pixels: a table, and BUILD/bench.json.
# Usage: tests/bench/run.sh BUILD [NAME...]   NAME: results wanted, or beginnings of them (image, prefill, decode1, ...); default all.
# PG_BENCH_DIR: where the checkpoint is made and kept (default: a folder in BUILD; 5.9 GB). PG_BENCH_DEPTH=N: only so many layers of each
# tower, at full width, so that it ends in minutes; times of a layer are the same. PG_BENCH_MODEL: another checkpoint.
# PG_BENCH_CLOCK=cpu: count processor time, for a machine that is shared.
set -eu
build=$1
shift
cd "$(dirname "$0")/../.."
dir=${PG_BENCH_DIR:-$build/bench}
depth=${PG_BENCH_DEPTH:-}
model=${PG_BENCH_MODEL:-$dir/pg1-224${depth:+-$depth}.npz}
if [ ! -e "$model" ]; then
    mkdir -p "$dir"
    echo "making $model ..." >&2
    "$build/data/init" --preset pg1-224 ${depth:+--depth "$depth" --vit-depth "$depth"} --bf16 1 --quick 1 "$model"
    # What was written lies in the page cache in small pieces; read anew it will be in large ones.
    dd if=/dev/null of="$model" oflag=nocache conv=notrunc,fdatasync status=none
fi
"$build/pg-info" --verify "$model" >/dev/null 2>&1 || cat "$model" >/dev/null # the page cache is warm
exec "$build/tests/bench/aux_bench" "$model" data/nano/tokenizer.model "$build" "$build/bench.json" "$@"
