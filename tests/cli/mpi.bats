#!/usr/bin/env bats
# pg-train under mpirun: several ranks on this machine against one. Skipped where there is no mpirun.
# tests/mpi/netns.sh does the same on hosts of their own.
bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || exit 1
    local B=${PG_BUILD:-build} T=$BATS_FILE_TMPDIR font=/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf names=/usr/share/unicode/cldr/common/annotations
    command -v mpirun >/dev/null || return 0
    for p in tests/train/aux_trainset data/emoji data/augment; do [ -x "$B/$p" ] || make -s BUILD="$B" "$B/$p"; done
    [ -f "$font" ] && [ -d "$names" ] || return 0
    # The demo's task, smaller.
    "$B/data/emoji" "$font" "$names" "$T/emoji" en >/dev/null
    examples() { "$B/pg-fetch" "$T/$1/examples.jsonl" | "$B/pg-resize" -s "$size" | "$B/pg-tokenize" -q --keep-case -m data/nano -p 'caption en'; }
    size=$("$B/pg-info" data/nano | sed -n 's/^image  *\([0-9]*\)x.*/\1/p')
    "$B/data/augment" -n 45 --size 128 --seed 1 --things described --text full -o "$T/train" "$T/emoji/en.jsonl"
    "$B/data/augment" -n 19 --size 128 --seed 2 --things named --text full -o "$T/val" "$T/emoji/en.jsonl"
    examples train >"$T/train.pgs"
    examples val >"$T/val.pgs"
}

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || exit 1
    B=${PG_BUILD:-build}
    A=$B/tests/train/aux_trainset
    G=tests/golden/model
    F=$BATS_FILE_TMPDIR
    W=$BATS_TEST_TMPDIR
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    command -v mpirun >/dev/null || skip 'no mpirun (openmpi-bin)'
    [ -f "$B/pg-mpi.so" ] || skip 'built without MPI'
}

ranks() { # ranks N ARGUMENTS...: pg-train as N ranks
    local n=$1
    shift
    mpirun --oversubscribe -n "$n" "$B/pg-train" "$@"
}
task() { [ -f "$F/val.pgs" ] || skip 'no fonts-noto-color-emoji or unicode-cldr-core'; }
losses() { "$A" show | sed -nE 's/^(step|val) ([0-9]+).* loss=([0-9.]*).*/\1 \2 \3/p'; }

near() { # near TOLERANCE A.npz B.npz: no weight differs by more than this part of its tensor's largest
    local python
    python=$(tests/find-python numpy) || skip 'no python3-numpy'
    "$python" - "$@" <<'end'
import sys, numpy as np
a, b = np.load(sys.argv[2]), np.load(sys.argv[3])
assert sorted(a.files) == sorted(b.files)
worst = max((np.abs(a[k].astype("f8") - b[k].astype("f8")).max() / max(np.abs(a[k].astype("f8")).max(), 1e-30), k) for k in a.files)
print("largest difference %.2g of %s" % worst)
sys.exit(1 if worst[0] > float(sys.argv[1]) else 0)
end
}

# Gradients are float32 sums over rows and examples; another order of the examples moves them by a few units of 2^-24 = 6e-8 of the largest
# terms. Each of 24 steps does so, and a weight that has moved moves the gradients after it: 24 x a few x 6e-8, 1e-5 is granted. Seen: 2e-6.
# A share that is lost, counted twice or weighed wrongly moves weights by 1e-2.
@test "two and four ranks train as one: every loss to 4 digits, weights to 1e-5, validation and captions too" {
    task
    set -- -q -m data/nano --steps 24 --batch 8 --lr 0.6 --clip 1 --val "$F/val.pgs" --val-every 8
    "$B/pg-train" "$@" -o "$W/1.npz" <"$F/train.pgs" >"$W/1.events"
    losses <"$W/1.events" >"$W/1.losses"
    [ "$(wc -l <"$W/1.losses")" -eq 27 ]
    for n in 2 4; do
        ranks $n "$@" -o "$W/$n.npz" <"$F/train.pgs" >"$W/$n.events"
        losses <"$W/$n.events" | paste -d' ' "$W/1.losses" - | awk '{ d = $3 - $6; if (d < 0) d = -d; if ($1 != $4 || $2 != $5 || d > 0.00015) exit 1 }'
        diff <("$B/pg-render" -f text "$W/1.events" | grep '^caption') <("$B/pg-render" -f text "$W/$n.events" | grep '^caption')
        near 1e-5 "$W/1.npz" "$W/$n.npz"
    done
    ! cmp -s "$W/1.npz" "$W/4.npz" # sums in another order: bytes that agree would mean that nothing was shared out
}

@test "the same bytes in every run of four ranks, for any number of threads" {
    task
    set -- -q -m data/nano --steps 6 --batch 7 --lr 0.6 --train all --clip 1
    ranks 4 "$@" -j 1 -o "$W/a.npz" <"$F/train.pgs" >/dev/null
    ranks 4 "$@" -j 3 -o "$W/b.npz" <"$F/train.pgs" >/dev/null
    cmp "$W/a.npz" "$W/b.npz"
}

@test "batches that do not divide, that are smaller than the ranks, with examples without a suffix, added up: the oracle's steps" {
    "$A" make pg1 >"$W/in.pgs"
    for n in 2 3; do # the golden batch is of 4: 2 + 2, 2 + 1 + 1
        ranks $n -q -m $G/pg1.npz -o "$W/o.npz" --steps 5 --batch 4 --no-shuffle <"$W/in.pgs" >"$W/events"
        run "$A" check pg1 "$W/o.npz" <"$W/events"
        [ "$status" -eq 0 ] || { echo "$n ranks: $output"; false; }
    done
    # Batches of 1 and of 3 for 4 ranks; two batches a step.
    for how in "--batch 1" "--batch 3 --accumulate 2" "--batch 2 --accumulate 2 --stream --steps 2"; do
        # shellcheck disable=SC2086
        set -- -q -m $G/pg1.npz --lr 0.05 $how
        cat "$W/in.pgs" >"$W/data"
        case $how in *stream*) "$A" make pg1 same >"$W/data" ;; esac
        "$B/pg-train" "$@" --no-shuffle -o "$W/1.npz" <"$W/data" >"$W/1.events" 2>/dev/null || [ -s "$W/1.npz" ]
        ranks 4 "$@" --no-shuffle -o "$W/4.npz" <"$W/data" >"$W/4.events" 2>"$W/err" || [ -s "$W/4.npz" ]
        losses <"$W/1.events" | paste -d' ' - <(losses <"$W/4.events") | awk '{ d = $3 - $6; if (d < 0) d = -d; if (d > 0.00015) exit 1 }'
        near 3e-6 "$W/1.npz" "$W/4.npz"
    done
    ranks 4 -m $G/pg1.npz -o "$W/o.npz" --batch 3 <"$W/in.pgs" 2>"$W/err" >/dev/null
    [ "$(grep -c 'batches of 3 examples leave 1 of 4 ranks without work' "$W/err")" -eq 1 ]
}

@test "adapters: two ranks train as one" {
    "$A" make pg1 >"$W/in.pgs"
    # A step of AdamW is the rate times a number of size 1: near 0 gradients decide its sign, so plain steps are compared.
    set -- -q -m $G/pg1.npz --train lora --rank 4 --lr 0.5 --steps 6 --batch 4
    "$B/pg-train" "$@" -o "$W/1" <"$W/in.pgs" >"$W/1.events"
    ranks 2 "$@" -o "$W/2" <"$W/in.pgs" >"$W/2.events"
    diff <(losses <"$W/1.events") <(losses <"$W/2.events")
    for n in 1 2; do "$B/pg-convert" --merge $G/pg1.npz "$W/$n" "$W/$n.npz"; done
    near 3e-6 "$W/1.npz" "$W/2.npz"
}

@test "a killed rank is named, ends the run and leaves nothing under the final name; what 4 saved goes on with 2, then with 1" {
    "$A" make pg1 >"$W/in.pgs"
    set -- -m $G/pg1.npz --steps 400 --batch 4 --seed 5 --save-every 5 --optimizer sgd --momentum 0.5 --lr 0.01
    "$B/pg-train" -q "$@" -o "$W/whole.npz" <"$W/in.pgs" >/dev/null
    for n in 4 2; do
        before=$(stat -c %Y%i "$W/cut.npz.state" 2>/dev/null || true)
        mpirun --oversubscribe -n $n "$B/pg-train" "$@" --resume -o "$W/cut.npz" <"$W/in.pgs" >"$W/events" 2>"$W/err" &
        job=$!
        for _ in $(seq 6000); do
            [ -e "$W/cut.npz.state" ] && [ "$(stat -c %Y%i "$W/cut.npz.state")" != "$before" ] && break
            sleep 0.01
        done
        victim=
        for p in $(pgrep -P $job); do if grep -qz OMPI_COMM_WORLD_RANK=1 "/proc/$p/environ"; then victim=$p; fi; done
        kill -9 "$victim"
        status=0
        wait $job || status=$?
        [ "$status" -eq 137 ] || { echo "status $status"; cat "$W/err"; false; }
        grep -q 'process rank 1 with PID.*Killed' "$W/err"
        [ $n -eq 4 ] || grep -q 'resuming after step' "$W/err"
        [ ! -e "$W/cut.npz" ]
    done
    "$B/pg-train" -q "$@" --resume -o "$W/cut.npz" <"$W/in.pgs" >"$W/events"
    [ "$("$A" show <"$W/events" | head -n 1 | cut -d' ' -f2)" -gt 10 ]
    near 3e-5 "$W/whole.npz" "$W/cut.npz" # 400 steps
}

@test "ranks that differ are named before anything is read: model, instructions, options" {
    "$A" make pg1 >"$W/in.pgs"
    cp $G/pg2.npz "$W/other.npz"
    pair() { # pair OPTIONS-OF-RANK-1...
        run --separate-stderr bash -c "mpirun --oversubscribe -n 1 '$B/pg-train' -q -m $G/pg1.npz -o '$W/o.npz' : -n 1 $* -q -o '$W/o.npz' <'$W/in.pgs' >'$W/events'"
        [ "$status" -eq 1 ] || { echo "$status $stderr"; false; }
        [ ! -e "$W/o.npz" ]
    }
    pair "'$B/pg-train' -m '$W/other.npz'"
    [[ $stderr == *"pg-train: rank 1 on '"*"' has 'weights "*"rank 0 on '"* ]]
    pair "'$B/pg-train' -m '$W/none.npz'"
    [[ $stderr == *"pg-train: rank 1 on '"*"': cannot open '$W/none.npz'"* ]]
    pair "'$B/pg-train' -m $G/pg1.npz --lr 0.5"
    [[ $stderr == *"has 'lr 0.5', rank 0"* ]]
    if grep -qwE 'avx2|asimd' /proc/cpuinfo; then
        pair "-x PG_CPU_DISABLE=avx512,avx2,neon '$B/pg-train' -m $G/pg1.npz"
        [[ $stderr == *"has 'instructions scalar', rank 0"* ]]
    fi
}

@test "exit status and messages are those of one process, once" {
    "$A" make pg1 >"$W/in.pgs"
    says() { run --separate-stderr bash -c "$1 | mpirun --oversubscribe -n 3 '$B/pg-train' -m $G/pg1.npz -o '$W/o.npz' $2 >'$W/events'"; }
    says "cat '$W/in.pgs'" "--nosuch"
    [ "$status" -eq 2 ]
    [ "$(grep -c "unknown option '--nosuch'" <<<"$stderr")" -eq 1 ]
    says "head -c 2000 '$W/in.pgs'" ""
    [ "$status" -eq 3 ]
    says "'$A' make pg1 error" "--batch 2"
    [ "$status" -eq 4 ]
    [ "$(grep -c '1 record with an error was left out' <<<"$stderr")" -eq 1 ]
    [ "$(grep -c '3 ranks on 1 host' <<<"$stderr")" -eq 1 ]
    says "cat '$W/in.pgs'" "--lr 1e30 --steps 50 --batch 4"
    [ "$status" -eq 1 ]
    [ "$(grep -c 'at step' <<<"$stderr")" -eq 1 ]
    run --separate-stderr mpirun --oversubscribe -n 3 "$B/pg-train" --version
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 1 ]
    # mpirun writes through a terminal of its own; that on which the user sits is another matter.
    run script -qec "mpirun --oversubscribe -n 2 '$B/pg-train' -m $G/pg1.npz -o '$W/o.npz' <'$W/in.pgs'; echo status \$?" /dev/null
    [[ $output == *"a binary stream is not written to a terminal: redirect mpirun's output"*"status 2"* ]]
}

@test "without its plugin pg-train works alone and refuses to be several; alone it does not look for MPI" {
    "$A" make pg1 >"$W/in.pgs"
    cp "$B/pg-train" "$W/pg-train"
    "$W/pg-train" -q -m $G/pg1.npz -o "$W/a.npz" --batch 4 <"$W/in.pgs" >/dev/null
    run --separate-stderr bash -c "mpirun --oversubscribe -n 2 '$W/pg-train' -q -m $G/pg1.npz -o '$W/b.npz' <'$W/in.pgs' >/dev/null"
    [ "$status" -eq 1 ]
    [[ $stderr == *"started as one of 2 processes, but it was built without MPI"* ]]
    [ ! -e "$W/b.npz" ]
    mpirun --oversubscribe -n 1 "$W/pg-train" -q -m $G/pg1.npz -o "$W/c.npz" --batch 4 <"$W/in.pgs" >/dev/null
    cmp "$W/a.npz" "$W/c.npz"
    mkdir -p "$W/bin" "$W/lib/pg" # as it is installed
    cp "$B/pg-train" "$W/bin"
    cp "$B/pg-mpi.so" "$W/lib/pg"
    mpirun --oversubscribe -n 2 "$W/bin/pg-train" -m $G/pg1.npz -o "$W/d.npz" --batch 4 <"$W/in.pgs" 2>"$W/err" >/dev/null
    grep -q '2 ranks on 1 host' "$W/err"
    ! ldd "$B/pg-train" | grep -qi mpi
}

@test "a second run with the same output is refused, and all its ranks go home" {
    mkdir "$W/out"
    "$A" make pg1 >"$W/in.pgs"
    flock "$W/out" sleep 60 3>&- &
    holder=$!
    for ((i = 0; i < 200; i++)); do
        flock -n "$W/out" true || break
        sleep 0.05
    done
    run ranks 3 -m "$G/pg1.npz" -o "$W/out" --steps 1 --batch 4 <"$W/in.pgs"
    kill "$holder"
    pkill -P "$holder" || true
    [ "$status" -ne 0 ]
    [ "$(grep -c "another pg-train is writing '$W/out'" <<<"$output")" -eq 1 ] || { echo "$output"; false; }
    [ -z "$(pgrep -f -- "pg-train .*$W/out")" ]
}

@test "what ends finetune.sh ends mpirun and its ranks" {
    cp tests/golden/image/png-rgb8-64.png "$W/a.png"
    for i in 1 2 3 4; do echo "{\"image\":\"a.png\",\"id\":\"$i\",\"suffix\":\"a thing\"}"; done >"$W/train.jsonl"
    PG_BIN=$B MPIRUN='mpirun --oversubscribe -n 2' SAVE_EVERY=2 pipelines/finetune.sh data/nano "$W/train.jsonl" "$W/out" --steps 100000 --batch 2 >"$W/log" 2>&1 3>&- &
    job=$!
    for ((i = 0; i < 600; i++)); do
        [ ! -e "$W/out.state" ] || break
        sleep 0.05
    done
    kill "$job" || true
    wait "$job" || status=$?
    cat "$W/log"
    [ "$status" -eq 143 ]
    [ -z "$(pgrep -f -- "$W/out")" ]
    [ -s "$W/out.state" ]
}
