#!/usr/bin/env bats
# Adapters from the command line: trained, used, merged, resumed; optimizer options.
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || exit 1
    B=${PG_BUILD:-build}
    A=$B/tests/train/aux_trainset
    S=$B/tests/model/aux_stream
    G=tests/golden/model
    W=$BATS_TEST_TMPDIR
    [ -x "$A" ] || make -s BUILD="$B" "$A"
    [ -x "$S" ] || make -s BUILD="$B" "$S"
}

train() { "$B/pg-train" "$@"; }
lora() { train -q --train lora --optimizer adamw --lr 0.02 --batch 4 --no-shuffle "$@"; }
score() { { "$B/pg-infer" -q -m "$1" "${@:2}" --score-only <"$W/$f.pgs" || [ $? -eq 4 ]; } | { "$B/pg-render" -f jsonl || [ $? -eq 4 ]; }; }
sums() { "$B/pg-info" --checksums "$1" | grep -E ' [0-9a-f]{8}$'; }
losses() { "$A" show | sed -n 's/^step \([0-9]*\) .*loss=\([0-9.]*\) .*/\1 \2/p'; }

@test "an adapter learns, and merged it is the same model" {
    for f in pg1 pg2; do
        "$A" make $f >"$W/$f.pgs"
        lora -m $G/$f.npz -o "$W/$f-ad" --steps 8 --rank 4 --alpha 8 <"$W/$f.pgs" >"$W/events"
        losses <"$W/events" >"$W/l"
        awk 'NR == 1 { a = $2 } END { exit !(NR == 8 && $2 < a - 0.5) }' "$W/l" || { cat "$W/l"; false; }
        [ "$(ls "$W/$f-ad")" = "$(printf 'adapter_config.json\nadapter_model.safetensors')" ]
        "$B/pg-convert" --merge $G/$f.npz "$W/$f-ad" "$W/$f.npz"
        # Scores of the training texts: adapter beside the weights, and merged into them. One text has no suffix.
        score $G/$f.npz --adapter "$W/$f-ad" >"$W/a"
        score "$W/$f.npz" >"$W/b"
        score $G/$f.npz >"$W/c"
        python=$(tests/find-python json) || skip 'no Python'
        "$python" - "$W/a" "$W/b" "$W/c" <<'END'
import json, sys
a, b, c = ([json.loads(x).get("logprob") for x in open(p)] for p in sys.argv[1:])
assert len(a) == 4 and any(x is not None for x in a)
for x, y, z in zip(a, b, c):
    assert (x is None) == (y is None) and (x is None or abs(x - y) < 5e-5), (x, y)
assert any(x is not None and abs(x - z) > 0.1 for x, z in zip(a, c))
END
    done
}

@test "the base's file is not touched, and another base is told of or refused" {
    "$A" make pg1 >"$W/in.pgs"
    lora -m $G/pg1.npz -o "$W/ad" --steps 1 <"$W/in.pgs" >/dev/null
    train -q -m $G/pg1.npz -o "$W/other.npz" --steps 2 --batch 4 <"$W/in.pgs" >/dev/null
    run --separate-stderr "$B/pg-infer" -m "$W/other.npz" --adapter "$W/ad" --score-only <"$W/in.pgs"
    [ "$status" -eq 4 ]
    [[ $stderr == *"warning"*"trained on other weights"* ]]
    run --separate-stderr "$B/pg-convert" --merge "$W/other.npz" "$W/ad" "$W/m.npz"
    [ "$status" -eq 0 ]
    [[ $stderr == *"trained on other weights"* ]]
    for same in $G/pg1-hf $G/pg1.bf16.npz; do
        run --separate-stderr "$B/pg-convert" -q --merge $same "$W/ad" "$W/m2.npz"
        [ "$status" -eq 0 ]
        [ -z "$stderr" ] || { echo "$stderr"; false; }
    done
    run --separate-stderr "$B/pg-convert" --merge $G/pg2.npz "$W/ad" "$W/no.npz"
    [ "$status" -eq 1 ]
    [[ $stderr == *"another model"* ]]
    [ ! -e "$W/no.npz" ]
    run --separate-stderr "$B/pg-infer" -m $G/pg1.npz --adapter "$W/none" <"$W/in.pgs"
    [ "$status" -eq 1 ]
    run --separate-stderr "$B/pg-infer" -m $G/pg1.npz --adapter $G/pg1-hf <"$W/in.pgs"
    [ "$status" -eq 1 ]
    [[ $stderr == *adapter* ]]
}

@test "an adapter's training resumes to the same bytes" {
    "$A" make pg1 >"$W/in.pgs"
    for o in "--optimizer adamw --lr 0.02" "--optimizer sgd --momentum 0.9 --accumulate 2"; do
        rm -rf "$W"/whole* "$W"/parts*
        # shellcheck disable=SC2086
        train -q -m $G/pg1.npz -o "$W/whole" --train lora --steps 6 --batch 2 --seed 5 $o <"$W/in.pgs" >/dev/null
        # shellcheck disable=SC2086
        timeout -s KILL 60 "$B/pg-train" -q -m $G/pg1.npz -o "$W/parts" --train lora --steps 6 --batch 2 --seed 5 --save-every 2 $o <"$W/in.pgs" |
            head -c 400 >/dev/null || true
        # shellcheck disable=SC2086
        train -q -m $G/pg1.npz -o "$W/parts" --train lora --steps 6 --batch 2 --seed 5 --save-every 2 --resume $o <"$W/in.pgs" >/dev/null
        cmp "$W/whole/adapter_model.safetensors" "$W/parts/adapter_model.safetensors"
        run --separate-stderr train -m $G/pg1.npz -o "$W/parts" --train lora --rank 3 --steps 6 --batch 2 --seed 5 --resume <"$W/in.pgs"
        [ "$status" -eq 1 ]
    done
}

@test "pg-info tells of an adapter; a folder with nothing else is no model" {
    "$A" make pg1 >"$W/in.pgs"
    lora -m $G/pg1.npz -o "$W/ad" --steps 1 --rank 4 --alpha 6 --targets 'q_proj|projector' <"$W/in.pgs" >/dev/null
    run --separate-stderr "$B/pg-info" "$W/ad"
    [ "$status" -eq 0 ]
    [[ $output == *"layers          3 of the language model, 2 of the image tower, and its head"* ]]
    [[ $output == *"rank            4, scaled by 1.5"* ]]
    # q_proj: 3 of 32 to 56 and 2 of 24 to 24; the head: 24 to 32
    [[ $output == *"parameters      $((4 * (3 * (32 + 56) + 2 * (24 + 24) + 24 + 32)))"* ]]
    run --separate-stderr "$B/pg-infer" -m "$W/ad" <"$W/in.pgs"
    [ "$status" -eq 1 ]
    [[ $stderr == *"but an adapter: name its base with -m"* ]]
    cp $G/pg1.npz "$W/ad/model.npz" # beside its base
    "$B/pg-infer" -q -m "$W/ad" --adapter "$W/ad" --score-only <"$W/in.pgs" >"$W/out" || [ $? -eq 4 ]
}

@test "keys as older versions of transformers have them, factors in bfloat16" {
    python=$(tests/find-python numpy) || skip 'no Python with numpy'
    "$A" make pg1 >"$W/in.pgs"
    lora -m $G/pg1.npz -o "$W/new" --steps 3 <"$W/in.pgs" >/dev/null
    mkdir "$W/old"
    cp "$W/new/adapter_config.json" "$W/old/"
    "$python" - "$W/new/adapter_model.safetensors" "$W/old/adapter_model.safetensors" <<'END'
import json, struct, sys
import numpy as np
data = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", data[:8])[0]
head, body, out, at = json.loads(data[8 : 8 + n]), data[8 + n :], {}, 0
parts = []
for k, v in head.items():
    if k == "__metadata__":
        continue
    a, b = v["data_offsets"]
    part = (np.frombuffer(body[a:b], "<u4") >> 16).astype("<u2").tobytes()
    key = k.replace("base_model.model.model.language_model.", "base_model.model.language_model.model.").replace(".weight", ".default.weight")
    out[key] = {"dtype": "BF16", "shape": v["shape"], "data_offsets": [at, at + len(part)]}
    at += len(part)
    parts.append(part)
text = json.dumps(out).encode()
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + b"".join(parts))
END
    "$B/pg-info" "$W/old" | grep -q '^layers  *12 of the language model'
    f=in
    score $G/pg1.npz --adapter "$W/new" >"$W/a"
    score $G/pg1.npz --adapter "$W/old" >"$W/b"
    "$python" - "$W/a" "$W/b" <<'END'
import json, sys
a, b = ([json.loads(x).get("logprob") for x in open(p)] for p in sys.argv[1:])
assert all((x is None) == (y is None) and (x is None or abs(x - y) < 0.2) for x, y in zip(a, b)) and a != b
END
}

@test "what targets match is said" {
    "$A" make pg1 >"$W/in.pgs"
    run --separate-stderr train -m $G/pg1.npz -o "$W/a" --train lora --steps 1 --batch 4 --targets q_proj <"$W/in.pgs"
    [ "$status" -eq 0 ]
    [[ $stderr == *"rank 8 on 3 layers of the language model, 2 of the image tower"* ]]
    [[ $stderr == *"warning"*"also matches layers of the image tower"* ]]
    run --separate-stderr train -m $G/pg1.npz -o "$W/a" --train lora --steps 1 --batch 4 --targets 'language_model.*(q_proj)' <"$W/in.pgs"
    [[ $stderr == *"on 3 layers of the language model, 0 of the image tower"* ]]
    [[ $stderr != *"also matches"* ]]
    run --separate-stderr train -m $G/pg1.npz -o "$W/a" --train lora --steps 1 --targets nothing <"$W/in.pgs"
    [ "$status" -eq 1 ]
    [[ $stderr == *"matches no linear layer"* ]]
}

@test "accumulated batches are one large batch" {
    "$A" make pg1 >"$W/in.pgs"
    train -q -m $G/pg1.npz -o "$W/a.npz" --steps 3 --batch 4 --no-shuffle <"$W/in.pgs" | losses >"$W/a"
    train -q -m $G/pg1.npz -o "$W/b.npz" --steps 3 --batch 2 --accumulate 2 --no-shuffle <"$W/in.pgs" | losses >"$W/b"
    diff "$W/a" "$W/b"
    train -q -m $G/pg1.npz -o "$W/c.npz" --epochs 2 --batch 2 --accumulate 2 --no-shuffle <"$W/in.pgs" | losses >"$W/c"
    [ "$(wc -l <"$W/c")" -eq 2 ]
}

@test "rates and decay by name: a rate of 0 freezes, the first match decides" {
    "$A" make pg1 >"$W/in.pgs"
    train -q -m $G/pg1.npz -o "$W/a.npz" --train llm --steps 2 --batch 4 --lr-mult 'q_einsum=2' --lr-mult '/attn/|/mlp/|norm|embed=0' <"$W/in.pgs" >/dev/null
    diff <(sums $G/pg1.npz) <(sums "$W/a.npz") | grep '^>' >"$W/changed"
    [ "$(grep -c . "$W/changed")" -eq 1 ] || { cat "$W/changed"; false; }
    grep -q 'q_einsum' "$W/changed"
    train -q -m $G/pg1.npz -o "$W/b.npz" --train llm --steps 2 --batch 4 --lr 0 --weight-decay 0.1 --wd-mult 'mlp/linear=0.5' <"$W/in.pgs" >/dev/null
    diff <(sums $G/pg1.npz) <(sums "$W/b.npz") | grep '^>' >"$W/changed"
    [ "$(grep -c . "$W/changed")" -eq 1 ] || { cat "$W/changed"; false; }
    grep -q 'mlp/linear' "$W/changed"
    run --separate-stderr train -m $G/pg1.npz -o "$W/c.npz" --steps 1 --batch 4 --lr-mult 'img=0' <"$W/in.pgs"
    [ "$status" -eq 1 ]
    [[ $stderr == *"decides for no weight"* ]]
}

@test "usage" {
    for o in "--rank 4" "--alpha 2" "--targets x" "--train lora -o $W/o.npz" "--train lora --rank 0" "--optimizer adamw --momentum 0.9" "--accumulate 0"; do
        # shellcheck disable=SC2086
        run train -m $G/pg1.npz -o "$W/o" $o </dev/null
        [ "$status" -eq 2 ] || { echo "$o: $status $output"; false; }
    done
}

@test "an adapter that would make weights infinite is not merged" {
    python=$(tests/find-python json) || skip 'no Python'
    "$A" make pg1 >"$W/in.pgs"
    lora -m $G/pg1.npz -o "$W/ad" --steps 2 <"$W/in.pgs" >/dev/null
    "$python" - "$W/ad/adapter_config.json" <<'END'
import json, sys
c = json.load(open(sys.argv[1]))
json.dump(dict(c, lora_alpha=1e300), open(sys.argv[1], "w"))
END
    for to in m.npz m; do
        run --separate-stderr "$B/pg-convert" --merge $G/pg1.npz "$W/ad" "$W/$to"
        [ "$status" -eq 1 ]
        [[ $stderr == *"$W/ad"*"not finite"* ]]
        [ ! -e "$W/$to" ]
    done
}

@test "the merged weights are not written over the adapter" {
    "$A" make pg1 >"$W/in.pgs"
    lora -m $G/pg1.npz -o "$W/ad" --steps 1 <"$W/in.pgs" >/dev/null
    cp -r "$W/ad" "$W/was"
    run --separate-stderr "$B/pg-convert" --merge $G/pg1.npz "$W/ad" "$W/ad/../ad/adapter_model.safetensors"
    [ "$status" -eq 1 ]
    [[ $stderr == *"would change the adapter"* ]]
    diff -r "$W/was" "$W/ad"
}

@test "pg-info lists and verifies an adapter's tensors" {
    python=$(tests/find-python json) || skip 'no Python'
    "$A" make pg1 >"$W/in.pgs"
    lora -m $G/pg1.npz -o "$W/ad" --steps 1 <"$W/in.pgs" >/dev/null
    "$B/pg-info" --verify "$W/ad" | grep -q '^verified  *0 faults'
    "$B/pg-info" --tensors "$W/ad" | grep -q 'lora_A.weight f32 \['
    run -1 --separate-stderr "$B/pg-info" --checksums "$W/ad"
    [[ $stderr == *big_vision* ]]
    "$python" - "$W/ad/adapter_model.safetensors" <<'END'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    f.seek(-4, 2)
    f.write(struct.pack("<f", float("nan")))
END
    run -1 --separate-stderr "$B/pg-info" --verify "$W/ad"
    [[ $stderr == *"lora_B.weight' holds 1 values that are not finite"* ]]
}
