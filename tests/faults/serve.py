#!/usr/bin/env python3
"""pg-serve under the faults of tests/faults/inject.c. Usage: serve.py [--full] [--kinds KIND,...] [--each N] [-j N]

Each run starts it, asks for two captions and stops it. It must not end by a signal or hang; what it answers with 200 must be the caption; where
one call fails and it goes on, the second caption must come; where it ends, a message says why."""
import argparse
import concurrent.futures
import errno
import http.client
import os
import struct
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "serve")]
from cases import INJECT  # noqa: E402
from faults import KINDS, spread  # noqa: E402
from harness import Server, fake, png  # noqa: E402

FAULTS = [("alloc", errno.ENOMEM), ("read", errno.EIO), ("read", errno.EINTR), ("read", 0), ("write", errno.EIO), ("write", errno.EINTR), ("write", 0),
          ("close", errno.EIO), ("mmap", errno.ENOMEM), ("open", errno.EMFILE), ("thread", errno.EAGAIN), ("poll", errno.EINTR),
          ("pipe", errno.EMFILE), ("fork", errno.EAGAIN), ("socket", errno.EINTR), ("socket", errno.ENOBUFS), ("stdio", errno.ENOSPC)]
PICTURE = png()


def ask(server):
    try:
        a = server.caption(image=PICTURE, prefix="say a red apple", timeout=20)
        return a.status, a.json.get("caption") if a.status == 200 else None
    except (OSError, http.client.HTTPException) as e:
        if isinstance(e, TimeoutError):
            return "hang", None
        return type(e).__name__, None


def one(base, fault):
    """(what is wrong or None, counts)"""
    kind, number, at = fault
    cells = tempfile.NamedTemporaryFile(dir=base)
    cells.write(bytes(4096))
    cells.flush()
    env = {"LD_PRELOAD": INJECT, "FAULT_TOOL": "pg-serve", "FAULT_SHARED": cells.name, "FAULT_CALL": kind, "FAULT_AT": str(at), "FAULT_ERRNO": str(number)}
    def counts():
        cells.seek(0)
        return dict(zip(KINDS + ["fired"], struct.unpack(f"{len(KINDS) + 1}I", cells.read(4 * (len(KINDS) + 1)))))
    try:
        server = Server(fake(), "--timeout", "10", env=env)
    except AssertionError as e:
        text = str(e)
        if "pg-serve ended with -" in text:
            return "at its start: " + text, counts()
        return (None if "pg-serve: " in text.partition(": ")[2] else "ends without a message: " + text), counts()
    try:
        answers = [ask(server), ask(server)]
        if answers[1][0] != 200:
            answers[1] = ask(server)  # the fault may have come with the second
        ended = server.process.poll()
        try:
            status = server.stop()
        except AssertionError:
            return "does not stop", counts()
        said = server.messages()
        if status < 0:
            return f"ends by signal {-status}: {said[-200:]}", counts()
        for code, caption in answers:
            if code == "hang" or (code == 200 and caption != "a red apple"):
                return f"answers {code} {caption!r}: {said[-200:]}", counts()
        if ended is None and counts()["fired"] and answers[1][0] != 200:
            return f"goes on, but answers {answers}: {said[-200:]}", counts()
        if ended is not None and "pg-serve: " not in said:
            return f"ended with {ended} without a message", counts()
        return None, counts()
    finally:
        server.close()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--full", action="store_true")
    a.add_argument("--kinds", default="")
    a.add_argument("--each", type=int, default=20)
    a.add_argument("-j", type=int, default=4)
    a = a.parse_args()
    kinds = [x for x in a.kinds.split(",") if x]
    with tempfile.TemporaryDirectory() as base, concurrent.futures.ThreadPoolExecutor(a.j) as pool:
        wrong, counts = one(base, ("alloc", 0, 0))
        if wrong:
            print("the clean run: " + wrong)
            return 1
        jobs = [(k, e, at) for k, e in FAULTS if not kinds or k in kinds
                for at in (range(1, counts[k] + 3) if a.full else spread(counts[k], a.each))]
        bad = fired = 0
        for job, (wrong, c) in zip(jobs, pool.map(lambda j: one(base, j), jobs)):
            fired += c["fired"]
            if wrong:
                bad += 1
                print(f"serve: {job[0]} {job[2]} of {counts[job[0]]}, {errno.errorcode.get(job[1], 'one byte')}: {wrong}", flush=True)
    print(f"serve: {len(jobs)} runs, {fired} faults, {bad} wrong")
    return 1 if bad or not jobs else 0


if __name__ == "__main__":
    sys.exit(main())
