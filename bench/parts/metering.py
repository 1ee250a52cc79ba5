"""(j) What metering costs: the same with a build that reads nothing but the clock."""

from bench.harness.bench import Part, Row, Step
from bench.harness.twinpool import Twinpool

POOLS = ("process", "thread")
CLIENTS = 64


class Metering(Part):
    """The ratio is what is left of the jobs with metering."""

    name = "metering"
    title = f"Metering, {CLIENTS} clients; ratios to twinpool without it"

    def start(self):
        self._unmetered()
        for pool in POOLS:
            self.bench.warm_up(self._unmetered().port, self.bench.no_op(pool))

    def _unmetered(self):
        return self.bench.shared("unmetered", lambda: self.bench.keep(Twinpool(
            self.bench, name="unmetered", binary=self.bench.program("twinpool_unmetered"))))

    def _measure(self, which, pool, number):
        twinpool = self._unmetered() if which == "without" else self.bench.twinpool()
        self.bench.load(f"metering/{pool}/{which}", number, twinpool.port, CLIENTS, self.bench.no_op(pool))

    def steps(self):
        return [Step(f"metering {pool}", lambda number, pool=pool, which=which: self._measure(which, pool, number))
                for pool in POOLS for which in ("with", "without")]

    def rows(self):
        for pool in POOLS:
            yield Row(f"{pool}, without metering: jobs", f"metering/{pool}/without/rate")
            yield Row(f"{pool}, with metering: jobs", f"metering/{pool}/with/rate", f"metering/{pool}/without/rate")

    def notes(self):
        yield ("Without metering is unmetered.c in place of src/host/meter.c: times are taken, memory, faults, switches and CPU time "
               "are not, and the documents are as long.")
