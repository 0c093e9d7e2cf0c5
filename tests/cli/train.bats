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

@test "too little memory is warned of and changes no byte" {
    "$A" make pg1 >"$W/in.pgs"
    train -m $G/pg1.npz -o "$W/a.npz" --steps 3 --batch 3 <"$W/in.pgs" >/dev/null 2>"$W/err"
    ! grep memory "$W/err" || false
    train -m $G/pg1.npz -o "$W/b.npz" --steps 3 --batch 3 --max-memory 1 <"$W/in.pgs" >/dev/null 2>"$W/err"
    [ "$(grep -c 'more than --max-memory: 1' "$W/err")" -eq 1 ]
    cmp "$W/a.npz" "$W/b.npz"
}

@test "where nothing wants the whole gradient one layer's is held: the same bytes, less memory" {
    "$B/data/init" --image 56 --patch 14 --vit-width 32 --vit-depth 2 --vit-mlp 64 --vit-heads 2 --width 128 --depth 6 --mlp 1024 --vocab 320 "$W/m.npz"
    "$A" make pg1 >"$W/in.pgs"
    about() { sed -n 's/.*about \([0-9]*\) MiB of memory.*/\1/p' "$1"; }
    for o in "--optimizer sgd" "--optimizer sgd --momentum 0.9 --weight-decay 0.1" "--optimizer adamw --lr 0.001"; do
        # shellcheck disable=SC2086
        set -- -v -m "$W/m.npz" --train all --steps 3 --batch 4 $o
        train "$@" -o "$W/a.npz" <"$W/in.pgs" 2>"$W/a.err" | "$A" show | sed 's/examples_per_s.*//' >"$W/a"
        train "$@" -o "$W/b.npz" --clip 1e30 <"$W/in.pgs" 2>"$W/b.err" | "$A" show | sed 's/examples_per_s.*//' >"$W/b" # wants it, and never clips
        cmp "$W/a.npz" "$W/b.npz"
        diff <(sed 's/[ab].npz//' "$W/a") <(sed 's/[ab].npz//' "$W/b") # losses and lengths of gradients, to 4 digits
        grep 'pg-train: 1 MiB of gradients instead of 10: ' "$W/a.err"
        [ "$(grep -c 'of gradients' "$W/b.err")" -eq 0 ]
        [ "$(about "$W/a.err")" -le $(($(about "$W/b.err") - 8)) ]
    done
    # What is added up over batches is held; so it is where batches of what length will come is not known.
    for o in "--accumulate 2 --batch 2" "--stream --batch 2"; do
        # shellcheck disable=SC2086
        train -v -m "$W/m.npz" --train all --steps 2 $o -o "$W/c.npz" <"$W/in.pgs" 2>"$W/c.err" >/dev/null
        [ "$(grep -c 'of gradients' "$W/c.err")" -eq 0 ]
    done
    train -v -m "$W/m.npz" --train all --steps 2 --stream --batch 1 -o "$W/c.npz" <"$W/in.pgs" 2>"$W/c.err" >/dev/null
    grep 'of gradients' "$W/c.err"
}

@test "bfloat16 products: near the exact losses, the same bytes for any number of threads" {
    "$A" make pg1 >"$W/in.pgs"
    for t in 1 3; do
        train -q -m $G/pg1.npz -o "$W/$t.npz" --steps 3 --batch 4 --no-shuffle --dtype bf16 -j $t <"$W/in.pgs" >"$W/events"
    done
    cmp "$W/1.npz" "$W/3.npz"
    train -q -m $G/pg1.npz -o "$W/f32.npz" --steps 3 --batch 4 --no-shuffle <"$W/in.pgs" >"$W/f32.events"
    # losses of 5, each of 3 steps off by less than 0.02
    paste <("$A" show <"$W/events" | sed -n 's/^step.*loss=\([0-9.]*\).*/\1/p') <("$A" show <"$W/f32.events" | sed -n 's/^step.*loss=\([0-9.]*\).*/\1/p') |
        awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 0.02) bad = 1; n++ } END { exit bad || n != 3 }'
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
    [[ $output == *"has 'lr 0.03', this run 'lr 0.5'"* ]]
    run train -m $G/pg1.npz -o "$W/o.npz" --steps 4 --batch 2 --optimizer adamw --resume <"$W/in.pgs"
    [ "$status" -eq 1 ]
    [[ $output == *"has 'optimizer sgd', this run 'optimizer adamw'"* ]]
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
    mkdir "$W/p.npz.state"
    run train -m $G/pg1.npz -o "$W/p.npz" --steps 4 --batch 2 --save-every 2 <"$W/in.pgs"
    [ "$status" -eq 1 ]
    [[ $output == *"p.npz.state', where the state is to be saved, is a folder"* ]]
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
    ! cmp -s "$W/0" "$W/1" || ! cmp -s "$W/1" "$W/2" || ! cmp -s "$W/2" "$W/3" || false
    order --epochs 2 --seed 3 | diff - "$W/3"
}

@test "examples without a suffix, without eos, and large batches are warned of" {
    run --separate-stderr bash -c "'$A' make pg1 | '$B/pg-train' -q -m $G/pg1.npz -o '$W/o.npz' --batch 8 2>&1 >/dev/null"
    [ "$status" -eq 0 ]
    [[ $output == *"1 example has no suffix: its loss is 0"* ]]
    [[ $output == *"1 example has lost its eos"* ]]
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
    ! "$A" show <"$W/events" 2>/dev/null | grep -q step || false
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

@test "validation: loss and captions over the whole file" {
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

@test "validation: as many captions as asked for, each example told of once, the share that is exact" {
    mkdir "$W/model"
    cp $G/pg1.npz "$W/model/"
    cp tests/golden/text/small-a.model "$W/model/tokenizer.model"
    "$A" make pg1 >"$W/in.pgs"
    val() { train -q -m "$W/model" -o "$W/out" --lr 0 --batch 4 --steps 2 --val-every 1 "$@" <"$W/in.pgs" 2>/dev/null | "$A" show; }
    val --val "$W/in.pgs" >"$W/plain"
    text() { sed -n "s/^caption 1 id=t$1 caption=\(.*\) tokens$/\1/p" "$W/plain"; }
    [ -n "$(text 0)" ]
    "$A" make pg1 texts "$(text 0)" "$(text 1)" nothing like >"$W/val.pgs"
    val --val "$W/val.pgs" >"$W/shown"
    [ "$(grep -c '^caption [12] id=t[0-3]' "$W/shown")" -eq 8 ]
    [ "$(grep -c '^val [12] loss=.* CIDEr=.* exact=0.5000' "$W/shown")" -eq 2 ]
    [ "$(grep -c '^example 0 id=t[0-3] suffix=.* image$' "$W/shown")" -eq 4 ]
    [ "$(grep -c '^example 0 id=t1 suffix=other references image$' "$W/shown")" -eq 1 ]
    [ "$(grep -n -m 1 '^step' "$W/shown" | cut -d: -f1)" -eq 5 ]
    val --val "$W/val.pgs" --val-captions 1 --val-length 2 >"$W/shown"
    [ "$(grep -c '^caption' "$W/shown")" -eq 2 ]
    [ "$(grep -c '^example' "$W/shown")" -eq 1 ]
    grep -q '^val 1 loss=.* examples=4' "$W/shown"
    val --val "$W/val.pgs" --val-captions 0 | grep -c '^val' | grep -qx 2
    # Text output leaves the examples out.
    run bash -c "'$B/pg-train' -q -m '$W/model' -o '$W/out' --batch 4 --steps 1 --val '$W/val.pgs' <'$W/in.pgs' 2>/dev/null | '$B/pg-render' -f text"
    [[ $output != *example:* ]]
    [[ $output == *"caption: step 1   t0: "* ]]
}

@test "validation scores are pg-score's" {
    set -- jpg-420 jpg-444 png-rgb8 png-pal8 jpg-gray png-ga8
    i=0
    for f in "$@"; do
        i=$((i + 1))
        printf '{"image": "%s", "id": "%s", "suffix": "%s"}\n' "$PWD/$(ls tests/golden/image/$f.jpg tests/golden/image/$f.png 2>/dev/null)" $f \
            "a $([ $i -lt 4 ] && echo cat || echo "red square") on a blue background"
    done >"$W/val.jsonl"
    "$B/pg-fetch" "$W/val.jsonl" | "$B/pg-resize" -s 64 | "$B/pg-tokenize" -q -m data/nano -p 'describe en' >"$W/val.pgs"
    train -q -m data/nano -o "$W/out" --steps 24 --batch 3 --lr 0.1 --val "$W/val.pgs" <"$W/val.pgs" 2>/dev/null | "$A" show >"$W/shown"
    want=$("$B/pg-infer" -q -m "$W/out" -n 64 <"$W/val.pgs" | "$B/pg-score" -f json | sed 's/.*"CIDEr": *\([0-9.]*\).*/\1/')
    echo "CIDEr $want"
    awk -v x="$want" 'BEGIN { exit !(x > 0.1) }'
    grep -q "^val 24 .* CIDEr=$(printf '%.4f' "$want") exact=" "$W/shown"
    [ "$(grep -c '^example .* image$' "$W/shown")" -eq 6 ]
}

@test "one caption of one picture, however often, is nothing to warn of" {
    mkdir "$W/model"
    cp $G/pg1.npz "$W/model/"
    cp tests/golden/text/small-a.model "$W/model/tokenizer.model"
    for kind in "" same; do
        # shellcheck disable=SC2086
        "$A" make pg1 $kind >"$W/in.pgs"
        train -q -m "$W/model" -o "$W/out" --steps 1 --batch 4 --lr 0 --val "$W/in.pgs" <"$W/in.pgs" 2>"$W/messages$kind" >/dev/null
    done
    [ -s "$W/messagessame" ]
    ! grep "validation captions are" "$W/messagessame" "$W/messages"
}

@test "--keep-best holds the checkpoint of the smallest validation loss" {
    "$A" make pg1 >"$W/in.pgs"
    # A rate that first helps, then harms.
    train -q -m $G/pg1.npz -o "$W/o.npz" --lr 6 --schedule constant --warmup 1 --steps 24 --batch 4 --val "$W/in.pgs" --val-every 2 --keep-best \
        --patience 3 --val-captions 0 <"$W/in.pgs" 2>/dev/null | "$A" show >"$W/shown"
    best=$(grep '^val' "$W/shown" | sed 's/^val \([0-9]*\) loss=\([0-9.]*\).*/\2 \1/' | sort -n | head -n 1)
    [ "${best#* }" -gt 2 ] && [ "${best#* }" -lt 24 ] || { cat "$W/shown"; false; }
    [ "$(grep '^best' "$W/shown" | tail -n 1)" = "best ${best#* } loss=${best% *} path=$W/o.best.npz" ]
    train -q -m "$W/o.best.npz" -o "$W/again.npz" --lr 0 --steps 1 --batch 4 --val "$W/in.pgs" <"$W/in.pgs" 2>/dev/null | "$A" show | grep -q "^val 1 loss=${best% *} "
    ! cmp -s "$W/o.npz" "$W/o.best.npz" || false
    # A folder gets a folder beside it.
    mkdir "$W/model"
    cp $G/pg1.npz "$W/model/"
    cp tests/golden/text/small-a.model "$W/model/tokenizer.model"
    train -q -m "$W/model" -o "$W/out/" --steps 2 --batch 4 --val "$W/in.pgs" --val-every 1 --keep-best <"$W/in.pgs" >/dev/null 2>&1
    for f in out/model.npz out/tokenizer.model out.best/model.npz out.best/tokenizer.model; do [ -f "$W/$f" ]; done
    # The model itself is not a place for the best of another.
    cp $G/pg1.npz "$W/p.best.npz"
    run train -q -m "$W/p.best.npz" -o "$W/p.npz" --steps 2 --val "$W/in.pgs" --val-every 1 --keep-best <"$W/in.pgs"
    [ "$status" -eq 1 ]
    cmp $G/pg1.npz "$W/p.best.npz"
}

@test "--patience stops, and a stopped run can be resumed with more of it to the same bytes" {
    "$A" make pg1 >"$W/in.pgs"
    set -- -q -m $G/pg1.npz --lr 0 --steps 20 --batch 4 --val "$W/in.pgs" --val-every 2 --val-captions 0
    train "$@" -o "$W/a.npz" --patience 2 <"$W/in.pgs" 2>/dev/null | "$A" show >"$W/shown"
    grep -q '^stop 6 best_step=2.0000 best_loss=4.9639' "$W/shown"
    [ "$(tail -n 1 "$W/shown")" = "done 6 path=$W/a.npz" ]
    [ "$(grep -c '^step' "$W/shown")" -eq 6 ]

    set -- -q -m $G/pg1.npz --lr 6 --schedule constant --warmup 1 --steps 24 --batch 4 --val "$W/in.pgs" --val-every 2 --val-captions 0 \
        --keep-best --save-every 2
    train "$@" -o "$W/whole.npz" --patience 3 <"$W/in.pgs" 2>/dev/null | "$A" show >"$W/shown"
    end=$(sed -n 's/^done \([0-9]*\) .*/\1/p' "$W/shown")
    [ "$end" -lt 24 ]
    train "$@" -o "$W/cut.npz" --patience 1 <"$W/in.pgs" 2>/dev/null | "$A" show >"$W/first"
    [ "$(sed -n 's/^done \([0-9]*\) .*/\1/p' "$W/first")" -lt "$end" ]
    # Resumed as it was it does nothing more; with more patience it goes on.
    train "$@" -o "$W/cut.npz" --patience 1 --resume <"$W/in.pgs" 2>/dev/null | "$A" show >"$W/idle"
    [ "$(grep -c '^step' "$W/idle")" -eq 0 ]
    train "$@" -o "$W/cut.npz" --patience 3 --resume <"$W/in.pgs" 2>/dev/null | "$A" show >"$W/rest"
    cmp "$W/whole.npz" "$W/cut.npz"
    cmp "$W/whole.best.npz" "$W/cut.best.npz"
    [ "$(tail -n 2 "$W/rest" | sed 's/path=.*//')" = "$(tail -n 2 "$W/shown" | sed 's/path=.*//')" ]
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

@test "epochs are rounded up to whole steps, but not by what a double cannot say" {
    "$A" make pg1 >"$W/in.pgs"
    "$B/pg-fetch" -q --epochs 7 -n 25 "$W/in.pgs" >"$W/25.pgs"
    for e in 0.28:7 0.3:8 1:25; do # 0.28 * 25 is 7.000000000000001
        train -q -m $G/pg1.npz -o "$W/o.npz" --lr 0 --batch 1 --epochs ${e%:*} <"$W/25.pgs" 2>/dev/null | "$A" show | grep -c '^step' >"$W/steps"
        [ "$(cat "$W/steps")" -eq "${e#*:}" ]
    done
}

@test "what is not in this build is a usage error" {
    for o in "--train lora" "--dtype f64" "--optimizer adam" "--schedule linear" "--steps 0" "--steps 1 --epochs 1" "--lr x" "--stream" "--val-every 3" \
        "--keep-best" "--patience 2" "--val x --keep-best" "--val x --patience 2" "--val-captions 2" "--val x --val-every 1 --patience 0" "--val x --val-length 0"; do
        # shellcheck disable=SC2086
        run train -m $G/pg1.npz -o "$W/o.npz" $o </dev/null
        [ "$status" -eq 2 ] || { echo "$o: $status $output"; false; }
    done
    run train -o "$W/o.npz" </dev/null
    [ "$status" -eq 2 ]
    run train -m $G/pg1.npz </dev/null
    [ "$status" -eq 2 ]
}

@test "a base in safetensors is not written over, whatever its files are called" {
    cp -r $G/pg1-hf "$W/base"
    "$A" make pg1 >"$W/in.pgs"
    (cd "$W/base" && sha256sum ./*) >"$W/before"
    for out in "$W/base" "$W/base/model.safetensors" "$W/base/tuned.safetensors"; do
        run train -m "$W/base" -o "$out" --steps 1 <"$W/in.pgs"
        [ "$status" -eq 1 ]
        [[ $output == *"would change the model"* ]]
        run "$B/pg-convert" "$W/base" "$out"
        [ "$status" -eq 1 ]
    done
    (cd "$W/base" && sha256sum -c --quiet) <"$W/before"
    [ "$(find "$W/base" -type f | wc -l)" -eq "$(wc -l <"$W/before")" ]
}

@test "a folder with another checkpoint is refused before the first step, one of the same kind is replaced" {
    "$A" make pg1 >"$W/in.pgs"
    refused() { # refused HOLDS OPTIONS...
        local holds=$1
        shift
        mkdir -p "$W/d"
        echo old >"$W/d/$holds"
        run --separate-stderr train -q -m $G/pg1.npz -o "$W/d" --steps 1 --batch 2 "$@" <"$W/in.pgs"
        [ "$status" -eq 1 ]
        [[ $stderr == *"holds '$holds'"* ]]
        [ "$(ls "$W/d")" = "$holds" ]
        rm -r "$W/d"
    }
    refused model.safetensors
    refused model-00001-of-00002.safetensors
    refused adapter_model.safetensors
    refused model.npz --train lora
    for lora in '' '--train lora'; do
        for run in 1 2; do
            # shellcheck disable=SC2086
            train -q -m $G/pg1.npz -o "$W/d" --steps 1 --batch 2 $lora <"$W/in.pgs" >/dev/null
        done
        rm -r "$W/d"
    done
}

@test "an earlier run of the same name: said before it is replaced" {
    "$A" make pg1 >"$W/in.pgs"
    for how in o.npz d 'd --train lora' 'k.npz --keep-best --val-every 1 --val '"$W/in.pgs"; do
        rm -rf "$W/d"
        # shellcheck disable=SC2086
        train -m $G/pg1.npz -o "$W/"$how --steps 1 --batch 2 <"$W/in.pgs" 2>"$W/first" >"$W/events"
        ! grep 'earlier run' "$W/first" || false
        # shellcheck disable=SC2086
        train -m $G/pg1.npz -o "$W/"$how --steps 1 --batch 2 <"$W/in.pgs" 2>"$W/again" >"$W/events"
        grep "'$W/.*' of an earlier run will be replaced" "$W/again"
    done
    grep "k.best.npz' of an earlier run" "$W/again"
    train -q -m $G/pg1.npz -o "$W/o.npz" --steps 1 --batch 2 <"$W/in.pgs" 2>"$W/quiet" >"$W/events"
    ! grep "earlier run" "$W/quiet"
}

@test "an OUT that looks like a file of another kind is refused, with the formats that are written" {
    for out in o.npy o.pt dir.2/o.bin o.NPZ o.safetensor; do
        for lora in '' '--train lora'; do
            # shellcheck disable=SC2086
            run train -m $G/pg1.npz -o "$W/$out" $lora </dev/null
            [ "$status" -eq 2 ]
            [[ $output == *"'$W/$out': files are written as *.npz and *.safetensors"* ]]
            [ ! -e "$W/$out" ]
        done
    done
    "$A" make pg1 >"$W/in.pgs"
    mkdir "$W/there.pt"
    for out in v1.5 slash.bin/ there.pt .npy/x; do
        mkdir -p "$W/.npy"
        train -q -m $G/pg1.npz -o "$W/$out" --steps 1 --batch 2 <"$W/in.pgs" >/dev/null
        [ -s "$W/$out/model.npz" ]
    done
}

@test "a run that wrote nothing leaves no empty folder, and lets one be that was there" {
    "$A" make pg1 >"$W/in.pgs"
    run train -q -m $G/pg1.npz -o "$W/new" --steps 1 --batch 2 --keep-best --val "$W/none.pgs" <"$W/in.pgs"
    [ "$status" -ne 0 ]
    [ ! -e "$W/new" ]
    [ ! -e "$W/new.best" ]
    run train -q -m $G/pg1.npz -o "$W/new" --steps 9 --batch 2 --optimizer sgd --lr 1e30 <"$W/in.pgs"
    [ "$status" -eq 1 ]
    [ ! -e "$W/new" ]
    mkdir "$W/old"
    run train -q -m $G/pg1.npz -o "$W/old" --steps 1 --batch 2 --val "$W/none.pgs" <"$W/in.pgs"
    [ "$status" -ne 0 ]
    [ -d "$W/old" ]
}
