"""A safetensors folder of one file, with an output matrix stored beside its embedding. Usage: add_head.py FOLDER OUT [NAME [AT]]
NAME: lm_head.weight. AT: the byte of it that is to differ; negative from the end; `type`, `shape`, or a byte of its scales as s0."""
import json
import os
import shutil
import struct
import sys

src, out, name, at = (sys.argv[1:] + ["lm_head.weight", ""])[:4] if len(sys.argv) < 5 else sys.argv[1:]
shutil.copytree(src, out)
path = os.path.join(out, "model.safetensors")
data = open(path, "rb").read()
n = struct.unpack("<Q", data[:8])[0]
head, body = json.loads(data[8 : 8 + n]), bytearray(data[8 + n :])
embed = next(k for k in head if k.endswith("embed_tokens.weight"))


def add(new, old, byte):
    a, b = head[old]["data_offsets"]
    values = bytearray(body[a:b])
    if byte:
        values[int(byte)] ^= 1
    head[new] = dict(head[old], data_offsets=[len(body), len(body) + len(values)])
    body.extend(values)


add(name, embed, at if at.lstrip("-").isdigit() else "")
if embed + "_scale" in head:
    add(name + "_scale", embed + "_scale", at[1:] if at[:1] == "s" and at != "shape" else "")
if at == "type":
    a, b = head[name]["data_offsets"]
    rows, cols = head[name]["shape"]
    head[name] = {"dtype": "BF16", "shape": [rows, 2 * cols], "data_offsets": [a, b]}
if at == "shape":
    head[name]["shape"] = head[name]["shape"][::-1]
text = json.dumps(head).encode()
open(path, "wb").write(struct.pack("<Q", len(text)) + text + body)
