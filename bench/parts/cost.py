"""(k) System calls and context switches for each no-op job, of the server and of the workers.

perf counts the calls where it may (tracepoints need rights); otherwise strace does, under which everything is slower,
so that under load more jobs share one call than really do. Switches are the kernel's own count.
"""

import collections
import os
import re
import shutil
import signal
import subprocess
import time

from bench.harness import kernel
from bench.harness.bench import Missing, Part, Row, Step
from bench.harness.process import Failure
from bench.harness.report import people

POOLS = ("process", "thread")
CLIENTS = (1, 64)
CALLS = ("epoll_wait", "epoll_pwait", "epoll_ctl", "poll", "accept4", "recvfrom", "recvmsg", "recvmmsg", "sendto",
         "sendmsg", "sendmmsg", "read", "write", "readv", "writev", "pread64", "sendfile64", "futex", "getrusage",
         "waitid", "clock_gettime", "mmap", "munmap", "madvise", "timerfd_settime", "ioctl", "lseek", "fcntl",
         "close", "shutdown")
LEAST_SHOWN = 0.02  # calls a job


def perf_works():
    """Whether perf is there and may count system calls of other processes."""
    if not shutil.which("perf"):
        return False
    done = subprocess.run(["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "true"], capture_output=True,
                          text=True, timeout=20, check=False)
    return done.returncode == 0 and re.search(r"^[0-9]+,.*raw_syscalls:sys_enter", done.stderr, re.M) is not None


class Cost(Part):
    """By pool, with one client and with many."""

    name = "cost"
    title = "System calls and context switches, for one no-op job"

    def __init__(self, bench):
        super().__init__(bench)
        self._by = None

    def start(self):
        self._by = "perf" if perf_works() else "strace" if shutil.which("strace") else None
        if self._by is None:
            raise Missing("neither perf (with rights to count system calls) nor strace is there")
        self.bench.twinpool()

    # --- counting calls: each answers {(pid, call): count} and the jobs of that time

    def _by_perf(self, pids, load):
        events = [f"syscalls:sys_enter_{call}" for call in CALLS
                  if os.path.isdir(f"/sys/kernel/tracing/events/syscalls/sys_enter_{call}")
                  or os.path.isdir(f"/sys/kernel/debug/tracing/events/syscalls/sys_enter_{call}")]
        output = os.path.join(self.bench.directory, "perf.csv")
        found = load(("perf", "stat", "-x,", "--per-thread", "-o", output, "-p", ",".join(map(str, pids)), "-e",
                      ",".join(["raw_syscalls:sys_enter", *events]), "--"))
        owner = {tid: pid for pid in pids for tid in kernel.threads(pid)}
        counts = collections.Counter()
        for line in kernel.read(output).splitlines():
            fields = line.split(",")
            event = next((field for field in fields if "sys_enter" in field), None)
            if event and fields[1].isdigit():
                tid = int(fields[0].rsplit("-", 1)[1])
                call = "all" if event.startswith("raw_") else event.split("sys_enter_", 1)[1]
                counts[owner[tid], call] += int(fields[1])
        return counts, found.requests

    def _by_strace(self, pids, load):
        counts = collections.Counter()
        output = os.path.join(self.bench.directory, "strace")
        tracers = [subprocess.Popen(["strace", "-c", "-f", "-U", "calls,name", "-o", f"{output}.{pid}", "-p", str(pid)],
                                    stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for pid in pids]
        try:
            deadline = time.monotonic() + 10
            while any("TracerPid:\t0" in kernel.read(f"/proc/{pid}/status") for pid in pids):
                if time.monotonic() > deadline:
                    raise Failure("strace does not attach")
                time.sleep(0.01)
            found = load(())
        finally:
            for tracer in tracers:
                tracer.send_signal(signal.SIGINT)
                tracer.wait(20)
        for pid in pids:
            for line in kernel.read(f"{output}.{pid}").splitlines():
                match = re.match(r"\s*([0-9]+)\s+(\w+)$", line)
                if match:
                    call = "all" if match.group(2) == "total" else match.group(2)
                    counts[pid, call] += int(match.group(1))
        return counts, found.requests

    # --- the steps

    def _count_calls(self, pool, clients, number):
        twinpool = self.bench.twinpool()
        server, hosts = twinpool.server_pid, twinpool.host_pids(pool)

        def load(wrapper):
            return self.bench.load(f"cost/{pool}/{clients}/traced", number, twinpool.port, clients,
                                   self.bench.no_op(pool), wrapper=wrapper)

        count = self._by_perf if self._by == "perf" else self._by_strace
        counts, jobs = count([server, *hosts], load)
        sums = collections.Counter()
        for (pid, call), found in counts.items():
            sums["server" if pid == server else "workers", call] += found
        for (who, call), found in sums.items():
            self.bench.figures.add(f"cost/{pool}/{clients}/{who}/{call}", number, found / jobs, "/job")

    def _count_switches(self, pool, clients, number):
        twinpool = self.bench.twinpool()
        who = {"server": [twinpool.server_pid], "workers": twinpool.host_pids(pool)}

        def read():
            return {name: [sum(values) for values in zip(*(kernel.switches(pid) for pid in pids))]
                    for name, pids in who.items()}

        before = read()
        load = self.bench.load(f"cost/{pool}/{clients}/untraced", number, twinpool.port, clients,
                               self.bench.no_op(pool))
        after = read()
        for name in who:
            for kind, (earlier, later) in zip(("voluntary", "involuntary"), zip(before[name], after[name])):
                self.bench.figures.add(f"cost/{pool}/{clients}/{name}/{kind}", number,
                                       (later - earlier) / load.requests, "/job")

    def steps(self):
        for pool in POOLS:
            for clients in CLIENTS:
                yield Step("cost", lambda number, pool=pool, clients=clients:
                           self._count_calls(pool, clients, number), 2)
                yield Step("cost", lambda number, pool=pool, clients=clients:
                           self._count_switches(pool, clients, number), 2)

    def rows(self):
        for pool in POOLS:
            for clients in CLIENTS:
                for who in ("server", "workers"):
                    name = f"cost/{pool}/{clients}/{who}"
                    label = f"{pool}, {people(clients)}, {who}"
                    for kind in ("voluntary", "involuntary"):
                        yield Row(f"{label}: {kind} switches", f"{name}/{kind}")
                    yield Row(f"{label}: system calls", f"{name}/all")
                    for call in sorted(self._calls_of(name), key=lambda call: -self._median(name, call)):
                        yield Row(f"{label}:     {call}", f"{name}/{call}")

    def _median(self, name, call):
        return self.bench.figures.spread(f"{name}/{call}").median

    def _calls_of(self, name):
        known = {"voluntary", "involuntary", "all"}
        calls = {found[len(name) + 1:] for found in self.bench.figures.names() if found.startswith(name + "/")}
        return [call for call in calls - known if self._median(name, call) >= LEAST_SHOWN]

    def notes(self):
        yield f"System calls were counted by {self._by}; under it jobs are slower, so the switches were counted without."
