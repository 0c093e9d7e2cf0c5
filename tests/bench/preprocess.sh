#!/usr/bin/env bash
# How preprocessing scales: 8 shards of JPEGs through `pg-fetch | pg-resize -j 1` on one processor, then on two, by GNU parallel; and one
# stream through pg-resize -j 1 and -j 2. Prints pictures a second. Usage: tests/bench/preprocess.sh BUILD [SHARDS_DIR]
# A worker is kept on its processor (taskset), else the two programs of one pipeline would already use two.
set -euo pipefail
build=$(cd "$1" && pwd) dir=${2:-$1/bench/shards}
PATH=$build:$PATH

make_shards() { # make_shards KIND WIDTH HEIGHT PICTURES
    [ ! -d "$dir/$1" ] || return 0
    local t=$dir/$1.new s i
    rm -rf "$t"
    mkdir -p "$t/in"
    for i in 1 2 3 4; do "$build/tests/bench/aux_picture" "$2" "$3" "$i" >"$t/$i.jpg"; done
    for s in 0 1 2 3 4 5 6 7; do
        for ((i = 0; i < $4; i++)); do ln -f "$t/$((i % 4 + 1)).jpg" "$t/in/$s-$i.jpg"; done
        tar -C "$t/in" --hard-dereference --sort=name -cf "$t/$s.tar" .
        rm "$t"/in/*
    done
    mv "$t" "$dir/$1"
}

now() { date +%s.%N; }
# shellcheck disable=SC2016 # the inner shell's argument
worker() { taskset -c $((PARALLEL_JOBSLOT - 1)) sh -c 'pg-fetch "$0" | pg-resize -j 1 --drop-image' "$1" >/dev/null; }
export -f worker
SHELL=$(command -v bash)
export SHELL

report() { awk -v what="$1" -v n="$2" -v one="$3" -v two="$4" 'BEGIN {printf "%-34s %8.1f/s one, %8.1f/s two: %.2f times\n", what, n / one, n / two, one / two}'; }

run() { # run KIND PICTURES-PER-SHARD
    local a b c d e f
    cat "$dir/$1"/*.tar >/dev/null
    a=$(now)
    parallel --will-cite -j 1 worker ::: "$dir/$1"/*.tar
    b=$(now)
    parallel --will-cite -j 2 worker ::: "$dir/$1"/*.tar
    c=$(now)
    report "$1, workers of parallel" $(($2 * 8)) "$(awk "BEGIN {print $b - $a}")" "$(awk "BEGIN {print $c - $b}")"
    d=$(now)
    taskset -c 0 sh -c "pg-fetch $dir/$1/[0-3].tar | pg-resize -j 1 --drop-image" >/dev/null
    e=$(now)
    pg-fetch "$dir/$1"/[0-3].tar | pg-resize -j 2 --drop-image >/dev/null
    f=$(now)
    report "$1, threads of pg-resize" $(($2 * 4)) "$(awk "BEGIN {print $e - $d}")" "$(awk "BEGIN {print $f - $e}")"
}

make_shards mp12 4000 3000 16
make_shards vga 640 480 500
[ -z "${ONLY_MAKE:-}" ] || exit 0
run mp12 16
run vga 500
