#!/usr/bin/env bash
#SBATCH --requeue
#SBATCH --open-mode=append
# One part of a large job, a task of the array that submit.sh submits: examples (a stream, as pg-train reads it) or captions (JSON lines).
# Usage: part.sh examples|captions PARTS MODEL SOURCE OUT     the part is SLURM_ARRAY_TASK_ID, counted from 0
# submit.sh sees that OUT is of this model, source and options, which a part.sh that is submitted alone does not.
# Its output has a temporary name until it is whole and on the disk, so what has its name is done. A part that is there is not made again.
set -euo pipefail
common=$(dirname "$(readlink -f "$0")")/../usage.sh
# shellcheck disable=SC1090
[ ! -e "$common" ] || . "$common" # Slurm runs a copy of this file, which lies alone
[ $# -eq 5 ] || { grep '^# Usage: ' "$0" >&2; exit 2; }
what=$1 parts=$2 model=$3 source=$4 out=$5 i=${SLURM_ARRAY_TASK_ID:?is set by sbatch --array}
PATH=${PG_BIN:+$PG_BIN:}$PATH:$(dirname "$(readlink -f "$0")")/../../build
threads=${SLURM_CPUS_PER_TASK:-1}
case $what in
examples) ending=pgs ;;
captions) ending=jsonl ;;
*) echo "part.sh: '$what' is neither examples nor captions" >&2; exit 2 ;;
esac
name=$(printf 'part-%06d-of-%06d.%s' "$i" "$parts" $ending)
if [ -e "$out/$name" ]; then
    echo "$name: done before"
    exit
fi
size=${SIZE:-$(pg-info "$model" | sed -n 's/^image  *\([0-9]*\)x.*/\1/p')}
new=$out/.$name.${SLURM_JOB_ID:-$$}
rm -f "$out/.$name".* # of attempts that were killed
trap 'rm -f "$new"' EXIT
trap 'exit 143' TERM

# Status 4 of a stage: all was done but some records carry errors, which stay in the output.
whole() { # whole STATUS...
    local s
    for s; do
        if [ "$s" -ne 0 ] && [ "$s" -ne 4 ]; then return 1; fi
    done
}
set +e
# In the background: bash acts on a signal at once only while it waits.
(
    if [ "$what" = examples ]; then
        pg-fetch -q --shard "$i/$parts" "$source" | pg-resize -q -j "$threads" -s "$size" --drop-image |
            pg-tokenize -q -m "$model" ${PREFIX:+-p "$PREFIX"}
    else
        pg-fetch -q --shard "$i/$parts" "$source" | pg-resize -q -j "$threads" -s "$size" --drop-image |
            pg-tokenize -q -m "$model" ${PREFIX:+-p "$PREFIX"} | pg-infer -q -j "$threads" -m "$model" -n "${LENGTH:-64}" | pg-render -q -f jsonl
    fi
    whole "${PIPESTATUS[@]}"
) >"$new" &
wait $!
status=$?
set -e
[ $status -eq 0 ] || { echo "part.sh: '$name' is not made: a tool has failed" >&2; exit 1; }
sync "$new"
mv "$new" "$out/$name"
echo "$name: $(stat -c %s "$out/$name") bytes"
