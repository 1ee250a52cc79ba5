"""POST /comparisons: the same work on several pools, and what may go wrong meanwhile."""

import os
import signal

from tests.harness import proc
from tests.harness.comparisons import ComparisonCase
from tests.harness.events import EventStream
from tests.harness.timing import wait_until

POOLS = ["process", "thread"]
SMALL = {"task": "primes", "args": {"n": 20000}, "pools": POOLS, "jobs": 12, "concurrency": 4,
         "warmup": 2, "repeats": 2}
# Jobs that are there to be interrupted.
LONG = {"task": "sleep", "args": {"ms": 60000}, "pools": POOLS, "warmup": 0}


def pids(document):
    """Hosts of all contenders."""
    return [pid for contender in document["contenders"] for pid in contender["pids"]]


def is_at_work(document):
    """Its hosts are up and jobs are on them."""
    return document["state"] == "running" and "one at a time" in (document["progress"]["message"] or "")


class MeasureTest(ComparisonCase):
    """What is measured."""

    def test_a_comparison(self):
        """All figures are there, agree with each other, and are nobody else's."""
        document = self.run_to_end("/comparisons", SMALL)
        self.assertEqual(document["request"], SMALL)
        self.assertEqual([entry["name"] for entry in document["contenders"]], POOLS)
        for contender, workers, lost in zip(document["contenders"], (2, 3), (1, 3), strict=True):
            with self.subTest(pool=contender["name"]):
                self.check_contender(contender, workers)
                self.assertEqual(contender["blast_radius"],
                                 {"running": workers, "lost": lost, "next_job": "succeeded"})
        self.assertEqual(len(document["contenders"][0]["rounds"]), 2)
        self.assertEqual(document["contenders"][0]["cold_start"]["thread_ms"]["count"], 0)
        self.assertGreater(document["contenders"][1]["cold_start"]["thread_ms"]["min"], 0)
        self.check_differences(document)
        self.assertIn("process", document["verdict"]["text"])
        self.assertEqual(document["progress"]["done"], document["progress"]["total"])
        self.assertEqual(self.http.get("/jobs").json["jobs"], [])
        for entry in self.http.stats()["pools"].values():
            self.assertEqual((entry["submitted"], entry["restarts"]["total"]), (0, 0))

    def check_contender(self, contender, workers):
        """One side of SMALL."""
        run = contender["run_ms"]
        self.assertEqual((contender["workers"], contender["jobs"], contender["hosts_lost"]),
                         (workers, {"succeeded": 24}, 0))
        self.assertEqual((run["count"], len(run["samples"])), (24, 24))
        ordered = sorted(run["samples"])
        self.assertEqual((run["min"], run["max"]), (ordered[0], ordered[-1]))
        self.assertAlmostEqual(run["p50"], (ordered[11] + ordered[12]) / 2, 2)
        self.assertLessEqual(run["p50"], run["p95"])
        self.assertLessEqual(run["p95"], run["p99"])
        for round_ in contender["rounds"]:
            self.assertEqual((round_["jobs"], round_["succeeded"], round_["serial_jobs"]),
                             (12, 12, 3))
        walls = [round_["wall_ms"] for round_ in contender["rounds"]]
        self.assertAlmostEqual(contender["wall_ms"]["value"], sum(walls) / 2, 2)
        self.assertGreater(contender["speedup"]["value"], 0)
        self.assertAlmostEqual(contender["efficiency"], contender["speedup"]["value"] / workers, 3)
        memory = contender["memory"]
        self.assertGreater(memory["private_bytes"], 0)
        self.assertLessEqual(memory["private_bytes"], memory["pss_bytes"])
        self.assertLess(memory["pss_bytes"], memory["rss_bytes"])
        self.assertGreater(contender["per_job"]["cpu_user_ms"]
                           + contender["per_job"]["cpu_system_ms"], 0)
        self.assertEqual(contender["pids"], [])

    def check_differences(self, document):
        """Ratios and differences are of the figures, and told apart by their intervals."""
        a, b = document["contenders"]
        found = {entry["figure"]: entry for entry in document["differences"]}
        self.assertEqual(set(found), {"throughput", "run_p50", "cpu", "memory"})
        for entry in found.values():
            interval = entry["ratio"] or entry["difference"]
            self.assertLessEqual(interval["low"], interval["value"])
            self.assertLessEqual(interval["value"], interval["high"])
            same = 1 if entry["ratio"] else 0
            self.assertEqual(entry["told_apart"],
                             interval["low"] > same or interval["high"] < same)
        walls = [[round_["wall_ms"] for round_ in side["rounds"]] for side in (a, b)]
        product = (walls[1][0] / walls[0][0]) * (walls[1][1] / walls[0][1])
        self.assertAlmostEqual(found["throughput"]["ratio"]["value"], product ** 0.5, 2)
        pss = [[round_["pss_bytes"] for round_ in side["rounds"]] for side in (a, b)]
        self.assertAlmostEqual(found["memory"]["difference"]["value"],
                               (sum(pss[0]) - sum(pss[1])) / 2, delta=1)

    def test_waiting_work_on_more_workers(self):
        """Three threads sleep three times as much as one; with one repeat there is no interval."""
        document = self.run_to_end("/comparisons", {
            "task": "sleep", "args": {"ms": 100}, "pools": ["thread"], "jobs": 6, "concurrency": 3,
            "warmup": 0, "repeats": 1})
        contender = document["contenders"][0]
        self.assertGreater(contender["speedup"]["value"], 1.5)
        self.assertIsNone(contender["speedup"]["low"])
        self.assertEqual(document["differences"], [])
        self.assertIn("times the work of one worker", document["verdict"]["text"])

    def test_jobs_that_fail(self):
        """They are counted, and nothing is made up about them."""
        document = self.run_to_end("/comparisons", {
            "task": "sha256", "pools": POOLS, "jobs": 2, "warmup": 0, "repeats": 2})
        for contender in document["contenders"]:
            self.assertEqual(contender["jobs"], {"failed": 4})
            self.assertIsNone(contender["throughput_per_s"])
            self.assertIsNone(contender["run_ms"]["p50"])
            self.assertIn("failed", contender["failure"])
        self.assertIn("cannot be compared", document["verdict"]["text"])

    def test_users_are_served_meanwhile(self):
        """Their jobs run on the pools' own hosts, and the noise report has them."""
        running = self.submit(task="sleep", args={"ms": 20}, pools=POOLS, jobs=24, warmup=0, repeats=2)
        hosts = {pool: self.host_pids(pool) for pool in POOLS}
        def run_some(document):
            for pool in POOLS:
                job = self.http.run("echo", 1, pool)
                self.assert_succeeded(job)
                self.assertIn(job["worker"]["pid"], hosts[pool])
            return document["state"] == "succeeded"
        document = self.wait_for(running["id"], run_some, "the comparison has ended")
        self.assertGreater(document["noise"]["other_jobs"], 0)
        self.assertFalse(document["noise"]["quiet"])
        self.assertIn("jobs of others", " ".join(document["noise"]["warnings"]))
        self.assertIn("not quiet", document["verdict"]["text"])

    def test_events(self):
        """Progress grows, then comes the whole document, as GET gives it."""
        running = self.submit(**{**SMALL, "task": "sleep", "args": {"ms": 10}})
        with EventStream(self.service, running["id"], below="/comparisons") as stream:
            events = list(stream)
        self.assertEqual(events[-1].name, "end")
        self.assertEqual(events[-1].data, self.get(running["id"]))
        self.assertGreater(len(events), 1)
        done = [event.data["done"] for event in events[:-1]]
        self.assertEqual(done, sorted(done))
        self.assertEqual({event.name for event in events[:-1]}, {"progress"})


class RefusedTest(ComparisonCase):
    """What is wrong with a request is said by its field."""

    def test_refused(self):
        """Names, numbers and arguments."""
        cases = (
            ({"task": "primes"}, "pools", "pools"),
            ({"pools": POOLS}, "task", "task"),
            ({**SMALL, "pools": ["process", "gpu"]}, "pools[1]", "gpu"),
            ({**SMALL, "pools": ["thread", "thread"]}, "pools[1]", "once"),
            ({**SMALL, "pools": []}, "pools", "1"),
            ({**SMALL, "task": "prims"}, "task", "prims"),
            ({**SMALL, "task": "(python_count)"}, "task", "no task"),
            ({**SMALL, "task": "leak", "args": {}}, "task", "not enabled"),
            ({**SMALL, "args": {"n": "x"}}, "args.n", "integer"),
            ({**SMALL, "jobs": 0}, "jobs", "1"),
            ({**SMALL, "jobs": 2000, "repeats": 30}, "jobs", "20000"),
            ({**SMALL, "concurrency": 257}, "concurrency", "256"),
            ({**SMALL, "task": "echo", "args": 1}, "task", "max_running"),
            ({**SMALL, "size": 1}, "size", "pools"),
        )
        self.restart_service({"tasks": {"echo": {"max_running": 1}}})
        for body, field, fragment in cases:
            with self.subTest(body=body):
                self.assert_problem(self.http.post("/comparisons", body), 422, fragment, field=field)
        self.assert_problem(self.http.post("/comparisons", "{"), 400)
        self.assertEqual(self.http.get("/comparisons").json, {"comparisons": []})

    def test_unknown(self):
        """An id that nothing has."""
        path = "/comparisons/019b7d3c-5b3e-7000-9c5e-0b6f5a2d1c30"
        for answer in (self.http.get(path), self.http.delete(path), self.http.get(path + "/events")):
            self.assert_problem(answer, 404, "no comparison")


class InterruptedTest(ComparisonCase):
    """However it ends, its jobs and hosts end with it."""

    def start_long(self):
        """One whose jobs are running; answers it and the pids of its hosts."""
        running = self.submit(**LONG)
        document = self.wait_for(running["id"], is_at_work, "its jobs run")
        self.assertEqual(len(pids(document)), 3)
        return document, pids(document)

    def test_cancelled(self):
        """At once, whatever its jobs are at; the next one in the queue begins; nothing is left."""
        before = self.server_descriptors()
        running, hosts = self.start_long()
        waiting = self.submit(**SMALL)
        self.assertEqual((waiting["state"], waiting["queue_position"]), ("queued", 1))
        answer = self.http.delete(f"/comparisons/{running['id']}")
        self.assert_status(answer, 202)
        self.assertEqual(answer.json["state"], "stopping")
        ended = self.get(running["id"], wait=20)
        self.assertEqual((ended["state"], ended["error"]["code"]), ("cancelled", "cancelled"))
        self.assertIsNone(ended["verdict"])
        self.wait_gone(hosts)
        self.assert_problem(self.http.delete(f"/comparisons/{running['id']}"), 409, "ended")
        self.assertEqual(self.get(waiting["id"], wait=60)["state"], "succeeded")
        wait_until(lambda: self.server_descriptors() <= before, "no descriptor is left open")

    def test_the_queue_is_bounded(self):
        """Eight wait; the ninth is told so. One that waits is cancelled at once."""
        running, _ = self.start_long()
        waiting = [self.submit(**SMALL)["id"] for _ in range(8)]
        for path, body in (("/comparisons", SMALL), ("/experiments/race", {})):
            self.assert_problem(self.http.post(path, body), 503, "one at a time")
        for comparison_id in waiting:
            answer = self.http.delete(f"/comparisons/{comparison_id}")
            self.assert_status(answer, 200)
            self.assertEqual(self.check(answer.json)["state"], "cancelled")
        listed = self.http.get("/comparisons").json["comparisons"]
        self.assertEqual([entry["id"] for entry in listed], [*reversed(waiting), running["id"]])

    def test_a_host_is_killed(self):
        """kill -9 of one costs its job at the most; the host is replaced, and the result has it."""
        running = self.submit(task="sleep", args={"ms": 400}, pools=["process"], jobs=4,
                              concurrency=2, warmup=0, repeats=1)
        document = self.wait_for(
            running["id"], lambda one: "all its workers" in (one["progress"]["message"] or ""),
            "all workers are at it")
        os.kill(pids(document)[0], signal.SIGKILL)
        ended = self.get(running["id"], wait=60)
        contender = ended["contenders"][0]
        self.assertEqual(ended["state"], "succeeded")
        self.assertEqual(contender["hosts_lost"], 1)
        # A job that had been handed over and had not begun is run again.
        self.assertIn(contender["jobs"], ({"succeeded": 3, "crashed": 1}, {"succeeded": 4}))
        if "crashed" in contender["jobs"]:
            self.assertIn("SIGKILL", contender["failure"])
        self.assertIn("lost 1 of its hosts", ended["verdict"]["text"])

    def test_another_configuration(self):
        """Hosts of the old one cannot go on: it says so."""
        running, hosts = self.start_long()
        self.service.signal(signal.SIGHUP)
        ended = self.get(running["id"], wait=30)
        self.assertEqual((ended["state"], ended["error"]["code"]), ("failed", "reloaded"))
        self.wait_gone(hosts)
        self.assertEqual(self.run_to_end("/comparisons", SMALL)["state"], "succeeded")

    def test_shutdown(self):
        """It does not hold the service up, and who waits for it is answered."""
        running, hosts = self.start_long()
        waiter = self.service.raw()
        self.addCleanup(waiter.close)
        waiter.send(f"GET /comparisons/{running['id']}?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_until(lambda: self.http.stats()["server"]["requests_waiting"] == 1, "somebody waits")
        self.stop_service()
        self.assertFalse([pid for pid in hosts if proc.is_running(pid)])
