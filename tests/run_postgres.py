"""Runs a program beside a PostgreSQL of its own: run_postgres.py PROGRAM [ARGUMENTS].

The program finds the connection string in TWINPOOL_TEST_POSTGRES. Our pid is in TWINPOOL_TEST_POSTGRES_CONTROL: at
SIGUSR1 we restart the server twice, by cutting all connections and by kill -9; its setting twinpool.restarts counts. The
exit status is the program's. Where no PostgreSQL is installed the program runs without those variables.
"""

import os
import signal
import subprocess
import sys

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, SOURCE)

# pylint: disable=wrong-import-position
from tests.harness.postgres import Postgres, programs  # noqa: E402

SKIPPED = 77  # what CTest takes for it
LOG_TAIL = 8000


def run(postgres, command):
    """The exit status of the command."""
    def restart(*_):
        for how in (signal.SIGINT, signal.SIGKILL):
            postgres.settings["twinpool.restarts"] += 1
            postgres.restart(how)

    environment = {**os.environ, "TWINPOOL_TEST_POSTGRES": postgres.connection,
                   "TWINPOOL_TEST_POSTGRES_CONTROL": str(os.getpid())}
    signal.signal(signal.SIGUSR1, restart)
    with subprocess.Popen(command, env=environment) as process:
        try:
            return process.wait()
        finally:
            process.kill()


def main():
    """Starts, runs, ends."""
    if programs() is None:
        print("no PostgreSQL is installed", file=sys.stderr)
        os.execv(sys.argv[1], sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with Postgres({"twinpool.restarts": 0}) as postgres:
        status = run(postgres, sys.argv[1:])
        if status not in (0, SKIPPED):
            print(postgres.read_log()[-LOG_TAIL:], file=sys.stderr)
        return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
