"""Every kind of process is killed in turn, and what remains does the right thing."""

import os
import signal

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.timing import SCALE, wait_until


class KillHostTest(ServiceCase):
    """kill -9 of a host."""

    def test_an_idle_host_comes_back(self):
        """Another process, one generation on; nobody is harmed."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                before = self.http.pool(pool)["worker_list"][0]
                self.kill_host(pool)
                after = wait_until(lambda pool=pool, before=before: next(
                    (worker for worker in self.http.pool(pool)["worker_list"]
                     if worker["host"] == 0 and worker["pid"] not in (None, before["pid"])
                     and worker["state"] == "idle"), None), "the host is back")
                self.assertEqual(after["generation"], before["generation"] + 1)
                self.assert_succeeded(self.http.run("echo", 1, pool))
                self.assertEqual(self.http.stats()["pools"][pool]["ended"]["crashed"], 0)

    def test_the_job_of_a_killed_process_is_crashed(self):
        """By SIGKILL; the one beside it goes on."""
        jobs = self.fill_pool("process", ms=1500)
        victim = self.http.job(jobs[0])["worker"]["pid"]
        os.kill(victim, signal.SIGKILL)
        job = self.wait_ended(jobs[0])
        self.assertEqual((job["state"], job["error"]["signal_name"]), ("crashed", "SIGKILL"))
        self.assert_succeeded(self.wait_ended(jobs[1]))

    def test_the_jobs_of_a_killed_thread_host_are_crashed(self):
        """All of them, and no job is accused of it."""
        jobs = self.fill_pool("thread", ms=60000)
        self.kill_host("thread")
        for job_id in jobs:
            job = self.wait_ended(job_id)
            self.assertEqual(job["state"], "crashed")
            self.assertIsNone(job["error"].get("culprit"))
        self.assert_succeeded(self.http.run("echo", 1, "thread"))

    def test_the_descriptors_of_dead_hosts_are_closed(self):
        """After many deaths the server holds as many descriptors as before the first."""
        self.http.run("echo", 1, "process")
        before = self.server_descriptors()
        killed = set()
        for _ in range(6):
            for pool in ("process", "thread"):
                killed.add(self.kill_host(pool))
                self.wait_all_back(pool, killed)
        wait_until(lambda: self.server_descriptors() <= before,
                   "the server's descriptors are back at the baseline")

    def wait_all_back(self, pool, killed):
        """Waits until every host of this pool is up and is none of the killed ones."""
        def back():
            workers = self.http.pool(pool)["worker_list"]
            return all(worker["state"] == "idle" and worker["pid"] not in killed
                       for worker in workers)
        wait_until(back, f"all workers of {pool} are back", 30)

    def test_a_lock_in_shared_memory_outlives_its_holder(self):
        """A process killed inside the critical section does not block the others for ever."""
        endless = {"increments": 1000000000, "lock": True, "memory": "shared"}
        jobs = [self.http.start("counter", endless, "process")["id"] for _ in range(2)]
        for job_id in jobs:
            self.wait_for_state(job_id, "running")
        pid = self.http.job(jobs[0])["worker"]["pid"]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            os.kill(pid, number)
        self.assertEqual(self.wait_ended(jobs[0])["state"], "crashed")
        self.cancel_all(jobs[1:])
        job = self.http.run("counter", {"increments": 5, "memory": "shared", "reset": True},
                            "process")
        self.assertEqual(job["result"]["value"], 5)


class FrozenHostTest(ServiceCase):
    """A host that stands still."""

    config = {"pools": {"process": {"hosts": 1, "stop_grace_ms": 300},
                        "thread": {"threads": 2, "stop_grace_ms": 300, "quarantine_ms": 300}}}

    def test_its_job_times_out_and_the_host_is_replaced(self):
        """The polite request goes unheard, so after the grace the host is killed."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                job_id = self.http.start("sleep", {"ms": 60000}, pool, timeout_ms=400)["id"]
                pid = self.wait_for_state(job_id, "running")["worker"]["pid"]
                os.kill(pid, signal.SIGSTOP)
                job = self.wait_ended(job_id)
                self.assertEqual((job["state"], job["error"]["code"], job["error"]["limit_ms"]),
                                 ("timed_out", "wall_limit", 400))
                self.assertLess(job["timing"]["total_ms"], 400 + 600 + 2000 * SCALE)
                wait_until(lambda pid=pid: not proc.is_running(pid), "the frozen host is gone")
                self.assert_succeeded(self.http.run("echo", 1, pool))

    def test_a_cancelled_job_is_not_ended_while_its_host_lives(self):
        """`stopping` until the process is really gone, then cancelled."""
        job_id = self.http.start("sleep", {"ms": 60000}, "process")["id"]
        pid = self.wait_for_state(job_id, "running")["worker"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        self.assert_status(self.http.delete(f"/jobs/{job_id}"), 202)
        self.assertEqual(self.http.job(job_id)["state"], "stopping")
        job = self.wait_ended(job_id)
        self.assertFalse(proc.is_running(pid), "reported ended while it still ran")
        self.assertEqual((job["state"], job["error"]["code"]), ("cancelled", "cancelled"))
        restarts = self.http.stats()["pools"]["process"]["restarts"]
        self.assertEqual(restarts["by_reason"]["stopped_job"], 1)

    def test_shutdown_ends_a_frozen_host(self):
        """SIGTERM of the service does not wait for a process that stands still."""
        self.stop_service()
        self.start_service({"server": {"shutdown_grace_ms": 300}})
        for pool in ("process", "thread"):
            job_id = self.http.start("sleep", {"ms": 60000}, pool)["id"]
            os.kill(self.wait_for_state(job_id, "running")["worker"]["pid"], signal.SIGSTOP)
        self.stop_service()


class KillServiceTest(ServiceCase):
    """kill -9 of the server, and of the master."""

    config = {"pools": {"mixed": {"hosts": 2, "threads": 2}}}

    def occupy(self):
        """Running jobs on every pool, and one client that waits."""
        for pool in ("process", "thread", "mixed"):
            self.fill_pool(pool, ms=60000)
        waiter = self.service.raw()
        self.addCleanup(waiter.close)
        waiter.send_post("/jobs", {"task": "sleep", "args": {"ms": 60000}})
        return waiter

    def test_without_its_server_the_master_ends_all(self):
        """The hosts are gone, the status is not 0, and the waiting client's connection ends."""
        waiter = self.occupy()
        self.assertGreaterEqual(len(self.service.processes()), 7)
        os.kill(self.service.server_pid, signal.SIGKILL)
        self.judge_end(lambda status: status > 0)
        self.assertEqual(waiter.read_to_end(), b"")

    def test_without_its_master_nothing_is_left_running(self):
        """Server and hosts leave by themselves."""
        self.occupy()
        self.service.signal(signal.SIGKILL)
        self.judge_end(lambda status: status == -signal.SIGKILL)

    def test_an_idle_service_without_its_server_ends(self):
        """The same with nothing to do."""
        os.kill(self.service.server_pid, signal.SIGKILL)
        self.judge_end(lambda status: status > 0)

    def test_an_idle_service_without_its_master_ends(self):
        """The same with nothing to do."""
        self.service.signal(signal.SIGKILL)
        self.judge_end(lambda status: status == -signal.SIGKILL)

    def test_signals_to_the_server_alone_do_no_harm(self):
        """SIGINT from a terminal reaches every process: only the master's counts."""
        for pid in self.service.processes():
            if pid != self.service.master_pid:
                os.kill(pid, signal.SIGINT)
        self.assert_succeeded(self.http.run("echo", 1, "process"))
        self.assert_succeeded(self.http.run("echo", 1, "thread"))
        self.assertEqual(self.http.stats()["pools"]["process"]["restarts"]["total"], 0)
