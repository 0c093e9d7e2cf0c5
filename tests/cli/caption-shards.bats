#!/usr/bin/env bats
# pipelines/caption-shards.sh: exactly one line for each example of the shards, whatever is killed when.
# shellcheck disable=SC2154
bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    export D=$BATS_FILE_TMPDIR/d
    mkdir -p "$D/in"
    local s i n=0 pictures=(tests/golden/image/png-rgb*.png tests/golden/image/jpg-4*.jpg)
    for s in 0 1 2; do
        rm -f "$D"/in/*
        for i in $(seq 100 199); do
            n=$((n + 1))
            p=${pictures[n % ${#pictures[@]}]}
            cp "$p" "$D/in/$s$i.${p##*.}"
        done
        [ "$s" -ne 1 ] || echo 'no picture' >"$D/in/1120.png"
        tar -C "$D/in" --sort=name -cf "$D/s-$s.tar" .
    done
    export PG_BIN=$PWD/${PG_BUILD:-build} SIZE=64
}

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    T=$BATS_TEST_TMPDIR
    command -v jq >/dev/null || skip 'no jq'
}

shards() { pipelines/caption-shards.sh data/nano "$T/out" "$D/s-{0..2}.tar" -- -n 6; }

ids() { for s in 0 1 2; do seq -f "$s%.0f" 100 199; done; }

complete() {
    ids | cmp - <(jq -r .id "$T/out/captions.jsonl")
    [ "$(jq -r 'select(.error).id' "$T/out/captions.jsonl")" = 1120 ]
    [ "$(jq length "$T/out/results.json")" -eq 299 ]
}

@test "caption-shards.sh: a line for each example, joined in order, and COCO results; a second run does nothing again" {
    run shards
    echo "$output"
    [ "$status" -eq 4 ]
    complete
    # the same captions as one pipeline gives
    "$PG_BIN/pg-fetch" -q "$D"/s-?.tar 2>/dev/null | "$PG_BIN/pg-resize" -q -s 64 2>/dev/null | "$PG_BIN/pg-tokenize" -q -m data/nano | "$PG_BIN/pg-infer" -q -n 6 -m data/nano |
        "$PG_BIN/pg-render" -f jsonl | jq -c 'select(.caption) | [.id, .caption]' >"$T/one" || true
    jq -c 'select(.caption) | [.id, .caption]' "$T/out/captions.jsonl" | cmp - "$T/one"
    [ "$(jq -c '.[100].image_id' "$T/out/results.json")" = 1100 ]
    touch -d '1999-01-01' "$D"/s-?.tar
    touch -d '2000-01-01' "$T"/out/s-?.jsonl
    run shards
    [ "$status" -eq 4 ]
    [ "$(find "$T/out" -name 's-?.jsonl' -newermt 2001-01-01 | wc -l)" -eq 0 ]
    [ "$(find "$T/out" | wc -l)" -eq 7 ]
}

@test "caption-shards.sh: killed at any moment, as a whole or a single program of it, nothing is lost or there twice" {
    for ((try = 0; try < 12; try++)); do
        setsid bash -c 'exec pipelines/caption-shards.sh data/nano "$1/out" "$2/s-{0..2}.tar" -- -n 40 --beam 24 -b 1 -j 1' _ "$T" "$D" 3>&- >>"$T/log" 2>&1 &
        job=$!
        sleep "0.$((RANDOM % 50 + 10))"
        if [ $((try % 2)) -eq 0 ]; then
            kill -9 -- "-$job" 2>/dev/null || true
        else
            victim=$(pgrep -g "$job" -f 'pg-(fetch|resize|tokenize|infer|render)|caption-shards' | shuf -n 1) || true
            [ -z "$victim" ] || kill -9 "$victim" 2>/dev/null || true
        fi
        wait "$job" || true
        if [ -e "$T/out/captions.jsonl" ]; then # it was faster: once more
            complete
            rm -r "$T/out"
        fi
        # Whatever is left of it ends by itself; what it wrote is whole lines, but for the last
        for part in "$T"/out/*.part; do
            [ ! -e "$part" ] || sed '$d' "$part" | jq -e .id >/dev/null || [ "$(wc -l <"$part")" -le 1 ]
        done
    done
    echo "after the kills: $(cat "$T"/out/*.jsonl "$T"/out/*.part 2>/dev/null | wc -l) lines"
    run pipelines/caption-shards.sh data/nano "$T/out" "$D/s-{0..2}.tar" -- -n 40 --beam 24 -b 1 -j 1
    echo "$output"
    [ "$status" -eq 4 ]
    complete
    [ -z "$(find "$T/out" -name '*.part')" ]
    cat "$T/log"
}

@test "caption-shards.sh: torn and false last lines" {
    run shards
    cp "$T/out/captions.jsonl" "$T/whole"
    for cut in 1 2 10 500; do
        rm "$T/out/captions.jsonl"
        head -n 17 "$T/out/s-1.jsonl" >"$T/part"
        truncate -s "-$cut" "$T/part"
        rm "$T/out/s-1.jsonl"
        cp "$T/part" "$T/out/s-1.part"
        run shards
        [ "$status" -eq 4 ]
        [[ $output == *"s-1.tar': 1"[1-6]" captions are there"* ]] || { echo "$output"; false; }
        cmp "$T/whole" "$T/out/captions.jsonl"
    done
    : >"$T/out/s-1.part"
    rm "$T/out/s-1.jsonl"
    run shards
    cmp "$T/whole" "$T/out/captions.jsonl"
    # of another shard
    head -n 5 "$T/out/s-0.jsonl" >"$T/out/s-1.part"
    rm "$T/out/s-1.jsonl"
    run shards
    [ "$status" -eq 1 ]
    [[ $output == *"s-1.part' is not of '$D/s-1.tar' as it is now"* ]]
}

@test "caption-shards.sh: parts of several machines, several sources at once" {
    for i in 1 0 2; do
        SHARD=$i/3 run shards
        [ "$status" -eq 0 ] || { echo "$output"; false; }
        [ ! -e "$T/out/captions.jsonl" ]
    done
    run shards
    [ "$status" -eq 4 ]
    complete
    rm -r "$T/out"
    JOBS=3 run shards
    [ "$status" -eq 4 ]
    complete
}

@test "caption-shards.sh: usage, a missing shard, two sources of one name" {
    run pipelines/caption-shards.sh a b
    [ "$status" -eq 2 ]
    run pipelines/caption-shards.sh data/nano "$T/out" "$D/s-{0..2}.tar" "$T/s-1.jsonl"
    [ "$status" -eq 2 ]
    [[ $output == *"two sources would both write '$T/out/s-1.jsonl'"* ]]
    cp "$D/s-0.tar" "$T/captions.tar"
    run pipelines/caption-shards.sh data/nano "$T/out" "$T/captions.tar"
    [ "$status" -eq 2 ]
    [[ $output == *"'$T/captions.tar' would write '$T/out/captions.jsonl'"* ]]
    run pipelines/caption-shards.sh data/nano "$T/out" "$D/s-0.tar" "$D/s-9.tar"
    [ "$status" -eq 1 ]
    [[ $output == *"$D/s-9.tar' is not done"* ]]
    [ "$(wc -l <"$T/out/s-0.jsonl")" -eq 100 ]
    [ ! -e "$T/out/captions.jsonl" ]
}

@test "caption-shards.sh: another model, prefix or options are refused, a newer shard is done again, a cut one is not done" {
    run pipelines/caption-shards.sh data/nano "$T/out" "$D/s-0.tar" -- -n 6
    [ "$status" -eq 0 ]
    for other in 'PREFIX="caption es"' 'MODEL=$T/copy' 'MORE="--beam 2"'; do
        cp -r data/nano "$T/copy"
        run bash -c "T='$T'; MODEL=data/nano; $other; export PREFIX; pipelines/caption-shards.sh \"\$MODEL\" '$T/out' '$D/s-0.tar' -- -n 6 \$MORE"
        echo "$output"
        [ "$status" -eq 1 ]
        [[ $output == *"was made with something else; name another OUT"* ]]
        rm -r "$T/copy"
    done
    head -c 300000 "$D/s-0.tar" >"$T/s-7.tar"
    run pipelines/caption-shards.sh data/nano "$T/cut" "$T/s-7.tar" -- -n 6
    echo "$output"
    [ "$status" -eq 1 ]
    [[ $output == *"'$T/s-7.tar' is not done: "* ]]
    [[ $output != *'"tool"'* ]] # the message alone
    n=$(wc -l <"$T/cut/s-7.part")
    [ "$n" -gt 0 ]
    [ "$n" -lt 100 ]
    cp "$D/s-0.tar" "$T/s-7.tar"
    run pipelines/caption-shards.sh data/nano "$T/cut" "$T/s-7.tar" -- -n 6
    [ "$status" -eq 0 ]
    [ "$(wc -l <"$T/cut/s-7.jsonl")" -eq 100 ]
    touch -d '2100-01-01' "$T/s-7.tar"
    run pipelines/caption-shards.sh data/nano "$T/cut" "$T/s-7.tar" -- -n 6
    [[ $output == *"is newer than its captions: done again"* ]]
    [ "$(wc -l <"$T/cut/captions.jsonl")" -eq 100 ]
}

@test "caption-shards.sh: what cannot be written is named" {
    run_one() { run --separate-stderr pipelines/caption-shards.sh data/nano "$T/out" "$D/s-0.tar" -- -n 6; }
    mkdir "$T/out"
    ln -s /dev/full "$T/out/made-of.new"
    run_one
    [ "$status" -eq 1 ]
    [ "$stderr" = "caption-shards.sh: cannot write '$T/out/made-of': No space left on device" ] || { echo "$stderr"; false; }
    [ -z "$(ls -A "$T/out")" ]
    for f in captions.jsonl results.json; do
        ln -s /dev/full "$T/out/$f.new"
        run_one
        [ "$status" -eq 1 ] || { echo "$f: status $status: $stderr"; false; }
        [[ $stderr == *"No space left on device"*"caption-shards.sh: cannot write '$T/out/$f.new'" ]] || { echo "$stderr"; false; }
        [ ! -e "$T/out/$f" ]
    done
    run_one
    [ "$status" -eq 0 ]
    # The file that one source's captions go to; an option that pg-infer refuses ends it as a full disk does.
    run pipelines/caption-shards.sh data/nano "$T/other" "$D/s-0.tar" -- --no-such
    [[ $output == *"'$D/s-0.tar' is not done: status 2; its captions go to '$T/other/s-0.part'"* ]] || { echo "$output"; false; }
}
