"""timeout_ms: a job that runs longer is stopped, and its end says why."""

from tests.harness.case import ServiceCase
from tests.harness.timing import SCALE

CASES = (("sleep", {"ms": 60000}), ("primes", {"n": 2000000000}), ("fib", {"n": 60}),
         ("allocate", {"mib": 1, "hold_ms": 60000}))


class TimeoutTest(ServiceCase):
    """The wall clock limit, on both pools."""

    config = {"pools": {"process": {"hosts": 1, "timeout_ms": 300, "max_timeout_ms": 30000},
                        "thread": {"threads": 2}}}

    def assert_timed_out(self, job, limit_ms):
        """The typed cause names the limit; the job ended soon after it."""
        self.assertEqual((job["state"], job["error"]["code"], job["error"]["limit_ms"]),
                         ("timed_out", "wall_limit", limit_ms), job)
        self.assertGreaterEqual(job["timing"]["run_ms"], limit_ms * 0.95)
        self.assertLess(job["timing"]["run_ms"], limit_ms + 1000 * SCALE)
        self.assertIsNone(job["result"])

    def test_a_job_beyond_its_time_is_timed_out(self):
        """Whether it sleeps or computes; the worker goes on afterwards with the same process."""
        for pool in ("process", "thread"):
            for task, args in CASES:
                with self.subTest(pool=pool, task=task):
                    before = self.http.run("echo", 1, pool)["worker"]["pid"]
                    job = self.http.run(task, args, pool, timeout_ms=200)
                    self.assert_timed_out(job, 200)
                    self.assertEqual(job["timeout_ms"], 200)
                    after = self.http.run("echo", 1, pool)
                    self.assert_succeeded(after)
                    self.assertEqual(after["worker"]["pid"], before)

    def test_the_pools_timeout_holds_for_jobs_that_ask_for_none(self):
        """And the job's document shows it."""
        job = self.http.run("sleep", {"ms": 60000}, "process")
        self.assert_timed_out(job, 300)
        self.assertEqual(job["timeout_ms"], 300)

    def test_a_job_within_its_time_is_not_touched(self):
        """A limit well above the run changes nothing."""
        self.assert_succeeded(self.http.run("sleep", {"ms": 50}, "thread", timeout_ms=20000))

    def test_a_longer_time_than_the_maximum_is_refused(self):
        """422 that names the maximum; the maximum itself is allowed."""
        self.assert_problem(self.http.submit("echo", 1, "process", timeout_ms=30001), 422, "30000",
                            field="timeout_ms")
        self.assert_succeeded(self.http.run("echo", 1, "process", timeout_ms=30000))

    def test_time_in_the_queue_does_not_count(self):
        """The clock of timeout_ms starts with the run."""
        ahead = self.http.start("sleep", {"ms": 500}, "process", timeout_ms=20000)["id"]
        self.wait_for_state(ahead, "running")
        self.assert_succeeded(self.http.run("sleep", {"ms": 10}, "process", timeout_ms=250))

    def test_the_neighbours_of_a_timed_out_thread_go_on(self):
        """The stop is for one job, not for its host."""
        neighbour = self.http.start("sleep", {"ms": 600}, "thread")["id"]
        self.wait_for_state(neighbour, "running")
        self.assert_timed_out(self.http.run("primes", {"n": 2000000000}, "thread", timeout_ms=100),
                              100)
        self.assert_succeeded(self.wait_ended(neighbour))

    def test_output_before_the_end_is_kept(self):
        """Partial output of a stopped job is in its document."""
        job = self.http.run("crash", {"text": "so far", "after_ms": 60000}, "thread",
                            timeout_ms=100)
        self.assert_timed_out(job, 100)
        self.assertEqual(job["stdout"]["text"], "so far")
