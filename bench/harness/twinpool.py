"""A twinpool of the benchmark's own, with a configuration of its own, on a free port."""

import json
import os
import signal
import subprocess
import time

from bench.harness import kernel, process
from bench.harness.client import Client

LIMITLESS = {"queue_jobs": 10000000, "queue_bytes": 1 << 40}


def pool(hosts, threads, **more):
    """A pool that is not full before memory is."""
    return {"hosts": hosts, "threads": threads, **LIMITLESS, **more}


def two_pools(workers=2):
    """What most parts measure: as many workers as processes, and as threads of one process."""
    return {"process": pool(workers, 1), "thread": pool(1, workers)}


class Twinpool(process.Process):
    """Started, and ready."""

    def __init__(self, bench, name="twinpool", pools=None, binary=None, wait_ready=True, **config):
        document = {"server": {"listen": "127.0.0.1:0", "max_body_bytes": 1 << 26,
                               "max_batch_jobs": 1000000, "shutdown_grace_ms": 0,
                               "idle_timeout_ms": 3600000},  # we come back in the next round
                    "log": {"level": "warning"}, "pools": pools or two_pools(), **config}
        path = os.path.join(bench.directory, f"{name}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(document, file)
        ready, write_end = os.pipe()
        self.began = time.monotonic()
        try:
            super().__init__(name, [binary or bench.program("twinpool"), "--config", path,
                                    "--ready-fd", str(write_end)], bench.directory,
                             pass_fds=(write_end,), stdout=subprocess.DEVNULL)
        finally:
            os.close(write_end)
        self._bench = bench
        self._pools = document["pools"]
        self._ready = ready
        self.port = None
        self._client = None
        self._server_pid = None
        if wait_ready:
            self.wait_ready()

    def wait_ready(self):
        """Until it says where it listens."""
        try:
            self.port = int(process.read_line(self._ready, 20, self.name).rsplit(":", 1)[1])
        except process.Failure as failure:
            raise process.Failure(f"{failure}\n{self.log_tail()}") from failure
        finally:
            os.close(self._ready)

    @property
    def client(self):
        """A connection of the benchmark's own."""
        if self._client is None:
            self._client = Client(self.port)
        return self._client

    def stop(self, number=signal.SIGTERM):
        if self._client:
            self._client.close()
        super().stop(number)

    def kill(self):
        """Ends it without its doing anything more."""
        pids = [self.server_pid, *(pid for name in self._pools for pid in self.host_pids(name))]
        self._bench.cpu_of_killed += sum(kernel.cpu_ns(pid) for pid in pids) / 1e9
        self.stop(signal.SIGKILL)

    @property
    def server_pid(self):
        """Of the process with the event loop."""
        if self._server_pid is None:
            self._server_pid = self.client.call("GET", "/stats")["server"]["pid"]
        return self._server_pid

    def host_pids(self, name):
        """Of the hosts of one pool."""
        workers = self.client.call("GET", f"/pools/{name}")["worker_list"]
        return sorted({worker["pid"] for worker in workers if worker["pid"]})

    def run(self, document):
        """A job, waited for; fails unless it succeeds."""
        job = self.client.call("POST", "/jobs", document)
        if job["state"] != "succeeded":
            raise process.Failure(f"{self.name}: {json.dumps(job)[:600]}")
        return job


def body_of(task, pool_name, args):
    """A submission, encoded once; 'pool' comes last, so that bodies of different pools differ least."""
    return json.dumps({"task": task, "args": args, "pool": pool_name},
                      separators=(",", ":")).encode()


NO_OP_BYTES = 100


def no_op_body(pool_name):
    """The job that nearly all parts post: echo, with as much in args as makes the body 100 bytes."""
    bare = len(body_of("echo", pool_name, {"text": ""}))
    return body_of("echo", pool_name, {"text": "x" * (NO_OP_BYTES - bare)})
