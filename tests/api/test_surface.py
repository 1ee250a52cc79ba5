"""What holds for every call: ids, HEAD, OPTIONS, 404, 405, health, and the served description."""

import os
import re
import uuid

from tests.harness.case import ServiceCase
from tests.harness.service import SOURCE

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
GET_PATHS = ("/jobs", "/tasks", "/pools", "/stats", "/metrics", "/healthz", "/readyz",
             "/openapi.yaml")


def described_calls():
    """path -> set of methods, as openapi.yaml has them: two and four spaces below `paths:`."""
    calls = {}
    with open(os.path.join(SOURCE, "openapi.yaml"), encoding="utf-8") as file:
        section = re.search(r"^paths:\n((?:(?:  .*)?\n)+)", file.read(), re.MULTILINE).group(1)
    for line in section.splitlines():
        path = re.match(r"  (/[^:]*):$", line)
        method = re.match(r"    (get|post|put|delete|patch):$", line)
        if path:
            methods = calls.setdefault(path.group(1), set())
        elif method:
            methods.add(method.group(1).upper())
    return calls


def allowed(answer):
    """The methods of the Allow header."""
    return {method.strip() for method in answer.headers["Allow"].split(",")}


class SurfaceTest(ServiceCase):
    """Properties of the whole interface."""

    def test_a_request_id_is_echoed(self):
        """The request's own id comes back, in problems too."""
        for request_id in ("a", "order-4711", "A.b_c-9", "x" * 64):
            for path in ("/healthz", "/nothing"):
                with self.subTest(request_id=request_id, path=path):
                    answer = self.http.request("GET", path, headers={"X-Request-Id": request_id})
                    self.assertEqual(answer.headers["X-Request-Id"], request_id)

    def test_a_bad_request_id_is_replaced(self):
        """Nothing that could break a log or a header is echoed."""
        for request_id in ("", "x" * 65, "a b", "a\"b", "ä".encode().decode("latin-1"), "a/b"):
            with self.subTest(request_id=request_id):
                answer = self.http.request("GET", "/healthz", headers={"X-Request-Id": request_id})
                self.assertNotEqual(answer.headers["X-Request-Id"], request_id)

    def test_request_ids_differ(self):
        """Each answer has one of its own."""
        ids = {self.http.get("/healthz").headers["X-Request-Id"] for _ in range(100)}
        self.assertEqual(len(ids), 100)

    def test_head_is_get_without_the_body(self):
        """Same status and headers, the length included."""
        job_id = self.http.run("echo", 1)["id"]
        for path in ("/healthz", "/readyz", "/tasks", "/openapi.yaml", f"/jobs/{job_id}", "/jobs"):
            with self.subTest(path=path):
                got, head = self.http.get(path), self.http.request("HEAD", path)
                self.assertEqual(head.status, got.status)
                for name in ("Content-Type", "Content-Length"):
                    self.assertEqual(head.headers[name], got.headers[name])
                self.assertEqual(int(got.headers["Content-Length"]), len(got.body))

    def test_head_of_what_does_not_exist(self):
        """404, without a body."""
        for path in ("/nothing", f"/jobs/{uuid.uuid4()}"):
            with self.subTest(path=path):
                self.assert_status(self.http.request("HEAD", path), 404)

    def test_unknown_paths_are_404(self):
        """Whatever the method; nothing near a path is the path."""
        for path in ("/nothing", "/dashboard", "/dashboard/", "/dashboard/x", "/job", "/jobs/", "/jobs/x", f"/jobs/{uuid.uuid4()}",
                     f"/jobs/{uuid.uuid4()}/x", "/batches/x/y", "//jobs", "/JOBS", "/jobs%2f",
                     "/../etc/passwd", "/tasks/primes", "/stats/", "/metrics/", "/%ff", "/" + "x" * 2000):
            with self.subTest(path=path[:40]):
                self.assert_problem(self.http.get(path), 404)
        self.assert_problem(self.http.post("/nothing", {}), 404)

    def test_the_answered_calls_are_the_described_ones(self):
        """A method that openapi.yaml does not have is 405, and Allow lists what it has."""
        calls = described_calls()
        self.assertGreaterEqual(len(calls), 10)
        for path, methods in calls.items():
            real = path.replace("{id}", str(uuid.uuid4()))
            expected = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
            options = self.http.request("OPTIONS", real)
            self.assert_status(options, 204)
            self.assertEqual(allowed(options) | {"OPTIONS"}, expected, path)
            for method in METHODS:
                with self.subTest(path=path, method=method):
                    answer = self.http.request(method, real, b"" if method == "POST" else None)
                    if method in methods:
                        self.assertNotEqual(answer.status, 405)
                    else:
                        self.assert_problem(answer, 405)
                        self.assertEqual(allowed(answer) | {"OPTIONS"}, expected)

    def test_unheard_of_methods_are_405(self):
        """A method that HTTP does not know is none that a path does not know."""
        for method in ("BREW", "TRACE", "get"):
            with self.subTest(method=method):
                self.assertIn(self.http.request(method, "/jobs").status, (405, 501))

    def test_the_description_is_served_as_it_is(self):
        """GET /openapi.yaml is the file, byte by byte."""
        answer = self.http.get("/openapi.yaml")
        with open(os.path.join(SOURCE, "openapi.yaml"), "rb") as file:
            self.assertEqual(answer.body, file.read())
        self.assertEqual(answer.headers["Content-Type"], "application/yaml")

    def test_health_and_readiness(self):
        """Both say yes in a service that runs."""
        self.assertEqual(self.http.get("/healthz").json, {"status": "ok"})
        self.assertEqual(self.http.get("/readyz").json, {"status": "ready"})

    def test_a_connection_is_kept_alive(self):
        """Requests of every kind and outcome go over one connection."""
        before = self.http.stats()["server"]["connections_accepted"]
        for path in GET_PATHS + ("/nothing",):
            self.http.get(path)
        self.http.run("echo", 1)
        self.http.post("/jobs", b"{")
        self.assertEqual(self.http.stats()["server"]["connections_accepted"], before)

    def test_requests_may_be_pipelined(self):
        """Answers come in the order of the requests, though the first one takes longest."""
        with self.service.raw() as connection:
            connection.send_post("/jobs", {"task": "sleep", "args": {"ms": 150}})
            connection.send(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
                            b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            data = connection.read_to_end()
        self.assertEqual(data.count(b"HTTP/1.1 200 OK"), 3, data)
        self.assertLess(data.index(b"slept_ms"), data.index(b'"ok"'))
