#!/usr/bin/env bats
# Calls that fail, bad surroundings, kills: samples of what `make faults` and `make kills` run in full. tests/TRUST.md has what they found.
bats_require_minimum_version 1.5.0
setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    export PG_BUILD=${PG_BUILD:-build} PYTHONDONTWRITEBYTECODE=1
    [ -z "${PG_COVERAGE:-}" ] || skip 'the faults would hit what counts the lines'
    PY=$(tests/find-python msgpack) || skip 'no python3-msgpack'
    command -v spm_train >/dev/null || skip 'no spm_train (package sentencepiece)'
    [ -f "$PG_BUILD/tests/faults/inject.so" ] || make -s BUILD="$PG_BUILD" "$PG_BUILD/tests/faults/inject.so"
}

@test "calls that fail: no crash, no hang, no wrong output with status 0, nothing partial or left over" {
    "$PY" tests/faults/faults.py --each 4
}

@test "pg-serve while calls fail: it answers the right caption or an error, and goes on" {
    "$PY" tests/faults/serve.py --each 1
}

@test "closed descriptors, storms of signals, slow pipes, full disks, read-only folders, kills at every stage" {
    "$PY" tests/faults/surroundings.py
}

@test "training killed at random moments, and on a full disk: resumed to the same bits" {
    "$PY" tests/faults/kills.py 3
}
