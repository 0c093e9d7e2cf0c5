#!/usr/bin/env bats
# pg-fetch: remote sources as streams of examples, the cache, what is said and what is not.
# shellcheck disable=SC1091,SC2154,SC2030,SC2031 # variables come from net.sh; each test is a subshell
bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    . tests/net/net.sh
    net_setup_file
}

teardown_file() { kill "$SERVERS"; }

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    . tests/net/net.sh
    net_setup
}

teardown() { net_teardown; }

@test "stream: a remote .jsonl gives examples with pictures in order; a second run asks only whether they changed" {
    stream gs://longcap100/data_train90.jsonl
    [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
    [ "$(wc -l <"$T/lines")" -eq 8 ]
    for i in 1 2 3 4 5 6 7 8; do
        [[ $(sed -n "${i}p" "$T/lines") == '{"id":"'$i'.jpeg","source":"gs://longcap100/'$i'.jpeg","prefix":"","suffix":"Picture '$i'.","image":{"bytes":'"$(wc -c <"$ROOT/storage/longcap100/$i.jpeg")"'}}' ]]
    done
    cp "$T/lines" "$T/first"
    faults '{"role":"storage","match":"3.jpeg","do":"drip","every":0}' # late, but in its place
    stream gs://longcap100/data_train90.jsonl
    cmp "$T/lines" "$T/first"
    [ "$(requests '"none_match": true' | wc -l)" -eq 9 ]
    [ "$(requests 'alt=media' | wc -l)" -eq 9 ]
    # --no-cache: the same, from the network, leaving nothing
    rm -r "$HOME/.cache"
    stream --no-cache gs://longcap100/data_train90.jsonl
    cmp "$T/lines" "$T/first"
    [ ! -e "$HOME/.cache" ]
    stream -n 3 --no-cache gs://longcap100/data_train90.jsonl
    cmp "$T/lines" <(head -n 3 "$T/first")
}

@test "stream: the cache is verified, follows changes and keeps its size" {
    stream gs://longcap100/data_train90.jsonl
    cp "$T/lines" "$T/first"
    for f in "$HOME"/.cache/pg/fetch/*; do case $f in *.json) ;; *) printf X | dd of="$f" bs=1 seek=3 conv=notrunc status=none ;; esac done
    stream gs://longcap100/data_train90.jsonl
    [ "$rc" -eq 0 ]
    cmp "$T/lines" "$T/first"
    grep -q 'is damaged; fetching it again' "$T/err"
    "$B/pg-render" -f jsonl --with-tensors <"$T/pgs" | sed -n '1s/.*"image":"\([^"]*\)".*/\1/p' | base64 -d | cmp - "$ROOT/storage/longcap100/1.jpeg"
    cp "$ROOT/storage/longcap100/1.jpeg" "$T/old"
    cp tests/golden/image/jpg-444.jpg "$ROOT/storage/longcap100/1.jpeg"
    stream gs://longcap100/data_train90.jsonl
    "$B/pg-render" -f jsonl --with-tensors <"$T/pgs" | sed -n '1s/.*"image":"\([^"]*\)".*/\1/p' | base64 -d | cmp - tests/golden/image/jpg-444.jpg
    cp "$T/old" "$ROOT/storage/longcap100/1.jpeg"
    cached() { find "$HOME/.cache/pg/fetch" -type f ! -name '*.json' -printf '%s\n' | awk '{s += $1} END {print s + 0}'; }
    [ "$(cached)" -gt 30000 ]
    rm -r "$HOME/.cache"
    # The limit holds while the run lasts: this one ends in an error, without tidying up.
    rc=0
    "$B/pg-fetch" --cache-size 20k gs://longcap100/data_train90.jsonl hf://google/none/x.jsonl >"$T/pgs" 2>"$T/err" || rc=$?
    [ "$rc" -eq 1 ]
    [ "$(cached)" -le 22500 ]
    [ "$(cached)" -gt 0 ]
    stream --cache-size 20k gs://longcap100/data_train90.jsonl
    [ "$rc" -eq 0 ]
    cmp "$T/lines" "$T/first"
    [ "$(find "$HOME/.cache/pg/fetch" -type f ! -name '*.json' -printf '%s\n' | awk '{s += $1} END {print s}')" -le 20000 ]
}

@test "stream: a picture that cannot be had is an error record in its place; the rest goes on" {
    faults '{"role":"storage","match":"o/2.jpeg","do":"status","status":404,"body":"No such object","ctype":"text/plain","times":9}' \
        '{"role":"storage","match":"o/5.jpeg","do":"corrupt","times":9}'
    for how in --no-cache --quiet; do
        stream "$how" gs://longcap100/data_train90.jsonl
        [ "$rc" -eq 4 ]
        [ "$(wc -l <"$T/lines")" -eq 8 ]
        [[ $(sed -n 2p "$T/lines") == *'"id":"2.jpeg"'*'"error":'*'data_train90.jsonl:2: cannot fetch'*404* ]] || { cat "$T/lines"; false; }
        [[ $(sed -n 5p "$T/lines") == *'"error":'*'wrong'* || $(sed -n 5p "$T/lines") == *'"error":'*'should be'* ]]
        [ "$(grep -c '"image":' "$T/lines")" -eq 6 ]
    done
}

@test "stream: remote pictures in a local .jsonl and on stdin, a picture, a bucket of pictures, https, the hub" {
    printf '{"image":"gs://longcap100/4.jpeg"}\n{"image":"%s/d/p%%20q.png?sig=verysecret","suffix":"x"}\n{"image":"%s"}\n' "$W" "$PWD/tests/golden/image/png-rgb8-1x1.png" >"$T/l.jsonl"
    stream "$T/l.jsonl"
    [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
    [ "$(grep -c '"image":' "$T/lines")" -eq 3 ]
    absent -a verysecret "$T/pgs"
    stream - <"$T/l.jsonl"
    [ "$(grep -c '"image":' "$T/lines")" -eq 3 ]
    stream "$W/d/data.jsonl" "$W/d/big.png?sig=verysecret"
    [ "$rc" -eq 4 ]
    [[ $(sed -n 1p "$T/lines") == *'"id":"p q.png"'*'"suffix":"a pixel"'*'"image":'* ]]
    absent -a verysecret "$T/pgs" "$T/err"
    stream hf://google/pg/train.jsonl
    [[ $(cat "$T/lines") == *'"suffix":"a cow","image":'* ]] || { cat "$T/lines" "$T/err"; false; }
    stream hf://google/pg/cow.jpg@main gs://longcap100/8.jpeg
    [ "$(grep -c '"image":' "$T/lines")" -eq 2 ]
    run "$B/pg-fetch" gs://longcap100/
    [ "$status" -eq 2 ]
    [[ $output == *"holds 'data_train90.jsonl'"* ]]
    mkdir "$ROOT/storage/photos"
    cp "$ROOT"/storage/longcap100/[1-4].jpeg "$ROOT/storage/photos/"
    echo 'Two of them.' >"$ROOT/storage/photos/2.txt"
    stream -n 2 gs://photos/
    [[ $(sed -n 2p "$T/lines") == '{"id":"2.jpeg","source":"gs://photos/2.jpeg","image":{"bytes":'*'},"suffix":"Two of them."}' ]]
    [ "$(wc -l <"$T/lines")" -eq 2 ]
    stream gs://photos/
    [ "$(grep -o '"id":"[^"]*"' "$T/lines" | tr '\n' ' ')" = '"id":"1.jpeg" "id":"2.jpeg" "id":"3.jpeg" "id":"4.jpeg" ' ]
    run "$B/pg-fetch" "$M"
    [ "$status" -eq 2 ]
    [[ $output == *"-o DIR"* ]]
}

@test "stream: two pictures of a bucket that share one text both have it" {
    mkdir "$ROOT/storage/twins"
    cp "$ROOT/storage/longcap100/1.jpeg" "$ROOT/storage/twins/cat.jpeg"
    cp "$ROOT/storage/longcap100/2.jpeg" "$ROOT/storage/twins/cat.jpg"
    cp tests/golden/image/png-rgb8-1x1.png "$ROOT/storage/twins/cat.png"
    echo 'A cat.' >"$ROOT/storage/twins/cat.txt"
    for how in --no-cache --quiet --quiet; do
        stream "$how" gs://twins/
        [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
        [ "$(grep -c '"suffix":"A cat."' "$T/lines")" -eq 3 ] || { cat "$T/lines"; false; }
        [ "$(grep -o '"id":"[^"]*"' "$T/lines" | tr '\n' ' ')" = '"id":"cat.jpeg" "id":"cat.jpg" "id":"cat.png" ' ]
    done
}

@test "stream: URLs that differ in the query alone are two pictures, with the cache and without; the query is stored nowhere" {
    for i in 1 2; do
        cp "$ROOT/storage/longcap100/$i.jpeg" "$ROOT/web/d/q$i.jpeg"
        echo "{\"image\":\"$W/picture.jpeg?id=verysecret$i\"}"
    done >"$T/l.jsonl"
    for how in --no-cache --quiet --quiet; do
        faults '{"role":"web","match":"verysecret1","do":"redirect","to":"/d/q1.jpeg"}' '{"role":"web","match":"verysecret2","do":"redirect","to":"/d/q2.jpeg"}'
        stream "$how" "$T/l.jsonl"
        [ "$rc" -eq 0 ] || { cat "$T/err" "$T/lines"; false; }
        for i in 1 2; do
            "$B/pg-render" -f jsonl --with-tensors <"$T/pgs" | sed -n "${i}s/.*\"image\":\"\([^\"]*\)\".*/\1/p" | base64 -d | cmp - "$ROOT/storage/longcap100/$i.jpeg"
            [[ $(sed -n "${i}p" "$T/lines") == '{"id":"'"$T/l.jsonl:$i"'","source":"'"$W"'/picture.jpeg?...",'* ]] || { cat "$T/lines"; false; }
        done
    done
    absent -ar verysecret "$T/pgs" "$T/err" "$HOME/.cache"
    [ "$(find "$HOME/.cache" -name '*.json' | wc -l)" -eq 2 ]
}

@test "stream: a server without ETag is asked whether its file is newer than its date; a date of just now is not relied on" {
    cp "$ROOT/storage/longcap100/1.jpeg" "$ROOT/web/d/dated.jpeg"
    dated() {
        faults "{\"role\":\"web\",\"match\":\"dated\",\"do\":\"plain\",\"etag\":\"$1\",\"times\":9}"
        stream "$W/d/dated.jpeg"
        [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
        "$B/pg-render" -f jsonl --with-tensors <"$T/pgs" | sed 's/.*"image":"\([^"]*\)".*/\1/' | base64 -d | cmp - "$ROOT/storage/longcap100/$2.jpeg"
    }
    dated now 1
    cp "$ROOT/storage/longcap100/2.jpeg" "$ROOT/web/d/dated.jpeg"
    dated now 2
    dated 'Tue, 01 Sep 2026 10:00:00 GMT' 2
    cp "$ROOT/storage/longcap100/3.jpeg" "$ROOT/web/d/dated.jpeg" # but of the same date: only an answer 304 leaves picture 2
    dated 'Tue, 01 Sep 2026 10:00:00 GMT' 2
    dated 'Tue, 01 Sep 2026 10:00:01 GMT' 3
}

@test "stream: what is larger than a picture may be is refused before it is fetched" {
    printf '{"image":"%s/d/p%%20q.png"}\n' "$W" >"$T/l.jsonl"
    for how in --no-cache --quiet; do
        faults '{"role":"web","match":"q.png","do":"cut","at":20,"longer":2000000000,"times":9}'
        stream --tries 2 "$how" "$T/l.jsonl"
        [ "$rc" -eq 4 ]
        [[ $(cat "$T/lines") == *'"error":'*'larger than '*' bytes'* ]] || { cat "$T/lines"; false; }
        [ "$(requests q.png | wc -l)" -eq 1 ]
    done
    [ -z "$(find "$HOME/.cache" -type f)" ]
}

@test "stream: cached pictures that another process removes before their turn are fetched again" {
    stream gs://longcap100/data_train90.jsonl
    cp "$T/lines" "$T/first"
    rm -r "$HOME/.cache"
    faults '{"role":"storage","match":"o/1.jpeg","do":"drip","every":0.0005}'
    "$B/pg-fetch" gs://longcap100/data_train90.jsonl >"$T/pgs" 2>"$T/err" &
    one=$!
    ahead() { find "$HOME/.cache" -type f ! -name '*.*'; }
    for ((i = 0; i < 100; i++)); do [ "$(ahead | wc -l)" -lt 8 ] || break; sleep 0.05; done
    ahead | xargs rm
    wait "$one"
    "$B/pg-render" -f jsonl <"$T/pgs" | cmp - "$T/first"
    grep -q 'is gone; fetching it again' "$T/err"
}

@test "credentials are in no message, no stream, no file beside the download" {
    export KAGGLE_USERNAME=alice KAGGLE_KEY=secret HF_TOKEN=hf_good
    faults '{"role":"storage","match":"kaggle-models-data","do":"cut","at":100}' '{"role":"storage","match":"cdn","do":"cut","at":100}'
    get -v --tries 1 "$M" hf://google/pg/tokenizer.model
    [ "$rc" -eq 1 ]
    ls "$T"/o/*.part.json
    absent -rE 'secret|hf_good|YWxpY2U|Signature' "$T/o" "$T/err" "$T/out"
    stream -v hf://google/pg/train.jsonl
    absent -aE 'secret|hf_good' "$T/pgs" "$T/err"
    absent -rE 'secret|hf_good' "$HOME/.cache"
}

@test "progress: a bar on a terminal, lines with -v elsewhere, nothing otherwise" {
    command -v script >/dev/null || skip 'no script(1)'
    faults '{"role":"web","do":"rate","bytes_per_s":300000,"times":9}'
    script -qec "$B/pg-fetch -o $T/o $W/d/big.bin" /dev/null >"$T/tty"
    grep -q '\[##* *\]' "$T/tty"
    grep -qE '/s.*left' "$T/tty"
    rm -r "$T/o"
    get "$W/d/big.bin"
    [ ! -s "$T/err" ]
}

@test "finetune.sh: the notebook's whole job from Kaggle and storage; a second run does nothing again, a third the missing step" {
    mkdir -p "$ROOT/kaggle/google/small/jax/tiny/1" "$ROOT/storage/big_vision"
    "$B/data/init" --image 16 --patch 8 --vit-width 8 --vit-depth 1 --vit-mlp 8 --vit-heads 2 --width 8 --depth 1 --mlp 8 --heads 2 \
        --head-dim 4 --vocab 4096 "$ROOT/kaggle/google/small/jax/tiny/1/tiny.f16.npz"
    cp data/nano/tokenizer.model "$ROOT/storage/big_vision/paligemma_tokenizer.model"
    mkdir "$ROOT/storage/pairs"
    for i in 1 2 3 4; do
        cp tests/golden/image/jpg-420.jpg "$ROOT/storage/pairs/$i.jpeg"
        echo "{\"image\":\"$i.jpeg\",\"suffix\":\"A thing.\"}"
    done >"$ROOT/storage/pairs/train.jsonl"
    export KAGGLE_API_TOKEN=kaggle_good PG_BIN=$B MODEL_SOURCE=kaggle://google/small/jax/tiny STEPS=2 BATCH=2 TRAIN_SOURCE=gs://pairs/train.jsonl \
        VAL_SOURCE=gs://pairs/train.jsonl
    run pipelines/finetune.sh "$T/job" --lr 0.01
    echo "$output"
    [ "$status" -eq 0 ]
    [ -f "$T/job/model/tiny.f16.npz" ]
    [ -f "$T/job/tuned/model.npz" ]
    grep -q '<html' "$T/job/report.html"
    faults
    touch "$T/before"
    unset KAGGLE_API_TOKEN
    run pipelines/finetune.sh "$T/job" --lr 0.02
    [ "$status" -eq 1 ]
    [[ $output == *"to fine-tune again, remove tuned.made-of"*"--lr 0.02"* ]]
    run pipelines/finetune.sh "$T/job" --lr 0.01
    [ "$status" -eq 0 ]
    [ -z "$(requests)" ]
    [ -z "$(find "$T/job" -newer "$T/before" -type f)" ]
    rm "$T/job/report.html"
    run env -u STEPS -u BATCH pipelines/finetune.sh "$T/job"
    [ "$status" -eq 0 ]
    [ "$(find "$T/job" -newer "$T/before" -type f)" = "$T/job/report.html" ]
    # A step that fails leaves nothing that looks done.
    MODEL_SOURCE=kaggle://google/none/jax/x run pipelines/finetune.sh "$T/other"
    [ "$status" -ne 0 ]
    [ ! -e "$T/other/model.files" ]
}

@test "stream: remote shards in a list come in order, several fetched ahead; a missing one is a record with an error" {
    mkdir -p "$ROOT/storage/shards" "$T/m" "$T/tmp"
    export TMPDIR=$T/tmp
    for s in 0 1 2 3 4 5; do
        for i in 1 2 3; do
            cp "$ROOT/storage/longcap100/$i.jpeg" "$T/m/$s-$i.jpeg"
            echo "Text $s $i." >"$T/m/$s-$i.txt"
        done
        tar -C "$T/m" --sort=name -cf "$ROOT/storage/shards/s-0$s.tar" .
        rm "$T"/m/*
    done
    mkdir -p "$ROOT/web/shards" "$ROOT/hub/google/shards/x"
    cp "$ROOT"/storage/shards/*.tar "$ROOT/web/shards/"
    cp "$ROOT"/storage/shards/*.tar "$ROOT/hub/google/shards/x/"
    all=$(for s in 0 1 2 3 4 5; do for i in 1 2 3; do echo "$s-$i Text $s $i."; done; done)
    got() { sed 's/^{"id":"\([^"]*\)".*"suffix":"\([^"]*\)".*/\1 \2/' "$T/lines"; }
    for place in gs://shards "$W/shards" hf://google/shards/x; do
        for how in --no-cache --quiet --quiet; do
            stream "$how" "$place/s-{00..05}.tar"
            [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
            [ "$(got)" = "$all" ] || { cat "$T/lines"; false; }
            [ -z "$(ls "$T/tmp")" ]
        done
    done
    # What a killed run left without a cache goes when the next one begins.
    "$B/pg-fetch" --no-cache "$W/shards/s-{00..05}.tar" 2>/dev/null | head -c 100 >"$T/first" || true
    [ -n "$(ls "$T/tmp")" ]
    stream --no-cache "$W/shards/s-{00..05}.tar"
    [ "$rc" -eq 0 ]
    [ -z "$(ls "$T/tmp")" ]
    grep -q "removed 1 folder of archives that killed runs left in '$T/tmp'" "$T/err"
    # While the first one drips, the three after it are asked for, and no more.
    rm -r "$HOME/.cache"
    faults '{"role":"web","match":"s-00","do":"rate","bytes_per_s":40000}'
    "$B/pg-fetch" "$W/shards/s-{00..05}.tar" >"$T/pgs" 2>"$T/err" &
    one=$!
    for ((i = 0; i < 100; i++)); do [ "$(requests s-03 | wc -l)" -eq 0 ] || break; sleep 0.02; done
    kill -9 "$one"
    wait "$one" || true
    [ "$(requests s-03 | wc -l)" -eq 1 ]
    [ "$(requests s-04 | wc -l)" -eq 0 ]
    # One that is not there, and one that arrives cut. The rest comes; with a limit what is ahead is given up.
    mv "$ROOT/storage/shards/s-01.tar" "$ROOT/gone"
    truncate -s -12000 "$ROOT/storage/shards/s-04.tar"
    for how in --no-cache --quiet; do
        stream "$how" 'gs://shards/s-{00..05}.tar'
        [ "$rc" -eq 4 ]
        grep -q "cannot fetch 'gs://shards/s-01.tar'.*404" "$T/err" || { cat "$T/err"; false; }
        grep -q "cannot read 'gs://shards/s-04.tar' at member" "$T/err"
        [ "$(grep -c '"image":' "$T/lines")" -ge 12 ]
        [ "$(sed -n 4p "$T/lines" | grep -c '^{"id":"gs://shards/s-01.tar",.*"error":')" -eq 1 ]
        stream "$how" -n 2 'gs://shards/s-{00..05}.tar'
        [ "$rc" -eq 0 ]
        [ "$(wc -l <"$T/lines")" -eq 2 ]
        [ -z "$(ls "$T/tmp")" ]
    done
    run "$B/pg-fetch" gs://shards/s-01.tar
    [ "$status" -eq 1 ]
    # parts, passes and shuffling are the same as from the disk
    mv "$ROOT/gone" "$ROOT/storage/shards/s-01.tar"
    for ((i = 0; i < 4; i++)); do
        stream --shard "$i/4" --shuffle 4 --epochs 2 "$W/shards/s-{00..05}.tar"
        got
    done | sort | uniq -c | awk '$1 == 2' | wc -l | grep -qx 18
    # downloads are shared out by sources
    get --shard 1/4 "$W/shards/s-{00..05}.tar"
    [ "$rc" -eq 0 ]
    [ "$(sed 's,.*/,,' "$T/out" | tr '\n' ' ')" = 's-01.tar s-05.tar ' ]
    get --shard 1/7 "$W/shards/s-{00..05}.tar"
    [ "$rc" -eq 2 ]
}
