#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets: small valid inputs, from which libFuzzer goes on. Usage: seeds.py [FOLDER] (tests/fuzz/seeds).
They are kept in the repository; run it after changing a format. Needs python3-msgpack and python3-numpy."""
import io
import json
import os
import struct
import sys
import tarfile
import zipfile
import zlib

import msgpack
import numpy as np

root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds")


def put(target, name, data):
    folder = os.path.join(root, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def piece(data):
    return struct.pack("<H", len(data)) + data


def pack(o):
    return msgpack.packb(o, use_bin_type=True)


def tensor(a):
    return {b"nd": True, b"type": a.dtype.str, b"kind": b"", b"shape": a.shape, b"data": a.tobytes()}


def png(width, height, kind=2, depth=8, extra=b"", interlace=0):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    row = b"\0" + bytes(range(1, 1 + (width * channels * depth + 7) // 8))

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    palette = chunk(b"PLTE", bytes(range(48))) if kind == 3 else b""
    rows = row * height if not interlace else row * height * 2
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace)) + palette + extra
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


picture = png(4, 3)
f32 = np.arange(12, dtype="<f4").reshape(2, 2, 3) / 12
example = {"id": "a", "source": "a.jpg", "image": picture, "prefix": "caption en", "suffix": "a cat", "references": ["a cat", "cats"]}
sample = {"id": "a", "pixels": tensor(f32), "tokens": [2, 5, 6, 108, 7, 1], "mask_ar": [0, 0, 0, 0, 1, 1], "mask_loss": [0, 0, 0, 0, 1, 1],
          "mask_input": [1] * 6}
answer = {"id": "a", "source": "a.jpg", "image": picture, "suffix": "a cat on a mat", "references": ["a cat", "the mat"],
          "caption": "a cat <loc0001><loc0002><loc0003><loc0004> cat ; dog", "logprob": -1.5, "caption_tokens": [5, 6, 1],
          "scores": {"CIDEr": 1.5, "BLEU-1": 0.5}, "width": 4, "height": 3}
failed = {"id": "b", "error": {"tool": "pg-resize", "message": "cannot decode"}}
steps = [{"event": "step", "step": i, "steps": 4, "lr": 0.03, "loss": 3.0 / i, "examples_per_s": 2.0} for i in range(1, 5)]
events = steps + [{"event": "val", "step": 4, "loss": 2.5, "exact": 0.25, "CIDEr": 0.5}, {"event": "caption", "step": 4, "id": "a", "caption": "a dog"},
                  {"event": "example", "step": 4, **answer}]
odd = {"nil": None, "yes": True, "big": 2**63, "small": -5, "pi": 3.25, "list": [1, [2, {"x": b"y"}]], "t": tensor(np.arange(6, dtype="<i2").reshape(2, 3)),
       "ext": msgpack.ExtType(5, b"abc"), "h": tensor(np.ones((1, 2), "<f2"))}

# The stream, records.
header = {"pg-stream": [1, 0], "kind": "examples", "chain": [{"program": "pg-fetch", "version": "0", "args": []}]}
put("stream", "two", pack(header) + pack(example) + pack(failed) + pack({"pg-end": 2, "errors": 1}))
put("stream", "odd", pack(header) + pack(odd) + pack({"pg-end": 1}))
put("record", "example", pack(example))
put("record", "odd", pack(odd) + pack(failed))
put("record", "tensors", pack({"t": tensor(np.arange(4, dtype="<f8")), "u": tensor(np.arange(4, dtype="|u1"))}))
put("sample", "one", pack(sample))
put("sample", "plain", pack({k: sample[k] for k in ("pixels", "tokens", "mask_ar")}))
put("render", "one", b"\0" + pack(answer) + pack(failed))
put("render", "two", b"\1" + pack(answer))
put("render", "events", b"\2" + b"".join(map(pack, events)))
put("render", "curve", b"\3" + b"".join(map(pack, events)))
put("score", "stream", b"\0" + pack(answer) + pack({**answer, "id": "c", "caption": "two dogs run"}))
put("score", "stream-coco", b"\2" + pack({**answer, "source": "a/b.jpg"}))
put("score", "lines", b'\1{"id": "a", "caption": "a cat", "references": ["a cat", "cats"]}\n{"id": 2, "caption": "dogs", "suffix": "two dogs"}\n')
put("score", "results", b'\3[{"image_id": 1, "caption": "a cat"}, {"image_id": "b.jpg", "caption": "x"}]')

# Text.
put("text", "plain", b"\0" + piece(b"caption en") + "A Cat, isn't it? <loc0001><loc0002><loc0003><loc0004> cat ; U.S. 3.5kg http://a.org É".encode())
put("text", "cut", b"\5" + piece(b"x") + "ΣΑΣ <b>&amp;</b> 1/2 :-) it's".encode())



# A tokenizer of a few pieces: ModelProto of sentencepiece's protocol buffers (pieces 1: text 1, score 2, kind 3; trainer 2; normalizer 3).
def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def spm(pieces, kind):
    out = b""
    for i, (text, sort) in enumerate(pieces):
        out += field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", -i) + bytes([3 << 3, sort]))
    trainer = bytes([3 << 3, kind]) + (b"\x98\x02\x01" if kind == 2 else b"")  # type; byte_fallback
    trainer += b"".join(bytes([(n << 3) & 127 | 128, n >> 4, v]) for n, v in ((40, 3), (41, 2), (42, 1), (43, 0)))
    return out + field(2, trainer) + field(3, field(1, b"identity") + bytes([3 << 3, 0, 4 << 3, 0, 5 << 3, 0]))


special = [("<pad>", 3), ("<eos>", 3), ("<bos>", 3), ("<unk>", 2)]
put("tokenizer", "unigram", spm(special + [("\u2581a", 1), ("c", 1), ("at", 1), ("\n", 1), ("<loc0001>", 4)], 1))
put("tokenizer", "bpe", spm(special + [("a", 1), ("t", 1), ("at", 1), ("c", 1), ("cat", 1), ("\u2581", 1), ("\n", 1)], 2))

# npz: stored and deflated, and a resume file.
for name, save in (("stored", np.savez), ("deflated", np.savez_compressed)):
    b = io.BytesIO()
    save(b, **{"params/img/head/bias": np.arange(3, dtype="<f4"), "n": np.zeros((2, 0), "<i8")})
    put("npz", name, b.getvalue())
b = io.BytesIO()
np.savez(b, **{"step": np.array([2, 2, 0, 0], "<i8"), "best_loss": np.array([1.5]), "fingerprint": np.frombuffer(b"steps 4\nbatch 2\n", "u1"),
               **{k + "/llm/final_norm/scale": np.ones((1, 6), "<f4") for k in ("w", "mu", "nu")}})
put("npz", "state", b.getvalue())


# safetensors: with config.json, with an index, an adapter.
def safetensors(tensors):
    at, entries, body = 0, {"__metadata__": {"format": "pt"}}, b""
    for name, a in tensors.items():
        entries[name] = {"dtype": {"<f4": "F32", "<f2": "F16", "|i1": "I8"}[a.dtype.str], "shape": a.shape, "data_offsets": [at, at + a.nbytes]}
        body += a.tobytes()
        at += a.nbytes
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


config = json.dumps({"model_type": "paligemma", "image_token_index": 4, "text_config": {"num_attention_heads": 1, "head_dim": 2},
                     "vision_config": {"num_attention_heads": 1, "patch_size": 1, "image_size": 2}}).encode()
one = safetensors({"language_model.model.norm.weight": np.ones(4, "<f4"), "language_model.model.embed_tokens.weight": np.ones((4, 4), "<f2")})
put("safetensors", "file", b"\0" + piece(config) + one)
put("safetensors", "int8", b"\0" + piece(b"{}") + safetensors({"x.weight": np.ones((2, 4), "|i1"), "x.weight_scale": np.ones((2, 1), "<f4")}))
index = json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}).encode()
put("safetensors", "index", b"\1" + piece(index) + safetensors({"a": np.ones(2, "<f4")}) + safetensors({"b": np.ones(2, "<f4")}))
adapter = json.dumps({"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": "x", "use_rslora": False, "bias": "none"}).encode()
module = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_"
put("safetensors", "adapter", b"\2" + piece(adapter) + safetensors({module + "A.weight": np.ones((1, 4), "<f4"), module + "B.weight": np.ones((4, 1), "<f4")}))

# JSON lines, COCO.
put("jsonl", "lines", b'\0\xef\xbb\xbf{"image": "a.jpg", "suffix": "a cat", "prefix": "p", "references": ["x", "y"], "id": 3}\n\n{"image": "b", "colour": 1}\n')
put("jsonl", "remote", b'\1{"image": "sub/a.jpg?x=y", "suffix": "a"}\n{"image": "gs://b/c.jpg", "references": "one"}\nnot JSON\n')
coco = {"images": [{"id": 1, "file_name": "d/a.jpg"}, {"id": "x"}], "annotations": [{"image_id": 1, "caption": "a"}, {"image_id": 7, "caption": "b"}]}
put("coco", "one", json.dumps(coco).encode())


# tar: one example in each of two forms.
def archive(form, members):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w", format=form) as t:
        for name, data in members.items():
            i = tarfile.TarInfo(name)
            i.size = len(data)
            t.addfile(i, io.BytesIO(data))
    return b.getvalue()[: -8 * 1024]  # the end mark is 1 KiB; the rest is padding


members = {"000.jpg": b"\xff\xd8", "000.txt": b"a cat\n", "000.json": b'{"suffix": "b", "id": 4}'}
put("tar", "ustar", archive(tarfile.USTAR_FORMAT, members)[: 3 * 1024 + 1024])
put("tar", "pax", archive(tarfile.PAX_FORMAT, {"\u00e9" * 3 + ".png": picture}))
put("tar", "gnu", archive(tarfile.GNU_FORMAT, {"d/" + "x" * 101 + ".txt": b"y"}))

# Pictures.
put("image", "rgb", b"\0" + picture)
put("image", "palette", b"\2" + png(5, 2, 3, 4))
put("image", "alpha", b"\4" + png(2, 2, 6))
put("image", "grey16", b"\5" + png(2, 2, 0, 16))
put("image", "interlaced", b"\1" + png(4, 4, 2, 8, interlace=1))
golden = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "image")
for name in ("jpg-420-1x1.jpg", "jpg-420-7x3.jpg"):
    put("image", name, b"\2" + open(os.path.join(golden, name), "rb").read())

# pg-serve.
form = piece(b"caption en")
form += b"\x80" + piece(b"dir/a.png") + piece(picture[:20]) + b"\0" + piece(picture[20:]) + b"\2" + piece(b"caption de") + b"\3" + piece(b"own")
put("form", "upload", b"\0" + form)
put("form", "headers", b"\1" + piece(b"Basic eDo6eQ==") + piece(b"text/event-stream") + piece(b"10.0.0.1"))
put("form", "bearer", b"\1" + piece(b"Bearer 0123456789abcdef") + piece(b"text/html") + piece(b"fe80::1"))
put("form", "answer", b"\2" + piece("a <b>cat</b> {{text}} é".encode()) + piece(b"a c"))

reply = {"id": "00000000-1", "caption": "a <b>cat</b>", "logprob": -1.5, "truncated": True}
failure = {"id": "00000000-2", "error": {"tool": "pg-infer", "message": "record '00000000-2': too long"}}
put("child", "captions", pack({"id": "00000000-1", "partial": "a"}) + pack(reply) + pack(failure))
put("child", "odd", pack({"id": "00000000-3", "caption": "early"}) + pack({"id": "00000000-1", "caption": b"\xff\0a"}) + pack({"id": "00000000-2"}))

# What is known of a part of a download.
sidecar = {"source": "https://example.org/a.npz", "etag": '"x"', "generation": "17", "size": 30, "md5": "0" * 32, "crc32c": "0" * 8, "sha256": "0" * 64}
put("part", "whole", piece(b'"y"') + piece(b"gs://b/a") + json.dumps(sidecar).encode())
put("part", "bare", piece(b"") + piece(b"/d/\xff") + b'{"source": "a", "size": -1, "sha1": 3}')

# Servers' replies.
ok = b"\2"
put("net", "kaggle", b"\1\0" + ok + piece(json.dumps({"files": [{"name": "a.npz", "totalBytes": "12", "creationDate": "x"}], "nextPageToken": ""}).encode()))
put("net", "hub", b"\1\1" + ok + piece(json.dumps({"sha": "0" * 40, "siblings": [{"rfilename": "a.safetensors", "size": 3, "lfs": {"sha256": "0" * 64}}]}).encode())
    + b"\3" + piece(b"link\0<https://huggingface.co/x>; rel=\"next\"\0") + piece(json.dumps([{"type": "file", "path": "a.json", "size": 4, "oid": "1" * 40}]).encode()))
put("net", "storage", b"\1\2" + ok + piece(json.dumps({"items": [{"name": "folder/a.jpg", "size": "4", "md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg==", "crc32c": "AAAAAA==",
                                                                    "generation": "17"}], "nextPageToken": "t"}).encode()) + ok + piece(b'{"items": []}'))
put("net", "refused", b"\1\3" + b"\4" + piece(b'{"error": "gated", "message": "no"}'))
put("net", "url", b"\0" + piece(b"https://me:pw@example.org:8443/a%20b/c.jpg?sig=1#f") + piece(b"gs://bucket/x/"))
