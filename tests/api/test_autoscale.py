"""Autoscale: a pool grows when jobs wait and shrinks when hosts are idle, within its bounds."""

from tests.harness.case import ServiceCase
from tests.harness.timing import wait_until

LONG_MS = 60000


class AutoscaleCase(ServiceCase):
    """Pools that grow quickly and shrink soon."""

    config = {"pools": {"process": {"hosts": 1, "max_hosts": 3, "grow_after_ms": 50,
                                    "shrink_after_ms": 300},
                        "thread": {"hosts": 1, "max_hosts": 2, "threads": 2, "grow_after_ms": 50,
                                   "shrink_after_ms": 300}}}

    def sizes(self, pool):
        """How many hosts are wanted, at least, at most."""
        entry = self.http.pool(pool)
        return entry["hosts"], entry["min_hosts"], entry["max_hosts"]

    def wait_size(self, pool, hosts):
        """Waits until the pool wants so many hosts and has them, all up."""
        def look():
            entry = self.http.pool(pool)
            if entry["hosts"] > entry["max_hosts"] or entry["hosts"] < entry["min_hosts"]:
                raise AssertionError(f"beyond its bounds: {entry}")
            return entry["hosts"] == hosts and entry["workers_down"] == 0
        wait_until(look, f"pool {pool} has {hosts} hosts", 20)

    def start_sleepers(self, pool, count, ms=LONG_MS):
        """So many sleeping jobs; answers their ids."""
        return [self.http.start("sleep", {"ms": ms}, pool)["id"] for _ in range(count)]


class GrowthTest(AutoscaleCase):
    """Up under load, and down again."""

    def test_it_grows_to_its_maximum_and_shrinks_to_its_minimum(self):
        """Every job that a host of the maximum can take runs; the rest goes on waiting."""
        for pool, most, threads in (("process", 3, 1), ("thread", 2, 2)):
            with self.subTest(pool=pool):
                self.assertEqual(self.sizes(pool), (1, 1, most))
                jobs = self.start_sleepers(pool, most * threads + 3)
                self.wait_size(pool, most)
                for job_id in jobs[:most * threads]:
                    self.wait_for_state(job_id, "running")
                self.assertEqual(self.http.pool(pool)["queue_length"], 3)
                self.assertEqual(self.http.stats()["pools"][pool]["workers"]["total"],
                                 most * threads)
                self.cancel_all(list(reversed(jobs)))
                self.wait_size(pool, 1)
                wait_until(lambda pool=pool: len(self.http.pool(pool)["worker_list"])
                           == self.http.pool(pool)["workers"], "the surplus hosts are gone")
                self.assertEqual(self.restarts(pool), {"resized": most - 1})
                self.assert_succeeded(self.http.run("echo", 1, pool))

    def test_it_does_not_grow_without_need(self):
        """Jobs one after another need one host."""
        for number in range(200):
            self.http.run("echo", number, "process")
        self.assertEqual(self.sizes("process")[0], 1)
        resized = [entry for entry in self.service.log("pool_resized")
                   if entry["pool"] == "process" and entry["from"] > 0]
        self.assertEqual(resized, [])

    def test_no_job_is_lost_on_the_way_down(self):
        """Bursts with pauses between: every job succeeds at its first attempt."""
        for _ in range(2):
            batch = self.http.submit_batch("sleep", [{"ms": 20}] * 60, "process").json
            self.assertEqual(batch["by_state"], {"succeeded": 60})
            self.wait_size("process", 1)
        self.assertEqual({job["attempt"] for job in self.http.get("/jobs").json["jobs"]}, {1})

    def test_busy_hosts_are_not_taken_down(self):
        """Shrinking takes idle ones; the long jobs go on, wherever they run."""
        short = self.start_sleepers("process", 2, 400)
        long = self.start_sleepers("process", 1, 1500)
        for job_id in short + long:
            self.assert_succeeded(self.wait_ended(job_id))
        self.wait_size("process", 1)

    def test_a_paused_pool_does_not_grow(self):
        """More hosts would not help."""
        self.assert_status(self.http.patch_pool("process", paused=True), 200)
        jobs = self.start_sleepers("process", 5, 10)
        wait_until(lambda: self.http.job(jobs[0])["timing"]["queued_ms"] > 300, "they wait")
        self.assertEqual(self.sizes("process")[0], 1)
        self.assert_status(self.http.patch_pool("process", paused=False), 200)
        for job_id in jobs:
            self.assert_succeeded(self.wait_ended(job_id))

    def test_the_bounds_can_be_changed(self):
        """PATCH of max_hosts lets it grow further, or not at all."""
        jobs = self.start_sleepers("process", 8)
        self.wait_size("process", 3)
        self.assert_status(self.http.patch_pool("process", max_hosts=5), 200)
        self.wait_size("process", 5)
        self.cancel_all(jobs)
        self.assert_status(self.http.patch_pool("process", hosts=2, max_hosts=2), 200)
        self.wait_size("process", 2)
        jobs = self.start_sleepers("process", 4)
        wait_until(lambda: self.http.job(jobs[3])["timing"]["queued_ms"] > 300, "they wait")
        self.assertEqual(self.sizes("process")[0], 2)
        self.cancel_all(jobs)


class SpareTest(AutoscaleCase):
    """Hosts that are kept idle for the next job."""

    config = {"pools": {"process": {"hosts": 1, "max_hosts": 4, "spare_hosts": 2,
                                    "grow_after_ms": 3600000, "shrink_after_ms": 300}}}

    def test_so_many_are_idle_as_long_as_the_maximum_allows(self):
        """Without any wait in the queue; when the load goes, the spare ones stay."""
        self.wait_size("process", 2)
        jobs = []
        for hosts in (3, 4, 4, 4):
            jobs += self.start_sleepers("process", 1)
            self.wait_for_state(jobs[-1], "running")
            self.wait_size("process", hosts)
        self.cancel_all(jobs)
        self.wait_size("process", 2)
        self.assertEqual(self.http.pool("process")["workers_idle"], 2)
