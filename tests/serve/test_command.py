"""The command of pg-serve: dies, hangs, is exchanged; nobody waits for ever and nothing is lost."""
import http.client
import os
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BUILD, NANO, fake, png, serving


def together(*calls):
    """Runs all calls at once; their results in order."""
    out = [None] * len(calls)
    def run(i):
        out[i] = calls[i]()
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return out


def until(what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.02)
    raise AssertionError("never came true")


def children(pid):
    """(process, its name) of those that pid has started."""
    for child in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{child}/stat") as f:
                comm, rest = f.read().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if int(rest.split()[1]) == pid:
            yield int(child), comm


def descendant(pid, name):
    """The process of this name below pid."""
    for child, comm in children(pid):
        found = child if comm == name else descendant(child, name)
        if found:
            return found
    return None


class Death(unittest.TestCase):
    def test_killed_in_the_middle(self):
        with serving(fake()) as s:
            s.ready()
            a = s.caption(prefix="die")
            self.assertEqual((a.status, a.json["code"]), (502, "command_died"))
            self.assertEqual(s.caption(prefix="say again").json["caption"], "again")
            self.assertEqual(s.metric("command_deaths_total"), 1)
            self.assertEqual(s.metric("command_starts_total"), 2)
            s.wait_for(r"is gone \(exit status 3\)")

    def test_killed_while_events_flow(self):
        with serving(fake()) as s:
            s.ready()
            self.assertEqual(s.events("say before")[-1][0], "caption")
            event, data = s.events("die")[-1]
            self.assertEqual((event, data["code"], data["status"]), ("error", "command_died", 502))

    def test_any_of_a_pipeline_killed(self):
        """Each program of the real pipeline in turn: the others notice, all are replaced, and the shell that holds them too."""
        with serving(NANO, "--timeout", "60") as s:
            s.ready()
            for i, name in enumerate(("pg-infer", "pg-tokenize", "pg-resize")):
                self.assertEqual(s.caption(prefix="caption en").status, 200)
                os.kill(descendant(s.process.pid, name), signal.SIGKILL)
                until(lambda: s.metric("command_starts_total") == i + 2)
            self.assertEqual(s.caption(prefix="caption en").status, 200)
            self.assertEqual(s.metric("command_deaths_total"), 3)

    def test_stopped_and_killed_with_a_picture(self):
        """pg-infer is stopped, so that the picture is surely in flight, then killed."""
        with serving(NANO, "--timeout", "60") as s:
            s.ready()
            pid = descendant(s.process.pid, "pg-infer")
            os.kill(pid, signal.SIGSTOP)
            killer = threading.Thread(target=lambda: (until(lambda: s.metric("waiting") == 1), os.kill(pid, signal.SIGKILL)))
            killer.start()
            a = s.caption(prefix="caption en")
            killer.join()
            self.assertEqual((a.status, a.json["code"]), (502, "command_died"))

    def test_waiting_ones_go_to_the_next(self):
        """The second is too large for the pipe and stands in it; the third has not begun when the command dies, so it need not fail."""
        def after(n, *a, **kw):
            until(lambda: s.metric("waiting") == n)
            return s.caption(*a, **kw)
        with serving(fake()) as s:
            s.ready()
            answers = together(lambda: s.caption(prefix="die 3"), lambda: after(1, png() + b"x" * 4000000), lambda: after(2, prefix="say later"))
            self.assertEqual([a.status for a in answers], [502, 502, 200])
            self.assertEqual(answers[2].json["caption"], "later")

    def test_no_stream(self):
        with serving(fake()) as s:
            s.ready()
            a = s.caption(prefix="garbage")
            self.assertEqual((a.status, a.json["code"]), (502, "command_died"))
            self.assertEqual(s.caption().status, 200)

    def test_backoff(self):
        """A command that has worked and then always fails is not started over and over, but not given up; uploads hear when to come again."""
        with tempfile.NamedTemporaryFile("w") as name, serving(fake("@" + name.name)) as s:
            s.ready()
            name.write("broken")
            name.flush()
            self.assertEqual(s.caption(prefix="die").status, 502)
            time.sleep(3)
            starts = s.metric("command_starts_total")
            self.assertTrue(2 <= starts <= 8, starts)
            self.assertEqual(s.get("/health").status, 503)
            until(lambda: s.metric("command_starts_total") > max(starts, 6))
            a = s.caption()
            self.assertEqual(a.status, 503, a)
            self.assertGreaterEqual(int(a.headers["Retry-After"]), 1)
            self.assertIsNone(s.process.poll())

    def test_gives_up(self):
        """A command that never comes up: its message, then the end, also for those who wait."""
        command = ["sh", "-c", "echo no such model >&2; exit 7"]
        with serving(command) as s:
            got = []
            waits = threading.Thread(target=lambda: got.append(s.caption()))
            waits.start()
            self.assertEqual(s.process.wait(30), 1)
            waits.join()
            self.assertEqual(got[0].status, 503)
            said = s.messages()
            self.assertEqual(said.count("no such model"), 5)
            self.assertEqual(said.count("the command 'sh' is gone (exit status 7)"), 5)
            self.assertIn("pg-serve: given up: the command 'sh' has ended 5 times and never began to answer", said)

    def test_no_such_command(self):
        r = subprocess.run([os.path.join(BUILD, "pg-serve"), "-p", "0", "--", "/no/such/command"], capture_output=True, text=True)
        self.assertEqual(r.returncode, 1)
        self.assertIn("cannot run '/no/such/command'", r.stderr)

    def test_no_caption(self):
        with serving(["sh", "-c", "cat"]) as s:  # what goes in comes out: no caption
            a = s.ready().caption()
            self.assertEqual((a.status, a.json["code"]), (502, "no_caption"))


class Hang(unittest.TestCase):
    def test_replaced(self):
        with serving(fake(), "--timeout", "1") as s:
            s.ready()
            first = next(children(s.process.pid))
            answers = together(lambda: s.caption(prefix="hang"), lambda: (time.sleep(0.3), s.caption())[1])
            self.assertEqual([(a.status, a.json["code"]) for a in answers], [(504, "timeout")] * 2)
            self.assertEqual(s.caption(prefix="say well again").json["caption"], "well again")
            self.assertEqual(s.metric("command_hangs_total"), 1)
            until(lambda: first not in children(s.process.pid))  # it ignores SIGTERM: what cannot be ignored has come

    def test_large_picture_into_a_hung_command(self):
        """The pipe is full and the feeder stands: still noticed, still replaced."""
        with serving(fake(), "--timeout", "1") as s:
            s.ready()
            image = png() + b"x" * 4000000
            answers = together(lambda: s.caption(prefix="hang"), lambda: (time.sleep(0.2), s.caption(image))[1])
            self.assertEqual([a.status for a in answers], [504, 504])
            self.assertEqual(s.caption(image).status, 200)

    def test_one_unanswered_does_not_harm_the_others(self):
        with serving(fake(), "--timeout", "1") as s:
            s.ready()
            def others():
                end = time.monotonic() + 2
                while time.monotonic() < end:
                    self.assertEqual(s.caption().status, 200)
                    time.sleep(0.05)
            lost, _ = together(lambda: s.caption(prefix="silent"), others)
            self.assertEqual((lost.status, lost.json["code"]), (504, "timeout"))
            self.assertEqual(s.metric("command_hangs_total"), 0)
            self.assertEqual(s.metric("command_starts_total"), 1)


class Start(unittest.TestCase):
    """A command that loads for longer than --timeout: pictures are given up one by one, the command is not."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.go = os.path.join(self.folder.name, "go")

    def tearDown(self):
        self.folder.cleanup()

    def loaded(self):
        open(self.go, "w").close()

    def test_is_not_killed(self):
        with serving(fake("slow:" + self.go), "--timeout", "0.5") as s:
            first = [a for a in together(*[s.caption] * 3)] + [s.caption()]
            self.assertEqual({(a.status, a.json["code"]) for a in first}, {(503, "starting")})
            self.assertGreaterEqual(int(first[0].headers["Retry-After"]), 1)
            self.assertEqual(s.get("/health").json["status"], "starting")
            self.loaded()
            self.assertEqual(s.ready().caption(prefix="say here").json["caption"], "here")
            self.assertEqual(s.metric("command_starts_total"), 1)
            self.assertEqual(s.metric("command_hangs_total"), 0)
            self.assertLessEqual(s.metric("stray_answers_total"), 1)  # given up means not worked on

    def test_waits_for_it(self):
        with serving(fake("slow:" + self.go)) as s:
            got = []
            threads = [threading.Thread(target=lambda: got.append(s.events())) for _ in range(3)]
            for t in threads:
                t.start()
            until(lambda: s.metric("waiting") == 3)
            self.loaded()
            for t in threads:
                t.join()
            self.assertEqual([[e[0] for e in events][-1] for events in got], ["caption"] * 3)
            self.assertTrue(all(events[0][1].get("starting") for events in got))
            self.assertNotIn("starting", s.events()[0][1])

    def test_header_with_the_first_answer(self):
        with serving(fake("late")) as s:
            self.assertEqual([a.status for a in together(*[s.caption] * 3)], [200] * 3)

    def test_never_begins(self):
        with serving(fake("slow:" + self.go), "--start-timeout", "0.5") as s:
            s.wait_for("wrote no header for the time of --start-timeout")
            self.loaded()
            self.assertEqual(s.ready().caption().status, 200)

    def test_new_one_is_judged_by_start_timeout(self):
        """After SIGHUP too: longer than --timeout is well, longer than --start-timeout is not."""
        with tempfile.NamedTemporaryFile("w") as f:
            f.write("old")
            f.flush()
            with serving(fake("@" + f.name), "--timeout", "0.4", "--start-timeout", "6") as s:
                s.ready()
                f.seek(0)
                f.write("slow")  # a second
                f.flush()
                s.signal(signal.SIGHUP)
                s.wait_for("taken over")
                f.seek(0)
                f.write("slow:" + self.go)
                f.flush()
                s.signal(signal.SIGHUP)
                s.wait_for("the old one goes on")
                self.assertEqual(s.caption(prefix="say old").json["caption"], "old")


class Queue(unittest.TestCase):
    def test_full(self):
        with serving(fake(), "--queue", "2") as s:
            s.ready()
            first = threading.Thread(target=lambda: together(*[lambda: s.caption(prefix="sleep 2")] * 2))
            first.start()
            until(lambda: s.metric("waiting") == 2)
            a = s.caption()
            self.assertEqual((a.status, a.json["code"]), (503, "queue_full"))
            self.assertGreaterEqual(int(a.headers["Retry-After"]), 1)
            first.join()
            self.assertEqual(s.caption().status, 200)

    def test_ahead(self):
        with serving(fake()) as s:
            s.ready()
            first = threading.Thread(target=lambda: s.caption(prefix="sleep 0.7"))
            first.start()
            until(lambda: s.metric("waiting") == 1)
            self.assertEqual(s.events()[0][1]["ahead"], 1)
            first.join()


class Reload(unittest.TestCase):
    def setUp(self):
        self.file = tempfile.NamedTemporaryFile("w", delete=False)
        self.model("old")

    def tearDown(self):
        os.unlink(self.file.name)

    def model(self, name):
        with open(self.file.name, "w") as f:
            f.write(name)

    def name(self, s):
        return s.caption().json["caption"].split()[0]

    def test_moves_over(self):
        with serving(fake("@" + self.file.name)) as s:
            self.assertEqual(self.name(s.ready()), "old")
            slow = threading.Thread(target=lambda: self.slow.append(s.caption(prefix="sleep 1").json))
            self.slow = []
            slow.start()
            until(lambda: s.metric("waiting") == 1)
            self.model("new")
            s.signal(signal.SIGHUP)
            s.wait_for("taken over")
            self.assertEqual(self.name(s), "new")
            slow.join()
            self.assertEqual(self.slow[0]["caption"].split()[0], "old")
            self.assertEqual(s.metric("command_deaths_total"), 0)
            s.wait_for("command 1 has finished")

    def test_nothing_lost_under_load(self):
        with serving(fake("@" + self.file.name), "--queue", "64") as s:
            s.ready()
            statuses = []
            def load():
                for _ in range(40):
                    statuses.append(s.caption(prefix="sleep 0.003").status)
            threads = [threading.Thread(target=load) for _ in range(8)]
            for t in threads:
                t.start()
            for i in range(4):
                self.model(f"model{i}")
                s.signal(signal.SIGHUP)
                time.sleep(0.3)
            for t in threads:
                t.join()
            self.assertEqual(statuses, [200] * 320)
            until(lambda: s.metric("command_reloads_total") >= 1)

    def test_new_one_fails(self):
        with serving(fake("@" + self.file.name)) as s:
            s.ready()
            self.model("broken")
            s.signal(signal.SIGHUP)
            s.wait_for("the old one goes on")
            self.assertEqual(self.name(s), "old")

    def test_new_one_is_slow(self):
        with serving(fake("@" + self.file.name)) as s:
            s.ready()
            self.model("slow")
            s.signal(signal.SIGHUP)
            self.assertEqual(self.name(s), "old")
            s.wait_for("taken over")
            self.assertEqual(self.name(s), "slow")


class Stop(unittest.TestCase):
    def test_drains(self):
        with serving(fake()) as s:
            s.ready()
            got = []
            slow = threading.Thread(target=lambda: got.extend(together(lambda: s.caption(prefix="sleep 1"), lambda: s.events("sleep 0.1"))))
            slow.start()
            until(lambda: s.metric("waiting") == 2)
            s.signal(signal.SIGTERM)
            slow.join()
            self.assertEqual(got[0].status, 200)
            self.assertEqual(got[1][-1][0], "caption")
            self.assertEqual(s.process.wait(20), 0)
            with self.assertRaises(OSError):
                s.get("/health")

    def test_takes_nothing_new(self):
        """A connection that is open already hears that the server stops."""
        with serving(fake()) as s:
            s.ready()
            c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=20)
            c.request("GET", "/health")
            self.assertEqual(c.getresponse().read()[:14], b'{"status":"ok"')
            slow = threading.Thread(target=lambda: s.caption(prefix="sleep 1"))
            slow.start()
            until(lambda: s.metric("waiting") == 1)
            s.signal(signal.SIGTERM)
            s.wait_for("stopping")
            time.sleep(0.1)
            c.request("POST", "/caption", png())
            r = c.getresponse()
            self.assertEqual((r.status, r.headers["Retry-After"] is not None, b'"draining"' in r.read()), (503, True, True))
            c.close()
            slow.join()

    def test_second_signal_hurries(self):
        with serving(fake()) as s:
            s.ready()
            got = []
            slow = threading.Thread(target=lambda: got.append(s.caption(prefix="hang")))
            slow.start()
            until(lambda: s.metric("waiting") == 1)
            s.signal(signal.SIGTERM)
            s.wait_for("stopping")
            s.signal(signal.SIGTERM)
            slow.join()
            self.assertEqual((got[0].status, got[0].json["code"]), (503, "stopping"))
            self.assertEqual(s.process.wait(20), 0)

    def test_command_gets_the_end_record(self):
        with serving(fake()) as s:
            s.ready()
            self.assertEqual(s.stop(), 0)
            self.assertIn("command 1 has finished", s.messages())
            self.assertNotIn("exit status", s.messages())


if __name__ == "__main__":
    unittest.main()
