#!/usr/bin/env bash
# Trains on three hosts that are network namespaces with names of their own, a bridge between them, and a cable that can be pulled.
# Needs root, ip(8) and unshare(1); ends with status 77 where that is not allowed. Not part of make check.
# Usage: tests/mpi/netns.sh [BUILD]
set -euo pipefail
cd "$(dirname "$0")/../.."
B=$(cd "${1:-build}" && pwd)
hosts=3 tag=pg$$ W=$(mktemp -d)

clean() {
    for k in $(seq 1 $hosts); do ip netns del "$tag-$k" 2>/dev/null || true; done
    ip netns del "$tag-0" 2>/dev/null || true
    rm -rf "$W"
}
trap clean EXIT
skip() { echo "netns.sh: skipped: $*"; exit 77; }
for p in mpirun ip unshare; do command -v $p >/dev/null || skip "no $p"; done
[ -f "$B/pg-mpi.so" ] || skip 'built without MPI'
ip netns add "$tag-0" 2>/dev/null || skip 'no network namespaces may be made here'

# ---- the hosts ----
ip -n "$tag-0" link add br0 type bridge
ip -n "$tag-0" link set br0 up
for k in $(seq 1 $hosts); do
    ip netns add "$tag-$k"
    ip -n "$tag-0" link add "port$k" type veth peer name eth0 netns "$tag-$k"
    ip -n "$tag-0" link set "port$k" master br0 up
    ip -n "$tag-$k" addr add "10.77.0.$k/24" dev eth0
    ip -n "$tag-$k" link set eth0 up
    ip -n "$tag-$k" link set lo up
    echo "10.77.0.$k slots=1" >>"$W/hosts"
done
cat >"$W/on" <<end
#!/bin/sh
# on HOST COMMAND...: what ssh would do
host=\${1##*.}
shift
exec ip netns exec "$tag-\$host" unshare --uts sh -c "hostname host\$host; export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; exec sh -c '\$*'"
end
chmod +x "$W/on"
# The daemons notice a host that no longer answers after time + probes x interval seconds (by default some minutes).
on_hosts() { # on_hosts RANKS ARGUMENTS...: pg-train on so many hosts
    local n=$1
    shift
    head -n "$n" "$W/hosts" >"$W/hosts.$n"
    "$W/on" 10.77.0.1 mpirun -n "$n" --hostfile "$W/hosts.$n" --mca plm_rsh_agent "$W/on" --mca plm_rsh_no_tree_spawn 1 --mca btl self,tcp \
        --mca oob_tcp_keepalive_time 3 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3 "$B/pg-train" "$@"
}
rank_of() { # rank_of NUMBER: the process id of that rank of ours, once it is there
    local pid
    for _ in $(seq 200); do
        for pid in $(ip netns pids "$tag-$(($1 + 1))"); do
            [ "$(readlink "/proc/$pid/exe")" = "$B/pg-train" ] && echo "$pid" && return
        done
        sleep 0.05
    done
    return 1
}
until_file() { for _ in $(seq 600); do [ -e "$1" ] && return; sleep 0.05; done; return 1; }
say() { printf '%s\n' "$*"; }

# ---- a task ----
"$B/tests/train/aux_trainset" make pg1 >"$W/in.pgs"
common=(-m tests/golden/model/pg1.npz --batch 4 --optimizer adamw --lr 0.001 --train all --clip 1)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

on_hosts 3 "${common[@]}" --steps 20 -o "$W/hosts.npz" <"$W/in.pgs" >"$W/events" 2>"$W/err"
grep -q '3 ranks on 3 hosts' "$W/err"
mpirun --oversubscribe -n 3 "$B/pg-train" -q "${common[@]}" --steps 20 -o "$W/one.npz" <"$W/in.pgs" >"$W/events"
cmp "$W/hosts.npz" "$W/one.npz"
say 'ok: three hosts over TCP give the bytes of three ranks on one host'

long=("${common[@]}" --steps 100000 --save-every 20 -o "$W/cut.npz")
for how in process cable; do
    rm -f "$W"/cut.npz*
    on_hosts 3 "${long[@]}" <"$W/in.pgs" >"$W/events" 2>"$W/err" &
    job=$!
    until_file "$W/cut.npz.state" || { say "not ok: $how: no state was saved"; cat "$W/err"; exit 1; }
    began=$SECONDS
    if [ $how = process ]; then kill -9 "$(rank_of 2)"; else ip -n "$tag-0" link set port3 down; fi
    for _ in $(seq 1200); do
        kill -0 $job 2>/dev/null || break
        sleep 0.05
    done
    if kill -0 $job 2>/dev/null; then say "not ok: $how: the run hangs"; kill $job; exit 1; fi
    status=0
    wait $job || status=$?
    if [ $status -eq 0 ] || [ -e "$W/cut.npz" ]; then say "not ok: $how: status $status"; ls "$W"; exit 1; fi
    say "ok: $how lost: ended after $((SECONDS - began)) s, status $status: $(grep -m1 -oE 'process rank 2 .*|lost communication.*|rank [0-9]+ has lost.*' "$W/err" || tr '\n' ' ' <"$W/err" | cut -c1-200)"
    ip -n "$tag-0" link set port3 up
done

# What was saved goes on with fewer hosts; the number of steps is part of the run and stays.
before=$(stat -c %Y%s "$W/cut.npz.state")
on_hosts 2 "${long[@]}" --resume <"$W/in.pgs" >"$W/events" 2>"$W/err" &
job=$!
for _ in $(seq 600); do [ "$(stat -c %Y%s "$W/cut.npz.state")" != "$before" ] && break; sleep 0.05; done
kill -9 "$(rank_of 1)"
wait $job || true
grep -q 'resuming after step' "$W/err" || { cat "$W/err"; exit 1; }
say "ok: $(grep -o 'resuming after step.*' "$W/err") on two hosts"
