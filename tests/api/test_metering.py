"""The numbers of a job are true: each is held against an independent measure."""

import unittest

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.documents import ENDED_STATES
from tests.harness.timing import SANITIZER, SCALE, wait_until

MIB = 1 << 20
PRIMES_N = 20000000
BURN_MS = 300
HEAP_REASON = "a sanitizer's allocator stands where jemalloc would"
RSS_REASON = "a sanitizer's shadow memory counts as resident"


class MeteringCase(ServiceCase):
    """Pools in which jobs that follow each other meet the same worker."""

    config = {"pools": {"process": {"hosts": 1}, "thread": {"threads": 2}}}

    def setUp(self):
        super().setUp()
        # The second worker of the thread pool sleeps, so the first one gets all jobs.
        self.neighbour = self.http.start("sleep", {"ms": 3600000}, "thread", timeout_ms=3600000)
        self.wait_for_state(self.neighbour["id"], "running")

    def tearDown(self):
        if not self.judged:
            self.cancel_all([self.neighbour["id"]])
        super().tearDown()

    def run_well(self, task, args, pool):
        """Runs a job that must succeed."""
        job = self.http.run(task, args, pool)
        self.assert_succeeded(job)
        return job


class MemoryTest(MeteringCase):
    """Peaks belong to the job that had them."""

    def growth(self, job):
        """By how much the worker's peak was above what it held before, in MiB."""
        return (job["memory"]["peak_bytes"] - job["memory"]["baseline_bytes"]) / MIB

    @unittest.skipIf(SANITIZER, RSS_REASON)
    def test_64_mib_are_64_mib_on_a_process(self):
        """By the kernel's high-water mark of the worker's process."""
        job = self.run_well("allocate", {"mib": 64}, "process")
        self.assertEqual((job["memory"]["source"], job["memory"]["scope"]), ("vm_hwm", "process"))
        self.assertGreaterEqual(self.growth(job), 63.75)
        self.assertLessEqual(self.growth(job), 72)
        self.assertGreater(job["memory"]["minor_faults"], 0)

    @unittest.skipIf(SANITIZER, HEAP_REASON)
    def test_64_mib_are_64_mib_on_a_thread(self):
        """By the allocator's account of the worker's thread."""
        job = self.run_well("allocate", {"mib": 64}, "thread")
        memory = job["memory"]
        self.assertEqual((memory["source"], memory["scope"], memory["baseline_bytes"]),
                         ("jemalloc_peak", "thread", 0))
        self.assertEqual(memory["peak_bytes"], memory["heap_peak_bytes"])
        self.assertGreaterEqual(memory["heap_peak_bytes"], 64 * MIB)
        self.assertLessEqual(memory["heap_peak_bytes"], 68 * MIB)

    @unittest.skipIf(SANITIZER, HEAP_REASON)
    def test_the_heap_peak_is_known_on_a_process_too(self):
        """Both accounts agree about the same 64 MiB."""
        job = self.run_well("allocate", {"mib": 64}, "process")
        self.assertGreaterEqual(job["memory"]["heap_peak_bytes"], 64 * MIB)
        self.assertLessEqual(job["memory"]["heap_peak_bytes"], 68 * MIB)

    @unittest.skipIf(SANITIZER, RSS_REASON)
    def test_a_small_job_does_not_show_the_large_one_before_it(self):
        """On the same worker: pid and tid are checked to be the same."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                large = self.run_well("allocate", {"mib": 64}, pool)
                small = self.run_well("echo", 1, pool)
                again = self.run_well("allocate", {"mib": 8}, pool)
                for job in (small, again):
                    self.assertEqual((job["worker"]["pid"], job["worker"]["tid"]),
                                     (large["worker"]["pid"], large["worker"]["tid"]))
                self.assertLess(self.growth(small), 2)
                self.assertLess(small["memory"]["heap_peak_bytes"], 2 * MIB)
                self.assertGreaterEqual(self.growth(again), 7.75)
                self.assertLess(self.growth(again), 12)

    @unittest.skipIf(SANITIZER, RSS_REASON)
    def test_the_peak_is_what_the_kernel_shows_from_outside(self):
        """While a job holds 64 MiB, /proc/PID/status read by us agrees with what it then reports."""
        job_id = self.http.start("allocate", {"mib": 64, "hold_ms": 60000}, "process")["id"]
        pid = self.wait_for_state(job_id, "running")["worker"]["pid"]
        wait_until(lambda: proc.rss_bytes(pid) > 64 * MIB, "the memory is touched")
        self.http.delete(f"/jobs/{job_id}")
        self.wait_ended(job_id)
        job_id = self.http.start("allocate", {"mib": 64, "hold_ms": 400}, "process")["id"]
        seen = []

        def ended():
            seen.append(proc.rss_bytes(pid))
            return self.http.job(job_id)["state"] in ENDED_STATES
        wait_until(ended, "the job has ended")
        job = self.http.job(job_id)
        self.assert_succeeded(job)
        self.assertEqual(job["worker"]["pid"], pid)
        self.assertAlmostEqual(job["memory"]["peak_bytes"], max(seen), delta=MIB)

    def test_the_host_rss_is_named_as_the_hosts(self):
        """host_rss_bytes agrees with the kernel on both pools."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                job = self.run_well("echo", 1, pool)
                self.assertAlmostEqual(job["memory"]["host_rss_bytes"],
                                       proc.rss_bytes(job["worker"]["pid"]), delta=4 * MIB)


class TimeTest(MeteringCase):
    """CPU, wall time and who ran it."""

    def burn(self, pool):
        """Burns CPU for BURN_MS or more on the pool's worker.

        Answers the job and the CPU time in ms that the scheduler saw its thread use meanwhile.
        """
        worker = self.run_well("echo", 1, pool)["worker"]
        n = PRIMES_N
        while True:
            before = proc.thread_cpu_ns(worker["pid"], worker["tid"])
            job = self.run_well("primes", {"n": n}, pool)
            spent_ms = (proc.thread_cpu_ns(worker["pid"], worker["tid"]) - before) / 1e6
            self.assertEqual(job["worker"]["tid"], worker["tid"])
            if spent_ms >= BURN_MS:
                return job, spent_ms
            n = min(n * 3, 2000000000)

    def test_cpu_time_is_what_the_scheduler_saw(self):
        """Within 20 % of /proc/PID/task/TID/schedstat over a run of 0.3 s or more."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                job, spent_ms = self.burn(pool)
                cpu_ms = job["timing"]["cpu_user_ms"] + job["timing"]["cpu_system_ms"]
                self.assertAlmostEqual(cpu_ms, spent_ms, delta=0.2 * spent_ms)
                self.assertLessEqual(cpu_ms, job["timing"]["run_ms"] * 1.02 + 5)

    def test_a_sleeper_uses_almost_no_cpu(self):
        """200 ms asleep: run_ms says 200, the CPU time next to nothing."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                timing = self.run_well("sleep", {"ms": 200}, pool)["timing"]
                self.assertGreaterEqual(timing["run_ms"], 200)
                self.assertLess(timing["run_ms"], 200 + 300 * SCALE)
                self.assertLess(timing["cpu_user_ms"] + timing["cpu_system_ms"], 20 * SCALE)

    def test_a_sleeper_switches_and_a_burner_is_switched(self):
        """Sleeping gives the CPU away of one's own will."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                switches = self.run_well("sleep", {"ms": 50}, pool)["switches"]
                self.assertGreaterEqual(switches["voluntary"], 1)
                self.assertGreaterEqual(switches["involuntary"], 0)

    def test_the_time_in_the_queue_is_told(self):
        """A job behind a sleeper of 200 ms was queued for about that long."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                ahead = self.http.start("sleep", {"ms": 200}, pool)["id"]
                self.wait_for_state(ahead, "running")
                timing = self.run_well("echo", 1, pool)["timing"]
                waited = timing["queued_ms"] + timing["dispatch_ms"]
                self.assertGreaterEqual(waited, 100)
                self.assertLess(waited, 200 + 300 * SCALE)

    def test_the_worker_is_the_one_that_ran_it(self):
        """A process worker is its process; a thread worker is a live thread of its host."""
        job = self.run_well("echo", 1, "process")["worker"]
        self.assertEqual(job["tid"], job["pid"])
        job = self.run_well("echo", 1, "thread")["worker"]
        self.assertIn(job["tid"], proc.threads(job["pid"]))
        neighbour = self.http.job(self.neighbour["id"])["worker"]
        self.assertEqual(neighbour["pid"], job["pid"])
        self.assertNotEqual(neighbour["tid"], job["tid"])

    def test_jobs_before_counts_on(self):
        """Each job of a worker finds one more before it."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                first = self.run_well("echo", 1, pool)["worker"]
                second = self.run_well("echo", 1, pool)["worker"]
                self.assertEqual(second["jobs_before"], first["jobs_before"] + 1)
