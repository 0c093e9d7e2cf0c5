#!/usr/bin/env bash
#SBATCH --job-name=pg-train
#SBATCH --requeue
#SBATCH --open-mode=append
# Fine-tunes as a Slurm job. What was trained is saved every few steps, and the job goes on from there, to the same bits, when it is put
# back into the queue after a time limit, a node that died or `scontrol requeue`, or is submitted again.
# Usage: sbatch [sbatch options] train.sh MODEL TRAIN OUT [pg-train options]
# TRAIN: a stream of examples, or the folder of parts that submit.sh has made. One process on one node, with all processors that the job
# was given; with --ntasks N (and --nodes) N processes share each batch, where pg-train was built with Open MPI: see pg-train(1).
# Events of the training: OUT.events.pgs.
# Environment: SAVE_EVERY (50 steps), MPI (pmix: srun's --mpi), PG_BIN
set -euo pipefail
common=$(dirname "$(readlink -f "$0")")/../usage.sh
# shellcheck disable=SC1090
[ ! -e "$common" ] || . "$common" # Slurm runs a copy of this file, which lies alone
[ $# -ge 3 ] || { grep '^# Usage: ' "$0" >&2; exit 2; }
model=$1 train=$2 out=$3
shift 3
PATH=${PG_BIN:+$PG_BIN:}$PATH:$(dirname "$(readlink -f "$0")")/../../build
if [ -e "$out.events.pgs" ]; then
    echo "'$out': done before"
    exit
fi
launch=()
if [ "${SLURM_NTASKS:-1}" -gt 1 ]; then
    launch=(srun "--mpi=${MPI:-pmix}" --input=0 --kill-on-bad-exit=1)
fi
# An attempt that is stopped leaves its events under its own name, without an end record.
events=$out.events-${SLURM_JOB_ID:-$$}-${SLURM_RESTART_COUNT:-0}.pgs
examples() {
    if [ -d "$train" ]; then pg-fetch -q "$train"/part-*.pgs; else cat "$train"; fi
}
examples | "${launch[@]}" pg-train -m "$model" -o "$out" --save-every "${SAVE_EVERY:-50}" --resume "$@" >"$events" ||
    [ $? -eq 4 ] # some records carry errors and were left out
mv "$events" "$out.events.pgs"
echo "'$out': $(pg-render -f text "$out.events.pgs" | tail -n 1)"
