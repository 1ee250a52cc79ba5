"""What a service manager is told: ready, reloading, stopping, and alive as long as it is true."""

import os
import re
import signal
import socket
import time

from tests.harness.case import BASE_CONFIG, ServiceCase, merged
from tests.harness.service import Service, run_binary
from tests.harness.timing import seconds, wait_until

WATCHDOG_MS = 1000
SILENCE = 0.6  # longer than two of its heartbeats


class Manager:
    """Stands for systemd: a datagram socket that takes what is told."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.told = []

    def wait_for(self, fragment, deadline=20):
        """Waits until a datagram has this in it; answers it."""
        end = time.monotonic() + seconds(deadline)
        while True:
            self.socket.settimeout(max(0.001, end - time.monotonic()))
            text = self.socket.recv(4096).decode()
            self.told.append(text)
            if fragment in text:
                return text

    def wait_for_silence(self, deadline=20):
        """Waits until nothing has come for a while."""
        end = time.monotonic() + seconds(deadline)
        self.socket.settimeout(SILENCE)
        while time.monotonic() < end:
            try:
                self.told.append(self.socket.recv(4096).decode())
            except TimeoutError:
                return
        raise AssertionError("it goes on")


class SupervisorTest(ServiceCase):
    """One pool with one host, so that one frozen process is all that answers."""

    config = {"pools": {"process": {"hosts": 1}, "thread": None}, "default_pool": "process"}

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        """With the variables of a service manager that watches."""
        address = os.path.join(self.directory, "notify")
        self.manager = Manager(address)
        self.addCleanup(self.manager.socket.close)
        path = self.write_file("twinpool.json", merged(BASE_CONFIG, changes or {}))
        self.service = Service(path, extra_environment={
            "NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(WATCHDOG_MS * 1000)})
        self.addCleanup(self.service.destroy)
        self.service.wait_ready()
        self.http = self.service.client()
        self.judged = False

    def test_ready_reloading_stopping(self):
        """In this order, also if a reload is refused."""
        url = f"http://127.0.0.1:{self.service.port}"
        self.assertEqual(self.manager.wait_for("READY=1"), f"READY=1\nSTATUS=Serving at {url}")
        self.service.signal(signal.SIGHUP)
        text = self.manager.wait_for("RELOADING=1")
        self.assertTrue(re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=[0-9]+", text), text)
        self.assertIn("read again", self.manager.wait_for("READY=1"))
        self.write_file("twinpool.json", "{")
        self.service.signal(signal.SIGHUP)
        self.manager.wait_for("RELOADING=1")
        self.assertIn("refused", self.manager.wait_for("READY=1"))
        self.stop_service()
        self.manager.wait_for("STOPPING=1")

    def test_a_process_that_hangs_is_not_alive(self):
        """The watchdog is fed by the server's event loop through the master's, and by nobody else."""
        for pid in (self.service.server_pid, self.service.master_pid):
            self.manager.wait_for("WATCHDOG=1")
            os.kill(pid, signal.SIGSTOP)
            self.manager.wait_for_silence()
            os.kill(pid, signal.SIGCONT)
        self.manager.wait_for("WATCHDOG=1")

    def test_hosts_that_do_not_answer_are_not_alive(self):
        """A host that does not begin what it was given; one that runs a long job is well."""
        job = self.http.start("sleep", {"ms": int(0.7 * WATCHDOG_MS)})["id"]
        self.wait_ended(job)
        self.assertEqual(self.service.log("no_host_answers"), [])
        host = self.host_pid("process")
        os.kill(host, signal.SIGSTOP)
        job = self.http.start("echo", 1)["id"]
        wait_until(lambda: self.service.log("no_host_answers"), "it is said in the log")
        self.manager.wait_for_silence()
        self.assertEqual(self.http.get("/healthz").status, 200)
        os.kill(host, signal.SIGCONT)
        self.wait_ended(job)
        self.manager.wait_for("WATCHDOG=1")
        wait_until(lambda: self.service.log("hosts_answer_again"), "it is said in the log")


class VariablesTest(ServiceCase):
    """What a manager gives."""

    def test_an_abstract_name(self):
        """@ stands for the NUL."""
        name = f"twinpool-test-{os.getpid()}"
        manager = Manager("\0" + name)
        self.addCleanup(manager.socket.close)
        self.stop_service()
        self.start_service(extra_environment={"NOTIFY_SOCKET": "@" + name})
        manager.wait_for("READY=1")

    def test_nobody_listens(self):
        """Then that is said, and the service serves."""
        self.stop_service()
        self.start_service(extra_environment={"NOTIFY_SOCKET": "/none/such"})
        self.assert_succeeded(self.http.run("echo", 1))
        self.assertTrue(self.service.log("notify_failed"))

    def test_variables_of_another_process(self):
        """LISTEN_PID and WATCHDOG_PID name who is meant."""
        self.stop_service()
        self.start_service(extra_environment={"LISTEN_FDS": "1", "LISTEN_PID": "1",
                                              "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
        self.assert_succeeded(self.http.run("echo", 1))

    def test_wrong_ones_are_named(self):
        """With what was expected."""
        result = run_binary(extra_environment={"NOTIFY_SOCKET": "relative"})
        self.assertEqual(result.returncode, 2)
        self.assertIn("NOTIFY_SOCKET", result.stderr)
