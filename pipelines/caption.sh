#!/usr/bin/env bash
# Captions the pictures of a folder (or a JSONL) into a report, or as text where no REPORT is given.
# Usage: caption.sh MODEL SOURCE [REPORT.html]     SOURCE: as pg-fetch takes it
# Environment: PREFIX (the examples' own, else caption en), SIZE (the model's), PG_BIN
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/usage.sh"
operands 2 3 "$@"
# A pattern such as PICTURES/* could name somebody's texts here.
[ $# -lt 3 ] || [[ $3 == *.html ]] || usage "REPORT '$3' does not end in .html"
prompt_in_prefix
together "$@"
PATH=${PG_BIN:+$PG_BIN:}$PATH:$(dirname "$(readlink -f "$0")")/../build
size=(-m "$1")
[ -z "${SIZE:-}" ] || size=(-s "$SIZE")
output=(-f captions)
[ $# -lt 3 ] || output=(-o "$3")
pg-fetch "$2" | pg-resize "${size[@]}" | pg-tokenize -m "$1" ${PREFIX:+-p "$PREFIX"} | pg-infer -m "$1" | pg-render "${output[@]}" ||
    cause "${PIPESTATUS[@]}"
