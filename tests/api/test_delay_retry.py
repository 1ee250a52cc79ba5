"""delay_ms and retries: jobs that wait for their time, and jobs that are tried again."""

import signal
import time

from tests.harness.case import ServiceCase
from tests.harness.documents import instant
from tests.harness.timing import seconds, wait_until

LONG_MS = 3600000
NEVER_AGAIN_SOON = {"backoff_ms": LONG_MS, "backoff_max_ms": LONG_MS}
AT_ONCE = {"backoff_ms": 0}


def milliseconds(begin, end):
    """From one time of the API to another."""
    return (instant(end) - instant(begin)).total_seconds() * 1000


class DelayTest(ServiceCase):
    """A job that is not to start yet."""

    config = {"pools": {"process": {"hosts": 1, "queue_jobs": 3}, "thread": {"threads": 1}}}

    def test_it_is_scheduled_and_then_runs(self):
        """The document says for when; it holds no worker and is on no queue until then."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                job = self.http.start("echo", 1, pool, delay_ms=500)
                self.assertEqual((job["state"], job["attempt"], job["worker"]),
                                 ("scheduled", 0, None))
                self.assertAlmostEqual(milliseconds(job["submitted_at"], job["scheduled_for"]),
                                       500, delta=1)
                entry = self.http.pool(pool)
                self.assertEqual((entry["scheduled"], entry["queue_length"]), (1, 0))
                self.assertEqual(self.http.stats()["pools"][pool]["scheduled"], 1)
                self.assert_succeeded(self.http.run("echo", "meanwhile", pool))
                ended = self.wait_ended(job["id"])
                self.assert_succeeded(ended)
                self.assertGreaterEqual(ended["started_at"], job["scheduled_for"])
                self.assertGreaterEqual(ended["timing"]["total_ms"], 500)
                self.assertLess(ended["timing"]["queued_ms"], ended["timing"]["total_ms"] - 499)
                self.assertEqual(self.http.pool(pool)["scheduled"], 0)

    def test_several_run_in_the_order_of_their_times(self):
        """Not of their submission."""
        delays = (600, 200, 400)
        jobs = [self.http.start("echo", delay, "process", delay_ms=delay)["id"]
                for delay in delays]
        ended = sorted((self.wait_ended(job_id) for job_id in jobs),
                       key=lambda job: job["started_at"])
        self.assertEqual([job["result"] for job in ended], sorted(delays))

    def test_it_can_be_cancelled(self):
        """200 at once; it never runs."""
        job = self.http.start("echo", 1, "process", delay_ms=LONG_MS)
        self.assertEqual([entry["id"] for entry in
                          self.http.get("/jobs", state="scheduled").json["jobs"]], [job["id"]])
        answer = self.http.delete(f"/jobs/{job['id']}")
        self.assert_status(answer, 200)
        self.assert_error(answer.json, "cancelled", "cancelled")
        self.assertIsNone(answer.json["started_at"])
        self.assertEqual(self.http.pool("process")["scheduled"], 0)

    def test_who_waits_gets_the_end(self):
        """The wait goes over the delay."""
        begin = time.monotonic()
        self.assert_succeeded(self.http.run("echo", 1, "process", delay_ms=300))
        self.assertGreaterEqual(time.monotonic() - begin, 0.3)

    def test_scheduled_jobs_count_against_the_queues_bound(self):
        """What waits is bounded, whatever it waits for."""
        jobs = [self.http.start("echo", n, "process", delay_ms=LONG_MS)["id"] for n in range(3)]
        self.assert_problem(self.http.submit("echo", 1, "process", delay_ms=1), 503, "process")
        self.http.delete(f"/jobs/{jobs[0]}")
        self.assert_succeeded(self.http.run("echo", 1, "process", delay_ms=1))

    def test_a_batch_is_delayed_as_a_whole(self):
        """Every job of it."""
        begin = time.monotonic()
        batch = self.http.submit_batch("echo", [1, 2], "thread", delay_ms=300).json
        self.assertEqual(batch["by_state"], {"succeeded": 2})
        self.assertGreaterEqual(time.monotonic() - begin, 0.3)

    def test_shutdown_does_not_wait_for_it(self):
        """It is cancelled, whoever waits is told, and the service leaves."""
        with self.service.raw() as waiter:
            waiter.send_post("/jobs", {"task": "echo", "args": 1, "delay_ms": LONG_MS})
            wait_until(lambda: self.http.get("/jobs", state="scheduled").json["jobs"],
                       "it is scheduled")
            self.service.signal(signal.SIGTERM)
            answer = waiter.read_answer()
        self.assertEqual((answer.status, answer.json["state"]), (200, "cancelled"))
        self.judge_end(lambda status: status == 0)


class RetryTest(ServiceCase):
    """max_attempts, the causes, and what is kept of each attempt."""

    config = {"pools": {"process": {"hosts": 1}, "thread": {"threads": 2}}}

    def assert_attempts(self, job, count):
        """So many attempts have been made."""
        self.assertEqual((job["attempt"], len(job["previous_attempts"])), (count, count - 1), job)

    def test_every_attempt_is_kept(self):
        """With its own cause, timing, metering and worker, in order; the last one is the job's."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                job = self.http.run("sha256", {}, pool, max_attempts=4, retry=AT_ONCE)
                self.assert_error(job, "failed", "task_error")
                self.assert_attempts(job, 4)
                self.assertEqual(job["max_attempts"], 4)
                attempts = job["previous_attempts"] + [job]
                for attempt in attempts:
                    self.assertEqual((attempt["state"], attempt["error"]), ("failed", job["error"]))
                    self.assertIsNotNone(attempt["memory"])
                    self.assertGreaterEqual(attempt["timing"]["total_ms"],
                                            attempt["timing"]["run_ms"])
                for before, after in zip(attempts, attempts[1:]):
                    self.assertLessEqual(before["started_at"], before["finished_at"])
                    self.assertLessEqual(before["finished_at"], after["started_at"])
                if pool == "process":  # the worker's own count: it ran that often
                    numbers = [attempt["worker"]["jobs_before"] for attempt in attempts]
                    self.assertEqual(numbers, list(range(numbers[0], numbers[0] + 4)))
                self.assertGreaterEqual(job["timing"]["total_ms"], sum(
                    attempt["timing"]["run_ms"] for attempt in attempts))
                stats = self.http.stats()["pools"][pool]
                self.assertEqual((stats["retries"], stats["submitted"], stats["ended"]["failed"]),
                                 (3, 1, 1))
                self.assertEqual(self.http.pool(pool)["retries"], 3)

    def test_one_attempt_is_all_that_is_made_unasked(self):
        """No job is run again that did not ask for it."""
        job = self.http.run("sha256", {}, "process")
        self.assert_attempts(job, 1)
        self.assertEqual(job["max_attempts"], 1)
        self.assert_attempts(self.http.run("crash", None, "process"), 1)

    def test_success_ends_it(self):
        """A job that succeeds is not run again."""
        job = self.http.run("echo", 1, "process", max_attempts=5, retry=AT_ONCE)
        self.assert_succeeded(job)
        self.assert_attempts(job, 1)

    def test_a_job_whose_host_was_killed_succeeds_at_the_next_try(self):
        """The document has the crash of the first attempt; the result and output of the second."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                job_id = self.http.start("sleep", {"ms": 600}, pool, max_attempts=2,
                                         retry=AT_ONCE)["id"]
                first = self.wait_for_state(job_id, "running")["worker"]
                self.assertEqual(self.kill_host(pool), first["pid"])
                job = self.wait_ended(job_id)
                self.assert_succeeded(job)
                self.assert_attempts(job, 2)
                lost = job["previous_attempts"][0]
                self.assertEqual((lost["state"], lost["error"]["signal_name"]),
                                 ("crashed", "SIGKILL"))
                self.assertEqual(lost["worker"]["pid"], first["pid"])
                self.assertNotEqual(job["worker"]["pid"], first["pid"])
                self.assertGreaterEqual(job["timing"]["run_ms"], 599)

    def test_each_cause_can_be_chosen(self):
        """With the cause among retry.on there is another attempt, without it there is none."""
        slow = {"task": "sleep", "args": {"ms": LONG_MS}, "timeout_ms": 30}
        busy = {"task": "spin", "args": {"ms": LONG_MS}, "limits": {"cpu_ms": 30}}
        greedy = {"task": "allocate", "args": {"mib": 128}, "limits": {"memory_bytes": 8 << 20}}
        chatty = {"task": "print", "args": {"times": 100},
                  "limits": {"output_bytes": 10, "on_output": "stop"}}
        for cause, body in (("task_error", {"task": "sha256", "args": {}}), ("wall_limit", slow),
                            ("cpu_limit", busy), ("memory_limit", greedy),
                            ("output_limit", chatty), ("signal", {"task": "crash", "args": {}})):
            others = [name for name in ("task_error", "wall_limit", "cpu_limit", "memory_limit",
                                        "output_limit", "signal", "exit_status", "host_lost")
                      if name != cause]
            with self.subTest(cause=cause):
                for causes, attempts in (([cause], 2), (others, 1), ([], 1)):
                    job = self.http.run(pool="process", max_attempts=2,
                                        retry={"on": causes, **AT_ONCE}, **body)
                    self.assertEqual(job["error"]["code"], cause)
                    self.assert_attempts(job, attempts)

    def test_output_limit_is_not_among_the_causes_unasked(self):
        """All others are."""
        job = self.http.run("print", {"times": 100}, "process", max_attempts=2, retry=AT_ONCE,
                            limits={"output_bytes": 10, "on_output": "stop"})
        self.assert_error(job, "failed", "output_limit")
        self.assert_attempts(job, 1)

    def test_output_of_an_attempt_does_not_pile_up(self):
        """The job's output is that of its last attempt."""
        job = self.http.run("crash", {"text": "once"}, "process", max_attempts=2, retry=AT_ONCE)
        self.assert_attempts(job, 2)
        self.assertEqual((job["stdout"]["text"], job["stdout"]["total_bytes"]), ("once", 4))

    def test_a_cancelled_job_is_not_tried_again(self):
        """Neither from the queue nor while it runs."""
        job_id = self.http.start("sleep", {"ms": LONG_MS}, "process", max_attempts=5,
                                 retry=AT_ONCE)["id"]
        self.wait_for_state(job_id, "running")
        self.http.delete(f"/jobs/{job_id}")
        job = self.wait_ended(job_id)
        self.assert_error(job, "cancelled", "cancelled")
        self.assert_attempts(job, 1)

    def test_between_two_attempts_it_is_scheduled_and_can_be_cancelled(self):
        """The attempts that were made stay in its document."""
        job_id = self.http.start("sha256", {}, "process", max_attempts=5,
                                 retry=NEVER_AGAIN_SOON)["id"]
        job = self.wait_for_state(job_id, "scheduled")
        self.assertEqual((job["attempt"], len(job["previous_attempts"]), job["error"]),
                         (1, 1, None))
        self.assertGreater(job["scheduled_for"], job["previous_attempts"][0]["finished_at"])
        answer = self.http.delete(f"/jobs/{job_id}")
        self.assert_status(answer, 200)
        self.assert_error(answer.json, "cancelled", "cancelled")
        self.assertEqual([entry["error"]["code"] for entry in answer.json["previous_attempts"]],
                         ["task_error"])
        self.assertEqual(self.http.stats()["pools"]["process"]["ended"]["cancelled"], 1)

    def test_a_waiting_client_gets_only_the_final_end(self):
        """And a batch is over when the last attempt of its last job is."""
        answer = self.http.submit("sha256", {}, "process", max_attempts=3,
                                  retry={"backoff_ms": 100})
        self.assert_status(answer, 200)
        self.assert_error(answer.json, "failed", "task_error")
        self.assert_attempts(answer.json, 3)
        batch = self.http.submit_batch("sha256", [{}, {"text": "x"}], "thread", max_attempts=3,
                                       retry={"backoff_ms": 50}).json
        self.assertEqual(batch["by_state"], {"failed": 1, "succeeded": 1})
        jobs = self.http.get("/jobs", pool="thread").json["jobs"]
        self.assertEqual(sorted(job["attempt"] for job in jobs), [1, 3])

    def test_shutdown_does_not_wait_for_the_next_attempt(self):
        """A job between two attempts is cancelled."""
        job_id = self.http.start("sha256", {}, "process", max_attempts=5,
                                 retry=NEVER_AGAIN_SOON)["id"]
        self.wait_for_state(job_id, "scheduled")
        begin = time.monotonic()
        self.stop_service()
        self.assertLess(time.monotonic() - begin, seconds(5))


class BackoffTest(ServiceCase):
    """The pause before the next attempt: drawn from 0 to a bound that doubles up to a maximum."""

    config = {"pools": {"process": {"hosts": 1}}}

    def pauses_of(self, backoff_ms, backoff_max_ms, attempts):
        """The pauses of a job that always fails, in ms, as measured by its own times."""
        job = self.http.run("sha256", {}, "process", max_attempts=attempts,
                            retry={"backoff_ms": backoff_ms, "backoff_max_ms": backoff_max_ms})
        runs = job["previous_attempts"] + [job]
        self.assertEqual(len(runs), attempts)
        return [milliseconds(before["finished_at"], after["started_at"])
                for before, after in zip(runs, runs[1:])]

    def test_it_is_bounded_by_its_maximum_and_drawn(self):
        """19 pauses: none is much longer than the maximum, and they differ."""
        pauses = self.pauses_of(20, 100, 20)
        self.assertLess(max(pauses), 100 + seconds(1) * 1000)
        self.assertGreater(sum(pauses), 100)
        self.assertGreater(max(pauses[3:]) - min(pauses[3:]), 10)

    def test_without_back_off_there_is_no_pause(self):
        """0 is tried again at once; the same with back-off takes much longer."""
        without, with_pauses = self.pauses_of(0, 1000, 10), self.pauses_of(200, 200, 10)
        self.assertGreater(sum(with_pauses), 3 * sum(without))

    def test_what_is_said_is_within_the_bound(self):
        """scheduled_for lies at most backoff_ms after the first attempt, twice that after the next."""
        for _ in range(10):
            job_id = self.http.start("sha256", {}, "process", max_attempts=3,
                                     retry={"backoff_ms": 150, "backoff_max_ms": 250})["id"]
            seen = set()

            def ended(job_id=job_id, seen=seen):
                job = self.http.job(job_id)
                if job["state"] == "scheduled":
                    seen.add((len(job["previous_attempts"]),
                              job["previous_attempts"][-1]["finished_at"], job["scheduled_for"]))
                return job["state"] == "failed"
            wait_until(ended, "it has failed")
            for attempts, failed_at, scheduled_for in seen:
                pause = milliseconds(failed_at, scheduled_for)
                self.assertGreaterEqual(pause, 0)
                self.assertLessEqual(pause, {1: 150, 2: 250}[attempts] + 0.01)


class CrashCapTest(ServiceCase):
    """A crash counts against a low cap of its own: no poison pill loops."""

    config = {"pools": {"process": {"hosts": 1}, "thread": {"threads": 2},
                        "hardy": {"hosts": 1, "threads": 1, "max_crashes": 4}}}

    def test_a_job_that_always_crashes_is_dead_after_two(self):
        """Whatever it asked for; the pool goes on."""
        for pool, attempts in (("process", 2), ("thread", 2), ("hardy", 4)):
            with self.subTest(pool=pool):
                job = self.http.run("crash", None, pool, max_attempts=10, retry=AT_ONCE)
                self.assertEqual((job["state"], job["error"]["signal_name"], job["attempt"]),
                                 ("crashed", "SIGSEGV", attempts))
                self.assertEqual([entry["state"] for entry in job["previous_attempts"]],
                                 ["crashed"] * (attempts - 1))
                generations = [entry["worker"]["generation"]
                               for entry in job["previous_attempts"] + [job]]
                self.assertEqual(generations, sorted(set(generations)))
                self.assertEqual(self.http.pool(pool)["max_crashes"], attempts)
                self.assertEqual(self.restarts(pool), {"signal": attempts})
                self.assert_succeeded(self.http.run("echo", 1, pool))

    def test_fewer_attempts_than_that_are_kept_to(self):
        """The lower of the two numbers holds."""
        job = self.http.run("crash", None, "hardy", max_attempts=3, retry=AT_ONCE)
        self.assertEqual((job["state"], job["attempt"]), ("crashed", 3))

    def test_other_ends_are_not_crashes(self):
        """A task that fails uses all of its attempts."""
        job = self.http.run("sha256", {}, "process", max_attempts=6, retry=AT_ONCE)
        self.assertEqual(job["attempt"], 6)

    def test_a_neighbours_crash_is_not_held_against_a_job(self):
        """It is tried again as often as it asked for, and each attempt names the culprit."""
        job_id = self.http.start("sleep", {"ms": 700}, "thread", max_attempts=10,
                                 retry=AT_ONCE)["id"]
        culprits = []
        for number in range(3):
            wait_until(lambda number=number: (job := self.http.job(job_id))["state"] == "running"
                       and job["attempt"] == number + 1 and job["worker"], "it runs again")
            culprits.append(self.http.run("crash", None, "thread")["id"])
        job = self.wait_ended(job_id)
        self.assert_succeeded(job)
        self.assertEqual([(entry["state"], entry["error"]["code"], entry["error"]["culprit"])
                          for entry in job["previous_attempts"]],
                         [("crashed", "host_lost", culprit) for culprit in culprits])
