#!/usr/bin/env bats
# pg-infer on the golden models: the right tokens in the right order, broken records, tokenizers, batches that do not wait.
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
    A=$B/tests/model/aux_stream
    G=tests/golden/model
    T=$BATS_TEST_TMPDIR
}

# A tokenizer with as many pieces as pg1 has tokens.
tokenizer() {
    command -v spm_train >/dev/null || skip "no spm_train (package sentencepiece)"
    cat man/*.[157] >"$T/text"
    spm_train --input="$T/text" --model_prefix="$T/t" --vocab_size=320 --model_type=bpe --pad_id=0 --eos_id=1 --bos_id=2 \
        --unk_id=3 --add_dummy_prefix=false 2>"$T/spm.log" || skip "spm_train failed: $(tail -n 1 "$T/spm.log")"
}

@test "greedy captions are the oracle's, for both families, at any batch and number of threads" {
    for m in pg1 pg2; do
        "$A" make $m decode >"$T/in"
        for o in "" "-b 1" "-b 2 -j 1" "-b 5 -j 2"; do
            # shellcheck disable=SC2086
            "$B/pg-infer" -m $G/$m.npz -n 12 $o <"$T/in" >"$T/out"
            "$A" check $m greedy <"$T/out"
        done
    done
}

@test "safetensors folders give the same captions" {
    for m in pg1 pg2; do
        "$A" make $m decode | "$B/pg-infer" -m $G/$m-hf -n 12 | "$A" check $m greedy
    done
}

@test "captions cut by -n are marked, counted and warned of" {
    "$A" make pg1 decode >"$T/in"
    run --separate-stderr bash -c "'$B/pg-infer' -m $G/pg1.npz -n 4 <'$T/in' >'$T/out'"
    [ "$status" -eq 0 ]
    "$A" check pg1 greedy_max4 <"$T/out"
    cut=$("$A" show <"$T/out" | grep -c 'truncated=true')
    [ "$cut" -gt 0 ]
    [[ $stderr == *"$cut caption"*"cut at 4 tokens"* ]]
}

@test "--score-only gives the suffix's log-probability and no caption" {
    for m in pg1 pg2; do
        "$A" make $m caption | "$B/pg-infer" -m $G/$m.npz --score-only >"$T/out"
        "$A" check $m caption <"$T/out"
        run bash -c "'$A' show <'$T/out'"
        [[ $output != *caption* ]]
    done
    run bash -c "'$A' make pg1 decode | '$B/pg-infer' -m $G/pg1.npz --score-only 2>/dev/null | '$A' show; exit \${PIPESTATUS[1]}"
    [ "$status" -eq 4 ]
    [[ $output == *"no suffix to score"* ]]
}

@test "broken records get errors, keep their places, and harm nobody; status 4" {
    "$A" make pg1 broken >"$T/in"
    run --separate-stderr bash -c "'$B/pg-infer' -m $G/pg1.npz -n 12 <'$T/in' >'$T/out'"
    [ "$status" -eq 4 ]
    "$A" show <"$T/out" >"$T/shown"
    [ "$(grep -c . "$T/shown")" -eq 9 ]
    [ "$(grep -c error= "$T/shown")" -eq 7 ]
    [ "$(sed -E 's/^id="([^"]*)".*/\1/' "$T/shown" | tr '\n' ' ')" = "r0 r1 r2 r3 r4 r5 r6 r7 r8 " ]
    grep -q '^id="r1".*error=pg-resize: no such picture' "$T/shown"
    grep -q '^id="r2".*pixels are 28x28, the model wants 56x56: pg-resize -s 56' "$T/shown"
    grep -q '^id="r3".*token 9999 is outside' "$T/shown"
    grep -q "^id=\"r4\".*no 'tokens'.*pg-tokenize" "$T/shown"
    grep -q '^id="r5".*padding' "$T/shown"
    grep -q "^id=\"r6\".*no 'pixels'.*pg-resize" "$T/shown"
    grep -q "^id=\"r7\".*'mask_ar' has 2 values" "$T/shown"
    grep -q '^id="r0".*caption_tokens=' "$T/shown"
    grep -q '^id="r8".*caption_tokens=' "$T/shown"
}

@test "the tokenizer is found beside the weights, by option, or in the header; without one a warning" {
    tokenizer
    "$A" make pg1 decode >"$T/in"
    run --separate-stderr bash -c "'$B/pg-infer' -m $G/pg1.npz <'$T/in' | '$A' show"
    [[ $stderr == *"no tokenizer"* ]]
    [[ $output != *caption=* ]]
    "$B/pg-infer" -m $G/pg1.npz --tokenizer "$T/t.model" <"$T/in" >"$T/by-option"
    [ "$("$A" show <"$T/by-option" | grep -c caption=)" -eq 5 ]
    mkdir "$T/folder"
    cp $G/pg1.npz "$T/folder/"
    cp "$T/t.model" "$T/folder/tokenizer.model"
    for m in "$T/folder" "$T/folder/pg1.npz"; do
        "$B/pg-infer" -m "$m" <"$T/in" >"$T/beside"
        cmp <("$A" show <"$T/by-option") <("$A" show <"$T/beside")
    done
    "$A" make pg1 decode "$T/t.model" 320 | "$B/pg-infer" -m $G/pg1.npz >"$T/header"
    cmp <("$A" show <"$T/by-option") <("$A" show <"$T/header")
}

@test "the tokenizer of another model is refused with both numbers" {
    "$A" make pg1 decode >"$T/in"
    run --separate-stderr bash -c "'$B/pg-infer' -m $G/pg1.npz --tokenizer tests/golden/text/small-a.model <'$T/in' >'$T/out'"
    [ "$status" -eq 1 ]
    [[ $stderr == *620*320* ]]
    run --separate-stderr bash -c "'$A' make pg1 decode /none 700 | '$B/pg-infer' -m $G/pg1.npz >'$T/out'"
    [ "$status" -eq 1 ]
    [[ $stderr == *700*320* ]]
}

@test "--partial tells the caption as it grows, before the record itself" {
    tokenizer
    "$A" make pg1 decode | "$B/pg-infer" -m $G/pg1.npz -n 12 -b 1 --partial --tokenizer "$T/t.model" >"$T/out"
    "$A" check pg1 greedy <"$T/out"
    "$A" show <"$T/out" >"$T/shown"
    last=$(grep '^id="r0" partial=' "$T/shown" | tail -n 1 | sed 's/.* partial=//')
    [ -n "$last" ]
    grep -qF "id=\"r0\" caption=$last caption_tokens=" "$T/shown"
    [ "$(grep -n '^id="r0"' "$T/shown" | tail -n 1 | cut -d: -f1)" -lt "$(grep -n '^id="r1"' "$T/shown" | head -n 1 | cut -d: -f1)" ]
}

@test "a batch that is not full does not wait for more" {
    "$A" make pg1 decode >"$T/in"
    size=$(wc -c <"$T/in")
    mkfifo "$T/fifo"
    "$B/pg-infer" -m $G/pg1.npz -n 12 -b 64 <"$T/fifo" >"$T/out" 2>"$T/log" &
    pid=$!
    exec 7>"$T/fifo"
    head -c $((size - 1)) "$T/in" >&7
    for _ in $(seq 100); do
        [ "$(wc -c <"$T/out")" -gt 1000 ] && break
        sleep 0.1
    done
    got=$(wc -c <"$T/out")
    tail -c 1 "$T/in" >&7
    exec 7>&-
    wait $pid
    [ "$got" -gt 1000 ]
    "$A" check pg1 greedy <"$T/out"
}

@test "beam search is the reference's, at any batch and number of threads" {
    for m in pg1 pg2; do
        "$A" make $m decode >"$T/in"
        for o in "" "-b 1" "-b 2 -j 1" "-b 5 -j 3"; do
            # shellcheck disable=SC2086
            "$B/pg-infer" -m $G/$m.npz -n 12 --beam 2 $o <"$T/in" | "$A" check $m beam2
            # shellcheck disable=SC2086
            "$B/pg-infer" -m $G/$m.npz -n 12 --beam 4 $o <"$T/in" | "$A" check $m beam4
        done
        "$B/pg-infer" -m $G/$m-hf -n 4 --beam 2 <"$T/in" | "$A" check $m beam2_max4
    done
}

@test "--final-softcap scores as the reference's decoder does" {
    "$A" make pg2 decode >"$T/in"
    "$B/pg-infer" -m $G/pg2.npz -n 12 --final-softcap 30 <"$T/in" | "$A" check pg2 cap30_greedy
    "$B/pg-infer" -m $G/pg2.npz -n 12 --final-softcap 30 --beam 4 <"$T/in" | "$A" check pg2 cap30_beam4
    run bash -c "'$B/pg-infer' -m $G/pg2.npz -n 12 --beam 4 <'$T/in' | '$A' check pg2 cap30_beam4"
    [ "$status" -ne 0 ]
}

@test "samples depend on the seed and the record alone, and never on rows beyond the tokens" {
    "$A" make pg1 decode >"$T/in"
    sample() { "$B/pg-infer" -q -m $G/pg1.npz -n 12 -t 1.3 --top-p 0.95 "$@" 2>/dev/null | "$A" show; }
    sample --seed 5 <"$T/in" >"$T/base"
    [ "$(grep -c caption_tokens "$T/base")" -eq 5 ]
    for o in "-b 1" "-b 2 -j 1" "-b 3 -j 3"; do
        # shellcheck disable=SC2086
        sample --seed 5 $o <"$T/in" | diff "$T/base" -
    done
    # The HF file has 64 more rows, all 7.0, far likelier than any token.
    "$B/pg-infer" -q -m $G/pg1-hf -n 12 -t 1.3 --top-p 0.95 --seed 5 <"$T/in" 2>/dev/null | "$A" show | sed 's/ logprob=.*//' | diff <(sed 's/ logprob=.*//' "$T/base") -
    for seed in 6 7 8; do sample --seed $seed <"$T/in"; done >"$T/others"
    [ "$(sort -u "$T/base" "$T/others" | wc -l)" -gt 10 ]
    # --seed 0 is the default; another order of the records changes nothing.
    sample --seed 0 <"$T/in" | diff <(sample <"$T/in") -
    "$A" make pg1 backwards | sample --seed 5 | sort | diff <(sort "$T/base") -
    # Nor does the width in which the id is written, str 8 or bin 8.
    LC_ALL=C sed 's/\xa2id\xa2r/\xa2id\xd9\x02r/g' "$T/in" | sample --seed 5 | diff "$T/base" -
    LC_ALL=C sed 's/\xa2id\xa2r/\xa2id\xc4\x02r/g' "$T/in" | sample --seed 5 >"$T/bin"
    diff <(sed 's/.* caption_tokens/caption_tokens/' "$T/base") <(sed 's/.* caption_tokens/caption_tokens/' "$T/bin")
    # A nil id counts as none: the place tells then, so equal records differ.
    LC_ALL=C sed 's/\xa2id\xa2r[0-9]/\xa2id\xc0/g' "$T/in" | sample --seed 5 >"$T/nil"
    LC_ALL=C sed 's/\xa2id\xa2r[0-9]/\xa2ix\xc0/g' "$T/in" | sample --seed 5 | diff <(sed 's/.* caption_tokens/caption_tokens/' "$T/nil") <(sed 's/.* caption_tokens/caption_tokens/' -)
}

@test "--best-of is at least as likely as a single sample" {
    "$A" make pg1 decode >"$T/in"
    logprobs() { "$B/pg-infer" -q -m $G/pg1.npz -n 12 --seed 3 "$@" <"$T/in" 2>/dev/null | "$A" show | sed -n 's/.*logprob=\([-0-9.]*\).*/\1/p'; }
    paste <(logprobs -t 1) <(logprobs --best-of 8) <(logprobs -t 1 --best-of 8 -b 2) >"$T/pairs"
    [ "$(wc -l <"$T/pairs")" -eq 5 ]
    awk '$2 < $1 - 1e-4 || $2 - $3 > 1e-4 || $3 - $2 > 1e-4 { exit 1 } $2 > $1 + 1e-3 { more = 1 } END { exit !more }' "$T/pairs"
}

@test "the partial texts of a kept stream pass other tools untouched, and nothing learns from them" {
    tokenizer
    "$B/tests/train/aux_trainset" make pg1 | "$B/pg-infer" -q -m $G/pg1.npz -n 12 -b 1 --partial --tokenizer "$T/t.model" >"$T/out"
    "$A" show <"$T/out" | grep partial= >"$T/want"
    [ "$(wc -l <"$T/want")" -gt 3 ]
    "$B/pg-infer" -q -m $G/pg1.npz -n 12 <"$T/out" 2>/dev/null | "$A" show | grep partial= | diff "$T/want" -
    "$B/pg-tokenize" -q -m tests/golden/text/small-a.model <"$T/out" | "$A" show | grep partial= | diff "$T/want" -
    { "$B/pg-resize" -q <"$T/out" 2>"$T/err" || [ $? -eq 4 ]; } | "$A" show | grep partial= | diff "$T/want" -
    run --separate-stderr bash -c "'$B/pg-train' -m $G/pg1.npz -o '$T/o.npz' --steps 1 <'$T/out' >/dev/null"
    [[ $stderr != *'left out'* ]] || { echo "$stderr"; false; }
}

@test "--partial works with samples, and with beams tells the likeliest one" {
    tokenizer
    "$A" make pg1 decode >"$T/in"
    for o in "-t 0.8" "--beam 3"; do
        # shellcheck disable=SC2086
        "$B/pg-infer" -q -m $G/pg1.npz -n 12 --tokenizer "$T/t.model" $o <"$T/in" 2>/dev/null | "$A" show >"$T/plain"
        # shellcheck disable=SC2086
        "$B/pg-infer" -q -m $G/pg1.npz -n 12 --tokenizer "$T/t.model" $o --partial <"$T/in" 2>/dev/null | "$A" show >"$T/shown"
        [ "$(grep -c 'partial=' "$T/shown")" -gt 5 ]
        grep -v partial= "$T/shown" | diff "$T/plain" -
    done
}

@test "records leave in the order they came, however long their captions are" {
    "$A" make pg1 many >"$T/in"
    for o in "-b 3" "-b 8" "-b 4 --beam 2" "-b 2 -t 1.5"; do
        # shellcheck disable=SC2086
        "$B/pg-infer" -q -m $G/pg1.npz -n 12 $o <"$T/in" 2>/dev/null | "$A" show >"$T/shown"
        [ "$(grep -c caption_tokens "$T/shown")" -eq 60 ]
        cut -d' ' -f1 "$T/shown" | diff <(for i in $(seq 0 59); do echo "id=\"r$i\""; done) -
    done
    "$B/pg-infer" -q -m $G/pg1.npz -n 12 -b 3 <"$T/in" 2>/dev/null | "$A" show | sed 's/^id="[^"]*"//; s/ logprob=.*//' >"$T/a"
    for i in 0 1 2 3 4; do [ "$(sed -n "$((i + 1))~5p" "$T/a" | sort -u | wc -l)" -eq 1 ]; done
}

@test "options that exclude each other, and those of later versions, are usage errors" {
    for o in "--beam 2 -t 1" "--beam 2 --best-of 2" "--beam 2 --seed 1" "--beam 2 --top-p 0.5" "--top-p 0.9" "--seed 1" "--best-of 2 --partial" \
        "--score-only --beam 2" "--score-only -n 5" "--features -n 5" "--score-only -t 1" "--score-only --best-of 2" "--score-only --final-softcap 30" "--beam 0" "--beam 65" "-t 0" \
        "-t -1" "-t nan" "-t 1 --top-p 0" "-t 1 --top-p 1.1" "-t 1 --seed x" "-t 1 --seed -1" "--best-of 0" "--final-softcap 0" \
        "--dtype x" "-n 0" "-b 0" "-n x" "--partial --score-only" "more"; do
        # shellcheck disable=SC2086
        run "$B/pg-infer" -m $G/pg1.npz $o </dev/null
        [ "$status" -eq 2 ] || { echo "$o: $status"; false; }
    done
    run "$B/pg-infer" </dev/null
    [ "$status" -eq 2 ]
    [[ $output == *"-m"* ]]
}

@test "bf16 and int8: the captions of the exact arithmetic, log-probabilities close to it" {
    for d in bf16 int8; do
        "$A" make pg1 decode | "$B/pg-infer" -m $G/pg1.npz --dtype $d -j 1 >"$T/one"
        "$A" make pg1 decode | "$B/pg-infer" -m $G/pg1.npz --dtype $d -j 3 >"$T/three"
        "$A" make pg1 decode | "$B/pg-infer" -m $G/pg1.npz >"$T/f32"
        diff <("$A" show <"$T/one") <("$A" show <"$T/three")
        diff <("$A" show <"$T/one" | sed 's/logprob=.*//') <("$A" show <"$T/f32" | sed 's/logprob=.*//')
    done
}

@test "a model that is not there fails with its name" {
    "$A" make pg1 decode >"$T/in"
    run --separate-stderr bash -c "'$B/pg-infer' -m $T/none.npz <'$T/in' >'$T/out'"
    [ "$status" -eq 1 ]
    [[ $stderr == *none.npz* ]]
}

@test "a cut stream fails with 3" {
    "$A" make pg1 decode >"$T/in"
    head -c 60000 "$T/in" >"$T/cut"
    run bash -c "'$B/pg-infer' -m $G/pg1.npz <'$T/cut' >'$T/out'"
    [ "$status" -eq 3 ]
}

# records MASK_AR MASK_LOSS: one record of pg1's size whose four text tokens have these masks
records() {
    "$PY" - "$1" "$2" <<'P'
import sys, msgpack, msgpack_numpy, numpy
ar, loss = ([int(c) for c in a] for a in sys.argv[1:])
out = sys.stdout.buffer
out.write(msgpack.packb({"pg-stream": [1, 0], "kind": "examples", "chain": []}))
out.write(msgpack.packb({"id": "odd", "pixels": numpy.zeros((56, 56, 3), "f4"), "tokens": [2, 5, 6, 1], "mask_ar": ar, "mask_loss": loss},
                        default=msgpack_numpy.encode))
out.write(msgpack.packb({"pg-end": 1}))
P
}

@test "masks that show a suffix to itself, or cut a prefix, are errors that say so, in pg-infer and pg-train" {
    PY=$(tests/find-python msgpack numpy msgpack_numpy) || skip 'no python3 with msgpack-numpy'
    records 0011 0011 >"$T/good"
    records 0000 0011 >"$T/seen"
    records 0111 0001 >"$T/neither"
    run -0 bash -c "'$B/pg-infer' -q -m $G/pg1.npz -n 3 <'$T/good' >/dev/null 2>&1"
    for bad in seen:'seen at the same time' neither:'neither prefix'; do
        run -4 --separate-stderr bash -c "'$B/pg-infer' -q -m $G/pg1.npz -n 3 <'$T/${bad%%:*}' >/dev/null"
        [[ $stderr == *"'odd'"*"${bad#*:}"* ]]
        run -1 --separate-stderr bash -c "'$B/pg-train' -q -m $G/pg1.npz -o '$T/out.npz' --steps 1 <'$T/${bad%%:*}' >/dev/null"
        [[ $stderr == *"'odd'"*"${bad#*:}"* ]]
    done
}
