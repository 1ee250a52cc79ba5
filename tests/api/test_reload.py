"""SIGHUP: the configuration is read again; hosts are replaced one by one, and no job is lost."""

import signal
import threading

from tests.harness import proc
from tests.harness.case import BASE_CONFIG, ServiceCase, merged
from tests.harness.timing import wait_until

LONG_MS = 60000


class ReloadCase(ServiceCase):
    """Writes the configuration anew and sends the signal."""

    config = {"pools": {"process": {"hosts": 2}, "thread": {"threads": 2}}}

    def rewrite(self, changes):
        """Lays changes over the class's configuration and writes it; text is written as it is."""
        whole = changes
        if not isinstance(changes, str):
            whole = merged(merged(BASE_CONFIG, self.config), changes)
        self.write_file("twinpool.json", whole)

    def events(self, name):
        """How many events of this name are in the log."""
        return len(self.service.log(name))

    def hup(self, event="reloaded"):
        """Sends SIGHUP and waits for the event that it leads to; answers the event."""
        before = self.events(event)
        self.service.signal(signal.SIGHUP)
        wait_until(lambda: self.events(event) > before, f"the log says {event}")
        return self.service.log(event)[-1]

    def wait_replaced(self, pool, pids):
        """Waits until none of these hosts lives and all workers of the pool are up."""
        wait_until(lambda: not any(map(proc.is_running, pids)), "the old hosts are gone", 20)
        self.wait_all_workers()


class AcceptedTest(ReloadCase):
    """A good configuration."""

    def test_new_settings_are_in_force(self):
        """Timeouts, limits, attempts, caps: of the jobs submitted from now on."""
        self.rewrite({"pools": {"process": {"timeout_ms": 150, "max_timeout_ms": 1000,
                                            "max_cpu_ms": 5000, "max_attempts": 3,
                                            "max_output_bytes": 100000,
                                            "label_limits": {"tenant": 1}, "aging_ms": 77,
                                            "reserve": {"workers": 1, "priority": 3}}},
                      "tasks": {"echo": {"timeout_ms": 99}}})
        self.hup()
        entry = self.http.pool("process")
        self.assertEqual((entry["timeout_ms"], entry["max_attempts"], entry["aging_ms"],
                          entry["label_limits"], entry["reserved"]["workers"],
                          entry["limits"]["max_cpu_ms"]), (150, 3, 77, {"tenant": 1}, 1, 5000))
        job = self.http.run("sleep", {"ms": LONG_MS}, "process")
        self.assert_error(job, "timed_out", "wall_limit", limit_ms=150)
        self.assert_problem(self.http.submit("echo", 1, "process", timeout_ms=1001), 422, "1000",
                            field="timeout_ms")
        self.assert_problem(self.http.submit("echo", 1, "process", max_attempts=4), 422,
                            field="max_attempts")
        self.assertEqual(self.http.run("echo", 1, "process")["timeout_ms"], 99)

    def test_every_host_is_replaced(self):
        """By a fresh process of the next generation, for that reason, though nothing has changed."""
        old = {pool: self.host_pids(pool) for pool in ("process", "thread")}
        self.hup()
        for pool, pids in old.items():
            self.wait_replaced(pool, pids)
            self.assertEqual(self.restarts(pool), {"reloaded": len(pids)})
            for worker in self.http.pool(pool)["worker_list"]:
                self.assertEqual(worker["generation"], 2)
            self.assert_succeeded(self.http.run("echo", 1, pool))

    def test_running_and_waiting_jobs_are_kept(self):
        """They end as they would have, by the terms they were submitted under; old ones stay."""
        ended = self.http.run("echo", "before", "process")
        for pool in ("process", "thread"):
            running = [self.http.start("sleep", {"ms": 700}, pool)["id"] for _ in range(2)]
            pids = {self.wait_for_state(job_id, "running")["worker"]["pid"] for job_id in running}
            waiting = [self.http.start("echo", n, pool)["id"] for n in range(10)]
            delayed = self.http.start("echo", 1, pool, delay_ms=1000)["id"]
            self.rewrite({"pools": {pool: {"timeout_ms": 100}}})
            self.hup()
            for job_id in [*running, *waiting, delayed]:
                job = self.wait_ended(job_id)
                self.assert_succeeded(job)
                self.assertEqual(job["attempt"], 1)
            for job_id in running:
                self.assertIn(self.http.job(job_id)["worker"]["pid"], pids)
            self.wait_replaced(pool, pids)
        self.assertEqual(self.http.job(ended["id"]), ended)

    def test_jobs_outlive_the_tasks_that_they_ran(self):
        """What the old configuration declared can still be read of its jobs, also after two more."""
        old = {pool: self.host_pids(pool) for pool in ("process", "thread")}
        self.rewrite({"tasks": {"nothing": {"command": {"argv": ["true"]}}}})
        self.hup()
        for pool, pids in old.items():
            self.wait_replaced(pool, pids)
        job = self.http.run("nothing", {}, "process")
        batch = self.http.submit_batch("nothing", [{}], "thread").json
        for _ in range(2):
            self.rewrite({})
            self.hup()
        self.assertEqual(self.http.job(job["id"]), job)
        self.assertEqual(self.http.get(f"/batches/{batch['id']}").json, batch)
        self.assertIn("nothing", [entry["task"] for entry in self.http.get("/jobs").json["jobs"]])

    def test_waiting_jobs_run_the_task_that_they_name(self):
        """Also when tasks come before it in the table or go; one whose task has gone ends, and says so."""
        tasks = {"zebra": {"command": {"argv": ["true"]}}}
        self.rewrite({"tasks": tasks})
        self.hup()
        busy = [self.http.start("sleep", {"ms": 60000}, "process")["id"] for _ in range(2)]
        waiting = [self.http.start("primes", {"n": 1000}, "process")["id"] for _ in range(3)]
        delayed = self.http.start("primes", {"n": 1000}, "thread", delay_ms=1000)["id"]
        orphan = self.http.start("zebra", {}, "process")["id"]
        self.rewrite({"tasks": {"aardvark": {"command": {"argv": ["false"]}}}})
        self.hup()
        job = self.wait_ended(orphan)
        self.assert_error(job, "failed", "task_error")
        self.assertIn("no longer configured", job["error"]["message"])
        self.cancel_all(busy)
        for one in (*waiting, delayed):
            job = self.wait_ended(one)
            self.assert_succeeded(job)
            self.assertEqual(job["result"]["count"], 168)

    def test_no_job_is_lost_while_jobs_flow(self):
        """Many reloads under load: each job succeeds at its first attempt, none is refused."""
        stop = threading.Event()
        failures = []

        def flow(client, pool):
            try:
                number = 0
                while not stop.is_set():
                    job = client.run("sleep", {"ms": number % 5}, pool)
                    if (job["state"], job["attempt"]) != ("succeeded", 1):
                        raise AssertionError(job)
                    number += 1
            except Exception as wrong:  # noqa: BLE001 - handed to the test
                failures.append(wrong)
        threads = [threading.Thread(target=flow, args=(self.service.client(), pool))
                   for pool in ("process", "thread") for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(6):
                self.rewrite({"pools": {"process": {"hosts": 2 + number % 3}}})
                old = self.host_pids("process") | self.host_pids("thread")
                self.hup()
                self.wait_replaced("process", old)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        for pool in ("process", "thread"):
            self.assertEqual(set(self.restarts(pool)) - {"reloaded", "resized"}, set())

    def test_the_size_follows(self):
        """More hosts, then fewer."""
        for hosts in (4, 1):
            self.rewrite({"pools": {"process": {"hosts": hosts}}})
            self.hup()
            wait_until(lambda hosts=hosts: (entry := self.http.pool("process"))["hosts"] == hosts
                       and entry["workers_down"] == 0 and len(entry["worker_list"]) == hosts,
                       f"there are {hosts} hosts")

    def test_a_pool_can_be_added(self):
        """It takes jobs, is listed, and shows in /stats."""
        self.rewrite({"pools": {"extra": {"hosts": 1, "threads": 2}}, "default_pool": "extra"})
        self.hup()
        self.wait_all_workers()
        job = self.http.run("echo", 1)
        self.assert_succeeded(job)
        self.assertEqual(job["pool"], "extra")
        self.assertEqual(self.http.get("/pools").json["default"], "extra")
        self.assertEqual(self.http.stats()["pools"]["extra"]["ended"]["succeeded"], 1)
        counter = self.http.run("counter", {"increments": 5, "memory": "shared"}, "extra")
        self.assertEqual(counter["result"]["value"], 5)
        self.assert_status(self.http.get("/readyz"), 200)

    def test_a_task_can_be_enabled_and_disabled(self):
        """Jobs for it are taken, or refused, from then on."""
        self.assert_problem(self.http.submit("spawn", {}), 422, "spawn", field="task")
        self.rewrite({"tasks": {"crash": {"enabled": False}, "spawn": {"enabled": True}}})
        self.hup()
        self.wait_all_workers()
        self.assert_succeeded(self.http.run("spawn", {"children": 0}, "process"))
        self.assert_problem(self.http.submit("crash", {}), 422, "crash", field="task")

    def test_what_a_patch_had_changed_is_as_the_file_has_it(self):
        """The file is the word; pausing is no setting of the file and stays."""
        self.assert_status(self.http.patch_pool("process", hosts=4, paused=True), 200)
        self.hup()
        wait_until(lambda: self.http.pool("process")["hosts"] == 2, "the file's number is in force")
        self.assertIs(self.http.pool("process")["paused"], True)

    def test_several_at_once_do_no_harm(self):
        """Signals may overtake each other; afterwards the last file is in force."""
        for number in range(20):
            self.rewrite({"pools": {"process": {"timeout_ms": 1000 + number}}})
            self.service.signal(signal.SIGHUP)
        wait_until(lambda: self.http.pool("process")["timeout_ms"] == 1019,
                   "the last one is in force")
        self.wait_all_workers()
        for pool in ("process", "thread"):
            self.assert_succeeded(self.http.run("echo", 1, pool))

    def test_what_was_held_is_given_back(self):
        """After several reloads the server and the master hold as many descriptors as before."""
        self.hup()
        self.wait_all_workers()
        wait_until(lambda: self.restarts("process").get("reloaded") == 2, "both are replaced")
        wait_until(lambda: self.restarts("thread").get("reloaded") == 1, "and the other")
        self.wait_all_workers()
        pids = (self.service.server_pid, self.service.master_pid)
        before = [len(proc.descriptors(pid)) for pid in pids]
        for number in range(4):
            old = self.host_pids("process") | self.host_pids("thread")
            self.hup()
            self.wait_replaced("process", old)
        wait_until(lambda: [len(proc.descriptors(pid)) for pid in pids] <= before,
                   "no descriptor is left")


class RefusedTest(ReloadCase):
    """A bad configuration: the old one stays, and the log says what is wrong with the new."""

    def assert_refused(self, changes, field, *fragments):
        """This is refused on account of that field; the service goes on as it was."""
        before = self.host_pids("process")
        config = self.http.get("/pools/process").json
        self.rewrite(changes)
        line = self.hup("reload_refused")
        self.assertEqual(line["level"], "error")
        self.assertEqual(line["field"], field, line)
        for fragment in fragments:
            self.assertIn(fragment, line["error"])
        self.assertEqual(self.http.get("/pools/process").json["timeout_ms"], config["timeout_ms"])
        self.assert_succeeded(self.http.run("echo", 1, "process"))
        self.assertEqual(self.host_pids("process"), before)
        self.assertEqual(self.events("reloaded"), 0)

    def test_what_is_wrong_is_named(self):
        """Ranges, unknown fields, unknown tasks, no JSON at all."""
        self.assert_refused({"pools": {"process": {"timeout_ms": -5}}}, "pools.process.timeout_ms",
                            "-5")
        self.assert_refused({"pools": {"process": {"colour": 1}}}, "pools.process.colour")
        self.assert_refused({"tasks": {"prims": {}}}, "tasks.prims", "primes")
        self.rewrite("{")
        self.assertEqual(self.hup("reload_refused")["level"], "error")

    def test_what_needs_a_restart_is_refused(self):
        """The address, the threads of a pool, a pool that is gone."""
        self.assert_refused({"server": {"listen": "127.0.0.1:1"}}, "server.listen", "restart")
        self.assert_refused({"pools": {"thread": {"threads": 3}}}, "pools.thread.threads",
                            "restart")
        self.assert_refused({"pools": {"thread": None}}, "pools.thread", "restart")

    def test_a_good_one_after_a_bad_one_is_taken(self):
        """The refusal leaves nothing behind."""
        self.assert_refused({"pools": {"process": {"timeout_ms": "soon"}}},
                            "pools.process.timeout_ms")
        self.rewrite({"pools": {"process": {"timeout_ms": 4321}}})
        self.hup()
        self.assertEqual(self.http.pool("process")["timeout_ms"], 4321)

    def test_a_file_that_is_gone_is_refused(self):
        """And the service stays."""
        self.rewrite("")
        self.hup("reload_refused")
        self.assert_succeeded(self.http.run("echo", 1, "thread"))
