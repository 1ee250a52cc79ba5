"""(e) Scaling with the size of what goes in and comes out: echo of a text of so many bytes."""

import json

from bench.harness.bench import Part, Row, Step
from bench.harness.report import people
from bench.harness.twinpool import body_of

SIZES = {100: "100 B", 1 << 10: "1 KiB", 10 << 10: "10 KiB", 100 << 10: "100 KiB", 1 << 20: "1 MiB", 10 << 20: "10 MiB"}
POOLS = ("process", "thread")
MOST_UNDER_WAY = 4 << 20
LONGER_FROM = 1 << 20  # there are few of them in a second
ROUNDS = 3


class Payload(Part):
    """The bare server parses as much and answers as much, but hands nothing on."""

    name = "payload"
    title = "Size of arguments and result: echo of a text; ratios to the bare server, which answers as much"

    def __init__(self, bench):
        super().__init__(bench)
        self._bodies = {}

    def start(self):
        for size in SIZES:
            for pool in POOLS:
                body = body_of("echo", pool, {"text": "x" * size})
                self.bench.twinpool().run(json.loads(body))
                self._bodies[pool, size] = self.bench.file(f"payload_{pool}_{size}.json", body)
            self.bench.bare_port(f"bare-{size}", body_of("echo", "process", {"text": "x" * size}))

    @staticmethod
    def clients(size):
        """So many that no more than MOST_UNDER_WAY bytes of bodies are."""
        return max(1, min(16, MOST_UNDER_WAY // size))

    def _measure(self, who, size, number):
        port = self.bench.bare_port(f"bare-{size}") if who == "bare" else self.bench.twinpool().port
        self.bench.load(f"payload/{who}/{size}", number, port, self.clients(size),
                        self._bodies["process" if who == "bare" else who, size],
                        seconds=self.bench.options.seconds * (3 if size >= LONGER_FROM else 1))

    def steps(self):
        for size in SIZES:
            for who in ("bare", *POOLS):
                yield Step(f"payload {size}", lambda number, who=who, size=size: self._measure(who, size, number), ROUNDS)

    def rows(self):
        for who in ("bare", *POOLS):
            for size, label in SIZES.items():
                yield Row(f"{who}, {label}, {people(self.clients(size))}: jobs", f"payload/{who}/{size}/rate",
                          f"payload/bare/{size}/rate" if who != "bare" else None)
