"""Whatever a job starts is ended with it: children, daemons, many of them, polite or not."""

import os
import signal
import time

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.service import Service, binary
from tests.harness.timing import wait_until

HOWS = ("child", "daemon")
STOP_SIGNAL = signal.SIGRTMIN


class ChildrenCase(ServiceCase):
    """A service whose jobs may start processes, and that stops jobs quickly."""

    config = {
        "pools": {"process": {"hosts": 1, "stop_grace_ms": 500},
                  "thread": {"stop_grace_ms": 500, "quarantine_ms": 500}},
        "tasks": {"spawn": {"enabled": True}},
    }

    def spawn_waiting(self, count, pool="process", **args):
        """Starts a job that stays with its processes: its id and their pids."""
        job_id = self.http.start("spawn", {"children": count, "wait": True, **args}, pool)["id"]
        pids = wait_until(lambda: self.printed_pids(job_id, count), "all have said their pids")
        for pid in pids:
            self.assertTrue(proc.is_running(pid))
        return job_id, pids

    def printed_pids(self, job_id, count):
        """The pids that the job has printed, once they are all there."""
        pids = [int(line) for line in self.http.job(job_id)["stdout"]["text"].split()]
        return pids if len(pids) == count else None

    def assert_gone(self, pids):
        """None of them runs: at once, without waiting."""
        if os.environ.get("TWINPOOL_SANITIZER"):
            # Its shadow memory takes long to give back, and HOST_DOWN waits for 200 ms at the most.
            wait_until(lambda: not any(proc.is_running(pid) for pid in pids), "they are gone")
        self.assertEqual([pid for pid in pids if proc.is_running(pid)], [])


class ProcessPoolTest(ChildrenCase):
    """Of a worker that is a process."""

    def test_nothing_outlives_a_job_that_succeeds(self):
        """They are gone when the job is answered for, and the host serves on."""
        host = self.host_pid("process")
        for how in HOWS:
            for count in (1, 200):
                with self.subTest(how=how, count=count):
                    job = self.http.run("spawn", {"children": count, "how": how,
                                                  "ignore_term": True}, "process")
                    self.assert_succeeded(job)
                    self.assertEqual(len(job["result"]["pids"]), count)
                    self.assert_gone(job["result"]["pids"])
                    self.assertEqual(self.printed_pids(job["id"], count), job["result"]["pids"])
        self.assert_succeeded(self.http.run("echo", 1, "process"))
        self.assertEqual(self.host_pid("process"), host)

    def test_a_cancelled_job_takes_all_of_it_along(self):
        """The task obeys; what it has started does not have to."""
        host = self.host_pid("process")
        for how in HOWS:
            with self.subTest(how=how):
                job_id, pids = self.spawn_waiting(50, how=how, ignore_term=True)
                self.http.delete(f"/jobs/{job_id}")
                self.assertEqual(self.wait_ended(job_id)["state"], "cancelled")
                self.assert_gone(pids)
                self.assertEqual(self.printed_pids(job_id, 50), pids)
        self.assertEqual(self.host_pid("process"), host)

    def test_a_killed_job_takes_all_of_it_along(self):
        """The task does not obey either: its host is killed, and its processes with it."""
        for how in HOWS:
            with self.subTest(how=how):
                host = self.host_pid("process")
                job_id, pids = self.spawn_waiting(50, how=how, ignore_term=True, hold_stop=True)
                self.http.delete(f"/jobs/{job_id}")
                self.assertEqual(self.wait_ended(job_id)["state"], "cancelled")
                self.assert_gone([host, *pids])
                self.assert_succeeded(self.http.run("echo", 1, "process"))

    def test_a_crash_takes_all_of_it_along(self):
        """The host is killed from outside."""
        for how in HOWS:
            with self.subTest(how=how):
                job_id, pids = self.spawn_waiting(50, how=how, ignore_term=True)
                os.kill(self.http.job(job_id)["worker"]["pid"], signal.SIGKILL)
                self.assertEqual(self.wait_ended(job_id)["state"], "crashed")
                self.assert_gone(pids)

    def test_a_request_to_stop_reaches_the_processes(self):
        """As SIGTERM, while the job itself still goes on."""
        self.stop_service()
        self.start_service({**self.config, "pools": {"process": {"hosts": 1,
                                                                 "stop_grace_ms": 60000}}})
        host = self.host_pid("process")
        job_id, pids = self.spawn_waiting(5, hold_stop=True, run_ms=3000)
        self.http.delete(f"/jobs/{job_id}")
        wait_until(lambda: not any(proc.is_running(pid) for pid in pids), "they are gone", 2)
        self.assertEqual(self.http.job(job_id)["state"], "stopping")
        self.assertTrue(proc.is_running(host))
        self.wait_ended(job_id)
        self.assertEqual(self.host_pid("process"), host)

    def test_a_stray_stop_signal_does_nothing(self):
        """Neither to an idle host nor to a job that was not asked to stop."""
        host = self.host_pid("process")
        os.kill(host, STOP_SIGNAL)
        job_id, pids = self.spawn_waiting(3, run_ms=300)
        for _ in range(20):
            os.kill(host, STOP_SIGNAL)
        time.sleep(0.1)
        for pid in pids:
            self.assertTrue(proc.is_running(pid))
        self.assert_succeeded(self.wait_ended(job_id))
        self.assertEqual(self.host_pid("process"), host)

    def test_no_zombie_is_left(self):
        """Neither the host nor the master keeps dead children."""
        self.http.run("spawn", {"children": 20, "run_ms": 0}, "process")
        self.http.run("spawn", {"children": 20, "run_ms": 0, "how": "daemon"}, "process")
        self.assertEqual(proc.children_of(self.host_pid("process")), [])
        hosts = {*self.host_pids("process"), *self.host_pids("thread")}
        self.assertEqual({*proc.children_of(self.service.master_pid)},
                         {self.service.server_pid, *hosts})


class ThreadPoolTest(ChildrenCase):
    """Of a host of several workers, which cannot tell whose a child is."""

    def test_the_host_takes_them_along(self):
        """They live on with the host, and end before its end is known."""
        for how in HOWS:
            with self.subTest(how=how):
                job = self.http.run("spawn", {"children": 20, "how": how, "ignore_term": True},
                                    "thread")
                self.assert_succeeded(job)
                pids = job["result"]["pids"]
                for pid in pids:
                    self.assertTrue(proc.is_running(pid))
                sleeper = self.http.start("sleep", {"ms": 60000}, "thread")["id"]
                self.wait_for_state(sleeper, "running")
                os.kill(self.host_pid("thread"), signal.SIGKILL)
                self.assertEqual(self.wait_ended(sleeper)["state"], "crashed")
                self.assert_gone(pids)
                self.wait_all_workers()

    def test_the_end_of_the_service_leaves_nobody(self):
        """Also what was still running."""
        pids = []
        for how in HOWS:
            job = self.http.run("spawn", {"children": 20, "how": how, "ignore_term": True},
                                "thread")
            pids += job["result"]["pids"]
        self.stop_service()
        self.assert_gone(pids)

    def test_a_job_that_is_quarantined_takes_them_along(self):
        """When its old host is killed."""
        job_id, pids = self.spawn_waiting(20, "thread", ignore_term=True, hold_stop=True)
        self.http.delete(f"/jobs/{job_id}")
        self.assertEqual(self.wait_ended(job_id)["state"], "cancelled")
        self.assert_gone(pids)


class InheritedChildTest(ServiceCase):
    """A shell starts something and then becomes the master."""

    def test_it_is_let_alone(self):
        """Hosts die, orphans are ended, and it lives."""
        self.stop_service()
        service = Service(os.path.join(self.directory, "twinpool.json"),
                          wrapper=("/bin/sh", "-c", 'sleep 60 & exec "$@"', "sh"))
        self.addCleanup(service.destroy)
        service.wait_ready()
        self.service, self.http, self.judged = service, service.client(), False
        self.wait_all_workers()
        other = next(pid for pid in proc.children_of(service.master_pid)
                     if os.readlink(f"/proc/{pid}/exe") != os.path.realpath(binary()))
        self.kill_host("process")
        self.wait_all_workers()
        self.assertTrue(proc.is_running(other))
        service.close_clients()
        service.signal(signal.SIGTERM)
        self.assertEqual(service.process.wait(20), 0)
        self.judged = True
        self.assertTrue(proc.is_running(other))
        os.kill(other, signal.SIGKILL)
