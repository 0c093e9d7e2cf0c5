#!/usr/bin/env bash
# Prepares or captions many pictures as an array of Slurm jobs: part I of PARTS is what pg-fetch --shard I/PARTS gives. Submits the parts
# that OUT does not have yet, so running it again repeats only what is missing: after a failure, a node that died, a cancelled job.
# OUT of another model, source or options is refused.
# Usage: submit.sh examples|captions PARTS MODEL SOURCE OUT [sbatch options]
#   OUT       a folder that all nodes see: part-I-of-PARTS.pgs or .jsonl, and log/
#   SOURCE    as pg-fetch reads it; a quoted list such as 'gs://BUCKET/shard-{0000..0999}.tar' too
# Environment: PREFIX (the records' own, else caption en), LENGTH (64 tokens), SIZE (the model's), PG_BIN, RUNNING (most tasks at once)
# For example: submit.sh captions 1000 MODEL 'photos-{0000..0999}.tar' out --cpus-per-task 16 --time 4:00:00 --wait
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/../usage.sh"
operands 5 5 "${@:1:5}"
prompt_in_prefix
what=$1 parts=$2 model=$3 source=$4 out=$5
shift 5
here=$(cd "$(dirname "$0")" && pwd)
case $what in
examples) ending=pgs ;;
captions) ending=jsonl ;;
*) echo "submit.sh: '$what' is neither examples nor captions" >&2; exit 2 ;;
esac
[[ $parts =~ ^[1-9][0-9]{0,5}$ ]] || { echo "submit.sh: '$parts' is no number of parts" >&2; exit 2; }
mkdir -p "$out/log"
out=$(cd "$out" && pwd)
# shellcheck disable=SC1091
. "$here/../made.sh"
# Of a folder the names, which decide what is in which part.
names() { if [ -d "$1" ]; then find -L "$1" -printf '%P\n' | LC_ALL=C sort | cksum | tr ' ' -; else files_of "$1"; fi; }
options="PREFIX=${PREFIX:-} SIZE=${SIZE:-}"
[ "$what" = examples ] || options+=" LENGTH=${LENGTH:-64}"
made_of "$out/$what.made-of" 'name another OUT, or remove it' model "$(files_of "$model") $(readlink -f "$model")" \
    source "$(names "$source") $source" options "$options"

# The numbers of missing parts, neighbours as ranges: 3,7-9.
missing=$(for ((i = 0; i < parts; i++)); do
    [ -e "$out/$(printf 'part-%06d-of-%06d.%s' "$i" "$parts" $ending)" ] || echo "$i"
done | awk '
    function flush() { if (n) list = list (list == "" ? "" : ",") (first == last ? first : first "-" last) }
    n && $1 == last + 1 { last = $1; next }
    { flush(); first = last = $1; n++ }
    END { flush(); print list }')
if [ -z "$missing" ]; then
    echo "all $parts parts are in '$out'"
    exit
fi
echo "parts to make: $missing"
sbatch --parsable --job-name="pg-$what" --array="$missing${RUNNING:+%$RUNNING}" --output="$out/log/part-%a" "$@" \
    "$here/part.sh" "$what" "$parts" "$model" "$source" "$out"
