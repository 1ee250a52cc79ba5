"""A PostgreSQL of the test's own: made by initdb in a temporary directory, reached by a Unix socket there alone.

It runs as an unprivileged user, since PostgreSQL refuses root, and needs no service of the system. Whatever the test
does, it is gone with the object: stop() is bounded, and the server's parent, if it dies first, takes it along.
"""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

from tests.harness.timing import seconds

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "max_connections": "60",
    # No test cuts the power, and what the kernel has survives kill -9.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "log_line_prefix": "%m [%p] %a ",
    "log_timezone": "UTC",
    "log_min_error_statement": "panic",
    "autovacuum_naptime": "5s",
}


def programs():
    """The directory with initdb and postgres, the newest there is; None if there is none."""
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    if not found:
        path = shutil.which("initdb")
        return os.path.dirname(os.path.realpath(path)) if path else None
    newest = max(found, key=lambda path: int(path.split("/")[4]))
    return os.path.dirname(newest)


def _unprivileged():
    """The user that it runs as: ourselves unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("there is neither a user postgres nor nobody")


class Postgres:
    """One cluster. start() is to be called first; `connection` is what libpq wants."""

    def __init__(self, settings=None):
        self.settings = {**SETTINGS, **(settings or {})}
        self.user = _unprivileged()
        self.directory = tempfile.mkdtemp(prefix="twinpool-postgres-")
        self.data = os.path.join(self.directory, "data")
        self.log = os.path.join(self.directory, "log")
        self.bin = programs()
        self.process = None
        if self.user:
            os.chown(self.directory, self.user.pw_uid, self.user.pw_gid)
        os.chmod(self.directory, 0o755)

    @property
    def connection(self):
        """The connection string of its database, which any user of this machine may use."""
        return f"host={self.directory} user=twinpool dbname=postgres"

    def _command(self, *arguments):
        command = list(arguments)
        if self.user:
            command = ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups",
                       "--pdeathsig=INT", "--", *command]
        return command

    def _run(self, *arguments):
        result = subprocess.run(self._command(*arguments), capture_output=True, text=True, check=False,
                                timeout=seconds(60), cwd=self.directory)
        if result.returncode != 0:
            raise RuntimeError(f"{arguments[0]}: {result.stdout}{result.stderr}")

    def start(self):
        """Makes the cluster if it is not there, starts it, and returns once it answers."""
        if not os.path.exists(self.data):
            self._run(f"{self.bin}/initdb", "--pgdata", self.data, "--username=twinpool", "--auth=trust",
                      "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        deadline = time.monotonic() + seconds(60)
        while not self._try_start(deadline):
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {self.read_log()[-2000:]}")
            time.sleep(0.05)
        return self

    def _try_start(self, deadline):
        """False if it ended again: after a kill, what is left of the one before may be in its way for a moment."""
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        options.append(f"--unix_socket_directories={self.directory}")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self._command(f"{self.bin}/postgres", "-D", self.data, *options),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory)
        while subprocess.run([f"{self.bin}/pg_isready", "--quiet", "--host", self.directory, "--timeout=1",
                              "--username=twinpool", "--dbname=postgres"],
                             check=False, timeout=seconds(30)).returncode != 0:
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not answer: {self.read_log()[-2000:]}")
            time.sleep(0.02)
        return True

    def read_log(self):
        """What the server has said."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def sql(self, text):
        """Runs SQL by psql; answers its rows, columns parted by "|"."""
        result = subprocess.run(
            [f"{self.bin}/psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1",
             "--dbname", self.connection, "--command", text],
            capture_output=True, text=True, check=False, timeout=seconds(60))
        if result.returncode != 0:
            raise RuntimeError(result.stderr)
        return result.stdout.splitlines()

    def kill(self):
        """kill -9 of all of it, as a loss of power would, but for what the kernel holds."""
        pids = [self.process.pid, *_descendants(self.process.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=seconds(30))

    def restart(self, how=signal.SIGINT):
        """Ends it (SIGINT: cuts all connections; SIGKILL: a crash) and starts it again."""
        if how == signal.SIGKILL:
            self.kill()
        else:
            self._end(how)
        self.start()

    def _end(self, how):
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(timeout=seconds(30))
        except subprocess.TimeoutExpired:
            self.kill()

    def destroy(self):
        """Ends it and takes everything away."""
        if self.process:
            self._end(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.destroy()
            raise

    def __exit__(self, *_):
        self.destroy()


def _descendants(pid):
    from tests.harness import proc
    found = []
    for child in proc.children_of(pid):
        found += [child, *_descendants(child)]
    return found
