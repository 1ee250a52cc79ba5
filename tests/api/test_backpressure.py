"""Everything is bounded: a full queue says when to come back, ended jobs are forgotten in order."""

from tests.harness.case import ServiceCase
from tests.harness.timing import wait_until

QUEUE_JOBS = 5


class QueueTest(ServiceCase):
    """A queue that is full refuses, and refuses nothing else."""

    config = {"pools": {"process": {"hosts": 1, "queue_jobs": QUEUE_JOBS},
                        "thread": {"threads": 1, "queue_bytes": 10000}}}

    def test_a_full_queue_is_503_with_retry_after(self):
        """The pool is named, a whole number of seconds told, the refusal counted."""
        busy = self.fill_pool("process")
        queued = [self.http.start("echo", n, "process")["id"] for n in range(QUEUE_JOBS)]
        answer = self.http.submit("echo", 1, "process")
        self.assert_problem(answer, 503, "process")
        self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
        pool = self.http.stats()["pools"]["process"]
        self.assertEqual((pool["submitted"], pool["rejected"], pool["queue"]["length"]),
                         (1 + QUEUE_JOBS, 1, QUEUE_JOBS))
        self.assert_succeeded(self.http.run("echo", 1, "thread"))
        self.assert_status(self.http.get("/readyz"), 200)
        self.cancel_all(busy)
        for job_id in queued:
            self.assert_succeeded(self.wait_ended(job_id))
        self.assert_succeeded(self.http.run("echo", 1, "process"))

    def test_the_bytes_of_waiting_arguments_are_bounded(self):
        """Two small jobs fit, a third of 6000 bytes does not."""
        busy = self.fill_pool("thread")
        self.http.start("echo", "x" * 6000, "thread")
        answer = self.http.submit("echo", "x" * 6000, "thread")
        self.assert_problem(answer, 503, "thread")
        self.assertEqual(self.http.start("echo", "x", "thread")["state"], "queued")
        self.assertGreaterEqual(self.http.stats()["pools"]["thread"]["queue"]["bytes"], 6000)
        self.cancel_all(busy)

    def test_cancelling_makes_room(self):
        """A cancelled job leaves the queue at once."""
        busy = self.fill_pool("process")
        queued = [self.http.start("echo", n, "process")["id"] for n in range(QUEUE_JOBS)]
        self.assert_status(self.http.submit("echo", 1, "process"), 503)
        self.http.delete(f"/jobs/{queued[2]}")
        self.assert_status(self.http.submit("echo", 1, "process", wait=0), 202)
        self.cancel_all(busy)

    def test_the_queue_is_first_in_first_out(self):
        """Jobs of one worker start in the order of their submission."""
        busy = self.fill_pool("process")
        queued = [self.http.start("echo", n, "process")["id"] for n in range(QUEUE_JOBS)]
        self.cancel_all(busy)
        starts = [self.wait_ended(job_id)["started_at"] for job_id in queued]
        self.assertEqual(starts, sorted(starts))


class RetentionTest(ServiceCase):
    """Ended jobs are kept up to a count, a size and an age."""

    config = {"retention": {"jobs": 10}}

    def test_the_oldest_is_forgotten_first(self):
        """Of 15 ended jobs the last 10 are there; a forgotten one is 404."""
        ids = [self.http.run("echo", n)["id"] for n in range(15)]
        for job_id in ids[:5]:
            self.assert_problem(self.http.get(f"/jobs/{job_id}"), 404)
        for job_id in ids[5:]:
            self.assert_succeeded(self.http.job(job_id))
        self.assertEqual([job["id"] for job in self.http.get("/jobs").json["jobs"]], ids[:4:-1])
        jobs = self.http.stats()["jobs"]
        self.assertEqual((jobs["kept"], jobs["forgotten"], jobs["live"]), (10, 5, 0))

    def test_live_jobs_are_never_forgotten(self):
        """However many end meanwhile."""
        live = self.http.start("sleep", {"ms": 60000}, "thread")["id"]
        for n in range(30):
            self.http.run("echo", n, "process")
        self.assertIn(self.http.job(live)["state"], ("queued", "running"))
        self.cancel_all([live])

    def test_a_batch_keeps_its_jobs(self):
        """A batch larger than the bound is answered whole."""
        answer = self.http.submit_batch("echo", list(range(40)))
        self.assert_status(answer, 200)
        self.assertEqual([entry["result"] for entry in answer.json["results"]], list(range(40)))

    def test_the_bytes_are_bounded(self):
        """Large results push older ones out, and the account says how much is held."""
        self.stop_service()
        self.start_service({"retention": {"bytes": 300000}})
        ids = [self.http.run("echo", "x" * 100000)["id"] for _ in range(6)]
        kept = [job_id for job_id in ids if self.http.get(f"/jobs/{job_id}").status == 200]
        self.assertEqual(kept, ids[-2:])
        self.assertLessEqual(self.http.stats()["jobs"]["kept_bytes"], 300000)

    def test_the_age_is_bounded(self):
        """A job older than retention.age_ms goes, without anybody submitting another."""
        self.stop_service()
        self.start_service({"retention": {"age_ms": 200}})
        job_id = self.http.run("echo", 1)["id"]
        wait_until(lambda: self.http.get(f"/jobs/{job_id}").status == 404, "the job is forgotten")
        self.assertEqual(self.http.stats()["jobs"]["kept"], 0)


class ConnectionTest(ServiceCase):
    """The number of connections is bounded."""

    config = {"server": {"max_connections": 20}}

    def test_the_service_survives_more_connections_than_it_takes(self):
        """Those beyond the bound are turned away; when some leave, others get in."""
        connections = [self.service.raw() for _ in range(40)]
        for connection in connections:
            connection.close()

        def serves():
            client = self.service.client()
            try:
                return client.get("/healthz").status == 200
            except OSError:
                return False
            finally:
                client.close()
        wait_until(serves, "a new connection is served")
