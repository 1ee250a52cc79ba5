"""One run: what is started for it, its rounds, its figures."""

import os
import random
import shutil
import subprocess
import tempfile
import time
from typing import Callable, NamedTuple

from bench.harness import process, wrk
from bench.harness.figures import Figures
from bench.harness.twinpool import Twinpool, no_op_body
from bench.harness.process import Process, read_line

BUILD = os.path.join(process.SOURCE, "build", "release")


class Missing(Exception):
    """A part, or something that it compares with, cannot be measured here; the text says why."""


class Step(NamedTuple):
    """One measurement of a round. Steps of one group are taken one after the other, whichever part they are of."""

    group: str
    measure: Callable[[int], None]  # is given the round's number
    rounds: int = 1000  # in so many it takes part


class Row(NamedTuple):
    """One line of a table: what was measured and, if named, what it is compared with."""

    label: str
    name: str
    base: str = None
    inverted: bool = False  # the ratio is base / name

    def ratio(self, figures):
        """The Spread of its ratio; None if there is none."""
        if not self.base or not figures.has(self.name, self.base):
            return None
        return figures.ratio(*((self.base, self.name) if self.inverted else (self.name, self.base)))


class Part:
    """What can be chosen on the command line. Its title heads its table."""

    name = ""
    title = ""
    needs = ()  # parts that are measured along with it, for its ratios

    def __init__(self, bench):
        self.bench = bench

    def start(self):
        """Starts what is needed; raises Missing if it cannot be."""

    def steps(self):
        """The measurements of each round."""
        return []

    def rows(self):
        """The lines of its table. Those that were not measured are left out."""
        return []

    def notes(self):
        """Sentences below its table."""
        return []


class Bench:
    """The run. Everything that is started through it ends with it."""

    def __init__(self, options):
        self.options = options
        self.figures = Figures()
        self.skipped = []
        self.failures = []
        self.directory = tempfile.mkdtemp(prefix="twinpool-bench-")
        os.chmod(self.directory, 0o755)  # some of what is compared gives up its rights
        self._processes = []
        self._shared = {}
        self.rounds_done = 0
        self.began = time.monotonic()
        self.cpu_of_killed = 0.0  # seconds; whom the kernel does not add to our children's

    # --- starting

    @staticmethod
    def program(name):
        """Path of something built."""
        path = os.path.join(BUILD, name if name == "twinpool" else os.path.join("bench", name))
        if not os.path.exists(path):
            raise Missing(f"{os.path.relpath(path, process.SOURCE)} was not built")
        return path

    def file(self, name, data):
        """Path of a file of the run's directory with this content."""
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        return path

    def keep(self, running):
        """A Process is ended at the end of the run; answers it."""
        self._processes.append(running)
        return running

    def start(self, name, command, **options):
        """Starts a program until the end of the run."""
        return self.keep(Process(name, command, self.directory, **options))

    def shared(self, name, make):
        """What several parts use: made once."""
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]

    def twinpool(self):
        """The one that most parts measure: two workers on each pool."""
        return self.shared("twinpool", lambda: self.keep(Twinpool(self)))

    def no_op(self, pool):
        """Path of the body of the no-op job."""
        return self.shared(f"body/{pool}", lambda: self.file(f"no_op_{pool}.json", no_op_body(pool)))

    def bare_port(self, name="bare", body=None):
        """The port of a bare server that answers as twinpool does to this body (the no-op job's, if None)."""
        return self.shared(name, lambda: self._start_bare(name, body or no_op_body("process"))[1])

    def bare_pid(self):
        """Of the one for no-op jobs."""
        self.bare_port()
        return self.shared("bare/pid", lambda: None)

    def _start_bare(self, name, body):
        status, answer = self.twinpool().client.raw("POST", "/jobs", body)
        if status != 200 or b'"state":"succeeded"' not in answer:
            raise process.Failure(f"twinpool: {status} {answer[:500]!r}")
        read_end, write_end = os.pipe()
        running = self.start(name, [self.program("bare_server"), self.file(f"{name}.answer", answer)],
                             stdout=write_end)
        os.close(write_end)
        try:
            port = int(read_line(read_end, 10, name))
        finally:
            os.close(read_end)
        self._shared[f"{name}/pid"] = running.pid
        return running, port

    # --- measuring

    def load(self, name, number, port, clients, body_path, path="/jobs", wrapper=(), seconds=None):
        """One run of wrk; adds NAME/rate, NAME/p50 and NAME/p99, and answers the Load."""
        found = wrk.run(port, path, body_path, clients, seconds or self.options.seconds, wrapper)
        self.figures.add(f"{name}/rate", number, found.rate, "/s")
        self.figures.add(f"{name}/p50", number, found.p50_us, "µs")
        self.figures.add(f"{name}/p99", number, found.p99_us, "µs")
        return found

    def warm_up(self, port, body_path, path="/jobs", clients=16):
        """A first load, of which nothing is kept."""
        wrk.run(port, path, body_path, clients, 1)

    def skip(self, what, why):
        """Says that something is left out."""
        self.skipped.append({"what": what, "why": str(why)})
        self.say(f"skipped: {what}: {why}")

    def fail(self, what, why):
        """Notes that something did not do what it should; the run has failed."""
        self.failures.append(f"{what}: {why}")
        self.say(f"FAILED: {what}: {why}")

    def say(self, text):
        """A line of progress, on stderr."""
        self.options.progress(text)

    def _measure(self, step, number):
        """One that fails does not take the others with it; the run has failed all the same."""
        try:
            step.measure(number)
        except (process.Failure, subprocess.SubprocessError, OSError) as failure:
            self.fail(f"round {number + 1}, {step.group}", failure)

    def run(self, parts):
        """All rounds of these parts: steps of one group one after the other."""
        steps = [step for part in parts for step in part.steps()]
        # Groups come in the order in which they are first named; the members of each in one of chance, since a fixed
        # one would give somebody the worst place.
        order = {group: i for i, group in enumerate(dict.fromkeys(step.group for step in steps))}
        for number in range(self.options.rounds):
            round_began = time.monotonic()
            for group in order:
                members = [step for step in steps if step.group == group and number < step.rounds]
                random.shuffle(members)
                for step in members:
                    self._measure(step, number)
            self.rounds_done = number + 1
            now = time.monotonic()
            self.say(f"round {number + 1} of {self.options.rounds}: {now - round_began:.0f} s")
            if now - self.began + (now - round_began) * 0.8 > self.options.minutes * 60 \
                    and number + 1 < self.options.rounds:
                self.skip(f"rounds after the {number + 1}. of {self.options.rounds}",
                          f"{self.options.minutes:g} minutes would not do")
                break

    def end(self):
        """Ends all that was started, the last first, and removes what was written."""
        for running in self._processes:
            running.ask_to_stop()
        for running in reversed(self._processes):
            running.stop()
        self._processes.clear()
        shutil.rmtree(self.directory, ignore_errors=True)
