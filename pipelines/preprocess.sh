#!/usr/bin/env bash
# Prepares many shards at once with GNU parallel: OUT/NAME.pgs for each source, with pixels and tokens, or with the image tower's features
# where FEATURES is set. Prints the files' paths in the order of the sources, each as soon as all before it are there:
#     pipelines/preprocess.sh MODEL prepared 'shard-{0000..0099}.tar' | xargs pg-fetch --shuffle 5000 | pg-train -m MODEL -o TUNED
# What OUT has already is not made again, unless its source is newer; a file appears when it is whole, and not at all where its source cannot be read
# to the end. OUT of another model or other options is refused.
# Usage: preprocess.sh MODEL OUT SOURCE...      SOURCE: as pg-fetch takes them, lists in braces too
# Environment: SHARD (I/N: every Nth source), JOBS (at once; as many as there are processors), PREFIX (the record's, else caption en),
# SIZE (the model's), FEATURES (f32, bf16 or f16), PG_BIN. Exit status 4: some records carry errors.
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/usage.sh"
operands 3 100000 "$@"
prompt_in_prefix
together "$@"
PATH=${PG_BIN:+$PG_BIN:}$PATH:$(dirname "$(readlink -f "$0")")/../build
export PATH MODEL=$1 OUT=$2 PREFIX=${PREFIX:-} FEATURES=${FEATURES:-}
shift 2
parallel --version 2>/dev/null | grep -q GNU || { echo 'preprocess.sh: GNU parallel is needed: apt-get install parallel' >&2; exit 1; }
export SIZE=${SIZE:-$(pg-info "$MODEL" | sed -n 's/^image  *\([0-9]*\)x.*/\1/p')}
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/made.sh"
made_of "$OUT/made-of" 'name another OUT, or remove it' model "$(files_of "$MODEL") $(readlink -f "$MODEL")" \
    options "PREFIX=$PREFIX SIZE=$SIZE FEATURES=$FEATURES"

name_of() { local name=${1%/}; name=${name##*/}; echo "${name%.*}"; }
last() { if [ -n "$FEATURES" ]; then pg-infer -q -m "$MODEL" --features --dtype "$FEATURES"; else cat; fi; }
# One worker is one thread: parallel sees to it that all processors have one.
prepare() {
    set -o pipefail
    local file end status=0
    file=$OUT/$(name_of "$1").pgs
    if [ ! -e "$file" ] || [ "$1" -nt "$file" ]; then
        rm -f "$file".[0-9]* # of runs that were killed
        pg-fetch -q "$1" | pg-resize -q -j 1 -s "$SIZE" --drop-image | pg-tokenize -q -m "$MODEL" ${PREFIX:+-p "$PREFIX"} | last >"$file.$$" ||
            cause "${PIPESTATUS[@]}" || status=$?
        [ "$status" -eq 0 ] || [ "$status" -eq 4 ] || { rm -f "$file.$$"; return "$status"; }
        if [ "$status" -eq 4 ]; then
            end=$(pg-render -q -f jsonl <"$file.$$" | tail -n 1) # of the source itself, where what comes behind it could not be read
            if [[ $end == "{\"id\":\"$1\""*'"error":'* ]]; then
                rm -f "$file.$$"
                echo "preprocess.sh: '$1' cannot be read to its end: not done" >&2
                return 1
            fi
            touch "$file.errors"
        else
            rm -f "$file.errors"
        fi
        sync "$file.$$"
        mv "$file.$$" "$file"
    elif [ -e "$file.errors" ]; then
        status=4
    fi
    echo "$file"
    return "$status"
}
export -f name_of last prepare cause

sources=$(pg-fetch --list ${SHARD:+--shard "$SHARD"} "$@")
twice=$(while IFS= read -r s; do name_of "$s"; done <<<"$sources" | sort | uniq -d | head -n 1)
[ -z "$twice" ] || { echo "preprocess.sh: two sources would both write '$OUT/$twice.pgs'" >&2; exit 2; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
SHELL=$(command -v bash) parallel --will-cite --keep-order --joblog "$log" -j "${JOBS:-100%}" prepare {} <<<"$sources" || true
awk 'NR > 1 && $7 == 4 {errors = 4} NR > 1 && ($7 != 4 && $7 || $8) {bad = 1} END {exit NR < 2 || bad ? 1 : errors}' "$log"
