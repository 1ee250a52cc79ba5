"""Recycling: a host is replaced after a job, never under one, and the reason is told."""

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.timing import wait_until

MIB = 1 << 20
NO_JITTER = {"jitter_percent": 0}


class RecyclingCase(ServiceCase):
    """What all reasons have in common."""

    def assert_recycled(self, pool, reason, count=1):
        """Only for that reason, and so often; told by /stats and /pools, the last one in words."""
        wait_until(lambda: self.restarts(pool).get(reason, 0) >= count, f"recycled by {reason}")
        self.assertEqual(self.restarts(pool), {reason: count})
        restarts = self.http.pool(pool)["restarts"]
        self.assertEqual((restarts["total"], restarts["by_reason"][reason]), (count, count))
        self.assertIn(reason, restarts["last"])

    def assert_only_info(self):
        """To recycle is no warning."""
        for entry in self.service.log("host_down"):
            self.assertEqual(entry["level"], "info")


class JobsTest(RecyclingCase):
    """After so many jobs."""

    config = {"pools": {"process": {"hosts": 1, "recycle": {"jobs": 3, **NO_JITTER}},
                        "thread": {"threads": 2, "recycle": {"jobs": 4, **NO_JITTER}}}}

    def test_without_jitter_it_is_exact(self):
        """Every third job is the last one of its process."""
        jobs = [self.http.run("echo", n, "process") for n in range(12)]
        pids = [job["worker"]["pid"] for job in jobs]
        self.assertEqual([pids.count(pid) for pid in pids], [3] * 12)
        self.assertEqual([job["worker"]["jobs_before"] for job in jobs], [0, 1, 2] * 4)
        self.assertEqual([job["worker"]["generation"] for job in jobs],
                         [1 + n // 3 for n in range(12)])
        self.assert_recycled("process", "jobs", 4)
        self.assert_only_info()

    def test_never_under_a_job(self):
        """The neighbours on a host of threads run to their end, on the old host."""
        sleeper = self.http.start("sleep", {"ms": 600}, "thread")["id"]
        pid = self.wait_for_state(sleeper, "running")["worker"]["pid"]
        for number in range(4):
            self.assertEqual(self.http.run("echo", number, "thread")["worker"]["pid"], pid)
        after = self.http.run("echo", "fresh", "thread")
        self.assert_succeeded(after)
        self.assertNotEqual(after["worker"]["pid"], pid)
        self.assertEqual(self.http.job(sleeper)["state"], "running")
        job = self.wait_ended(sleeper)
        self.assert_succeeded(job)
        self.assertEqual((job["attempt"], job["worker"]["pid"]), (1, pid))
        wait_until(lambda: not proc.is_running(pid), "the old host is gone")
        self.assert_recycled("thread", "jobs")

    def test_no_job_is_lost_under_load(self):
        """A batch of many jobs over hosts that are replaced all the time."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                batch = self.http.submit_batch("echo", list(range(200)), pool).json
                self.assertEqual(batch["by_state"], {"succeeded": 200})
                self.assertEqual([entry["result"] for entry in batch["results"]], list(range(200)))
        self.wait_all_workers()
        self.assertEqual({job["attempt"] for job in self.http.get("/jobs").json["jobs"]}, {1})

    def test_what_is_left_of_the_old_ones(self):
        """Nothing: as many processes and descriptors as before."""
        self.http.run("echo", 1, "thread")
        descriptors, processes = self.server_descriptors(), len(self.service.processes())
        self.http.submit_batch("echo", list(range(90)), "process")
        self.wait_all_workers()
        wait_until(lambda: len(self.service.processes()) == processes, "the processes are gone")
        wait_until(lambda: self.server_descriptors() <= descriptors, "the descriptors are closed")


class JitterTest(RecyclingCase):
    """They do not all go at once."""

    config = {"pools": {"process": {"hosts": 1, "recycle": {"jobs": 20, "jitter_percent": 50}}}}

    def test_each_host_draws_its_own_number(self):
        """Within half and one and a half times the number; not all the same."""
        pids = [self.http.run("echo", n, "process")["worker"]["pid"] for n in range(300)]
        lives = [pids.count(pid) for pid in dict.fromkeys(pids)][:-1]
        self.assertGreaterEqual(min(lives), 10)
        self.assertLessEqual(max(lives), 30)
        self.assertGreater(len(set(lives)), 1)


class AgeTest(RecyclingCase):
    """So long after its start."""

    config = {"pools": {"process": {"hosts": 1, "recycle": {"age_ms": 1500}},
                        "thread": {"threads": 2}}}

    def test_it_goes_after_the_job_that_it_has(self):
        """A job that lasts longer than its host's age ends first; the other pool stays."""
        other = self.host_pid("thread")
        job_id = self.http.start("sleep", {"ms": 2500}, "process")["id"]
        pid = self.wait_for_state(job_id, "running")["worker"]["pid"]
        job = self.wait_ended(job_id)
        self.assert_succeeded(job)
        self.assertEqual(job["worker"]["pid"], pid)
        self.wait_host_replaced("process", pid)
        self.assertEqual(list(self.restarts("process")), ["age"])
        self.assertIn("age", self.http.pool("process")["restarts"]["last"])
        self.assertEqual(self.host_pid("thread"), other)

    def test_an_idle_one_goes_too(self):
        """Without any job, and back-off does not come into it."""
        pid = self.host_pid("process")
        self.wait_host_replaced("process", pid)
        self.assertEqual(list(self.restarts("process")), ["age"])
        self.assert_succeeded(self.http.run("echo", 1, "process"))
        self.assert_only_info()


class IdleTest(RecyclingCase):
    """So long after its last job."""

    config = {"pools": {"process": {"hosts": 1, "recycle": {"idle_ms": 400}},
                        "thread": {"threads": 2, "recycle": {"idle_ms": 400}}}}

    def test_one_that_has_worked_is_replaced_once(self):
        """The fresh one, which has had no job, stays."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                pid = self.http.run("echo", 1, pool)["worker"]["pid"]
                self.wait_host_replaced(pool, pid)
                self.assert_recycled(pool, "idle")
        wait_until(lambda: self.http.stats()["uptime_ms"] > 4500, "time passes")
        for pool in ("process", "thread"):
            self.assert_recycled(pool, "idle")


class RssTest(RecyclingCase):
    """When more than so much is resident after a job."""

    config = {"pools": {"process": {"hosts": 1, "recycle": {"rss_bytes": 1 * MIB}},
                        "thread": {"threads": 2, "recycle": {"rss_bytes": 1 << 40}}}}

    def test_a_host_beyond_the_bound_goes_after_its_job(self):
        """A bound below what any process has: each serves exactly one job."""
        pids = [self.http.run("echo", n, "process")["worker"]["pid"] for n in range(4)]
        self.assertEqual(len(set(pids)), 4)
        self.assert_recycled("process", "rss", 4)

    def test_one_within_it_stays(self):
        """However much a job had in between."""
        pids = {self.http.run("allocate", {"mib": 8}, "thread")["worker"]["pid"] for _ in range(4)}
        self.assertEqual(len(pids), 1)
        self.assertEqual(self.restarts("thread"), {})
