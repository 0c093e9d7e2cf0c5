#!/usr/bin/env bats
# pg-train: golden steps, resuming, order, and what it must refuse or warn of.
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || exit 1
    B=${PG_BUILD:-build}
    A=$B/tests/train/aux_trainset
    G=tests/golden/model
    W=$BATS_TEST_TMPDIR
    [ -x "$A" ] || make -s BUILD="$B" "$A"
}

train() { "$B/pg-train" "$@"; }

@test "five steps of SGD are the oracle's: losses, rates, weights" {
    for f in pg1 pg2; do
        "$A" make $f >"$W/$f.pgs"
        train -q -m $G/$f.npz -o "$W/$f.npz" --steps 5 --batch 4 --no-shuffle <"$W/$f.pgs" >"$W/$f.events"
        run "$A" check $f "$W/$f.npz" <"$W/$f.events"
        [ "$status" -eq 0 ] || { echo "$output"; false; }
    done
}

@test "events have the keys that cli.md names" {
    "$A" make pg1 | train -q -m $G/pg1.npz -o "$W/o.npz" --steps 2 --batch 4 --save-every 1 >"$W/events"
    run "$A" show <"$W/events"
    [ "$status" -eq 0 ]
    [[ ${lines[0]} == "step 1 steps=2.0000 lr="*" loss=4.9639 grad_norm="*" examples_per_s="*" tokens_per_s="* ]]
    [[ ${lines[1]} == "save 1 path=$W/o.npz.state" ]]
    [[ ${lines[4]} == "done 2 path=$W/o.npz" ]]
}

@test "the same bytes with one thread and three, in memory and from a temporary file" {
    "$A" make pg1 >"$W/in.pgs"
    train -q -m $G/pg1.npz -o "$W/a.npz" --steps 3 --batch 3 -j 1 <"$W/in.pgs" >/dev/null
    train -q -m $G/pg1.npz -o "$W/b.npz" --steps 3 --batch 3 -j 3 <"$W/in.pgs" >/dev/null
    mkdir "$W/tmp"
    TMPDIR=$W/tmp train -q -m $G/pg1.npz -o "$W/c.npz" --steps 3 --batch 3 --memory 0 <"$W/in.pgs" >/dev/null
    cmp "$W/a.npz" "$W/b.npz"
    cmp "$W/a.npz" "$W/c.npz"
    [ -z "$(ls "$W/tmp")" ]
    TMPDIR=$W/none run train -q -m $G/pg1.npz -o "$W/d.npz" --memory 0 <"$W/in.pgs"
    [ "$status" -eq 1 ]
    [[ $output == *"temporary file"* ]]
}

@test "killed and resumed: the same bytes as never stopped" {
    for how in "--optimizer sgd" "--optimizer adamw --lr 0.001 --train all --clip 1"; do
        rm -rf "$W"/*
        "$A" make pg1 >"$W/in.pgs"
        # shellcheck disable=SC2086
        set -- -q -m $G/pg1.npz --steps 900 --batch 1 --seed 5 --save-every 40 $how
        train "$@" -o "$W/whole.npz" <"$W/in.pgs" >/dev/null
        # Nobody reads the events: the run fills the pipe and waits there, in its middle.
        mkfifo "$W/events"
        train "$@" -o "$W/cut.npz" <"$W/in.pgs" >"$W/events" &
        pid=$!
        exec 7<"$W/events"
        for _ in $(seq 600); do
            [ -f "$W/cut.npz.state" ] && break
            sleep 0.05
        done
        kill -9 $pid
        wait $pid || true
        exec 7<&-
        [ -f "$W/cut.npz.state" ]
        [ ! -e "$W/cut.npz" ]
        run --separate-stderr bash -c "'$B/pg-train' $(printf '%q ' "$@") -v -o '$W/cut.npz' --resume <'$W/in.pgs' >'$W/rest'"
        [ "$status" -eq 0 ]
        [ "$("$A" show <"$W/rest" | head -n 1 | cut -d' ' -f2)" -gt 40 ]
        cmp "$W/whole.npz" "$W/cut.npz"
    done
}

@test "--resume names what differs" {
    "$A" make pg1 >"$W/in.pgs"
    train -q -m $G/pg1.npz -o "$W/o.npz" --steps 4 --batch 2 --save-every 2 <"$W/in.pgs" >/dev/null
    run train -m $G/pg1.npz -o "$W/o.npz" --steps 4 --batch 2 --save-every 2 --lr 0.5 --resume <"$W/in.pgs"
    [ "$status" -eq 1 ]
    [[ $output == *"lr 0.5"* ]]
    run train -m $G/pg1.npz -o "$W/o.npz" --steps 4 --batch 2 --train llm --resume <"$W/in.pgs"
    [ "$status" -eq 1 ]
    [[ $output == *"train llm"* ]]
    "$A" make pg1 | sed 's/t2/u2/' >"$W/other.pgs" # another id
    run train -m $G/pg1.npz -o "$W/o.npz" --steps 4 --batch 2 --resume <"$W/other.pgs"
    [ "$status" -eq 1 ]
    [[ $output == *"data "* ]]
    run --separate-stderr train -m $G/pg1.npz -o "$W/o.npz" --steps 4 --batch 2 <"$W/in.pgs"
    [ "$status" -eq 0 ]
    [[ $stderr == *"--resume would"* ]]
}

@test "examples come in order with --no-shuffle, else each once an epoch, by the seed" {
    "$A" make pg1 >"$W/in.pgs"
    "$A" example_loss pg1 >"$W/want"
    losses() { "$A" show | sed -n 's/^step .* loss=\([0-9.]*\).*/\1/p'; }
    order() { train -q -m $G/pg1.npz -o "$W/o.npz" --lr 0 --batch 1 "$@" <"$W/in.pgs" 2>/dev/null | losses; }
    order --no-shuffle >"$W/plain"
    diff "$W/want" "$W/plain"
    for seed in 0 1 2 3; do
        order --epochs 2 --seed $seed >"$W/$seed"
        [ "$(wc -l <"$W/$seed")" -eq 8 ]
        diff <(sort "$W/want") <(head -n 4 "$W/$seed" | sort)
        diff <(sort "$W/want") <(tail -n 4 "$W/$seed" | sort)
    done
    ! cmp -s "$W/0" "$W/1" || ! cmp -s "$W/1" "$W/2" || ! cmp -s "$W/2" "$W/3"
    order --epochs 2 --seed 3 | diff - "$W/3"
}

@test "examples without a suffix, without eos, and large batches are warned of" {
    run --separate-stderr bash -c "'$A' make pg1 | '$B/pg-train' -q -m $G/pg1.npz -o '$W/o.npz' --batch 8 2>&1 >/dev/null"
    [ "$status" -eq 0 ]
    [[ $output == *"1 examples have no suffix: their loss is 0"* ]]
    [[ $output == *"1 examples have lost their eos"* ]]
    [[ $output == *"more than once"* ]]
}

@test "a step that changes nothing is warned of" {
    run bash -c "'$A' make pg1 | '$B/pg-train' -m $G/pg1.npz -o '$W/o.npz' --lr 1e-25 --batch 4 2>&1 >/dev/null"
    [[ $output == *"changed no weight"* ]]
}

@test "a loss that blows up stops the run with the step and no checkpoint" {
    "$A" make pg1 >"$W/in.pgs"
    for lr in 1e8 1e30; do
        run bash -c "'$B/pg-train' -m $G/pg1.npz -o '$W/o.npz' --lr $lr --steps 50 --batch 4 2>&1 >'$W/events' <'$W/in.pgs'"
        [ "$status" -eq 1 ] || { echo "$lr: $status $output"; false; }
        [[ $output == *"at step "*"--lr"* ]]
        [ ! -e "$W/o.npz" ]
        run "$A" show <"$W/events"
        [ "$status" -eq 2 ]
    done
}

@test "records that cannot be used are left out, counted, and status 4" {
    for kind in error misfit; do
        run --separate-stderr bash -c "'$A' make pg1 $kind | '$B/pg-train' -m $G/pg1.npz -o '$W/$kind.npz' --batch 4 --steps 1 >/dev/null"
        [ "$status" -eq 4 ]
        [[ $stderr == *"left out"* ]]
        [ -f "$W/$kind.npz" ]
    done
    cmp "$W/error.npz" "$W/misfit.npz"
}

@test "no examples is a failure, a cut stream is status 3, both before anything is written" {
    run bash -c "'$A' make pg1 empty | '$B/pg-train' -m $G/pg1.npz -o '$W/o.npz' 2>&1 >/dev/null"
    [ "$status" -eq 1 ]
    [[ $output == *"no example"* ]]
    "$A" make pg1 >"$W/in.pgs"
    head -c -4 "$W/in.pgs" >"$W/cut.pgs"
    run bash -c "'$B/pg-train' -m $G/pg1.npz -o '$W/o.npz' <'$W/cut.pgs' 2>&1 >'$W/events'"
    [ "$status" -eq 3 ]
    [ ! -e "$W/o.npz" ]
    run bash -c "head -c 0 /dev/null | '$B/pg-train' -m $G/pg1.npz -o '$W/o.npz' 2>&1 >/dev/null"
    [ "$status" -eq 3 ]
}

@test "the model is not overwritten, and an output that cannot be written is known at once" {
    cp $G/pg1.npz "$W/model.npz"
    "$A" make pg1 >"$W/in.pgs"
    run bash -c "'$B/pg-train' -m '$W/model.npz' -o '$W/model.npz' <'$W/in.pgs' 2>&1 >/dev/null"
    [ "$status" -eq 1 ]
    run bash -c "'$B/pg-train' -m '$W/model.npz' -o '$W' <'$W/in.pgs' 2>&1 >/dev/null"
    [ "$status" -eq 1 ]
    cmp $G/pg1.npz "$W/model.npz"
    run bash -c "'$B/pg-train' -m '$W/model.npz' -o '$W/none/o.npz' <'$W/in.pgs' 2>&1 >'$W/events'"
    [ "$status" -eq 1 ]
    [[ $output == *"none/o.npz"* ]]
    ! "$A" show <"$W/events" 2>/dev/null | grep -q step
    [ -z "$(find "$W" -name '*.tmp.*')" ]
}

@test "a folder as output, from either format, can be trained on" {
    for m in pg1.npz pg1-hf; do
        "$A" make pg1 | train -q -m $G/$m -o "$W/out" --steps 3 --batch 4 --lr 0.1 --schedule constant >"$W/events"
        "$A" make pg1 | train -q -m "$W/out" -o "$W/again" --steps 1 --batch 4 >"$W/more"
        first=$("$A" show <"$W/events" | sed -n 's/^step 1 .* loss=\([0-9.]*\) .*/\1/p')
        then=$("$A" show <"$W/more" | sed -n 's/^step 1 .* loss=\([0-9.]*\) .*/\1/p')
        [ "$first" = 4.9639 ]
        [ "$(echo "$then < 4.5" | bc 2>/dev/null || awk -v x="$then" 'BEGIN { print (x < 4.5) }')" = 1 ]
        if [ $m = pg1-hf ]; then [ -f "$W/out/config.json" ]; fi
        rm -rf "$W/out" "$W/again"
    done
}

@test "validation: loss over the whole file, captions of the first four" {
    "$A" make pg1 >"$W/in.pgs"
    run --separate-stderr bash -c "'$B/pg-train' -q -m $G/pg1.npz -o '$W/o.npz' --lr 0 --steps 4 --batch 2 --val '$W/in.pgs' --val-every 2 <'$W/in.pgs' | '$A' show"
    [ "$status" -eq 0 ]
    [[ $stderr == *"have the id of a training example"* ]]
    [ "$(grep -c '^val [24] loss=4.9639 examples=4' <<<"$output")" -eq 2 ]
    [ "$(grep -c '^caption 2 id=t[0-3]' <<<"$output")" -eq 4 ]
    head -c -4 "$W/in.pgs" >"$W/cut.pgs"
    run bash -c "'$B/pg-train' -q -m $G/pg1.npz -o '$W/o.npz' --val '$W/cut.pgs' <'$W/in.pgs' 2>&1 >/dev/null"
    [ "$status" -eq 3 ]
}

@test "captions have text where the tokenizer lies beside the weights, and a folder gets it" {
    mkdir "$W/model"
    cp $G/pg1.npz "$W/model/"
    cp tests/golden/text/small-a.model "$W/model/tokenizer.model"
    "$A" make pg1 >"$W/in.pgs"
    run bash -c "'$B/pg-train' -q -m '$W/model' -o '$W/out' --steps 1 --batch 4 --val '$W/in.pgs' <'$W/in.pgs' 2>/dev/null | '$A' show"
    [ "$status" -eq 0 ]
    grep -q '^caption 1 id=t0 caption=' <<<"$output"
    cmp "$W/out/tokenizer.model" tests/golden/text/small-a.model
}

@test "--stream takes each example once and says when there are too few" {
    "$A" make pg1 >"$W/in.pgs"
    train -q -m $G/pg1.npz -o "$W/a.npz" --steps 2 --batch 2 --stream <"$W/in.pgs" >/dev/null
    train -q -m $G/pg1.npz -o "$W/b.npz" --steps 2 --batch 2 --no-shuffle <"$W/in.pgs" >/dev/null
    cmp "$W/a.npz" "$W/b.npz"
    run bash -c "'$B/pg-train' -q -m $G/pg1.npz -o '$W/c.npz' --steps 3 --batch 2 --stream <'$W/in.pgs' 2>&1 >/dev/null"
    [ "$status" -eq 1 ]
    [ ! -e "$W/c.npz" ]
}

@test "what is not in this build is a usage error" {
    for o in "--train lora" "--dtype bf16" "--optimizer adam" "--schedule linear" "--steps 0" "--steps 1 --epochs 1" "--lr x" "--stream" "--val-every 3"; do
        # shellcheck disable=SC2086
        run train -m $G/pg1.npz -o "$W/o.npz" $o </dev/null
        [ "$status" -eq 2 ] || { echo "$o: $status $output"; false; }
    done
    run train -o "$W/o.npz" </dev/null
    [ "$status" -eq 2 ]
    run train -m $G/pg1.npz </dev/null
    [ "$status" -eq 2 ]
}
