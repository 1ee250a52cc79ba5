"""SIGTERM: no new work, running jobs end within the grace, every client is answered, exit 0."""

import signal
import socket
import time

from tests.harness.case import BASE_CONFIG, ServiceCase
from tests.harness.service import Service
from tests.harness.timing import seconds, wait_until


class ShutdownTest(ServiceCase):
    """A service that is asked to leave."""

    config = {"server": {"shutdown_grace_ms": 6000}, "pools": {"process": {"hosts": 1}}}

    def post_and_wait_until(self, state, body):
        """A raw client that waits for a job it has submitted; answers it and the job's id."""
        known = {job["id"] for job in self.http.get("/jobs").json["jobs"]}
        connection = self.service.raw()
        self.addCleanup(connection.close)
        connection.send_post("/jobs", body)

        def look():
            new = [job for job in self.http.get("/jobs", state=state).json["jobs"]
                   if job["id"] not in known]
            return new[0]["id"] if new else None
        return connection, wait_until(look, f"the new job is {state}")

    def is_refused(self):
        """Whether a new connection is refused."""
        try:
            socket.create_connection((self.service.host, self.service.port), 1).close()
            return False
        except OSError:
            return True

    def test_running_jobs_end_and_their_clients_are_answered(self):
        """200 with the result, though the signal came in the middle; meanwhile no one gets in."""
        waiters = [self.post_and_wait_until("running", {"task": "sleep", "args": {"ms": 1200},
                                                        "pool": pool})[0]
                   for pool in ("process", "thread")]
        self.service.signal(signal.SIGTERM)
        wait_until(self.is_refused, "new connections are refused")
        for connection in waiters:
            answer = connection.read_answer()
            self.assertEqual((answer.status, answer.json["state"]), (200, "succeeded"))
        self.judge_end(lambda status: status == 0)

    def test_queued_jobs_are_cancelled_and_their_clients_answered(self):
        """What has not begun does not begin."""
        running, _ = self.post_and_wait_until("running", {"task": "sleep", "args": {"ms": 800},
                                                          "pool": "process"})
        queued, _ = self.post_and_wait_until("queued", {"task": "echo", "args": 1,
                                                        "pool": "process"})
        self.service.signal(signal.SIGTERM)
        answer = queued.read_answer()
        self.assertEqual((answer.status, answer.json["state"], answer.json["error"]["code"]),
                         (200, "cancelled", "cancelled"))
        self.assertEqual(running.read_answer().json["state"], "succeeded")
        self.judge_end(lambda status: status == 0)

    def test_submissions_are_refused_while_it_leaves(self):
        """An open connection is told 503, that it closes, and when to try again."""
        self.post_and_wait_until("running", {"task": "sleep", "args": {"ms": 1500}})
        self.service.signal(signal.SIGTERM)
        wait_until(self.is_refused, "shutting down has begun")
        answer = self.http.submit("echo", 1, "thread")
        self.assert_problem(answer, 503, "shutting down")
        self.assertEqual(answer.headers["Connection"].lower(), "close")
        self.judge_end(lambda status: status == 0)

    def test_a_job_beyond_the_grace_is_stopped(self):
        """Its client is answered with the cancelled job; the service still leaves with 0."""
        self.stop_service()
        self.start_service({"server": {"shutdown_grace_ms": 300}})
        waiters = [self.post_and_wait_until("running", {"task": "sleep", "args": {"ms": 60000},
                                                        "pool": pool})[0]
                   for pool in ("process", "thread")]
        begin = time.monotonic()
        self.service.signal(signal.SIGTERM)
        for connection in waiters:
            answer = connection.read_answer()
            self.assertEqual((answer.status, answer.json["state"]), (200, "cancelled"))
        self.judge_end(lambda status: status == 0)
        self.assertLess(time.monotonic() - begin, seconds(4))

    def test_a_second_signal_hurries(self):
        """The grace is over at once; clients are answered nevertheless, and the status is 0."""
        waiter, _ = self.post_and_wait_until("running", {"task": "sleep", "args": {"ms": 60000}})
        begin = time.monotonic()
        self.service.signal(signal.SIGTERM)
        wait_until(self.is_refused, "the first signal works")
        self.service.signal(signal.SIGTERM)
        answer = waiter.read_answer()
        self.assertEqual((answer.status, answer.json["state"]), (200, "cancelled"))
        self.judge_end(lambda status: status == 0)
        self.assertLess(time.monotonic() - begin, seconds(4))

    def test_an_idle_service_leaves_at_once(self):
        """Nothing to wait for: neither for keep-alive connections nor for half-sent requests."""
        half_sent = self.service.raw()
        self.addCleanup(half_sent.close)
        half_sent.send(b"POST /jobs HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{")
        idle = self.service.client()
        idle.get("/healthz")
        begin = time.monotonic()
        self.service.signal(signal.SIGTERM)
        self.judge_end(lambda status: status == 0)
        self.assertLess(time.monotonic() - begin, seconds(4))

    def test_sigint_is_a_sigterm(self):
        """Control-C in a terminal leaves as well."""
        self.service.signal(signal.SIGINT)
        self.judge_end(lambda status: status == 0)

    def test_a_signal_during_the_start(self):
        """SIGTERM right after the start is no accident: status 0, nothing left."""
        for _ in range(5):
            service = Service(self.write_file("early.json", BASE_CONFIG))
            self.addCleanup(service.destroy)
            wait_until(lambda service=service: len(service.log()) > 0, "it has begun")
            service.signal(signal.SIGTERM)
            service.judge_end(lambda status: status in (0, -signal.SIGTERM))
