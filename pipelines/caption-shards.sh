#!/usr/bin/env bash
# Captions many shards. Each shard's captions go to a file of their own, a line as soon as it is there; what is killed at any moment goes on
# behind its last whole line when it is started again. In the end each example of the shards has exactly one line. A shard that is newer than its
# captions is done again; one that cannot be read to its end is not done; OUT of another model or other options is refused.
# Usage: caption-shards.sh MODEL OUT SOURCE... [-- pg-infer options]
#   SOURCE  as pg-fetch takes them, lists in braces too: 'shard-{0000..0099}.tar', 'gs://BUCKET/shard-{0000..0099}.tar'
#   OUT     the folder of results: NAME.jsonl for each source (NAME.part while it is not done), then captions.jsonl, all of them
#           in the order of the sources, and results.json, COCO results
# Environment: SHARD (I/N: this machine does every Nth source, and the files of all are joined by a run without it), JOBS (sources at once,
# 1), PREFIX (the examples' own, else caption en), SIZE (the model's), PG_BIN
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/usage.sh"
operands 2 2 "${@:1:2}"
prompt_in_prefix
together "$@"
PATH=${PG_BIN:+$PG_BIN:}$PATH:$(dirname "$(readlink -f "$0")")/../build
export PATH MODEL=$1 OUT=$2 PREFIX=${PREFIX:-}
shift 2
sources=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    operands 1 1 "$1"
    sources+=("$1")
    shift
done
[ ${#sources[@]} -gt 0 ] || usage
shift $(($# > 0))

say() { echo "caption-shards.sh: $*" >&2; }
export -f say
command -v jq >/dev/null || { say 'jq is needed: apt-get install jq'; exit 1; }
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/made.sh"
made_of "$OUT/made-of" 'name another OUT, or remove it' model "$(files_of "$MODEL") $(readlink -f "$MODEL")" options "PREFIX=$PREFIX SIZE=${SIZE:-} $*"
SIZE=${SIZE:-$(pg-info "$MODEL" | sed -n 's/^image  *\([0-9]*\)x.*/\1/p')}
export SIZE

name_of() { local name=${1%/}; name=${name##*/}; echo "${name%.*}"; }
# The id of one line, as it is written there.
id_of() { sed -E 's/^\{"id":("([^"\\]|\\.)*"|[^,}]*).*/\1/'; }
export -f name_of id_of

# go_on PART SOURCE: cuts a torn line off and prints how many are whole. The last of them must be of that place in the source.
go_on() {
    local n
    n=$(awk '/^\{.*\}$/ {n++; next} {exit} END {print n + 0}' "$1")
    [ "$n" -le "$(wc -l <"$1")" ] || n=$((n - 1)) # the last line is whole but for its end
    truncate -s "$(head -n "$n" "$1" | wc -c)" "$1"
    if [ "$n" -gt 0 ] && [ "$(tail -n 1 "$1" | id_of)" != "$({ pg-fetch -q --skip $((n - 1)) -n 1 "$2" 2>/dev/null || true; } | { pg-render -f jsonl || true; } | id_of)" ]; then
        say "'$1' is not of '$2' as it is now: remove it to begin again"
        return 1
    fi
    echo "$n"
}

# A last line that tells of the source itself instead of an example: what comes behind it could not be read.
ends_early() { [ "$(tail -n 1 "$1" | jq -r 'select(.error) | .id' 2>/dev/null)" = "$2" ]; }
export -f ends_early

# caption SOURCE [pg-infer options]. The lock is inherited by the pipeline: what outlives a killed run keeps the next one from writing
# to the same file.
caption() {
    local source=$1 out n status=0
    out=$OUT/$(name_of "$1")
    shift
    exec 9>>"$out.part"
    flock -w 20 9 || { say "'$out.part' is being written by another run"; return 1; }
    if [ -e "$out.jsonl" ] && [ "$source" -nt "$out.jsonl" ]; then
        say "'$source' is newer than its captions: done again"
        rm -f "$out.jsonl"
        : >"$out.part"
    fi
    if [ -e "$out.jsonl" ]; then
        [ -s "$out.part" ] || rm -f "$out.part"
        return
    fi
    n=$(go_on "$out.part" "$source") || return 1
    [ "$n" -eq 0 ] || say "'$source': $n captions are there"
    pg-fetch -q --skip "$n" "$source" | pg-resize -q -s "$SIZE" --drop-image | pg-tokenize -q -m "$MODEL" ${PREFIX:+-p "$PREFIX"} |
        pg-infer -q -m "$MODEL" "$@" | pg-render -f jsonl >>"$out.part" || cause "${PIPESTATUS[@]}" || status=$?
    # 4: some records carry errors, and have their lines
    [ "$status" -eq 0 ] || [ "$status" -eq 4 ] || { say "'$source' is not done: status $status; its captions go to '$out.part'"; return 1; }
    if [ "$status" -eq 4 ] && ends_early "$out.part" "$source"; then
        say "'$source' is not done: $(tail -n 1 "$out.part" | jq -r .error.message)"
        sed -i '$d' "$out.part"
        return 1
    fi
    sync "$out.part" && mv "$out.part" "$out.jsonl" || return 1
    say "'$source': $(wc -l <"$out.jsonl") captions"
}
export -f caption go_on cause

all=$(pg-fetch --list "${sources[@]}")
mine=$(pg-fetch --list ${SHARD:+--shard "$SHARD"} "${sources[@]}")
twice=$(while IFS= read -r s; do name_of "$s"; done <<<"$all" | sort | uniq -d | head -n 1)
[ -z "$twice" ] || { say "two sources would both write '$OUT/$twice.jsonl'"; exit 2; }
while IFS= read -r s; do
    [ "$(name_of "$s")" != captions ] || { say "'$s' would write '$OUT/captions.jsonl', where the captions of all sources go: rename it"; exit 2; }
done <<<"$all"
failed=0
while IFS= read -r s; do [ -e "$OUT/$(name_of "$s").jsonl" ] && [ ! "$s" -nt "$OUT/$(name_of "$s").jsonl" ] || printf '%s\0' "$s"; done <<<"$mine" |
    xargs -0 -r -P "${JOBS:-1}" -I{} bash -o pipefail -c 'caption "$@"' caption {} "$@" || failed=1
[ "$failed" -eq 0 ] || { say 'some sources are not done; the same command goes on with them'; exit 1; }
[ -z "${SHARD:-}" ] || exit 0

# What could not write has said why, but not where to.
unwritten() { rm -f "$1"; say "cannot write '$1'"; exit 1; }
while IFS= read -r s; do cat "$OUT/$(name_of "$s").jsonl" || exit; done <<<"$all" | jq -c '{id, caption, logprob, error} | with_entries(select(.value != null))' >"$OUT/captions.jsonl.new" ||
    unwritten "$OUT/captions.jsonl.new"
twice=$(jq -c .id "$OUT/captions.jsonl.new" | sort | uniq -d | head -n 1)
[ -z "$twice" ] || say "warning: the id $twice is there more than once, in different sources or as an error"
jq -c 'select(.caption) | {image_id: (.id | if tostring | test("^(0|[1-9][0-9]{0,14})$") then tonumber else . end), caption}' "$OUT/captions.jsonl.new" |
    sed '1s/^/[/; 1!s/^/,/; $s/$/]/' >"$OUT/results.json.new" || unwritten "$OUT/results.json.new"
[ -s "$OUT/results.json.new" ] || echo '[]' >"$OUT/results.json.new" || unwritten "$OUT/results.json.new"
mv "$OUT/results.json.new" "$OUT/results.json"
mv "$OUT/captions.jsonl.new" "$OUT/captions.jsonl" # last: where it is, all is done
errors=$(jq -c 'select(.error)' "$OUT/captions.jsonl" | wc -l)
say "$(wc -l <"$OUT/captions.jsonl") lines in '$OUT/captions.jsonl', $errors of them errors"
[ "$errors" -eq 0 ] || exit 4
