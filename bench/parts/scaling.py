"""(e) Scaling with the size of the pool, and with the number of waiting clients."""

from bench.harness.bench import Part, Row, Step
from bench.harness.report import people
from bench.harness.twinpool import Twinpool, no_op_body, pool

SIZES = {"process": (1, 2, 4), "thread": (2, 4)}  # a host of one thread is a process worker
CLIENTS = 64
WAITERS = (64, 1000)


class Scaling(Part):
    """Sizes are compared with one process worker, waiters with CLIENTS of them."""

    name = "scaling"
    title = f"Size of the pool ({CLIENTS} clients) to one process; number of waiting clients to {CLIENTS}"

    def __init__(self, bench):
        super().__init__(bench)
        self._twinpool = None
        self._bodies = {}

    def start(self):
        pools = {f"{kind}-{size}": pool(size, 1) if kind == "process" else pool(1, size)
                 for kind, sizes in SIZES.items() for size in sizes}
        self._twinpool = self.bench.keep(Twinpool(
            self.bench, name="scaling", pools=pools, ))
        for name in pools:
            self._bodies[name] = self.bench.file(f"scaling_{name}.json", no_op_body(name))
            self.bench.warm_up(self._twinpool.port, self._bodies[name])

    def _measure(self, name, clients, number):
        self.bench.load(f"scaling/{name}/{clients}", number, self._twinpool.port, clients, self._bodies[name])

    def steps(self):
        for name in self._bodies:
            yield Step("sizes", lambda number, name=name: self._measure(name, CLIENTS, number))
        for clients in WAITERS:
            if clients != CLIENTS:
                yield Step("sizes", lambda number, clients=clients: self._measure("process-2", clients, number))

    def rows(self):
        for kind, sizes in SIZES.items():
            for size in sizes:
                yield Row(f"{size} {kind} worker{'s' if size > 1 else ''}: jobs",
                          f"scaling/{kind}-{size}/{CLIENTS}/rate",
                          f"scaling/process-1/{CLIENTS}/rate" if (kind, size) != ("process", 1) else None)
        for clients in WAITERS:
            name = f"scaling/process-2/{clients}"
            yield Row(f"2 process workers, {people(clients)}: jobs", f"{name}/rate",
                      f"scaling/process-2/{CLIENTS}/rate" if clients != CLIENTS else None)
            yield Row(f"2 process workers, {people(clients)}: 99th percentile", f"{name}/p99")
