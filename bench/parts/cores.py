"""Scaling of work that uses the CPU: N workers against one, as processes and as threads."""

import os

from bench.harness.bench import Missing, Part, Row, Step
from bench.harness.twinpool import Twinpool, body_of, pool

PRIMES = 5000000  # some 10 ms a job


class Cores(Part):
    """One client a worker, so that no queue hides anything."""

    name = "cores"
    title = "Work for the CPU (primes): as many workers as cores; ratios to one worker"

    def __init__(self, bench):
        super().__init__(bench)
        self.count = len(os.sched_getaffinity(0))
        self._twinpool = None
        self._bodies = {}

    def start(self):
        if self.count < 2:
            raise Missing("there is one core only")
        self._twinpool = self.bench.keep(Twinpool(self.bench, name="cores", pools={
            "process_one": pool(1, 1), "process_all": pool(self.count, 1),
            "thread_one": pool(1, 2), "thread_all": pool(1, self.count)}))
        for name in ("process_one", "process_all", "thread_one", "thread_all"):
            body = body_of("primes", name, {"n": PRIMES})
            self._bodies[name] = self.bench.file(f"cores_{name}.json", body)

    def _measure(self, name, number):
        # A host with one thread would be a process worker: the thread alone is one of two, of which one is idle.
        self.bench.load(f"cores/{name}", number, self._twinpool.port, 1 if name.endswith("one") else self.count,
                        self._bodies[name])

    def steps(self):
        return [Step("cores", lambda number, name=name: self._measure(name, number)) for name in self._bodies]

    def rows(self):
        for kind in ("process", "thread"):
            yield Row(f"1 {kind} worker: jobs", f"cores/{kind}_one/rate")
            yield Row(f"{self.count} {kind} workers: jobs", f"cores/{kind}_all/rate", f"cores/{kind}_one/rate")

    def notes(self):
        yield f"The best ratio there can be is {self.count}. One client for each worker; wrk and the server are idle but for the answers."
