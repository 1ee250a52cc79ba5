"""(f) Memory: of the server for each queued job, each kept job, each waiting client; of an idle host and a thread.

All of it is PSS, the share of a process in the machine's memory, and of the difference that many of them make.
"""

import time

from bench.harness import kernel
from bench.harness.bench import Part, Row, Step
from bench.harness.client import Client, request_bytes
from bench.harness.process import Failure
from bench.harness.twinpool import NO_OP_BYTES, Twinpool, no_op_body, pool

JOBS = 50000
WAITERS = 2000
HOSTS = 8
THREADS = (2, 34)
PATIENCE_SECONDS = 60
ROUNDS = 2


class Memory(Part):
    """Bodies are those of the no-op job."""

    name = "memory"
    title = "Memory"

    def _until(self, twinpool, what, condition):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition(twinpool.client.call("GET", "/stats")):
            if time.monotonic() > deadline:
                raise Failure(f"memory: waited in vain: {what}")
            time.sleep(0.02)

    def _jobs(self, number):
        count = self.bench.options.scaled(JOBS)
        keep = {"jobs": 10 * JOBS, "bytes": 1 << 40}
        twinpool = Twinpool(self.bench, name="memory", pools={"process": pool(2, 1)}, retention=keep)
        request = request_bytes("POST", "/jobs?wait=0", no_op_body("process"))
        try:
            def pss():
                return kernel.pss_bytes(twinpool.server_pid)

            def ended(stats):
                return stats["pools"]["process"]["ended"]["succeeded"]

            warm = 100
            twinpool.client.repeat(request, warm, 202)
            self._until(twinpool, "warm", lambda stats: ended(stats) == warm)
            twinpool.client.call("PATCH", "/pools/process", {"paused": True})
            idle = pss()
            twinpool.client.repeat(request, count, 202)
            queued = (pss() - idle) / count
            twinpool.client.call("PATCH", "/pools/process", {"paused": False})
            self._until(twinpool, "jobs end", lambda stats: ended(stats) == count + warm)
            add = self.bench.figures.add
            add("memory/server", number, idle / 1024, "KiB")
            add("memory/queued", number, queued, "B")
            add("memory/kept", number, (pss() - idle) / count, "B")
            self._waiters(twinpool, pss, queued, number)
        finally:
            twinpool.kill()

    def _waiters(self, twinpool, pss, queued, number):
        clients = []
        twinpool.client.call("PATCH", "/pools/process", {"paused": True})
        before = pss()
        try:
            for _ in range(WAITERS):
                clients.append(Client(twinpool.port))
                clients[-1].send(request_bytes("POST", "/jobs", no_op_body("process")))
            self._until(twinpool, "clients wait", lambda stats: stats["server"]["requests_waiting"] == WAITERS)
            whole = (pss() - before) / WAITERS
            self.bench.figures.add("memory/waiter_and_job", number, whole, "B")
            self.bench.figures.add("memory/waiter", number, whole - queued, "B")
        finally:
            for client in clients:
                client.close()

    def _workers(self, number):
        twinpool = Twinpool(self.bench, name="memory-workers", pools={
            "process": pool(HOSTS, 1), **{f"thread-{count}": pool(1, count) for count in THREADS}})
        try:
            hosts = [kernel.pss_bytes(pid) for pid in twinpool.host_pids("process")]
            few, many = (kernel.pss_bytes(twinpool.host_pids(f"thread-{count}")[0]) for count in THREADS)
            add = self.bench.figures.add
            add("memory/master", number, kernel.pss_bytes(twinpool.pid) / 1024, "KiB")
            add("memory/host", number, sum(hosts) / len(hosts) / 1024, "KiB")
            add("memory/thread", number, (many - few) / (THREADS[1] - THREADS[0]) / 1024, "KiB")
        finally:
            twinpool.stop()

    def steps(self):
        return [Step("memory", self._jobs, ROUNDS), Step("memory", self._workers, ROUNDS)]

    def rows(self):
        return [Row(f"a queued job with a body of {NO_OP_BYTES} bytes", "memory/queued"),
                Row("a kept job", "memory/kept"),
                Row("a waiting client, without its job", "memory/waiter"),
                Row("a waiting client and its job", "memory/waiter_and_job"),
                Row("an idle host of one worker", "memory/host"),
                Row("an idle thread of a host", "memory/thread"),
                Row("the server, idle", "memory/server"),
                Row("the master", "memory/master")]

    def notes(self):
        yield ("The server's memory is its heap and its stack; what the kernel holds for sockets is not in it. A kept job's share has what the "
               "allocator had not yet given back when the last of them ended.")
