"""The server's memory does not grow with the number of jobs it has served.

TWINPOOL_FLAT_JOBS sets how many; a million is the number that the service promises to stand.
"""

import os

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.client import post_bytes
from tests.harness.many import ManyClients
from tests.harness.timing import SANITIZER, SCALE

JOBS = int(os.environ.get("TWINPOOL_FLAT_JOBS", "20000" if SANITIZER else "100000"))
CONNECTIONS = 4
KEPT = 1000
GROWTH_BYTES = (3 << 20) * SCALE


class FlatMemoryTest(ServiceCase):
    """Many small jobs through a few keep-alive connections."""

    config = {"retention": {"jobs": KEPT}, "log": {"level": "warning"}}

    def run_jobs(self, count):
        """Runs so many echo jobs; every one is answered with 200."""
        request = post_bytes("/jobs", {"task": "echo", "args": {"n": 1}, "pool": "thread"})
        with ManyClients(self.service.host, self.service.port, CONNECTIONS) as clients:
            for status, _ in clients.pump(request, count, deadline=60 + count / 1000):
                self.assertEqual(status, 200)

    def test_memory_is_flat(self):
        """From a third of the way to its end, server and master grow by next to nothing."""
        third = JOBS // 3
        self.run_jobs(third)
        pids = (self.service.server_pid, self.service.master_pid, self.host_pid("thread"))
        before = [proc.rss_bytes(pid) for pid in pids]
        self.run_jobs(JOBS - third)
        for name, pid, rss in zip(("server", "master", "host"), pids, before, strict=True):
            with self.subTest(process=name):
                self.assertLess(proc.rss_bytes(pid) - rss, GROWTH_BYTES)
        stats = self.http.stats()
        self.assertEqual(stats["pools"]["thread"]["ended"]["succeeded"], JOBS)
        self.assertEqual((stats["jobs"]["kept"], stats["jobs"]["forgotten"]),
                         (KEPT, JOBS - KEPT))
