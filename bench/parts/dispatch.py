"""(d) Dispatch alone: from the server to a worker and back."""

import json
import statistics
import subprocess

from bench.harness.bench import Part, Row, Step
from bench.harness.client import request_bytes
from bench.harness.process import Failure
from bench.harness.report import number as number_text
from bench.harness.twinpool import no_op_body

CHANNELS = ("seqpacket", "pipe", "eventfd", "futex")
POOLS = ("process", "thread")


class Dispatch(Part):
    """Beside it, what a message costs that goes to another process and back, and nothing else."""

    name = "dispatch"
    title = "Dispatch: to a worker and back, one at a time; ratios to a bare SEQPACKET round trip"

    def start(self):
        self.bench.program("pingpong")
        self.bench.twinpool()

    def _pingpong(self, placement, number):
        count = str(self.bench.options.scaled(20000))
        command = [self.bench.program("pingpong"), count, *(["apart"] if placement == "apart" else [])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise Failure(f"pingpong: {done.stderr}")
        found = json.loads(done.stdout)
        for channel in CHANNELS:
            self.bench.figures.add(f"pingpong/{placement}/{channel}", number,
                                   found[channel]["median_ns"] / 1e3, "µs")
        deep = found["seqpacket_depth_64"]
        self.bench.figures.add(f"pingpong/{placement}/depth", number, deep["messages_per_s"], "/s")
        self.bench.figures.add(f"pingpong/{placement}/server_cpu", number, deep["cpu_ns"] / 1e3, "µs/job")
        self.bench.figures.add(f"pingpong/{placement}/worker_cpu", number, deep["child_cpu_ns"] / 1e3, "µs/job")

    def _twinpool(self, pool, number):
        client = self.bench.twinpool().client
        request = request_bytes("POST", "/jobs", no_op_body(pool))
        samples = {"dispatch": [], "collect": [], "run": [], "both": [], "total": []}
        for _ in range(self.bench.options.scaled(2000)):
            client.send(request)
            status, answer = client.receive()
            if status != 200:
                raise Failure(f"twinpool: {status} {answer[:300]!r}")
            timing = json.loads(answer)["timing"]
            for name in ("dispatch", "collect", "run", "total"):
                samples[name].append(timing[f"{name}_ms"] * 1e3)
            samples["both"].append((timing["dispatch_ms"] + timing["collect_ms"]) * 1e3)
        for name, values in samples.items():
            self.bench.figures.add(f"dispatch/{pool}/{name}", number, statistics.median(values), "µs")

    def steps(self):
        for placement in ("free", "apart"):
            yield Step("dispatch", lambda number, where=placement: self._pingpong(where, number))
        for pool in POOLS:
            yield Step("dispatch", lambda number, pool=pool: self._twinpool(pool, number))

    def rows(self):
        for placement, words in (("free", ""), ("apart", ", on two cores")):
            for channel in CHANNELS:
                yield Row(f"bare {channel}{words}", f"pingpong/{placement}/{channel}")
        yield Row("bare seqpacket, 64 under way: messages", "pingpong/free/depth")
        yield Row("bare seqpacket, 64 under way: CPU of who asks", "pingpong/free/server_cpu")
        yield Row("bare seqpacket, 64 under way: CPU of who answers", "pingpong/free/worker_cpu")
        for pool in POOLS:
            yield Row(f"{pool}: dispatch_ms + collect_ms", f"dispatch/{pool}/both", "pingpong/free/seqpacket")
            for name in ("dispatch", "collect", "run", "total"):
                yield Row(f"{pool}: {name}_ms", f"dispatch/{pool}/{name}")

    def notes(self):
        figures = self.bench.figures
        names = ("limit/64/server_cpu", "limit/64/wrk_cpu", "pingpong/free/server_cpu", "pingpong/free/worker_cpu")
        if not figures.has(*names):
            return
        server, load, ask, answer = (figures.spread(name).median for name in names)
        least = figures.combined(lambda *used: sum(used), *names).median
        yield (f"What two cores leave: at 64 clients a job costs the bare server {number_text(server)} µs of CPU and wrk "
               f"{number_text(load)}; a message to a worker and back costs {number_text(ask)} on the server's side and "
               f"{number_text(answer)} on the worker's. With these {number_text(least)} µs two cores, never idle, carry "
               f"{2e6 / least:,.0f} jobs/s: {number_text(2 * max(server, load) / least)} of what the bare server does "
               "where it and wrk have a core each.")
