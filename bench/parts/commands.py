"""(i) Command jobs, against a bare vfork + exec + wait, and against others that run commands for HTTP."""

import json
import subprocess

from bench.harness import services
from bench.harness.bench import Missing, Part, Row, Step
from bench.harness.process import Failure
from bench.harness.report import people
from bench.harness.twinpool import Twinpool, body_of, pool, two_pools

SIZE = 2
CLIENTS = (1, 16)
LARGE_MIB = 500
POOLS = ("process", "thread", "large")  # large: a process worker that holds LARGE_MIB


class Commands(Part):
    """The program writes one short line and ends; everybody runs the same."""

    name = "commands"
    title = "Command jobs; latencies to a bare vfork + exec + wait, jobs as twinpool's to theirs"

    def __init__(self, bench):
        super().__init__(bench)
        self._others = {}  # name -> (label, port)
        self._twinpool = None
        self._bodies = {}

    def start(self):
        program = self.bench.program("program")
        self._twinpool = self.bench.keep(Twinpool(
            self.bench, name="commands", pools={**two_pools(SIZE), "large": pool(1, 1)},
            tasks={"program": {"description": "Ends at once.", "args_schema": {"type": "object"},
                               "command": {"argv": [program], "result": "text"}},
                   "leak": {"enabled": True}}))
        self._twinpool.run({"task": "leak", "pool": "large", "args": {"mib": LARGE_MIB}})
        for name in POOLS:
            body = body_of("program", name, {})
            self._twinpool.run(json.loads(body))
            self._bodies[name] = self.bench.file(f"command_{name}.json", body)
        for name, label, start in (
                ("webhook", "webhook", lambda: services.webhook(self.bench, program)),
                ("fcgiwrap", "nginx + fcgiwrap", lambda: services.fcgiwrap(self.bench, program, SIZE))):
            try:
                self._others[name] = (label, start())
            except Missing as missing:
                self.bench.skip(label, missing)
            except Failure as failure:
                self.bench.fail(label, failure)

    def _spawn(self, name, megabytes, number):
        command = [self.bench.program("spawn_loop"), str(self.bench.options.scaled(1000)), str(megabytes),
                   self.bench.program("program")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise Failure(f"spawn_loop: {done.stderr}")
        self.bench.figures.add(f"commands/{name}", number, json.loads(done.stdout)["median_ns"] / 1e3, "µs")

    def _load_other(self, name, clients, number):
        path = "/hooks/jobs" if name == "webhook" else "/"
        self.bench.load(f"commands/{name}/{clients}", number, self._others[name][1], clients,
                        self._bodies["process"], path=path)

    def _load_pool(self, name, clients, number):
        self.bench.load(f"commands/{name}/{clients}", number, self._twinpool.port, clients, self._bodies[name])

    def steps(self):
        yield Step("commands 1", lambda number: self._spawn("bare", 0, number))
        yield Step("commands 1", lambda number: self._spawn("bare_large", LARGE_MIB, number))
        for clients in CLIENTS:
            for name in POOLS:
                if clients == 1 or name != "large":
                    yield Step(f"commands {clients}", lambda number, name=name, clients=clients:
                               self._load_pool(name, clients, number))
            for name in self._others:
                yield Step(f"commands {clients}", lambda number, name=name, clients=clients:
                           self._load_other(name, clients, number))

    def rows(self):
        large = f"with {LARGE_MIB} MiB resident"
        yield Row("bare vfork + exec + wait", "commands/bare")
        yield Row(f"bare, {large}", "commands/bare_large", "commands/bare")
        yield Row("process, 1 client: latency, median", "commands/process/1/p50", "commands/bare")
        yield Row(f"process, {large}, 1 client: latency, median", "commands/large/1/p50", "commands/bare_large")
        yield Row("thread, 1 client: latency, median", "commands/thread/1/p50", "commands/bare")
        for name, (label, _) in self._others.items():
            yield Row(f"{label}, 1 client: latency, median", f"commands/{name}/1/p50", "commands/bare")
        for clients in CLIENTS[1:]:
            for name in ("process", "thread"):
                yield Row(f"{name}, {people(clients)}: jobs", f"commands/{name}/{clients}/rate")
            for name, (label, _) in self._others.items():
                yield Row(f"{label}, {people(clients)}: jobs", f"commands/{name}/{clients}/rate",
                          f"commands/process/{clients}/rate", inverted=True)

    def notes(self):
        yield ("A latency is the whole way: HTTP, dispatch, the program with its stdout read through a pipe, metering, answer. "
               "webhook runs as many commands at once as are asked for; the others run two.")
