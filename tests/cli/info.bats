#!/usr/bin/env bats
# pg-info on the machine, the golden models, streams whole and cut, and files that are neither.
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
    G=tests/golden/model
    I=tests/golden/image
    T=$BATS_TEST_TMPDIR
}

# has LABEL TEXT: a line of $output is that label with exactly that text
has() {
    grep -qE "^$1 +$2\$" <<<"$output" || { echo "no '$1 $2' in:"; echo "$output"; false; }
}

@test "without operands: the machine" {
    run --separate-stderr "$B/pg-info" -j 3
    [ "$status" -eq 0 ]
    has threads 3
    has kernels '(avx512|avx2|neon|scalar)'
    has 'matrix products' 'BLIS.*'
    has memory '[0-9.]+ [A-Z]iB'
    case $output in # as the man pages say
    *"kernels         neon"*) n='none, float32 instead'; has 'bf16 products' "$n"; has 'int8 products' "$n" ;;
    *"kernels         avx"*) has 'bf16 products' '(AVX512-BF16|none, float32 instead)'; has 'int8 products' 'AVX.*' ;;
    esac
    for isa in neon avx2 dotprod sve i8mm; do grep -q "$isa" man/pg-info.1; done
    output=$(PG_CPU_DISABLE=avx512,avx2,neon "$B/pg-info")
    has kernels scalar
    has 'bf16 products' 'none, float32 instead'
    has 'int8 products' 'none, float32 instead'
}

@test "pg1: family, sizes, types, counts" {
    run --separate-stderr "$B/pg-info" $G/pg1.npz
    [ "$status" -eq 0 ]
    [ -z "$stderr" ]
    has family PaliGemma
    has format npz
    has image '56x56, patches of 14, 16 image tokens'
    has 'image tower' 'width 24, depth 2, mlp 40, heads 3 of 8'
    has decoder 'width 32, depth 3, mlp 52, heads 4 of 14, key heads 1'
    has vocabulary '320 tokens \(320 rows\)'
    has types 'f32 \(32\)'
    has tensors 32
    has parameters 63208
    has bytes 252832
    has weights '246.9 KiB.*'
    # 63208 values and gradients, and 8 times 144 rows of a few thousand floats: MiB, not GiB
    has 'train all' '1[0-9]\.[0-9] MiB more, about: .*'
}

@test "pg1 as a safetensors folder, and in mixed types" {
    run --separate-stderr "$B/pg-info" $G/pg1-hf
    [ "$status" -eq 0 ]
    has family PaliGemma
    has format safetensors
    has vocabulary '320 tokens \(384 rows\)'
    has parameters 63208
    run --separate-stderr "$B/pg-info" $G/pg1.mixed.npz
    has types 'f32 \(3\), f16 \(29\)'
}

@test "pg2, and several operands at once" {
    run --separate-stderr "$B/pg-info" $G/pg2.npz $G/pg1.npz
    [ "$status" -eq 0 ]
    has family 'PaliGemma 2'
    has family PaliGemma
    has image '40x40, patches of 8, 25 image tokens'
    has parameters 53480
}

@test "--tensors lists every tensor" {
    run --separate-stderr "$B/pg-info" --tensors $G/pg1.npz
    [ "$status" -eq 0 ]
    grep -qxF 'params/img/embedding/kernel f32 [14,14,3,24]' <<<"$output"
    [ "$(grep -cE ' f32 \[[0-9,]+\]$' <<<"$output")" -eq 32 ]
    run "$B/pg-info" --tensors
    [ "$status" -eq 2 ]
}

@test "a stream: chain, kind, records, errors, keys" {
    "$B/pg-fetch" $I/png-rgb8.png $I/jpg-420.jpg >"$T/one.pgs"
    "$B/pg-resize" -s 16 <"$T/one.pgs" >"$T/two.pgs"
    run --separate-stderr "$B/pg-info" "$T/two.pgs"
    [ "$status" -eq 0 ]
    has kind examples
    has chain "pg-fetch $I/png-rgb8.png $I/jpg-420.jpg +\(0.1.0\)"
    has '' 'pg-resize -s 16 +\(0.1.0\)'
    has records 2
    has 'with errors' 0
    has keys 'id: str, in 2'
    has '' 'pixels: tensor <f4 \[16,16,3\], in 2'
    cp "$T/two.pgs" "$T/plain"
    cmp <("$B/pg-info" - <"$T/two.pgs" | tail -n +2) <("$B/pg-info" "$T/plain" | tail -n +2)
}

@test "records with errors are counted" {
    "$B/pg-fetch" $I/png-rgb8.png >"$T/in"
    "$B/pg-resize" --max-pixels 10 <"$T/in" >"$T/out.pgs" 2>"$T/err" || [ $? -eq 4 ]
    run --separate-stderr "$B/pg-info" "$T/out.pgs"
    [ "$status" -eq 0 ]
    has records 1
    has 'with errors' 1
    has '' 'error: map, in 1'
}

@test "a cut stream: 3, and what came before the cut" {
    "$B/pg-fetch" $I/png-rgb8.png $I/jpg-420.jpg >"$T/whole.pgs"
    size=$(wc -c <"$T/whole.pgs")
    for cut in 1 200; do
        head -c $((size - cut)) "$T/whole.pgs" >"$T/cut.pgs"
        run --separate-stderr "$B/pg-info" "$T/cut.pgs"
        [ "$status" -eq 3 ]
        has records '[12] before the fault'
        [[ $stderr == *"cut.pgs"* ]]
    done
    run "$B/pg-info" - </dev/null
    [ "$status" -eq 3 ]
}

@test "neither a PaliGemma nor a stream: why, and the status" {
    run --separate-stderr "$B/pg-info" $G/pg1_in.npz
    [ "$status" -eq 1 ]
    [[ $stderr == *"pg1_in.npz"*"not a PaliGemma"*"img/embedding/kernel"* ]]
    for f in g g.npz g.safetensors; do
        printf 'garbage, and no more than that\n' >"$T/$f"
        run --separate-stderr "$B/pg-info" "$T/$f"
        [ "$status" -eq 1 ]
        [[ $stderr == *"$T/$f"* ]]
    done
    printf 'garbage\n' >"$T/g.pgs"
    run --separate-stderr "$B/pg-info" "$T/g.pgs"
    [ "$status" -eq 3 ]
    run --separate-stderr "$B/pg-info" "$T/none.pgs" $G/pg1.npz
    [ "$status" -eq 1 ]
    [[ $stderr == *"none.pgs"* ]]
    has family PaliGemma
}

@test "a full disk is noticed" {
    run bash -c "'$B/pg-info' $G/pg1.npz >/dev/full"
    [ "$status" -eq 1 ]
}

@test "a model's README.md: heading and first paragraph, without YAML and control characters; none: nothing" {
    mkdir "$T/m"
    cp $G/pg1.npz "$T/m/model.npz"
    run --separate-stderr "$B/pg-info" "$T/m"
    [ "$status" -eq 0 ]
    ! grep -q '^about' <<<"$output" || false
    printf -- '---\nlicense: x\n---\n\n# A model\n\nFirst line,\nsecond \033[31mline.\n\nNot this.\n' >"$T/m/README.md"
    for m in "$T/m" "$T/m/model.npz"; do
        run --separate-stderr "$B/pg-info" "$m"
        [ "$status" -eq 0 ]
        has about 'A model'
        has ' ' 'First line,'
        has ' ' 'second \?\[31mline\.'
        ! grep -qE 'license|Not this' <<<"$output" || false
    done
    : >"$T/m/README.md"
    run --separate-stderr "$B/pg-info" "$T/m"
    [ "$status" -eq 0 ]
    ! grep -q '^about' <<<"$output"
}
