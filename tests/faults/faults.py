#!/usr/bin/env python3
"""Makes each call of each tool fail in turn, through tests/faults/inject.c, and judges what comes of it.

Usage: faults.py [--full] [--many] [--only CASE,...] [--kinds KIND,...] [--each N] [-j N] [-v]
A run is right when it ends by itself, not by a signal and not by the clock, and
  - its status is the clean run's and so is all it wrote, or
  - its status is another, a message `pg-x: ...` says so, and every file it was to write is the old one, the whole new one or not there;
  - in both cases nothing else is left: no temporary file.
Interrupted calls and those that move one byte must end as the clean run does. Without --full each of the first calls and then a
spread of them; with it each."""
import argparse
import concurrent.futures
import errno
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading

from cases import BUILD, INJECT, cases, inputs

KINDS = ["alloc", "read", "write", "stdio", "fsync", "rename", "close", "mmap", "truncate", "open", "stat", "folder", "thread", "poll", "pipe", "fork", "socket"]
# (kind, errno): 0 is one byte alone. Those of `calm` must not change what a tool does.
FAULTS = [("alloc", errno.ENOMEM), ("read", errno.EIO), ("read", errno.EINTR), ("read", 0), ("write", errno.ENOSPC), ("write", errno.EINTR),
          ("write", 0), ("stdio", errno.ENOSPC), ("fsync", errno.EIO), ("rename", errno.EIO), ("close", errno.EIO), ("mmap", errno.ENOMEM),
          ("truncate", errno.ENOSPC), ("open", errno.EMFILE), ("stat", errno.EIO), ("folder", errno.EIO), ("thread", errno.EAGAIN),
          ("poll", errno.EINTR), ("poll", errno.ENOMEM), ("pipe", errno.EMFILE), ("fork", errno.EAGAIN)]
# libarchive ends the process itself where the names of members find no memory; there is no way around it, see TRUST.md.
KNOWN = "Fatal Internal Error in libarchive"
CALM = (0, errno.EINTR)
TIMEOUT = 60


def tree(folder):
    out = {}
    for at, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(at, name)
            with open(path, "rb") as f:
                out[os.path.relpath(path, folder)] = f.read()
    return out


class Result:
    def __init__(self, status, out, err, files, counts):
        self.status, self.out, self.err, self.files, self.counts = status, out, err, files, counts


def execute(case, src, base, extra):
    """One run in a new folder; extra is the fault's environment."""
    here = tempfile.mkdtemp(dir=base)
    work, cells = os.path.join(here, "w"), os.path.join(here, "cells")
    case.make(src, work)
    with open(cells, "wb") as f:
        f.write(bytes(4096))
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "LD_PRELOAD": INJECT, "FAULT_TOOL": case.tool, "FAULT_SHARED": cells, **extra}
    stdin = open(os.path.join(src, case.stdin), "rb") if case.stdin else subprocess.DEVNULL
    with open(os.path.join(here, "out"), "w+b") as out, open(os.path.join(here, "err"), "w+b") as err:
        p = subprocess.Popen(case.argv, stdin=stdin, stdout=out, stderr=err, cwd=work, env=env)
        try:
            status = p.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            status = "hang"
        out.seek(0)
        err.seek(0)
        said, told = out.read().replace(here.encode(), b"=" * len(here)), err.read().decode(errors="replace")
    if case.stdin:
        stdin.close()
    with open(cells, "rb") as f:
        counts = struct.unpack(f"{len(KINDS) + 1}I", f.read(4 * (len(KINDS) + 1)))
    files = tree(work)
    shutil.rmtree(here)
    return Result(status, said, told, files, dict(zip(KINDS + ["fired"], counts)))


def judge(case, clean, before, run, calm):
    """What is wrong with a run; None where it is right."""
    if run.status == "hang":
        return "does not end"
    if run.status < 0:
        return f"ends by {signal.Signals(-run.status).name}"
    left = set(run.files) - set(clean.files) - set(before)
    if left:
        return f"leaves {sorted(left)}"
    same = case.seen(run.out) == case.seen(clean.out) and run.files == clean.files
    if run.status == clean.status:
        return None if same else "its output differs, its status is the clean run's"
    if calm:
        return f"status {run.status} where it could have gone on"
    if f"{case.tool}: " not in run.err and not run.err.startswith(KNOWN):
        return f"status {run.status} without a message"
    for name, data in run.files.items():
        if data not in (before.get(name), clean.files.get(name)) and not case.is_earlier(name, data, clean.files):
            return f"status {run.status}, and '{name}' is neither the old nor the new one"
    for name in before:
        if name in clean.files and name not in run.files:
            return f"status {run.status}, and the old '{name}' is gone"
    return None


def spread(n, each):
    """1..n: each of the first, then steps of a half, and the last three."""
    out, at = set(range(1, min(n, each) + 1)), float(each)
    while at < n:
        out.add(int(at))
        at = at * 1.5 + 1
    return sorted(out | set(range(max(1, n - 2), n + 1))) if n else []


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--full", action="store_true")
    a.add_argument("--only", default="")
    a.add_argument("--kinds", default="")
    a.add_argument("-j", type=int, default=2)
    a.add_argument("--each", type=int, default=60)
    a.add_argument("--many", action="store_true", help="every later call fails, too")
    a.add_argument("-v", action="store_true")
    a = a.parse_args()
    base = tempfile.mkdtemp(prefix="pg-faults-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    try:
        return run_all(a, base)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def run_all(a, base):
    src = os.path.join(base, "src")
    os.mkdir(src)
    inputs(src)
    only, kinds = [x for x in a.only.split(",") if x], [x for x in a.kinds.split(",") if x]
    runs = bad = 0
    lock = threading.Lock()
    with concurrent.futures.ThreadPoolExecutor(a.j) as pool:
        for case in cases():
            if only and not any(case.name == x or case.tool == x for x in only):
                continue
            start = os.path.join(base, "before")
            case.make(src, start)
            before = tree(start)
            shutil.rmtree(start)
            clean = execute(case, src, base, {})
            again = execute(case, src, base, {})
            if clean.status not in case.statuses or judge(case, clean, before, again, True):
                print(f"{case.name}: the clean run: status {clean.status}, {judge(case, clean, before, again, True)}\n{clean.err}")
                return 1
            jobs = []
            for kind, number in FAULTS:
                if kinds and kind not in kinds:
                    continue
                if a.many and (number in CALM or kind == "alloc"):  # memory that stays short: surroundings.py
                    continue
                n = clean.counts[kind]
                # Counts differ a little where threads are: some beyond the end do no harm.
                points = range(1, n + 3) if a.full else spread(n, a.each)
                jobs += [(kind, number, at) for at in points]

            def one(job):
                kind, number, at = job
                how = {"FAULT_MANY": "1"} if a.many else {}
                env = {"FAULT_CALL": kind, "FAULT_AT": str(at), "FAULT_ERRNO": str(number), **how}
                run = execute(case, src, base, env)
                if run.status == "hang":  # the machine may have stood still; a deadlock comes again
                    print(f"{case.name}: {kind} {at}: slower than {TIMEOUT} s, once more", flush=True)
                    run = execute(case, src, base, env)
                return job, run, judge(case, clean, before, run, number in CALM)

            failed = fired = 0
            for (kind, number, at), run, wrong in pool.map(one, jobs):
                fired += run.counts["fired"]
                if wrong or a.v:
                    failed += bool(wrong)
                    name = errno.errorcode.get(number, "one byte")
                    print(f"{case.name}: {kind} {at} of {clean.counts[kind]}, {name}: {wrong} [{run.err.strip()[-160:]}]", flush=True)
            with lock:
                runs, bad = runs + len(jobs), bad + failed
            print(f"{case.name:16} {len(jobs):6} runs, {fired:6} faults, {failed} wrong", flush=True)
    print(f"{runs} runs, {bad} wrong")
    return 1 if bad or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
