"""(c) What one would take instead, with a pool of the same size: the same job, waited for, from 64 clients."""

import json
import subprocess
import time
from typing import Callable, NamedTuple

from bench.harness import services
from bench.harness.bench import Missing, Part, Row, Step
from bench.harness.client import Client
from bench.harness.process import Failure
from bench.harness.twinpool import no_op_body

SIZE = 2
CLIENTS = 64
GIVE_UP_SECONDS = 20  # for the first answer


class Rival(NamedTuple):
    """A service, and the pool that does as it does."""

    name: str
    label: str
    pool: str
    start: Callable
    speaks_http: bool = True


RIVALS = (
    Rival("aiohttp_process", "aiohttp + ProcessPoolExecutor", "process", services.aiohttp_process),
    Rival("aiohttp_thread", "aiohttp + ThreadPoolExecutor", "thread", services.aiohttp_thread),
    Rival("gunicorn_sync", "gunicorn sync, prefork", "process", services.gunicorn_sync),
    Rival("gunicorn_prefork_gthread", "gunicorn gthread, prefork", "process", services.gunicorn_prefork_gthread),
    Rival("gunicorn_gthread", "gunicorn gthread, threads", "thread", services.gunicorn_gthread),
    Rival("uwsgi_prefork", "uWSGI prefork", "process", services.uwsgi_prefork),
    Rival("uwsgi_prefork_router", "uWSGI prefork, keep-alive router", "process", services.uwsgi_prefork_router),
    Rival("uwsgi_threads", "uWSGI threads", "thread", services.uwsgi_threads),
    Rival("celery", "aiohttp + Celery + Redis", "process", services.celery),
    Rival("gearman", "Gearman, in C, without HTTP", "process", services.gearman, speaks_http=False),
)


class Rivals(Part):
    """The ratio is twinpool's jobs to theirs: how many times as many."""

    name = "rivals"
    title = f"What one would take instead, {CLIENTS} clients; ratios are twinpool's jobs to theirs"
    needs = ("limit", "pools")

    def __init__(self, bench):
        super().__init__(bench)
        self._ports = {}  # by Rival

    def start(self):
        for rival in RIVALS:
            try:
                port = rival.start(self.bench, SIZE)
                self._try_out(rival, port)
            except Missing as missing:
                self.bench.skip(rival.label, missing)
            except (Failure, OSError) as failure:
                self.bench.fail(rival.label, failure)
            else:
                self._ports[rival] = port

    def _try_out(self, rival, port):
        """It must do the job, and is warm afterwards."""
        if not rival.speaks_http:
            self._load_gearman(port, 1)
            return
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while True:
            client = Client(port, timeout=GIVE_UP_SECONDS)
            try:
                status, answer = client.raw("POST", "/jobs", no_op_body(rival.pool))
                break
            except (Failure, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            finally:
                client.close()
        if status != 200 or "text" not in json.loads(answer)["result"]:
            raise Failure(f"{rival.label}: {status} {answer[:300]!r}")
        self.bench.warm_up(port, self.bench.no_op(rival.pool))

    def _load_gearman(self, port, seconds):
        command = [self.bench.program("gearman_echo"), "load", str(port), str(CLIENTS), str(seconds),
                   self.bench.no_op("process")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        if done.returncode != 0:
            raise Failure(f"gearman_echo: {done.stderr}")
        return json.loads(done.stdout)

    def _measure(self, rival, number):
        name = f"rivals/{rival.name}"
        if rival.speaks_http:
            self.bench.load(name, number, self._ports[rival], CLIENTS, self.bench.no_op(rival.pool))
            return
        found = self._load_gearman(self._ports[rival], self.bench.options.seconds)
        self.bench.figures.add(f"{name}/rate", number, found["rate"], "/s")
        self.bench.figures.add(f"{name}/p99", number, found["p99_us"], "µs")

    def steps(self):
        return [Step(f"clients {CLIENTS}", lambda number, rival=rival: self._measure(rival, number))
                for rival in self._ports]

    def rows(self):
        for rival in RIVALS:
            name, ours = f"rivals/{rival.name}", f"pools/{rival.pool}/{CLIENTS}"
            yield Row(f"{rival.label}: jobs", f"{name}/rate", f"{ours}/rate", inverted=True)
            yield Row(f"{rival.label}: 99th percentile", f"{name}/p99")

    def notes(self):
        yield ("All have two workers. Their answers carry the result and no metering, so they send less than twinpool does. "
               "gunicorn sync and uWSGI without its router close the connection after each answer.")
