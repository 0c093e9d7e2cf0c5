#!/usr/bin/env bats
# Mistakes from users' reports. Each is an error or a warning, never silence; where the tools make one impossible, that is what is shown.
# shellcheck disable=SC2030,SC2031,SC2154
bats_require_minimum_version 1.5.0
load said

setup() {
    place
    PY=$(tests/find-python msgpack numpy msgpack_numpy) || skip 'no python3 with msgpack-numpy'
}

# pictures: five different pictures with captions
pictures() {
    local i n=0
    mkdir -p "$T/p"
    for i in png-rgb8 png-pal8 jpg-420 jpg-411 jpg-gray; do
        n=$((n + 1))
        cp tests/golden/image/$i.??? "$T/p/"
        printf 'a red thing number %d\n' $n >"$T/p/$i.txt"
    done
}

# examples [pg-tokenize options]: them, for the small model
examples() { "$B/pg-fetch" -q "$T/p" | "$B/pg-resize" -m $M | "$B/pg-tokenize" -q -m $M "$@"; }

# change STATEMENT: on each record r (and its number i) of a stream
change() {
    "$PY" -c '
import msgpack, sys
import numpy, msgpack_numpy
out = sys.stdout.buffer
header, *records, end = msgpack.Unpacker(sys.stdin.buffer, raw=False, strict_map_key=False, max_buffer_size=0)
out.write(msgpack.packb(header))
for i, r in enumerate(records):
    exec(sys.argv[1])
    out.write(msgpack.packb(r))
out.write(msgpack.packb({"pg-end": len(records)}))' "$1"
}

# weights FROM TO STATEMENT: an npz whose arrays, w, a statement has changed
weights() {
    "$PY" -c '
import numpy, sys
w = dict(numpy.load(sys.argv[1]))
exec(sys.argv[3])
numpy.savez(sys.argv[2], **w)' "$@"
}

train() { "$B/pg-train" -q -m $M -o "$T/out.npz" --steps 1 --batch 2 "$@"; }
infer() { "$B/pg-infer" -q -m $M -n 4 "$@"; }

# both STATUS_OF_TRAIN TEXT STREAM: pg-train and pg-infer say so
both() {
    says "$1" "$2" bash -c "'$B/pg-train' -q -m $M -o '$T/out.npz' --steps 1 --batch 2 <'$3' >/dev/null"
    says 4 "$2" bash -c "'$B/pg-infer' -q -m $M -n 4 <'$3' >/dev/null"
}

@test "suffix visible to itself in training: an error; pg-tokenize's masks show it to nobody before" {
    pictures
    examples | change 'r["mask_ar"] = [0] * len(r["tokens"])' >"$T/bad.pgs"
    both 1 'is to be predicted (mask_loss 1) and seen at the same time (mask_ar 0)' "$T/bad.pgs"
    examples | change 'assert r["mask_ar"] == r["mask_loss"] and sum(r["mask_ar"]) > 1' >/dev/null
    # The masks of the golden batch, by which the golden losses were computed, are accepted as they are.
    "$A" make pg1 | "$B/pg-train" -q -m $G/pg1.npz -o "$T/o.npz" --steps 5 --batch 4 --no-shuffle 2>/dev/null | "$A" check pg1 "$T/o.npz"
}

@test "prefix not fully visible at inference: an error, with a suffix or without" {
    pictures
    examples | change 'r["mask_ar"] = [0] + [1] * (len(r["tokens"]) - 1)' >"$T/bad.pgs"
    both 1 'is neither prefix (mask_ar 0) nor suffix (mask_loss 1)' "$T/bad.pgs"
    rm "$T"/p/*.txt
    for also in '' 'del r["mask_loss"]'; do
        examples | change 'r["mask_ar"] = [0] + [1] * (len(r["tokens"]) - 1); '"$also" >"$T/bad.pgs"
        says 4 'is neither prefix' bash -c "'$B/pg-infer' -m $M -n 4 <'$T/bad.pgs' >/dev/null"
    done
}

@test "pads attended to: an error, also where mask_input is not there at all" {
    pictures
    for bad in 'r["mask_input"] = [1] * len(r["tokens"])' 'del r["mask_input"]'; do
        examples -l 24 | change "$bad; r['mask_ar'] = [int(k >= 4) for k in range(24)]; r['mask_loss'] = r['mask_ar']" >"$T/bad.pgs"
        both 1 "is padding (0), but 'mask_input' does not say so" "$T/bad.pgs"
    done
    # Padding that is marked as such changes no caption.
    cmp <(examples | infer 2>/dev/null | "$B/pg-render" -f captions) <(examples -l 24 | infer 2>/dev/null | "$B/pg-render" -f captions)
}

@test "eos missing after the suffix, or cut off by the length: warnings" {
    pictures
    says 0 '5 of 5 examples were cut to 6 tokens, 5 lost their eos' bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-tokenize' -m $M -l 6 >/dev/null"
    examples | change 'for k in "tokens", "mask_ar", "mask_loss", "mask_input": r[k] = r[k][:-1]' >"$T/bad.pgs"
    says 0 '5 examples have lost their eos' bash -c "'$B/pg-train' -q -m $M -o '$T/out.npz' --steps 1 --batch 2 <'$T/bad.pgs' >/dev/null"
    says 0 '5 suffixes have lost the eos' bash -c "'$B/pg-infer' -m $M --score-only <'$T/bad.pgs' >/dev/null"
    says 0 "5 examples of '$T/bad.pgs' have lost their eos" bash -c "'$B/pg-train' -q -m $M -o '$T/out.npz' --steps 1 --batch 2 --val '$T/bad.pgs' <'$T/bad.pgs' >/dev/null"
}

@test "new line missing before the suffix: a warning; merged with a neighbour: impossible, and one given twice is told of" {
    pictures
    examples | change 'i = r["mask_ar"].index(1); [r[k].pop(i - 1) for k in ("tokens", "mask_ar", "mask_loss", "mask_input")]' >"$T/bad.pgs"
    says 0 "5 prefixes end without the new line" bash -c "'$B/pg-train' -q -m $M -o '$T/out.npz' --steps 1 --batch 2 <'$T/bad.pgs' >/dev/null"
    says 0 "5 prefixes end without the new line" bash -c "'$B/pg-infer' -m $M -n 4 <'$T/bad.pgs' >/dev/null"
    says 0 '5 prefixes end with a new line' bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-tokenize' -m $M -p \$'caption en\n' >/dev/null"
    # The same piece whatever stands beside it.
    for p in 'caption en' 'caption en ' 'x' ''; do
        examples -p "$p" | change 'print(r["tokens"][r["mask_ar"].index(1) - 1], file=sys.stderr)' 2>>"$T/newlines" >/dev/null
    done
    [ "$(sort -u "$T/newlines" | wc -l)" -eq 1 ]
    [ "$(wc -l <"$T/newlines")" -eq 20 ]
}

@test "pixels that are not in [-1, 1], as from another program: a warning" {
    pictures
    examples | change 'if i < 2: r["pixels"] = {**r["pixels"], b"data": ((numpy.frombuffer(r["pixels"][b"data"], "<f4") + 1) * 127.5).astype("<f4").tobytes()}' >"$T/bad.pgs"
    says 0 '2 pictures have pixels outside of [-1, 1]' bash -c "'$B/pg-train' -q -m $M -o '$T/out.npz' --steps 1 --batch 2 <'$T/bad.pgs' >/dev/null"
    says 0 "2 pictures of '$T/bad.pgs' have pixels outside of [-1, 1]" bash -c "'$B/pg-train' -q -m $M -o '$T/out.npz' --steps 1 --batch 2 --val '$T/bad.pgs' <'$T/bad.pgs' >/dev/null"
    says 0 '2 pictures have pixels outside of [-1, 1]' bash -c "'$B/pg-infer' -m $M -n 4 <'$T/bad.pgs' >/dev/null"
    says 0 '2 pictures have pixels outside of [-1, 1]' bash -c "'$B/pg-infer' -m $M --features <'$T/bad.pgs' >/dev/null"
    examples >"$T/good.pgs"
    run bash -c "'$B/pg-infer' -m $M -n 4 <'$T/good.pgs' 2>&1 >/dev/null"
    [[ $output != *outside* ]]
}

@test "bos twice or missing: errors; written out in a text: a warning" {
    pictures
    examples | change 'for k in "tokens", "mask_ar", "mask_loss", "mask_input": r[k] = r[k][1:]' >"$T/bad.pgs"
    both 1 'not with bos (2)' "$T/bad.pgs"
    examples | change 'for k, v in ("tokens", 2), ("mask_ar", 0), ("mask_loss", 0), ("mask_input", 1): r[k] = [v] + r[k]' >"$T/bad.pgs"
    both 1 'token 1 is bos (2), which stands at the beginning alone' "$T/bad.pgs"
    says 0 '5 examples hold <bos>, <eos>, <image> or the like' bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-tokenize' -m $M -p '<image><bos>caption en' >/dev/null"
    examples | change 'assert r["tokens"][0] == 2 and r["tokens"].count(2) == 1' >/dev/null
}

@test "PaliGemma 2's weights used as 1: told apart by their norms; without these an error" {
    "$B/pg-info" $G/pg2.npz | grep -q '^family  *PaliGemma 2'
    "$S" make pg2 decode | "$B/pg-infer" -m $G/pg2.npz -n 12 2>/dev/null | "$S" check pg2 greedy
    for norm in post_attention_norm post_ffw_norm; do
        weights $G/pg2.npz "$T/bad.npz" "del w['params/llm/layers/$norm/scale']"
        says 1 "_norm/scale'" "$B/pg-info" "$T/bad.npz"
    done
    # Both gone, nothing but the sizes tells.
    "$B/data/init" --image 48 --vit-depth 1 --vit-width 32 --vit-heads 1 --width 2304 --mlp 9216 --depth 1 --vocab 64 --f16 1 "$T/bad.npz"
    says 1 "PaliGemma 2's, but its post_attention_norm and post_ffw_norm are missing" "$B/pg-info" "$T/bad.npz"
    rm "$T/bad.npz"
}

@test "weights for other pictures than those given: an error that says what to do, said a few times and counted" {
    pictures
    "$B/pg-fetch" -q "$T/p" | "$B/pg-resize" -s 224 | "$B/pg-tokenize" -q -m $M >"$T/bad.pgs"
    both 1 'pixels are 224x224, the model wants 64x64: pg-resize -s 64' "$T/bad.pgs"
    says 4 'the same of 2 more records: pixels are 224x224' bash -c "'$B/pg-infer' -m $M <'$T/bad.pgs' >/dev/null"
    [ "$(grep -c 'jpg-\|png-' <<<"$stderr")" -eq 3 ]
    "$B/pg-infer" -q -m $M <"$T/bad.pgs" 2>/dev/null | "$B/pg-render" -f jsonl >"$T/shown" || true
    [ "$(grep -c '"error":.*64x64' "$T/shown")" -eq 5 ]
}

@test "the 64 extra vocabulary rows sampled: impossible, the likeliest rows of the file though they are" {
    "$S" make pg1 decode >"$T/in"
    # Rows 320 and on of the Hugging Face file hold 7.0, far likelier than any token.
    for o in "" "--beam 2" "-t 1.5 --best-of 4" "--dtype bf16"; do
        # shellcheck disable=SC2086
        "$B/pg-infer" -q -m $G/pg1-hf -n 12 $o <"$T/in" 2>/dev/null | change 'assert r["caption_tokens"] and max(r["caption_tokens"]) < 320' >/dev/null
    done
    "$S" make pg1 decode | "$B/pg-infer" -q -m $G/pg1-hf -n 12 2>/dev/null | "$S" check pg1 greedy
}

@test "a tokenizer that splits <loc0000>: a warning, of Gemma's at once, of a small one where a text names places" {
    pictures
    says 0 'name places such as <loc0000>, which this tokenizer splits' bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-tokenize' -m $M -p 'detect <loc0012>' >/dev/null"
    says 0 '' bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-tokenize' -q -m $M -p 'detect <loc12>' >/dev/null"
    [ -z "$stderr" ]
    # As many pieces as Gemma's has: appended to the protocol buffer of a small one.
    "$PY" - $M/tokenizer.model "$T/large.model" "$T/places.model" <<'P'
import struct, sys
def piece(text, kind=1):
    s = text.encode()
    body = b"\x0a" + bytes([len(s)]) + s + b"\x15" + struct.pack("<f", -1000.0) + b"\x18" + bytes([kind])
    return b"\x0a" + bytes([len(body)]) + body
model = open(sys.argv[1], "rb").read()
many = b"".join(piece("\u2581zq%06d" % i) for i in range(200000))
open(sys.argv[2], "wb").write(model + many)
open(sys.argv[3], "wb").write(model + many + b"".join(piece("<loc%04d>" % i, 4) for i in range(1024)))
P
    says 0 "'<loc0000>' is split: this is a tokenizer of Gemma, not of PaliGemma" bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-tokenize' -q -m '$T/large.model' >/dev/null"
    says 0 '' bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-tokenize' -q -m '$T/places.model' -p 'detect <loc0012>' >/dev/null"
    [ -z "$stderr" ] || { echo "$stderr"; false; }
}

@test "bfloat16 read as garbage from |V2: read as what it is" {
    "$PY" -c 'import numpy, sys; assert any(a.dtype.str == "|V2" for a in numpy.load(sys.argv[1]).values())' $G/pg1.bf16.npz
    "$B/pg-info" $G/pg1.bf16.npz | grep -q '^types.*bf16'
    "$B/pg-convert" --dtype bf16 $G/pg1.npz "$T/here.npz"
    diff <("$B/pg-info" --checksums "$T/here.npz") <("$B/pg-info" --checksums $G/pg1.bf16.npz)
    # Log-probabilities of whole texts: 8 bits of mantissa in the weights move them by some hundredths; garbage by tens.
    score() { "$S" make pg1 caption | "$B/pg-infer" -q -m "$1" --score-only 2>/dev/null | change 'print(r["logprob"], file=sys.stderr)' 2>&1 >/dev/null; }
    paste <(score $G/pg1.npz) <(score $G/pg1.bf16.npz) | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 0.5) bad = 1; n++ } END { exit bad || n != 4 }'
}

@test "the loss of a batch without suffix: said of the step, of the run, and with no suffix at all a failure" {
    pictures
    examples | change 'if i < 2: n = r["mask_ar"].index(1); r.update({k: r[k][:n] for k in ("tokens", "mask_ar", "mask_loss", "mask_input")})' >"$T/some.pgs"
    says 0 'step 1: no example of it has a suffix' bash -c "'$B/pg-train' -m $M -o '$T/out.npz' --steps 3 --batch 2 --no-shuffle <'$T/some.pgs' >/dev/null"
    [[ $stderr == *'2 examples have no suffix: their loss is 0'* ]]
    says 0 "2 of 5 examples of '$T/some.pgs' have no suffix" bash -c "'$B/pg-train' -m $M -o '$T/out.npz' --steps 3 --batch 2 --val '$T/some.pgs' <'$T/some.pgs' >/dev/null"
    rm "$T"/p/*.txt
    examples >"$T/none.pgs"
    rm -f "$T/out.npz"
    says 1 'none of the 5 examples has a suffix' bash -c "'$B/pg-train' -m $M -o '$T/out.npz' --steps 3 --batch 2 <'$T/none.pgs' >/dev/null"
    [ ! -e "$T/out.npz" ]
    says 1 'there is no loss to judge by' bash -c "'$B/pg-train' -m $M -o '$T/out.npz' --steps 3 --batch 2 --val '$T/none.pgs' --val-every 1 --keep-best <'$T/some.pgs' >/dev/null"
}

@test "the same caption for every picture after tuning: pg-infer, pg-train, pg-score and the report notice" {
    pictures
    mkdir "$T/blind"
    cp $M/tokenizer.model "$T/blind/"
    # A head that gives nothing: the language model sees no picture.
    weights $M/model.npz "$T/blind/model.npz" 'w["params/img/head/kernel"] *= 0; w["params/img/head/bias"] *= 0'
    examples >"$T/in.pgs"
    says 0 'all 5 captions are the same' bash -c "'$B/pg-infer' -m '$T/blind' <'$T/in.pgs' >'$T/out.pgs'"
    [[ $stderr == *'though the pictures differ'* ]]
    says 0 'all 5 captions are the same' bash -c "'$B/pg-score' '$T/out.pgs' >/dev/null"
    says 0 'all 5 validation captions are the same' bash -c "'$B/pg-train' -m '$T/blind' -o '$T/o.npz' --steps 1 --lr 1e-6 --val '$T/in.pgs' <'$T/in.pgs' >/dev/null"
    "$B/pg-render" -o "$T/r.html" "$T/out.pgs"
    grep -q 'class="warning".*though the pictures differ' "$T/r.html"
    # Five copies of one picture have one caption: nothing is said.
    change 'r["pixels"] = records[0]["pixels"]; r["image"] = records[0]["image"]; r["suffix"] = "thing %d" % i' <"$T/in.pgs" >"$T/one.pgs"
    says 0 '' bash -c "'$B/pg-infer' -q -m $M <'$T/one.pgs' >'$T/out.pgs'"
    [ -z "$stderr" ]
    "$B/pg-render" -o "$T/r.html" "$T/out.pgs"
    ! grep -q 'class="warning"' "$T/r.html" || false
    # The model as it is sees them.
    says 0 '' bash -c "'$B/pg-infer' -q -m $M <'$T/in.pgs' >/dev/null"
    [ -z "$stderr" ]
}

@test "a learning rate so small that nothing changes: said of the step and at the end; bfloat16 keeps float32 weights" {
    pictures
    examples >"$T/in.pgs"
    says 0 'step 1 changed no weight: the learning rate is too small' bash -c "'$B/pg-train' -m $M -o '$T/o.npz' --steps 3 --batch 2 --lr 1e-25 <'$T/in.pgs' >/dev/null"
    [[ $stderr == *"3 steps changed no weight"* ]]
    # The last step of a long cosine, of a rate near 0, is no reason to warn.
    "$B/pg-train" -m $M -o "$T/o.npz" --steps 1500 --batch 2 --lr 1e-4 <"$T/in.pgs" >/dev/null 2>"$T/err"
    run ! grep 'changed no weight' "$T/err"
    [[ $stderr == *"no weight differs from '$M': nothing was learnt"* ]]
    [ "$(grep -c 'step [0-9]* changed' <<<"$stderr")" -eq 1 ]
    # Too small for bfloat16's 8 bits: the weights are float32 and change all the same, in either arithmetic; that they will be lost is said.
    "$B/pg-convert" --dtype bf16 $M "$T/bf16.npz"
    for d in f32 bf16; do
        says 0 'still differ in bfloat16' bash -c "'$B/pg-train' -m '$T/bf16.npz' -o '$T/$d-out.npz' --steps 3 --batch 2 --lr 1e-6 --schedule constant --dtype $d <'$T/in.pgs' >/dev/null"
        ! diff -q <("$B/pg-convert" --dtype f32 "$T/bf16.npz" "$T/was.npz"; "$B/pg-info" --checksums "$T/was.npz") <("$B/pg-info" --checksums "$T/$d-out.npz") >/dev/null || false
        rm "$T/was.npz"
    done
    says 0 '' bash -c "'$B/pg-train' -m $M -o '$T/o.npz' --steps 3 --batch 2 --lr 0.1 <'$T/in.pgs' >/dev/null"
    [[ $stderr != *bfloat16* ]]
}

@test "an adapter trained on one base applied to another: a warning, or an error where it does not fit" {
    pictures
    examples >"$T/in.pgs"
    "$B/pg-train" -q -m $M -o "$T/ad" --train lora --steps 1 --batch 2 <"$T/in.pgs" >/dev/null
    weights $M/model.npz "$T/other.npz" 'w["params/llm/final_norm/scale"] = w["params/llm/final_norm/scale"] + numpy.float16(0.5)'
    cp $M/tokenizer.model "$T/"
    says 0 "the adapter '$T/ad' was trained on other weights than '$T/other.npz'" bash -c "'$B/pg-infer' -m '$T/other.npz' --adapter '$T/ad' <'$T/in.pgs' >/dev/null"
    says 0 'was trained on other weights' "$B/pg-convert" --merge "$T/other.npz" "$T/ad" "$T/merged.npz"
    says 1 'another model' "$B/pg-convert" --merge $G/pg2.npz "$T/ad" "$T/no.npz"
    says 0 '' bash -c "'$B/pg-infer' -q -m $M --adapter '$T/ad' <'$T/in.pgs' >/dev/null"
    [ -z "$stderr" ]
}

@test "captions lower-cased where case matters: a warning, not hidden by --quiet" {
    pictures
    echo 'The Eiffel Tower' >"$T/p/png-rgb8.txt"
    says 0 'lower-cased 1 suffix, as the notebook does; --keep-case keeps' bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-tokenize' -q -m $M >/dev/null"
    says 0 '' bash -c "'$B/pg-fetch' '$T/p' | '$B/pg-tokenize' -q -m $M --keep-case >/dev/null"
    [ -z "$stderr" ]
}

@test "an EXIF-rotated photograph: turned, as the answers of another program have it; left lying only where asked for, and told of" {
    "$B/pg-fetch" tests/golden/image/jpg-exif6.jpg >"$T/in.pgs"
    "$B/pg-resize" -s 64 <"$T/in.pgs" | change 'print(r["width"], r["height"], file=sys.stderr)' 2>"$T/turned" >/dev/null
    says 0 "1 picture has an EXIF orientation that --no-orient does not apply" bash -c "'$B/pg-resize' -s 64 --no-orient <'$T/in.pgs' >'$T/lying.pgs'"
    change 'print(r["width"], r["height"], file=sys.stderr)' <"$T/lying.pgs" 2>"$T/lying" >/dev/null
    [ "$(cut -d' ' -f1 "$T/turned")" = "$(cut -d' ' -f2 "$T/lying")" ]
    ! cmp -s "$T/turned" "$T/lying" || false
    says 0 '' bash -c "'$B/pg-fetch' tests/golden/image/jpg-420.jpg | '$B/pg-resize' -q -s 64 --no-orient >/dev/null"
    [ -z "$stderr" ]
}

@test "two records with one id: an error where they are made, a warning where they are scored or trained on" {
    pictures
    printf '{"image": "p/png-rgb8.png", "id": "x", "suffix": "one"}\n{"image": "p/jpg-420.jpg", "id": "x", "suffix": "two"}\n' >"$T/two.jsonl"
    says 4 "the id 'x' was there before" bash -c "'$B/pg-fetch' '$T/two.jsonl' >/dev/null"
    printf '{"id": "x", "caption": "one", "references": ["one"]}\n{"id": "x", "caption": "two", "references": ["two"]}\n' >"$T/two.scores"
    says 4 'its id is in the input twice' bash -c "'$B/pg-score' '$T/two.scores' >/dev/null"
    examples | change 'r["id"] = "x%d" % (i % 3)' >"$T/in.pgs"
    says 0 '2 examples have an id that another one has, too' bash -c "'$B/pg-train' -m $M -o '$T/o.npz' --steps 1 --batch 2 <'$T/in.pgs' >/dev/null"
}

@test "a JSONL with a misspelt key: a warning with its place, and a failure where nothing is left to train on" {
    pictures
    for i in png-rgb8.png jpg-420.jpg; do printf '{"image": "p/%s", "sufix": "a thing"}\n' $i; done >"$T/bad.jsonl"
    says 0 "bad.jsonl:1: unknown key 'sufix' is left out" bash -c "'$B/pg-fetch' '$T/bad.jsonl' >/dev/null"
    [ "$(grep -c sufix <<<"$stderr")" -eq 1 ]
    run --separate-stderr env PG_BIN="$B" pipelines/finetune.sh $M "$T/bad.jsonl" "$T/o"
    [ "$status" -ne 0 ]
    [[ $stderr == *'none of the 2 examples has a suffix'* ]]
    printf '{"id": "x", "caption": "one", "refs": ["one"]}\n{"id": "y", "caption": "two", "references": ["two"]}\n' >"$T/bad.scores"
    says 4 "line 1: unknown key 'refs'" bash -c "'$B/pg-score' '$T/bad.scores' >/dev/null"
    printf '{"id": "x", "note": 1, "caption": "one", "suffix": "one", "referencs": ["one"]}\n{"id": "y", "capton": "two", "caption": "two", "references": ["two"], "referencs": 1}\n' >"$T/bad.scores"
    says 0 "line 1: unknown key 'referencs': did you mean 'references'?" bash -c "'$B/pg-score' '$T/bad.scores' >/dev/null"
    [[ $stderr == *"line 2: unknown key 'capton': did you mean 'caption'?" ]]
    [ "$(wc -l <<<"$stderr")" -eq 3 ]
}

@test "a validation set that overlaps the training set: by id and by picture, in memory and as a stream" {
    pictures
    examples >"$T/in.pgs"
    change 'r["id"] = "other-%d" % i' <"$T/in.pgs" >"$T/renamed.pgs"
    says 0 '5 of 5 validation examples have the id of a training example' bash -c "'$B/pg-train' -m $M -o '$T/o.npz' --steps 1 --batch 2 --val '$T/in.pgs' <'$T/in.pgs' >/dev/null"
    says 0 '4 of 5 validation examples have the id of a training example' \
        bash -c "'$B/pg-train' -m $M -o '$T/o.npz' --steps 2 --batch 2 --stream --val '$T/in.pgs' <'$T/in.pgs' >/dev/null"
    says 0 '5 of 5 validation examples have the picture of a training example, under another id' \
        bash -c "'$B/pg-train' -m $M -o '$T/o.npz' --steps 1 --batch 2 --val '$T/renamed.pgs' <'$T/in.pgs' >/dev/null"
    says 0 '4 of 5 validation examples have the picture of a training example, under another id' \
        bash -c "'$B/pg-train' -m $M -o '$T/o.npz' --steps 2 --batch 2 --stream --val '$T/renamed.pgs' <'$T/in.pgs' >/dev/null"
    mkdir "$T/q"
    cp tests/golden/image/jpg-444.jpg "$T/q/"
    echo 'another thing' >"$T/q/jpg-444.txt"
    "$B/pg-fetch" -q "$T/q" | "$B/pg-resize" -m $M | "$B/pg-tokenize" -q -m $M >"$T/val.pgs"
    says 0 '' bash -c "'$B/pg-train' -q -m $M -o '$T/o.npz' --steps 1 --batch 2 --val '$T/val.pgs' <'$T/in.pgs' >/dev/null"
    [[ $stderr != *'of a training example'* ]]
}

@test "references of a validation example that are no strings: not its suffix instead" {
    pictures
    examples | change 'r["references"] = [1] if i == 1 else ["a red thing"]' >"$T/in.pgs"
    says 0 "validation example 2: element 0 of 'references' is not a string: it has no part in scores" \
        bash -c "'$B/pg-train' -q -m $M -o '$T/o.npz' --steps 1 --batch 2 --val '$T/in.pgs' <'$T/in.pgs' >/dev/null"
}
