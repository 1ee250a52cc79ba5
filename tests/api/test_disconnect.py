"""cancel_on_disconnect: a client that hangs up while it waits takes its job with it, if it asked to."""

import socket
import time

from tests.harness.case import ServiceCase
from tests.harness.timing import seconds, wait_until

LONG_MS = 60000
POOLS = ("process", "thread")


class DisconnectTest(ServiceCase):
    """The client goes, its job goes or stays."""

    config = {"pools": {"process": {"hosts": 2}, "thread": {"threads": 2}}}

    def post_and_wait_until(self, state, count, path, body):
        """Sends a POST that waits; answers the connection and the ids of its jobs in that state."""
        known = {job["id"] for job in self.http.get("/jobs").json["jobs"]}
        connection = self.service.raw()
        self.addCleanup(connection.close)
        connection.send_post(path, body)

        def look():
            new = [job["id"] for job in self.http.get("/jobs", state=state).json["jobs"]
                   if job["id"] not in known]
            return new if len(new) == count else None
        return connection, wait_until(look, f"{count} new jobs are {state}")

    def body(self, pool, **fields):
        """A job that goes on for long."""
        return {"task": "sleep", "args": {"ms": LONG_MS}, "pool": pool, **fields}

    def assert_cancelled_soon(self, job_ids):
        """Ended, long before it would have by itself."""
        begin = time.monotonic()
        for job_id in job_ids:
            self.assert_error(self.wait_ended(job_id), "cancelled", "cancelled")
        self.assertLess(time.monotonic() - begin, seconds(5))

    def test_a_running_job_is_cancelled(self):
        """On either pool; its worker is free again."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                connection, jobs = self.post_and_wait_until(
                    "running", 1, "/jobs", self.body(pool, cancel_on_disconnect=True))
                connection.close()
                self.assert_cancelled_soon(jobs)
                wait_until(lambda pool=pool: self.http.pool(pool)["workers_busy"] == 0,
                           "the worker is free")

    def test_a_queued_and_a_scheduled_job_are_cancelled(self):
        """They never run."""
        busy = self.fill_pool("process")
        for state, fields in (("queued", {}), ("scheduled", {"delay_ms": LONG_MS})):
            connection, jobs = self.post_and_wait_until(
                state, 1, "/jobs", self.body("process", cancel_on_disconnect=True, **fields))
            connection.close()
            self.assert_cancelled_soon(jobs)
            self.assertIsNone(self.http.job(jobs[0])["started_at"])
        self.cancel_all(busy)

    def test_a_batch_is_cancelled_as_a_whole(self):
        """What runs and what waits."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                body = {"task": "sleep", "args": [{"ms": LONG_MS}] * 5, "pool": pool,
                        "cancel_on_disconnect": True}
                connection, running = self.post_and_wait_until("running", 2, "/batches", body)
                jobs = [job["id"] for job in self.http.get("/jobs", pool=pool).json["jobs"]]
                connection.close()
                self.assert_cancelled_soon(jobs)
                self.assertLessEqual(set(running), set(jobs))
                batch = self.http.get(f"/batches/{self.http.job(jobs[0])['batch']}").json
                self.assertEqual(batch["by_state"], {"cancelled": 5})

    def test_without_it_the_job_goes_on(self):
        """Off by default."""
        for pool in POOLS:
            for fields in ({}, {"cancel_on_disconnect": False}):
                with self.subTest(pool=pool, fields=fields):
                    connection, jobs = self.post_and_wait_until(
                        "running", 1, "/jobs",
                        {**self.body(pool, **fields), "args": {"ms": 1000}})
                    connection.close()
                    self.assert_succeeded(self.wait_ended(jobs[0]))

    def test_who_only_reads_cancels_nothing(self):
        """The one that submitted may; another that waits by GET and hangs up does not."""
        job_id = self.http.start("sleep", {"ms": 1000}, "process",
                                 cancel_on_disconnect=True)["id"]
        with self.service.raw() as reader:
            reader.send(f"GET /jobs/{job_id}?wait=20 HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            wait_until(lambda: self.http.stats()["jobs"]["waiters"] == 1, "it waits")
        self.assert_succeeded(self.wait_ended(job_id))

    def test_who_does_not_wait_cancels_nothing(self):
        """wait=0: the answer is there before the client goes."""
        connection = self.service.raw()
        connection.send_post("/jobs?wait=0", {**self.body("process", cancel_on_disconnect=True),
                                              "args": {"ms": 500}})
        answer = connection.read_answer()
        connection.close()
        self.assertEqual(answer.status, 202)
        self.assert_succeeded(self.wait_ended(answer.json["id"]))

    def test_one_that_was_answered_can_be_used_further(self):
        """Neither the answer nor the next request on the connection is harmed."""
        with self.service.raw() as connection:
            for _ in range(3):
                connection.send_post("/jobs", {"task": "sleep", "args": {"ms": 50},
                                               "cancel_on_disconnect": True})
                answer = connection.read_answer()
                self.assertEqual((answer.status, answer.json["state"]), (200, "succeeded"))

    def test_a_half_closed_connection_counts_as_gone(self):
        """Who has said its last word cannot be told from who is gone."""
        connection, jobs = self.post_and_wait_until(
            "running", 1, "/jobs", self.body("thread", cancel_on_disconnect=True))
        connection.socket.shutdown(socket.SHUT_WR)
        self.assert_cancelled_soon(jobs)

    def test_many_that_go_at_once(self):
        """Every job of theirs is cancelled, nothing is left of the connections."""
        connections = [self.service.raw() for _ in range(30)]
        for connection in connections:
            connection.send_post("/jobs", self.body("process", cancel_on_disconnect=True))
        wait_until(lambda: self.http.stats()["jobs"]["live"] == 30, "all are submitted")
        for connection in connections:
            connection.close()
        wait_until(lambda: self.http.stats()["jobs"]["live"] == 0, "all jobs have ended")
        self.assertEqual(self.http.stats()["pools"]["process"]["ended"]["cancelled"], 30)
        wait_until(lambda: self.http.stats()["server"]["connections"] == 1, "they are gone")
