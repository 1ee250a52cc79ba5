"""A worker that leaks 10 MiB a job is replaced before its bound is passed by more than one job."""

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.timing import SCALE

MIB = 1 << 20
LEAK_MIB = 10
JOBS = 40
ROOM_MIB = 45
SLACK_BYTES = 3 * MIB * SCALE  # of a host, beside what is leaked


class LeakTest(ServiceCase):
    """recycle.rss_bytes, on both pools."""

    config = {"pools": {"process": {"hosts": 1}, "thread": {"threads": 2}},
              "tasks": {"leak": {"enabled": True}}}

    def start_bounded(self):
        """Starts the service with a bound of so much above what its hosts have; answers the bounds."""
        bounds = {}
        for pool in ("process", "thread"):
            self.http.run("echo", 1, pool)
            bounds[pool] = proc.rss_bytes(self.host_pid(pool)) + ROOM_MIB * MIB
        self.restart_service({"pools": {pool: {"recycle": {"rss_bytes": bound}}
                                        for pool, bound in bounds.items()}})
        return bounds

    def test_it_is_recycled_in_time(self):
        """Every job succeeds; no host ever holds the bound and more than one job's leak."""
        for pool, bound in self.start_bounded().items():
            with self.subTest(pool=pool):
                lives = {}
                for _ in range(JOBS):
                    job = self.http.run("leak", {"mib": LEAK_MIB}, pool)
                    self.assert_succeeded(job)
                    self.assertEqual(job["attempt"], 1)
                    self.assertLessEqual(job["memory"]["host_rss_bytes"],
                                         bound + LEAK_MIB * MIB + SLACK_BYTES)
                    lives.setdefault(job["worker"]["pid"], []).append(job)
                for pid, jobs in list(lives.items())[:-1]:
                    self.assertNotIn(pid, self.host_pids(pool))
                    # What the last job of a host saw is beyond the bound, what the one before saw is not.
                    self.assertGreater(jobs[-1]["memory"]["host_rss_bytes"], bound)
                    for job in jobs[:-1]:
                        self.assertLessEqual(job["memory"]["host_rss_bytes"], bound)
                    self.assertLessEqual(jobs[-1]["result"]["host_bytes"],
                                         (ROOM_MIB + LEAK_MIB) * MIB + SLACK_BYTES)
                replaced = len(lives) - 1
                self.assertGreaterEqual(replaced, JOBS * LEAK_MIB // (ROOM_MIB + 2 * LEAK_MIB) - 1)
                restarts = self.restarts(pool)
                self.assertEqual(set(restarts), {"rss"})
                self.assertIn(restarts["rss"], (replaced, replaced + 1))

    def test_without_a_bound_it_would_not_be(self):
        """The leak is real: it grows with every job."""
        seen = [self.http.run("leak", {"mib": LEAK_MIB}, "process")["memory"]["host_rss_bytes"]
                for _ in range(8)]
        self.assertGreater(seen[-1] - seen[0], 6 * LEAK_MIB * MIB)
        self.assertEqual(self.restarts("process"), {})
