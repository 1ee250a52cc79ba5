"""The dashboard's files, as they are served. What they do is tested in tests/web, by a browser."""

import gzip
import os
import re

from tests.harness.case import ServiceCase
from tests.harness.service import SOURCE

FILES = os.path.join(SOURCE, "src", "http", "dashboard")
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8",
         "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
POLICY = {"default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' data:",
          "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'"}


def content(name):
    """The file as it is in the source."""
    with open(os.path.join(FILES, name), "rb") as file:
        return file.read()


class DashboardFilesTest(ServiceCase):
    """Types, caching, compression, what the browser is forbidden."""

    def test_every_file_is_served_as_it_is(self):
        """All of the directory, with the type that browsers insist on."""
        names = sorted(os.listdir(FILES))
        self.assertGreaterEqual(len(names), 10)
        for name in names:
            with self.subTest(name=name):
                answer = self.http.get("/" if name == "index.html" else f"/dashboard/{name}")
                self.assert_status(answer, 200)
                self.assertEqual(answer.body, content(name))
                self.assertEqual(answer.headers["Content-Type"], TYPES[name.rsplit(".", 1)[1]])
                self.assertNotIn("Content-Encoding", answer.headers)

    def test_the_page_asks_for_nothing_else(self):
        """What the page and its scripts name is served by this service, by relative paths."""
        page = self.http.get("/").body.decode()
        named = re.findall(r'(?:src|href)="([^"#]+)"', page)
        self.assertGreaterEqual(len(named), 4)
        for path in named:
            self.assertNotRegex(path, r"^(/|[a-z]+:)")
            self.assert_status(self.http.get(f"/{path}"), 200)
        for name in os.listdir(FILES):
            for other in re.findall(r'from "\./([^"]+)"', content(name).decode()):
                self.assertIn(other, os.listdir(FILES), name)

    def test_no_script_makes_markup_of_text(self):
        """What would is not used anywhere; nor is there a script, a style or a listener within the page."""
        for name in os.listdir(FILES):
            text = content(name).decode()
            self.assertNotRegex(text, r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|DOMParser|\beval\b|new Function")
            if name.endswith(".html"):
                self.assertNotRegex(text, r"<style|\sstyle=|\son\w+=|<script(?! src=)")

    def test_nothing_but_this_service_is_allowed(self):
        """The policy, word by word, for the page and for its files."""
        for path in ("/", "/dashboard/app.js", "/dashboard/chart.js"):
            headers = self.http.get(path).headers
            policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
            self.assertEqual(policy, POLICY)
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(headers["Referrer-Policy"], "no-referrer")

    def test_a_file_that_is_known_is_not_sent_again(self):
        """304 for its ETag, in a list and weak as well; 200 for another, and for that of the compressed form."""
        tag = self.http.get("/").headers["ETag"]
        self.assertRegex(tag, r'^"[0-9a-f]{32}"$')
        for value in (tag, f'"x", W/{tag}', "*"):
            answer = self.http.request("GET", "/", headers={"If-None-Match": value})
            self.assert_status(answer, 304)
            self.assertEqual((answer.body, answer.headers["ETag"]), (b"", tag))
        self.assert_status(self.http.request("GET", "/", headers={"If-None-Match": '"x"'}), 200)
        answer = self.http.request("GET", "/", headers={"If-None-Match": tag, "Accept-Encoding": "gzip"})
        self.assert_status(answer, 200)
        self.assertNotEqual(answer.headers["ETag"], tag)
        self.assertEqual(self.http.get("/").headers["ETag"], tag)

    def test_it_is_compressed_for_those_who_take_it(self):
        """By Accept-Encoding, weights of 0 and other names included."""
        plain = self.http.get("/dashboard/chart.js")
        self.assertIn(b"Chart.js v3", plain.body[:200])
        for value in ("gzip", "br, gzip;q=0.5", "deflate,GZIP ;q=1.0"):
            answer = self.http.request("GET", "/dashboard/chart.js", headers={"Accept-Encoding": value})
            self.assertEqual(answer.headers["Content-Encoding"], "gzip", value)
            self.assertLess(len(answer.body), len(plain.body) / 2)
            self.assertEqual(gzip.decompress(answer.body), plain.body)
        for value in ("", "br", "gzip;q=0", "gzip; q=0.000, br", "x-gzip", "gzipped"):
            answer = self.http.request("GET", "/dashboard/chart.js", headers={"Accept-Encoding": value})
            self.assertNotIn("Content-Encoding", answer.headers, value)

    def test_head_and_what_is_not_there(self):
        """HEAD is GET without its body; a name out of the directory is 404."""
        head = self.http.request("HEAD", "/dashboard/app.js")
        self.assertEqual(int(head.headers["Content-Length"]), len(content("app.js")))
        self.assertEqual(head.body, b"")
        for name in ("nothing.js", "app.j", "app.jss", "../openapi.yaml", "..%2fopenapi.yaml", "index.html/x"):
            self.assert_problem(self.http.get(f"/dashboard/{name}"), 404)
        self.assert_problem(self.http.request("POST", "/", b"{}"), 405)
