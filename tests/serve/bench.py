#!/usr/bin/env python3
"""What pg-serve adds to a request: one picture at a time through the pipeline itself, and through the server, in turns. Usage: bench.py [N]"""
import os
import statistics
import subprocess
import sys
import time

import http.client
import msgpack

from harness import NANO, TOP, serving

N = int(sys.argv[1]) if len(sys.argv) > 1 else 300


class Pipeline:
    def __init__(self):
        self.p = subprocess.Popen(NANO, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.unpacker = msgpack.Unpacker(max_buffer_size=0)
        self.send({"pg-stream": [1, 0], "kind": "examples", "chain": []})
        self.receive()
        self.n = 0

    def send(self, o):
        self.p.stdin.write(msgpack.packb(o))
        self.p.stdin.flush()

    def receive(self):
        while True:
            for o in self.unpacker:
                return o
            self.unpacker.feed(os.read(self.p.stdout.fileno(), 1 << 20))

    def caption(self, image):
        self.n += 1
        self.send({"id": str(self.n), "image": image})
        while "partial" in (o := self.receive()):
            pass
        return o["caption"]

    def close(self):
        self.send({"pg-end": self.n, "errors": 0})
        self.p.stdin.close()
        self.p.wait()


def main():
    with open(os.path.join(TOP, "tests", "golden", "image", "jpg-420-517x389.jpg"), "rb") as f:
        image = f.read()
    direct, served = [], []
    with serving(NANO) as s:
        s.ready()
        c = http.client.HTTPConnection("127.0.0.1", s.port)
        p = Pipeline()
        for _ in range(N):
            start = time.perf_counter()
            p.caption(image)
            middle = time.perf_counter()
            c.request("POST", "/caption", image, {"Content-Type": "image/jpeg"})
            c.getresponse().read()
            direct.append(middle - start)
            served.append(time.perf_counter() - middle)
        p.close()
        c.close()
    for name, v in (("pipeline", direct), ("pg-serve", served)):
        q = statistics.quantiles(v, n=20)
        print(f"{name}: median {statistics.median(v) * 1000:.2f} ms, 95 % {q[18] * 1000:.2f} ms")
    print(f"added: median {(statistics.median(served) - statistics.median(direct)) * 1000:.2f} ms")


if __name__ == "__main__":
    main()
