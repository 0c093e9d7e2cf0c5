"""Checkpoints that are odd or broken, made from a golden one. Usage: odd_files.py GOLDEN.npz HF_FOLDER OUT"""
import io
import json
import os
import struct
import sys
import zipfile

import numpy as np

golden, hf, out = sys.argv[1:]
plain = dict(np.load(golden))


def name(s):
    return os.path.join(out, s)


def npz(path, arrays, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(name(path), "w", method) as z:
        for key, a in arrays:
            b = io.BytesIO()
            np.lib.format.write_array(b, a)
            z.writestr(key + ".npy", b.getvalue())


def changed(key, a):
    return [(k, a if k == key else v) for k, v in plain.items()]


# ---- npz ----
np.savez_compressed(name("compressed.npz"), **plain)
# Every head gets a k and v of its own, all alike: the same model, in the form that the reference has where heads and key heads are as many.
attn = "params/llm/layers/attn/"
q, kv = (plain[attn + n] for n in ("q_einsum/w", "kv_einsum/w"))
joint = np.concatenate([q[:, None], np.repeat(kv, q.shape[1] // kv.shape[2], 2)], 1)
npz("joint.npz", [(k, v) for k, v in plain.items() if k not in (attn + "q_einsum/w", attn + "kv_einsum/w")] + [(attn + "qkv_einsum/w", joint)])
head = "params/img/head/kernel"
# A kernel that somebody transposed, the whole file in the other order, the other end first, and all of it at once.
npz("transposed.npz", changed(head, np.ascontiguousarray(plain[head].T).T))
for kind in ("", ".f16", ".bf16"):
    arrays = dict(np.load(golden.replace(".npz", kind + ".npz")))
    npz(f"fortran{kind}.npz", [(k, np.asfortranarray(a)) for k, a in arrays.items()])
    if kind != ".bf16":  # raw bytes have no end
        npz(f"big-endian{kind}.npz", [(k, a.astype(a.dtype.newbyteorder(">"))) for k, a in arrays.items()])
np.savez_compressed(name("fortran-big-compressed.npz"), **{k: np.asfortranarray(a.astype(">f4")) for k, a in plain.items()})
npz("double.npz", changed(head, plain[head].astype("f8")))
npz("integers.npz", changed(head, plain[head].astype("i4")))
npz("extra.npz", [*plain.items(), ("opt/step", np.int64(3)), ("params/mine", np.ones(3, "f4"))])
npz("foreign.npz", [*plain.items(), ("params/img/Transformer/mine", np.ones(3, "f4"))])
npz("missing.npz", [x for x in plain.items() if x[0] != head])
npz("shape.npz", changed(head, plain[head].T.copy()))
npz("nan.npz", changed(head, np.where(np.arange(plain[head].size).reshape(plain[head].shape) == 5, np.nan, plain[head]).astype("f4")))
unscanned = {}
for k, a in plain.items():
    for stacked, one in (("img/Transformer/encoderblock/", "img/Transformer/encoderblock_%d/"), ("llm/layers/", "llm/layers/%d/")):
        if stacked in k:
            unscanned.update({k.replace(stacked, one % i): a[i] for i in range(len(a))})
            break
    else:
        unscanned[k] = a
npz("unscanned.npz", unscanned.items())
import warnings  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    npz("twice.npz", [*plain.items(), (head, plain[head])])
raw = open(golden, "rb").read()
for cut in (1, 1000, len(raw) // 2):
    open(name(f"cut-{cut}.npz"), "wb").write(raw[: len(raw) - cut])
z = zipfile.ZipFile(golden)
info = z.getinfo(head + ".npy")
at = raw.index(plain[head].tobytes())
broken = bytearray(raw)
broken[at + 8] ^= 1
open(name("flipped.npz"), "wb").write(broken)
packed = bytearray(open(name("compressed.npz"), "rb").read())
info = zipfile.ZipFile(name("compressed.npz")).getinfo(head + ".npy")
packed[info.header_offset + 300] ^= 0x55
open(name("flipped-compressed.npz"), "wb").write(packed)
bomb = bytearray(open(name("compressed.npz"), "rb").read())
entry = bomb.rindex((head + ".npy").encode()) - 46
struct.pack_into("<I", bomb, entry + 24, 0xF0000000)
open(name("bomb.npz"), "wb").write(bomb)

# ---- safetensors ----
config = open(os.path.join(hf, "config.json")).read()


def folder(path, data):
    os.makedirs(name(path))
    open(name(path + "/config.json"), "w").write(config)
    open(name(path + "/model.safetensors"), "wb").write(data)


def split(data):
    n = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def join(head, body):
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + body


whole = open(os.path.join(hf, "model.safetensors"), "rb").read()
head, body = split(whole)
tensors = [k for k in head if k != "__metadata__"]
first, second = tensors[:2]
folder("st-cut", whole[:-1])
folder("st-cut-header", whole[:100])
folder("st-short", whole[:5])
folder("st-header-2-60", struct.pack("<Q", 1 << 60) + whole[8:])
h = json.loads(json.dumps(head))
h[second]["data_offsets"] = [x - 4 for x in h[second]["data_offsets"]]
folder("st-overlap", join(h, body))
h = json.loads(json.dumps(head))
h[first]["data_offsets"][1] += 1 << 40
folder("st-outside", join(h, body))
text = json.dumps(head)
double = text[:-1] + ", " + json.dumps(first) + ": " + json.dumps(head[first]) + "}"
folder("st-twice", struct.pack("<Q", len(double)) + double.encode() + body)
h = dict(head)
h["optimizer.step"] = {"dtype": "F32", "shape": [], "data_offsets": [len(body), len(body) + 4]}
folder("st-extra", join(h, body + b"\0\0\0\0"))
h = dict(head)
h[first] = dict(h[first], dtype="F64")
folder("st-f64", join(h, body))
h = dict(head)
big = next(k for k in tensors if len(head[k]["shape"]) == 2)
a, b = head[big]["data_offsets"]
h[big] = dict(h[big], dtype="I8", data_offsets=[a, a + (b - a) // 4])
folder("st-int8-without-scale", join(h, body))
