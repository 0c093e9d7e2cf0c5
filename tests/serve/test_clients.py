"""Clients that are slow, broken, rude or unknown."""
import base64
import http.client
import os
import random
import re
import socket
import subprocess
import tempfile
import time
import unittest

from harness import BOUNDARY, SERVE, TOP, fake, form, png, serving

# A hash of "open sesame", made with htpasswd -B.
BCRYPT = "$2y$05$BcCMta8RVkVIhkj2eRehHub9eJlspPYvg/wXDWL0EFX1FZ2E8AuD6"
TOKEN = "0123456789abcdef0123"


def head(length, extra=""):
    return (f"POST /caption HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
            f"Content-Length: {length}\r\n{extra}\r\n").encode()


def closed(k, seconds=20):
    """True once the other side has closed; what it sent before is thrown away."""
    k.settimeout(seconds)
    try:
        while k.recv(4096):
            pass
        return True
    except ConnectionError:
        return True
    except socket.timeout:
        return False


class Slow(unittest.TestCase):
    """--client-timeout is a second here; nothing that a client does keeps a connection much longer."""

    @classmethod
    def setUpClass(cls):
        cls.context = serving(fake(), "--client-timeout", "1", "--timeout", "8")
        cls.s = cls.context.__enter__().ready()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def drip(self, first, rest):
        """Sends a byte now and then, more often than an idle timeout would notice; how long that went well."""
        k = self.s.socket()
        k.sendall(first)
        start = time.monotonic()
        try:
            while time.monotonic() < start + 15:
                k.sendall(rest)
                time.sleep(0.2)
                k.setblocking(False)
                try:
                    if k.recv(4096) == b"":
                        break
                except BlockingIOError:
                    pass
                k.setblocking(True)
        except ConnectionError:
            pass
        k.close()
        return time.monotonic() - start

    def test_silent_connection(self):
        self.assertTrue(closed(self.s.socket()))

    def test_idle_is_not_slow(self):
        """A connection that is kept open after an answer is ended, but its client has kept nobody waiting."""
        before = self.s.metric("slow_clients_total")
        k = self.s.socket()
        k.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(closed(k))
        self.assertEqual(self.s.metric("slow_clients_total"), before)
        k = self.s.socket()
        k.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: ")
        self.assertTrue(closed(k))
        self.assertEqual(self.s.metric("slow_clients_total"), before + 1)

    def test_header_in_drops(self):
        self.assertLess(self.drip(b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n"), 10)

    def test_body_in_drops(self):
        self.assertLess(self.drip(head(100000), b"-"), 10)

    def test_many_of_them_do_not_lock_others_out(self):
        slow = [self.s.socket() for _ in range(100)]
        for k in slow:
            k.sendall(b"POST /caption HTTP/1.1\r\nHost: ")
        self.assertEqual(self.s.caption().status, 200)
        self.assertTrue(all(closed(k) for k in slow))
        self.assertEqual(self.s.caption().status, 200)

    def test_waiting_is_not_slow(self):
        """A client that waits for its caption is not the one that is slow."""
        self.assertEqual(self.s.caption(prefix="sleep 4").status, 200)
        self.assertEqual(self.s.events("sleep 4")[-1][0], "caption")

    def test_does_not_read(self):
        k = socket.socket()
        k.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        k.connect(("127.0.0.1", self.s.port))
        body = form([("image", ("a.png", png() + b"x" * 8000000))])
        k.sendall(head(len(body), "Accept: text/html\r\n") + body)  # the answer holds the picture: 10 MB
        before = self.s.metric("connections")
        end = time.monotonic() + 20
        while self.s.metric("connections") >= before and time.monotonic() < end:
            time.sleep(0.1)
        self.assertLess(self.s.metric("connections"), before)
        k.close()


class Rude(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = serving(fake(), "--max-upload", "1M", "--client-timeout", "5")
        cls.s = cls.context.__enter__().ready()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def tearDown(self):
        self.assertEqual(self.s.caption().status, 200)

    def test_half_closed(self):
        """A client that closes its side after the request still gets its answer."""
        body = form([("image", ("a.png", png())), ("prefix", "sleep 0.3")])
        k = self.s.socket()
        k.sendall(head(len(body)) + body)
        k.shutdown(socket.SHUT_WR)
        got = b""
        while data := k.recv(4096):
            got += data
        self.assertIn(b"200 OK", got)
        self.assertIn(b'"caption"', got)

    def test_half_closed_in_the_middle(self):
        k = self.s.socket()
        k.sendall(head(100000) + b"--" + BOUNDARY.encode())
        k.shutdown(socket.SHUT_WR)
        self.assertTrue(closed(k))

    def test_leaves_while_it_waits(self):
        body = form([("image", ("a.png", png())), ("prefix", "sleep 0.5")])
        for accept in ("application/json", "text/event-stream", "text/html"):
            for _ in range(4):
                k = self.s.socket()
                k.sendall(head(len(body), f"Accept: {accept}\r\n") + body)
                time.sleep(0.02)
                k.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a farewell
                k.close()
        end = time.monotonic() + 20
        while self.s.metric("waiting") and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(self.s.metric("waiting"), 0)
        self.assertEqual(self.s.metric("held_bytes"), 0)
        self.assertGreater(self.s.metric('requests_total{code="499"}'), 0)

    def test_large_header(self):
        k = self.s.socket()
        k.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        try:
            for i in range(2000):
                k.sendall(b"X-%d: %s\r\n" % (i, b"a" * 100))
        except ConnectionError:
            pass
        self.assertTrue(closed(k))

    def test_large_address(self):
        k = self.s.socket()
        try:
            k.sendall(b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n")
        except ConnectionError:
            pass
        self.assertTrue(closed(k))

    def test_no_http(self):
        for line in (b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET\r\n\r\n", b"\0" * 100 + b"\r\n\r\n",
                     b"POST /caption HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                     b"POST /caption HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                     b"POST /caption HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"):
            k = self.s.socket()
            k.sendall(line)
            k.shutdown(socket.SHUT_WR)
            self.assertTrue(closed(k), line)

    def test_pipelined(self):
        body = form([("image", ("a.png", png())), ("prefix", "say one")])
        k = self.s.socket()
        k.sendall((head(len(body)) + body) * 3 + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = b""
        while data := k.recv(65536):
            got += data
        self.assertEqual(got.count(b"HTTP/1.1 200"), 4)
        self.assertEqual(got.count(b'"caption":"one"'), 3)

    def test_expects_to_be_asked(self):
        """Too large a body is refused before it is sent, where the client asks first."""
        k = self.s.socket()
        k.sendall(head(50 << 20, "Expect: 100-continue\r\n"))
        self.assertIn(b" 413 ", k.recv(4096))
        k.close()

    def test_malformed_forms(self):
        """A thousand forms with damage of every kind: each is answered or ended, and the server is none the worse."""
        rng = random.Random(int(os.environ.get("PG_SEED", "7")))
        whole = form([("prefix", "say x"), ("image", ("a.png", png())), ("own", ""), ("other", "x" * 50)])
        marks = [m.start() for m in re.finditer(rb"\r\n|--|\"|;|:", whole)]
        statuses = {}
        c = None
        for i in range(1000):
            body = bytearray(whole)
            for _ in range(rng.choice((1, 1, 2, 5))):
                at = rng.choice(marks) if rng.random() < 0.7 else rng.randrange(len(body))
                what = rng.randrange(6)
                if what == 0:
                    body[at:at + 1] = bytes([rng.randrange(256)])
                elif what == 1:
                    del body[at:at + rng.randrange(1, 30)]
                elif what == 2:
                    body[at:at] = rng.choice((b"\r\n", b"--" + BOUNDARY.encode(), b"\0", b"\r\n\r\n", b'"', b"a" * 10000, b"--\r\n"))
                elif what == 3:
                    del body[at:]
                elif what == 4:
                    body[at:at] = body[:at]
                else:
                    body = body[at:] + body[:at]
                if not body:
                    body = bytearray(b"-")
            boundary = rng.choice((BOUNDARY, BOUNDARY, BOUNDARY, "", '"' + BOUNDARY, "x" * 3000, BOUNDARY + "; charset=x"))
            kind = rng.choice(("multipart/form-data; boundary=" + boundary,) * 4 + ("multipart/form-data", "multipart/form-data; x"))
            c = c or http.client.HTTPConnection("127.0.0.1", self.s.port, timeout=30)
            try:
                c.request("POST", "/caption", bytes(body), {"Content-Type": kind})
                r = c.getresponse()
                r.read()
                status = r.status
            except (ConnectionError, http.client.HTTPException):
                status, c = 0, None
            statuses[status] = statuses.get(status, 0) + 1
        print(statuses)
        self.assertLessEqual(set(statuses), {0, 200, 400, 415, 422, 413}, statuses)
        self.assertGreater(statuses[400], 100)
        self.assertLess(statuses.get(0, 0), 50)
        self.assertEqual(self.s.metric("held_bytes"), 0)
        self.assertEqual(self.s.metric("waiting"), 0)
        self.assertEqual(self.s.metric("command_deaths_total"), 0)


class Auth(unittest.TestCase):
    def setUp(self):
        self.file = tempfile.NamedTemporaryFile("w", delete=False)
        self.write(f"# who may\nanna:{BCRYPT}\n{TOKEN}\n")

    def tearDown(self):
        os.unlink(self.file.name)

    def write(self, text):
        with open(self.file.name, "w") as f:
            f.write(text)

    @staticmethod
    def basic(name, password):
        return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()

    def test_who_may(self):
        with serving(fake(), "--auth-file", self.file.name) as s:
            s.ready()  # /health is open
            for path in ("/", "/metrics", "/page.js", "/nothing"):
                a = s.get(path)
                self.assertEqual(a.status, 401, path)
                self.assertTrue(any("Basic" in v for v in a.headers.get_all("WWW-Authenticate")))
            self.assertEqual(s.caption().status, 401)
            for h, status in ((f"Bearer {TOKEN}", 200), (self.basic("anna", "open sesame"), 200), (self.basic("x", TOKEN), 200),
                              (f"Bearer {TOKEN}x", 401), (f"Bearer {TOKEN[:-1]}", 401), ("Bearer ", 401), ("Bearer", 401),
                              (self.basic("anna", "Open sesame"), 401), (self.basic("anna", ""), 401), (self.basic("ann", "open sesame"), 401),
                              (self.basic("", "open sesame"), 401), (f"Bearer {BCRYPT}", 401), (self.basic("anna", BCRYPT), 401),
                              ("Basic !!!!", 401), ("Basic " + "A" * 3000, 401), ("Digest x", 401)):
                self.assertEqual(s.caption(headers={"Authorization": h}).status, status, h)
            self.assertEqual(s.caption(headers={"Authorization": self.basic("anna", "open sesame")}).status, 200)

    def test_reload(self):
        with serving(fake(), "--auth-file", self.file.name) as s:
            s.ready()
            self.write("another-token-of-some-length\n")
            s.signal(1)
            s.wait_for("taken over")
            self.assertEqual(s.caption(headers={"Authorization": f"Bearer {TOKEN}"}).status, 401)
            self.assertEqual(s.caption(headers={"Authorization": "Bearer another-token-of-some-length"}).status, 200)
            self.write("short\n")
            s.signal(1)
            s.wait_for("the old names and tokens stay")
            self.assertEqual(s.caption(headers={"Authorization": "Bearer another-token-of-some-length"}).status, 200)

    def test_unknown_name_costs_a_hash(self):
        """Else the time of an answer would tell which names there are. A library before libcrypt counts the hashes."""
        with tempfile.TemporaryDirectory() as d:
            source, library, count = (os.path.join(d, n) for n in ("count.c", "count.so", "count"))
            with open(source, "w") as f:
                f.write("#define _GNU_SOURCE\n#include <crypt.h>\n#include <dlfcn.h>\n#include <fcntl.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
                        "char *crypt_r(const char *p, const char *s, struct crypt_data *d) {\n"
                        "  int fd = open(getenv(\"PG_COUNT\"), O_WRONLY | O_APPEND | O_CREAT, 0600);\n"
                        "  char *(*next)(const char *, const char *, struct crypt_data *);\n"
                        "  *(void **)&next = dlsym(RTLD_NEXT, \"crypt_r\");\n"
                        "  if (fd < 0 || write(fd, \"x\", 1) != 1) abort();\n  close(fd);\n  return next(p, s, d); }\n")
            if subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library, "-ldl"], capture_output=True).returncode:
                self.skipTest("no C compiler")
            with serving(fake(), "--auth-file", self.file.name, env={"LD_PRELOAD": library, "PG_COUNT": count}) as s:
                s.ready()
                def hashes(h):
                    open(count, "w").close()
                    self.assertEqual(s.get("/", Authorization=h).status, 401)
                    return os.path.getsize(count)
                self.assertEqual(hashes(self.basic("anna", "wrong")), 1)
                self.assertEqual(hashes(self.basic("nobody", "wrong")), 1)
                self.assertEqual(hashes("Bearer a-token-that-is-none"), 0)

    def test_blanks_at_the_end_of_a_line(self):
        self.write(f"anna:{BCRYPT} \r\n\r\n{TOKEN}\t\r\n")
        with serving(fake(), "--auth-file", self.file.name) as s:
            s.ready()
            for h in (f"Bearer {TOKEN}", self.basic("anna", "open sesame")):
                self.assertEqual(s.get("/", Authorization=h).status, 200)

    def test_bad_files(self):
        for text, why in (("", "holds neither"), ("# nobody\n", "holds neither"), ("short\n", "can be guessed"),
                          ("anna:plain\n", "line 1"), ("\n# x\n\nanna:$apr1$x$y\n", "line 4: the password is not hashed"),
                          (f"anna:{BCRYPT}\n\nanna:{BCRYPT}", "line 3: the name 'anna' was there before")):
            self.write(text)
            r = subprocess.run([SERVE, "-p", "0", "--auth-file", self.file.name, "--", "cat"],
                               capture_output=True, text=True)
            self.assertEqual(r.returncode, 1, text)
            self.assertIn(why, r.stderr)


class Rate(unittest.TestCase):
    def test_each_address_has_its_own(self):
        with serving(fake(), "--rate", "60", "--proxy") as s:
            s.ready()
            def post(*via):
                return s.caption(headers={"X-Forwarded-For": ", ".join(via)})
            statuses = [post("192.0.2.1").status for _ in range(10)]
            self.assertEqual(statuses, [200] * 10)
            while (a := post("192.0.2.1")).status == 200:
                pass
            self.assertEqual(a.json["code"], "too_many")
            self.assertGreaterEqual(int(a.headers["Retry-After"]), 1)
            self.assertEqual(post("192.0.2.2").status, 200)
            self.assertEqual(post("192.0.2.2", "192.0.2.1").status, 429)  # the last one counts
            self.assertEqual(post("192.0.2.1", "192.0.2.3").status, 200)
            with s.socket() as k:
                k.sendall(head(1, "X-Forwarded-For: 192.0.2.77\r\nX-Forwarded-For: 192.0.2.1\r\n") + b"x")
                two = k.recv(4096)
            self.assertIn(b" 429 ", two[:20])  # a line that the proxy added; the client's own comes first
            self.assertEqual(s.get("/").status, 200)  # pages are not counted
            for i in range(20):  # one /64 is one client
                a = post(f"2001:db8::{i:x}")
            self.assertEqual(a.status, 429)
            self.assertEqual(post("2001:db8:0:1::1").status, 200)
            time.sleep(1.2)
            self.assertEqual(post("192.0.2.1").status, 200)
            self.assertIn("2001:db8::5", {line["client"] for line in s.access()})

    def test_header_is_not_believed_without_proxy(self):
        with serving(fake(), "--rate", "60") as s:
            s.ready()
            statuses = [s.caption(headers={"X-Forwarded-For": f"192.0.2.{i}"}).status for i in range(20)]
            self.assertIn(429, statuses)

    def test_guessing_is_limited(self):
        with tempfile.NamedTemporaryFile("w") as f:
            f.write(TOKEN + "\n")
            f.flush()
            with serving(fake(), "--rate", "60", "--auth-file", f.name) as s:
                s.ready()
                statuses = [s.get("/", Authorization=f"Bearer guess{i:016}").status for i in range(20)]
                self.assertIn(429, statuses)
                self.assertNotIn(200, statuses)


def units():
    """The manual's units for systemd: name and text."""
    with open(os.path.join(TOP, "man", "pg-serve.1")) as f:
        text = re.search(r"^# /etc/systemd/system/.*?^\.Ed", f.read(), re.M | re.S).group(0)
    parts = re.split(r"^# /etc/systemd/system/(\S+)\n", text.removesuffix(".Ed").replace("\\e\n", "\\\n"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


class System(unittest.TestCase):
    def test_read_only(self):
        with tempfile.TemporaryDirectory() as d:
            file = os.path.join(d, "file")
            with serving(fake()) as s:
                self.assertEqual(s.ready().caption(prefix="write " + file).json["caption"], "written")
            try:
                with serving(fake(), "--read-only") as s:
                    s.ready()
                    self.assertEqual(s.caption(prefix="write " + file).json["caption"], "Permission denied")
                    self.assertEqual(s.caption(prefix="write " + file + "2").json["caption"], "Permission denied")
                    self.assertEqual(s.caption(prefix="write /dev/null").json["caption"], "written")
            except AssertionError as e:
                if "Landlock" not in str(e):
                    raise
                self.skipTest("no Landlock here")

    def test_no_new_privileges(self):
        with serving(fake()) as s:
            with open(f"/proc/{s.process.pid}/status") as f:
                self.assertIn("NoNewPrivs:\t1", f.read())

    def test_units(self):
        """systemd has nothing to say about the manual's units."""
        tool = "/usr/bin/systemd-analyze"
        if not os.path.exists(tool):
            self.skipTest("no systemd-analyze")
        with tempfile.TemporaryDirectory() as d:
            for name, text in units().items():
                with open(os.path.join(d, name), "w") as f:
                    f.write(text.replace("/usr/local/bin/pg-serve", SERVE))
            r = subprocess.run([tool, "verify", os.path.join(d, "pg-serve.service"), os.path.join(d, "pg-serve.socket")],
                               capture_output=True, text=True, timeout=60)
            self.assertEqual((r.returncode, r.stdout, r.stderr), (0, "", ""))

    def test_socket_activation(self):
        tool = "/usr/bin/systemd-socket-activate"
        if not os.path.exists(tool):
            self.skipTest("no systemd-socket-activate")
        with socket.socket() as k:
            k.bind(("127.0.0.1", 0))
            port = k.getsockname()[1]
        p = subprocess.Popen([tool, "-l", f"127.0.0.1:{port}", SERVE, "--", *fake()], stderr=subprocess.PIPE,
                             stdout=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                    c.request("POST", "/caption?prefix=say%20hello", png())
                    answer = c.getresponse().read()
                    c.close()
                    break
                except ConnectionError:
                    time.sleep(0.05)
            self.assertIn(b'"caption":"hello"', answer)
        finally:
            p.terminate()
            self.assertEqual(p.wait(20), 0)
            self.assertIn(f"listening on http://127.0.0.1:{port}/".encode(), p.stderr.read())
            p.stderr.close()

    def test_behind_nginx(self):
        """The manual's example, as it stands there: captions and events come through, and the client's address arrives."""
        nginx = "/usr/sbin/nginx"
        if not os.path.exists(nginx):
            self.skipTest("no nginx")
        with open(os.path.join(TOP, "man", "pg-serve.1")) as f:
            location = re.search(r"^location / \{.*?^\}", f.read(), re.M | re.S).group(0)
        with tempfile.TemporaryDirectory() as d, serving(fake(), "--proxy", "--rate", "60") as s, socket.socket() as k:
            s.ready()
            k.bind(("127.0.0.1", 0))
            port = k.getsockname()[1]
            k.close()
            conf = os.path.join(d, "nginx.conf")
            with open(conf, "w") as f:
                f.write(("user root; " if os.geteuid() == 0 else "") + f"daemon off; error_log stderr; pid {d}/pid; events {{}}\nhttp {{ access_log off; client_body_temp_path {d}/body; "
                        + "".join(f"{w}_temp_path {d}/{w}; " for w in ("proxy", "fastcgi", "uwsgi", "scgi"))
                        + f"server {{ listen 127.0.0.1:{port};\n{location.replace('127.0.0.1:8080', f'127.0.0.1:{s.port}')}\n}} }}\n")
            p = subprocess.Popen([nginx, "-p", d, "-c", conf], stderr=subprocess.PIPE)
            try:
                body = form([("image", ("a.png", png())), ("prefix", "say " + "word " * 20)])
                for _ in range(100):
                    try:
                        e = socket.create_connection(("127.0.0.1", port), timeout=20)
                        break
                    except ConnectionError:
                        time.sleep(0.05)
                e.sendall(head(len(body), "Accept: text/event-stream\r\nX-Forwarded-For: 192.0.2.9\r\n") + body)
                got = b""
                while b"event: partial" not in got:
                    got += e.recv(4096)
                self.assertNotIn(b"event: caption", got)  # passed on at once, not gathered
                while b"event: caption" not in got:
                    got += e.recv(4096)
                e.close()
                c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                c.request("POST", "/caption?prefix=size", png() + b"x" * 15000000)
                self.assertIn(b'"caption":"fake 150', c.getresponse().read())
                c.close()
                self.assertEqual({x["client"] for x in s.access() if x["path"] == "/caption"}, {"127.0.0.1"})
            finally:
                p.terminate()
                p.wait(20)
                p.stderr.close()

    def test_notifies_the_service_manager(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "notify")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as k:
                k.bind(path)
                k.settimeout(20)
                with serving(fake(), env={"NOTIFY_SOCKET": path}):
                    self.assertEqual(k.recv(100), b"READY=1")
                self.assertEqual(k.recv(100), b"STOPPING=1")

    def test_port_in_use(self):
        with serving(fake()) as s:
            r = subprocess.run([SERVE, "-p", str(s.port), "--", "cat"], capture_output=True, text=True)
            self.assertEqual(r.returncode, 1)
            self.assertIn(f"cannot listen on '127.0.0.1' port {s.port}", r.stderr)

    def test_ipv6(self):
        try:
            with socket.socket(socket.AF_INET6) as k:
                k.bind(("::1", 0))
        except OSError:
            self.skipTest("no IPv6 here")
        p = subprocess.Popen([SERVE, "-b", "::1", "-p", "0", "--", *fake()], stderr=subprocess.PIPE,
                             stdout=subprocess.DEVNULL, text=True)
        port = int(re.search(r"\[::1\]:(\d+)/", p.stderr.readline()).group(1))
        c = http.client.HTTPConnection("::1", port, timeout=20)
        c.request("POST", "/caption?prefix=say%20six", png())
        self.assertIn(b'"six"', c.getresponse().read())
        c.close()
        p.terminate()
        self.assertEqual(p.wait(20), 0)
        p.stderr.close()

    def test_log_reader_that_stands(self):
        """An access log that nobody reads costs lines, not service."""
        r, w = os.pipe()
        p = subprocess.Popen([SERVE, "-p", "0", "--", *fake()], stderr=subprocess.PIPE, stdout=w, text=True)
        os.close(w)
        port = int(re.search(r":(\d+)/", p.stderr.readline()).group(1))
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for _ in range(1000):
            c.request("GET", "/health")
            c.getresponse().read()
        c.request("GET", "/metrics")
        self.assertGreater(int(re.search(rb"^pg_serve_log_lines_lost_total (\d+)", c.getresponse().read(), re.M).group(1)), 0)
        c.close()
        p.terminate()
        self.assertEqual(p.wait(20), 0)
        p.stderr.close()
        os.close(r)


if __name__ == "__main__":
    unittest.main()
