"""(g) From exec to the first answered job."""

import time

from bench.harness.bench import Part, Row, Step
from bench.harness.process import Failure
from bench.harness.client import Client, request_bytes
from bench.harness.twinpool import Twinpool, no_op_body

STARTS = 3  # a round


class Startup(Part):
    """Two processes and two threads, ready and used."""

    name = "startup"
    title = "Start-up"

    def start(self):
        self._start_once()

    def _start_once(self):
        running = Twinpool(self.bench, name="startup")
        try:
            ready = time.monotonic()
            client = Client(running.port)
            client.send(request_bytes("POST", "/jobs", no_op_body("process")))
            status, answer = client.receive()
            answered = time.monotonic()
            client.close()
            if status != 200:
                raise Failure(f"twinpool: {status} {answer[:300]!r}")
            return (ready - running.began) * 1e3, (answered - running.began) * 1e3
        finally:
            running.stop()

    def _measure(self, number):
        ready, answered = zip(*(self._start_once() for _ in range(STARTS)))
        self.bench.figures.add("startup/ready", number, sorted(ready)[STARTS // 2], "ms")
        self.bench.figures.add("startup/answered", number, sorted(answered)[STARTS // 2], "ms")

    def steps(self):
        return [Step("startup", self._measure)]

    def rows(self):
        return [Row("until it says that it is ready", "startup/ready"),
                Row("until the first job is answered", "startup/answered")]
