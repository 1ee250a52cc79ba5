"""This twinpool against another build of it: what a change has brought, in one run."""

import os

from bench.harness import kernel
from bench.harness.bench import Missing, Part, Row, Step
from bench.harness.report import people
from bench.harness.twinpool import Twinpool

POOLS = ("process", "thread")
CLIENTS = (1, 16, 64)


class Against(Part):
    """The other is named by --against."""

    name = "against"
    title = "This build against another; ratios are this one's to the other's"

    def start(self):
        path = self.bench.options.against
        if not path:
            raise Missing("no other build is named by --against")
        other = self.bench.shared("against", lambda: self.bench.keep(Twinpool(
            self.bench, name="against", binary=os.path.abspath(path))))
        for pool in POOLS:
            self.bench.warm_up(other.port, self.bench.no_op(pool))
            self.bench.warm_up(self.bench.twinpool().port, self.bench.no_op(pool))

    def _measure(self, which, pool, clients, number):
        twinpool = self.bench.twinpool() if which == "this" else self.bench.shared("against", lambda: None)
        pids = [twinpool.server_pid, *twinpool.host_pids(pool)]
        before = sum(map(kernel.cpu_ns, pids))
        name = f"against/{pool}/{clients}/{which}"
        load = self.bench.load(name, number, twinpool.port, clients, self.bench.no_op(pool))
        self.bench.figures.add(f"{name}/cpu", number, (sum(map(kernel.cpu_ns, pids)) - before) / 1e3 / load.requests,
                               "µs/job")

    def steps(self):
        return [Step(f"against {pool} {clients}", lambda number, pool=pool, clients=clients, which=which:
                     self._measure(which, pool, clients, number))
                for pool in POOLS for clients in CLIENTS for which in ("this", "other")]

    def rows(self):
        for pool in POOLS:
            for clients in CLIENTS:
                name = f"against/{pool}/{clients}"
                for what, label in (("rate", "jobs"), ("p50", "latency, median"), ("p99", "99th percentile"),
                                    ("cpu", "CPU of server and workers")):
                    yield Row(f"{pool}, {people(clients)}: {label}", f"{name}/this/{what}", f"{name}/other/{what}")
