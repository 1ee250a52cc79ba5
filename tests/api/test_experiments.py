"""POST /experiments/{name}: what must hold on any machine, however loaded, and the form of the rest."""

from tests.harness.comparisons import ComparisonCase
from tests.harness.timing import SANITIZER

NAMES = ["startup", "cpu_scaling", "io_scaling", "race", "shared_memory", "crash_containment", "gil"]


class ExperimentTest(ComparisonCase):
    """Each says what it has found, and whether that is what was claimed."""

    config = {"pools": {"process": {"hosts": 1}, "thread": {"threads": 1}},
              "tasks": {"crash": {"enabled": False}}}

    def run_experiment(self, name):
        """Runs one; answers its document, and its findings by name."""
        document = self.run_to_end(f"/experiments/{name}", None)
        experiment = document["experiment"]
        self.assertEqual((experiment["name"], document["request"]), (name, None))
        self.assertTrue(experiment["why"])
        self.assertIn(experiment["why"], document["verdict"]["text"])
        return document, {entry["name"]: entry["value"] for entry in experiment["findings"]}

    def assert_borne_out(self, document):
        """The claim holds."""
        self.assertIs(document["experiment"]["borne_out"], True, document["experiment"])

    def listed(self):
        """GET /experiments, by name."""
        listed = self.http.get("/experiments").json["experiments"]
        self.assertEqual([entry["name"] for entry in listed], NAMES)
        return {entry["name"]: entry for entry in listed}

    def test_crash_containment(self):
        """One of four, and four of four; users still cannot crash anything. And the list has it."""
        for entry in self.listed().values():
            self.assertEqual(entry["available"], entry["reason"] is None)
            self.assertTrue(entry["claim"].endswith("."))
            self.assertIsNone(entry["last"])
        document, found = self.run_experiment("crash_containment")
        self.assert_borne_out(document)
        self.assertEqual((found["lost by a crash among processes"],
                          found["lost by a crash among threads"]), (1, 4))
        self.assert_problem(self.http.submit("crash"), 422, "not enabled")
        for pool in ("process", "thread"):
            self.assertEqual(self.restarts(pool), {})
        self.assertEqual(self.listed()["crash_containment"]["last"], document["id"])
        self.assert_problem(self.http.post("/experiments/luck", None), 404, "luck", "race")
        self.assert_problem(self.http.post("/experiments/race", {"jobs": 1}), 422, field="jobs")

    def test_memory_and_the_race(self):
        """Own counts, one count, one shared count; the pool's own shared memory is left alone.

        With the lock nothing is ever lost; without it, chance decides.
        """
        self.http.run("counter", {"increments": 5, "memory": "shared"}, "process")
        document, found = self.run_experiment("shared_memory")
        self.assert_borne_out(document)
        self.assertLess(found["seen by the busiest of 4 processes"], 12000)
        self.assertEqual((found["seen by threads of one process"],
                          found["seen by processes in shared memory"]), (12000, 12000))
        job = self.http.run("counter", {"increments": 0, "memory": "shared"}, "process")
        self.assertEqual(job["result"]["value"], 5)
        document, found = self.run_experiment("race")
        self.assertEqual(found["lost with the lock"], 0)
        self.assertGreaterEqual(found["lost without the lock"], 0)
        self.assertIs(document["experiment"]["borne_out"],
                      True if found["lost without the lock"] > 0 else None)

    def test_startup(self):
        """Processes and threads are started, and their memory is read, as often as it says."""
        document, found = self.run_experiment("startup")
        processes, threads = document["contenders"]
        self.assertEqual((processes["cold_start"]["host_ms"]["count"],
                          threads["cold_start"]["thread_ms"]["count"]), (80, 20))
        self.assertGreater(found["more memory (PSS) of 4 processes"], 0)
        self.assertIsNot(document["experiment"]["borne_out"], False, document["experiment"])

    def test_io_scaling(self):
        """Eight workers wait for more than twice as much as one, on the slowest machine."""
        if SANITIZER:
            self.skipTest("it compares speeds, which a sanitizer changes")
        _, found = self.run_experiment("io_scaling")
        for kind in ("processes", "threads"):
            self.assertGreater(found[f"speed-up of 8 {kind}"], 2)

    def test_gil(self):
        """Threads in Python do not compute at once; processes are not said not to."""
        if SANITIZER:
            self.skipTest("it compares speeds, which a sanitizer changes")
        reason = self.listed()["gil"]["reason"]
        document, found = self.run_experiment("gil")
        if reason:
            self.assertIn(reason, document["experiment"]["why"])
            self.assertIsNone(document["experiment"]["borne_out"])
            return
        threads = [name for name in found if name.endswith("threads")]
        self.assertLess(found[threads[0]], 1.75)
        for contender in document["contenders"]:
            self.assertEqual(contender["jobs"], {"succeeded": 72}, contender["failure"])
