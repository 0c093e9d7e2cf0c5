#!/usr/bin/env bash
# A stream of many records, made as it goes, through pg-fetch and pg-tokenize (and pg-resize on the way): processor time and memory at the
# peak of each, for N records and for a tenth of them, so that what grows is seen.
# Usage: tests/bench/scale.sh BUILD [N]      N: default 1000000. `make scale`
set -euo pipefail
build=$(cd "$1" && pwd) n=${2:-1000000}
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp tests/golden/image/png-rgb8-1x1.png "$dir/p.png"
lines() { awk -v n="$1" 'BEGIN {for (i = 0; i < n; i++) printf "{\"image\":\"p.png\",\"id\":\"r%d\",\"suffix\":\"a thing with the number %d\"}\n", i, i}'; }
timed() { command time -o "$dir/$1" -f '%M %U %S' "${@:2}"; }

through() { # through RECORDS
    lines "$1" >"$dir/l.jsonl"
    timed fetch "$build/pg-fetch" "$dir/l.jsonl" | timed resize "$build/pg-resize" -j 1 -s 16 --drop-image |
        timed tokenize "$build/pg-tokenize" -q -m data/nano | timed info "$build/pg-info" /dev/stdin >"$dir/summary"
    grep -q "$1" "$dir/summary" || { echo "not all of $1 records arrived:"; cat "$dir/summary"; exit 1; }
    for t in fetch resize tokenize; do
        read -r kb user sys <"$dir/$t"
        printf 'pg-%-9s %9d records  %7d KiB  %6.1f s of processor time\n' "$t" "$1" "$kb" "$(awk "BEGIN {print $user + $sys}")"
    done
}

through $((n / 10))
through "$n"
