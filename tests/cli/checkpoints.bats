#!/usr/bin/env bats
# Odd and broken checkpoints: each is read as it should be, or refused with the reason.
bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    export ODD=$BATS_FILE_TMPDIR G=tests/golden/model
    python=$(tests/find-python numpy) || skip 'no Python with numpy'
    "$python" tests/weights/odd_files.py $G/pg1.npz $G/pg2-hf "$ODD"
}

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
}

sums() {
    "$B/pg-info" --checksums "$1" | grep -E ' [0-9a-f]{8}$'
}

# refused FILE TEXT...: pg-info and pg-convert fail, and say all the texts
refused() {
    local file=$1 tool
    shift
    for tool in info convert; do
        if [ $tool = info ]; then run --separate-stderr "$B/pg-info" "$ODD/$file"; else
            run --separate-stderr "$B/pg-convert" "$ODD/$file" "$BATS_TEST_TMPDIR/out.npz"
            [ ! -e "$BATS_TEST_TMPDIR/out.npz" ]
        fi
        [ "$status" -eq 1 ] || { echo "pg-$tool $file: status $status"; false; }
        for text; do [[ $stderr == *"$text"* ]] || { echo "pg-$tool $file: $stderr"; false; }; done
    done
}

@test "read like the plain file: compressed, layers not stacked, arrays that are not ours" {
    for f in compressed unscanned extra; do
        diff <(sums $G/pg1.npz) <(sums "$ODD/$f.npz") || { echo $f; false; }
    done
    diff <(sums $G/pg2-hf) <(sums "$ODD/st-extra")
    "$B/pg-convert" "$ODD/compressed.npz" "$BATS_TEST_TMPDIR/plain.npz"
    diff <(sums $G/pg1.npz) <(sums "$BATS_TEST_TMPDIR/plain.npz")
}

@test "read like the plain file: Fortran order, big-endian, compressed or not" {
    grep -q "'fortran_order': True" "$ODD/transposed.npz"
    grep -q "'>f2'" "$ODD/big-endian.f16.npz"
    for f in transposed fortran big-endian fortran-big-compressed fortran.f16 big-endian.f16 fortran.bf16; do
        plain=$G/pg1
        [[ $f != *.* ]] || plain+=.${f#*.}
        diff <(sums $plain.npz) <(sums "$ODD/$f.npz") || { echo $f; false; }
        "$B/pg-convert" $plain.npz "$BATS_TEST_TMPDIR/a.npz"
        "$B/pg-convert" "$ODD/$f.npz" "$BATS_TEST_TMPDIR/b.npz"
        cmp "$BATS_TEST_TMPDIR/a.npz" "$BATS_TEST_TMPDIR/b.npz"
        "$B/pg-info" --verify "$ODD/$f.npz" | grep -q '^verified  *0 faults'
    done
    run --separate-stderr env TMPDIR=/nonexistent "$B/pg-info" "$ODD/transposed.npz"
    [ "$status" -eq 1 ]
    [[ $stderr == *img/head/kernel*/nonexistent* ]]
}

@test "refused: types that are no weights" {
    refused double.npz img/head/kernel "'<f8'"
    refused integers.npz img/head/kernel "'<i4'"
    refused st-f64 "'F64'"
    refused st-int8-without-scale weight_scale
}

@test "refused: names and shapes" {
    refused foreign.npz img/Transformer/mine 'no place'
    refused missing.npz img/head/kernel
    refused shape.npz img/head/kernel '(32, 24)' 'expected (24, ?)'
    refused twice.npz img/head/kernel twice
    refused st-twice duplicate
}

@test "refused: cut, damaged, or claiming what cannot be" {
    for cut in 1 1000; do refused cut-$cut.npz cut; done
    refused "$(cd "$ODD" && ls cut-[0-9][0-9][0-9][0-9]*.npz | grep -v cut-1000)" cut
    refused flipped-compressed.npz img/head/kernel
    refused bomb.npz img/head/kernel 'no compression'
    refused st-cut 'outside the file'
    refused st-cut-header 'inside the header'
    refused st-short short
    refused st-header-2-60 1152921504606846976 limit
    refused st-overlap overlap
    refused st-outside 'outside the file'
}

@test "--verify: a flipped bit and a value that is not finite" {
    run "$B/pg-info" --verify $G/pg1.npz $G/pg2-hf "$ODD/compressed.npz"
    [ "$status" -eq 0 ]
    [ "$(grep -c '^verified  *0 faults' <<<"$output")" -eq 3 ]
    "$B/pg-info" "$ODD/flipped.npz"
    run --separate-stderr "$B/pg-info" --verify "$ODD/flipped.npz"
    [ "$status" -eq 1 ]
    [[ $stderr == *"img/head/kernel"*checksum* ]]
    run --separate-stderr "$B/pg-info" --verify "$ODD/nan.npz"
    [ "$status" -eq 1 ]
    [[ $stderr == *"img/head/kernel"*"1 values that are not finite"* ]]
}

@test "a weight that is no number: pg-infer names three records and counts the rest, pg-train blames the weights, not --lr" {
    "$B/tests/model/aux_stream" make pg1 decode >"$BATS_TEST_TMPDIR/in"
    run --separate-stderr bash -c "'$B/pg-infer' -m '$ODD/nan.npz' <'$BATS_TEST_TMPDIR/in' >/dev/null"
    [ "$status" -eq 4 ]
    [ "$(grep -c "^pg-infer: '.*': non-finite logits" <<<"$stderr")" -eq 3 ]
    [[ $stderr == *"the same of 2 more records: non-finite logits"* ]]
    run --separate-stderr bash -c "'$B/tests/train/aux_trainset' make pg1 | '$B/pg-train' -m '$ODD/nan.npz' -o '$BATS_TEST_TMPDIR/o.npz' >/dev/null"
    [ "$status" -eq 1 ]
    [[ $stderr == *"before any weight has changed: weights of '$ODD/nan.npz' are not numbers"* ]]
    [[ $stderr != *--lr* ]]
}

@test "as many key heads as heads: q, k and v are one array in every npz that is written, with the same bytes" {
    "$B/tests/model/aux_stream" make pg1 decode >"$BATS_TEST_TMPDIR/in"
    logprobs() { "$B/pg-infer" -q -m "$1" <"$BATS_TEST_TMPDIR/in" | "$B/pg-render" -f jsonl | grep -o '"caption_tokens".*"logprob":-[0-9]*\.[0-9][0-9][0-9]'; }
    diff <(logprobs $G/pg1.npz) <(logprobs "$ODD/joint.npz") # all its heads have the one k and v that pg1 has
    "$B/pg-convert" "$ODD/joint.npz" "$BATS_TEST_TMPDIR/hf"
    "$B/pg-convert" "$BATS_TEST_TMPDIR/hf" "$BATS_TEST_TMPDIR/back.npz"
    "$B/tests/train/aux_trainset" make pg1 | "$B/pg-train" -q -m "$ODD/joint.npz" -o "$BATS_TEST_TMPDIR/tuned.npz" --train img/head >/dev/null
    diff <(sums "$ODD/joint.npz") <(sums "$BATS_TEST_TMPDIR/back.npz")
    "$(tests/find-python numpy)" - "$ODD/joint.npz" "$BATS_TEST_TMPDIR/back.npz" "$BATS_TEST_TMPDIR/tuned.npz" <<'P'
import sys
import numpy as np
want, back, tuned = map(np.load, sys.argv[1:])
assert set(want.files) == set(back.files) == set(tuned.files), (back.files, tuned.files)
key = "params/llm/layers/attn/qkv_einsum/w"
assert want[key].tobytes() == back[key].tobytes() == tuned[key].tobytes()
P
}
