"""A job that crashes takes down what it must and nothing else, and the service says who it was."""

import os
import signal
import time

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.timing import seconds, wait_until

SIGNALS = ("SEGV", "ABRT", "KILL", "FPE", "BUS", "ILL")


class ProcessCrashTest(ServiceCase):
    """On P×1 a crash is the job's own affair."""

    def test_the_crashed_job_names_its_signal(self):
        """Code, number and name; the text written before the crash is kept."""
        for name in SIGNALS:
            with self.subTest(signal=name):
                job = self.http.run("crash", {"signal": name, "text": f"before {name}"}, "process")
                number = getattr(signal, f"SIG{name}")
                self.assertEqual(job["state"], "crashed")
                self.assertEqual((job["error"]["code"], job["error"]["signal"],
                                  job["error"]["signal_name"]),
                                 ("signal", number, f"SIG{name}"))
                self.assertEqual(job["stdout"]["text"], f"before {name}")
                self.assertIsNone(job["result"])

    def test_the_others_do_not_notice(self):
        """A neighbour in another process, and the thread pool, go on; generation + 1 comes back."""
        before = {worker["host"]: worker for worker in self.http.pool("process")["worker_list"]}
        neighbours = [self.http.start("sleep", {"ms": 500}, pool)["id"]
                      for pool in ("process", "thread")]
        for job_id in neighbours:
            self.wait_for_state(job_id, "running")
        crashed = self.http.run("crash", None, "process")["worker"]
        for job_id in neighbours:
            self.assert_succeeded(self.wait_ended(job_id))
        self.wait_all_workers()
        after = {worker["host"]: worker for worker in self.http.pool("process")["worker_list"]}
        for host, worker in after.items():
            grown = 1 if host == crashed["host"] else 0
            self.assertEqual(worker["generation"], before[host]["generation"] + grown)
            self.assertEqual(worker["pid"] != before[host]["pid"], bool(grown))
        restarts = self.http.stats()["pools"]["process"]["restarts"]
        self.assertEqual((restarts["total"], restarts["by_reason"]["signal"]), (1, 1))
        self.assertIn("SIGSEGV", restarts["last"])
        self.assertEqual(self.http.stats()["pools"]["thread"]["restarts"]["total"], 0)

    def test_a_job_behind_the_crashed_one_runs(self):
        """What waits in the queue, or was handed over and had not begun, is not lost."""
        self.stop_service()
        self.start_service({"pools": {"process": {"hosts": 1}}})
        crash = self.http.start("crash", {"after_ms": 200}, "process")["id"]
        behind = [self.http.start("echo", n, "process")["id"] for n in range(20)]
        self.assertEqual(self.wait_ended(crash)["state"], "crashed")
        for number, job_id in enumerate(behind):
            job = self.wait_ended(job_id)
            self.assert_succeeded(job)
            self.assertEqual(job["result"], number)

    def test_a_waiting_client_gets_the_crash(self):
        """200 with the crashed job, soon after the death, not after a time-out."""
        begin = time.monotonic()
        answer = self.http.submit("crash", {"signal": "ABRT"}, "process")
        self.assert_status(answer, 200)
        self.assertLess(time.monotonic() - begin, seconds(5))

    def test_a_batch_tells_which_of_its_jobs_crashed(self):
        """A batch over a pool goes on around its crashes."""
        args = [{"after_ms": 0, "signal": "SEGV"}, {"signal": "KILL"}]
        batch = self.http.submit_batch("crash", args, "process").json
        self.assertEqual((batch["state"], batch["by_state"]), ("failed", {"crashed": 2}))
        self.assertEqual([entry["error"]["signal_name"] for entry in batch["results"]],
                         ["SIGSEGV", "SIGKILL"])


class ThreadCrashTest(ServiceCase):
    """On 1×T a crash takes the neighbours down, and everybody is told whose fault it was."""

    def crash_among_neighbours(self, name):
        """Three sleepers and a crashing job on four threads; answers the ended crash, sleepers."""
        sleepers = [self.http.start("sleep", {"ms": 60000}, "thread")["id"] for _ in range(3)]
        for job_id in sleepers:
            self.wait_for_state(job_id, "running")
        crash = self.http.run("crash", {"signal": name, "text": "last words"}, "thread")
        return crash, [self.wait_ended(job_id) for job_id in sleepers]

    def assert_serves_again(self):
        """The pool is back with all its workers."""
        self.wait_all_workers()
        batch = self.http.submit_batch("echo", list(range(20)), "thread").json
        self.assertEqual(batch["by_state"], {"succeeded": 20})

    def test_the_neighbours_are_told_who_it_was(self):
        """The culprit has the signal; the neighbours are host_lost and name the culprit's job."""
        for name in ("SEGV", "ABRT", "FPE", "BUS"):
            with self.subTest(signal=name):
                before = self.http.pool("thread")["worker_list"][0]
                crash, sleepers = self.crash_among_neighbours(name)
                self.assertEqual((crash["state"], crash["error"]["code"],
                                  crash["error"].get("signal_name")),
                                 ("crashed", "signal", f"SIG{name}"))
                self.assertEqual(crash["stdout"]["text"], "last words")
                for job in sleepers:
                    self.assertEqual((job["state"], job["error"]["code"],
                                      job["error"].get("culprit")),
                                     ("crashed", "host_lost", crash["id"]), job)
                    self.assertIn(f"SIG{name}", job["error"]["message"])
                self.assert_serves_again()
                after = self.http.pool("thread")["worker_list"][0]
                self.assertEqual(after["generation"], before["generation"] + 1)

    def test_a_kill_blames_nobody_falsely(self):
        """SIGKILL leaves no trace of its culprit: all are crashed, and no neighbour is accused."""
        crash, sleepers = self.crash_among_neighbours("KILL")
        for job in [crash, *sleepers]:
            self.assertEqual(job["state"], "crashed")
            self.assertIn(job["error"]["code"], ("signal", "host_lost"))
            self.assertIn(job["error"].get("culprit"), (None, crash["id"]))
        self.assertEqual(crash["stdout"]["text"], "last words")
        self.assert_serves_again()

    def test_the_process_pool_does_not_notice(self):
        """A job in a process outlives the crash of a thread."""
        other = self.http.start("sleep", {"ms": 600}, "process")["id"]
        self.wait_for_state(other, "running")
        self.crash_among_neighbours("SEGV")
        self.assert_succeeded(self.wait_ended(other))
        self.assertEqual(self.http.stats()["pools"]["process"]["restarts"]["total"], 0)

    def test_jobs_that_wait_are_run_by_the_next_host(self):
        """The queue of a pool outlives its hosts."""
        sleepers = self.fill_pool("thread")
        queued = [self.http.start("echo", n, "thread")["id"] for n in range(20)]
        self.kill_host("thread")
        for job_id in sleepers:
            self.assertEqual(self.wait_ended(job_id)["state"], "crashed")
        for job_id in queued:
            self.assert_succeeded(self.wait_ended(job_id))


class MixedCrashTest(ServiceCase):
    """On P×T the crash takes the jobs of its own host and leaves those of the others."""

    config = {"pools": {"mixed": {"hosts": 2, "threads": 2}}}

    def test_only_the_jobs_of_that_host_are_lost(self):
        """Three sleepers on two hosts: the crash takes one of them, two go on."""
        sleepers = [self.http.start("sleep", {"ms": 1500}, "mixed")["id"] for _ in range(3)]
        for job_id in sleepers:
            self.wait_for_state(job_id, "running")
        crash = self.http.run("crash", None, "mixed")
        for job_id in sleepers:
            job = self.wait_ended(job_id)
            if job["worker"]["host"] == crash["worker"]["host"]:
                self.assertEqual((job["state"], job["error"].get("culprit")),
                                 ("crashed", crash["id"]))
            else:
                self.assert_succeeded(job)


class CrashLoopTest(ServiceCase):
    """Jobs that crash in a row cost the others nothing; hosts that die by themselves back off."""

    config = {"pools": {"process": {"hosts": 1, "restart_backoff_ms": 600,
                                    "restart_backoff_max_ms": 1200}}}

    def kill_idle_hosts_until_backoff(self):
        """Kills the host whenever it is there, without a job, until the pool waits."""
        def kill():
            worker = self.http.pool("process")["worker_list"][0]
            if worker["state"] == "idle" and proc.is_running(worker["pid"]):
                os.kill(worker["pid"], signal.SIGKILL)
            return worker["state"] == "backoff"
        wait_until(kill, "the back-off shows in /pools")

    def test_many_crashing_jobs_in_a_row(self):
        """Each one ends as crashed, the host is forked anew at once, and the pool is well after."""
        count = 20
        begin = time.monotonic()
        jobs = [self.http.start("crash", None, "process")["id"] for _ in range(count)]
        for job_id in jobs:
            self.assertEqual(self.wait_ended(job_id)["error"]["code"], "signal")
        self.assert_succeeded(self.http.run("echo", 1, "process"))
        self.assertLess(time.monotonic() - begin, seconds(8))
        self.assertEqual(self.http.stats()["pools"]["process"]["restarts"]["total"], count)
        self.assert_status(self.http.get("/readyz"), 200)

    def test_hosts_that_keep_dying_back_off_and_the_pool_recovers(self):
        """The waiting shows in /pools and /readyz; the other pool serves; then all is well."""
        self.kill_idle_hosts_until_backoff()
        begin = time.monotonic()
        self.assert_problem(self.http.get("/readyz"), 503, "process")
        self.assert_status(self.http.get("/healthz"), 200)
        self.assert_succeeded(self.http.run("echo", 1, "thread"))
        self.assert_succeeded(self.http.run("echo", 1, "process"))
        self.assertGreater(time.monotonic() - begin, 0.3, "there was no back-off")
        self.assert_status(self.http.get("/readyz"), 200)

    def test_it_can_be_stopped_in_the_middle(self):
        """SIGTERM during a back-off ends well, and who waits for a queued job is answered."""
        self.kill_idle_hosts_until_backoff()
        with self.service.raw() as waiter:
            waiter.send_post("/jobs", {"task": "echo", "pool": "process"})
            wait_until(lambda: self.http.stats()["server"]["requests_waiting"] == 1
                       or self.http.stats()["jobs"]["kept"] == 1, "the client waits")
            self.service.signal(signal.SIGTERM)
            self.assertIn(waiter.read_answer().json["state"], ("cancelled", "succeeded"))
        self.judge_end(lambda status: status == 0)

    def test_no_zombie_is_left(self):
        """Every host that died was reaped."""
        for _ in range(3):
            self.http.run("crash", None, "process")
        self.wait_all_workers()
        zombies = [pid for pid in proc.children_of(self.service.master_pid)
                   if proc.state_of(pid) == "Z"]
        self.assertEqual(zombies, [])
