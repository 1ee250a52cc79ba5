"""DELETE /jobs/{id}: queued jobs end at once, running ones when they have really stopped."""

import time

from tests.harness.case import ServiceCase
from tests.harness.timing import seconds, wait_until

POOLS = ("process", "thread")


class CancelTest(ServiceCase):
    """Cancelling, on both pools."""

    config = {"pools": {"process": {"hosts": 1}, "thread": {"threads": 2}}}

    def assert_cancelled(self, job):
        """The ended job says that it was cancelled, and has no result."""
        self.assertEqual(job["state"], "cancelled", job)
        self.assertEqual(job["error"]["code"], "cancelled")
        self.assertTrue(job["error"]["message"])
        self.assertIsNone(job["result"])
        self.assertIsNotNone(job["finished_at"])

    def test_a_queued_job_is_cancelled_at_once(self):
        """200 with the ended job; it never ran."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                busy = self.fill_pool(pool)
                job_id = self.http.start("echo", 1, pool)["id"]
                answer = self.http.delete(f"/jobs/{job_id}")
                self.assert_status(answer, 200)
                self.assert_cancelled(answer.json)
                self.assertIsNone(answer.json["worker"])
                self.assertIsNone(answer.json["memory"])
                self.assertIsNone(answer.json["timing"]["run_ms"])
                self.assertIsNone(answer.json["started_at"])
                self.cancel_all(busy)

    def test_a_running_job_is_stopping_and_then_cancelled(self):
        """202 while it stops; ended soon after, long before it would have by itself."""
        for pool in POOLS:
            for task, args in (("sleep", {"ms": 60000}), ("primes", {"n": 2000000000}),
                               ("fib", {"n": 60})):
                with self.subTest(pool=pool, task=task):
                    job_id = self.http.start(task, args, pool)["id"]
                    self.wait_for_state(job_id, "running")
                    begin = time.monotonic()
                    answer = self.http.delete(f"/jobs/{job_id}")
                    self.assert_status(answer, 202)
                    self.assertEqual(answer.json["state"], "stopping")
                    self.assert_cancelled(self.wait_ended(job_id))
                    self.assertLess(time.monotonic() - begin, seconds(1.5))
                    self.assert_succeeded(self.http.run("echo", 1, pool))

    def test_a_cancelled_job_keeps_its_host(self):
        """A task that stops when asked costs no process: pid and generation stay."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                before = self.http.run("echo", 1, pool)["worker"]
                self.cancel_all([self.http.start("sleep", {"ms": 60000}, pool)["id"]])
                after = self.http.run("echo", 1, pool)["worker"]
                self.assertEqual((after["pid"], after["generation"]),
                                 (before["pid"], before["generation"]))

    def test_an_ended_job_cannot_be_cancelled(self):
        """409 that names the state; the job stays as it is."""
        job = self.http.run("echo", 1)
        self.assert_problem(self.http.delete(f"/jobs/{job['id']}"), 409, "succeeded")
        self.assertEqual(self.http.job(job["id"]), job)

    def test_cancelling_twice_is_harmless(self):
        """The second DELETE answers 202 or 409; there is one end."""
        job_id = self.http.start("sleep", {"ms": 60000})["id"]
        self.wait_for_state(job_id, "running")
        self.assert_status(self.http.delete(f"/jobs/{job_id}"), 202)
        self.assertIn(self.http.delete(f"/jobs/{job_id}").status, (202, 409))
        self.assert_cancelled(self.wait_ended(job_id))

    def test_who_waits_for_a_cancelled_job_is_answered(self):
        """The waiting POST gets 200 with the cancelled job."""
        body = {"task": "sleep", "args": {"ms": 60000}, "labels": {"who": "waiter"}}
        with self.service.raw() as waiter:
            waiter.send_post("/jobs", body)
            job_id = self.wait_for_only_running_job()
            self.http.delete(f"/jobs/{job_id}")
            answer = waiter.read_answer()
        self.assertEqual(answer.status, 200)
        self.assert_cancelled(answer.json)
        self.assertEqual(answer.json["labels"], {"who": "waiter"})

    def wait_for_only_running_job(self):
        """The id of the one job that runs, once it does."""
        jobs = wait_until(lambda: self.http.get("/jobs", state="running").json["jobs"],
                          "the job runs")
        self.assertEqual(len(jobs), 1)
        return jobs[0]["id"]

    def test_cancelling_what_does_not_exist_is_404(self):
        """Also for an id that is none."""
        for job_id in ("00000000-0000-7000-8000-000000000000", "x", "%00"):
            with self.subTest(job_id=job_id):
                self.assert_problem(self.http.delete(f"/jobs/{job_id}"), 404)
