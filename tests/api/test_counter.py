"""The difference between processes and threads, shown by a counter."""

from tests.harness.case import ServiceCase

JOBS = 4
ROUNDS = 9
FIRST_INCREMENTS = 2000000


class CounterTest(ServiceCase):
    """Races without a lock, exactness with it, privacy of processes."""

    config = {"pools": {"process": {"hosts": 2}, "thread": {"threads": JOBS}}}

    def count(self, pool, increments, **args):
        """Resets the counter, runs JOBS counting jobs at once, answers the final value."""
        self.http.run("counter", {"increments": 0, "reset": True, **args}, pool)
        batch = self.http.submit_batch("counter", [{"increments": increments, **args}] * JOBS,
                                       pool).json
        self.assertEqual(batch["by_state"], {"succeeded": JOBS}, batch)
        return self.http.run("counter", {"increments": 0, **args}, pool)["result"]["value"]

    def test_threads_without_a_lock_lose_increments(self):
        """A race is a matter of chance, so it gets some rounds to show, each longer than the last."""
        for doubled in range(ROUNDS):
            increments = FIRST_INCREMENTS << doubled
            value = self.count("thread", increments, lock=False)
            self.assertLessEqual(value, JOBS * increments)
            if value < JOBS * increments:
                return
        self.fail(f"no increment was lost in {ROUNDS} rounds")

    def test_threads_with_a_lock_lose_none(self):
        """The same work under the lock is exact."""
        self.assertEqual(self.count("thread", 100000, lock=True), JOBS * 100000)

    def test_processes_that_share_memory_lose_none_with_a_lock(self):
        """One counter and one lock across the pool's processes."""
        self.assertEqual(self.count("process", 100000, lock=True, memory="shared"), JOBS * 100000)

    def test_processes_that_share_memory_lose_increments_without_a_lock(self):
        """The race is in the shared memory, not in being a thread."""
        for doubled in range(ROUNDS):
            increments = FIRST_INCREMENTS << doubled
            if self.count("process", increments, lock=False, memory="shared") < JOBS * increments:
                return
        self.fail(f"no increment was lost in {ROUNDS} rounds")

    def test_processes_have_memory_of_their_own(self):
        """Each host counts for itself: its value is what its own jobs added, no more."""
        batch = self.http.submit_batch("counter", [{"increments": 1000}] * 40, "process").json
        by_pid = {}
        for entry in batch["results"]:
            worker = self.http.job(entry["job"])["worker"]
            by_pid.setdefault(worker["pid"], []).append(entry["result"])
        for pid, results in by_pid.items():
            with self.subTest(pid=pid):
                values = sorted(result["value"] for result in results)
                self.assertEqual(values, [1000 * n for n in range(1, len(results) + 1)])
        self.assertEqual(sum(map(len, by_pid.values())), 40)

    def test_pools_do_not_share(self):
        """The shared counter of one pool is not that of another."""
        self.http.run("counter", {"increments": 7, "memory": "shared"}, "process")
        job = self.http.run("counter", {"increments": 1, "memory": "shared"}, "thread")
        self.assertEqual(job["result"], {"before": 0, "value": 1, "increments": 1})
