#!/usr/bin/env bash
# pipelines/slurm under a Slurm of its own: munged, slurmctld and slurmd on loopback, configured in a temporary folder, all ended at the end.
# Usage: run.sh [BUILD]     Ends with 77 where Debian's slurm-wlm and munge are not installed or this is not root.
# Shown: an array of which one task is killed, the rerun that repeats that part alone, the same lines as without Slurm; a training job that
# is killed and submitted again, with the bits of one that was not; ranks under srun, where pg-train has MPI.
set -euo pipefail
build=$(cd "${1:-${PG_BUILD:-build}}" && pwd)
cd "$(dirname "$0")/../.."
root=$PWD
for c in munged slurmctld slurmd sbatch; do
    command -v $c >/dev/null || { echo "skipped: no $c: apt-get install slurm-wlm munge"; exit 77; }
done
[ "$(id -u)" -eq 0 ] || { echo 'skipped: slurmd wants to be root'; exit 77; }

work=$(mktemp -d)
pids=()
tidy() {
    scancel --full --signal=KILL --user=root 2>/dev/null || true
    scancel --user=root 2>/dev/null || true
    until_true 20 no_jobs || true
    # The last one started ends first.
    for ((k = ${#pids[@]} - 1; k >= 0; k--)); do
        kill "${pids[k]}" 2>/dev/null || true
        wait "${pids[k]}" 2>/dev/null || true
    done
    [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap tidy EXIT
until_true() { # until_true SECONDS COMMAND...: waits for it
    local s
    for ((s = 0; s < $1 * 5; s++)); do
        "${@:2}" >/dev/null 2>&1 && return
        sleep 0.2
    done
    return 1
}
no_jobs() { [ -z "$(squeue --noheader)" ]; }
fail() {
    echo "FAILED: $1"
    tail -n 20 "$work"/*.log "$work"/out/log/* 2>/dev/null || true
    exit 1
}
free_port() {
    local p
    while p=$((20000 + RANDOM % 20000)) && (echo >"/dev/tcp/127.0.0.1/$p") 2>/dev/null; do :; done
    echo "$p"
}

# ---- the cluster ----
name=$(hostname -s)
export SLURM_CONF=$work/slurm.conf
mkdir "$work/state" "$work/spool" "$work/munge"
chmod 755 "$work" "$work/munge"
head -c 1024 /dev/urandom >"$work/munge.key"
chmod 400 "$work/munge.key"
cat >"$SLURM_CONF" <<conf
ClusterName=test
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
KillWait=5
ReturnToService=2
NodeName=$name NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=$name Default=YES MaxTime=INFINITE State=UP
conf
echo 'CgroupAutomount=no' >"$work/cgroup.conf"
munged --foreground --force --key-file="$work/munge.key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" --seed-file="$work/munge/seed" \
    --log-file="$work/munged.log" 2>"$work/munged.err.log" &
pids+=($!)
until_true 20 test -S "$work/munge/socket" || fail 'munged does not start'
slurmctld -D -f "$SLURM_CONF" >"$work/slurmctld.log" 2>&1 &
pids+=($!)
slurmd -D -f "$SLURM_CONF" >"$work/slurmd.log" 2>&1 &
pids+=($!)
idle() { [ "$(sinfo --noheader -o %T)" = idle ]; }
until_true 60 idle || fail 'the node does not become idle'
echo "Slurm $(sinfo --version | cut -d' ' -f2) on loopback"

# ---- captions, an array of which a task is killed ----
mkdir "$work/pictures" "$work/bin"
n=0
for f in tests/golden/image/png-*.png tests/golden/image/bad/bad-text.jpg; do
    cp "$f" "$work/pictures/"
    n=$((n + 1))
done
for t in "$build"/pg-*; do [ ! -x "$t" ] || ln -s "$t" "$work/bin/"; done
# Part 2 hangs while it is captioned, the first time.
rm "$work/bin/pg-infer"
cat >"$work/bin/pg-infer" <<wrapper
#!/bin/sh
if [ "\$SLURM_ARRAY_TASK_ID" = 2 ] && [ ! -e '$work/hung' ]; then
    touch '$work/hung'
    exec sleep 600
fi
exec '$build/pg-infer' "\$@"
wrapper
chmod +x "$work/bin/pg-infer"
export PG_BIN=$work/bin LENGTH=8
model=$root/data/nano
submit() { pipelines/slurm/submit.sh captions 4 "$model" "$work/pictures" "$work/out" "$@"; }
have() { (cd "$work/out" && echo part-*); }
cd "$root"
submit >"$work/first.log" || fail 'submit.sh'
grep -qx 'parts to make: 0-3' "$work/first.log" || fail 'not all parts are submitted'
job=$(tail -n 1 "$work/first.log")
until_true 120 test -e "$work/hung" || fail 'part 2 does not start'
three() { [ "$(squeue --noheader -j "$job" -o %i)" = "${job}_2" ]; }
until_true 120 three || fail 'the other parts do not end'
scancel --full --signal=KILL "${job}_2"
until_true 60 no_jobs || fail 'the killed task stays'
[ "$(have)" = 'part-000000-of-000004.jsonl part-000001-of-000004.jsonl part-000003-of-000004.jsonl' ] || fail "after the kill: $(have)"
echo "killed task 2 of 4: $(have)"
stat -c '%n %i %Y' "$work"/out/part-* >"$work/before"
submit --wait >"$work/second.log" || fail 'the rerun'
grep -qx 'parts to make: 2' "$work/second.log" || fail 'the rerun makes something else than part 2'
grep -v 'part-000002' <(stat -c '%n %i %Y' "$work"/out/part-*) | cmp - "$work/before" || fail 'the rerun touched other parts'
[ -z "$(find "$work/out" -name '.part*')" ] || fail 'temporary files are left'
"$build/pg-fetch" -q "$work/pictures" | "$build/pg-resize" -q -s 64 --drop-image | "$build/pg-tokenize" -q -m "$model" | "$build/pg-infer" -q -m "$model" -n 8 |
    "$build/pg-render" -q -f jsonl >"$work/alone.jsonl" || [ $? -eq 4 ]
keys() { jq -cS '{id, caption, error}' "$@" | LC_ALL=C sort; }
[ "$(keys "$work/alone.jsonl" | wc -l)" -eq "$n" ] || fail 'pictures are missing without Slurm'
diff <(keys "$work/alone.jsonl") <(keys "$work"/out/part-*) || fail 'the parts are not what one run gives'
[ "$(cat "$work"/out/part-* | jq -c 'select(.error != null)' | wc -l)" -ge 1 ] || fail 'the bad picture has no error'
submit | grep -q 'all 4 parts' || fail 'a third run makes something'
echo "rerun: part 2 alone; $n pictures, the lines of one run without Slurm"
sbatch --wait --parsable --array=1 --output="$work/again" pipelines/slurm/part.sh captions 4 "$model" "$work/pictures" "$work/out" >/dev/null
grep -q 'done before' "$work/again" || fail 'a part that is there is made again'

# ---- examples, then training, killed and submitted again ----
mkdir "$work/few"
for f in png-rgb8 png-gray8 png-pal8 png-rgba16; do
    cp "tests/golden/image/$f.png" "$work/few/"
    echo "a thing: $f" >"$work/few/$f.txt"
done
pipelines/slurm/submit.sh examples 1 "$model" "$work/few" "$work/examples" --wait >"$work/examples.log" || fail 'examples'
stream=$work/examples/part-000000-of-000001.pgs
[ "$("$build/pg-info" "$stream" | sed -n 's/^records  *//p')" -eq 4 ] || fail 'examples: not 4 records'
export SAVE_EVERY=2
train() { # train OUT [sbatch options]
    sbatch --parsable --output="$work/train.log" "${@:2}" pipelines/slurm/train.sh "$model" "$stream" "$1" --steps 300 --batch 4 -j 1
}
job=$(train "$work/tuned")
until_true 60 test -e "$work/tuned.state" || fail 'nothing is saved'
scancel "$job"
until_true 60 no_jobs || fail 'the training job stays'
[ ! -e "$work/tuned/model.npz" ] || fail 'the training job was over before it could be killed'
train "$work/tuned" --wait >/dev/null || fail 'the second attempt'
grep -q 'resuming after step' "$work/train.log" || fail 'it does not go on where it was'
train "$work/tuned" --wait >/dev/null || fail 'the third attempt'
grep -q 'done before' "$work/train.log" || fail 'a finished training is done again'
"$build/pg-train" -q -m "$model" -o "$work/alone" --steps 300 --batch 4 -j 1 <"$stream" >/dev/null
cmp "$work/alone/model.npz" "$work/tuned/model.npz" || fail 'other bits than those of a run that was not killed'
echo 'training: killed, submitted again, the bits of a run that was not'

# ---- parts joined ----
if "$build/pg-fetch" --help | grep -q 'in a \.pgs file'; then
    pipelines/slurm/submit.sh examples 2 "$model" "$work/few" "$work/two" --wait >"$work/two.log" || fail 'examples in 2 parts'
    sbatch --wait --output="$work/train.log" pipelines/slurm/train.sh "$model" "$work/two" "$work/joined" --steps 2 --batch 4 -j 1 >/dev/null || fail 'training from parts'
    [ -e "$work/joined/model.npz" ] || fail 'training from parts'
    echo 'training from a folder of parts'
else
    echo 'training from parts: skipped, pg-fetch does not read streams here'
fi

# ---- several ranks ----
if [ -e "$build/pg-mpi.so" ] && srun --mpi=list 2>&1 | grep -q pmix; then
    ln -sf "$build/pg-mpi.so" "$work/bin/"
    train "$work/ranks" --ntasks=2 --wait >/dev/null || fail 'training with 2 ranks'
    grep -q '2 ranks' "$work/train.log" || fail 'srun has started single processes'
    # The same sums in another order: single precision's rounding, which 300 steps of this size leave far below one percent of the loss.
    last() { "$build/pg-render" -f text "$1" | sed -n 's/^step: 300.*loss: *\([0-9.]*\).*/\1/p'; }
    awk -v a="$(last "$work/tuned.events.pgs")" -v b="$(last "$work/ranks.events.pgs")" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 < (0.01 * a) ^ 2) }' ||
        fail 'another loss with 2 ranks'
    echo "2 ranks under srun --mpi=pmix: loss $(last "$work/ranks.events.pgs"), that of one $(last "$work/tuned.events.pgs")"
else
    echo 'several ranks: skipped, pg-train has no MPI here'
fi
