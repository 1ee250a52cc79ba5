"""A job that never stops by itself and ignores every request to: ended all the same, within a bound."""

import signal
import time

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.timing import SCALE, seconds, wait_until

LONG_MS = 3600000
GRACE_MS = 400
QUARANTINE_MS = 10000
TIMEOUT_MS = 300
SLACK_S = 2.0  # for what comes after the grace: a kill, a wait, an answer


class StubbornCase(ServiceCase):
    """Endless loops on both pools."""

    config = {"pools": {"process": {"hosts": 2, "stop_grace_ms": GRACE_MS},
                        "thread": {"threads": 4, "stop_grace_ms": GRACE_MS,
                                   "quarantine_ms": QUARANTINE_MS}},
              "tasks": {"spawn": {"enabled": True}}}

    def start_stubborn(self, pool, **fields):
        """An endless loop that runs; answers its id and its host's pid."""
        job_id = self.http.start("spin", {"ms": LONG_MS, "ignore_stop": True}, pool, **fields)["id"]
        return job_id, self.wait_for_state(job_id, "running", "stopping")["worker"]["pid"]

    def watch_to_the_end(self, job_id, pid, deadline):
        """Follows a job until it has ended; answers its document and the states that were seen.

        Whenever it is shown ended, its host must be dead already.
        """
        seen = []

        def ended():
            job = self.http.job(job_id)
            if job["state"] not in seen:
                seen.append(job["state"])
            if job["finished_at"] is None:
                return None
            if proc.is_running(pid):
                raise AssertionError(f"shown ended while its host {pid} still runs: {job}")
            return job
        return wait_until(ended, f"job {job_id} has ended", deadline), seen

    def assert_bounded(self, job, bound_ms):
        """It ran no longer than that, with some slack."""
        self.assertLess(job["timing"]["run_ms"], bound_ms + seconds(SLACK_S) * 1000)
        self.assertGreaterEqual(job["timing"]["run_ms"], GRACE_MS * 0.95)


class ProcessTest(StubbornCase):
    """On P×1 only the job's own process dies."""

    def test_it_is_ended_within_its_timeout_and_the_grace(self):
        """The neighbour succeeds, the pool has a fresh host for the next job."""
        neighbour = self.http.start("sleep", {"ms": 1500}, "process")["id"]
        self.wait_for_state(neighbour, "running")
        job_id, pid = self.start_stubborn("process", timeout_ms=TIMEOUT_MS)
        job, seen = self.watch_to_the_end(job_id, pid, 10)
        self.assert_error(job, "timed_out", "wall_limit", limit_ms=TIMEOUT_MS)
        self.assertGreaterEqual(job["error"]["seen_ms"], TIMEOUT_MS)
        self.assert_bounded(job, TIMEOUT_MS + GRACE_MS)
        self.assertIn("stopping", seen)
        after = self.http.run("echo", 1, "process")
        self.assert_succeeded(after)
        self.assertNotEqual(after["worker"]["pid"], pid)
        self.assert_succeeded(self.wait_ended(neighbour))
        self.assertEqual(self.restarts("process"), {"stopped_job": 1})

    def test_a_cancel_ends_it_within_the_grace(self):
        """202 and `stopping`, then cancelled; a second DELETE changes nothing."""
        job_id, pid = self.start_stubborn("process")
        answer = self.http.delete(f"/jobs/{job_id}")
        self.assertEqual((answer.status, answer.json["state"]), (202, "stopping"))
        self.assert_status(self.http.delete(f"/jobs/{job_id}"), 202)
        begin = time.monotonic()
        job, seen = self.watch_to_the_end(job_id, pid, 10)
        self.assert_error(job, "cancelled", "cancelled")
        self.assertLess(time.monotonic() - begin, GRACE_MS / 1000 + seconds(SLACK_S))
        self.assertEqual(seen[0], "stopping")

    def test_beyond_its_cpu_time_it_is_ended_too(self):
        """With the cause that it was."""
        job_id, pid = self.start_stubborn("process", limits={"cpu_ms": 200})
        job, _ = self.watch_to_the_end(job_id, pid, 20)
        self.assert_error(job, "timed_out", "cpu_limit", limit_ms=200)
        self.assertGreaterEqual(job["error"]["seen_ms"], 200)

    def test_it_can_be_tried_again(self):
        """Each attempt has its timeout and its host."""
        job = self.http.run("spin", {"ms": LONG_MS, "ignore_stop": True}, "process",
                            timeout_ms=100, max_attempts=3, retry={"backoff_ms": 0})
        attempts = job["previous_attempts"] + [job]
        self.assertEqual([attempt["error"]["code"] for attempt in attempts], ["wall_limit"] * 3)
        pids = {attempt["worker"]["pid"] for attempt in attempts}
        self.assertEqual(len(pids), 3)
        self.assertFalse(any(map(proc.is_running, pids)))

    def test_the_output_before_is_kept(self):
        """What it had written when its process was killed."""
        job = self.http.run("spawn", {"children": 2, "wait": True, "hold_stop": True}, "process",
                            timeout_ms=TIMEOUT_MS)
        self.assert_error(job, "timed_out", "wall_limit")
        self.assertEqual(len(job["stdout"]["text"].split()), 2)

    def test_all_hosts_can_be_stubborn(self):
        """What waits behind them runs as soon as they are replaced."""
        stubborn = [self.start_stubborn("process", timeout_ms=TIMEOUT_MS) for _ in range(2)]
        self.assert_succeeded(self.http.run("echo", 1, "process"))
        for job_id, pid in stubborn:
            self.watch_to_the_end(job_id, pid, 10)

    def test_shutdown_ends_it(self):
        """Within the service's grace, exit status 0."""
        self.stop_service()
        self.start_service({"server": {"shutdown_grace_ms": 200}})
        for pool in ("process", "thread"):
            self.start_stubborn(pool)
        begin = time.monotonic()
        self.service.close_clients()
        self.service.signal(signal.SIGTERM)
        self.judge_end(lambda status: status == 0)
        self.assertLess(time.monotonic() - begin, seconds(6))


class ThreadTest(StubbornCase):
    """On 1×T its host is quarantined: the neighbours finish, a fresh host takes what comes."""

    def start_neighbours(self, count, ms, **fields):
        """Sleepers beside the stubborn job; answers their ids."""
        ids = [self.http.start("sleep", {"ms": ms}, "thread", **fields)["id"] for _ in range(count)]
        for job_id in ids:
            self.wait_for_state(job_id, "running")
        return ids

    def wait_fresh_host(self, pid):
        """Waits until another process than this one takes the pool's jobs."""
        wait_until(lambda: self.host_pids("thread") - {pid}, "there is a fresh host")

    def test_the_neighbours_succeed_and_new_jobs_have_a_fresh_host(self):
        """Both while the stubborn one still runs; then its host is killed, with nobody else in it."""
        job_id, pid = self.start_stubborn("thread", timeout_ms=TIMEOUT_MS)
        neighbours = self.start_neighbours(2, 2000 + 1000 * SCALE)
        self.wait_fresh_host(pid)
        self.assertEqual(self.http.job(job_id)["state"], "stopping")
        for number in range(10):
            job = self.http.run("echo", number, "thread")
            self.assert_succeeded(job)
            self.assertNotEqual(job["worker"]["pid"], pid)
        self.assertTrue(proc.is_running(pid), "its neighbours were not given their time")
        job, _ = self.watch_to_the_end(job_id, pid, 20)
        self.assert_error(job, "timed_out", "wall_limit", limit_ms=TIMEOUT_MS)
        self.assert_bounded(job, TIMEOUT_MS + GRACE_MS + QUARANTINE_MS)
        for neighbour in neighbours:
            ended = self.http.job(neighbour)
            self.assert_succeeded(ended)
            self.assertEqual((ended["worker"]["pid"], ended["attempt"]), (pid, 1))
        self.assertEqual(self.restarts("thread"), {"stopped_job": 1})

    def test_alone_it_is_killed_after_the_grace(self):
        """There is nobody to wait for."""
        job_id, pid = self.start_stubborn("thread", timeout_ms=TIMEOUT_MS)
        job, seen = self.watch_to_the_end(job_id, pid, 10)
        self.assert_error(job, "timed_out", "wall_limit", limit_ms=TIMEOUT_MS)
        self.assert_bounded(job, TIMEOUT_MS + GRACE_MS)
        self.assertIn("stopping", seen)
        self.assert_succeeded(self.http.run("echo", 1, "thread"))

    def test_a_cancel_is_never_shown_done_before_it_is(self):
        """`stopping` for all of the time that a neighbour takes, then cancelled."""
        job_id, pid = self.start_stubborn("thread")
        neighbours = self.start_neighbours(1, 1500)
        self.assert_status(self.http.delete(f"/jobs/{job_id}"), 202)
        job, seen = self.watch_to_the_end(job_id, pid, 20)
        self.assertEqual(seen, ["stopping", "cancelled"])
        self.assert_error(job, "cancelled", "cancelled")
        self.assert_succeeded(self.http.job(neighbours[0]))

    def test_stopping_and_draining_are_visible(self):
        """In the job, in its state's list, in the worker's state."""
        job_id, pid = self.start_stubborn("thread")
        neighbours = self.start_neighbours(1, 1500)
        self.http.delete(f"/jobs/{job_id}")
        listed = self.http.get("/jobs", state="stopping").json["jobs"]
        self.assertEqual([job["id"] for job in listed], [job_id])
        workers = {worker["job"]: worker["state"]
                   for worker in self.http.pool("thread")["worker_list"] if worker["job"]}
        self.assertEqual(workers, {job_id: "stopping", neighbours[0]: "busy"})
        self.wait_fresh_host(pid)
        self.watch_to_the_end(job_id, pid, 20)

    def test_neighbours_that_take_too_long_are_told_whose_fault_it_was(self):
        """At the end of the quarantine they go with the host; who asked for it is tried again."""
        self.stop_service()
        self.start_service({"pools": {"thread": {"stop_grace_ms": 100, "quarantine_ms": 500}}})
        job_id, pid = self.start_stubborn("thread")
        lost = self.start_neighbours(1, LONG_MS)[0]
        retried = self.start_neighbours(1, 1500, max_attempts=2, retry={"backoff_ms": 0})[0]
        self.http.delete(f"/jobs/{job_id}")
        job, _ = self.watch_to_the_end(job_id, pid, 10)
        self.assert_error(job, "cancelled", "cancelled")
        self.assert_error(self.wait_ended(lost), "crashed", "host_lost", culprit=job_id)
        second = self.wait_ended(retried)
        self.assert_succeeded(second)
        self.assertEqual((second["attempt"], second["previous_attempts"][0]["error"]["culprit"]),
                         (2, job_id))
        self.assertNotEqual(second["worker"]["pid"], pid)

    def test_a_second_one_on_the_same_host(self):
        """Two stubborn jobs and a neighbour: one host dies, once, and all three have their ends."""
        jobs = [self.start_stubborn("thread", timeout_ms=timeout) for timeout in (300, 600)]
        neighbours = self.start_neighbours(1, 1500)
        for job_id, pid in jobs:
            job, _ = self.watch_to_the_end(job_id, pid, 20)
            self.assert_error(job, "timed_out", "wall_limit")
        self.assert_succeeded(self.wait_ended(neighbours[0]))
        self.assertEqual(self.restarts("thread"), {"stopped_job": 1})

    def test_again_and_again(self):
        """Hosts in quarantine may pile up for a while; nothing is left of them."""
        processes = len(self.service.processes())
        jobs = []
        for _ in range(4):
            job_id, pid = self.start_stubborn("thread", timeout_ms=50)
            jobs.append((job_id, pid, self.start_neighbours(1, 1200)[0]))
            self.wait_fresh_host(pid)
        for job_id, pid, neighbour in jobs:
            self.assert_succeeded(self.wait_ended(neighbour))
            self.watch_to_the_end(job_id, pid, 20)
        self.wait_all_workers()
        wait_until(lambda: len(self.service.processes()) == processes, "no host is left over")
