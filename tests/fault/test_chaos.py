"""Thousands of jobs while hosts are killed at random, pools resized, the configuration reloaded.

TWINPOOL_CHAOS_JOBS sets how many; one kill -9 of a host comes on every twenty of them. Each job ends
in exactly one state, and none runs twice unless its retries allow it. The witness for that is not the
service's word alone: the jobs count their runs in memory that outlives every host.
"""

import collections
import os
import random
import signal
import threading
import time

from tests.harness.case import ServiceCase
from tests.harness.documents import ENDED_STATES
from tests.harness.timing import SANITIZER, SCALE, wait_until

JOBS = int(os.environ.get("TWINPOOL_CHAOS_JOBS", "1000" if SANITIZER else "10000"))
JOBS_PER_KILL = 20
SUBMITTERS = 8
BATCH = 25
INCREMENTS = 200  # of a counting job, each run
POOLS = ("process", "thread")
SIZES = {"process": (4, (2, 3, 5, 6)), "thread": (2, (1, 3, 4))}  # the file's, and what PATCH makes of it
MAX_CRASHES = 2
DEADLINE_S = 240


class _Worker(threading.Thread):
    """Repeats step() until it is told to stop or step() answers False; a failure is kept."""

    def __init__(self, client, seed, stop):
        super().__init__(daemon=True)
        self.client = client
        self.random = random.Random(seed)
        self.stop = stop
        self.failure = None

    def run(self):
        try:
            while not self.stop.is_set() and self.step() is not False:
                pass
        except Exception as wrong:  # noqa: BLE001 - handed to the test, which fails with it
            self.failure = wrong
            self.stop.set()

    def step(self):
        """One piece of work."""
        raise NotImplementedError


class _Submitter(_Worker):
    """Runs batch after batch and keeps what it was told of each job."""

    def __init__(self, client, seed, stop, jobs):
        super().__init__(client, seed, stop)
        self.left = jobs
        self.told = {}  # batch -> the states of its jobs

    def step(self):
        """One batch of one task, with a pool, a priority and retries of its own."""
        count = min(BATCH, self.left)
        choose = self.random.choice
        if self.random.random() < 0.6:
            task, args = "counter", [{"increments": INCREMENTS, "memory": "shared"}] * count
        else:
            task, args = "sleep", [{"ms": choose((0, 2, 5, 9))} for _ in range(count)]
        fields = {"priority": choose((-2, 0, 0, 3)), "timeout_ms": 120000}
        if self.random.random() < 0.5:
            fields |= {"max_attempts": 4, "retry": {"backoff_ms": 20, "backoff_max_ms": 100}}
        if self.random.random() < 0.1:
            fields["delay_ms"] = choose((1, 20))
        answer = self.client.submit_batch(task, args, choose(POOLS), wait=60, **fields)
        if answer.status != 200:
            raise AssertionError(f"the batch did not end: {answer!r}")
        states = [entry["state"] for entry in answer.json["results"]]
        if len(states) != count or not set(states) <= set(ENDED_STATES):
            raise AssertionError(f"told wrongly: {answer!r}")
        self.told[answer.json["id"]] = states
        self.left -= count
        return self.left > 0


class _Killer(_Worker):
    """Keeps up with the jobs that have ended: one kill of a random host for so many of them."""

    def __init__(self, client, seed, stop, service):
        super().__init__(client, seed, stop)
        self.service = service
        self.kills = 0

    def step(self):
        pools = self.client.stats()["pools"]
        ended = sum(sum(pool["ended"].values()) for pool in pools.values())
        hosts = {worker["pid"] for pool in pools.values() for worker in pool["worker_list"]
                 if worker["pid"] is not None}
        due = min(ended // JOBS_PER_KILL - self.kills, len(hosts))
        for pid in self.random.sample(sorted(hosts), max(due, 0)):
            self.kill(pid)
        self.stop.wait(0.005)

    def kill(self, pid):
        """SIGKILL, if it is still ours."""
        try:
            if self.service.owns(pid):
                os.kill(pid, signal.SIGKILL)
                self.kills += 1
        except ProcessLookupError:
            pass


class _Resizer(_Worker):
    """Changes the sizes of the pools, and pauses one for a moment now and then."""

    def step(self):
        pool = self.random.choice(POOLS)
        changes = {"hosts": self.random.choice(SIZES[pool][1])}
        if self.random.random() < 0.1:
            changes["paused"] = True
        if self.client.patch_pool(pool, **changes).status != 200:
            raise AssertionError(f"{pool} could not be changed: {changes}")
        self.stop.wait(0.05)
        self.client.patch_pool(pool, paused=False)


class _Canceller(_Worker):
    """Cancels a few jobs, waiting or running ones."""

    def __init__(self, client, seed, stop):
        super().__init__(client, seed, stop)
        self.cancelled = 0

    def step(self):
        state = self.random.choice(("queued", "running", "scheduled"))
        jobs = self.client.get("/jobs", state=state, limit=20).json["jobs"]
        for job in self.random.sample(jobs, min(2, len(jobs))):
            self.cancelled += self.client.delete(f"/jobs/{job['id']}").status != 409
        self.stop.wait(0.1)


class ChaosTest(ServiceCase):
    """All at once."""

    config = {"log": {"level": "error"}, "retention": {"jobs": 2 * JOBS + 1000},
              "pools": {pool: {"hosts": SIZES[pool][0], "restart_backoff_ms": 1,
                               "restart_backoff_max_ms": 20, "max_crashes": MAX_CRASHES}
                        for pool in POOLS}}

    def setUp(self):
        super().setUp()
        self.extra = 0  # jobs of our own
        for pool in POOLS:  # the counter's lock is there before anybody can die over its making
            self.count_runs(pool)
        self.processes = len(self.service.processes())
        self.descriptors = self.server_descriptors()

    def count_runs(self, pool):
        """What the counting jobs of this pool have added up to."""
        self.extra += 1
        return self.http.run("counter", {"increments": 0, "memory": "shared"}, pool)[
            "result"]["value"]

    def cause_havoc(self):
        """Runs everything to its end; answers the submitters, the killer and the canceller."""
        stop, end = threading.Event(), threading.Event()
        share = [JOBS // SUBMITTERS + (index < JOBS % SUBMITTERS) for index in range(SUBMITTERS)]
        submitters = [_Submitter(self.service.client(timeout=90), seed, stop, jobs)
                      for seed, jobs in enumerate(share)]
        killer = _Killer(self.service.client(), 100, end, self.service)
        canceller = _Canceller(self.service.client(), 101, end)
        others = [killer, canceller, _Resizer(self.service.client(), 102, end)]
        for thread in submitters + others:
            thread.start()
        self.reload_in_the_middle(submitters)
        for thread in submitters:
            thread.join(DEADLINE_S * SCALE)
        end.set()
        for thread in others:
            thread.join(30 * SCALE)
        for thread in submitters + others:
            self.assertFalse(thread.is_alive(), "it still waits")
            thread.client.close()
            if thread.failure:
                raise thread.failure
        return submitters, killer, canceller

    def reload_in_the_middle(self, submitters):
        """SIGHUP when half of the jobs have ended, or when somebody has failed."""
        wait_until(lambda: sum(thread.left for thread in submitters) < JOBS / 2
                   or any(thread.failure for thread in submitters), "half of the jobs have ended",
                   DEADLINE_S)
        self.service.signal(signal.SIGHUP)

    def settle(self):
        """Waits until the pools are as they were and nothing is under way."""
        self.http.close()
        for pool in POOLS:
            answer = self.http.patch_pool(pool, hosts=SIZES[pool][0], paused=False)
            self.assert_status(answer, 200)
        self.wait_all_workers(30)
        wait_until(lambda: self.http.stats()["jobs"]["live"] == 0, "all jobs have ended")
        wait_until(lambda: len(self.service.processes()) == self.processes,
                   "there are as many processes as before", 30)
        self.wait_all_workers(30)
        wait_until(lambda: self.server_descriptors() <= self.descriptors,
                   "the server's descriptors are back at the baseline")

    def list_all(self):
        """Every job, by its id."""
        jobs, query = {}, {"limit": 1000}
        while True:
            page = self.http.get("/jobs", **query).json
            for job in page["jobs"]:
                self.assertNotIn(job["id"], jobs)
                jobs[job["id"]] = job
            if page["next_cursor"] is None:
                return jobs
            query["cursor"] = page["next_cursor"]

    def test_each_job_ends_once_and_none_runs_more_often_than_it_may(self):
        """And at the end everything is back where it was."""
        begin = time.monotonic()
        submitters, killer, canceller = self.cause_havoc()
        took = time.monotonic() - begin
        self.settle()
        told = {batch: states for thread in submitters for batch, states in thread.told.items()}
        runs = {pool: self.count_runs(pool) for pool in POOLS}
        jobs = self.list_all()
        self.assertEqual(len(jobs), JOBS + self.extra)
        self.assert_told_truly(told, jobs)
        mine = [job for job in jobs.values() if job["batch"]]
        for job in mine:
            self.assert_sound(job)
        for pool in POOLS:
            with self.subTest(pool=pool):
                self.assert_counted(pool, jobs)
                self.assert_runs(pool, mine, runs[pool])
        self.assertGreaterEqual(killer.kills, JOBS // JOBS_PER_KILL - 20)
        states = collections.Counter(job["state"] for job in mine)
        if JOBS >= 1000:
            self.assertGreater(states["succeeded"], JOBS / 2)
            self.assertGreater(states["crashed"], 0, "nobody was hit")
            self.assertGreater(sum(len(job["previous_attempts"]) for job in jobs.values()), 0)
        print(f"{JOBS} jobs in {took:.1f} s, {killer.kills} kills, "
              f"{canceller.cancelled} cancels: {dict(states)}")

    def assert_told_truly(self, told, jobs):
        """What who waited was told is what is on record, now and when asked once more."""
        recorded = collections.defaultdict(list)
        for job in reversed(jobs.values()):  # as they were submitted
            if job["batch"]:
                recorded[job["batch"]].append(job["state"])
        self.assertEqual(told, recorded)
        for job_id, job in random.Random(1).sample(sorted(jobs.items()), min(len(jobs), 300)):
            self.assertEqual(self.http.job(job_id), job)

    def assert_sound(self, job):
        """One end, of a kind that it may have; no more attempts and crashes than are allowed."""
        self.assertIn(job["state"], ("succeeded", "crashed", "cancelled"))
        attempts = job["previous_attempts"]
        self.assertLessEqual(job["attempt"], job["max_attempts"], job)
        self.assertLessEqual(len(attempts), job["max_attempts"] - 1, job)
        crashes = sum(entry["state"] == "crashed" for entry in attempts + [job])
        self.assertLessEqual(crashes, MAX_CRASHES, job)
        for entry in attempts:
            self.assertEqual(entry["state"], "crashed", job)
        if job["state"] == "succeeded":
            self.assertEqual(job["attempt"], len(attempts) + 1, job)
            self.assertIsNotNone(job["result"], job)

    def assert_counted(self, pool, jobs):
        """The service's own account agrees with the list of its jobs."""
        stats = self.http.stats()["pools"][pool]
        mine = [job for job in jobs.values() if job["pool"] == pool]
        states = collections.Counter(job["state"] for job in mine)
        self.assertEqual(stats["submitted"], len(mine))
        self.assertEqual(stats["ended"], {state: states[state] for state in ENDED_STATES})
        self.assertEqual(stats["retries"], sum(len(job["previous_attempts"]) for job in mine))
        self.assertEqual((stats["queue"]["length"], stats["queue"]["bytes"], stats["scheduled"],
                          stats["workers"]["busy"], stats["hosts"]),
                         (0, 0, 0, 0, SIZES[pool][0]))

    def assert_runs(self, pool, jobs, increments):
        """The memory that outlived all hosts: each success has run, and nothing ran unrecorded."""
        counting = [job for job in jobs if job["pool"] == pool and job["task"] == "counter"]
        succeeded = sum(job["state"] == "succeeded" for job in counting)
        begun = sum(job["attempt"] for job in counting)
        self.assertGreaterEqual(increments, succeeded * INCREMENTS)
        self.assertLessEqual(increments, begun * INCREMENTS)
