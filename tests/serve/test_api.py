"""The API of pg-serve: what is asked for is answered, what is wrong is refused in plain words."""
import base64
import os
import re
import subprocess
import unittest

from harness import BOUNDARY, BUILD, NANO, TOP, fake, form, png, serving

PICTURES = os.path.join(TOP, "tests", "golden", "image")


def read(name):
    with open(os.path.join(PICTURES, name), "rb") as f:
        return f.read()


class Api(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = serving(fake(), "--max-upload", "100K", "--max-pixels", "1M", "--prefix", "say as usual")
        cls.s = cls.context.__enter__().ready()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def refused(self, a, status, code):
        self.assertEqual(a.status, status, a)
        self.assertEqual(a.json["code"], code, a)
        self.assertRegex(a.json["error"], r"^[a-z].{8,}[^.\n]$")  # a sentence of a message, not a number

    def test_form(self):
        a = self.s.caption(prefix="say a red apple")
        self.assertEqual(a.status, 200, a)
        self.assertEqual(a.headers["Content-Type"], "application/json")
        self.assertEqual(a.json["caption"], "a red apple")
        self.assertEqual(a.json["logprob"], -1.5)
        self.assertGreater(a.json["ms"], 0)
        self.assertEqual(set(a.json), {"id", "caption", "logprob", "ms"})

    def test_ids_differ(self):
        self.assertEqual(len({self.s.caption().json["id"] for _ in range(5)}), 5)

    def test_bare_picture(self):
        for kind in ("image/png", "application/octet-stream", "application/x-www-form-urlencoded", None):
            h = {"Content-Type": kind} if kind else {}
            a = self.s.request("POST", "/caption?prefix=say%20caf%C3%A9", png(), h)
            self.assertEqual(a.json.get("caption"), "café", (kind, a))

    def test_bytes_arrive_whole(self):
        image = png() + bytes(range(256)) * 300  # what follows the picture is the command's business
        self.assertEqual(self.s.caption(image, prefix="size").json["caption"], f"fake {len(image)}")

    def test_chunked(self):
        body = png()
        a = self.s.request("POST", "/caption?prefix=size", (body[i:i + 7] for i in range(0, len(body), 7)), {"Content-Type": "image/png"})
        self.assertEqual(a.json["caption"], f"fake {len(body)}")

    def test_usual_prefix(self):
        self.assertEqual(self.s.caption().json["caption"], "as usual")
        self.assertEqual(self.s.caption(prefix="  ").json["caption"], "as usual")

    def test_own_words_come_first(self):
        body = form([("image", ("a.png", png())), ("prefix", "say the choice"), ("own", "say my own")])
        a = self.s.request("POST", "/caption", body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
        self.assertEqual(a.json["caption"], "my own")

    def test_events(self):
        events = self.s.events("say one two three")
        self.assertEqual(events[0][0], "queued")
        self.assertEqual(events[0][1]["ahead"], 0)
        texts = [d["partial"] for e, d in events if e == "partial"]
        self.assertTrue(texts, events)
        for t in texts:
            self.assertTrue("one two three".startswith(t))
        self.assertEqual(events[-1][0], "caption")
        self.assertEqual(events[-1][1]["caption"], "one two three")
        self.assertEqual(len({d["id"] for _, d in events}), 1)

    def test_events_come_as_they_are_made(self):
        """The first partial text arrives while the command is still at work: after it, more are read."""
        body = form([("image", ("a.png", png())), ("prefix", "say " + "word " * 30)])
        k = self.s.socket()
        k.sendall(b"POST /caption HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Type: multipart/form-data; "
                  b"boundary=%s\r\nContent-Length: %d\r\n\r\n%s" % (BOUNDARY.encode(), len(body), body))
        got = b""
        while b"event: partial" not in got:
            got += k.recv(4096)
        self.assertNotIn(b"event: caption", got)
        while b"event: caption" not in got:
            got += k.recv(4096)
        self.assertGreater(got.count(b"event: partial"), 10)
        k.close()

    def test_error_of_the_command(self):
        self.refused(self.s.caption(prefix="error"), 422, "picture")
        self.assertEqual(self.s.caption(prefix="error").json["error"], "fake: no such picture this picture")  # not the id
        event, data = self.s.events("error")[-1]
        self.assertEqual((event, data["code"], data["status"]), ("error", "picture", 422))

    def test_caption_is_always_utf8(self):
        a = self.s.caption(prefix="bytes")
        self.assertEqual(a.json["caption"], "caf\ufffd \ufffd café")

    def test_plain_form(self):
        a = self.s.caption(png(), prefix="say <b>&\"", headers={"Accept": "text/html,application/xhtml+xml"})
        self.assertEqual(a.status, 200)
        self.assertIn("text/html", a.headers["Content-Type"])
        page = a.body.decode()
        self.assertIn("&lt;b&gt;&amp;&quot;", page)
        self.assertNotIn("<b>", page)
        self.assertIn('src="data:image/png;base64,iVBOR', page)
        self.assertNotIn("{{", page)
        a = self.s.caption(b"no picture", headers={"Accept": "text/html"})
        self.assertEqual(a.status, 415)
        self.assertIn("neither PNG nor JPEG", a.body.decode())

    def test_data_uri_is_the_picture(self):
        for n in range(3):  # every length modulo 3
            image = png() + b"x" * n
            page = self.s.caption(image, headers={"Accept": "text/html"}).body.decode()
            self.assertEqual(base64.b64decode(re.search(r'base64,([^"]+)"', page).group(1)), image)

    def test_wrong_files(self):
        self.refused(self.s.caption(b"hello"), 415, "not_a_picture")
        self.refused(self.s.caption(read("opt-gif.gif")), 415, "not_a_picture")
        self.assertIn("GIF", self.s.caption(read("opt-gif.gif")).json["error"])
        self.refused(self.s.caption(png()[:20]), 422, "picture")
        self.refused(self.s.caption(read("bad/bad-no-dht.jpg")[:4]), 422, "picture")

    def test_no_file(self):
        self.refused(self.s.caption(b""), 400, "no_picture")
        self.refused(self.s.request("POST", "/caption", b""), 400, "no_picture")
        body = form([("prefix", "caption en")])
        self.refused(self.s.request("POST", "/caption", body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}), 400, "no_picture")

    def test_two_files(self):
        body = form([("image", ("a.png", png())), ("image", ("b.png", png()))])
        self.refused(self.s.request("POST", "/caption", body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}), 400, "one_picture")

    def test_too_large(self):
        self.refused(self.s.caption(png() + b"x" * 102400), 413, "too_large")
        self.refused(self.s.request("POST", "/caption", png() + b"x" * 500000), 413, "too_large")
        self.refused(self.s.request("POST", "/caption", (b"x" * 65536 for _ in range(8))), 413, "too_large")
        self.assertEqual(self.s.caption(png() + b"x" * (102400 - len(png())), prefix="size").json["caption"], "fake 102400")

    def test_too_many_pixels(self):
        self.refused(self.s.caption(read("bad/bad-bomb-100000x100000.png")), 413, "too_many_pixels")

    def test_bad_prefixes(self):
        self.refused(self.s.caption(prefix="two\nlines"), 400, "prefix")
        self.refused(self.s.caption(prefix="x" * 1001), 400, "prefix")
        self.refused(self.s.request("POST", "/caption?prefix=%ff", png()), 400, "prefix")

    def test_addresses(self):
        self.refused(self.s.get("/nothing"), 404, "not_found")
        self.refused(self.s.get("/../etc/passwd"), 404, "not_found")
        a = self.s.get("/caption")
        self.refused(a, 405, "method")
        self.assertEqual(a.headers["Allow"], "POST")
        a = self.s.request("DELETE", "/")
        self.assertEqual((a.status, a.headers["Allow"]), (405, "GET, HEAD"))
        a = self.s.request("HEAD", "/")
        self.assertEqual((a.status, a.body), (200, b""))

    def test_forms_of_other_sites(self):
        self.refused(self.s.caption(headers={"Sec-Fetch-Site": "cross-site"}), 403, "cross_site")
        self.assertEqual(self.s.caption(headers={"Sec-Fetch-Site": "same-origin"}).status, 200)

    def test_headers(self):
        for a in (self.s.get("/"), self.s.get("/page.js"), self.s.get("/nothing"), self.s.caption(), self.s.caption(b"x")):
            policy = a.headers["Content-Security-Policy"]
            self.assertIn("default-src 'none'", policy)
            self.assertIn("frame-ancestors 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(a.headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(a.headers["Cache-Control"], "no-store")

    def test_page_is_self_contained(self):
        for path in ("/", "/page.css", "/page.js"):
            text = self.s.get(path).body.decode()
            self.assertNotRegex(text, r"(?:src|href|url|fetch)\W{1,3}(?:https?:)?//")
            self.assertNotIn("{{", text)
        page = self.s.get("/").body.decode()
        self.assertNotRegex(page, r"<script>|\son[a-z]+=|style=")
        self.assertIn('data-max-bytes="102400"', page)
        with open(os.path.join(TOP, "tools", "serve", "page.js"), "rb") as f:
            self.assertEqual(self.s.get("/page.js").body, f.read())

    def test_openapi(self):
        """Every status that the program can give to /caption is described, and the other way round."""
        described = {int(k) for k in self.s.get("/openapi.json").json["paths"]["/caption"]["post"]["responses"]}
        source = ""
        for name in os.listdir(os.path.join(TOP, "tools")):
            if name.startswith("serve_"):
                with open(os.path.join(TOP, "tools", name)) as f:
                    source += f.read()
        given = {int(n) for n in re.findall(r"(?:refuse\(r, |job_done\(s, j, |jobs_fail\(s, \w+, )(\d+)", source)}
        self.assertEqual(described, given - {404, 405} | {422, 500, 503})

    def test_metrics(self):
        before = self.s.metric("captions_total"), self.s.metric('requests_total{code="415"}')
        self.s.caption()
        self.s.caption(b"x")
        self.assertEqual((self.s.metric("captions_total"), self.s.metric('requests_total{code="415"}')), (before[0] + 1, before[1] + 1))
        self.assertEqual(self.s.metric("waiting"), 0)
        self.assertEqual(self.s.metric("held_bytes"), 0)
        for line in self.s.get("/metrics").body.decode().splitlines():
            self.assertRegex(line, r'^(# (HELP|TYPE) pg_serve_\w+ .+|pg_serve_\w+(\{\w+="[^"]*"\})? [0-9.e+-]+)$')

    def test_access_log(self):
        a = self.s.caption()
        self.s.get("/health")  # a line is written after its answer; the next request comes after both
        line = [x for x in self.s.access() if x.get("id") == a.json["id"]]
        self.assertEqual(len(line), 1)
        self.assertEqual({k: line[0][k] for k in ("client", "method", "path", "status")},
                         {"client": "127.0.0.1", "method": "POST", "path": "/caption", "status": 200})

    def test_stray_answers_are_counted(self):
        before = self.s.metric("stray_answers_total")
        self.assertEqual(self.s.caption(prefix="stray").status, 200)
        self.assertEqual(self.s.metric("stray_answers_total"), before + 1)


class Nano(unittest.TestCase):
    def test_same_as_the_pipeline(self):
        """The page gives the caption that the shell gives."""
        picture = os.path.join(PICTURES, "png-rgb8.png")
        tools = f"PATH='{BUILD}':$PATH; cd '{TOP}'; pg-fetch '{picture}' | {NANO[2].rsplit('&& ', 1)[1].replace(' --partial', '')}"
        shell = subprocess.run(["sh", "-c", tools + " | pg-render -f captions"], capture_output=True, text=True, check=True).stdout
        with serving(NANO) as s:
            a = s.ready().caption(read("png-rgb8.png"))
            self.assertEqual(a.json["caption"], shell.rstrip("\n").split("\t")[1])
            events = s.events("caption en")
            self.assertEqual(events[-1][0], "caption")
            a = s.caption(read("bad/bad-truncated-half.jpg"))
            self.assertEqual(a.status, 422)
            self.assertIn("premature end of file", a.json["error"])


if __name__ == "__main__":
    unittest.main()
