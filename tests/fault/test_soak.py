"""A mixed load with a crash every second; at its end everything is back where it began.

TWINPOOL_SOAK_SECONDS sets its length.
"""

import collections
import os
import random
import threading
import time

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.documents import ENDED_STATES
from tests.harness.timing import SCALE, wait_until

SECONDS = float(os.environ.get("TWINPOOL_SOAK_SECONDS", "20"))
CLIENTS = 6
KEPT = 2000
POOLS = ("process", "thread")
RSS_SLACK_BYTES = (6 << 20) * SCALE


def quick_job(choice):
    """A short job, and the states that it may end in when hosts die around it."""
    return choice((
        ("echo", {"text": "x" * choice((1, 100, 50000))}, ("succeeded", "crashed")),
        ("primes", {"n": choice((100, 10000, 300000))}, ("succeeded", "crashed")),
        ("sha256", {"text": "soak"}, ("succeeded", "crashed")),
        ("sha256", {}, ("failed", "crashed")),
        ("print", {"times": choice((1, 1000))}, ("succeeded", "crashed")),
        ("allocate", {"mib": 2}, ("succeeded", "crashed")),
        ("counter", {"increments": 1000, "memory": "shared"}, ("succeeded", "crashed")),
        ("sleep", {"ms": choice((0, 1, 20))}, ("succeeded", "crashed")),
    ))


class _Load(threading.Thread):
    """One client with a seed of its own. Keeps what it has seen; an exception ends it and is kept."""

    def __init__(self, client, seed, end):
        super().__init__(daemon=True)
        self._client = client
        self._random = random.Random(seed)
        self._end = end
        self.submitted = collections.Counter()
        self.ended = collections.Counter()
        self.failure = None

    def run(self):
        try:
            while time.monotonic() < self._end:
                self.step()
        except Exception as wrong:  # noqa: BLE001 - handed to the test, which fails with it
            self.failure = wrong

    def step(self):
        """One piece of work."""
        pool = self._random.choice(POOLS)
        kind = self._random.random()
        if kind < 0.1:
            self.cancel_one(pool)
        elif kind < 0.15:
            self.time_one_out(pool)
        elif kind < 0.2:
            self.run_batch(pool)
        else:
            task, args, states = quick_job(self._random.choice)
            self.account(pool, self._client.run(task, args, pool), states)

    def account(self, pool, job, states):
        """Counts a job that was submitted and has been seen ended."""
        if job["state"] not in states:
            raise AssertionError(f"expected {states}: {job}")
        self.submitted[pool] += 1
        self.ended[pool, job["state"]] += 1

    def cancel_one(self, pool):
        """Starts a long job, cancels it, waits for its end."""
        job_id = self._client.start("sleep", {"ms": 60000}, pool)["id"]
        self._client.delete(f"/jobs/{job_id}")
        self.account(pool, self._client.job(job_id, wait=30), ("cancelled", "crashed"))

    def time_one_out(self, pool):
        """A job that runs into its limit."""
        job = self._client.run("primes", {"n": 2000000000}, pool, timeout_ms=20)
        self.account(pool, job, ("timed_out", "crashed"))

    def run_batch(self, pool):
        """A batch; each entry is accounted for."""
        batch = self._client.submit_batch("echo", list(range(10)), pool).json
        for entry in batch["results"]:
            self.account(pool, entry, ("succeeded", "crashed"))


class _Crashes(_Load):
    """A crash every second, on the pools in turn."""

    def __init__(self, client, seed, end):
        super().__init__(client, seed, end)
        self._count = 0

    def step(self):
        pool = POOLS[self._count % len(POOLS)]
        self._count += 1
        signal_name = self._random.choice(("SEGV", "ABRT", "KILL"))
        job = self._client.run("crash", {"signal": signal_name, "text": "x", "after_ms": 900}, pool)
        self.account(pool, job, ("crashed",))


class SoakTest(ServiceCase):
    """Rough use for a while."""

    config = {"retention": {"jobs": KEPT}, "log": {"level": "error"},
              "pools": {"process": {"restart_backoff_ms": 10, "restart_backoff_max_ms": 50},
                        "thread": {"restart_backoff_ms": 10, "restart_backoff_max_ms": 50}}}

    def load(self, duration):
        """Runs the load for so many seconds; answers what its clients saw."""
        end = time.monotonic() + duration
        clients = [self.service.client() for _ in range(CLIENTS + 1)]
        threads = [_Load(client, seed, end) for seed, client in enumerate(clients[1:])]
        threads.append(_Crashes(clients[0], CLIENTS, end))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(duration + 60 * SCALE)
        for client in clients:
            client.close()
        for thread in threads:
            self.assertFalse(thread.is_alive(), "a client still waits")
            if thread.failure:
                raise thread.failure
        return threads

    def settle(self):
        """Waits until nothing runs and nobody is connected but us."""
        self.http.close()  # it opens again by itself; it may have been idle for too long
        self.wait_all_workers()
        wait_until(lambda: self.http.stats()["jobs"]["live"] == 0, "all jobs have ended")
        wait_until(lambda: self.http.stats()["server"]["connections"] == 1,
                   "the load's connections are gone")

    def test_all_is_back_at_the_baseline(self):
        """Descriptors, processes, memory; and every job is accounted for exactly once."""
        descriptors, processes = self.server_descriptors(), len(self.service.processes())
        warm_up = self.load(max(3.0, SECONDS / 4))
        self.settle()
        rss_before = proc.rss_bytes(self.service.server_pid)
        threads = self.load(SECONDS)
        self.settle()
        wait_until(lambda: self.server_descriptors() <= descriptors,
                   "the server's descriptors are back at the baseline")
        self.assertEqual(len(self.service.processes()), processes)
        self.assertLess(proc.rss_bytes(self.service.server_pid) - rss_before, RSS_SLACK_BYTES)
        self.assert_accounted(warm_up + threads)

    def assert_accounted(self, threads):
        """What the clients saw is what the service counted: once each, under the same end."""
        stats = self.http.stats()
        for pool in POOLS:
            with self.subTest(pool=pool):
                counted = stats["pools"][pool]
                self.assertEqual(counted["submitted"],
                                 sum(thread.submitted[pool] for thread in threads))
                self.assertEqual(counted["ended"],
                                 {state: sum(thread.ended[pool, state] for thread in threads)
                                  for state in ENDED_STATES})
        total = sum(sum(thread.ended.values()) for thread in threads)
        self.assertEqual(stats["jobs"]["kept"] + stats["jobs"]["forgotten"], total)
        # The newest batch stays beside what the retention covers.
        self.assertLessEqual(stats["jobs"]["kept"], KEPT + 10)
