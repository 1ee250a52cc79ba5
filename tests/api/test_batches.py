"""POST /batches: one task over a list of arguments, as multiprocessing's Pool.map."""

from tests.harness.case import ServiceCase
from tests.harness.timing import SCALE


class BatchTest(ServiceCase):
    """Batches run in parallel, answer in order, and tell who failed."""

    def run_batch(self, task, args, pool=None, **fields):
        """Runs a batch to its end."""
        answer = self.http.submit_batch(task, args, pool, **fields)
        self.assert_status(answer, 200)
        return answer.json

    def test_results_come_in_the_order_of_the_arguments(self):
        """Whoever finishes first, result i belongs to args[i]."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                batch = self.run_batch("echo", list(range(200)), pool)
                self.assertEqual([entry["result"] for entry in batch["results"]], list(range(200)))
                self.assertEqual((batch["task"], batch["pool"], batch["state"], batch["count"],
                                  batch["ended"], batch["by_state"]),
                                 ("echo", pool, "succeeded", 200, 200, {"succeeded": 200}))

    def test_each_entry_is_a_job_of_its_own(self):
        """Every result names its job, which knows its batch."""
        batch = self.run_batch("primes", [{"n": 10}, {"n": 100}], labels={"run": "7"})
        for entry, count in zip(batch["results"], (4, 25), strict=True):
            job = self.http.job(entry["job"])
            self.assertEqual((job["batch"], job["result"], job["labels"]),
                             (batch["id"], {"count": count}, {"run": "7"}))
            self.assertEqual(entry["result"], job["result"])
            self.assertEqual(entry["run_ms"], job["timing"]["run_ms"])
            self.assertIsNone(entry["error"])

    def test_partial_failure_is_told_entry_by_entry(self):
        """One bad argument fails its own job and marks the batch; the others have their results."""
        args = [{"text": "a"}, {}, {"text": "b"}]
        batch = self.run_batch("sha256", args)
        self.assertEqual(batch["state"], "failed")
        self.assertEqual(batch["by_state"], {"succeeded": 2, "failed": 1})
        self.assertEqual([entry["state"] for entry in batch["results"]],
                         ["succeeded", "failed", "succeeded"])
        self.assertEqual(batch["results"][1]["error"]["code"], "task_error")
        self.assertIsNone(batch["results"][1]["result"])
        self.assertEqual(batch["results"][2]["result"]["bytes"], 1)

    def test_wall_time_is_less_than_the_sum_of_the_run_times(self):
        """Four sleeps of 300 ms on four threads take about 300 ms, not 1200."""
        batch = self.run_batch("sleep", [{"ms": 300}] * 4, "thread")
        timing = batch["timing"]
        self.assertGreaterEqual(timing["run_sum_ms"], 1200)
        self.assertGreaterEqual(timing["wall_ms"], 300)
        self.assertLess(timing["wall_ms"], 300 + 300 * SCALE)
        self.assertAlmostEqual(timing["speedup"], timing["run_sum_ms"] / timing["wall_ms"], 1)

    def test_an_answer_before_the_end_shows_what_there_is(self):
        """wait=0: 202 with Location; entries that have not ended say so; GET waits for the rest."""
        answer = self.http.submit_batch("sleep", [{"ms": 0}, {"ms": 700}, {"ms": 700}], "process",
                                        wait=0)
        self.assert_status(answer, 202)
        batch = answer.json
        self.assertEqual(answer.headers["Location"], f"/batches/{batch['id']}")
        self.assertEqual((batch["state"], batch["count"]), ("running", 3))
        self.assertIsNone(batch["finished_at"])
        for entry in batch["results"]:
            self.assertIn(entry["state"], ("queued", "running", "succeeded"))
        early = self.http.get(answer.headers["Location"], wait=0.2)
        self.assert_status(early, 200)
        self.assertEqual(early.json["state"], "running")
        ended = self.http.get(answer.headers["Location"], wait=20)
        self.assert_status(ended, 200)
        self.assertEqual((ended.json["state"], ended.json["ended"]), ("succeeded", 3))
        self.assertIsNotNone(ended.json["finished_at"])

    def test_an_empty_or_wrong_batch_is_refused(self):
        """args must be a list that the task's schema accepts; the place of the fault is named."""
        cases = (
            ({"task": "primes", "args": [{"n": 1}, {"n": 2}, {"n": 3}, {"n": "x"}]}, "args[3].n"),
            ({"task": "primes", "args": {"n": 1}}, "args"),
            ({"task": "primes"}, "args"),
            ({"task": "primes", "args": []}, "args"),
            ({"task": "prims", "args": [1]}, "task"),
            ({"task": "echo", "args": [1], "pool": "gpu"}, "pool"),
            ({"task": "echo", "args": [1], "size": 1}, "size"),
        )
        for body, field in cases:
            with self.subTest(body=body):
                self.assert_problem(self.http.post("/batches", body), 422, field=field)
        self.assertEqual(self.http.get("/jobs").json["jobs"], [])

    def test_an_unknown_batch_is_404(self):
        """Also for an id that is none."""
        for batch_id in ("00000000-0000-7000-8000-000000000000", "x"):
            with self.subTest(batch_id=batch_id):
                self.assert_problem(self.http.get(f"/batches/{batch_id}"), 404)


class BatchLimitTest(ServiceCase):
    """A batch is taken whole or not at all."""

    config = {"server": {"max_batch_jobs": 50},
              "pools": {"process": {"hosts": 1, "queue_jobs": 20}}}

    def test_a_batch_beyond_the_queue_is_refused_whole(self):
        """503 with Retry-After; not one of its jobs exists."""
        answer = self.http.submit_batch("echo", [0] * 40, "process")
        self.assert_problem(answer, 503)
        self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
        self.assertEqual(self.http.get("/jobs").json["jobs"], [])
        self.assertEqual(self.http.stats()["pools"]["process"]["submitted"], 0)

    def test_a_batch_that_fits_is_taken_afterwards(self):
        """The refusal leaves nothing behind in the queue."""
        self.http.submit_batch("echo", [0] * 40, "process")
        self.assert_status(self.http.submit_batch("echo", [0] * 15, "process"), 200)

    def test_a_batch_beyond_its_own_limit_is_refused(self):
        """server.max_batch_jobs is named."""
        answer = self.http.submit_batch("echo", [0] * 51, "thread")
        self.assert_problem(answer, 422, "50", field="args")
