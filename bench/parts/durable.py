"""(h) Durable jobs: the store alone beside the limits of the disk, over HTTP, and on several nodes."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import tempfile

from bench.harness import wrk
from bench.harness.bench import Part, Row, Step
from bench.harness.process import Failure, environment
from bench.harness.twinpool import Twinpool

CLIENTS = (1, 64)
NODES = (1, 2, 3)
NODE_CLIENTS = 64  # of all nodes together
STORE_LINE = re.compile(r"^(\S+(?: \d+)?)\s+([\d.]+)", re.MULTILINE)


class Durable(Part):
    """Submissions answered 202 once they are on disk, and jobs waited for of which each step is."""

    name = "durable"
    title = "Durable jobs"

    def start(self):
        self.directory = tempfile.mkdtemp(prefix="durable-", dir=self.bench.directory)
        self.postgres = None
        self.services = {}
        self._start("plain", {"store": {"kind": "memory"}})
        self._start("auto", {"data_dir": self._path("auto")})
        self._start("all", {"data_dir": self._path("all"), "store": {"durable": "all"}})
        try:
            self._start_nodes()
        except (ImportError, Failure, RuntimeError, OSError) as missing:
            self.bench.skip("several nodes on PostgreSQL", missing)
        for name in self.services:
            self.bench.warm_up(self.services[name].port, self.bench.no_op("process"))

    def _path(self, name):
        return os.path.join(self.directory, name)

    def _start(self, name, config):
        self.services[name] = self.bench.keep(Twinpool(self.bench, name=f"durable-{name}", **config))

    def _start_nodes(self):
        from tests.harness.postgres import Postgres, programs  # only where it is there

        if not programs():
            raise Failure("PostgreSQL is not installed")
        self.postgres = self.bench.keep(_Database(Postgres()))
        for number in range(max(NODES)):
            self._start(f"node{number}", {
                "data_dir": self._path(f"node{number}"),
                "store": {"kind": "postgresql", "durable": "all", "node": f"node{number}",
                          "connection": self.postgres.connection}})

    # --- the store alone

    def _store(self, number):
        """bench_store prints a line for each of the things that it does."""
        directory = self._path(f"store{number}")
        try:
            result = subprocess.run([self.bench.program("bench_store"), directory, "1", "1"], text=True,
                                    capture_output=True, check=False, timeout=120, env=environment())
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        if result.returncode != 0:
            raise Failure(f"bench_store: {result.stdout}{result.stderr}")
        for what, rate in STORE_LINE.findall(result.stdout):
            self.bench.figures.add(f"durable/store/{what}", number, float(rate), "/s")

    # --- over HTTP

    def _load(self, service, clients, query, number):
        self.bench.load(f"durable/{service}{'/202' if query else ''}/{clients}", number,
                        self.services[service].port, clients, self.bench.no_op("process"),
                        path=f"/jobs{query}")

    def _nodes(self, count, number):
        """As many clients, parted among the nodes, each node driven by a wrk of its own."""
        def drive(node):
            return wrk.run(self.services[f"node{node}"].port, "/jobs", self.bench.no_op("process"),
                           NODE_CLIENTS // count, self.bench.options.seconds, ())
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            loads = list(pool.map(drive, range(count)))
        self.bench.figures.add(f"durable/nodes/{count}/rate", number, sum(load.rate for load in loads), "/s")

    def steps(self):
        yield Step("store", self._store)
        for clients in CLIENTS:
            for service, query in (("plain", ""), ("auto", ""), ("auto", "?wait=0"), ("all", "")):
                yield Step(f"{service}{query} clients {clients}",
                           lambda number, service=service, clients=clients, query=query:
                           self._load(service, clients, query, number))
        if self.postgres:
            for count in NODES:
                yield Step(f"nodes {count}", lambda number, count=count: self._nodes(count, number))

    def rows(self):
        store = "durable/store/"
        yield Row("fdatasync of a page, one after another", f"{store}fdatasync")
        yield Row("SQLite itself, a transaction a row", f"{store}sqlite", f"{store}fdatasync")
        for clients in CLIENTS:
            yield Row(f"the store alone, {clients} outstanding: submissions", f"{store}put {clients}",
                      f"{store}sqlite")
        for clients in CLIENTS:
            yield Row(f"HTTP, {clients} clients: answered 202 (on disk)", f"durable/auto/202/{clients}/rate",
                      f"{store}put {clients}")
            yield Row(f"HTTP, {clients} clients: waited for, nothing stored", f"durable/plain/{clients}/rate")
            yield Row(f"HTTP, {clients} clients: waited for, history kept", f"durable/auto/{clients}/rate",
                      f"durable/plain/{clients}/rate")
            yield Row(f"HTTP, {clients} clients: waited for, each step on disk", f"durable/all/{clients}/rate",
                      f"durable/plain/{clients}/rate")
        if self.postgres:
            for count in NODES:
                yield Row(f"PostgreSQL, {count} node{'s' if count > 1 else ''}, {NODE_CLIENTS} clients: waited for, "
                          "each step on disk", f"durable/nodes/{count}/rate", "durable/all/64/rate")

    def notes(self):
        yield ("Jobs answered 202 pile up: their rate is that of accepting, while two workers do what they can. "
               "The nodes, the database and the load generators share the machine, so more nodes than it has free "
               "cores show no more than that they do not stand in each other's way.")


class _Database:
    """A PostgreSQL of the benchmark's own, ended with it."""

    def __init__(self, postgres):
        self._postgres = postgres
        self.name = "postgres"
        self.pid = None
        postgres.start()
        self.pid = postgres.process.pid
        self.connection = postgres.connection

    def check(self):
        """It runs."""
        if self._postgres.process.poll() is not None:
            raise Failure("PostgreSQL has ended")

    def ask_to_stop(self):
        """Ended at once, below."""

    def stop(self, *_):
        """Ends it and takes its files away."""
        self._postgres.destroy()
