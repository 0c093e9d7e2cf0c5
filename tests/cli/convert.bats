#!/usr/bin/env bats
# pg-convert: formats, types, sizes, what lies beside the weights, and that nothing half done is left.
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
    G=tests/golden/model
    T=$BATS_TEST_TMPDIR
}

sums() {
    "$B/pg-info" --checksums "$1" | grep -E ' [0-9a-f]{8}$'
}

# The small model's picture size.
side() { "$B/pg-info" data/nano | sed -n 's/^image  *\([0-9]*\)x.*/\1/p'; }

@test "there and back: equal checksums, equal bytes" {
    for m in pg1.npz pg1.bf16.npz pg1.f16.npz pg2.npz; do
        rm -rf "$T"/*
        "$B/pg-convert" $G/$m "$T/hf"
        "$B/pg-convert" "$T/hf" "$T/back.npz"
        "$B/pg-convert" $G/$m "$T/copy.npz"
        [ "$(sums $G/$m | wc -l)" -ge 32 ]
        diff <(sums $G/$m) <(sums "$T/hf")
        cmp "$T/back.npz" "$T/copy.npz"
    done
    for m in pg1-hf pg2-hf; do
        rm -rf "$T"/*
        "$B/pg-convert" $G/$m "$T/there.npz"
        "$B/pg-convert" "$T/there.npz" "$T/back"
        "$B/pg-convert" "$T/back" "$T/again.npz"
        diff <(sums $G/$m) <(sums "$T/back")
        cmp "$T/there.npz" "$T/again.npz"
    done
}

@test "numpy reads what is written" {
    python=$(tests/find-python numpy) || skip 'no Python with numpy'
    "$B/pg-convert" $G/pg1-hf "$T/a.npz"
    "$python" - "$T/a.npz" $G/pg1.npz <<'END'
import sys, zipfile
import numpy as np
a, b = (np.load(x) for x in sys.argv[1:])
assert zipfile.ZipFile(sys.argv[1]).testzip() is None
for k in b:
    assert a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes(), k
assert set(a) - set(b) == {"hf/extra_embedding_rows"}
END
}

@test "a folder for transformers: sizes, types and tokens in its files" {
    python=$(tests/find-python json) || skip 'no Python'
    mkdir "$T/src"
    cp $G/pg2.npz "$T/src/model.npz"
    cp tests/golden/text/small-a.model "$T/src/tokenizer.model"
    "$B/pg-convert" "$T/src" "$T/hf" --dtype bf16 --resolution 80
    cmp "$T/hf/tokenizer.model" tests/golden/text/small-a.model
    "$python" - "$T/hf" <<'END'
import json, sys
j = lambda n: json.load(open(sys.argv[1] + "/" + n))
c = j("config.json")
assert c["torch_dtype"] == "bfloat16" and c["image_token_index"] == 288 and c["vocab_size"] == 320
v, t = c["vision_config"], c["text_config"]
assert v["image_size"] == 80 and v["patch_size"] == 8 and v["num_image_tokens"] == t["num_image_tokens"] == 100
assert t["model_type"] == "gemma2" and t["num_key_value_heads"] == 2 and t["head_dim"] == 10
p = j("preprocessor_config.json")
assert p["size"] == {"height": 80, "width": 80} and p["image_seq_length"] == 100 and p["resample"] == 3
assert j("added_tokens.json") == {"<image>": 288} and j("generation_config.json")["eos_token_id"] == 1
assert j("tokenizer_config.json")["added_tokens_decoder"]["288"]["content"] == "<image>"
END
    # From one such folder to another the files go along, and say what has changed.
    echo '{"mine": 1}' >"$T/hf/processor_config.json"
    "$B/pg-convert" "$T/hf" "$T/hf2" --dtype f32
    cmp "$T/hf/processor_config.json" "$T/hf2/processor_config.json"
    cmp "$T/hf/preprocessor_config.json" "$T/hf2/preprocessor_config.json"
    grep -q '"torch_dtype": "float32"' "$T/hf2/config.json"
    echo '{"image_processor": {"size": {"height": 80, "width": 80}}, "image_seq_length": 100, "mine": 1}' >"$T/hf/processor_config.json"
    "$B/pg-convert" "$T/hf" "$T/hf3" --resolution 40
    [ "$(tr -d ' \n' <"$T/hf3/processor_config.json")" = '{"image_processor":{"size":{"height":40,"width":40},"image_seq_length":25},"image_seq_length":25,"mine":1}' ]
    cmp <(grep -v torch_dtype "$T/hf/config.json") <(grep -v torch_dtype "$T/hf2/config.json")
    echo '{"size": 80}' >"$T/hf/preprocessor_config.json" # a square
    "$B/pg-convert" "$T/hf" "$T/hf4" --resolution 40
    [ "$(tr -d ' \n' <"$T/hf4/preprocessor_config.json")" = '{"size":40,"image_seq_length":25}' ]
}

@test "PaliGemma 2 of 3, 10 and 28 billion: heads, their sizes and the scale of queries, with and without config.json" {
    [ -x "$B/data/init" ] || make -s BUILD="$B" "$B/data/init"
    while read -r width heads kv size scale; do
        rm -rf "$T"/*
        "$B/data/init" --gemma2 1 --quick 1 --image 28 --patch 14 --vit-depth 1 --vit-width 1152 --vit-heads 16 --vit-mlp 64 --depth 1 \
            --width "$width" --heads "$heads" --kv-heads "$kv" --head-dim "$size" --mlp 96 --vocab 760 --bf16 1 "$T/m.npz" >/dev/null
        "$B/pg-convert" -q "$T/m.npz" "$T/hf"
        for line in '"model_type": "gemma2"' "\"num_attention_heads\": $heads" "\"num_key_value_heads\": $kv" "\"head_dim\": $size" \
            "\"query_pre_attn_scalar\": $scale" '"attn_logit_softcapping": 50.0' '"final_logit_softcapping": 30.0'; do
            grep -q "$line" "$T/hf/config.json" || { echo "$line"; cat "$T/hf/config.json"; false; }
        done
        diff <(sums "$T/m.npz") <(sums "$T/hf")
        rm "$T/hf/config.json" # that says how many rows are tokens, where these are not as many as in the published models
        "$B/pg-info" "$T/hf" | grep -q "^decoder .* heads $heads of $size, key heads $kv$"
        diff <(sums "$T/m.npz" | grep -v embedder) <(sums "$T/hf" | grep -v embedder)
        "$B/pg-convert" -q "$T/hf" "$T/again"
        grep -q "\"query_pre_attn_scalar\": $scale" "$T/again/config.json"
    done <<END
2304 8 4 256 256
3584 16 8 256 256
4608 32 16 128 144
END
}

@test "shards with an index" {
    "$B/pg-convert" data/nano "$T/hf" --shard-size 1
    [ "$(ls "$T"/hf/model-0000?-of-0000?.safetensors | wc -l)" -ge 3 ]
    [ -f "$T/hf/model.safetensors.index.json" ]
    diff <(sums data/nano) <(sums "$T/hf")
    "$B/pg-convert" "$T/hf" "$T/back.npz"
    diff <(sums data/nano) <(sums "$T/back.npz")
}

@test "captions do not depend on the format" {
    "$B/pg-convert" data/nano "$T/hf"
    "$B/pg-fetch" tests/golden/image/png-rgb8.png tests/golden/image/jpg-420.jpg | "$B/pg-resize" -s "$(side)" | "$B/pg-tokenize" -m data/nano >"$T/in.pgs"
    for m in data/nano "$T/hf"; do "$B/pg-infer" -q -m "$m" -n 12 <"$T/in.pgs" | "$B/pg-render" -f captions; done >"$T/all"
    diff <(head -n 2 "$T/all") <(tail -n 2 "$T/all")
}

@test "int8: fewer bytes than bf16, computed with in place, undone by --dtype" {
    "$B/pg-convert" data/nano "$T/i8" --dtype int8
    "$B/pg-convert" data/nano "$T/bf16" --dtype bf16
    [ $((100 * $(stat -c %s "$T/i8/model.safetensors"))) -lt $((62 * $(stat -c %s "$T/bf16/model.safetensors"))) ]
    "$B/pg-info" "$T/i8" | grep -q '^types .*int8'
    grep -q pg-int8 "$T/i8/config.json"
    "$B/pg-convert" "$T/i8" "$T/f32" --dtype f32
    run grep -q pg-int8 "$T/f32/config.json"
    [ "$status" -eq 1 ]
    # In place or written out as float32 and then read: the same numbers, the same captions.
    "$B/pg-fetch" tests/golden/image/png-rgb8.png tests/golden/image/jpg-420.jpg | "$B/pg-resize" -s "$(side)" | "$B/pg-tokenize" -m data/nano >"$T/in.pgs"
    for m in i8 f32; do "$B/pg-infer" -q -m "$T/$m" -n 12 <"$T/in.pgs" | "$B/pg-render" -f captions; done >"$T/all"
    diff <(head -n 2 "$T/all") <(tail -n 2 "$T/all")
    "$B/pg-infer" -q -m "$T/i8" --dtype int8 -n 12 <"$T/in.pgs" | "$B/pg-render" -f captions >/dev/null
    run --separate-stderr "$B/pg-convert" "$T/i8" "$T/no.npz"
    [ "$status" -eq 1 ]
    [[ $stderr == *int8* ]]
    [ ! -e "$T/no.npz" ]
}

@test "int8: matrices of one row or one column" {
    for o in "--vit-mlp 1 --mlp 1" "--vit-width 1 --vit-heads 1" "--width 1 --head-dim 2"; do
        rm -rf "$T/i8" "$T"/*.npz
        # shellcheck disable=SC2086
        "$B/data/init" --image 8 --patch 4 --vit-width 20 --vit-mlp 30 --vit-heads 2 --width 12 --mlp 20 --head-dim 4 --vocab 760 $o "$T/m.npz"
        "$B/pg-convert" -q --dtype int8 "$T/m.npz" "$T/i8"
        "$B/pg-convert" -q --dtype f32 "$T/i8" "$T/back.npz"
        printf '{"image":"png-rgb8.png","suffix":"a red cat"}\n' >"$T/x.jsonl"
        cp tests/golden/image/png-rgb8.png "$T"
        "$B/pg-fetch" "$T/x.jsonl" | "$B/pg-resize" -q -s 8 | "$B/pg-tokenize" -q -m tests/golden/text/small-b.model >"$T/in"
        for m in i8 back.npz; do "$B/pg-infer" -q -m "$T/$m" --score-only <"$T/in" | "$B/pg-render" -f jsonl | sed 's/.*"logprob"://; s/,.*//' >"$T/p-$m"; done
        awk 'NR == FNR { a = $1; next } { d = a - $1; exit !($1 < 0 && d < 1e-4 && d > -1e-4) }' "$T/p-i8" "$T/p-back.npz" || { echo "$o"; cat "$T"/p-*; false; }
    done
}

@test "nothing is overwritten by mistake, nothing half done is left" {
    mkdir "$T/full" "$T/empty"
    touch "$T/full/file"
    run --separate-stderr "$B/pg-convert" $G/pg1.npz "$T/full"
    [ "$status" -eq 1 ]
    [[ $stderr == *"not empty"* ]]
    "$B/pg-convert" $G/pg1.npz "$T/empty"
    [ -f "$T/empty/model.safetensors" ]
    cp $G/pg1.npz "$T/same.npz"
    run "$B/pg-convert" "$T/same.npz" "$T/same.npz"
    [ "$status" -eq 1 ]
    cmp $G/pg1.npz "$T/same.npz"
    cp -r $G/pg1-hf "$T/cut"
    truncate -s -1 "$T/cut/model-00002-of-00002.safetensors"
    run "$B/pg-convert" "$T/cut" "$T/out"
    [ "$status" -eq 1 ]
    (
        ulimit -f 100
        trap '' XFSZ
        run "$B/pg-convert" $G/pg1.npz "$T/out"
        [ "$status" -eq 1 ]
        run "$B/pg-convert" $G/pg1.npz "$T/out.npz"
        [ "$status" -eq 1 ]
    )
    [ -z "$(find "$T" -name '*.tmp*' -o -name 'out*')" ]
}

# What is refused names the file and the remedy, and changes nothing in the folder $T/d.
refused() { # refused FILE ARGUMENT...
    local file=$1
    shift
    find "$T/d" -type f -exec cksum {} + | sort >"$T/before"
    run --separate-stderr "$@"
    [ "$status" -eq 1 ] || { echo "$*: status $status"; return 1; }
    # shellcheck disable=SC2154
    [[ $stderr == *"cannot write '$T/d/$file': "*"move it away"* ]] || { echo "$*: $stderr"; return 1; }
    find "$T/d" -type f -exec cksum {} + | sort | diff "$T/before" -
}

@test "a config.json of something else is not written over" {
    for file in config.json generation_config.json preprocessor_config.json; do
        rm -rf "$T/d"
        mkdir "$T/d"
        echo '{"mine": 1}' >"$T/d/$file"
        refused $file "$B/pg-convert" -q $G/pg1.npz "$T/d/a.safetensors"
    done
    echo 'no JSON' >"$T/d/$file"
    refused $file "$B/pg-convert" -q $G/pg1.npz "$T/d/a.safetensors"
    "$B/pg-convert" -q $G/pg1.npz "$T/d/a.npz" # which has none
    rm "$T/d/$file"
    # An older checkpoint of the same name is replaced with what belongs to it, whether of one file or of more.
    "$B/pg-convert" -q $G/pg1.npz "$T/d/a.safetensors"
    "$B/pg-convert" -q $G/pg2.npz "$T/d/a.safetensors" --dtype bf16
    "$B/pg-convert" -q data/nano "$T/d/a.safetensors" --shard-size 1
    [ ! -e "$T/d/a.safetensors" ]
    "$B/pg-convert" -q $G/pg2.npz "$T/d/a.safetensors"
    grep -q '"model_type": "gemma2"' "$T/d/config.json"
    # Another one beside it is read with these files, too: they may be written where they say the same.
    refused config.json "$B/pg-convert" -q $G/pg1.npz "$T/d/b.safetensors"
    "$B/pg-convert" -q $G/pg2.npz "$T/d/b.safetensors"
    refused config.json "$B/pg-convert" -q $G/pg1.npz "$T/d/a.safetensors"
    "$B/pg-convert" -q $G/pg2.npz "$T/d/a.safetensors"
    rm "$T/d/a.safetensors"
    "$B/pg-convert" -q $G/pg1.npz "$T/d/b.safetensors"
    # An adapter is read without them.
    touch "$T/d/adapter_model.safetensors"
    "$B/pg-convert" -q $G/pg2.npz "$T/d/b.safetensors"
    # Of a source that brings one.
    cp -r $G/pg1-hf "$T/hf"
    echo '{"mine": 1}' >"$T/hf/processor_config.json"
    echo '{"yours": 1}' >"$T/d/processor_config.json"
    "$B/pg-convert" -q "$T/hf" "$T/d/b.safetensors"
    echo '{"yours": 1}' >"$T/d/processor_config.json"
    rm "$T/d/b.safetensors"
    refused processor_config.json "$B/pg-convert" -q "$T/hf" "$T/d/b.safetensors"
}

@test "a config.json of something else: pg-train says so before it begins" {
    printf '{"image":"png-rgb8.png","suffix":"a red cat"}\n' >"$T/x.jsonl"
    cp tests/golden/image/png-rgb8.png "$T"
    "$B/pg-fetch" "$T/x.jsonl" | "$B/pg-resize" -q -s "$(side)" | "$B/pg-tokenize" -q -m data/nano >"$T/in"
    mkdir "$T/d"
    echo '{"mine": 1}' >"$T/d/config.json"
    refused config.json "$B/pg-train" -q -m data/nano --steps 1 -o "$T/d/a.safetensors" <"$T/in"
    run ! grep -q loss <<<"$output"
    rm "$T/d/config.json"
    for _ in 1 2; do "$B/pg-train" -q -m data/nano --steps 1 -o "$T/d/a.safetensors" <"$T/in" >"$T/events"; done
    [ -f "$T/d/config.json" ]
    # The same of a tokenizer in a folder without weights.
    mkdir "$T/d/out"
    cp tests/golden/text/small-a.model "$T/d/out/tokenizer.model"
    refused out/tokenizer.model "$B/pg-train" -q -m data/nano --steps 1 -o "$T/d/out" <"$T/in"
    cp data/nano/tokenizer.model "$T/d/out/tokenizer.model"
    "$B/pg-train" -q -m data/nano --steps 1 -o "$T/d/out" <"$T/in" >"$T/events"
    cp tests/golden/text/small-a.model "$T/d/out/tokenizer.model" # an earlier run's is replaced with its weights
    "$B/pg-train" -q -m data/nano --steps 1 -o "$T/d/out" <"$T/in" >"$T/events"
    cmp data/nano/tokenizer.model "$T/d/out/tokenizer.model"
}

@test "the tokenizer: that there is none is said; a file of it that is there and differs stays and is warned of" {
    mkdir "$T/src" "$T/d"
    cp $G/pg2.npz "$T/src/model.npz"
    run --separate-stderr "$B/pg-convert" "$T/src" "$T/none"
    [ "$status" -eq 0 ]
    [[ $stderr == *"no tokenizer goes along: no tokenizer.model in '$T/src' (PaliGemma's is gs://big_vision/paligemma_tokenizer.model); pg-tokenize -m wants"* ]]
    [ "$(wc -l <<<"$stderr")" -eq 1 ]
    run --separate-stderr "$B/pg-convert" -q "$T/src" "$T/quiet.npz"
    [ -z "$stderr" ]
    cp tests/golden/text/small-a.model "$T/d/tokenizer.model"
    run --separate-stderr "$B/pg-convert" "$T/src" "$T/d/a.npz" # one is beside it already
    [ "$status" -eq 0 ]
    [ -z "$stderr" ]
    cp tests/golden/text/small-a.model "$T/src/tokenizer.model"
    run --separate-stderr "$B/pg-convert" "$T/src" "$T/d/a.npz"
    [ -z "$stderr" ]
    cp tests/golden/text/small-b.model "$T/d/tokenizer.model"
    echo '{"mine": 1}' >"$T/d/added_tokens.json"
    run --separate-stderr "$B/pg-convert" -q "$T/src" "$T/d/a.safetensors"
    [ "$status" -eq 0 ]
    [[ $stderr == *"warning: '$T/d/tokenizer.model' is there"*"stays"*"warning: '$T/d/added_tokens.json' is there"* ]]
    cmp tests/golden/text/small-b.model "$T/d/tokenizer.model"
    run --separate-stderr "$B/pg-convert" -q "$T/src" "$T/d/a.safetensors" # as those of the last run are the source's
    [ "$(wc -l <<<"$stderr")" -eq 2 ]
}

@test "usage" {
    for args in "" "a" "a b c" "--dtype f64 a b" "--dtype int8 a b.npz" "--dtype int8 --format npz a b" "--format npz a b.npz" \
        "--format zip a b" "--resolution 0 a b" "--merge a b" "--no-such a b"; do
        # shellcheck disable=SC2086
        run "$B/pg-convert" $args
        [ "$status" -eq 2 ] || { echo "$args: $status $output"; false; }
    done
    for end in bin npy safetensor; do
        run --separate-stderr "$B/pg-convert" $G/pg1.npz "$T/o.$end"
        [ "$status" -eq 2 ]
        [[ $stderr == *"'$T/o.$end'"*"*.npz and *.safetensors"* ]]
        [ ! -e "$T/o.$end" ]
    done
    "$B/pg-convert" $G/pg1.npz "$T/o.bin/"
    [ -f "$T/o.bin/model.safetensors" ]
    "$B/pg-convert" $G/pg1.npz "$T/paligemma-1.5"
    run --separate-stderr "$B/pg-convert" $G/pg1.npz "$T/o.npz" --resolution 57
    [ "$status" -eq 1 ]
    [[ $stderr == *"patches of 14"* ]]
    run --separate-stderr "$B/pg-convert" "$T/none.npz" "$T/o.npz"
    [ "$status" -eq 1 ]
    run "$B/pg-convert" $G/pg1_in.npz "$T/o.npz"
    [ "$status" -eq 1 ]
}

@test "memory: a layer of 32 MiB as float32 passes through 24 MB, merged or not, into any format" {
    [ -z "${PG_EMULATED:-}" ] || skip 'the emulator alone takes more'
    python=$(tests/find-python json) || skip 'no Python'
    [ -x "$B/data/init" ] || make -s BUILD="$B" "$B/data/init"
    "$B/data/init" --image 28 --patch 14 --depth 1 --width 128 --mlp 32768 --bf16 1 --quick 1 "$T/base.npz" >/dev/null
    "$python" - "$T/ad" <<'END'
import array, json, os, struct, sys
os.mkdir(sys.argv[1])
head, body = {}, b""
for name, inputs, outputs in (("gate", 128, 32768), ("up", 128, 32768), ("down", 32768, 128)):
    for factor, shape in (("A", (2, inputs)), ("B", (outputs, 2))):
        data = array.array("f", (((i * 7919) % 101 - 50) / 500 for i in range(shape[0] * shape[1]))).tobytes()
        key = f"base_model.model.model.language_model.layers.0.mlp.{name}_proj.lora_{factor}.weight"
        head[key] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
text = json.dumps(head).encode()
open(sys.argv[1] + "/adapter_model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + body)
json.dump({"peft_type": "LORA", "r": 2, "lora_alpha": 4}, open(sys.argv[1] + "/adapter_config.json", "w"))
END
    (
        ulimit -d 24000
        "$B/pg-convert" "$T/base.npz" "$T/hf"
        "$B/pg-convert" "$T/hf" "$T/back.npz"
        "$B/pg-convert" "$T/hf" "$T/i8" --dtype int8
        for from in base.npz hf i8; do "$B/pg-convert" --merge "$T/$from" "$T/ad" "$T/$from-merged"; done
        "$B/pg-convert" --merge "$T/base.npz" "$T/ad" "$T/merged.npz"
        "$B/pg-convert" --merge "$T/hf" "$T/ad" "$T/hf-merged.npz"
    )
    cmp "$T/merged.npz" "$T/hf-merged.npz"
    diff <(sums "$T/merged.npz") <(sums "$T/base.npz-merged")
    diff <(sums "$T/merged.npz") <(sums "$T/hf-merged")
    # What the adapter does not name keeps its bits, also in int8.
    for pair in base.npz:merged.npz i8:i8-merged; do
        [ "$(diff <(sums "$T/${pair%:*}") <(sums "$T/${pair#*:}") | grep '^>' | sed 's/^> *//; s/ .*//' | sort | tr '\n' ' ')" = "llm/layers/mlp/gating_einsum llm/layers/mlp/linear " ]
    done
}
