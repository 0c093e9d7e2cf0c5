"""Many clients at once on the small model: every picture gets its own caption, none is lost, memory stays flat.

PG_LOAD=CLIENTSxREQUESTS (in all) makes it larger than the 16x400 of the suite; the full run is 64x2000."""
import http.client
import os
import threading
import time
import unittest

from harness import BOUNDARY, NANO, TOP, form, serving

PICTURES = ["png-rgb8.png", "jpg-420.jpg", "png-gray8.png", "jpg-exif6.jpg", "png-rgba8.png", "jpg-420-517x389.jpg"]
SLACK = 4096  # KiB: what the allocator's arenas for the threads' pictures differ by between two equal runs


class Load(unittest.TestCase):
    def run_clients(self, s, clients, requests, bodies, want):
        counter = iter(range(requests))
        lock = threading.Lock()
        wrong, times = [], []

        def client():
            c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=120)
            while True:
                with lock:
                    i = next(counter, None)
                if i is None:
                    return c.close()
                start = time.monotonic()
                try:
                    c.request("POST", "/caption", bodies[i % len(bodies)], {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
                    r = c.getresponse()
                    body = r.read()
                    ok = r.status == 200 and want[i % len(want)] in body
                except OSError as e:
                    ok, body = False, repr(e)
                    c.close()
                with lock:
                    times.append(time.monotonic() - start)
                    if not ok:
                        wrong.append((i, body))

        threads = [threading.Thread(target=client) for _ in range(clients)]
        start = time.monotonic()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        times.sort()
        print(f"{clients} clients, {requests} requests: {requests / (time.monotonic() - start):.0f}/s, median {times[len(times) // 2] * 1000:.0f} ms, "
              f"last {times[-1] * 1000:.0f} ms, resident {s.memory()} KiB, descriptors {len(os.listdir(f'/proc/{s.process.pid}/fd'))}")
        self.assertEqual(wrong, [])
        self.assertEqual(len(times), requests)

    def test_load(self):
        clients, requests = map(int, os.environ.get("PG_LOAD", "16x400").split("x"))
        bodies = []
        for name in PICTURES:
            with open(os.path.join(TOP, "tests", "golden", "image", name), "rb") as f:
                bodies.append(form([("image", (name, f.read()))]))
        with serving(NANO, "--queue", str(clients)) as s:
            s.ready()
            want = []
            for b in bodies:
                a = s.request("POST", "/caption", b, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
                self.assertEqual(a.status, 200)
                want.append(b'"caption":"%s"' % a.json["caption"].encode())
            self.assertGreater(len(set(want)), 2)
            self.run_clients(s, clients, requests // 4, bodies, want)
            before, open_before = s.memory(), len(os.listdir(f"/proc/{s.process.pid}/fd"))
            self.run_clients(s, clients, requests, bodies, want)
            self.assertLess(s.memory(), before + SLACK)
            self.assertEqual(s.metric("waiting"), 0)
            self.assertEqual(s.metric("held_bytes"), 0)
            self.assertEqual(s.metric("captions_total"), len(bodies) + requests // 4 + requests)
            self.assertLessEqual(len(os.listdir(f"/proc/{s.process.pid}/fd")), open_before + clients)
            self.assertEqual(len([x for x in s.access() if x["status"] == 200 and x["path"] == "/caption"]), s.metric("captions_total"))


if __name__ == "__main__":
    unittest.main()
