"""What a job leaves, when it is hard to catch: after timeouts, fork bombs, shutdown, and in races.

What goes with a job in the plain cases is in test_children.
"""

import os
import random
import signal

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.timing import seconds, wait_until

LONG_MS = 3600000
KINDS = ("child", "daemon")


class LeftoversCase(ServiceCase):
    """Jobs that start processes."""

    config = {"server": {"shutdown_grace_ms": 1000},
              "pools": {"process": {"hosts": 1, "stop_grace_ms": 500},
                        "thread": {"threads": 2, "stop_grace_ms": 500}},
              "tasks": {"spawn": {"enabled": True}}}

    def setUp(self):
        super().setUp()
        self.baseline = len(self.service.processes())

    def start_spawn(self, pool, count, **args):
        """A job that starts so many processes and waits; answers its id and their pids."""
        # hold_stop: it is the host's end that ends it, not its own good will.
        hold = args.pop("hold_stop", False)
        fields = args.pop("fields", {})
        job_id = self.http.start("spawn", {"children": count, "wait": True, "hold_stop": hold,
                                           "run_ms": LONG_MS, **args}, pool, **fields)["id"]

        def pids():
            found = self.http.job(job_id)["stdout"]["text"].split()
            return [int(pid) for pid in found] if len(found) == count else None
        pids = wait_until(pids, "all are started", 20)
        if args.get("how") != "chain":
            self.assertEqual([pid for pid in pids if not proc.is_running(pid)], [])
        return job_id, pids

    def assert_gone(self, pids):
        """None of them runs, now."""
        self.assertEqual([pid for pid in pids if proc.is_running(pid)], [])

    def wait_baseline(self):
        """Waits until the service has as many processes as at the start: whoever they are."""
        wait_until(lambda: len(self.service.processes()) == self.baseline,
                   "no process is left over", 20)


class ProcessTest(LeftoversCase):
    """On P×1 whatever a job has started ends with it."""

    def test_after_a_timeout(self):
        """Whether the job heeds it or not."""
        for how in KINDS:
            for hold_stop in (False, True):
                with self.subTest(how=how, hold_stop=hold_stop):
                    job_id, pids = self.start_spawn("process", 3, how=how, hold_stop=hold_stop,
                                                    fields={"timeout_ms": int(seconds(500))})
                    job = self.wait_ended(job_id)
                    self.assert_gone(pids)
                    self.assert_error(job, "timed_out", "wall_limit")
        self.wait_baseline()

    def test_a_fork_bomb_of_limited_size(self):
        """200 daemons that ignore SIGTERM: gone after a cancel, the pool serves."""
        job_id, pids = self.start_spawn("process", 200, how="daemon", ignore_term=True)
        self.assertGreaterEqual(len(self.service.processes()), self.baseline + 200)
        self.http.delete(f"/jobs/{job_id}")
        self.assert_error(self.wait_ended(job_id), "cancelled", "cancelled")
        wait_until(lambda: not any(map(proc.is_running, pids)), "all of them are gone")
        self.assert_succeeded(self.http.run("echo", 1, "process"))
        self.wait_baseline()

    def test_processes_that_flee(self):
        """Each forks the next and ends, every 2 ms: whoever is listed is gone by then."""
        for hold_stop in (False, True):
            with self.subTest(hold_stop=hold_stop):
                job_id, _ = self.start_spawn("process", 3, how="chain", hold_stop=hold_stop)
                self.http.delete(f"/jobs/{job_id}")
                self.assert_error(self.wait_ended(job_id), "cancelled", "cancelled")
                self.wait_baseline()
                self.assert_succeeded(self.http.run("echo", 1, "process"))
        job = self.http.run("spawn", {"children": 3, "how": "chain", "run_ms": LONG_MS}, "process")
        self.assert_succeeded(job)
        self.wait_baseline()

    def test_shutdown_leaves_nothing(self):
        """Of running jobs and of ended ones, on both pools, daemons too."""
        pids = self.start_spawn("process", 3, how="daemon", ignore_term=True)[1]
        pids += self.start_spawn("thread", 3, how="daemon", ignore_term=True)[1]
        pids += self.http.run("spawn", {"children": 3, "how": "daemon"}, "thread")["result"]["pids"]
        self.stop_service()
        self.assert_gone(pids)

    def test_the_death_of_the_server_leaves_nothing(self):
        """The master ends the hosts and all that came to it."""
        pids = self.start_spawn("process", 3, how="daemon", ignore_term=True)[1]
        pids += self.start_spawn("thread", 3, ignore_term=True)[1]
        os.kill(self.service.server_pid, signal.SIGKILL)
        self.judge_end(lambda status: status > 0)
        self.assert_gone(pids)


class ThreadTest(LeftoversCase):
    """On 1×T a child belongs to no job in particular: it ends with its host."""

    def test_a_neighbours_children_are_not_harmed_by_a_cancel(self):
        """No signal goes to the host's group while others work in it."""
        cancelled, _ = self.start_spawn("thread", 2)
        other, pids = self.start_spawn("thread", 2)
        self.http.delete(f"/jobs/{cancelled}")
        self.assert_error(self.wait_ended(cancelled), "cancelled", "cancelled")
        self.assertTrue(all(map(proc.is_running, pids)))
        self.assertEqual(self.http.job(other)["state"], "running")
        self.cancel_all([other])
        self.assert_status(self.http.patch_pool("thread", hosts=2), 200)
        self.kill_host("thread")
        wait_until(lambda: not any(map(proc.is_running, pids)), "they are gone")

    def test_a_retired_host_takes_them_along(self):
        """Recycled after its job: what was left in it goes."""
        self.restart_service({"pools": {"thread": {"recycle": {"jobs": 1, "jitter_percent": 0}}}})
        for how in KINDS:
            job = self.http.run("spawn", {"children": 2, "how": how, "ignore_term": True}, "thread")
            self.assert_succeeded(job)
            wait_until(lambda job=job: not any(map(proc.is_running, job["result"]["pids"])),
                       "they are gone")


class LateTest(LeftoversCase):
    """A request to stop, or a kill, that comes as the job ends never hits the next one."""

    config = {"pools": {"process": {"hosts": 1, "stop_grace_ms": 15},
                        "thread": {"threads": 1, "stop_grace_ms": 15}},
              "tasks": {"spawn": {"enabled": True}}}

    def race(self, pool, task, args, rounds):
        """Cancels jobs about when they end, with another behind each; answers how they ended.

        A job that was cancelled makes the next one shorter, one that succeeded longer: so both
        come to meet, whatever the speed of the machine.
        """
        choose = random.Random(3)
        states = {}
        run_ms = args.pop("ms")
        for _ in range(rounds):
            first = self.http.start(task, {**args, "ms": max(1, round(run_ms))}, pool)["id"]
            # In the same process, with children of its own that a stray SIGTERM would end.
            second = self.http.start("spawn", {"children": 1, "run_ms": 30, "wait": True}, pool)["id"]
            self.wait_for_state(first, "running", "succeeded")
            for _ in range(choose.randrange(12)):
                self.http.job(first)  # passes a little time
            self.http.delete(f"/jobs/{first}")
            state = self.wait_ended(first)["state"]
            states[state] = states.get(state, 0) + 1
            run_ms = min(2000, run_ms * 1.3) if state == "succeeded" else max(1, run_ms / 1.3)
            job = self.wait_ended(second)
            self.assert_succeeded(job)
            self.assertEqual((job["attempt"], job["previous_attempts"]), (1, []))
            self.assertGreaterEqual(job["timing"]["run_ms"], 29)
        self.assertGreater(len(states), 1, "it was no race")
        return states

    def test_a_polite_stop_that_is_late(self):
        """Short jobs, cancelled within the milliseconds of their end."""
        for pool in ("process", "thread"):
            states = self.race(pool, "sleep", {"ms": 6}, 60)
            self.assertLessEqual(set(states), {"succeeded", "cancelled"})
            self.assertEqual(self.restarts(pool), {})

    def test_a_kill_that_is_late(self):
        """Jobs that ignore the request and end by themselves about when the grace does."""
        for pool in ("process", "thread"):
            states = self.race(pool, "spin", {"ms": 20, "ignore_stop": True}, 60)
            self.assertLessEqual(set(states), {"succeeded", "cancelled"})
            self.assertLessEqual(set(self.restarts(pool)), {"stopped_job"})
