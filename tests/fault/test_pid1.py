"""As process 1 of a container: signals, dead children and the end are the same."""

import os
import signal
import subprocess

from tests.harness import proc
from tests.harness.case import BASE_CONFIG, DirectoryCase
from tests.harness.service import Service
from tests.harness.timing import wait_until

NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def can_make_namespaces():
    """Whether this machine lets us start a process as number 1."""
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, timeout=20,
                              check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class Pid1Test(DirectoryCase):
    """The master is process 1 of a PID namespace."""

    def setUp(self):
        super().setUp()
        if not can_make_namespaces():
            self.skipTest("PID namespaces are not allowed here")
        path = self.write_file("twinpool.json", BASE_CONFIG)
        self.service = Service(path, wrapper=NAMESPACE)
        self.addCleanup(self.service.destroy)
        self.service.wait_ready()
        self.http = self.service.client()
        # Outside of the namespace the master has another number: it is the wrapper's only child.
        self.master = proc.children_of(self.service.process.pid)[0]

    def test_sigterm_ends_it_well(self):
        """SIGTERM is heeded though process 1 has no default actions; status 0."""
        self.assertEqual(self.http.stats()["server"]["master_pid"], 1)
        waiter = self.service.raw()
        self.addCleanup(waiter.close)
        waiter.send_post("/jobs", {"task": "sleep", "args": {"ms": 500}})
        wait_until(lambda: self.http.stats()["server"]["requests_waiting"] == 1, "a client waits")
        os.kill(self.master, signal.SIGTERM)
        self.assertEqual(waiter.read_answer().json["state"], "succeeded")
        self.service.judge_end(lambda status: status == 0)

    def test_dead_hosts_are_reaped_and_replaced(self):
        """Crashes leave no zombie, also where there is nobody else to reap."""
        for pool in ("process", "thread", "process"):
            self.assertEqual(self.http.run("crash", None, pool)["state"], "crashed")
        for pool in ("process", "thread"):
            self.assertEqual(self.http.run("echo", 1, pool)["state"], "succeeded")
        self.assertEqual([pid for pid in proc.children_of(self.master)
                          if proc.state_of(pid) == "Z"], [])
        os.kill(self.master, signal.SIGTERM)
        self.service.judge_end(lambda status: status == 0)

    def test_the_death_of_the_server_ends_it(self):
        """The namespace ends with a status that is not 0."""
        server = max(proc.children_of(self.master), key=lambda pid: len(proc.descriptors(pid)))
        os.kill(server, signal.SIGKILL)
        self.service.judge_end(lambda status: status != 0)
