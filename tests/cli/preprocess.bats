#!/usr/bin/env bats
# pipelines/preprocess.sh: shards prepared at once with GNU parallel give what one pipeline gives, in order.
# shellcheck disable=SC2154
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=$PWD/${PG_BUILD:-build}
    T=$BATS_TEST_TMPDIR
    parallel --version 2>/dev/null | grep -q GNU || skip 'no GNU parallel'
    export PG_BIN=$B SIZE=64
    mkdir "$T/in"
    local s i pictures=(tests/golden/image/jpg-4*.jpg)
    for s in 0 1 2 3; do
        rm -f "$T"/in/*
        # the first shard is the longest, so that it is not the first to be done
        for ((i = 0; i < (s ? 3 : 24); i++)); do
            cp "${pictures[(i + s) % ${#pictures[@]}]}" "$T/in/$s-$((i + 10)).jpg"
            echo "Thing $s $i." >"$T/in/$s-$((i + 10)).txt"
        done
        tar -C "$T/in" --sort=name -cf "$T/s-$s.tar" .
    done
}

lines() { "$B/pg-render" -f jsonl --with-tensors; }

@test "preprocess.sh: two at once, in the order of the sources, the same records as one pipeline; nothing is made twice" {
    JOBS=2 pipelines/preprocess.sh data/nano "$T/out" "$T/s-{0..3}.tar" >"$T/files"
    [ "$(tr '\n' ' ' <"$T/files")" = "$T/out/s-0.pgs $T/out/s-1.pgs $T/out/s-2.pgs $T/out/s-3.pgs " ] || { cat "$T/files"; false; }
    "$B/pg-fetch" "$T"/s-?.tar | "$B/pg-resize" -s 64 --drop-image | "$B/pg-tokenize" -q -m data/nano | lines >"$T/one"
    [ "$(wc -l <"$T/one")" -eq 33 ]
    xargs "$B/pg-fetch" <"$T/files" | lines | cmp - "$T/one"
    touch -d 1999-01-01 "$T"/s-?.tar
    touch -d 2000-01-01 "$T"/out/*
    rm "$T/out/s-2.pgs"
    : >"$T/out/s-2.pgs.4242" # as a killed run leaves it
    pipelines/preprocess.sh data/nano "$T/out" "$T/s-{0..3}.tar" | cmp - "$T/files"
    [ "$(find "$T/out" -newermt 2001-01-01 -type f)" = "$T/out/s-2.pgs" ]
    [ ! -e "$T/out/s-2.pgs.4242" ]
    SHARD=1/2 pipelines/preprocess.sh data/nano "$T/half" "$T/s-{0..3}.tar" >"$T/files"
    [ "$(ls "$T/half" | tr '\n' ' ')" = 'made-of s-1.pgs s-3.pgs ' ]
}

@test "preprocess.sh: features; records with errors are status 4, a source that cannot be read is 1 and leaves no file" {
    FEATURES=f32 pipelines/preprocess.sh data/nano "$T/out" "$T/s-{0..1}.tar" >"$T/files"
    "$B/pg-fetch" "$T"/s-[01].tar | "$B/pg-resize" -s 64 --drop-image | "$B/pg-tokenize" -q -m data/nano | "$B/pg-infer" -q -m data/nano --features | lines >"$T/one"
    xargs "$B/pg-fetch" <"$T/files" | lines | cmp - "$T/one"
    echo nothing >"$T/in/x.jpg"
    tar -C "$T/in" -cf "$T/s-4.tar" .
    run pipelines/preprocess.sh data/nano "$T/out" "$T/s-4.tar" # these have no features
    [ "$status" -eq 1 ]
    [[ $output == *"was made with something else"*"FEATURES=f32"* ]]
    for again in 1 2; do # the second time, too, the errors are told of
        run pipelines/preprocess.sh data/nano "$T/plain" "$T/s-4.tar"
        [ "$status" -eq 4 ]
        [ -s "$T/plain/s-4.pgs" ]
    done
    head -c 20000 "$T/s-0.tar" >"$T/s-5.tar"
    run pipelines/preprocess.sh data/nano "$T/plain" "$T/s-5.tar"
    [ "$status" -eq 1 ]
    [[ $output == *"cannot be read to its end: not done"* ]]
    [ ! -e "$T/plain/s-5.pgs" ]
    run pipelines/preprocess.sh data/nano "$T/plain" "$T/s-9.tar" "$T/s-2.tar"
    [ "$status" -eq 1 ]
    [ ! -e "$T/plain/s-9.pgs" ]
    [ -s "$T/plain/s-2.pgs" ]
    [ "$(find "$T/plain" -name '*.pgs.*')" = "$T/plain/s-4.pgs.errors" ]
    run pipelines/preprocess.sh data/nano
    [ "$status" -eq 2 ]
}

@test "pg(7)'s line: parallel --keep-order, files joined by pg-fetch" {
    export PATH=$B:$PATH
    cd "$T"
    parallel --will-cite --keep-order 'pg-fetch {} | pg-resize -s 64 -j 1 > {.}.pgs && echo {.}.pgs' ::: s-*.tar | xargs pg-fetch |
        pg-tokenize -q -m "$OLDPWD/data/nano" >all.pgs
    pg-fetch s-*.tar | pg-resize -s 64 | pg-tokenize -q -m "$OLDPWD/data/nano" | lines | cmp - <(lines <all.pgs)
}
