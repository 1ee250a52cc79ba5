"""Listening on a Unix socket: served as by TCP, its file is kept well, and nobody's else is taken."""

import fcntl
import os
import signal
import socket
import stat
import sys

from tests.harness import proc
from tests.harness.case import BASE_CONFIG, ServiceCase, merged
from tests.harness.service import Service, run_binary
from tests.harness.timing import wait_until


class UnixSocketTest(ServiceCase):
    """A socket in the test's own directory."""

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        """Listens there."""
        self.path = os.path.join(self.directory, "s.sock")
        super().start_service(merged({"server": {"listen": f"unix:{self.path}"}}, changes or {}),
                              arguments, extra_environment)

    def config_with(self, server):
        """A configuration beside the service's own, for another one."""
        return self.write_file("other.json", merged(BASE_CONFIG, {"server": server}))

    def mode(self):
        """Permissions of the file."""
        return stat.S_IMODE(os.stat(self.path).st_mode)

    def test_it_serves_and_cleans_up(self):
        """Jobs, waits, a client that hangs up; then the file is gone."""
        self.assertEqual(self.service.path, self.path)
        self.assertEqual(self.mode(), 0o660)
        self.assert_succeeded(self.http.run("echo", {"a": 1}))
        with self.service.raw() as raw:
            raw.send_post("/jobs", {"task": "sleep", "args": {"ms": 60000},
                                    "cancel_on_disconnect": True})
            wait_until(lambda: self.http.get("/jobs", state="running").json["jobs"], "it runs")
        wait_until(lambda: self.http.get("/jobs", state="cancelled").json["jobs"],
                   "hanging up has cancelled it")
        self.stop_service()
        self.assertFalse(os.path.exists(self.path))

    def test_its_mode_is_as_configured(self):
        """Whatever the umask is: less and more than that lets through."""
        for mode in ("0600", "0666"):
            with self.subTest(mode=mode):
                self.restart_service({"server": {"socket_mode": mode}})
                self.assertEqual(self.mode(), int(mode, 8))

    def test_a_live_one_is_not_taken(self):
        """Another service on the same path says why it cannot, and leaves the first one alone."""
        result = run_binary("--config", self.config_with({"listen": f"unix:{self.path}"}))
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("in use", result.stderr)
        self.assert_succeeded(self.http.run("echo", 1))
        self.assertEqual(self.service.client().get("/healthz").status, 200)

    def test_a_dead_one_is_replaced(self):
        """After SIGKILL the file is left, and the next one takes it."""
        server = self.service.server_pid
        self.service.close_clients()
        os.kill(server, signal.SIGKILL)
        self.judge_end(lambda status: status == 1)
        self.assertTrue(stat.S_ISSOCK(os.stat(self.path).st_mode))
        self.start_service()
        self.assert_succeeded(self.http.run("echo", 1))

    def test_what_is_no_socket_is_not_touched(self):
        """A file; a directory; a place that does not exist."""
        file = self.write_file("file", "kept")
        for path, fragment in ((file, "no socket"), (self.directory, "no socket"),
                               (os.path.join(self.directory, "none", "s"), "No such file")):
            with self.subTest(path=path):
                result = run_binary("--config", self.config_with({"listen": f"unix:{path}"}))
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(fragment, result.stderr)
        with open(file, encoding="utf-8") as kept:
            self.assertEqual(kept.read(), "kept")

    def test_another_ones_file_is_left(self):
        """One that has taken the place meanwhile stays."""
        os.unlink(self.path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.path)
            self.stop_service()
            self.assertTrue(os.path.exists(self.path))

    def test_bad_paths_are_named(self):
        """When the configuration is read."""
        for listen in ("unix:", "unix:relative", "unix:/" + "x" * 108, "unix:/dir/"):
            with self.subTest(listen=listen):
                result = run_binary("--config", self.config_with({"listen": listen}),
                                    "--check-config")
                self.assertEqual(result.returncode, 2)
                self.assertIn("server.listen", result.stderr)
        for mode in ("660", "0888", "rw", "06600"):
            with self.subTest(mode=mode):
                result = run_binary("--config", self.config_with({"socket_mode": mode}),
                                    "--check-config")
                self.assertEqual(result.returncode, 2)
                self.assertIn("server.socket_mode", result.stderr)


# Makes a descriptor number 3, and is then executed as what follows.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.close(int(sys.argv[1]))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class InheritedSocketTest(ServiceCase):
    """LISTEN_FDS: a socket that a service manager has made."""

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        """As systemd does: the socket is descriptor 3, LISTEN_PID is the binary's own."""
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)
        self.start_with(self.listening, changes or {})
        self.service.wait_ready()
        self.http = self.service.client()
        self.judged = False
        self.wait_all_workers()

    def start_with(self, listening, changes):
        """Starts a service that inherits the socket."""
        number = fcntl.fcntl(listening, fcntl.F_DUPFD_CLOEXEC, 10)
        path = self.write_file("twinpool.json", merged(BASE_CONFIG, changes))
        try:
            self.service = Service(
                path, extra_environment={"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"},
                wrapper=(sys.executable, "-c", HAND_OVER, str(number)), pass_fds=(number,))
        finally:
            os.close(number)
        self.addCleanup(self.service.destroy)
        self.judged = True

    def test_it_serves_there(self):
        """Not where the configuration says; what came before the start is answered."""
        self.assertEqual(self.service.port, self.listening.getsockname()[1])
        self.assert_succeeded(self.http.run("echo", 1))

    def test_it_outlives_the_service(self):
        """Only the server holds it; who connects after the end waits for the next service."""
        inode = f"socket:[{os.fstat(self.listening.fileno()).st_ino}]"
        holders = [pid for pid in self.service.processes()
                   if inode in proc.descriptors(pid).values()]
        self.assertEqual(holders, [self.service.server_pid])
        self.stop_service()
        with socket.create_connection(self.listening.getsockname()[:2]) as waiting:
            waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.start_with(self.listening, {})
            self.service.wait_ready()
            self.assertIn(b"200 OK", waiting.recv(65536))
            self.service.stop()

    def test_what_it_refuses(self):
        """A socket that does not listen; one beyond loopback without tokens."""
        with socket.socket() as idle, socket.create_server(("0.0.0.0", 0)) as far:
            for listening, fragment in ((idle, "no listening stream socket"),
                                        (far, "without tokens")):
                with self.subTest(fragment=fragment):
                    self.stop_if_running()
                    self.start_with(listening, {})
                    self.service.judge_end(lambda status: status != 0)
                    self.assertIn(fragment, str(self.service.log("listen_failed")))

    def stop_if_running(self):
        """Stops the one that the test began with, well."""
        if not self.judged:
            self.stop_service()

