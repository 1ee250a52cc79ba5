"""How long a request waits for its job: by default, by ?wait=, by Prefer, or not at all."""

import time

from tests.harness.case import ServiceCase
from tests.harness.timing import seconds

LONG_MS = 20000


class WaitTest(ServiceCase):
    """POST /jobs and GET /jobs/{id} wait as the request says."""

    config = {"server": {"default_wait_ms": 10000, "max_wait_ms": 15000}}

    def test_waits_for_the_end_by_default(self):
        """A job that ends within the default wait is answered with 200 and its result."""
        answer = self.http.submit("sleep", {"ms": 100})
        self.assert_status(answer, 200)
        self.assert_succeeded(answer.json)
        self.assertGreaterEqual(answer.json["result"]["slept_ms"], 100)

    def test_wait_0_answers_at_once_and_tells_where_the_job_is(self):
        """202 with Location, and the job can be waited for there."""
        answer = self.http.submit("sleep", {"ms": 300}, wait=0)
        self.assert_status(answer, 202)
        self.assertIn(answer.json["state"], ("queued", "running"))
        self.assertEqual(answer.headers["Location"], f"/jobs/{answer.json['id']}")
        ended = self.http.get(answer.headers["Location"], wait=10)
        self.assert_status(ended, 200)
        self.assert_succeeded(ended.json)

    def test_a_wait_that_runs_out_is_202(self):
        """The answer comes when the wait is over, not when the job is."""
        begin = time.monotonic()
        answer = self.http.submit("sleep", {"ms": LONG_MS}, wait=0.2)
        waited = time.monotonic() - begin
        self.assert_status(answer, 202)
        self.assertEqual(answer.json["state"], "running")
        self.assertEqual(answer.headers["Location"], f"/jobs/{answer.json['id']}")
        self.assertGreaterEqual(waited, 0.2)
        self.assertLess(waited, seconds(5))
        self.cancel_all([answer.json["id"]])

    def test_a_get_whose_wait_runs_out_is_200_with_the_job_as_it_stands(self):
        """GET never answers 202: the job document is what was asked for."""
        job = self.http.start("sleep", {"ms": LONG_MS})
        begin = time.monotonic()
        answer = self.http.get(f"/jobs/{job['id']}", wait=0.2)
        self.assert_status(answer, 200)
        self.assertGreaterEqual(time.monotonic() - begin, 0.2)
        self.assertEqual(answer.json["state"], "running")
        self.cancel_all([job["id"]])

    def test_get_without_wait_answers_at_once(self):
        """A plain GET shows the running job, whose times so far are known."""
        job = self.http.start("sleep", {"ms": LONG_MS})
        running = self.wait_for_state(job["id"], "running")
        self.assertIsNone(running["result"])
        self.assertIsNone(running["finished_at"])
        self.assertIsNotNone(running["worker"])
        self.assertIsNone(running["memory"])
        self.cancel_all([job["id"]])

    def test_prefer_sets_the_wait_and_is_acknowledged(self):
        """Prefer: wait=N (RFC 7240) is honoured and Preference-Applied says so."""
        body = {"task": "sleep", "args": {"ms": LONG_MS}}
        begin = time.monotonic()
        answer = self.http.post("/jobs", body, headers={"Prefer": "wait=1"})
        waited = time.monotonic() - begin
        self.assert_status(answer, 202)
        self.assertEqual(answer.headers["Preference-Applied"], "wait=1")
        self.assertGreaterEqual(waited, 1)
        self.assertLess(waited, seconds(6))
        self.cancel_all([answer.json["id"]])

    def test_wait_wins_over_prefer(self):
        """With both, the query parameter holds."""
        body = {"task": "sleep", "args": {"ms": LONG_MS}}
        begin = time.monotonic()
        answer = self.http.post("/jobs", body, headers={"Prefer": "wait=10"}, wait=0)
        self.assert_status(answer, 202)
        self.assertLess(time.monotonic() - begin, seconds(5))
        self.cancel_all([answer.json["id"]])

    def test_a_bad_wait_is_refused(self):
        """A wait that is no number of seconds is 422 about ?wait."""
        for wait in ("x", "-1", "", "1e", "nan", "inf", "0x10", "1s"):
            with self.subTest(wait=wait):
                answer = self.http.submit("echo", wait=wait)
                self.assert_problem(answer, 422, field="?wait")
        self.assertEqual(self.http.get("/jobs").json["jobs"], [])

    def test_many_may_wait_for_one_job(self):
        """Each waiter gets the same ended job."""
        job = self.http.start("sleep", {"ms": 300})
        path = f"/jobs/{job['id']}?wait=10"
        connections = [self.service.raw() for _ in range(5)]
        for connection in connections:
            connection.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        for connection in connections:
            with connection:
                self.assert_succeeded(connection.read_answer().json)


class DefaultWaitTest(ServiceCase):
    """The waits that the configuration sets."""

    config = {"server": {"default_wait_ms": 100, "max_wait_ms": 300}}

    def test_the_default_wait_is_the_configured_one(self):
        """Without a word about waiting, server.default_wait_ms holds."""
        begin = time.monotonic()
        answer = self.http.submit("sleep", {"ms": LONG_MS})
        waited = time.monotonic() - begin
        self.assert_status(answer, 202)
        self.assertGreaterEqual(waited, 0.1)
        self.assertLess(waited, seconds(5))
        self.cancel_all_soon(answer.json["id"])

    def test_no_wait_is_longer_than_the_longest(self):
        """A longer wait is cut to server.max_wait_ms."""
        begin = time.monotonic()
        answer = self.http.submit("sleep", {"ms": LONG_MS}, wait=60)
        waited = time.monotonic() - begin
        self.assert_status(answer, 202)
        self.assertGreaterEqual(waited, 0.3)
        self.assertLess(waited, seconds(5))
        self.cancel_all_soon(answer.json["id"])

    def cancel_all_soon(self, job_id):
        """Cancels; one wait may be too short here for the end to be seen, so look repeatedly."""
        self.http.delete(f"/jobs/{job_id}")
        self.wait_for_state(job_id, "cancelled")
