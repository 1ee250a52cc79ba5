"""(b) No-op jobs, waited for, on worker processes and on worker threads."""

from bench.harness import kernel
from bench.harness.bench import Part, Row, Step
from bench.harness.report import people
from bench.parts.limit import CLIENTS

POOLS = ("process", "thread")


class Pools(Part):
    """Ratios are to the bare server with as many clients."""

    name = "pools"
    title = "twinpool: a no-op job, waited for; ratios to the limit"
    needs = ("limit",)

    def start(self):
        for pool in POOLS:
            self.bench.warm_up(self.bench.twinpool().port, self.bench.no_op(pool))

    def _measure(self, pool, clients, number):
        twinpool = self.bench.twinpool()
        pids = [twinpool.server_pid, *twinpool.host_pids(pool)]
        before = [kernel.cpu_ns(pid) for pid in pids]
        name = f"pools/{pool}/{clients}"
        load = self.bench.load(name, number, twinpool.port, clients, self.bench.no_op(pool))
        used = [(kernel.cpu_ns(pid) - earlier) / 1e3 / load.requests for pid, earlier in zip(pids, before)]
        add = self.bench.figures.add
        add(f"{name}/server_cpu", number, used[0], "µs/job")
        add(f"{name}/worker_cpu", number, sum(used[1:]), "µs/job")
        add(f"{name}/wrk_cpu", number, load.cpu_seconds * 1e6 / load.requests, "µs/job")

    def steps(self):
        return [Step(f"clients {clients}",
                     lambda number, pool=pool, clients=clients: self._measure(pool, clients, number))
                for clients in CLIENTS for pool in POOLS]

    def rows(self):
        for pool in POOLS:
            for clients in CLIENTS:
                name, base = f"pools/{pool}/{clients}", f"limit/{clients}"
                yield Row(f"{pool}, {people(clients)}: jobs", f"{name}/rate", f"{base}/rate")
                yield Row(f"{pool}, {people(clients)}: latency, median", f"{name}/p50", f"{base}/p50")
                yield Row(f"{pool}, {people(clients)}: latency, 99th percentile", f"{name}/p99",
                          f"{base}/p99")
        for pool in POOLS:
            for clients in (1, 64):
                name = f"pools/{pool}/{clients}"
                yield Row(f"{pool}, {people(clients)}: CPU of the server", f"{name}/server_cpu",
                          f"limit/{clients}/server_cpu")
                yield Row(f"{pool}, {people(clients)}: CPU of the workers", f"{name}/worker_cpu")
                yield Row(f"{pool}, {people(clients)}: CPU of wrk", f"{name}/wrk_cpu",
                          f"limit/{clients}/wrk_cpu")

    def notes(self):
        figures = self.bench.figures
        for pool in POOLS:
            names = [f"pools/{pool}/64/{who}_cpu" for who in ("server", "worker", "wrk")]
            if not figures.has(*names):
                continue
            most = figures.combined(lambda *used: 2e6 / sum(used), *names)
            yield (f"On {pool}, the CPU of server, workers and wrk for one job add up to what would let two cores carry "
                   f"{most.median:,.0f} jobs/s if neither were ever idle.")
