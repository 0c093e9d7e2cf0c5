#!/usr/bin/env bats
# pg-infer --features: features in the place of pixels give the same bits as pixels, in training and in captioning; where they cannot, they are refused.
# shellcheck disable=SC2154
bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    local B=${PG_BUILD:-build} i=0 p
    export P=$BATS_FILE_TMPDIR/p.pgs F=$BATS_FILE_TMPDIR/f.pgs M=data/nano
    for p in tests/golden/image/png-rgb*.png tests/golden/image/jpg-4*.jpg; do
        i=$((i + 1))
        echo "{\"image\":\"$PWD/$p\",\"suffix\":\"thing number $i\",\"id\":\"p$i\"}"
    done >"$BATS_FILE_TMPDIR/d.jsonl"
    echo '{"image":"none.png","id":"gone"}' >>"$BATS_FILE_TMPDIR/d.jsonl"
    "$B/pg-fetch" "$BATS_FILE_TMPDIR/d.jsonl" 2>/dev/null | "$B/pg-resize" -q -s 64 | "$B/pg-tokenize" -q -m "$M" >"$P" || [ $? -eq 4 ]
    "$B/pg-infer" -q -m "$M" --features <"$P" >"$F" || [ $? -eq 4 ]
}

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
    T=$BATS_TEST_TMPDIR
}

# lines FILE: the records as JSON lines
lines() { "$B/pg-render" -f jsonl "$1" || [ $? -eq 4 ]; }

@test "features: in the place of pixels, with their shape and the tower's name; errors and other keys pass" {
    n=$(lines "$P" | wc -l)
    lines "$F" >"$T/f"
    [ "$(wc -l <"$T/f")" -eq "$n" ]
    [ "$(grep -c '"features":{"tensor":"<f4","shape":\[16,128\]},"tower":"[0-9a-f]\{8\}"}$' "$T/f")" -eq $((n - 1)) ] || { head -n 2 "$T/f"; false; }
    [ "$(grep -c '"pixels"' "$T/f")" -eq 0 ]
    [[ $(tail -n 1 "$T/f") == '{"id":"gone",'*'"error":'* ]]
    # -b and -j change nothing; nor do tokens that are not there yet
    for o in "-b 1" "-b 3 -j 1" "-b 64"; do
        # shellcheck disable=SC2086
        "$B/pg-infer" -q -m "$M" --features $o <"$P" >"$T/g" || [ $? -eq 4 ]
        "$B/pg-render" -f jsonl --with-tensors "$T/g" | cmp - <("$B/pg-render" -f jsonl --with-tensors "$F")
    done
    "$B/pg-fetch" -q tests/golden/image/jpg-420.jpg | "$B/pg-resize" -q -s 64 | "$B/pg-infer" --features -m "$M" | "$B/pg-tokenize" -q -m "$M" |
        "$B/pg-infer" -q -m "$M" | "$B/pg-render" -f captions | grep -q .
}

@test "features: training gives the same bits as from pixels, in f32 and bf16, of adapters too" {
    for how in "" "--train llm --optimizer adamw --lr 0.001" "--train lora --lr 0.1" "--stream" "--dtype bf16"; do
        rm -rf "$T/o1" "$T/o2"
        f=$F
        if [ "$how" = "--dtype bf16" ]; then
            f=$T/b.pgs
            "$B/pg-infer" -q -m "$M" --features --dtype bf16 <"$P" >"$f" || [ $? -eq 4 ]
        fi
        # shellcheck disable=SC2086
        "$B/pg-train" -q -m "$M" -o "$T/o1" --steps 3 --batch 4 $how <"$P" >"$T/e1" || [ $? -eq 4 ]
        # shellcheck disable=SC2086
        "$B/pg-train" -q -m "$M" -o "$T/o2" --steps 3 --batch 4 $how <"$f" >"$T/e2" || [ $? -eq 4 ]
        diff -r "$T/o1" "$T/o2" || { echo "differ: $how"; false; }
        loss() { lines "$1" | grep -o '"loss":[^,]*'; }
        [ "$(loss "$T/e1")" = "$(loss "$T/e2")" ]
        [ "$(loss "$T/e1" | sort -u | wc -l)" -eq 3 ]
        if [ -f "$T/o1/model.npz" ]; then if cmp -s "$T/o1/model.npz" "$M/model.npz"; then false; fi; fi
    done
    # validation too
    "$B/pg-train" -q -m "$M" -o "$T/v1.npz" --steps 1 --batch 4 --val "$P" <"$P" >"$T/e1" 2>/dev/null || [ $? -eq 4 ]
    "$B/pg-train" -q -m "$M" -o "$T/v2.npz" --steps 1 --batch 4 --val "$F" <"$F" >"$T/e2" 2>/dev/null || [ $? -eq 4 ]
    cmp "$T/v1.npz" "$T/v2.npz"
    cmp <(lines "$T/e1" | grep '"event":"\(val\|caption\)"') <(lines "$T/e2" | grep '"event":"\(val\|caption\)"')
}

@test "features: captions and scores are those of pixels; float16 is half as large" {
    for how in "-n 8" "-n 8 --beam 3" "--score-only"; do
        for s in "$P" "$F"; do
            # shellcheck disable=SC2086
            "$B/pg-infer" -q -m "$M" $how <"$s" >"$T/c" || [ $? -eq 4 ]
            lines "$T/c" | grep -o '"caption":.*\|"logprob":.*' | sed 's/,"features":.*,"tower":"[0-9a-f]*"//' >"$T/c${#s}.$(basename "$s")"
        done
        cmp "$T"/c*.p.pgs "$T"/c*.f.pgs
        [ -s "$(echo "$T"/c*.p.pgs)" ]
    done
    "$B/pg-infer" -q -m "$M" --features --dtype f16 <"$P" >"$T/h.pgs" || [ $? -eq 4 ]
    [ "$(lines "$T/h.pgs" | grep -c '"features":{"tensor":"<f2","shape":\[16,128\]}')" -gt 5 ]
    "$B/pg-infer" -q -m "$M" -n 8 <"$T/h.pgs" >"$T/c" || [ $? -eq 4 ]
    # Eleven bits of every value are kept, so one in 2048 of it may go: sums of a dozen log-probabilities around -130 move by 0.002 at most
    # here; ten times that is allowed, a hundredth of what another picture changes.
    paste <("$B/pg-infer" -q -m "$M" --score-only <"$F" | lines /dev/stdin | grep -o '"logprob":[^,]*' | cut -d: -f2) \
        <("$B/pg-infer" -q -m "$M" --score-only <"$T/h.pgs" | lines /dev/stdin | grep -o '"logprob":[^,]*' | cut -d: -f2) |
        awk '{d = $1 - $2; if (d < 0) d = -d; if (d > 0.02) bad = 1; n++} END {exit bad || n < 5}'
}

@test "features: the same model in another format takes them; another tower, a trained or adapted one refuses" {
    "$B/pg-convert" -q "$M" "$T/hf" >/dev/null
    "$B/pg-infer" -q -n 8 -m "$T/hf" --tokenizer "$M/tokenizer.model" <"$F" >"$T/c" || [ $? -eq 4 ]
    [ "$(lines "$T/c" | grep -c '"error":')" -eq 1 ]
    "$B/pg-train" -q -m "$M" -o "$T/other" --train all --steps 1 --batch 4 <"$P" >/dev/null || [ $? -eq 4 ]
    rc=0
    "$B/pg-infer" -q -m "$T/other" <"$F" >"$T/c" 2>"$T/err" || rc=$?
    [ "$rc" -eq 4 ]
    grep -q "the features are of image tower [0-9a-f]*, the model's is [0-9a-f]*" "$T/err"
    rc=0
    "$B/pg-train" -q -m "$T/other" -o "$T/o" <"$F" >/dev/null 2>"$T/err" || rc=$?
    [ "$rc" -eq 1 ]
    grep -q "no example can be used.*the features are of image tower" "$T/err"
    # a language model that was trained has the same tower
    "$B/pg-train" -q -m "$M" -o "$T/llm" --train llm --steps 1 --batch 4 <"$F" >/dev/null || [ $? -eq 4 ]
    "$B/pg-infer" -q -n 8 -m "$T/llm" <"$F" >"$T/c" || [ $? -eq 4 ]
    [ "$(lines "$T/c" | grep -c '"error":')" -eq 1 ]
    for train in all 'img/head' 'lora --targets vision'; do
        rc=0
        # shellcheck disable=SC2086
        "$B/pg-train" -q -m "$M" -o "$T/o" --train $train <"$F" >/dev/null 2>"$T/err" || rc=$?
        [ "$rc" -eq 1 ] || { echo "$train: $rc"; cat "$T/err"; false; }
        grep -q "'p1' holds features instead of pixels, which serve only where the image tower is not trained" "$T/err"
    done
    "$B/pg-train" -q -m "$M" -o "$T/lora" --train lora --targets vision --steps 1 --batch 4 <"$P" >/dev/null || [ $? -eq 4 ]
    run "$B/pg-infer" -q -m "$M" --adapter "$T/lora" --features <"$P"
    [ "$status" -eq 1 ]
    [[ $output == *'an adapter changes the image tower'* ]]
    rc=0
    "$B/pg-infer" -q -m "$M" --adapter "$T/lora" <"$F" >"$T/c" 2>"$T/err" || rc=$?
    [ "$rc" -eq 4 ]
    grep -q 'an adapter changes the image tower' "$T/err"
    for o in --score-only --partial '--beam 2' '-t 1'; do
        # shellcheck disable=SC2086
        run "$B/pg-infer" -m "$M" --features $o <"$P"
        [ "$status" -eq 2 ]
    done
    run "$B/pg-infer" -m "$M" --dtype f16 <"$P"
    [ "$status" -eq 2 ]
}

@test "features: what is wrong with a record's is its error" {
    PY=$(tests/find-python msgpack) || skip 'no msgpack for Python'
    "$PY" - "$F" >"$T/bad.pgs" <<'E'
import msgpack, sys
raw = list(msgpack.Unpacker(open(sys.argv[1], "rb"), raw=False, strict_map_key=False))
head, r = raw[0], raw[1]
def make(**kw):
    x = dict(r, **kw)
    return {k: v for k, v in x.items() if v is not None}
f = r["features"]
out = [make(id="good"), make(id="anonymous", tower=None), make(id="number", tower=5),
       make(id="shape", features={**f, b"shape": [128, 16]}), make(id="type", features={**f, b"type": "<i4"}),
       make(id="nan", features={**f, b"data": b"\xff\xff\xff\x7f" + f[b"data"][4:]}), make(id="text", features="x")]
for x in [head] + out + [{"pg-end": len(out), "errors": 0}]:
    sys.stdout.buffer.write(msgpack.packb(x))
E
    rc=0
    "$B/pg-infer" -q -n 4 -m "$M" <"$T/bad.pgs" >"$T/c" 2>"$T/err" || rc=$?
    [ "$rc" -eq 4 ]
    [ "$(lines "$T/c" | grep -c '"error":')" -eq 6 ] || { cat "$T/err"; false; }
    for want in "'anonymous': 'features' without 'tower'" "'number': " "'shape': features are 128x16, the model's 16x128" "'type': 'features' is not" \
        "'nan': 'features' holds values that are not finite" "'text': "; do
        grep -qF "$want" "$T/err" || { echo "$want"; cat "$T/err"; false; }
    done
}
