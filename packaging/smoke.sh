#!/usr/bin/env bash
# Does a build or an installation work at all? Captions a picture with the small model. Usage: smoke.sh [--demo] [BUILD]
# Without BUILD the installed tools and model are taken, from PATH; --demo runs pg-demo too.
set -euo pipefail
demo=
if [ "${1:-}" = --demo ]; then
    demo=1
    shift
fi
here=$(cd "$(dirname "$0")/.." && pwd)
model=$here/data/nano
if [ $# -gt 0 ]; then PATH=$(cd "$1" && pwd):$PATH; else model=$(dirname "$(readlink -f "$(command -v pg-info)")")/../share/pg/data/nano; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/tests/golden/image/png-rgb8-64.png" "$work/picture.png"
cd "$work" # nothing is found by the working directory

pg-info "$model" | grep -q '^family'
caption=$(pg-fetch picture.png | pg-resize -s 64 | pg-tokenize -q -m "$model" -p 'caption en' | pg-infer -q -m "$model" -n 16 | pg-render -f captions)
echo "$caption"
grep -qE $'^picture.png\t[a-z]' <<<"$caption"
if [ -n "$demo" ]; then
    DEMO_STEPS=8 DEMO_PICTURES=20 pg-demo demo
    grep -q '<html' demo/report.html
fi
