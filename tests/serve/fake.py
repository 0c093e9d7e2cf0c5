#!/usr/bin/env python3
"""A command for pg-serve that does what a picture's prefix says. Usage: fake.py [NAME | @FILE that holds it]

say TEXT   the caption is TEXT, word by word        sleep S    answer after S seconds
error      the record gets an error                 silent     no answer to this one
hang       nothing any more, and SIGTERM ignored    die [S]    exit, after S seconds
garbage    bytes that are no stream                 stray      answer under another id, then the right one
bytes      a caption that is no UTF-8               write FILE can FILE be written?
Else the caption is NAME and the size of the picture. NAME "slow" waits a second before its header, "slow:FILE" until FILE exists,
"late" until its first picture has come; "broken" exits before it.
"""
import os
import signal
import sys
import time

import msgpack

name = sys.argv[1] if len(sys.argv) > 1 else "fake"
if name.startswith("@"):
    name = open(name[1:]).read().strip()


def put(o):
    sys.stdout.buffer.write(msgpack.packb(o))
    sys.stdout.buffer.flush()


def answer(rec):
    word, _, rest = (rec.get("prefix") or "").partition(" ")
    out = {"id": rec["id"], "caption": f"{name} {len(rec['image'])}", "logprob": -1.5}
    if word == "say":
        words = rest.split()
        for i in range(1, len(words)):
            put({"id": rec["id"], "partial": " ".join(words[:i])})
            time.sleep(0.05)
        out["caption"] = rest
    elif word == "sleep":
        time.sleep(float(rest))
    elif word == "error":
        out = {"id": rec["id"], "error": {"tool": "fake", "message": f"no such picture '{rec['id']}'"}}
    elif word == "silent":
        return
    elif word == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    elif word == "die":
        time.sleep(float(rest or 0))
        os._exit(3)
    elif word == "garbage":
        sys.stdout.buffer.write(b"\xc1 this is no stream")
        sys.stdout.buffer.flush()
        time.sleep(1000)
    elif word == "stray":
        put({"id": "somebody else", "caption": "lost"})
    elif word == "bytes":
        out["caption"] = b"caf\xe9 \x00 caf\xc3\xa9"
    elif word == "write":
        try:
            open(rest, "w").close()
            out["caption"] = "written"
        except OSError as e:
            out["caption"] = e.strerror
    put(out)


if name == "broken":
    sys.exit(5)
unpacker = msgpack.Unpacker(max_buffer_size=0)
header, count = None, 0
while True:
    data = os.read(0, 1 << 20)
    if not data:
        sys.exit(1)  # cut
    unpacker.feed(data)
    for o in unpacker:
        if header is None:
            header = o
            if name == "slow":
                time.sleep(1)
            while name.startswith("slow:") and not os.path.exists(name[5:]):
                time.sleep(0.02)
            if name != "late":
                put(header)
        elif "pg-end" in o:
            put({"pg-end": count, "errors": 0})
            sys.exit(0)
        else:
            if name == "late" and not count:
                put(header)
            answer(o)
            count += 1
