#!/usr/bin/env python3
"""Each tool where its surroundings are bad. Usage: surroundings.py [--full] [--only PART,...]

closed  standard input, output or error, and each combination of them, are closed        storm   signals interrupt every system call
full    the disk, or standard output, is full                                            slow    input and output are pipes, a byte at a time
memory   the address space has a limit, from too little to enough
readonly  the folder cannot be written                                                   kill    SIGKILL and SIGTERM at random moments of what writes files
stages  each program of a pipeline is killed in its turn: the others end, nothing partial appears
A run is judged as in faults.py."""
import argparse
import fcntl
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from cases import BUILD, INJECT, cases, inputs, tool
from faults import Result, judge, tree

TIMEOUT = 120
F_SETPIPE_SZ = 1031


class Bench:
    """Cases with their clean runs, and what went wrong."""

    def __init__(self, base, full):
        self.base, self.full = base, full
        self.src = os.path.join(base, "src")
        os.mkdir(self.src)
        inputs(self.src)
        self.cases = [c for c in cases()]
        self.before, self.clean = {}, {}
        for c in self.cases:
            work = self.make(c)
            self.before[c.name] = tree(work)
            self.clean[c.name] = self.run(c, work)
            shutil.rmtree(work)
            if self.clean[c.name].status not in c.statuses:
                raise SystemExit(f"{c.name}: the clean run: {self.clean[c.name].status} {self.clean[c.name].err}")
        self.runs = self.bad = 0

    def make(self, case, under=None):
        work = os.path.join(tempfile.mkdtemp(dir=under or self.base), "w")
        case.make(self.src, work)
        return work

    def run(self, case, work, env=None, shell=None, out=None, limit=None):
        """shell: redirections, as text."""
        argv = ["bash", "-c", f'exec "$@" {shell}', "-", *case.argv] if shell else case.argv
        stdin = open(os.path.join(self.src, case.stdin), "rb") if case.stdin else subprocess.DEVNULL
        p = subprocess.Popen(argv, cwd=work, stdin=stdin, stdout=out or subprocess.PIPE, stderr=subprocess.PIPE,
                             preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))),
                             env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **(env or {})})
        try:
            said, told = p.communicate(timeout=TIMEOUT)
            status = p.returncode
        except subprocess.TimeoutExpired:
            p.kill()
            said, told = p.communicate()
            status = "hang"
        here = os.path.dirname(work).encode()
        return Result(status, (said or b"").replace(here, b"=" * 40), told.decode(errors="replace"), tree(work), {})

    def verdict(self, part, case, run, calm=False, out=True, err=True):
        """out, err: were standard output and error there to be compared and to tell?"""
        self.runs += 1
        clean = self.clean[case.name]
        if not out:
            run = Result(run.status, clean.out, run.err, run.files, {})
        if not err:
            run = Result(run.status, run.out, f"{case.tool}: ", run.files, {})
        wrong = judge(case, clean, self.before[case.name], run, calm)
        if wrong:
            self.bad += 1
            print(f"{part}: {case.name}: {wrong} [{run.err.strip()[-200:]}]", flush=True)


def normal(here, data):
    return data.replace(here.encode(), b"=" * 40)


def closed(b):
    """The descriptors are taken by what is opened next, if nobody takes care."""
    for case in b.cases:
        for some in (c for n in (1, 2, 3) for c in itertools.combinations("012", n)):
            work = b.make(case)
            run = b.run(case, work, shell=" ".join({"0": "<&-", "1": ">&-", "2": "2>&-"}[fd] for fd in some))
            # Who writes to a closed output must say so; who has nothing to write may end well.
            if "1" in some and run.status == 0 and b.clean[case.name].out:
                run.status = "0, though its output was closed"
                b.bad += 1
                print(f"closed {''.join(some)}: {case.name}: status {run.status}")
            else:
                b.verdict("closed " + "".join(some), case, run, out="1" not in some, err="2" not in some)
            shutil.rmtree(os.path.dirname(work))


def storm(b):
    for case in b.cases:
        for us in (100, 1000) if b.full else (300,):
            work = b.make(case)
            b.verdict(f"storm {us}", case, b.run(case, work, {"LD_PRELOAD": INJECT, "FAULT_TOOL": case.tool, "FAULT_STORM": str(us)}), calm=True)
            shutil.rmtree(os.path.dirname(work))


def slow(b):
    """A byte goes in, a byte comes out; the pipes hold a page."""
    for case in b.cases:
        if not case.stdin:
            continue
        work = b.make(case)
        p = subprocess.Popen(case.argv, cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        for f in (p.stdin, p.stdout):
            fcntl.fcntl(f, F_SETPIPE_SZ, 4096)
        with open(os.path.join(b.src, case.stdin), "rb") as f:
            data = f.read()

        def feed():
            try:
                for i in range(len(data)):
                    os.write(p.stdin.fileno(), data[i:i + 1])
            except BrokenPipeError:
                pass
            p.stdin.close()

        told = []
        threads = [threading.Thread(target=feed), threading.Thread(target=lambda: told.append(p.stderr.read()))]
        for t in threads:
            t.start()
        said = bytearray()
        while piece := os.read(p.stdout.fileno(), 1):
            said += piece
        for t in threads:
            t.join()
        p.wait()
        run = Result(p.returncode, normal(os.path.dirname(work), bytes(said)), told[0].decode(errors="replace"), tree(work), {})
        b.verdict("slow", case, run, calm=True)
        p.stdout.close()
        p.stderr.close()
        shutil.rmtree(os.path.dirname(work))


def mounted(b, options):
    disk = tempfile.mkdtemp(dir=b.base)
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], stderr=subprocess.DEVNULL).returncode:
        return None
    return disk


def full(b):
    for case in b.cases:
        if b.clean[case.name].out:
            work = b.make(case)
            with open("/dev/full", "wb") as f:
                run = b.run(case, work, out=f)
            if run.status == 0:
                b.bad += 1
                print(f"full: {case.name}: status 0, though its output went to a full disk")
            b.verdict("full stdout", case, run, out=False)
            shutil.rmtree(os.path.dirname(work))
    for case in b.cases:
        if b.clean[case.name].files == b.before[case.name]:
            continue
        need = sum(len(d) for d in b.clean[case.name].files.values())
        have = sum(len(d) for d in b.before[case.name].values())
        for part in (0.0, 0.1, 0.5, 0.9, 1.1) if b.full else (0.0, 0.5):
            # Room for what is there, and a part of what comes; a page for each file.
            size = have + int((need - have) * part) + 4096 * (2 * len(b.before[case.name]) + 8)
            disk = mounted(b, f"size={size}")
            if not disk:
                print("full disks: skipped, no mount here")
                return
            try:
                work = b.make(case, disk)
                b.verdict(f"full disk of {size}", case, b.run(case, work))
            except OSError:
                pass  # not even the inputs have room
            finally:
                subprocess.run(["umount", disk], check=True)


def readonly(b):
    for case in b.cases:
        if b.clean[case.name].files == b.before[case.name]:
            continue
        disk = mounted(b, "size=64m")
        if not disk:
            print("readonly: skipped, no mount here")
            return
        try:
            work = b.make(case, disk)
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            run = b.run(case, work)
            if run.status == 0:
                b.bad += 1
                print(f"readonly: {case.name}: status 0")
            b.verdict("readonly", case, run)
        finally:
            subprocess.run(["umount", disk], check=True)


def memory(b):
    """Address space of so many bytes and no more: unlike in faults.py, what is given back can be had again."""
    for case in b.cases:
        limit = 24e6
        while limit < 4e9:
            work = b.make(case)
            run = b.run(case, work, limit=int(limit))
            # Below some size the loader itself has no room for the libraries.
            if run.status != 127:
                b.verdict(f"memory {limit / 1e6:.0f} MB", case, run)
            shutil.rmtree(os.path.dirname(work))
            if run.status in case.statuses:
                break
            limit *= 1.02 if b.full else 1.15


def kill(b):
    """What is left of a killed run, and that the next one removes it."""
    rng = random.Random(7)
    for case in b.cases:
        files = b.clean[case.name].files
        if files == b.before[case.name]:
            continue
        start = time.monotonic()
        work = b.make(case)
        b.run(case, work)
        took = time.monotonic() - start
        shutil.rmtree(os.path.dirname(work))
        for i in range(20 if b.full else 4):
            work = b.make(case)
            sig = (signal.SIGKILL, signal.SIGTERM)[i % 2]
            with open(os.path.join(b.src, case.stdin) if case.stdin else os.devnull, "rb") as f:
                p = subprocess.Popen(case.argv, cwd=work, stdin=f, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            time.sleep(rng.uniform(0, took))
            p.send_signal(sig)
            err = p.communicate()[1].decode(errors="replace")
            now = {k: v for k, v in tree(work).items() if ".tmp." not in k}
            run = Result(1 if p.returncode < 0 else p.returncode, b.clean[case.name].out, f"{case.tool}: {err}", now, {})
            b.verdict(f"kill {sig.name}", case, run)
            again = b.run(case, work)
            if case.name != "train-resume" and not case.argv[1:2] == ["model"]:
                left = [k for k in again.files if ".tmp." in k]
                if left and case.name != "render-sidecar":
                    b.bad += 1
                    print(f"kill: {case.name}: the next run leaves {left}")
            shutil.rmtree(os.path.dirname(work))


def stages(b):
    """pg-fetch | pg-resize | pg-tokenize | pg-infer | pg-render -o, over enough pictures that each works for a while."""
    work = os.path.join(tempfile.mkdtemp(dir=b.base), "w")
    os.mkdir(work)
    with open(os.path.join(work, "many.jsonl"), "w") as f:
        for i in range(3000):
            f.write(f'{{"image": "{b.src}/pics/a.png", "id": "{i}", "suffix": "two cats"}}\n')
    model = os.path.join(b.src, "model")
    line = [[tool("pg-fetch"), "many.jsonl"], [tool("pg-resize"), "-s", "56"], [tool("pg-tokenize"), "-q", "-m", model],
            [tool("pg-infer"), "-q", "-m", model, "-n", "4"], [tool("pg-render"), "-q", "-o", "out.html"]]
    rng = random.Random(5)
    for sig, k in itertools.product((signal.SIGKILL, signal.SIGTERM), range(len(line))):
        for _ in range(3 if b.full else 1):
            b.runs += 1
            procs, last = [], subprocess.DEVNULL
            for argv in line:
                p = subprocess.Popen(argv, cwd=work, stdin=last, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                if last is not subprocess.DEVNULL:
                    last.close()
                last = p.stdout
                procs.append(p)
            time.sleep(rng.uniform(0.05, 0.4))
            procs[k].send_signal(sig)
            wrong = []
            end = time.monotonic() + TIMEOUT
            for i, p in enumerate(procs):
                try:
                    p.wait(max(0.1, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()
                    wrong.append(f"program {i} does not end")
                err = p.stderr.read().decode(errors="replace")
                p.stderr.close()
                # Before the killed one: its pipe is gone. After it: the stream is cut.
                good = (-sig,) if i == k else (-signal.SIGPIPE, 0) if i < k else (3,)
                if p.returncode not in good:
                    wrong.append(f"program {i} ends with {p.returncode} [{err[-150:]}]")
                if p.returncode == 3 and "pg-" not in err:
                    wrong.append(f"program {i} says nothing")
            last.close()
            if procs[k].returncode != 0 and os.path.exists(os.path.join(work, "out.html")):
                wrong.append("a report of a part of the pictures is there")
            if wrong:
                b.bad += 1
                print(f"stages: {sig.name} to program {k}: {'; '.join(wrong)}", flush=True)
    shutil.rmtree(os.path.dirname(work))


def main():
    parts = {"closed": closed, "storm": storm, "slow": slow, "full": full, "readonly": readonly, "memory": memory, "kill": kill, "stages": stages}
    a = argparse.ArgumentParser()
    a.add_argument("--full", action="store_true")
    a.add_argument("--only", default=",".join(parts))
    a = a.parse_args()
    base = tempfile.mkdtemp(prefix="pg-faults-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    try:
        b = Bench(base, a.full)
        for name in a.only.split(","):
            runs, bad = b.runs, b.bad
            start = time.monotonic()
            parts[name](b)
            print(f"{name:10} {b.runs - runs:5} runs, {b.bad - bad} wrong, {time.monotonic() - start:.1f} s", flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return 1 if b.bad or not b.runs else 0


if __name__ == "__main__":
    sys.exit(main())
