"""(e) Scaling with the queue: what it costs the server to take a job in, and to give one out, while so many wait.

The cost is the CPU time of the server's process, as the scheduler accounts it, so it does not matter how fast we are.
At each depth the queue is filled with jobs of the least priority, by batches, on a paused pool. Then JOBS jobs are
submitted one by one, which is what enqueueing costs; and the pool is let go until the last of them has ended, which is
what dispatching costs, all up to the answer's being ready included. What is measured comes after such a round without
measuring, so that memory which is taken from the kernel for the first time does not count.
"""

import json

from bench.harness import kernel
from bench.harness.bench import Part, Row, Step
from bench.harness.client import request_bytes
from bench.harness.report import number as number_text
from bench.harness.twinpool import Twinpool, no_op_body, pool

DEPTHS = (10, 1000, 100000, 1000000)
QUICK_DEPTHS = (10, 1000, 100000)
JOBS = 1000
REPEATS = 3
BATCH = 100000
ROUNDS = 3


class Depth(Part):
    """Ratios are to the least depth."""

    name = "depth"
    title = "Depth of the queue: the server's CPU time for each job; ratios to a queue of 10"

    def __init__(self, bench):
        super().__init__(bench)
        self._depths = QUICK_DEPTHS if bench.options.quick else DEPTHS

    @staticmethod
    def _fill(twinpool, count):
        while count > 0:
            size = min(count, BATCH)
            body = json.dumps({"task": "echo", "pool": "process", "priority": -10, "args": [0] * size}).encode()
            twinpool.client.repeat(request_bytes("POST", "/batches?wait=0", body), 1, 202)
            count -= size

    @staticmethod
    def _pause(twinpool, paused):
        twinpool.client.call("PATCH", "/pools/process", {"paused": paused})

    def _turn(self, twinpool, depth):
        """Fills up, and takes JOBS in and gives them out. The CPU of both, and how many were given out."""
        def cpu():
            return kernel.cpu_ns(twinpool.server_pid)

        def stats():
            return twinpool.client.call("GET", "/stats")["pools"]["process"]

        self._fill(twinpool, depth - stats()["queue"]["length"])
        before = cpu()
        last = twinpool.client.repeat(request_bytes("POST", "/jobs?wait=0", no_op_body("process")), JOBS, 202)
        enqueued = cpu() - before
        ended = stats()["ended"]["succeeded"]
        before = cpu()
        self._pause(twinpool, False)
        twinpool.client.call("GET", f"/jobs/{json.loads(last)['id']}?wait=60")
        self._pause(twinpool, True)
        dispatched = cpu() - before
        return enqueued, dispatched, stats()["ended"]["succeeded"] - ended

    def _measure(self, number):
        twinpool = Twinpool(self.bench, name="depth", pools={"process": pool(2, 1)}, retention={"jobs": 100})
        try:
            self._pause(twinpool, True)
            for depth in self._depths:
                self._turn(twinpool, depth)
                turns = [self._turn(twinpool, depth) for _ in range(REPEATS)]
                enqueued, dispatched, jobs = (sum(values) for values in zip(*turns))
                add = self.bench.figures.add
                add(f"depth/{depth}/enqueue", number, enqueued / 1e3 / (JOBS * REPEATS), "µs/job")
                add(f"depth/{depth}/dispatch", number, dispatched / 1e3 / jobs, "µs/job")
        finally:
            twinpool.kill()  # or it would cancel a million jobs first

    def steps(self):
        return [Step("depth", self._measure, ROUNDS)]

    def rows(self):
        for what in ("enqueue", "dispatch"):
            for depth in self._depths:
                yield Row(f"{what}, {number_text(depth)} queued", f"depth/{depth}/{what}",
                          f"depth/10/{what}" if depth != 10 else None)
