"""The dashboard in a real chromium: what its users do and see, with eyes, by keyboard, by screen reader.

With TWINPOOL_SCREENSHOTS naming a directory, the pictures that are taken are left there.
"""

import json
import os
import struct
import unittest

from tests.api.test_tokens import TokenCase
from tests.harness.browser import Browser
from tests.harness.case import ServiceCase
from tests.harness.timing import wait_until

HOSTILE = """<img src=x onerror="window.hurt=1"><script>window.hurt=2</script>"'&lt;</pre>\u202e"""
CONTROLS = {"button", "link", "textbox", "spinbutton", "combobox", "checkbox", "radio", "searchbox",
            "progressbar", "image", "img", "figure", "region", "navigation", "DisclosureTriangle"}
LANDMARKS = {"banner", "main", "navigation", "contentinfo"}
NARROW = 360


class Pages:
    """For a ServiceCase: one browser for all tests; each has pages of its own, which must not complain."""

    browser = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if Pages.browser is None:
            Pages.browser = Browser()
            unittest.addModuleCleanup(Pages.browser.close)

    def setUp(self):
        super().setUp()
        self.pages = []

    def open(self, path="", ready="document.querySelector('main h1')", **options):
        """A page of the dashboard, once what `ready` says is there."""
        page = self.browser.page(f"http://127.0.0.1:{self.service.port}/{path}", **options)
        self.pages.append(page)
        page.wait(ready)
        return page

    def tearDown(self):
        for page in self.pages:
            self.assertIsNone(page.run("window.hurt ?? null"), "text of a job was run")
            self.assertEqual(page.refused(), [])
            self.assertEqual(page.complaints, [])
            page.close()
        super().tearDown()

    def forgive(self, page, text):
        """Takes back one complaint that was to come."""
        wait_until(lambda: page.run("true") and any(text in one for one in page.complaints), f"a complaint of {text}")
        page.complaints.remove(next(one for one in page.complaints if text in one))

    def picture(self, page, name):
        """Takes a picture, which must be as wide as the page and not of one colour."""
        directory = os.environ.get("TWINPOOL_SCREENSHOTS") or self.directory
        path = os.path.join(directory, f"{name}.png")
        page.screenshot(path)
        with open(path, "rb") as file:
            data = file.read()
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(struct.unpack(">I", data[16:20])[0], page.run("innerWidth"))
        self.assertGreater(len(data), 8000)

    # --- fields by their labels

    @staticmethod
    def selector(page, label):
        """A selector of the input of this label, as a user finds it."""
        found = page.run(f"""[...document.querySelectorAll("main label")].find((one) => one.offsetParent
            && one.innerText.replace(/ \\(required\\)$/, "") === {json.dumps(label)})?.htmlFor""")
        if not found:
            raise AssertionError(f"there is no field {label}; {page.text()}")
        return f"#{found}"

    def fill_by_label(self, page, label, text):
        """Types into the field of this label."""
        page.fill(self.selector(page, label), text)

    def choose_by_label(self, page, label, value):
        """Chooses in the field of this label."""
        page.choose(self.selector(page, label), value)

    def value_by_label(self, page, label):
        """What is in the field of this label."""
        return page.run(f"document.querySelector({json.dumps(self.selector(page, label))}).value")


class DashboardTest(Pages, ServiceCase):
    """What the dashboard shows and does."""

    config = {"tasks": {"read": {"root": os.path.dirname(__file__)}}}

    # --- jobs

    def test_a_job_is_submitted_watched_repeated_and_cancelled(self):
        """By the form that the task's schema makes; with progress and output while it runs."""
        page = self.open("#/submit", "document.querySelector('main select')")
        page.choose("main select", "print")
        self.fill_by_label(page, "text", HOSTILE)
        self.fill_by_label(page, "times", "2000")
        page.click("button[type=submit]")
        page.wait("document.activeElement.getAttribute('aria-invalid') === 'true'", "the field at fault has the focus")
        self.assertIn("1000", page.run("document.activeElement.closest('.field').innerText"))
        self.forgive(page, "422 (Unprocessable")
        self.fill_by_label(page, "times", "1000")
        self.fill_by_label(page, "interval_ms", "20")
        self.choose_by_label(page, "Pool", "thread")
        page.click("button[type=submit]")
        page.wait("location.hash.startsWith('#/jobs/')")
        first = page.run("location.hash.slice(7)")
        begun = page.wait("document.querySelector('progress')?.value")
        page.wait(f"document.querySelector('progress').value > {begun}", "the progress goes on")
        self.assertEqual(page.run("document.querySelector('progress').max"), 1000)
        page.wait(f"document.querySelector('pre').textContent.split({json.dumps(HOSTILE)}).length > 3", "its output")
        self.assertEqual(page.text(".head-line .state"), "running")

        page.click(".actions a.button")
        page.wait("document.querySelector('main form')")
        self.assertEqual(self.value_by_label(page, "text"), HOSTILE)
        self.assertEqual(self.value_by_label(page, "times"), "1000")
        self.fill_by_label(page, "times", "2")
        page.click("button[type=submit]")
        page.wait("document.querySelector('.head-line .state')?.innerText === 'succeeded'")
        second = page.run("location.hash.slice(7)")
        self.assertNotEqual(first, second)
        job = self.http.job(second)
        self.assertEqual(job["pool"], "thread")
        self.assertEqual(page.run("JSON.parse([...document.querySelectorAll('main pre')][0].textContent)"), job["result"])
        phases = page.run("[...document.querySelectorAll('.waterfall tbody tr')].map((row) => row.cells[0].innerText)")
        self.assertEqual([name for name in phases if "CPU" not in name],
                         ["Queued", "Dispatch", "Run", "Collect", "Total"])

        page.run(f"location.hash = '#/jobs/{first}'")
        page.wait("document.querySelector('.head-line .state')?.innerText === 'running'")
        page.click(".actions button")
        page.wait("document.querySelector('.head-line .state').innerText === 'cancelled'")
        self.assertEqual(self.http.job(first)["state"], "cancelled")

    def test_text_of_jobs_is_text(self):
        """Markup in arguments, results, errors, labels and output is shown as it is, and does nothing."""
        result = {"key " + HOSTILE: [HOSTILE]}
        jobs = [self.http.run("echo", result, labels={"note": HOSTILE}),
                self.http.run("print", {"text": HOSTILE}),
                self.http.run("read", {"path": HOSTILE})]
        page = self.open("#/jobs", "document.querySelectorAll('tbody tr').length === 3")
        self.assertIn(HOSTILE, page.run("document.querySelector('main').textContent"))
        for job in jobs:
            with self.subTest(task=job["task"]):
                shown = self.open(f"#/jobs/{job['id']}", "document.querySelector('main .facts')")
                wanted = HOSTILE if job["state"] == "succeeded" else job["error"]["message"]
                text = shown.run("document.querySelector('main').textContent").replace('\\"', '"')
                self.assertIn(wanted.split("\u202e", maxsplit=1)[0][:40], text)
                self.assertEqual(shown.run("document.querySelectorAll('main img, main script').length"), 0)
        sent = self.open(f"#/submit?from={jobs[0]['id']}", "document.querySelector('main form')")
        self.assertEqual(sent.run("document.querySelector('.pair input + input').value"), HOSTILE)

    def test_the_list_is_filtered_and_paged(self):
        """By state, pool and task, in the address as well; 50 to a page."""
        for _ in range(51):
            self.http.run("echo", 1)
        failed = self.http.run("read", {"path": "nothing"}, "thread")
        page = self.open("#/jobs", "document.querySelectorAll('tbody tr').length === 50")
        first = page.run("document.querySelector('tbody a').hash")
        self.assertEqual(first, f"#/jobs/{failed['id']}")
        page.run("[...document.querySelectorAll('button')].find((one) => one.innerText === 'Older').click()")
        page.wait("document.querySelectorAll('tbody tr').length === 2", "the older page")
        self.choose_by_label(page, "State", "failed")
        page.wait("document.querySelectorAll('tbody tr').length === 1", "the one that failed")
        self.assertEqual(page.run("document.querySelector('tbody a').hash"), first)
        self.assertIn("task error", page.text("tbody"))
        self.choose_by_label(page, "Pool", "process")
        page.wait("document.querySelector('.empty') && !document.querySelector('.empty').hidden")
        self.assertEqual(page.run("location.hash"), "#/jobs?state=failed&pool=process")

    # --- the overview

    def test_workers_are_drawn_as_they_are(self):
        """Busy with what, for how long, by whom; a fresh host is seen; the focus stays where it is."""
        jobs = self.fill_pool("thread")
        page = self.open("", "document.querySelectorAll('.worker[data-state=busy]').length === 4")
        self.assertEqual(page.run("document.querySelectorAll('.worker[data-state=idle]').length"), 2)
        links = page.run("[...document.querySelectorAll('.worker a')].map((one) => one.hash)")
        self.assertEqual(sorted(links), sorted(f"#/jobs/{job}" for job in jobs))
        page.run("document.querySelector('.worker a').focus()")
        took = page.text(".worker[data-state=busy] .took")
        page.wait(f"document.querySelector('.worker[data-state=busy] .took').innerText !== {json.dumps(took)}", "it goes on")
        self.assertIn(page.run("document.activeElement.hash"), links)
        self.http.run("crash", {}, "process")
        page.wait("document.querySelector('.host[data-fresh]')", "the host that took over")
        page.wait("document.querySelectorAll('canvas').length === 4")
        self.assertTrue(page.run("""[...document.querySelectorAll('canvas')].every((canvas) =>
            canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0))"""))
        self.cancel_all(jobs)
        page.wait("document.querySelectorAll('.worker[data-state=busy]').length === 0", "all are idle again")

    def test_it_says_when_the_service_is_gone(self):
        """And goes on by itself when it is there again."""
        page = self.open("", "document.querySelector('.worker')")
        self.stop_service()
        page.wait("document.getElementById('connection').innerText === 'No connection'")
        self.assertIn("cannot be reached", page.text("[role=alert]"))
        page.complaints.clear()

    def test_it_rests_while_it_is_hidden(self):
        """Nothing is asked while another page is in front, as long as a job of one and a half seconds takes."""
        page = self.open("", "document.querySelector('.worker')")
        other = self.open("#/nothing")
        page.wait("document.hidden")
        before = wait_until(self.stats_when_idle, "no request but our own")
        self.http.run("sleep", {"ms": 1500}, "process")
        self.assertEqual(self.http.stats()["server"]["requests"], before + 2)
        other.close()
        self.pages.remove(other)
        page.bring_to_front()
        page.wait("document.querySelector('.tallies dd').innerText === '1'", "the job is counted")

    def stats_when_idle(self):
        """How many requests there were, if none but this and the one before it came within a tenth of a second."""
        first = self.http.stats()["server"]["requests"]
        self.http.run("sleep", {"ms": 100}, "thread")
        second = self.http.stats()["server"]["requests"]
        return second if second == first + 2 else None

    # --- for everybody

    def test_it_goes_by_keyboard(self):
        """The first Tab leads to the way past the navigation; a page that was gone to has the focus."""
        page = self.open("", "document.querySelector('.worker')")
        page.press("Tab", 9)
        self.assertEqual(page.run("document.activeElement.innerText"), "Skip to the content")
        page.press("Enter", 13, "\r")
        self.assertEqual(page.run("document.activeElement.id"), "main")
        page.run("document.querySelector('nav a[href=\"#/jobs\"]').focus()")
        page.press("Enter", 13, "\r")
        page.wait("document.activeElement.tagName === 'H1' && document.activeElement.innerText === 'Jobs'")
        self.assertEqual(page.run("document.querySelector('[aria-current]').innerText"), "Jobs")

    def test_light_and_dark(self):
        """The theme follows the system, unless one is chosen, which holds for later pages, too."""
        page = self.open("", "document.querySelector('.worker')")
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.run(background)
        self.picture(page, "overview-light")
        page.prefer(prefers_color_scheme="dark")
        dark = page.run(background)
        self.assertNotEqual(light, dark)
        self.picture(page, "overview-dark")
        page.choose("#theme", "light")
        self.assertEqual(page.run(background), light)
        page.choose("#theme", "dark")
        self.assertEqual(self.open().run(background), dark)

    def test_every_page_is_for_everybody(self):
        """In the accessibility tree: names of all controls, landmarks, one heading of the first level. Nothing is wider
        than a narrow screen. No style comes with the markup."""
        job = self.http.run("echo", 1, labels={"a": "b"})
        pages = (("", ".worker"), ("#/submit", "main form"), ("#/jobs", "tbody tr"), (f"#/jobs/{job['id']}", ".waterfall"),
                 ("#/comparisons", "main form"), ("#/experiments", ".experiment"), ("#/nothing", "main a"))
        for number, (path, shown) in enumerate(pages):
            with self.subTest(path=path):
                page = self.open(path, f"document.querySelector('{shown}')", width=NARROW, height=740)
                tree = page.tree()
                self.assertEqual([entry for entry in tree if entry[0] in CONTROLS and not entry[1].strip()], [])
                self.assertLessEqual(LANDMARKS, {role for role, _ in tree})
                self.assertEqual(page.run("document.querySelectorAll('h1').length"), 1)
                self.assertRegex(page.run("document.title"), ". · twinpool$")
                self.assertLessEqual(page.run("document.documentElement.scrollWidth"), NARROW)
                self.picture(page, f"narrow-{number}")

    # --- comparisons

    def test_a_comparison_is_run_and_its_verdict_read(self):
        """By the form; with progress, plots, all figures, and an address that opens it again."""
        page = self.open("#/comparisons", "document.querySelector('main form')")
        self.fill_by_label(page, "n", "100000")
        for label, value in (("Jobs", "8"), ("At once", "2"), ("Warm-up jobs", "1"), ("Rounds", "2")):
            self.fill_by_label(page, label, value)
        page.click("button[type=submit]")
        page.wait("location.hash.startsWith('#/comparisons/')")
        verdict = page.wait("document.getElementById('verdict')?.innerText", deadline=60)
        document = self.http.get(f"/comparisons/{page.run('location.hash.slice(14)')}").json
        self.assertEqual((document["state"], document["verdict"]["text"]), ("succeeded", verdict))
        self.assertEqual(page.run("document.querySelectorAll('main canvas').length"), 4)
        self.assertIn("100000", page.text())
        again = self.open(page.run("location.hash"), "document.getElementById('verdict')")
        self.assertEqual(again.text("#verdict"), verdict)
        self.picture(again, "comparison")

    def test_an_experiment_runs_by_one_click(self):
        """Its claim, whether it holds here, and its numbers are there when it is over."""
        page = self.open("#/experiments", "document.querySelectorAll('.experiment').length > 4")
        page.click("button[aria-label='Run Crash containment']")
        page.wait("document.querySelector('.outcome a')", "the outcome", deadline=60)
        self.assertRegex(page.text(".experiment:has(.outcome a)"), "(?s)A crash takes.*borne out: .*crash")
        self.assertGreater(page.run("document.querySelectorAll('.outcome dd').length"), 1)


class TokenTest(Pages, TokenCase):
    """A service that wants tokens."""

    def give_token(self, page, name):
        """Answers the question for a token."""
        page.wait("document.querySelector('dialog[open]')")
        page.fill("#token", self.tokens.get(name, name))
        page.press("Enter", 13, "\r")

    def forgive_refusals(self, page):
        """The browser says of each refusal that there was one."""
        self.forgive(page, "401 (Unauthorized)")
        page.complaints = [one for one in page.complaints if "401 (" not in one and "403 (" not in one]

    def test_a_token_is_asked_for_once(self):
        """For this tab; declined, it can be given later; a wrong one is asked for again; one that may not do something
        is told so."""
        page = self.open("", "document.querySelector('dialog[open]')")
        self.assertEqual(page.run("document.querySelectorAll('dialog').length"), 1)
        page.run("document.querySelector('dialog button[type=button]').click()")
        page.wait("document.querySelector('#connection button')")
        page.click("#connection button")
        self.give_token(page, "wrong")
        page.wait("document.querySelector('dialog[open]')?.innerText.includes('is not known')")
        self.give_token(page, "reader")
        page.wait("document.querySelector('.worker')")
        self.assertEqual(page.text("#connection"), "Connected")
        page.run("location.hash = '#/submit'")
        page.wait("document.querySelector('main form')")
        self.fill_by_label(page, "n", "1")
        page.click("button[type=submit]")
        page.wait("document.querySelector('.problem:not([hidden])')")
        self.assertIn('lacks the scope "submit"', page.text(".problem:not([hidden])"))
        self.assertEqual(page.run("[sessionStorage.length, document.querySelectorAll('dialog').length, document.cookie]"),
                         [1, 0, ""])
        self.forgive_refusals(page)

    def test_events_come_with_a_token(self):
        """Progress of a job that runs is seen, though EventSource could not bring a token."""
        job = self.http.start("print", {"times": 1000, "interval_ms": 20}, "thread")
        page = self.open(f"#/jobs/{job['id']}", "document.querySelector('dialog[open]')")
        self.give_token(page, "all")
        begun = page.wait("document.querySelector('progress')?.value")
        page.wait(f"document.querySelector('progress').value > {begun}", "the progress goes on")
        page.wait("document.querySelector('pre').textContent.includes('Sample Thread')", "its output")
        self.cancel_all([job["id"]])
        page.wait("document.querySelector('.head-line .state').innerText === 'cancelled'")
        self.forgive_refusals(page)
