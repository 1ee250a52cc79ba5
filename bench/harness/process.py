"""Starting and ending programs. Each is the leader of a session of its own, and is ended with its group."""

import os
import resource
import select
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
END_SECONDS = 10


class Failure(Exception):
    """Something that was started did not do what it should."""


def environment():
    """Ours, without what would configure a twinpool."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("TWINPOOL_")},
            "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


def raise_descriptor_limit(wanted=16384):
    """Room for thousands of connections, here and in what is started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def free_port():
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_listening(process, port, seconds=20):
    """Until somebody accepts connections at the port."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        process.check()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise Failure(f"{process.name} did not listen within {seconds} s\n{process.log_tail()}")


class Process:
    """A running program; its stdout and stderr go to a file in the run's directory."""

    def __init__(self, name, command, directory, **options):
        self.name = name
        self._log_path = os.path.join(directory, name.replace("/", "-") + ".log")
        options.setdefault("cwd", directory)
        options.setdefault("env", environment())
        with open(self._log_path, "ab") as log:
            options.setdefault("stdout", log)
            self.popen = subprocess.Popen(  # pylint: disable=consider-using-with
                command, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True, **options)
        self.pid = self.popen.pid

    def log_tail(self):
        """The last of what it said."""
        with open(self._log_path, "rb") as log:
            return log.read()[-2000:].decode("utf-8", "replace")

    def check(self):
        """Fails if it has ended."""
        if self.popen.poll() is not None:
            raise Failure(f"{self.name} left with status {self.popen.returncode}\n{self.log_tail()}")

    def ask_to_stop(self):
        """SIGTERM, without waiting."""
        if self.popen.poll() is None:
            self.popen.terminate()

    def stop(self, number=signal.SIGTERM):
        """Ends it and its group; it has END_SECONDS to do so by itself."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
            try:
                self.popen.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait(END_SECONDS)
        if self.popen.stdout:
            self.popen.stdout.close()


def read_line(descriptor, seconds, what):
    """One line of a pipe, in time."""
    deadline = time.monotonic() + seconds
    data = b""
    while not data.endswith(b"\n"):
        readable, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
        piece = os.read(descriptor, 4096) if readable else b""
        if not piece:
            raise Failure(f"{what} did not start: {data!r}")
        data += piece
    return data.decode().strip()
