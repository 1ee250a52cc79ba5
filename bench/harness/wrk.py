"""Load by wrk: keep-alive clients, each of which posts the same body as soon as it has its answer."""

import json
import os
import shutil
import subprocess
from typing import NamedTuple

from bench.harness import kernel, process

SCRIPT = os.path.join(process.HERE, "wrk.lua")
# Closed connections are what a server without keep-alive answers with; wrk counts none of them as errors.
FATAL = ("connect", "status", "timeout")


class Load(NamedTuple):
    """What came of one run of wrk."""

    rate: float  # answers a second
    p50_us: int
    p99_us: int
    requests: int
    seconds: float
    cpu_seconds: float  # that wrk used itself


def is_there():
    """Whether wrk is installed."""
    return shutil.which("wrk") is not None


def run(port, path, body_path, clients, seconds=1, wrapper=()):
    """One run with one thread, of wrapper wrk …. Fails if an answer was not 2xx, or did not come."""
    command = [*wrapper, "wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", SCRIPT,
               f"http://127.0.0.1:{port}{path}", body_path]
    before = kernel.cpu_of_children()
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False,
                          stdin=subprocess.DEVNULL)
    cpu = kernel.cpu_of_children() - before
    line = next((line for line in done.stdout.splitlines() if line.startswith("JSON ")), None)
    if done.returncode != 0 or line is None:
        raise process.Failure(f"wrk: {done.stderr.strip()} {done.stdout.strip()}"[:500])
    found = json.loads(line[5:])
    if found["requests"] == 0 or any(found[name] for name in FATAL):
        raise process.Failure(f"wrk on {path} with {clients} clients: {found}")
    duration = found["duration_us"] / 1e6
    return Load(found["requests"] / duration, found["p50_us"], found["p99_us"], found["requests"],
                duration, cpu)
