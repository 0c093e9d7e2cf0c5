"""The page in a real browser: headless Chromium, driven by Debian's selenium. PG_SHOTS=FOLDER keeps screenshots."""
import base64
import csv
import glob
import os
import tempfile
import time
import unittest
import zipfile

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from harness import NANO, TOP, fake, png, serving

PICTURES = os.path.join(TOP, "tests", "golden", "image")


def browser(folder, javascript=True):
    o = webdriver.ChromeOptions()
    for a in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,1000", "--lang=en", "--hide-scrollbars"):
        o.add_argument(a)
    prefs = {"download.default_directory": folder}
    if not javascript:
        prefs["profile.managed_default_content_settings.javascript"] = 2
    o.add_experimental_option("prefs", prefs)
    o.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    o.binary_location = "/usr/bin/chromium"
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=o)


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.context = serving(fake(), "--max-upload", "100K", "--timeout", "10")
        cls.s = cls.context.__enter__().ready()
        cls.b = browser(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.b.quit()
        cls.context.__exit__(None, None, None)
        cls.folder.cleanup()

    def setUp(self):
        self.b.get(f"http://127.0.0.1:{self.s.port}/")
        self.b.execute_script("sessionStorage.clear()")
        self.b.refresh()

    def tearDown(self):
        """No script error, nothing that the policy had to stop, nothing asked for elsewhere."""
        bad = [x for x in self.b.get_log("browser") if x["level"] == "SEVERE" and "status of" not in x["message"]]
        self.assertEqual(bad, [])
        names = self.b.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        for n in names:
            self.assertRegex(n, rf"^(blob:|data:|http://127\.0\.0\.1:{self.s.port}/)")

    # ---- tools ----
    def file(self, name, data):
        path = os.path.join(self.folder.name, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def choose(self, *paths):
        self.b.find_element(By.ID, "file").send_keys("\n".join(paths))

    def ask(self, words):
        option = self.b.find_element(By.CSS_SELECTOR, "option[data-own]")
        Select(self.b.find_element(By.ID, "prefix")).select_by_visible_text(option.text)
        own = self.b.find_element(By.ID, "own")
        own.clear()
        own.send_keys(words)

    def cards(self):
        return self.b.find_elements(By.CSS_SELECTOR, "#cards .card")

    def until(self, what, seconds=40):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = what()
            if value:
                return value
            time.sleep(0.02)
        self.fail("never came true; the page says: " + self.b.find_element(By.TAG_NAME, "body").text)

    def state(self, card, state):
        self.until(lambda: card.get_attribute("data-state") == state)

    def text(self, card, part):
        return card.find_element(By.CLASS_NAME, part).text

    def shot(self, name):
        if os.environ.get("PG_SHOTS"):
            self.b.save_screenshot(os.path.join(os.environ["PG_SHOTS"], name + ".png"))

    # ---- tests ----
    def test_caption_word_by_word(self):
        self.ask("say a red apple on a very green table")
        self.b.execute_script("""
            window.seen = [];
            new MutationObserver(() => {
                const c = document.querySelector(".card .caption");
                if (c && c.textContent && window.seen.at(-1) !== c.textContent) window.seen.push(c.textContent);
            }).observe(document.getElementById("cards"), {subtree: true, childList: true, characterData: true});""")
        self.choose(self.file("apple.png", png()))
        card = self.until(self.cards)[0]
        img = card.find_element(By.TAG_NAME, "img")
        self.until(lambda: self.b.execute_script("return arguments[0].naturalWidth", img) == 8)  # the preview, at once
        self.state(card, "done")
        self.assertEqual(self.text(card, "caption"), "a red apple on a very green table")
        seen = self.b.execute_script("return window.seen")
        self.assertGreater(len(seen), 3, seen)
        for earlier, later in zip(seen, seen[1:]):
            self.assertTrue(later.startswith(earlier), seen)
        self.assertEqual(self.text(card, "name"), "apple.png")
        self.assertEqual(img.get_attribute("alt"), "a red apple on a very green table")
        self.assertEqual(self.b.execute_script("""
            const box = e => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height].map(Math.round); };
            return String(box(arguments[0])) == String(box(arguments[0].parentElement));""", img), True)  # the whole of it is seen
        self.assertIn("a red apple on a very green table", self.b.find_element(By.ID, "say").get_attribute("textContent"))
        self.shot("caption")

    def test_two_at_once(self):
        self.ask("say both")
        self.choose(self.file("one.png", png(8)), self.file("two.png", png(9)))
        self.until(lambda: len(self.cards()) == 2)
        for c in self.cards():
            self.state(c, "done")
        self.assertEqual([self.text(c, "name") for c in self.cards()], ["one.png", "two.png"])
        self.assertIn("2 captioned", self.b.find_element(By.ID, "summary").text)

    def test_wrong_file(self):
        self.choose(self.file("notes.txt", b"hello"))
        card = self.until(self.cards)[0]
        self.state(card, "failed")
        self.assertIn("no picture", self.text(card, "state"))
        self.choose(self.file("broken.png", png()[:30]))
        card = self.until(lambda: len(self.cards()) == 2 and self.cards()[0])
        self.state(card, "failed")
        self.assertIn("cannot be read", self.text(card, "state"))
        for card in self.cards():  # nothing that a second try could change
            self.assertFalse(card.find_element(By.CLASS_NAME, "again").is_displayed())
        self.shot("wrong")

    def test_too_large(self):
        self.choose(self.file("large.png", png() + b"x" * 110000))
        card = self.until(self.cards)[0]
        self.state(card, "failed")
        self.assertIn("108 KB; at most 100 KB", self.text(card, "state"))

    def test_other_formats_are_converted(self):
        with open(os.path.join(PICTURES, "opt-lossy.webp"), "rb") as f:
            self.choose(self.file("photo.webp", f.read()))
        card = self.until(self.cards)[0]
        self.state(card, "done")

    def test_killed_in_the_middle_then_again(self):
        self.ask("die")
        self.choose(self.file("a.png", png()))
        card = self.until(self.cards)[0]
        self.state(card, "failed")
        self.assertIn("stopped in the middle", self.text(card, "state"))
        self.shot("killed")
        self.until(lambda: self.s.get("/health").status == 200)
        self.b.execute_script("items[0].prefix = 'say at last'")
        card.find_element(By.CLASS_NAME, "again").click()
        self.state(card, "done")
        self.assertEqual(self.text(card, "caption"), "at last")

    def test_busy_server_is_tried_again(self):
        self.b.execute_script("""
            const real = window.fetch;
            let n = 0;
            window.fetch = (...a) => n++ ? real(...a) : Promise.resolve(new Response('{"error":"busy","code":"queue_full"}',
                {status: 503, headers: {"Retry-After": "1"}}));""")
        self.choose(self.file("a.png", png()))
        card = self.until(self.cards)[0]
        self.until(lambda: "busy" in self.text(card, "state"))
        self.state(card, "done")

    def test_prefix(self):
        Select(self.b.find_element(By.ID, "prefix")).select_by_visible_text("español")
        self.assertFalse(self.b.find_element(By.ID, "own").is_displayed())
        self.choose(self.file("a.png", png()))
        card = self.until(self.cards)[0]
        self.state(card, "done")
        self.assertEqual(card.find_element(By.CLASS_NAME, "caption").get_attribute("lang"), "es")
        self.assertEqual(self.b.execute_script("return items[0].prefix"), "caption es")

    def test_drop_and_paste(self):
        script = """
            const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], arguments[1], {type: "image/png"}));
            const e = arguments[1] === "drop.png" ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
                                                  : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
            document.body.dispatchEvent(e);"""
        for i, name in enumerate(("drop.png", "paste.png")):
            self.b.execute_script(script, base64.b64encode(png()).decode(), name)
            card = self.until(lambda: len(self.cards()) == i + 1 and self.cards()[0])
            self.state(card, "done")
            self.assertEqual(self.text(card, "name"), name)

    def test_history_survives_a_reload(self):
        self.ask("say remember me")
        self.choose(self.file("a.png", png()))
        self.state(self.until(self.cards)[0], "done")
        self.until(lambda: "remember me" in (self.b.execute_script("return sessionStorage.getItem('pictures')") or ""))
        self.b.refresh()
        card = self.until(self.cards)[0]
        self.assertEqual(self.text(card, "caption"), "remember me")
        self.assertTrue(card.find_element(By.TAG_NAME, "img").get_attribute("src").startswith("data:image/"))
        self.b.find_element(By.ID, "clear").click()
        self.until(lambda: not self.cards())
        self.until(lambda: self.b.execute_script("return sessionStorage.getItem('pictures')") == "[]")

    def downloaded(self, pattern):
        def there():
            return [p for p in glob.glob(os.path.join(self.folder.name, pattern)) if not p.endswith(".crdownload")]
        return self.until(there)[0]

    def test_downloads(self):
        self.ask('say a "red", apple')
        self.choose(self.file("one.png", png()))
        self.state(self.until(self.cards)[0], "done")
        self.ask("say =1+1")
        self.choose(self.file("two.b.png", png(9)), self.file("one.jpg", png(10)))
        self.until(lambda: self.b.find_element(By.ID, "summary").text == "3 captioned")
        self.b.find_element(By.ID, "csv").click()
        with open(self.downloaded("captions*.csv"), newline="", encoding="utf-8-sig") as f:
            rows = list(csv.reader(f))
        self.assertEqual(rows[0], ["name", "caption", "prefix", "logprob"])
        self.assertEqual(rows[1], ["one.png", 'a "red", apple', 'say a "red", apple', "-1.5000"])
        self.assertEqual({r[1] for r in rows[2:]}, {"'=1+1"})
        self.b.find_element(By.ID, "texts").click()
        with zipfile.ZipFile(self.downloaded("captions*.zip")) as z:
            self.assertIsNone(z.testzip())
            self.assertEqual(set(z.namelist()), {"one.txt", "two.b.txt", "one-2.txt"})
            self.assertEqual(z.read("one.txt").decode(), 'a "red", apple\n')

    def test_copy(self):
        self.b.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
        self.ask("say copied words")
        self.choose(self.file("a.png", png()))
        card = self.until(self.cards)[0]
        self.state(card, "done")
        card.find_element(By.CLASS_NAME, "copy").click()
        self.until(lambda: card.find_element(By.CLASS_NAME, "copy").text == "Copied")
        self.assertEqual(self.b.execute_async_script("navigator.clipboard.readText().then(arguments[0])"), "copied words")

    def test_keyboard(self):
        """Everything can be reached with the tab key, and has a name for a screen reader."""
        self.choose(self.file("a.png", png()))
        self.state(self.until(self.cards)[0], "done")
        self.b.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
        reached = []
        for _ in range(15):
            ActionChains(self.b).send_keys(Keys.TAB).perform()
            reached.append(self.b.execute_script("return document.activeElement.id || document.activeElement.className"))
        for want in ("file", "prefix", "csv", "texts", "clear", "copy", "remove"):
            self.assertTrue(any(want in r.split() for r in reached), (want, reached))
        nodes = self.b.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        for n in nodes:
            role = n.get("role", {}).get("value")
            if role in ("button", "combobox", "textbox", "link", "image", "img") and not n.get("ignored"):
                self.assertTrue(n.get("name", {}).get("value"), n)

    def test_remove_with_the_keyboard(self):
        self.choose(self.file("a.png", png()))
        card = self.until(self.cards)[0]
        self.state(card, "done")
        card.find_element(By.CLASS_NAME, "remove").send_keys(Keys.ENTER)
        self.until(lambda: not self.cards())
        self.assertEqual(self.b.execute_script("return document.activeElement.id"), "file")

    def test_phone(self):
        """On a narrow screen nothing is wider than it, and a photo can be taken."""
        self.b.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True})
        self.b.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        try:
            self.b.refresh()
            self.ask("say a caption of some length with averyveryverylongwordthatdoesnotendsoonenoughforaphone in it")
            self.choose(self.file("a-file-with-a-long-name-that-does-not-break-anywhere-at-all-0123456789.png", png()))
            self.state(self.until(self.cards)[0], "done")
            self.assertLessEqual(self.b.execute_script("return document.documentElement.scrollWidth"), 360)
            self.assertTrue(self.b.find_element(By.CSS_SELECTOR, "label[for=camera]").is_displayed())
            self.assertEqual(self.b.find_element(By.ID, "camera").get_attribute("capture"), "environment")
            self.shot("phone")
        finally:
            self.b.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            self.b.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})

    def contrasts(self):
        """The contrast of each visible text with what lies behind it, by WCAG's formula."""
        return self.b.execute_script(r"""
            const rgb = (c) => c.match(/[\d.]+/g).map(Number);
            const lum = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
            const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; } return [255, 255, 255]; };
            return [...document.querySelectorAll("h1, h2, p, label, button, a, span, select")].filter(e => e.checkVisibility() && e.textContent.trim() && !e.closest(".unseen, .skip"))
                .map(e => { const a = lum(rgb(getComputedStyle(e).color)), b = lum(behind(e)); return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim().slice(0, 40)]; });""")

    def test_contrast_in_light_and_dark(self):
        self.choose(self.file("notes.txt", b"hello"), self.file("a.png", png()))
        self.until(lambda: self.b.find_element(By.ID, "summary").text == "1 captioned, 1 failed")
        papers = set()
        for scheme in ("light", "dark"):
            self.b.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
            time.sleep(0.4)  # buttons fade
            papers.add(self.b.execute_script("return getComputedStyle(document.body).backgroundColor"))
            for ratio, text in self.contrasts():
                self.assertGreaterEqual(ratio, 4.5, (scheme, text))  # AA
            self.shot(scheme)
        self.b.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.assertEqual(len(papers), 2)


def text_with(b, tag, words, seconds=20):
    """The text of the element once it holds these words: a click on a link returns before the new page is there."""
    end, text = time.monotonic() + seconds, ""
    while time.monotonic() < end and words not in text:
        try:
            text = b.find_element(By.TAG_NAME, tag).text
        except WebDriverException:
            time.sleep(0.05)
    return text


class Plain(unittest.TestCase):
    def test_without_javascript(self):
        with tempfile.TemporaryDirectory() as folder, serving(fake()) as s:
            s.ready()
            path = os.path.join(folder, "apple.png")
            with open(path, "wb") as f:
                f.write(png(40))
            b = browser(folder, javascript=False)
            try:
                b.get(f"http://127.0.0.1:{s.port}/")
                self.assertFalse(b.find_element(By.CSS_SELECTOR, "label[for=camera]").is_displayed())
                b.find_element(By.ID, "file").send_keys(path)
                b.find_element(By.ID, "own").send_keys("say <an> apple")
                b.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
                self.assertEqual(b.find_element(By.CLASS_NAME, "caption").text, "<an> apple")
                self.assertEqual(b.find_element(By.CLASS_NAME, "shown").get_property("naturalWidth"), 40)
                self.assertIn("apple.png", b.find_element(By.CLASS_NAME, "facts").text)
                b.find_element(By.CLASS_NAME, "button").click()
                with open(path, "wb") as f:
                    f.write(b"hello")
                b.find_element(By.ID, "file").send_keys(path)
                b.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
                self.assertIn("neither PNG nor JPEG", text_with(b, "main", "neither PNG nor JPEG"))
                if os.environ.get("PG_SHOTS"):
                    b.save_screenshot(os.path.join(os.environ["PG_SHOTS"], "plain-error.png"))
            finally:
                b.quit()


class Whole(unittest.TestCase):
    def test_the_small_model(self):
        """The page, the server and the real pipeline."""
        with tempfile.TemporaryDirectory() as folder, serving(NANO) as s:
            picture = os.path.join(PICTURES, "png-rgb8.png")
            with open(picture, "rb") as f:
                want = s.ready().caption(f.read()).json["caption"]
            b = browser(folder)
            try:
                b.get(f"http://127.0.0.1:{s.port}/")
                b.find_element(By.ID, "file").send_keys(picture)
                end = time.monotonic() + 20
                while time.monotonic() < end and not b.find_elements(By.CSS_SELECTOR, '.card[data-state="done"]'):
                    time.sleep(0.05)
                self.assertEqual(b.find_element(By.CSS_SELECTOR, ".card .caption").text, want)
            finally:
                b.quit()


if __name__ == "__main__":
    unittest.main()
