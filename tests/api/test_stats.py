"""GET /stats and GET /pools: numbers that add up and workers that exist."""

import os

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.documents import instant
from tests.harness.timing import wait_until

LATENCIES = ("queued_ms", "run_ms", "total_ms")


class StatsTest(ServiceCase):
    """One consistent snapshot."""

    def pool_stats(self, pool):
        """One pool of /stats."""
        return self.http.stats()["pools"][pool]

    def assert_adds_up(self, stats):
        """submitted = ended + live, per pool and over all; workers = busy + idle + down."""
        live = 0
        for name, pool in stats["pools"].items():
            ended = sum(pool["ended"].values())
            live += pool["submitted"] - ended
            workers = pool["workers"]
            self.assertEqual(workers["busy"] + workers["idle"] + workers["down"],
                             workers["total"], name)
            self.assertEqual(workers["total"], pool["hosts"] * pool["threads"])
            self.assertEqual(len(pool["worker_list"]), workers["total"])
            self.assertGreaterEqual(pool["submitted"], ended)
            self.assertEqual(sum(pool["ended_by_cause"].values()),
                             ended - pool["ended"]["succeeded"], name)
        self.assertEqual(stats["jobs"]["live"], live)
        ended_all = sum(sum(pool["ended"].values()) for pool in stats["pools"].values())
        self.assertEqual(stats["jobs"]["kept"] + stats["jobs"]["forgotten"], ended_all)

    def test_the_numbers_add_up_over_every_kind_of_end(self):
        """Each end is counted once, under its state, in its pool."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                for n in range(20):
                    self.http.run("echo", n, pool)
                self.http.run("sha256", {}, pool)
                self.http.run("sleep", {"ms": 60000}, pool, timeout_ms=50)
                self.cancel_all([self.http.start("sleep", {"ms": 60000}, pool)["id"]])
                self.http.run("crash", None, pool)
                stats = self.http.stats()
                self.assertEqual(stats["pools"][pool]["ended"],
                                 {"succeeded": 20, "failed": 1, "timed_out": 1, "cancelled": 1,
                                  "crashed": 1, "expired": 0})
                self.assertEqual({cause: count for cause, count
                                  in stats["pools"][pool]["ended_by_cause"].items() if count},
                                 {"task_error": 1, "wall_limit": 1, "cancelled": 1, "signal": 1})
                self.assertEqual(stats["pools"][pool]["submitted"], 24)
                self.assert_adds_up(stats)

    def test_the_numbers_add_up_while_jobs_run(self):
        """A snapshot in the middle of the work is as consistent as one at its end."""
        for _ in range(30):
            self.http.start("sleep", {"ms": 20}, "thread")
            self.http.start("primes", {"n": 100000}, "process")
            self.assert_adds_up(self.http.stats())
        wait_until(lambda: self.http.stats()["jobs"]["live"] == 0, "all jobs have ended")
        self.assert_adds_up(self.http.stats())

    def test_queue_and_workers_are_shown(self):
        """Busy workers name their job; the queue has a length and an oldest wait."""
        running = self.fill_pool("process")
        queued = [self.http.start("echo", n, "process")["id"] for n in range(3)]
        stats = wait_until(lambda: (stats := self.pool_stats("process"))["queue"]
                           ["oldest_wait_ms"] > 20 and stats, "the queue grows old")
        self.assertEqual((stats["workers"], stats["queue"]["length"]),
                         ({"total": 2, "busy": 2, "idle": 0, "down": 0}, 3))
        self.assertEqual({worker["job"] for worker in stats["worker_list"]}, set(running))
        for worker in stats["worker_list"]:
            self.assertEqual((worker["state"], worker["task"]), ("busy", "sleep"))
            self.assertGreater(worker["busy_ms"], 0)
        self.assertEqual(self.http.pool("process")["queue_length"], 3)
        self.cancel_all(running)
        for job_id in queued:
            self.assert_succeeded(self.wait_ended(job_id))
        stats = self.pool_stats("process")
        self.assertEqual(stats["queue"], {"length": 0, "bytes": 0, "oldest_wait_ms": 0})
        self.assertEqual(stats["workers"], {"total": 2, "busy": 0, "idle": 2, "down": 0})

    def test_percentiles_are_ordered_and_bracket_what_was_seen(self):
        """p50 ≤ p90 ≤ … ≤ max, and known sleeps lie where they belong."""
        for ms in (20,) * 18 + (200, 300):
            self.http.run("sleep", {"ms": ms}, "thread")
        latency = self.pool_stats("thread")["latency"]
        for name in LATENCIES:
            with self.subTest(name=name):
                values = [latency[name][key] for key in ("p50", "p90", "p95", "p99", "p999", "max")]
                self.assertEqual(values, sorted(values))
                self.assertEqual(latency[name]["count"], 20)
                self.assertLessEqual(latency[name]["mean"], latency[name]["max"])
        self.assertGreaterEqual(latency["run_ms"]["p50"], 20)
        self.assertLess(latency["run_ms"]["p50"], 200)
        self.assertGreaterEqual(latency["run_ms"]["p95"], 200)
        self.assertGreaterEqual(latency["run_ms"]["max"], 300)

    def test_a_pool_without_jobs_shows_zeros(self):
        """No number is missing before there is anything to count."""
        for pool in ("process", "thread"):
            stats = self.pool_stats(pool)
            self.assertEqual((stats["submitted"], stats["rejected"], sum(stats["ended"].values())),
                             (0, 0, 0))
            self.assertEqual(set(stats["throughput"]), {"1s", "10s", "60s"})
            for name in LATENCIES:
                self.assertEqual(set(stats["latency"][name].values()), {0})
            self.assertEqual(stats["restarts"]["total"], 0)
            self.assertIsNone(stats["restarts"]["last"])

    def test_throughput_counts_ended_jobs(self):
        """Jobs of the last seconds show in the rates."""
        def rate():
            self.http.run("echo", 1, "thread")
            return self.pool_stats("thread")["throughput"]["10s"] > 1
        wait_until(rate, "the rate over 10 s shows the jobs", 15)

    def test_the_server_tells_the_truth_about_itself(self):
        """pids, resident set and times agree with /proc."""
        stats = self.http.stats()
        server = stats["server"]
        self.assertEqual(server["master_pid"], self.service.master_pid)
        self.assertEqual(proc.parent_of(server["pid"]), server["master_pid"])
        self.assertAlmostEqual(server["rss_bytes"], proc.rss_bytes(server["pid"]),
                               delta=4 << 20)
        self.assertLessEqual(instant(stats["started_at"]), instant(stats["taken_at"]))
        self.assertGreater(stats["uptime_ms"], 0)
        self.assertGreaterEqual(server["connections"], 1)
        self.assertGreaterEqual(server["requests_open"], 1)
        self.assertEqual(server["requests_waiting"], 0)
        self.assertTrue(stats["version"])

    def test_responses_are_counted_by_class(self):
        """Two good ones and three bad ones more are two and three more."""
        before = self.http.stats()["server"]["responses"]
        self.http.get("/healthz")
        for _ in range(3):
            self.http.get("/nothing")
        after = self.http.stats()["server"]["responses"]
        self.assertEqual((after["2xx"] - before["2xx"], after["4xx"] - before["4xx"],
                          after["5xx"] - before["5xx"]), (2, 3, 0))

    def test_requests_that_wait_are_counted(self):
        """A client that waits for its job shows in requests_waiting and in waiters."""
        with self.service.raw() as connection:
            connection.send_post("/jobs", {"task": "sleep", "args": {"ms": 60000}})
            wait_until(lambda: self.http.stats()["server"]["requests_waiting"] == 1,
                       "the waiting request is counted")
            self.assertEqual(self.http.stats()["jobs"]["waiters"], 1)
            job = self.http.get("/jobs").json["jobs"][0]
            self.cancel_all([job["id"]])
            self.assertEqual(connection.read_answer().status, 200)
        self.assertEqual(self.http.stats()["server"]["requests_waiting"], 0)


class PoolsTest(ServiceCase):
    """GET /pools: the shape, the settings and the workers."""

    config = {"pools": {"mixed": {"hosts": 2, "threads": 3, "timeout_ms": 1234}}}

    def test_the_pools_are_those_of_the_configuration(self):
        """Shape and settings, in the order of the file."""
        document = self.http.get("/pools").json
        self.assertEqual(document["default"], "process")
        self.assertEqual([(pool["name"], pool["hosts"], pool["threads"], pool["workers"])
                          for pool in document["pools"]],
                         [("process", 2, 1, 2), ("thread", 1, 4, 4), ("mixed", 2, 3, 6)])
        self.assertEqual(self.http.pool("mixed")["timeout_ms"], 1234)
        self.assertEqual(self.http.pool("process")["queue_jobs"], 10000)

    def test_each_worker_is_a_live_thread_of_a_child_of_the_master(self):
        """pid and tid are real: the workers of a P×1 pool are their processes."""
        for pool in self.http.get("/pools").json["pools"]:
            workers = pool["worker_list"]
            self.assertEqual(sorted((worker["host"], worker["thread"]) for worker in workers),
                             [(host, thread) for host in range(pool["hosts"])
                              for thread in range(pool["threads"])])
            self.assertEqual(len({worker["tid"] for worker in workers}), pool["workers"])
            self.assertEqual(len({worker["pid"] for worker in workers}), pool["hosts"])
            for worker in workers:
                with self.subTest(pool=pool["name"], worker=worker):
                    self.assertEqual(proc.parent_of(worker["pid"]), self.service.master_pid)
                    self.assertIn(worker["tid"], proc.threads(worker["pid"]))
                    if pool["threads"] == 1:
                        self.assertEqual(worker["tid"], worker["pid"])
                    self.assertEqual((worker["state"], worker["job"]), ("idle", None))
                    self.assertGreaterEqual(worker["generation"], 1)
                    self.assertAlmostEqual(worker["rss_bytes"], proc.rss_bytes(worker["pid"]),
                                           delta=4 << 20)

    def test_the_processes_are_master_server_and_hosts(self):
        """Nothing else runs: one master, one server, and each host."""
        hosts = {worker["pid"] for pool in self.http.get("/pools").json["pools"]
                 for worker in pool["worker_list"]}
        expected = hosts | {self.service.master_pid, self.service.server_pid}
        self.assertEqual(set(self.service.processes()), expected)
        self.assertEqual(len(proc.threads(self.service.master_pid)), 1)

    def test_jobs_done_are_counted_per_worker(self):
        """The workers' counts sum up to the jobs that ran."""
        for n in range(30):
            self.http.run("echo", n, "mixed")
        self.assertEqual(sum(worker["jobs_done"]
                             for worker in self.http.pool("mixed")["worker_list"]), 30)

    def test_hosts_hold_no_descriptor_of_others(self):
        """A host has its own channel and neither the listening socket nor a client's connection."""
        server = proc.descriptors(self.service.server_pid).values()
        sockets_of_server = {target for target in server if target.startswith("socket:")}
        for pid in {worker["pid"] for worker in self.http.pool("process")["worker_list"]}:
            with self.subTest(pid=pid):
                own = {target for target in proc.descriptors(pid).values()
                       if target.startswith("socket:")}
                self.assertEqual(own & sockets_of_server, set())
                self.assertLessEqual(len(own), 1)
        self.assertEqual(os.readlink(f"/proc/{self.service.master_pid}/fd/0"), "/dev/null")
