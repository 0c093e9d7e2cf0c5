#!/usr/bin/env python3
"""Training that is killed again and again. Usage: kills.py [N] [SEED]

A run with --save-every is ended by SIGKILL at N random moments and resumed each time; it must end with the bits of a run that nobody
disturbed. At every moment its state is a whole file or not there, OUT is not there before its end, and nothing but the state and what the
next run removes lies about. Where this process may mount, a save meets a full disk as well: the old state stays whole, and with space made
the run goes on to the same bits."""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

from cases import BUILD, inputs, same_members

STEPS = 60
HOW = [["--optimizer", "sgd"], ["--optimizer", "adamw", "--lr", "0.001", "--train", "all", "--clip", "1"]]


def train(src, work, how, **kw):
    argv = [os.path.join(BUILD, "pg-train"), "-m", os.path.join(src, "model"), "-o", "out.npz", "--steps", str(STEPS), "--batch", "2", "--seed", "5",
            "--save-every", "2", "--resume", *how]
    return subprocess.Popen(argv, cwd=work, stdin=open(os.path.join(src, "tokens.pgs"), "rb"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kw)


def bytes_of(*path):
    with open(os.path.join(*path), "rb") as f:
        return f.read()


def whole_run(src, base, how):
    work = tempfile.mkdtemp(dir=base)
    start = time.monotonic()
    p = train(src, work, how)
    err = p.communicate()[1]
    assert p.returncode == 0, err
    return bytes_of(work, "out.npz"), time.monotonic() - start


def state_members(src, base, how):
    """A whole state of this run, to compare others with: from a run whose events nobody reads any more."""
    work = tempfile.mkdtemp(dir=base)
    p = train(src, work, how)
    while p.poll() is None and not os.path.exists(os.path.join(work, "out.npz.state")):
        time.sleep(0.001)
    p.kill()
    p.communicate()
    return bytes_of(work, "out.npz.state")


def look(work, state):
    """What a kill has left."""
    names = set(os.listdir(work)) - {"out.npz.tmp.locked"}  # which the next run takes over, and removes at its end
    assert "out.npz" not in names or "out.npz.state" not in names or same_members(bytes_of(work, "out.npz.state"), state), "the state is not whole"
    if "out.npz.state" in names:
        assert same_members(bytes_of(work, "out.npz.state"), state), "the state is not whole"
    temps = {n for n in names if ".tmp." in n}
    assert len(temps) <= 1, f"temporary files of earlier runs were not removed: {sorted(temps)}"
    assert names - temps <= {"out.npz", "out.npz.state"}, names
    return len(temps)


def kills(src, base, how, n, rng):
    clean, took = whole_run(src, base, how)
    state = state_members(src, base, how)
    work = tempfile.mkdtemp(dir=base)
    done = late = temps = 0
    while done < n:
        p = train(src, work, how)
        # Most are early in a run: what is left is short after some of them.
        time.sleep(rng.uniform(0, took * rng.choice((0.2, 0.5, 1))))
        p.kill()
        err = p.communicate()[1].decode()
        if p.returncode == 0:  # it was faster: from the start again
            assert bytes_of(work, "out.npz") == clean, "other bits"
            late += 1
            shutil.rmtree(work)
            work = tempfile.mkdtemp(dir=base)
            if late > 50 * n:
                raise AssertionError("every run ended before it was killed")
            continue
        assert p.returncode == -9, (p.returncode, err)
        temps += look(work, state)
        assert not os.path.exists(os.path.join(work, "out.npz")) or bytes_of(work, "out.npz") == clean
        done += 1
    p = train(src, work, how)
    err = p.communicate()[1].decode()
    assert p.returncode == 0, err
    assert bytes_of(work, "out.npz") == clean, "other bits than the run that nobody disturbed"
    left = set(os.listdir(work)) - {"out.npz", "out.npz.state"}
    assert not left, f"left over: {sorted(left)}"
    print(f"{' '.join(how)}: {done} kills, {late} runs finished before theirs; {temps} temporary files were removed by the next run; the same bits")


def fill(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(fd, bytes(4096)):
            pass
    except OSError:
        os.close(fd)


def full_disk(src, base, how):
    clean, _ = whole_run(src, base, how)
    disk = tempfile.mkdtemp(dir=base)
    size = os.path.getsize(os.path.join(src, "model", "model.npz"))
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={64 * size}", "none", disk], stderr=subprocess.DEVNULL).returncode:
        print("a full disk: skipped, no mount here")
        return
    try:
        p = train(src, disk, how)
        while p.poll() is None and not os.path.exists(os.path.join(disk, "out.npz.state")):
            time.sleep(0.001)
        p.kill()
        p.communicate()
        old = bytes_of(disk, "out.npz.state")
        for name in os.listdir(disk):
            if ".tmp." in name:
                os.unlink(os.path.join(disk, name))
        fill(os.path.join(disk, "ballast"))
        p = train(src, disk, how)
        err = p.communicate()[1].decode()
        assert p.returncode == 1 and "No space left" in err, (p.returncode, err)
        assert bytes_of(disk, "out.npz.state") == old, "the old state is damaged"
        assert set(os.listdir(disk)) == {"out.npz.state", "ballast"}, os.listdir(disk)
        os.unlink(os.path.join(disk, "ballast"))
        p = train(src, disk, how)
        err = p.communicate()[1].decode()
        assert p.returncode == 0 and "resuming after step" in err, err
        assert bytes_of(disk, "out.npz") == clean, "other bits"
        print(f"{' '.join(how)}: a full disk during a save: the old state whole, resumed to the same bits")
    finally:
        subprocess.run(["umount", disk], check=True)


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    print(f"seed {seed}")
    base = tempfile.mkdtemp(prefix="pg-kills-")
    try:
        src = os.path.join(base, "src")
        os.mkdir(src)
        inputs(src)
        for i, how in enumerate(HOW):
            kills(src, base, how, n, random.Random(seed + i))
            full_disk(src, base, how)
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
