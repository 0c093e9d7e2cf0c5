#!/usr/bin/env bats
# pg-convert where something is wrong: an output matrix of its own, values that do not fit, sets of files that lack one, disks that are full, kills.
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
    G=tests/golden/model
    T=$BATS_TEST_TMPDIR
    mkdir "$T/out"
}

teardown() {
    ! mountpoint -q "$T/full" || umount "$T/full"
}

sums() {
    "$B/pg-info" --checksums "$1" | grep -E ' [0-9a-f]{8}$'
}

python() {
    PYTHON=$(tests/find-python json) || skip 'no Python'
}

# What is said of a failure, and that nothing of it is left in out.
refused() { # refused TEXT ARGUMENT...
    local text=$1
    shift
    run --separate-stderr "$B/pg-convert" -q "$@"
    [ "$status" -eq 1 ] || { echo "$*: status $status"; return 1; }
    # shellcheck disable=SC2154
    [[ $stderr == *"$text"* ]] || { echo "$*: $stderr"; return 1; }
    [ -z "$(ls -A "$T/out")" ] || { ls -lA "$T/out"; return 1; }
}

@test "a stored output matrix that is the embedding: converted as if it were not there" {
    python
    for name in lm_head.weight language_model.lm_head.weight; do
        rm -rf "$T/head" "$T"/*.npz "$T/out/"*
        "$PYTHON" tests/weights/add_head.py $G/pg2-hf "$T/head" $name
        sed -i 's/"model_type": "paligemma"/"tie_word_embeddings": false, &/' "$T/head/config.json"
        diff <(sums $G/pg2-hf) <(sums "$T/head")
        "$B/pg-info" --verify "$T/head"
        "$B/pg-convert" "$T/head" "$T/a.npz"
        "$B/pg-convert" $G/pg2-hf "$T/b.npz"
        cmp "$T/a.npz" "$T/b.npz"
        for how in "" "--dtype bf16" "--dtype int8" "--shard-size 1"; do
            # shellcheck disable=SC2086
            "$B/pg-convert" -q $how "$T/head" "$T/out/a"
            # shellcheck disable=SC2086
            "$B/pg-convert" -q $how $G/pg2-hf "$T/out/b"
            cmp "$T/out/a/model.safetensors" "$T/out/b/model.safetensors"
            grep -q '"tie_word_embeddings": true' "$T/out/a/config.json" # else transformers would make up a matrix
            rm -r "$T/out/a" "$T/out/b"
        done
    done
}

@test "a stored output matrix of its own: refused by all that use values, whichever byte differs" {
    python
    printf '{"image":"png-rgb8.png","suffix":"a red cat"}\n' >"$T/x.jsonl"
    cp tests/golden/image/png-rgb8.png "$T"
    "$B/pg-fetch" "$T/x.jsonl" | "$B/pg-resize" -q -s 40 | "$B/pg-tokenize" -q -m tests/golden/text/small-a.model >"$T/in"
    n=0
    for name in lm_head.weight language_model.lm_head.weight model.lm_head.weight; do
        for byte in 0 -1 14000 type shape; do # -1: in a row that is no token
            n=$((n + 1))
            "$PYTHON" tests/weights/add_head.py $G/pg2-hf "$T/h$n" $name $byte
            for to in x.npz x.safetensors folder; do refused "'$name' differs from the embedding: untied" "$T/h$n" "$T/out/$to"; done
            # Values are compared where they are used: only opening such a file costs nothing.
            case $byte in type | shape) ;; *) "$B/pg-info" "$T/h$n" >/dev/null ;; esac
            run --separate-stderr "$B/pg-infer" -q -m "$T/h$n" <"$T/in"
            [ "$status" -eq 1 ]
            [[ $stderr == *"'$name' differs from the embedding"* ]]
            run --separate-stderr "$B/pg-train" -q -m "$T/h$n" --steps 1 -o "$T/out/t" <"$T/in"
            [ "$status" -eq 1 ]
            [[ $stderr == *"'$name' differs from the embedding"* ]]
            run --separate-stderr "$B/pg-info" --verify "$T/h$n"
            [ "$status" -eq 1 ]
            [[ $stderr == *"'$name' differs from the embedding"* ]]
        done
    done
    refused untied "$T/h1" "$T/out/x.safetensors" --dtype bf16
    refused untied "$T/h2" "$T/out/x.safetensors" --dtype int8
    refused untied "$T/h3" "$T/out/x" --shard-size 1
    # Two of them, the second of its own; int8 whose scales alone differ.
    "$PYTHON" tests/weights/add_head.py $G/pg2-hf "$T/one" language_model.lm_head.weight
    "$PYTHON" tests/weights/add_head.py "$T/one" "$T/two" lm_head.weight 100
    refused "'lm_head.weight' differs" "$T/two" "$T/out/x.npz"
    "$B/pg-convert" -q --dtype int8 $G/pg2-hf "$T/i8"
    "$PYTHON" tests/weights/add_head.py "$T/i8" "$T/i8-same"
    "$B/pg-convert" -q "$T/i8-same" "$T/i8-copy"
    cmp "$T/i8/model.safetensors" "$T/i8-copy/model.safetensors"
    "$PYTHON" tests/weights/add_head.py "$T/i8" "$T/i8-other" lm_head.weight s7
    refused "'lm_head.weight' differs" "$T/i8-other" "$T/out/x" --dtype f32
    refused "'lm_head.weight' differs" "$T/i8-other" "$T/out/x"
}

# A file with one value changed: set_value NPZ OUT ARRAY FLOAT.
set_value() {
    "$PYTHON" - "$@" <<'END'
import struct, sys, zipfile
src, out, key, value = sys.argv[1:]
with zipfile.ZipFile(src) as a, zipfile.ZipFile(out, "w") as b:
    for m in a.infolist():
        data = bytearray(a.read(m))
        if m.filename == f"params/{key}.npy":
            data[-4:] = struct.pack("<f", float(value))
        b.writestr(m.filename, data)
END
}

@test "values that do not fit the new type: named, nothing left behind" {
    python
    for value in 70000 -65520 1e30; do # 65519.99 still rounds to 65504
        set_value $G/pg1.npz "$T/big.npz" img/head/kernel $value
        for to in x.npz x.safetensors x; do refused "beyond the range of f16" "$T/big.npz" "$T/out/$to" --dtype f16; done
        [[ $stderr == *"tensor 'multi_modal_projector.linear.weight': value "* ]]
    done
    set_value $G/pg1.npz "$T/most.npz" img/head/kernel 65519
    "$B/pg-convert" -q "$T/most.npz" "$T/most16.npz" --dtype f16
    set_value $G/pg1.npz "$T/big.npz" llm/embedder/input_embedding 3.4e38
    refused "beyond the range of bf16" "$T/big.npz" "$T/out/x" --dtype bf16
    # bfloat16 reaches further than float16.
    set_value $G/pg1.npz "$T/big.npz" img/head/kernel 1e30
    "$B/pg-convert" -q "$T/big.npz" "$T/b16" --dtype bf16
    refused "beyond the range of f16" "$T/b16" "$T/out/x" --dtype f16
}

@test "values that are no numbers: bits kept, types changed to types that have them, refused as int8" {
    python
    for value in nan inf -inf; do
        rm -rf "$T"/hf "$T"/*.npz "$T/f16"
        set_value $G/pg1.npz "$T/a.npz" llm/layers/mlp/linear $value
        "$B/pg-convert" -q "$T/a.npz" "$T/hf"
        "$B/pg-convert" -q "$T/hf" "$T/b.npz"
        diff <(sums "$T/a.npz") <(sums "$T/b.npz")
        "$B/pg-convert" -q "$T/hf" "$T/f16" --dtype f16
        run "$B/pg-info" --verify "$T/f16"
        [ "$status" -eq 1 ]
        [[ $output == *"holds 1 values that are not finite"* ]]
        for to in x x.safetensors; do refused "no place in int8" "$T/a.npz" "$T/out/$to" --dtype int8; done
    done
}

# Sets of which something is missing, or too much: set FOLDER CODE, in which w is the index's weight_map and d the folder.
change_set() {
    rm -rf "$T/set"
    cp -r "$T/good" "$T/set"
    "$PYTHON" - "$T/set" "$1" <<'END'
import json, os, shutil, sys
d, code = sys.argv[1:]
path = d + "/model.safetensors.index.json"
top = json.load(open(path))
w = top["weight_map"]
exec(code)
json.dump(top, open(path, "w"))
END
}

@test "sets of files: one missing, one too many, a tensor in two, twice in the index, in the wrong file" {
    python
    "$B/pg-convert" -q $G/pg1.npz "$T/good"
    [ -f "$T/good/model.safetensors" ]
    rm -r "$T/good"
    "$B/data/init" --image 28 --patch 14 --vit-width 16 --vit-mlp 32 --vit-heads 2 --depth 2 --width 64 --mlp 96 --head-dim 32 --vocab 10240 "$T/m.npz" >/dev/null
    "$B/pg-convert" -q --shard-size 1 "$T/m.npz" "$T/good"
    [ -f "$T/good/model-00001-of-00003.safetensors" ]
    change_set 'os.remove(d + "/model-00003-of-00003.safetensors")'
    refused "model-00003-of-00003.safetensors': No such file" "$T/set" "$T/out/x"
    change_set 'del w[[k for k in w if w[k].startswith("model-00003")][0]]'
    refused "hold tensors that it does not list" "$T/set" "$T/out/x"
    change_set 'w["mine"] = "model-00001-of-00003.safetensors"'
    refused "it lists" "$T/set" "$T/out/x"
    change_set 'k = next(iter(w)); w[k] = "model-00003-of-00003.safetensors" if w[k].startswith("model-00001") else "model-00001-of-00003.safetensors"'
    refused "does not list" "$T/set" "$T/out/x"
    change_set 'shutil.copy(d + "/model-00001-of-00003.safetensors", d + "/more.safetensors"); w["again"] = "more.safetensors"'
    refused "" "$T/set" "$T/out/x"
    # A file that no index names is none of the checkpoint's.
    change_set 'shutil.copy(d + "/model-00001-of-00003.safetensors", d + "/more.safetensors")'
    diff <(sums "$T/good") <(sums "$T/set")
    # JSON with a name twice.
    change_set 'pass'
    sed -i 's/"weight_map": {/&"language_model.model.norm.weight": "model-00001-of-00003.safetensors",/' "$T/set/model.safetensors.index.json"
    refused "duplicate" "$T/set" "$T/out/x"
    # Part of one set, part of another.
    change_set 'open(d + "/model-00003-of-00003.safetensors", "ab").truncate(5000)'
    refused "model-00003-of-00003.safetensors'" "$T/set" "$T/out/x"
}

# said MODEL CODE WANT: after CODE on config.json (c; t and v: its text_config and vision_config) its model is taken where WANT is empty, else
# refused with WANT, a pattern.
said() {
    rm -rf "$T/said"
    cp -r "$1" "$T/said"
    "$PYTHON" - "$T/said/config.json" "$2" <<'END'
import json, sys
path, code = sys.argv[1:]
c = json.load(open(path))
t, v = c["text_config"], c["vision_config"]
exec(code)
json.dump(c, open(path, "w"))
END
    run --separate-stderr "$B/pg-convert" -q "$T/said" "$T/out/x.npz"
    rm -f "$T/out/x.npz"
    if [ -z "$3" ]; then
        [ "$status" -eq 0 ] || { echo "$2: $stderr"; return 1; }
    else
        # shellcheck disable=SC2053 # a pattern
        [ "$status" -eq 1 ] && [[ $stderr == "pg-convert: '$T/said"*"': "$3 ]] || { echo "$2: $status $stderr"; return 1; }
    fi
}

@test "a config.json that says another arithmetic than is computed: refused with the key and both values" {
    python
    for m in pg1 pg2; do # both families
        while IFS='|' read -r code want; do
            said $G/$m-hf "$code" "${want:+$want, computed is with * alone}"
        done <<'END'
t["rms_norm_eps"] = 1e-6|
t["rms_norm_eps"] = 1e-5|text_config says rms_norm_eps 1e-5
t["rms_norm_eps"] = "1e-6"|text_config says rms_norm_eps "1e-6"
t["rms_norm_eps"] = None|text_config says rms_norm_eps null
t["rope_theta"] = 10000|
t["rope_theta"] = 1e6|text_config says rope_theta 1000000.0
t["rope_scaling"] = None|
t["rope_scaling"] = {"type": "default"}|
t["rope_scaling"] = {"type": "linear", "factor": 2.0}|rope_scaling says type "linear"
t["rope_scaling"] = {"rope_type": "yarn"}|rope_scaling says rope_type "yarn"
t["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}|
t["rope_parameters"] = {"rope_type": "default", "rope_theta": 20000}|rope_parameters says rope_theta 20000
t["rope_parameters"] = {"rope_type": "llama3"}|rope_parameters says rope_type "llama3"
t["hidden_activation"] = "gelu"|text_config says hidden_activation "gelu"
t["hidden_activation"] = None|
t["hidden_size"] += 1|text_config says hidden_size *
t["intermediate_size"] = 7|text_config says intermediate_size 7
t["model_type"] = "gemma3_text"|text_config says model_type "gemma3_text"
t["use_bidirectional_attention"] = True|
t["use_bidirectional_attention"] = False|text_config says use_bidirectional_attention false
v["layer_norm_eps"] = 1e-6|
v["layer_norm_eps"] = 1e-12|vision_config says layer_norm_eps 1e-12
v["hidden_act"] = "gelu_new"|
v["hidden_act"] = "quick_gelu"|vision_config says hidden_act "quick_gelu"
v["patch_size"] = 16|vision_config says patch_size 16
v["image_size"] += 1|vision_config says image_size *
v["num_channels"] = 1|vision_config says num_channels 1
v["hidden_size"] *= 2|vision_config says hidden_size *
v["intermediate_size"] = 1|vision_config says intermediate_size 1
v["model_type"] = "clip_vision_model"|vision_config says model_type "clip_vision_model"
del v["image_size"], v["model_type"]|
END
    done
    # The first family's activation has two names, the second's one.
    said $G/pg1-hf 't["hidden_act"] = "silu"' 'text_config says hidden_act "silu", computed is with gelu_pytorch_tanh alone'
    said $G/pg2-hf 't["hidden_act"] = "silu"' ''
    said $G/pg1-hf 't["model_type"] = "gemma2"' 'text_config says model_type "gemma2", computed is with gemma alone'
    said $G/pg2-hf 't["model_type"] = "gemma"' 'text_config says model_type "gemma", computed is with gemma2 alone'
    while IFS='|' read -r code want; do
        said $G/pg2-hf "$code" "${want:+$want alone}"
        said $G/pg1-hf "$code" '' # it has none of these
    done <<'END'
t["query_pre_attn_scalar"] = 10.0|
t["query_pre_attn_scalar"] = 11|text_config says query_pre_attn_scalar 11, computed is with 10
t["query_pre_attn_scalar"] = None|text_config says query_pre_attn_scalar null, computed is with 10
t.pop("query_pre_attn_scalar", 0)|text_config does not say query_pre_attn_scalar, which means 256, computed is with 10
t["attn_logit_softcapping"] = 50|
t["attn_logit_softcapping"] = 30.0|text_config says attn_logit_softcapping 30.0, computed is with 50
t["attn_logit_softcapping"] = None|text_config says attn_logit_softcapping null, computed is with 50
t.pop("attn_logit_softcapping", 0)|
t["final_logit_softcapping"] = 20.0|text_config says final_logit_softcapping 20.0, computed is with 30
t["final_logit_softcapping"] = None|
t.pop("final_logit_softcapping", 0)|
t["sliding_window"] = 512|text_config says sliding_window 512, computed is with 4096 or more, or null,
t["sliding_window"] = 8192|
t["sliding_window"] = None|
END
    # Heads are in no tensor.
    for code in 'del v["num_attention_heads"]' 'c["vision_config"] = {}'; do
        said $G/pg1-hf "$code" "*number of heads is not known: vision_config in config.json has no num_attention_heads"
    done
    said $G/pg1-hf 'del t["head_dim"]' "*q_proj.weight' has 56 rows, which are not heads of 256 dimensions, which a config.json without head_dim means"
    said $G/pg1-hf 't["head_dim"] = 6' "*q_proj.weight' has 56 rows, which are not heads of 6 dimensions, as config.json says"
    said $G/pg1-hf 'v["num_attention_heads"] = 7' "config.json says 7 heads of the image tower, which its width of 24 cannot be shared by"
}

@test "an image_token_index among the tokens of a published model's size is refused" {
    python
    "$B/data/init" --quick 1 --image 28 --patch 14 --vit-width 8 --vit-mlp 8 --vit-heads 2 --width 4 --mlp 8 --head-dim 2 --vocab 257152 "$T/m.npz" >/dev/null
    "$B/pg-convert" -q "$T/m.npz" "$T/hf"
    said "$T/hf" 'c["image_token_index"] = 256000' "config.json says image_token_index 256000, which is one of the 257152 tokens"
    said "$T/hf" 'del c["image_token_index"]' ''
}

@test "what is none of the model's tensors: said where it does not go along" {
    python
    "$PYTHON" - $G/pg1.npz "$T/more.npz" <<'END'
import sys, zipfile
src, out = sys.argv[1:]
with zipfile.ZipFile(src) as a, zipfile.ZipFile(out, "w") as b:
    for m in a.infolist():
        b.writestr(m.filename, a.read(m))
        if m.filename.endswith("norm/scale.npy"):
            b.writestr(m.filename.replace("params/", "opt/"), a.read(m))
END
    for to in x.npz x; do
        run --separate-stderr "$B/pg-convert" "$T/more.npz" "$T/out/$to"
        [ "$status" -eq 0 ]
        [[ $stderr == *"4 tensors, the first 'opt/img/Transformer/encoder_norm/scale', are none of the model's and left out"* ]] || { echo "$stderr"; false; }
    done
    mkdir "$T/hf"
    cp $G/pg2-hf/config.json "$T/hf"
    "$PYTHON" - $G/pg2-hf/model.safetensors "$T/hf/model.safetensors" <<'END'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", data[:8])[0]
head = json.loads(data[8 : 8 + n])
head["value_head.weight"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data) - 8 - n, len(data) - 4 - n]}
text = json.dumps(head).encode()
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + data[8 + n :] + b"abcd")
END
    rm -r "${T:?}/out/"*
    run --separate-stderr "$B/pg-convert" "$T/hf" "$T/out/x.npz"
    [[ $stderr == *"1 tensor, the first 'value_head.weight', is none of the model's and left out"* ]]
    run --separate-stderr "$B/pg-convert" "$T/hf" "$T/out/x"
    [[ $stderr != *"left out"* ]]
    grep -q value_head.weight "$T/out/x/model.safetensors"
    "$B/pg-convert" -q --dtype int8 $G/pg1.npz "$T/out/i8"
    for from in $G/pg1.npz $G/pg1-hf $G/pg2-hf "$T/out/i8"; do # rows that are no tokens and scales are the model's
        run --separate-stderr "$B/pg-convert" --dtype f32 "$from" "$T/out/y.npz"
        [[ $stderr != *"left out"* ]]
        run --separate-stderr "$B/pg-convert" "$T/out/y.npz" "$T/out/z.npz"
        [[ $stderr != *"left out"* ]]
    done
}

@test "a set in the place of an older one of another form: only what is new is read" {
    "$B/data/init" --image 28 --patch 14 --vit-width 16 --vit-mlp 32 --vit-heads 2 --depth 2 --width 64 --mlp 96 --head-dim 32 --vocab 10240 "$T/m.npz" >/dev/null
    "$B/data/init" --seed 7 --image 28 --patch 14 --vit-width 16 --vit-mlp 32 --vit-heads 2 --depth 2 --width 64 --mlp 96 --head-dim 32 --vocab 10240 "$T/n.npz" >/dev/null
    run diff <(sums "$T/m.npz") <(sums "$T/n.npz")
    [ "$status" -eq 1 ]
    "$B/pg-convert" -q --shard-size 1 "$T/m.npz" "$T/out/model.safetensors"
    "$B/pg-convert" -q "$T/n.npz" "$T/out/model.safetensors"
    diff <(sums "$T/n.npz") <(sums "$T/out")
    [ "$(cd "$T/out" && echo *.safetensors*)" = model.safetensors ]
    "$B/pg-convert" -q --shard-size 1 "$T/m.npz" "$T/out/model.safetensors"
    diff <(sums "$T/m.npz") <(sums "$T/out")
    diff <(sums "$T/m.npz") <(sums "$T/out/model.safetensors")
    "$B/pg-convert" -q --shard-size 3 "$T/m.npz" "$T/out/model.safetensors"
    [ "$(cd "$T/out" && echo *-of-*)" = "model-00001-of-00002.safetensors model-00002-of-00002.safetensors" ]
    # Other sets in the folder stay.
    cp "$T/out/model-00001-of-00002.safetensors" "$T/out/model-x-00001-of-00002.safetensors"
    "$B/pg-convert" -q --shard-size 1 "$T/m.npz" "$T/out/model.safetensors"
    [ "$(cd "$T/out" && echo *-of-* | wc -w)" -eq 4 ]
    # One that fails leaves the older one, and what lies beside it, as they were.
    find "$T/out" -type f -exec cksum {} + | sort >"$T/before"
    (
        ulimit -f 500
        trap '' XFSZ
        for how in "" "--shard-size 1" "--dtype bf16 --shard-size 1"; do
            # shellcheck disable=SC2086
            run "$B/pg-convert" -q $how "$T/n.npz" "$T/out/model.safetensors"
            [ "$status" -eq 1 ]
        done
    )
    find "$T/out" -type f -exec cksum {} + | sort | diff "$T/before" -
}

@test "a full disk: refused, nothing left on it" {
    mkdir -p "$T/full"
    mount -t tmpfs -o size=1m none "$T/full" 2>/dev/null || skip 'only root can make a small disk'
    for to in x x.npz x.safetensors; do
        for how in "" "--shard-size 1"; do
            # shellcheck disable=SC2086
            run --separate-stderr "$B/pg-convert" -q $how data/nano "$T/full/$to"
            [ "$status" -eq 1 ]
            [[ $stderr == *"No space left on device"* ]]
            [ -z "$(ls -A "$T/full")" ]
        done
    done
    # What an npz needs unpacked goes to TMPDIR, which is full.
    "$B/pg-convert" -q data/nano "$T/nano.npz"
    if PYTHON=$(tests/find-python numpy); then
        "$PYTHON" -c 'import numpy as n, sys; a = n.load(sys.argv[1]); n.savez_compressed(sys.argv[2], **a)' "$T/nano.npz" "$T/packed.npz"
        TMPDIR="$T/full" refused "No space left on device" "$T/packed.npz" "$T/out/x"
        [ -z "$(ls -A "$T/full")" ]
        TMPDIR="$T/none" refused "cannot make a temporary file '$T/none/" "$T/packed.npz" "$T/out/x"
    fi
}

@test "a source on a disk that is read-only" {
    cp -r $G/pg2-hf "$T/full"
    mount --bind "$T/full" "$T/full" 2>/dev/null && mount -o remount,ro,bind "$T/full" || skip 'only root can'
    "$B/pg-convert" -q "$T/full" "$T/out/x"
    diff <(sums $G/pg2-hf) <(sums "$T/out/x")
    run --separate-stderr "$B/pg-convert" -q $G/pg1.npz "$T/full/x.npz"
    [ "$status" -eq 1 ]
    [[ $stderr == *"Read-only file system"* ]]
}

@test "killed in the middle: nothing under a final name, the next run removes what is left" {
    "$B/data/init" --quick 1 --image 28 --patch 14 --depth 2 --width 1024 --mlp 16384 "$T/m.npz" >/dev/null
    for to in x x.npz x.safetensors; do
        for how in "" "--shard-size 20"; do
            for k in 1 2 3 4 5 6; do
                # shellcheck disable=SC2086
                "$B/pg-convert" -q $how "$T/m.npz" "$T/out/$to" &
                pid=$!
                until ls -A "$T/out" | grep -q . || ! kill -0 $pid 2>/dev/null; do :; done
                sleep 0.0$((k * 2 - 1))
                kill -9 $pid 2>/dev/null || true
                wait $pid || true
                final=$(find "$T/out" -mindepth 1 -not -name '*.tmp.*' -not -path '*.tmp.*')
                [ -z "$final" ] || diff <(sums "$T/m.npz") <(sums "$T/out/$to") # it was faster than the kill
                rm -rf "$T/out/$to" "$T/out/"*.safetensors "$T/out/"*.json
            done
            # shellcheck disable=SC2086
            "$B/pg-convert" -q $how "$T/m.npz" "$T/out/$to"
            diff <(sums "$T/m.npz") <(sums "$T/out/$to")
            [ -z "$(find "$T/out" -name '*.tmp.*')" ]
            rm -r "${T:?}/out/"*
        done
    done
}

@test "rows that are no tokens, in any number: kept through an npz, named where they do not fit" {
    python
    for rows in 1 33 200; do
        rm -rf "$T/hf" "$T/back" "$T"/*.npz
        cp -r $G/pg2-hf "$T/hf"
        "$PYTHON" - "$T/hf" $rows <<'END'
import json, struct, sys
path, rows = sys.argv[1] + "/model.safetensors", int(sys.argv[2])
data = open(path, "rb").read()
n = struct.unpack("<Q", data[:8])[0]
head, body = json.loads(data[8 : 8 + n]), data[8 + n :]
name = next(k for k in head if k.endswith("embed_tokens.weight"))
a, b = head[name]["data_offsets"]
width = head[name]["shape"][1]
tokens = body[a : a + 288 * width * 4]
extra = struct.pack(f"<{rows * width}f", *(i * 1e4 for i in range(rows * width)))
head[name] = {"dtype": "F32", "shape": [288 + rows, width], "data_offsets": [len(body), len(body) + len(tokens) + len(extra)]}
text = json.dumps(head).encode()
open(path, "wb").write(struct.pack("<Q", len(text)) + text + body + tokens + extra)
config = json.load(open(sys.argv[1] + "/config.json"))
config["vocab_size"] = config["text_config"]["vocab_size"] = 288 + rows
json.dump(config, open(sys.argv[1] + "/config.json", "w"))
END
        "$B/pg-convert" -q "$T/hf" "$T/there.npz"
        "$B/pg-convert" -q "$T/there.npz" "$T/back"
        [ "$(grep -c "\"vocab_size\": $((288 + rows))," "$T/back/config.json")" -eq 2 ]
        "$PYTHON" - "$T/hf" "$T/back" <<'END'
import json, struct, sys
def embedding(folder):
    data = open(folder + "/model.safetensors", "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    t = next(v for k, v in json.loads(data[8 : 8 + n]).items() if k.endswith("embed_tokens.weight"))
    a, b = t["data_offsets"]
    return t["shape"], data[8 + n + a : 8 + n + b]
assert embedding(sys.argv[1]) == embedding(sys.argv[2])
END
    done
    refused "tensor 'hf/extra_embedding_rows': value 70000 is beyond the range of f16" "$T/hf" "$T/out/x.npz" --dtype f16
    refused "value 70000 is beyond the range of f16" "$T/there.npz" "$T/out/x" --dtype f16
}
