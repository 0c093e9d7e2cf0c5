#!/usr/bin/env bats
# The stream between tools and between languages: cuts at every byte, slow pipes, unknown keys, msgpack-numpy, full disks.
# shellcheck disable=SC2154 # bats sets stderr
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
    T=$BATS_TEST_TMPDIR
    ONE=$T/one.pgs
    # The example of pg-stream(5), so that the page cannot be wrong.
    hex=$(awk '/^\.Sh EXAMPLES/ {on = 1} on && /^\.Ed/ {exit} on && /^ *([0-9a-f][0-9a-f] ?)+$/' man/pg-stream.5)
    # shellcheck disable=SC2059,SC2086
    printf "$(printf '\\x%s' $hex)" >"$ONE"
    SIZE=$(wc -c <"$ONE")
}

needs_python() {
    PY=$(tests/find-python msgpack numpy msgpack_numpy) || skip "no python3 with msgpack, numpy and msgpack-numpy"
}

# cuts STEP COMMAND...: the stream cut at every STEPth byte gives status 3 and a message, and never a whole stream
cuts() {
    local step=$1 i rc
    shift
    for ((i = 0; i < SIZE; i += step)); do
        rc=0
        head -c "$i" "$ONE" | "$@" >"$T/out" 2>"$T/err" || rc=$?
        [ "$rc" -eq 3 ] || { echo "$* cut at $i: status $rc"; cat "$T/err"; false; }
        [ -s "$T/err" ] || { echo "$* cut at $i: no message"; false; }
        if grep -q pg-end "$T/out"; then echo "$* cut at $i: wrote an end record"; false; fi
    done
}

@test "the example of pg-stream(5) is a stream" {
    [ "$SIZE" -eq 71 ]
    run --separate-stderr "$B/pg-render" -f jsonl <"$ONE"
    [ "$status" -eq 0 ]
    [ "$output" = '{"id":"a","suffix":"a cat"}' ]
    run --separate-stderr bash -c "'$B/pg-tokenize' -q -m tests/golden/text/small-a.model <'$ONE' | '$B/pg-render' -f jsonl"
    [[ $output == '{"id":"a","suffix":"a cat","tokens":['*'"mask_ar":['*'"mask_loss":['*'"mask_input":['* ]]
}

@test "cut at every byte: pg-resize" { cuts 1 "$B/pg-resize"; }
@test "cut at every byte: pg-tokenize" { cuts 1 "$B/pg-tokenize" -m tests/golden/text/small-a.model; }
@test "cut at every byte: pg-render" { cuts 1 "$B/pg-render" -f jsonl; }
@test "cut at every seventh byte: pg-infer" { cuts 7 "$B/pg-infer" -m tests/golden/model/pg1.npz; }
@test "cut at every seventh byte: pg-train" {
    cuts 7 "$B/pg-train" -m tests/golden/model/pg1.npz -o "$T/out.npz"
    [ ! -e "$T/out.npz" ]
}

@test "a cut goes through a whole pipeline" {
    head -c 60 "$ONE" >"$T/cut"
    run bash -c "'$B/pg-resize' <'$T/cut' 2>'$T/err1' | '$B/pg-tokenize' -q -m tests/golden/text/small-a.model 2>'$T/err2' |
        '$B/pg-render' >'$T/out' 2>'$T/err3'; echo \${PIPESTATUS[*]}"
    [ "$output" = "3 3 3" ] || { echo "$output"; cat "$T"/err?; false; }
}

@test "what follows the end record, another version, another kind, no stream: status 3" {
    { cat "$ONE"; printf x; } >"$T/more"
    sed 's/pg-stream\x92\x01/pg-stream\x92\x02/' "$ONE" >"$T/version"
    sed 's/pg-end\x01/pg-end\x02/' "$ONE" >"$T/count"
    sed 's/\x82\xa2id/\x82\xc4id/' "$ONE" >"$T/key"
    sed 's/suffix/pg-xyz/' "$ONE" >"$T/reserved"
    echo "hello, world" >"$T/text"
    for f in more version count key reserved text; do
        cmp -s "$ONE" "$T/$f" && { echo "$f is not changed"; false; }
        run bash -c "'$B/pg-resize' <'$T/$f' 2>&1 >/dev/null | cat; exit \${PIPESTATUS[0]}"
        [ "$status" -eq 3 ] || { echo "$f: $status $output"; false; }
        [ -n "$output" ]
    done
    run bash -c "cat '$ONE' '$ONE' | '$B/pg-resize' 2>&1 >/dev/null"
    [ "$status" -eq 3 ]
    [[ $output == *"after the end record (streams are joined by pg-fetch a.pgs b.pgs"* ]]
    run bash -c "echo '{}' | '$B/pg-resize' 2>&1 >/dev/null"
    [ "$status" -eq 3 ]
    [[ $output == *"not a pg stream"*JSON* ]]
    run bash -c "'$B/pg-resize' <'$T/version' 2>&1 >/dev/null"
    [[ $output == *2.0*1.* ]] || { echo "$output"; false; }
}

@test "a later minor version is read, and the writer's own is written" {
    sed 's/pg-stream\x92\x01\x00/pg-stream\x92\x01\x07/' "$ONE" >"$T/minor"
    cmp -s "$ONE" "$T/minor" && false
    "$B/pg-tokenize" -q -m tests/golden/text/small-a.model <"$T/minor" >"$T/out"
    head -c 14 "$T/out" | tail -c 3 | cmp - <(printf '\x92\x01\x00')
}

@test "byte by byte through a slow pipe gives the same bytes" {
    "$B/pg-fetch" tests/golden/image/png-rgb8-1x1.png >"$T/in"
    "$B/pg-resize" -s 3 <"$T/in" >"$T/want"
    dd if="$T/in" bs=1 status=none | "$B/pg-resize" -s 3 | dd bs=1 status=none >"$T/got"
    cmp "$T/want" "$T/got"
}

@test "what is done goes on before more is waited for" {
    mkfifo "$T/fifo"
    "$B/pg-tokenize" -q -m tests/golden/text/small-a.model <"$T/fifo" >"$T/out" &
    local pid=$! i
    exec 7>"$T/fifo"
    head -c 54 "$ONE" >&7
    for ((i = 0; i < 50; i++)); do
        if grep -q mask_input "$T/out"; then break; fi
        sleep 0.1
    done
    [ "$i" -lt 50 ]
    tail -c 17 "$ONE" >&7
    exec 7>&-
    wait "$pid"
}

@test "a full disk gives status 1" {
    run bash -c "'$B/pg-fetch' tests/golden/image/png-rgb8.png >/dev/full"
    [ "$status" -eq 1 ]
    for c in "pg-resize" "pg-tokenize -m tests/golden/text/small-a.model" "pg-render -f jsonl" "pg-infer -m tests/golden/model/pg1.npz"; do
        run bash -c "'$B'/$c <'$ONE' >/dev/full"
        [ "$status" -eq 1 ] || { echo "$c: $status $output"; false; }
        [[ $output == *"o space"* ]] || { echo "$c: $output"; false; }
    done
}

@test "an error passes later tools untouched, status 4 in each" {
    printf 'no image' >"$T/bad.png"
    "$B/pg-fetch" "$T/bad.png" tests/golden/image/png-rgb8-1x1.png >"$T/in"
    run bash -c "'$B/pg-resize' -s 2 <'$T/in' 2>/dev/null | '$B/pg-tokenize' -q -m tests/golden/text/small-a.model | '$B/pg-render' -f jsonl >'$T/out'
        echo \${PIPESTATUS[*]}"
    [ "$output" = "4 4 4" ] || { echo "$output"; false; }
    [ "$(grep -c '"error":{"tool":"pg-resize","message":' "$T/out")" -eq 1 ]
    [ "$(grep -c '"tokens"' "$T/out")" -eq 1 ]
}

@test "python reads what the tools write, as arrays" {
    needs_python
    "$B/pg-fetch" tests/golden/image/png-rgb8.png tests/golden/image/bad/bad-empty.png | { "$B/pg-resize" -s 6 2>/dev/null || [ $? -eq 4 ]; } >"$T/in"
    run --separate-stderr bash -c "$PY tests/stream/interop.py show <'$T/in'"
    [ "$status" -eq 0 ] || { echo "$stderr"; false; }
    [ "${lines[0]}" = "examples pg-fetch|pg-resize" ]
    [[ ${lines[1]} == id=*png-rgb8.png*" image="*"B pixels=<f4[6,6,3] width="*" height="* ]] || { echo "$output"; false; }
    [[ ${lines[2]} == *" error="* ]] || { echo "$output"; false; }
}

@test "an id that is an integer is that integer everywhere, not the record's place" {
    local head='\x83\xa9pg-stream\x92\x01\x00\xa4kind\xa8examples\xa5chain\x90' end='\x82\xa6pg-end\x02\xa6errors\x00'
    local one='\x83\xa2id\x0a\xa7caption\xa3cat\xa6suffix\xa3cat' two='\x83\xa2id\xcd\x01\x00\xa7caption\xa3dog\xa6suffix\xa3dog'
    printf "%b" "$head$one$two$end" >"$T/a.pgs"
    printf "%b" "$head$two$one$end" >"$T/b.pgs"
    [ "$("$B/pg-render" -f captions "$T/a.pgs")" = $'10\tcat\n256\tdog' ]
    [ "$("$B/pg-fetch" "$T/a.pgs" | "$B/pg-render" -f jsonl)" = "$("$B/pg-render" -f jsonl "$T/a.pgs")" ]
    "$B/pg-score" -q --results "$T/results.json" "$T/b.pgs"
    [[ $(<"$T/results.json") == *'"image_id":256,"caption":"dog"'*'"image_id":10,"caption":"cat"'* ]] || { cat "$T/results.json"; false; }
    "$B/pg-score" -q --compare "$T/a.pgs" "$T/b.pgs" # by place, references would differ
    run bash -c "'$B/pg-resize' <'$T/b.pgs' 2>&1 >/dev/null"
    [[ $output == *"cannot decode '256'"*"cannot decode '10'"* ]] || { echo "$output"; false; }
}

@test "tools accept what python writes; unknown keys pass in place with their bytes" {
    needs_python
    "$PY" tests/stream/interop.py write >"$T/in"
    run --separate-stderr bash -c "'$B/pg-render' -f jsonl <'$T/in'"
    [ "$status" -eq 0 ] || { echo "$stderr"; false; }
    [[ ${lines[0]} == '{"zeta":1,"id":"a","pixels":{"tensor":"<f4","shape":[4,4,3]},"alpha":{"bytes":2},"caption":"grey ramp","ints":[0,-1,-33,127,128,65535,65536,4294967296,9223372036854775808,-9223372036854775808],"nothing":null}' ]] ||
        { echo "${lines[0]}"; false; }
    [ "${lines[1]}" = "{}" ]
    "$PY" tests/stream/interop.py show <"$T/in" | tail -n +2 >"$T/before"
    "$B/pg-tokenize" -q -m tests/golden/text/small-a.model <"$T/in" >"$T/mid"
    "$PY" tests/stream/interop.py show <"$T/mid" | tail -n +2 >"$T/after"
    sed -E 's/ ?tokens=.*//' "$T/after" | diff "$T/before" -
    grep -q "$(printf 'mine\x81\xa4deep\x93\xc0\xc3')" "$T/mid"
    run bash -c "'$B/pg-resize' -s 2 <'$T/in' 2>&1 >'$T/out'"
    [ "$status" -eq 4 ] # no images there
    "$PY" tests/stream/interop.py show <"$T/out" >"$T/shown"
    [ "$(grep -c 'error=' "$T/shown")" -eq 3 ]
}

@test "what is no stream but JSON or a picture is named, with what makes a stream of it" {
    for f in tests/golden/image/png-rgb8.png tests/golden/image/jpg-420.jpg; do
        run bash -c "'$B/pg-resize' <'$f' | cat"
        [[ $output == *"is not a pg stream: it does not begin with a header, but as PNG or JPEG does, which pg-fetch makes a stream of" ]]
    done
    run bash -c "echo '{\"image\":\"x.png\"}' | '$B/pg-resize' | cat"
    [[ $output == *"is not a pg stream: it does not begin with a header, but as JSON does, which pg-fetch makes a stream of" ]]
}
