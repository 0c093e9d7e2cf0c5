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
        [ -s "$T/out" ] && break
        sleep 0.1
    done
    got=$(wc -c <"$T/out")
    tail -c 1 "$T/in" >&7
    exec 7>&-
    wait $pid
    [ "$got" -gt 1000 ]
    "$A" check pg1 greedy <"$T/out"
}

@test "options of later versions and misuse are usage errors" {
    for o in "--beam 4" "-t 0.7" "--top-p 0.9" "--seed 1" "--best-of 3"; do
        # shellcheck disable=SC2086
        run "$B/pg-infer" -m $G/pg1.npz $o </dev/null
        [ "$status" -eq 2 ]
        [[ $output == *"decodes greedily"* ]]
    done
    for o in "--dtype bf16" "--dtype int8" "--adapter x" "--dtype x" "-n 0" "-b 0" "-n x" "--partial --score-only" "more"; do
        # shellcheck disable=SC2086
        run "$B/pg-infer" -m $G/pg1.npz $o </dev/null
        [ "$status" -eq 2 ] || { echo "$o: $status"; false; }
    done
    run "$B/pg-infer" </dev/null
    [ "$status" -eq 2 ]
    [[ $output == *"-m"* ]]
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
