"""Starts the real binary for one test, watches it, and judges how it left."""

import contextlib
import fcntl
import json
import os
import random
import re
import resource
import select
import signal
import struct
import subprocess
import termios
import threading
import time
import uuid

from tests.harness import proc
from tests.harness.client import Client, RawConnection
from tests.harness.timing import seconds, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.environ.get("TWINPOOL_SOURCE", os.path.dirname(os.path.dirname(HERE)))
READY_LINE = re.compile(r"(?:https?://127\.0\.0\.1:([0-9]+)|unix:(.*))\n\Z")
READY_FD_MIN = 20  # what is handed over to the binary has the numbers below
SANITIZER_MARKS = ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "MemorySanitizer",
                   "runtime error:")
# The leak check of a process that is killed meanwhile says so, and has found nothing.
INTERRUPTED_LEAK_CHECK = re.compile(r"==[0-9]+==Unable to get registers from thread [0-9]+\.")
LOG_FIELDS = ("time", "level", "event", "process")
# The service treats fatal signals itself; a sanitizer must not take them from it.
SIGNAL_OPTIONS = "handle_segv=0:handle_abort=0:handle_sigfpe=0:handle_sigill=0:handle_sigbus=0"
SANITIZER_OPTIONS = {
    # Freed memory is held back to find its late use: little enough for tests that watch the RSS.
    "ASAN_OPTIONS": SIGNAL_OPTIONS + ":quarantine_size_mb=4:thread_local_quarantine_size_kb=64",
    "TSAN_OPTIONS": SIGNAL_OPTIONS,
}


def binary():
    """Path of the binary under test."""
    path = os.environ.get("TWINPOOL_BINARY")
    if not path:
        raise RuntimeError("TWINPOOL_BINARY must name the binary under test")
    return path


def environment(extra=None):
    """The environment for the binary: no TWINPOOL_* of ours reaches it but what a test gives."""
    inherited = {name: value for name, value in os.environ.items()
                 if not name.startswith("TWINPOOL_")}
    for name, options in SANITIZER_OPTIONS.items():
        inherited[name] = ":".join(filter(None, (inherited.get(name), options)))
    return {**inherited, **(extra or {})}


def run_binary(*arguments, extra_environment=None, deadline=20, cwd="/"):
    """Runs the binary to its end, for what does not serve, such as --check-config."""
    return subprocess.run([binary(), *arguments], env=environment(extra_environment), cwd=cwd,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=seconds(deadline), check=False)


def raise_descriptor_limit(wanted):
    """Makes room for `wanted` descriptors in this process and in what it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        if hard != resource.RLIM_INFINITY:
            hard = max(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Collector(threading.Thread):
    """Gathers the lines of a pipe until its end."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self._pipe = pipe
        self._lock = threading.Lock()  # between reading and having the lines
        self._rest = b""
        self._lines = []
        self.start()

    def run(self):
        with self._pipe:
            while self._take():
                pass

    def _take(self):
        """Waits for bytes and takes them; false at the end."""
        waiting = select.poll()  # select() knows no descriptors beyond 1023
        waiting.register(self._pipe, select.POLLIN)
        waiting.poll()
        with self._lock:
            data = os.read(self._pipe.fileno(), 1 << 16)
            *whole, self._rest = (self._rest + data).split(b"\n")
            if not data and self._rest:
                whole.append(self._rest)
            self._lines += [line.decode("utf-8", "replace") for line in whole]
        return bool(data)

    @property
    def lines(self):
        """All that had been written when this was asked."""
        deadline = time.monotonic() + seconds(5)
        while time.monotonic() < deadline:
            with self._lock, contextlib.suppress(ValueError):  # it is closed
                if not self._unread():
                    break
            if not self.is_alive():
                break
            time.sleep(0.001)
        return list(self._lines)

    def _unread(self):
        """How many bytes are in the pipe."""
        return struct.unpack("i", fcntl.ioctl(self._pipe.fileno(), termios.FIONREAD, bytes(4)))[0]


class Service:
    """The binary, running; whoever starts it ends it by stop() or judge_end().

    `wrapper` is a command in front of the binary's own, such as one that makes a namespace; pass_fds are
    descriptors for it. tls is an ssl.SSLContext for clients of a service that wants it.
    """

    def __init__(self, config_path, arguments=(), extra_environment=None, wrapper=(), pass_fds=(),
                 tls=None):
        self._mark = f"TEST_SERVICE={uuid.uuid4()}"
        name, value = self._mark.split("=")
        read_end, low_end = os.pipe()
        write_end = fcntl.fcntl(low_end, fcntl.F_DUPFD_CLOEXEC, READY_FD_MIN)
        os.close(low_end)
        command = [*wrapper, binary(), "--config", config_path, "--ready-fd", str(write_end),
                   *arguments]
        try:
            self.process = subprocess.Popen(
                command, env=environment({name: value, **(extra_environment or {})}), cwd="/",
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                pass_fds=(write_end, *pass_fds), start_new_session=True)
        finally:
            os.close(write_end)
        self._ready_fd = read_end
        self._has_wrapper = bool(wrapper)
        self._stdout = _Collector(self.process.stdout)
        self._stderr = _Collector(self.process.stderr)
        self._clients = []
        self._server_pid = None
        self.host = "127.0.0.1"
        self.port = None
        self.path = None  # of a Unix socket
        self.tls = tls
        self.token = None  # what clients bring, where the service wants one

    # --- start

    def wait_ready(self, deadline=20):
        """Waits for the one line on --ready-fd and for its end; answers self."""
        text = self.read_ready_line(deadline)
        line = READY_LINE.match(text)
        if not line:
            raise AssertionError(f"--ready-fd gave {text!r}; {self.describe()}")
        self.port = int(line.group(1)) if line.group(1) else None
        self.path = line.group(2)
        return self

    def read_ready_line(self, deadline=20):
        """All that comes from --ready-fd until nobody holds it any more.

        A wrapper may hold it as long as it lives: with one, until the end of the line.
        """
        end = time.monotonic() + seconds(deadline)
        data = b""
        try:
            while True:
                readable, _, _ = select.select([self._ready_fd], [], [],
                                               max(0, end - time.monotonic()))
                if not readable:
                    raise AssertionError(f"not ready in time, had {data!r}; {self.describe()}")
                piece = os.read(self._ready_fd, 4096)
                data += piece
                if not piece or (self._has_wrapper and data.endswith(b"\n")):
                    return data.decode("ascii", "replace")
        finally:
            self.forget_ready()

    def forget_ready(self):
        """Nobody will read --ready-fd: it is closed."""
        os.close(self._ready_fd)

    # --- talking

    def client(self, **options):
        """A new keep-alive client; closed when the service is."""
        client = Client(self.host, self.port, **{**self._way(), "token": self.token, **options})
        self._clients.append(client)
        return client

    def raw(self, **options):
        """A bare connection; the caller closes it."""
        return RawConnection(self.host, self.port, **{**self._way(), **options})

    def _way(self):
        return {"path": self.path, "tls": self.tls}

    # --- watching

    @property
    def master_pid(self):
        """The master is the process that was started."""
        return self.process.pid

    @property
    def server_pid(self):
        """The server's pid, as it says itself; one service has one server for its whole life."""
        if self._server_pid is None:
            client = Client(self.host, self.port, token=self.token, **self._way())
            self._server_pid = client.stats()["server"]["pid"]
            client.close()
        return self._server_pid

    def processes(self):
        """Pids of everything that this service started and that runs, itself included."""
        return proc.pids_with_environment(self._mark)

    def owns(self, pid):
        """Whether this process was started by the service."""
        return proc.has_environment(pid, self._mark)

    def log(self, event=None):
        """The parsed lines of the log so far, of one event or all."""
        entries = [json.loads(line) for line in list(self._stderr.lines) if line.startswith("{")]
        return [entry for entry in entries if event is None or entry.get("event") == event]

    def stdout_lines(self):
        """What it has written to stdout."""
        return list(self._stdout.lines)

    def describe(self):
        """State and last lines of the log, for messages."""
        return (f"exit status {self.process.poll()}, log:\n  "
                + "\n  ".join(self._stderr.lines[-15:]))

    # --- end

    def signal(self, number=signal.SIGTERM):
        """Sends a signal to the master."""
        self.process.send_signal(number)

    def close_clients(self):
        """Closes every client's connection."""
        for client in self._clients:
            client.close()

    def stop(self, deadline=30):
        """SIGTERM, then the judgement of a good end: exit status 0."""
        self.close_clients()
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        self.judge_end(lambda status: status == 0, deadline)

    def kill_tree(self, in_any_order=False, deadline=30):
        """SIGKILL for all of its processes, as nearly at once as can be; answers when all are gone.

        The server goes first, before it can notice the death of another, unless in_any_order.
        Programs that its jobs have started are not meant: their environment is their own.
        """
        victims = self.processes()
        random.shuffle(victims)
        if not in_any_order:
            victims.insert(0, self.server_pid)
        self.close_clients()
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.judge_end(lambda status: status != 0, deadline)

    def judge_end(self, is_expected_status, deadline=30):
        """Waits for the end: the status is as expected, no process is left, the log is clean."""
        try:
            status = self.process.wait(seconds(deadline))
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"still runs after {seconds(deadline)} s; {self.describe()}"
                                 ) from late
        if not is_expected_status(status):
            raise AssertionError(f"left with status {status}; {self.describe()}")
        wait_until(lambda: not self.processes(), "no process is left running", 10)
        self._judge_log()

    def _judge_log(self):
        self._stderr.join(seconds(10))
        if self._stderr.is_alive():
            raise AssertionError("somebody still holds the service's stderr")
        text = "\n".join(self._stderr.lines)
        for mark in SANITIZER_MARKS:
            if mark in text:
                raise AssertionError(f"a sanitizer has spoken:\n{text}")
        for line in self._stderr.lines:
            if not INTERRUPTED_LEAK_CHECK.fullmatch(line):
                _judge_log_line(line)

    def destroy(self):
        """Ends whatever is left, for tests that have failed already."""
        self.close_clients()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            self.process.wait(seconds(10))
        except subprocess.TimeoutExpired:
            pass


def _judge_log_line(line):
    try:
        entry = json.loads(line)
    except ValueError as wrong:
        raise AssertionError(f"a line of the log is no JSON: {line!r}") from wrong
    missing = [name for name in LOG_FIELDS if name not in entry]
    if missing:
        raise AssertionError(f"a line of the log lacks {missing}: {line!r}")
