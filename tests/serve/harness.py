"""Starts pg-serve for a test and talks to it with nothing but Python's standard library."""
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.path.join(TOP, os.environ.get("PG_BUILD", "build")))
FAKE = os.path.join(TOP, "tests", "serve", "fake.py")
SIDE = re.search(r"^image +(\d+)x", subprocess.run([os.path.join(BUILD, "pg-info"), os.path.join(TOP, "data", "nano")], capture_output=True,
                                                   text=True, check=True).stdout, re.M).group(1)
NANO = ["sh", "-c", f"PATH='{BUILD}':$PATH; cd '{TOP}' && pg-resize -s {SIDE} | pg-tokenize -q -m data/nano | pg-infer -m data/nano --partial"]
SERVE = os.environ.get("PG_SERVE", os.path.join(BUILD, "pg-serve"))  # one built with a sanitizer, say
BOUNDARY = "----picture"


def fake(name="fake"):
    return [sys.executable, FAKE, name]


def png(side=8, colour=(200, 30, 30)):
    row = b"\0" + bytes(colour) * side
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(row * side)) + chunk(b"IEND", b""))


def form(fields, boundary=BOUNDARY):
    """fields: (name, value or (file name, bytes)) in order."""
    out = b""
    for name, value in fields:
        file, data = value if isinstance(value, tuple) else (None, value.encode())
        out += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if file is not None:
            out += f'; filename="{file}"\r\nContent-Type: application/octet-stream'.encode()
        out += b"\r\n\r\n" + data + b"\r\n"
    return out + f"--{boundary}--\r\n".encode()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class Server:
    def __init__(self, command, *options, env=None, prefix=()):
        self.log = tempfile.TemporaryFile()
        self.err = tempfile.TemporaryFile()
        self.process = subprocess.Popen([*prefix, SERVE, "-v", "-p", "0", *options, "--", *command],
                                        stdout=self.log, stderr=self.err, env={**os.environ, **(env or {})})
        self.port = int(self.wait_for(r"listening on http://\S+:(\d+)/").group(1))

    def messages(self):
        return os.pread(self.err.fileno(), 1 << 20, 0).decode(errors="replace")

    def access(self):
        return [json.loads(line) for line in os.pread(self.log.fileno(), 1 << 28, 0).decode().splitlines()]

    def wait_for(self, pattern, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            m = re.search(pattern, self.messages())
            if m:
                return m
            if self.process.poll() is not None and not re.search(pattern, self.messages()):
                raise AssertionError(f"pg-serve ended with {self.process.returncode}: {self.messages()}")
            time.sleep(0.02)
        raise AssertionError(f"no {pattern!r} in: {self.messages()}")

    def ready(self, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.get("/health").status == 200:
                return self
            time.sleep(0.02)
        raise AssertionError("never ready: " + self.messages())

    def request(self, method, path, body=None, headers=None, timeout=60):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return Answer(r.status, r.headers, r.read())
        finally:
            c.close()

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers)

    def caption(self, image=None, prefix=None, headers=None, **kw):
        fields = [("image", ("a.png", png() if image is None else image))]
        if prefix is not None:
            fields.append(("prefix", prefix))
        h = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", **(headers or {})}
        return self.request("POST", "/caption", form(fields), h, **kw)

    def events(self, prefix=None, **kw):
        """The events of one picture, as (event, data)."""
        a = self.caption(prefix=prefix, headers={"Accept": "text/event-stream"}, **kw)
        assert a.status == 200, a
        return parse_events(a.body.decode())

    def metric(self, name):
        m = re.search(rf"^pg_serve_{re.escape(name)} (\S+)$", self.get("/metrics").body.decode(), re.M)
        return float(m.group(1)) if m else 0.0

    def socket(self, timeout=20):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        return s

    def signal(self, sig):
        self.process.send_signal(sig)

    def stop(self, seconds=40):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("pg-serve did not stop: " + self.messages())

    def close(self):
        self.log.close()
        self.err.close()

    def memory(self):
        """Resident set in KiB."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


def parse_events(text):
    out = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "event" in lines:
            out.append((lines["event"], json.loads(lines["data"])))
    return out


@contextlib.contextmanager
def serving(command, *options, **kw):
    s = Server(command, *options, **kw)
    try:
        yield s
    except BaseException:
        print(s.messages(), file=sys.stderr)
        raise
    finally:
        s.stop()
        s.close()
