"""The clocks and the limits of a job: what ends it, what its end says, and what may be asked for."""

import time
import unittest

from tests.harness.case import ServiceCase
from tests.harness.timing import SCALE, SANITIZER, seconds, wait_until

POOLS = ("process", "thread")
MIB = 1 << 20
LONG_MS = 60000


class QueueTtlTest(ServiceCase):
    """queue_ttl_ms: a job that waits longer than that never starts."""

    config = {"pools": {"process": {"hosts": 1}, "thread": {"threads": 2}}}

    def assert_expired(self, job, limit_ms):
        """The typed cause names the limit and the wait; the job never ran."""
        self.assert_error(job, "expired", "queue_ttl", limit_ms=limit_ms)
        self.assertGreaterEqual(job["error"]["seen_ms"], limit_ms)
        self.assertGreaterEqual(job["timing"]["queued_ms"], limit_ms)
        self.assertEqual((job["worker"], job["started_at"], job["timing"]["run_ms"],
                          job["attempt"]), (None, None, None, 0))

    def test_a_job_that_waits_too_long_expires(self):
        """On either pool; the room in the queue is free again, and the one ahead goes on."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                busy = self.fill_pool(pool)
                begin = time.monotonic()
                job_id = self.http.start("echo", 1, pool, queue_ttl_ms=150)["id"]
                self.assertEqual(self.http.job(job_id)["limits"]["queue_ttl_ms"], 150)
                self.assert_expired(self.wait_ended(job_id), 150)
                self.assertLess(time.monotonic() - begin, seconds(3))
                stats = self.http.stats()["pools"][pool]
                self.assertEqual((stats["queue"]["length"], stats["queue"]["bytes"],
                                  stats["ended"]["expired"]), (0, 0, 1))
                for job_id in busy:
                    self.assertEqual(self.http.job(job_id)["state"], "running")
                self.cancel_all(busy)

    def test_who_waits_is_answered(self):
        """A waiting client gets its expired job; a batch tells of each."""
        busy = self.fill_pool("process")
        answer = self.http.submit("echo", 1, "process", queue_ttl_ms=50)
        self.assert_status(answer, 200)
        self.assert_expired(answer.json, 50)
        batch = self.http.submit_batch("echo", [1, 2, 3], "process", queue_ttl_ms=50).json
        self.assertEqual((batch["state"], batch["by_state"]), ("failed", {"expired": 3}))
        self.cancel_all(busy)

    def test_the_clock_stops_when_the_job_starts(self):
        """A run may last longer than the wait was allowed to."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                self.assert_succeeded(self.http.run("sleep", {"ms": 400}, pool, queue_ttl_ms=100))

    def test_the_time_before_it_is_due_does_not_count(self):
        """delay_ms comes first, then the queue."""
        self.assert_succeeded(self.http.run("echo", 1, "process", delay_ms=400, queue_ttl_ms=200))

    def test_expired_jobs_can_be_listed(self):
        """As any other state."""
        busy = self.fill_pool("process")
        job = self.http.run("echo", 1, "process", queue_ttl_ms=20)
        listed = self.http.get("/jobs", state="expired").json["jobs"]
        self.assertEqual([entry["id"] for entry in listed], [job["id"]])
        self.cancel_all(busy)


class CpuLimitTest(ServiceCase):
    """limits.cpu_ms: CPU time, not wall time."""

    config = {"pools": {"process": {"hosts": 1}, "thread": {"threads": 3}}}

    def test_a_job_that_computes_too_long_is_timed_out(self):
        """The limit and the CPU time seen are told; the same host runs the next job."""
        for pool in POOLS:
            for task, args in (("spin", {"ms": LONG_MS}), ("primes", {"n": 2000000000})):
                with self.subTest(pool=pool, task=task):
                    pid = self.http.run("echo", 1, pool)["worker"]["pid"]
                    job = self.http.run(task, args, pool, limits={"cpu_ms": 150})
                    self.assert_error(job, "timed_out", "cpu_limit", limit_ms=150)
                    self.assertEqual(job["limits"]["cpu_ms"], 150)
                    self.assertGreaterEqual(job["error"]["seen_ms"], 150)
                    self.assertLess(job["error"]["seen_ms"], 150 * 4 * SCALE)
                    self.assertGreaterEqual(job["timing"]["run_ms"], 140)
                    self.assertEqual(self.http.run("echo", 1, pool)["worker"]["pid"], pid)

    def test_waiting_costs_nothing(self):
        """A sleeper outlasts its CPU limit many times over, also while its neighbours compute."""
        neighbours = [self.http.start("spin", {"ms": 900}, "thread")["id"] for _ in range(2)]
        for pool in POOLS:
            with self.subTest(pool=pool):
                job = self.http.run("sleep", {"ms": 600}, pool, limits={"cpu_ms": 100})
                self.assert_succeeded(job)
        for job_id in neighbours:
            self.assert_succeeded(self.wait_ended(job_id))

    def test_what_ran_before_does_not_count(self):
        """Each run starts at 0, though the worker has used CPU time for others."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                for _ in range(4):
                    self.assert_succeeded(self.http.run("spin", {"ms": 60}, pool,
                                                        limits={"cpu_ms": 150 * SCALE}))

    def test_the_first_limit_to_pass_is_the_cause(self):
        """timeout_ms and cpu_ms hold side by side."""
        job = self.http.run("spin", {"ms": LONG_MS}, "process", timeout_ms=LONG_MS,
                            limits={"cpu_ms": 100})
        self.assertEqual(job["error"]["code"], "cpu_limit")
        job = self.http.run("sleep", {"ms": LONG_MS}, "process", timeout_ms=100,
                            limits={"cpu_ms": LONG_MS})
        self.assert_error(job, "timed_out", "wall_limit", limit_ms=100)
        self.assertGreaterEqual(job["error"]["seen_ms"], 95)


class MemoryLimitTest(ServiceCase):
    """limits.memory_bytes: what one run may take, never a bare signal."""

    config = {"pools": {"process": {"hosts": 1}, "thread": {"threads": 3}}}

    def has_account(self, pool):
        """Whether this build accounts a thread's memory; it cannot without jemalloc."""
        memory = self.http.run("allocate", {"mib": 1}, pool)["memory"]
        return pool == "process" or memory["source"] is not None

    def test_a_job_that_takes_too_much_fails(self):
        """Limit and bytes seen are told, and the host stands: its next job is served."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                if not self.has_account(pool):
                    self.skipTest("without jemalloc no memory is accounted to a thread")
                pid = self.http.run("echo", 1, pool)["worker"]["pid"]
                job = self.http.run("allocate", {"mib": 256}, pool,
                                    limits={"memory_bytes": 32 * MIB})
                self.assert_error(job, "failed", "memory_limit", limit_bytes=32 * MIB)
                self.assertGreater(job["error"]["seen_bytes"], 32 * MIB)
                self.assertLess(job["error"]["seen_bytes"], 1024 * MIB)
                self.assertNotIn("signal", job["error"])
                self.assertEqual(job["limits"]["memory_bytes"], 32 * MIB)
                after = self.http.run("allocate", {"mib": 64}, pool)
                self.assert_succeeded(after)
                self.assertEqual(after["worker"]["pid"], pid)

    def test_a_job_within_its_limit_is_not_touched(self):
        """Run after run: what others took before does not count."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                if not self.has_account(pool):
                    self.skipTest("without jemalloc no memory is accounted to a thread")
                for _ in range(5):
                    self.assert_succeeded(self.http.run("allocate", {"mib": 16}, pool,
                                                        limits={"memory_bytes": 32 * MIB}))

    def test_the_neighbours_of_a_greedy_thread_go_on(self):
        """They have more than its limit, and it is not theirs."""
        if not self.has_account("thread"):
            self.skipTest("without jemalloc no memory is accounted to a thread")
        neighbour = self.http.start("allocate", {"mib": 64, "hold_ms": 500}, "thread")["id"]
        self.wait_for_state(neighbour, "running")
        job = self.http.run("allocate", {"mib": 128}, "thread", limits={"memory_bytes": 16 * MIB})
        self.assert_error(job, "failed", "memory_limit", limit_bytes=16 * MIB)
        self.assert_succeeded(self.wait_ended(neighbour))

    def test_what_cannot_be_enforced_is_refused(self):
        """422 that says why, on a pool of threads in a build without an allocator's account."""
        if self.has_account("thread"):
            self.skipTest("this build enforces it on threads as well")
        self.assert_problem(self.http.submit("echo", 1, "thread", limits={"memory_bytes": MIB}),
                            422, "jemalloc", "thread", field="limits.memory_bytes")

    @unittest.skipIf(SANITIZER, "a sanitizer's own memory is part of the peak")
    def test_the_document_and_the_cause_agree(self):
        """A job that succeeded has not held more than its limit, by its own metering."""
        for pool in POOLS:
            if not self.has_account(pool):
                continue
            job = self.http.run("allocate", {"mib": 20}, pool, limits={"memory_bytes": 64 * MIB})
            self.assert_succeeded(job)
            memory = job["memory"]
            held = (memory["peak_bytes"] - memory["baseline_bytes"] if pool == "process"
                    else memory["heap_peak_bytes"])
            self.assertGreaterEqual(held, 19 * MIB)
            self.assertLess(held, 64 * MIB)


class OutputLimitTest(ServiceCase):
    """limits.output_bytes: truncated, or on demand the end of the job."""

    config = {"pools": {"process": {"hosts": 1, "max_output_bytes": 100000},
                        "thread": {"threads": 2}}}
    line = "x" * 99

    def test_too_much_output_is_truncated(self):
        """The job goes on to its end; head and tail are kept, the size is told."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job = self.http.run("print", {"text": self.line, "times": 1000}, pool,
                                    limits={"output_bytes": 1000})
                self.assert_succeeded(job)
                self.assertEqual((job["stdout"]["truncated"], job["stdout"]["total_bytes"]),
                                 (True, 100000))
                self.assertLessEqual(len(job["stdout"]["text"]) + len(job["stdout"]["tail"]), 1000)
                self.assertEqual((job["limits"]["output_bytes"], job["limits"]["on_output"]),
                                 (1000, "truncate"))

    def test_on_demand_it_stops_the_job(self):
        """failed by output_limit, with limit and bytes seen; what fits is kept."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job = self.http.run("print", {"text": self.line, "times": 1000}, pool,
                                    limits={"output_bytes": 1000, "on_output": "stop"})
                self.assert_error(job, "failed", "output_limit", limit_bytes=1000)
                self.assertGreater(job["error"]["seen_bytes"], 1000)
                self.assertTrue(job["stdout"]["text"].startswith(self.line))
                self.assertEqual(job["limits"]["on_output"], "stop")

    def test_it_is_stopped_while_it_runs(self):
        """A job that goes on after its output is ended long before its own end."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                begin = time.monotonic()
                job = self.http.run("crash", {"text": "y" * 5000, "after_ms": LONG_MS}, pool,
                                    limits={"output_bytes": 1000, "on_output": "stop"})
                self.assert_error(job, "failed", "output_limit", limit_bytes=1000, seen_bytes=5000)
                self.assertLess(time.monotonic() - begin, seconds(5))
                self.assert_succeeded(self.http.run("echo", 1, pool))

    def test_exactly_the_limit_is_allowed(self):
        """Stopping is for what goes past it."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job = self.http.run("print", {"text": self.line, "times": 10}, pool,
                                    limits={"output_bytes": 1000, "on_output": "stop"})
                self.assert_succeeded(job)
                self.assertFalse(job["stdout"]["truncated"])

    def test_no_output_at_all_can_be_kept(self):
        """0 keeps nothing and says how much there was."""
        job = self.http.run("print", {"text": "abc"}, "process", limits={"output_bytes": 0})
        self.assert_succeeded(job)
        self.assertEqual((job["stdout"]["text"], job["stdout"]["total_bytes"]), ("", 4))


LIMITS_OF_POOL = {"timeout_ms": 5000, "max_timeout_ms": 10000,
                  "queue_ttl_ms": 6000, "max_queue_ttl_ms": 11000,
                  "cpu_ms": 7000, "max_cpu_ms": 12000,
                  "memory_bytes": 256 * MIB, "max_memory_bytes": 512 * MIB}
LIMITS_OF_TASK = {"timeout_ms": 1000, "max_timeout_ms": 2000,
                  "queue_ttl_ms": 1100, "max_queue_ttl_ms": 2100,
                  "cpu_ms": 1200, "max_cpu_ms": 2200,
                  "memory_bytes": 64 * MIB, "max_memory_bytes": 128 * MIB}
# Where a submission has each limit.
FIELDS = {"timeout_ms": "timeout_ms", "queue_ttl_ms": "queue_ttl_ms", "cpu_ms": "limits.cpu_ms",
          "memory_bytes": "limits.memory_bytes"}


def wish(name, value):
    """The members of a submission that ask for this limit."""
    return {"limits": {name: value}} if FIELDS[name].startswith("limits.") else {name: value}


def limits_of(job):
    """All limits that hold for a job, by name."""
    return {"timeout_ms": job["timeout_ms"],
            **{name: job["limits"][name] for name in FIELDS if name != "timeout_ms"}}


def defaults_of(limits):
    """Only the defaults of these settings."""
    return {name: limits[name] for name in FIELDS}


class DefaultsTest(ServiceCase):
    """Defaults and maxima, of the pool and of the task."""

    config = {"pools": {"process": {"hosts": 1, **LIMITS_OF_POOL, "max_output_bytes": 200000,
                                    "max_attempts": 5},
                        "free": {"hosts": 1, "threads": 1, "max_timeout_ms": 0, "timeout_ms": 0},
                        "narrow": {"hosts": 1, "threads": 1, "max_timeout_ms": 300,
                                   "timeout_ms": 200, "max_cpu_ms": 400}},
              "tasks": {"echo": LIMITS_OF_TASK}}

    def test_the_pools_defaults_hold_for_a_job_that_asks_for_nothing(self):
        """And its document shows them."""
        self.assertEqual(limits_of(self.http.run("sleep", {"ms": 0}, "process")),
                         defaults_of(LIMITS_OF_POOL))
        self.assertEqual(set(limits_of(self.http.run("sleep", {"ms": 0}, "free")).values()),
                         {None})

    def test_the_tasks_defaults_win_over_the_pools(self):
        """On every pool that allows as much."""
        for pool in ("process", "free"):
            self.assertEqual(limits_of(self.http.run("echo", 1, pool)),
                             defaults_of(LIMITS_OF_TASK))

    def test_no_job_goes_beyond_a_maximum_unasked(self):
        """A default above the maximum of the other is lowered to it."""
        job = self.http.run("echo", 1, "narrow")
        self.assertEqual((job["timeout_ms"], job["limits"]["cpu_ms"]), (300, 400))

    def test_a_wish_within_the_maximum_wins_over_both_defaults(self):
        """The maximum itself included."""
        for name in FIELDS:
            for task, args, maximum in (("echo", 1, LIMITS_OF_TASK[f"max_{name}"]),
                                        ("sleep", {"ms": 0}, LIMITS_OF_POOL[f"max_{name}"])):
                with self.subTest(limit=name, task=task):
                    job = self.http.run(task, args, "process", **wish(name, maximum))
                    self.assert_succeeded(job)
                    self.assertEqual(limits_of(job)[name], maximum)

    def test_beyond_a_maximum_it_is_refused(self):
        """422 that names the field and the maximum: the lesser one of task and pool."""
        for name, field in FIELDS.items():
            for task, args, pool, maximum in (
                    ("sleep", {"ms": 0}, "process", LIMITS_OF_POOL[f"max_{name}"]),
                    ("echo", 1, "process", LIMITS_OF_TASK[f"max_{name}"]),
                    ("echo", 1, "free", LIMITS_OF_TASK[f"max_{name}"])):
                with self.subTest(limit=name, task=task, pool=pool):
                    answer = self.http.submit(task, args, pool, **wish(name, maximum + 1))
                    self.assert_problem(answer, 422, str(maximum), field=field)
        self.assert_problem(self.http.submit("echo", 1, "narrow", timeout_ms=301), 422, "300",
                            field="timeout_ms")

    def test_a_batch_is_held_to_the_same(self):
        """The whole batch is refused; nothing of it is queued."""
        answer = self.http.submit_batch("echo", [1, 2], "process", limits={"cpu_ms": 2201})
        self.assert_problem(answer, 422, "2200", field="limits.cpu_ms")
        self.assertEqual(self.http.stats()["pools"]["process"]["submitted"], 0)

    def test_the_other_maxima(self):
        """Output and attempts."""
        self.assert_problem(self.http.submit("echo", 1, "process", limits={"output_bytes": 200001}),
                            422, "200000", field="limits.output_bytes")
        self.assert_problem(self.http.submit("echo", 1, "process", max_attempts=6), 422, "5",
                            field="max_attempts")

    def test_what_is_no_limit_is_refused_by_name(self):
        """Types, ranges, unknown members: 422 with the path."""
        for fields, field in (
                ({"limits": {"cpu_ms": 0}}, "limits.cpu_ms"),
                ({"limits": {"cpu_ms": "1"}}, "limits.cpu_ms"),
                ({"limits": {"memory_bytes": 1}}, "limits.memory_bytes"),
                ({"limits": {"output_bytes": -1}}, "limits.output_bytes"),
                ({"limits": {"on_output": "kill"}}, "limits.on_output"),
                ({"limits": {"disk_bytes": 1}}, "limits.disk_bytes"),
                ({"limits": 5}, "limits"),
                ({"queue_ttl_ms": 0}, "queue_ttl_ms"),
                ({"queue_ttl_ms": 1.5}, "queue_ttl_ms"),
                ({"delay_ms": -1}, "delay_ms"),
                ({"priority": 11}, "priority"),
                ({"priority": -11}, "priority"),
                ({"max_attempts": 0}, "max_attempts"),
                ({"retry": {"on": ["cancelled"]}}, "retry.on[0]"),
                ({"retry": {"on": "signal"}}, "retry.on"),
                ({"retry": {"backoff_ms": -1}}, "retry.backoff_ms"),
                ({"retry": {"pause_ms": 1}}, "retry.pause_ms"),
                ({"cancel_on_disconnect": 1}, "cancel_on_disconnect")):
            with self.subTest(fields=fields):
                self.assert_problem(self.http.submit("sleep", {"ms": 0}, "process", **fields),
                                    422, field=field)

    def test_the_pool_shows_its_limits(self):
        """GET /pools and GET /pools/{name}."""
        pool = self.http.get("/pools/process").json
        for name, value in LIMITS_OF_POOL.items():
            self.assertEqual((pool if name.endswith("timeout_ms") else pool["limits"])[name], value)


class RetentionTest(ServiceCase):
    """The fourth clock: ended jobs, of whatever end, are kept for a time."""

    config = {"retention": {"age_ms": 300}, "pools": {"process": {"hosts": 1}}}

    def test_ended_jobs_of_every_kind_are_forgotten(self):
        """Expired and retried ones as well."""
        busy = self.fill_pool("process")
        expired = self.http.run("echo", 1, "process", queue_ttl_ms=20)["id"]
        self.cancel_all(busy)
        failed = self.http.run("sha256", {}, "process", max_attempts=2,
                               retry={"backoff_ms": 0})["id"]
        for job_id in (expired, failed):
            wait_until(lambda job_id=job_id: self.http.get(f"/jobs/{job_id}").status == 404,
                       "the job is forgotten")
