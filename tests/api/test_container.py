"""Sizes follow what the machine or the container gives, and the service outlives its jobs."""

import os

from tests.harness.case import ServiceCase


def oom_score_adj(pid):
    """What the kernel adds to a process's badness."""
    with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


class ContainerTest(ServiceCase):
    """As far as it can be seen without a container."""

    def test_hosts_go_before_the_service(self):
        """Where memory is short: theirs is the higher score, and so is that of what they start."""
        own = oom_score_adj(os.getpid())
        self.assertEqual(oom_score_adj(self.service.master_pid), own)
        self.assertEqual(oom_score_adj(self.service.server_pid), own)
        for pid in self.host_pids("process") | self.host_pids("thread"):
            self.assertEqual(oom_score_adj(pid), min(own + 500, 1000))

    def test_what_it_has_found_is_in_the_log(self):
        """CPUs that may be used, and the memory limit; 0 is none."""
        entry = self.service.log("starting")[0]
        self.assertGreaterEqual(entry["cores"], 1)
        self.assertLessEqual(entry["cores"], len(os.sched_getaffinity(0)))
        self.assertGreaterEqual(entry["memory_limit_bytes"], 0)
