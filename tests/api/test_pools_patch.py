"""PATCH /pools/{name}: a pool changes its size, pauses and goes on, and no job is lost by it."""

import threading

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.timing import wait_until

LONG_MS = 60000


class PatchCase(ServiceCase):
    """Small pools, changed by the tests."""

    config = {"pools": {"process": {"hosts": 2}, "thread": {"hosts": 1, "threads": 2}}}

    def patch(self, pool, **changes):
        """Changes a pool; answers its entry after that."""
        answer = self.http.patch_pool(pool, **changes)
        self.assert_status(answer, 200)
        self.assertEqual(answer.json["name"], pool)
        self.assertEqual(set(answer.json), set(self.http.pool(pool)))
        return answer.json

    def wait_workers(self, pool, count):
        """Waits until the pool has exactly so many workers, all up, and no other process."""
        def look():
            entry = self.http.pool(pool)
            return (entry["workers"] == count == len(entry["worker_list"])
                    and entry["workers_down"] == 0 and entry)
        return wait_until(look, f"pool {pool} has {count} workers")


class SizeTest(PatchCase):
    """hosts and max_hosts."""

    def test_it_grows(self):
        """The new hosts take what waits in the queue, at once."""
        for pool, threads in (("process", 1), ("thread", 2)):
            with self.subTest(pool=pool):
                busy = self.fill_pool(pool)
                queued = [self.http.start("sleep", {"ms": LONG_MS}, pool)["id"] for _ in range(2)]
                entry = self.patch(pool, hosts=4)
                self.assertEqual((entry["hosts"], entry["min_hosts"], entry["max_hosts"]),
                                 (4, 4, 4))
                for job_id in queued:
                    self.wait_for_state(job_id, "running")
                for job_id in busy:
                    self.assertEqual(self.http.job(job_id)["state"], "running")
                entry = self.wait_workers(pool, 4 * threads)
                self.assertEqual(len({worker["pid"] for worker in entry["worker_list"]}), 4)
                self.cancel_all(busy + queued)

    def test_it_shrinks_without_losing_a_job(self):
        """A busy host that is one too many runs its job to the end and then leaves."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                self.patch(pool, hosts=4)
                workers = self.http.pool(pool)["workers"]
                self.wait_workers(pool, workers)
                jobs = [self.http.start("sleep", {"ms": 700}, pool)["id"] for _ in range(workers)]
                pids = {self.wait_for_state(job_id, "running")["worker"]["pid"] for job_id in jobs}
                self.assertEqual(len(pids), 4)
                queued = [self.http.start("echo", n, pool)["id"] for n in range(5)]
                self.assertEqual(self.patch(pool, hosts=1)["hosts"], 1)
                for job_id in jobs + queued:
                    self.assert_succeeded(self.wait_ended(job_id))
                wait_until(lambda pids=pids: sum(map(proc.is_running, pids)) == 1,
                           "the other hosts are gone")
                self.wait_workers(pool, workers // 4)
                self.assertEqual(self.restarts(pool), {"resized": 3})
                self.assert_succeeded(self.http.run("echo", 1, pool))

    def test_up_and_down_and_up_again(self):
        """Generations go on counting; nothing is left over."""
        before = len(self.service.processes())
        for hosts in (5, 1, 3, 2, 6, 2):
            self.patch("process", hosts=hosts)
        self.wait_workers("process", 2)
        wait_until(lambda: len(self.service.processes()) == before, "no process is left over")
        for number in range(10):
            self.assert_succeeded(self.http.run("echo", number, "process"))

    def test_no_job_is_lost_while_it_changes_all_the_time(self):
        """Jobs flow on both pools while they are resized; each succeeds, at its first attempt."""
        stop = threading.Event()
        client = self.service.client()
        failures = []

        def resize():
            sizes = (1, 4, 2, 5, 1, 3)
            try:
                for number in range(10000):
                    if stop.wait(0.02):
                        return
                    for pool in ("process", "thread"):
                        answer = client.patch_pool(pool, hosts=sizes[number % len(sizes)])
                        if answer.status != 200:
                            raise AssertionError(answer)
            except Exception as wrong:  # noqa: BLE001 - handed to the test
                failures.append(wrong)
        thread = threading.Thread(target=resize)
        thread.start()
        try:
            for _ in range(15):
                batches = [self.http.submit_batch("sleep", [{"ms": 5}] * 40, pool, wait=0).json
                           for pool in ("process", "thread")]
                for batch in batches:
                    ended = self.http.get(f"/batches/{batch['id']}", wait=30).json
                    self.assertEqual(ended["by_state"], {"succeeded": 40})
        finally:
            stop.set()
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual({job["attempt"] for job in self.http.get("/jobs").json["jobs"]}, {1})


class PauseTest(PatchCase):
    """paused."""

    def test_a_paused_pool_queues_and_goes_on_when_resumed(self):
        """What runs goes on, what comes waits, the other pool does not notice."""
        for pool, other in (("process", "thread"), ("thread", "process")):
            with self.subTest(pool=pool):
                running = self.http.start("sleep", {"ms": 300}, pool)["id"]
                self.wait_for_state(running, "running")
                self.assertIs(self.patch(pool, paused=True)["paused"], True)
                queued = [self.http.start("echo", n, pool)["id"] for n in range(5)]
                self.assert_succeeded(self.wait_ended(running))
                self.assert_succeeded(self.http.run("echo", 1, other))
                self.assertEqual([self.http.job(job_id)["state"] for job_id in queued],
                                 ["queued"] * 5)
                entry = self.http.pool(pool)
                self.assertEqual((entry["workers_busy"], entry["queue_length"]), (0, 5))
                self.assert_status(self.http.get("/readyz"), 200)
                self.assertIs(self.patch(pool, paused=False)["paused"], False)
                for job_id in queued:
                    self.assert_succeeded(self.wait_ended(job_id))

    def test_the_queue_of_a_paused_pool_is_bounded_and_its_jobs_expire(self):
        """Pausing changes nothing for those who wait."""
        self.stop_service()
        self.start_service({"pools": {"process": {"queue_jobs": 2}}})
        self.patch("process", paused=True)
        expired = self.http.start("echo", 1, "process", queue_ttl_ms=50)["id"]
        self.assert_error(self.wait_ended(expired), "expired", "queue_ttl")
        jobs = [self.http.start("echo", n, "process")["id"] for n in range(2)]
        self.assert_problem(self.http.submit("echo", 1, "process"), 503, "process")
        self.cancel_all(jobs)
        self.assertEqual(self.wait_ended(jobs[0])["state"], "cancelled")

    def test_a_paused_pool_can_be_left_by_shutdown(self):
        """Its queued jobs are cancelled, the service leaves with status 0."""
        self.patch("thread", paused=True)
        self.http.start("echo", 1, "thread")
        self.stop_service()

    def test_size_and_pause_at_once(self):
        """One PATCH may change several things."""
        entry = self.patch("process", hosts=1, max_hosts=3, spare_hosts=1, paused=True)
        self.assertEqual((entry["min_hosts"], entry["max_hosts"], entry["spare_hosts"],
                          entry["paused"]), (1, 3, 1, True))
        self.assertEqual(self.http.get("/pools/process").json["max_hosts"], 3)
        stats = self.http.stats()["pools"]["process"]
        self.assertEqual((stats["min_hosts"], stats["max_hosts"], stats["spare_hosts"],
                          stats["paused"]), (1, 3, 1, True))


class RefusalTest(PatchCase):
    """What cannot be."""

    def test_an_unknown_pool_is_404_and_names_those_that_exist(self):
        """GET and PATCH."""
        self.assert_problem(self.http.patch_pool("gpu", hosts=1), 404, "gpu", "process", "thread")
        self.assert_problem(self.http.get("/pools/gpu"), 404, "gpu", "process", "thread")

    def test_what_is_wrong_is_422_and_changes_nothing(self):
        """Types, ranges, unknown fields, a maximum below the minimum: the field is named."""
        before = self.http.get("/pools/process").json
        for changes, field in (({"hosts": 0}, "hosts"), ({"hosts": 100000}, "hosts"),
                               ({"hosts": "2"}, "hosts"), ({"hosts": 1.5}, "hosts"),
                               ({"max_hosts": 0}, "max_hosts"),
                               ({"hosts": 3, "max_hosts": 2}, "max_hosts"),
                               ({"spare_hosts": -1}, "spare_hosts"),
                               ({"paused": 1}, "paused"), ({"paused": None}, "paused"),
                               ({"threads": 3}, "threads"),
                               ({"paused": True, "colour": "red"}, "colour")):
            with self.subTest(changes=changes):
                self.assert_problem(self.http.patch_pool("process", **changes), 422, field=field)
        after = self.http.get("/pools/process").json
        for name in ("hosts", "min_hosts", "max_hosts", "spare_hosts", "paused"):
            self.assertEqual(after[name], before[name])

    def test_a_body_that_is_no_object_is_refused(self):
        """400 for no JSON, 422 for another value, 415 for another type."""
        def patch(body, content_type="application/json"):
            return self.http.request("PATCH", "/pools/process", body,
                                     {"Content-Type": content_type})
        self.assert_status(patch("{"), 400)
        self.assert_status(patch("[]"), 422)
        self.assert_status(patch("{}", "text/plain"), 415)
        self.assert_status(patch("{}"), 200)

    def test_other_methods_are_405(self):
        """With Allow."""
        answer = self.http.delete("/pools/process")
        self.assert_status(answer, 405)
        self.assertIn("PATCH", answer.headers["Allow"])
