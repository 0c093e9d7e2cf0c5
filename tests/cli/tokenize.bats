#!/usr/bin/env bats
# pg-tokenize: keys, prefix, cutting, errors. Streams come from and go to Debian's python3-msgpack.
bats_require_minimum_version 1.5.0
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    B=${PG_BUILD:-build}
    M=tests/golden/text/small-a.model
    T=$BATS_TEST_TMPDIR
    PY=$(tests/find-python msgpack) || skip "no python3-msgpack"
}

# make JSON...: a stream of these records
make_stream() {
    "$PY" -c '
import json, msgpack, sys
out = sys.stdout.buffer
out.write(msgpack.packb({"pg-stream": [1, 0], "kind": "examples", "chain": []}))
for a in sys.argv[1:]:
    r = eval(a)
    out.write(msgpack.packb(r))
out.write(msgpack.packb({"pg-end": len(sys.argv) - 1}))' "$@"
}

# show EXPRESSION: evaluated with h the header, r the records, end the end record
show() {
    "$PY" -c '
import msgpack, sys
all = list(msgpack.Unpacker(sys.stdin.buffer, raw=False, strict_map_key=False, unicode_errors="surrogateescape"))
h, r, end = all[0], all[1:-1], all[-1]
print(eval(sys.argv[1]))' "$1"
}

@test "tokens and masks of an example" {
    make_stream '{"id": "a", "suffix": "a dog sits on a bench."}' >"$T/in"
    "$B/pg-tokenize" -m $M <"$T/in" >"$T/out"
    [ "$(show 'r[0]["tokens"]' <"$T/out")" = "[2, 385, 382, 5, 508, 388, 481, 323, 283, 492, 527, 1]" ]
    [ "$(show 'r[0]["mask_ar"] == r[0]["mask_loss"] == [0] * 4 + [1] * 8' <"$T/out")" = True ]
    [ "$(show 'r[0]["mask_input"] == [1] * 12' <"$T/out")" = True ]
    [ "$(show 'h["tokenizer"]["pieces"], h["tokenizer"]["path"][0]' <"$T/out")" = "(620, '/')" ]
}

@test "a tokenizer below a name that is not UTF-8: the header stays one that other programs read" {
    mkdir "$T/caf"$'\xe9'
    cp $M "$T/caf"$'\xe9/tokenizer.model'
    make_stream '{"id": "a"}' | "$B/pg-tokenize" -m "$T/caf"$'\xe9' >"$T/out"
    "$PY" -c 'import msgpack, sys; assert next(msgpack.Unpacker(sys.stdin.buffer))["tokenizer"] == {"pieces": 620}' <"$T/out"
}

@test "the prefix: -p, else the example's, else caption en" {
    make_stream '{"id": "a"}' '{"id": "b", "prefix": "caption de"}' >"$T/in"
    "$B/pg-tokenize" -m $M <"$T/in" >"$T/own"
    "$B/pg-tokenize" -m $M -p 'caption en' <"$T/in" >"$T/one" 2>"$T/err"
    grep -qxF "pg-tokenize: 1 example has a prefix of its own, which --prefix replaces; the first is 'b'" "$T/err"
    "$B/pg-tokenize" -q -m $M -p 'caption en' <"$T/in" 2>&1 >/dev/null | cmp - /dev/null
    "$B/pg-tokenize" -m $M -p 'caption de' <"$T/in" 2>&1 >/dev/null | cmp - /dev/null
    [ "$(show 'r[0]["tokens"] == r[1]["tokens"]' <"$T/own")" = False ]
    [ "$(show 'r[0]["tokens"] == r[1]["tokens"] == [2, 385, 382, 5]' <"$T/one")" = True ]
}

@test "references without suffix give no suffix tokens" {
    make_stream '{"id": "a", "references": ["a dog"]}' >"$T/in"
    [ "$("$B/pg-tokenize" -m $M <"$T/in" | show 'r[0]["tokens"]')" = "[2, 385, 382, 5]" ]
}

@test "a cut example is counted and warned of, the first one named" {
    make_stream '{"id": "long", "suffix": "a dog sits on a bench."}' '{"id": "b", "suffix": ""}' >"$T/in"
    "$B/pg-tokenize" -m $M -l 8 <"$T/in" >"$T/out" 2>"$T/err"
    grep -q "1 of 2 examples were cut to 8 tokens, 1 lost their eos" "$T/err"
    grep -q "'long'" "$T/err"
    [ "$(show '[len(x["tokens"]) for x in r]' <"$T/out")" = "[8, 8]" ]
    [ "$(show 'r[1]["mask_input"]' <"$T/out")" = "[1, 1, 1, 1, 0, 0, 0, 0]" ]
}

@test "suffixes are lower-cased unless --keep-case" {
    make_stream '{"id": "a", "suffix": "A Dog"}' '{"id": "b", "suffix": "a dog"}' >"$T/in"
    "$B/pg-tokenize" -m $M <"$T/in" >"$T/low" 2>"$T/err"
    grep -q -- "--keep-case" "$T/err"
    [ "$(show 'r[0]["tokens"] == r[1]["tokens"]' <"$T/low")" = True ]
    "$B/pg-tokenize" -m $M --keep-case <"$T/in" >"$T/kept" 2>"$T/err"
    [ ! -s "$T/err" ]
    [ "$(show 'r[0]["tokens"] == r[1]["tokens"]' <"$T/kept")" = False ]
}

@test "invalid UTF-8 and a wrong type are error records, others go on, status 4" {
    make_stream '{"id": "a", "suffix": b"\xff".decode("utf-8", "surrogateescape").encode("utf-8", "surrogateescape")}' \
        '{"id": "n", "suffix": 7}' '{"id": "b", "suffix": "a dog"}' >"$T/in"
    run bash -c "'$B/pg-tokenize' -m $M <'$T/in' >'$T/out'"
    [ "$status" -eq 4 ]
    [ "$(show '["error" in x for x in r], ["tokens" in x for x in r]' <"$T/out")" = "([True, True, False], [False, False, True])" ]
    [[ $output == *"'a'"*UTF-8* ]]
}

@test "a prefix on the command line that is not UTF-8 is a usage error" {
    run bash -c "'$B/pg-tokenize' -m tests/golden/text/small-a.model -p $'caf\\xe9' </dev/null"
    [ "$status" -eq 2 ]
    [[ $output == *"--prefix 'caf"*"': not valid UTF-8"* ]]
}

@test "a record with an error passes untouched" {
    make_stream '{"id": "a", "error": {"tool": "pg-resize", "message": "bad"}}' >"$T/in"
    run bash -c "'$B/pg-tokenize' -m $M <'$T/in' >'$T/out'"
    [ "$status" -eq 4 ]
    [ "$(show 'r[0]' <"$T/out")" = "{'id': 'a', 'error': {'tool': 'pg-resize', 'message': 'bad'}}" ]
}

@test "a cut stream is status 3, no model 2, a missing one 1" {
    make_stream '{"id": "a"}' | head -c -1 >"$T/in"
    run bash -c "'$B/pg-tokenize' -m $M <'$T/in' >/dev/null"
    [ "$status" -eq 3 ]
    run bash -c "'$B/pg-tokenize' <'$T/in' >/dev/null"
    [ "$status" -eq 2 ]
    run bash -c "'$B/pg-tokenize' -m '$T/none' <'$T/in' >/dev/null"
    [ "$status" -eq 1 ]
}

@test "a file of weights as the model: the tokenizer beside it" {
    make_stream '{"id": "a", "prefix": "x", "suffix": "y"}' >"$T/in.pgs"
    "$B/pg-tokenize" -q -m data/nano <"$T/in.pgs" >"$T/folder.pgs"
    "$B/pg-tokenize" -q -m data/nano/model.npz <"$T/in.pgs" >"$T/file.pgs"
    cmp <(show 'r' <"$T/folder.pgs") <(show 'r' <"$T/file.pgs")
    [ "$(show 'len(r[0]["tokens"]) > 2' <"$T/file.pgs")" = True ]
    : >"$T/model.npz"
    run "$B/pg-tokenize" -m "$T/model.npz" <"$T/in.pgs"
    [ "$status" -eq 1 ]
    [[ $output == *"no tokenizer.model beside '$T/model.npz'"* ]]
}

@test "a prefix that is a folder's name, as PREFIX of an installation is, is warned of" {
    run --separate-stderr bash -c "'$B/pg-fetch' tests/golden/image/png-rgb8.png | '$B/pg-resize' -s 8 | '$B/pg-tokenize' -m data/nano -p '$BATS_TEST_TMPDIR' >/dev/null"
    [ "$status" -eq 0 ]
    [[ $stderr == *"the prefix '$BATS_TEST_TMPDIR' is the name of a folder"* ]]
}
