"""(a) The limit: a bare libmicrohttpd server that parses the same body and answers as much."""

from bench.harness import kernel
from bench.harness.bench import Part, Row, Step
from bench.harness.report import people

CLIENTS = (1, 16, 64, 256)


class Limit(Part):
    """The base of most ratios."""

    name = "limit"
    title = "The limit: bare libmicrohttpd"

    def start(self):
        self.bench.warm_up(self.bench.bare_port(), self.bench.no_op("process"))

    def _measure(self, clients, number):
        pid = self.bench.bare_pid()
        before = kernel.cpu_ns(pid)
        load = self.bench.load(f"limit/{clients}", number, self.bench.bare_port(), clients,
                               self.bench.no_op("process"))
        add = self.bench.figures.add
        add(f"limit/{clients}/server_cpu", number, (kernel.cpu_ns(pid) - before) / 1e3 / load.requests,
            "µs/job")
        add(f"limit/{clients}/wrk_cpu", number, load.cpu_seconds * 1e6 / load.requests, "µs/job")

    def steps(self):
        return [Step(f"clients {clients}", lambda number, clients=clients: self._measure(clients, number))
                for clients in CLIENTS]

    def rows(self):
        for clients in CLIENTS:
            yield Row(f"{people(clients)}: jobs", f"limit/{clients}/rate")
            yield Row(f"{people(clients)}: latency, median", f"limit/{clients}/p50")
            yield Row(f"{people(clients)}: latency, 99th percentile", f"limit/{clients}/p99")
        yield Row("64 clients: CPU of the server", "limit/64/server_cpu")
        yield Row("64 clients: CPU of wrk", "limit/64/wrk_cpu")
