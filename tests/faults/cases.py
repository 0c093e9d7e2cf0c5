"""What the programs of tests/faults run: each tool on the smallest real input, and what its output is compared by."""
import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile

import msgpack

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.path.join(TOP, os.environ.get("PG_BUILD", "build")))
GOLDEN = os.path.join(TOP, "tests", "golden")
INJECT = os.environ.get("FAULT_LIBRARY", os.path.join(BUILD, "tests", "faults", "inject.so"))
TIMED = ("examples_per_s", "tokens_per_s")


def tool(name):
    return os.path.join(BUILD, name)


def shell(command, cwd):
    """A command line with the tools on the path; status 4, records with errors, is fine."""
    env = {**os.environ, "PATH": BUILD + ":" + os.environ["PATH"], "B": BUILD, "G": GOLDEN}
    p = subprocess.run(["bash", "-c", command], cwd=cwd, env=env, capture_output=True)
    if p.returncode not in (0, 4):
        raise SystemExit(f"{command}: {p.returncode} {p.stderr.decode(errors='replace')}")


def untimed(data):
    """A stream without what depends on the clock: speeds in events, texts so far among captions."""
    out = []
    try:
        for o in msgpack.Unpacker(iter_bytes(data), raw=True, strict_map_key=False):
            if b"partial" not in o:
                out.append({k: v for k, v in o.items() if k.decode() not in TIMED})
    except (ValueError, AttributeError, TypeError, msgpack.exceptions.UnpackException):
        return data
    return repr(out).encode()


class iter_bytes:
    def __init__(self, data):
        self.data, self.at = data, 0

    def read(self, n):
        piece = self.data[self.at:self.at + n]
        self.at += len(piece)
        return piece


def numberless(data):
    """Text without its numbers: of pg-info, which measures."""
    return bytes(c for c in data if c not in b"0123456789. \n")


def same_members(a, b):
    """Are both whole archives of arrays, of the same names?"""
    try:
        x, y = (zipfile.ZipFile(io.BytesIO(d)) for d in (a, b))
        return x.testzip() is None and y.testzip() is None and x.namelist() == y.namelist()
    except zipfile.BadZipFile:
        return False


class Case:
    """A command line. It runs in a folder of its own, made of a copy of `start`; stdin is a file there; what changes there is its output."""

    def __init__(self, name, argv, stdin=None, start=(), seen=bytes, statuses=(0,)):
        self.name, self.tool, self.argv = name, argv[0], [tool(argv[0]), *argv[1:]]
        self.stdin, self.start, self.seen, self.statuses = stdin, start, seen, statuses

    def is_earlier(self, name, data, clean):
        """A whole checkpoint or state, if not the last one: training writes several under one name."""
        if name.endswith(".pg-captions"):  # a list that grows by whole lines
            return clean[name].startswith(data) and data[-1:] in (b"", b"\n")
        if self.tool != "pg-train" or not name.endswith((".npz", ".state")):
            return False
        like = clean.get(name) or clean.get("out.npz.state")
        return same_members(data, like)

    def make(self, src, folder):
        os.mkdir(folder)
        for name in self.start:
            a, b = name if isinstance(name, tuple) else (name, name)
            path = os.path.join(src, a)
            to = os.path.join(folder, b)
            (shutil.copytree if os.path.isdir(path) else shutil.copyfile)(path, to)


def inputs(src):
    """Everything that the cases read, made with the tools themselves."""
    os.makedirs(os.path.join(src, "pics"))
    os.mkdir(os.path.join(src, "model"))
    with open(os.path.join(src, "cells"), "wb") as f:
        f.write(bytes(4096))
    image = os.path.join(GOLDEN, "image")
    shutil.copyfile(os.path.join(image, "png-rgb8-64.png"), os.path.join(src, "pics", "a.png"))
    shutil.copyfile(os.path.join(image, "jpg-420-7x3.jpg"), os.path.join(src, "pics", "b.jpg"))
    with open(os.path.join(src, "pics", "b.txt"), "w") as f:
        f.write("A red apple\n")
    with open(os.path.join(src, "pics", "a.txt"), "w") as f:
        f.write("two cats\n")
    with tarfile.open(os.path.join(src, "set.tar"), "w") as t:
        for name in ("a.png", "a.txt", "b.jpg", "b.txt"):
            info = tarfile.TarInfo(name)
            path = os.path.join(src, "pics", name)
            info.size = os.path.getsize(path)
            with open(path, "rb") as f:
                t.addfile(info, f)
    with open(os.path.join(src, "set.jsonl"), "w") as f:
        f.write('{"image": "pics/a.png", "id": "a", "suffix": "two cats", "prefix": "caption en"}\n')
        f.write('{"image": "pics/b.jpg", "id": "b", "references": ["a red apple", "an apple"]}\n')
    with open(os.path.join(src, "coco.json"), "w") as f:
        json.dump({"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.jpg"}],
                   "annotations": [{"image_id": 1, "id": 5, "caption": "two cats"}, {"image_id": 2, "id": 6, "caption": "an apple"}]}, f)
    with open(os.path.join(src, "caps.jsonl"), "w") as f:
        f.write('{"id": 1, "caption": "a dog runs on the beach", "references": ["A dog runs on the beach", "a dog on sand"]}\n')
        f.write('{"id": 2, "caption": "two cats", "references": ["two cats sleep on a sofa"]}\n')
    shutil.copyfile(os.path.join(GOLDEN, "model", "pg1.npz"), os.path.join(src, "model", "model.npz"))
    shutil.copyfile(os.path.join(TOP, "data", "nano", "model.npz"), os.path.join(src, "nano.npz"))
    # A tokenizer with as many pieces as pg1 has tokens.
    shell(f"cat '{TOP}'/man/*.[157] >text && spm_train --input=text --model_prefix=t --vocab_size=320 --model_type=bpe --pad_id=0 --eos_id=1 "
          "--bos_id=2 --unk_id=3 --add_dummy_prefix=false && mv t.model model/tokenizer.model && rm text t.vocab", src)
    shell("pg-fetch pics >pics.pgs && pg-resize -s 56 <pics.pgs >pixels.pgs && pg-tokenize -m model <pixels.pgs >tokens.pgs", src)
    shell("pg-infer -q -m model -n 6 <tokens.pgs >captions.pgs", src)
    shell("pg-train -q -m model -o old.npz --steps 1 --batch 2 <tokens.pgs >events.pgs", src)
    shell("pg-train -q -m model -o adapter --train lora --rank 2 --steps 1 --batch 2 <tokens.pgs >/dev/null", src)
    # A run that stopped in its middle: its second save fails.
    shell("! FAULT_TOOL=pg-train FAULT_CALL=rename FAULT_AT=2 FAULT_ERRNO=5 FAULT_SHARED=cells LD_PRELOAD='" + INJECT +
          "' pg-train -q -m model -o out.npz --steps 2 --batch 2 --save-every 1 <tokens.pgs >/dev/null && mv out.npz.state state && rm cells", src)
    shell(f"cp -r '{GOLDEN}/model/pg1-hf' hf", src)


M = ["-m", "model"]
TRAIN = ["pg-train", *M, "--steps", "2", "--batch", "2", "-j", "1"]


def cases():
    yield Case("fetch-files", ["pg-fetch", "pics"], start=["pics"])
    yield Case("fetch-tar", ["pg-fetch", "set.tar"], start=["set.tar"])
    yield Case("fetch-jsonl", ["pg-fetch", "set.jsonl"], start=["pics", "set.jsonl"])
    yield Case("fetch-coco", ["pg-fetch", "coco.json", "--images", "pics"], start=["pics", "coco.json"])
    yield Case("resize", ["pg-resize", "-s", "56", "-j", "1"], "pics.pgs", ["pics.pgs"])
    yield Case("resize-2", ["pg-resize", "-s", "56", "-j", "2"], "pics.pgs", ["pics.pgs"])
    yield Case("tokenize", ["pg-tokenize", *M], "pixels.pgs", ["pixels.pgs", "model"])
    yield Case("infer", ["pg-infer", *M, "-n", "3", "-j", "1"], "tokens.pgs", ["tokens.pgs", "model"])
    yield Case("infer-beam", ["pg-infer", *M, "-n", "3", "--beam", "2", "-j", "2"], "tokens.pgs", ["tokens.pgs", "model"])
    yield Case("infer-int8", ["pg-infer", *M, "-n", "2", "--dtype", "int8", "--partial", "-j", "1"], "tokens.pgs", ["tokens.pgs", "model"], untimed)
    yield Case("infer-adapter", ["pg-infer", *M, "--adapter", "adapter", "--score-only", "-j", "1"], "tokens.pgs",
               ["tokens.pgs", "model", "adapter"])
    yield Case("train", [*TRAIN, "-o", "out.npz", "--save-every", "1"], "tokens.pgs", ["tokens.pgs", "model", ("old.npz", "out.npz")], untimed)
    yield Case("train-val", [*TRAIN, "-o", "out", "--val", "tokens.pgs", "--val-every", "1", "--keep-best"], "tokens.pgs",
               ["tokens.pgs", "model"], untimed)
    yield Case("train-lora", [*TRAIN, "-o", "out", "--train", "lora", "--rank", "2", "--optimizer", "adamw"], "tokens.pgs",
               ["tokens.pgs", "model"], untimed)
    yield Case("train-resume", [*TRAIN, "-o", "out.npz", "--save-every", "1", "--resume"], "tokens.pgs",
               ["tokens.pgs", "model", ("state", "out.npz.state")], untimed)
    yield Case("score", ["pg-score", "caps.jsonl"], None, ["caps.jsonl"])
    yield Case("score-json", ["pg-score", "-f", "json", "captions.pgs"], None, ["captions.pgs"])
    yield Case("score-annotate", ["pg-score", "--annotate"], "captions.pgs", ["captions.pgs"])
    yield Case("render-text", ["pg-render"], "captions.pgs", ["captions.pgs"])
    yield Case("render-html", ["pg-render", "-o", "out.html", "captions.pgs", "events.pgs"], None, ["captions.pgs", "events.pgs"])
    yield Case("render-svg", ["pg-render", "-o", "out.svg", "events.pgs"], None, ["events.pgs"])
    yield Case("render-jsonl", ["pg-render", "-f", "jsonl"], "captions.pgs", ["captions.pgs"])
    yield Case("render-sidecar", ["pg-render", "-f", "sidecar", "--overwrite"], "captions.pgs", ["captions.pgs", "pics"])
    yield Case("convert-hf", ["pg-convert", "model", "out"], None, ["model"])
    yield Case("convert-npz", ["pg-convert", "hf", "out.npz", "--dtype", "bf16"], None, ["hf"])
    yield Case("convert-int8", ["pg-convert", "model", "out.safetensors", "--dtype", "int8"], None, ["model", ("old.npz", "out.safetensors")])
    yield Case("convert-shards", ["pg-convert", "nano.npz", "out.safetensors", "--shard-size", "1"], None, ["nano.npz", ("old.npz", "out.safetensors")])
    yield Case("convert-merge", ["pg-convert", "--merge", "model", "adapter", "out"], None, ["model", "adapter"])
    yield Case("info", ["pg-info"], None, [], numberless)
    yield Case("info-model", ["pg-info", "--checksums", "model"], None, ["model"], numberless)
    yield Case("info-stream", ["pg-info", "captions.pgs"], None, ["captions.pgs"], numberless)
