"""A plug-in that does what none should harms its own host, and nothing else."""

import json
import os
import shutil
import signal
import time

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.service import run_binary
from tests.harness.timing import SANITIZER, seconds, wait_until

PLUGINS = os.path.join(os.environ.get("TWINPOOL_BUILD", "."), "tests", "plugins")
POOLS = ("process", "thread")
ENDED_HOST = ("crashed", "timed_out")
# What the plug-in's task does: in which states its job may end, on either kind of pool.
WAYS = {
    "exit": ("crashed",),
    "abort": ("crashed",),
    "overflow": ("crashed",),
    "jump": ("crashed",),
    "socket": ("crashed",),
    "close_all": ("crashed",),
    "exec": ("crashed",),
    "stop": ("timed_out", "crashed"),
    "thread_exit": ("timed_out", "crashed"),
    "scoreboard": ("succeeded", "crashed", "timed_out"),
    "fork": ("succeeded",),
    "signals": ("succeeded",),
    "threads": ("succeeded",),
    "leak": ("succeeded",),
    "stdout": ("succeeded",),
    "log": ("succeeded",),
}
if SANITIZER:
    # Its runtime takes a thread's signal stack for its own when the thread ends by itself, and has
    # an opinion on long jumps.
    del WAYS["thread_exit"], WAYS["jump"]
if SANITIZER == "thread":
    del WAYS["scoreboard"]  # a race, it says, and is right


def plugin(name):
    """Path of one of the plug-ins that are built for these tests."""
    return os.path.join(PLUGINS, f"{name}.so")


def hostile(**settings):
    """The hostile plug-in's entry in the configuration."""
    return {"path": plugin("hostile"), "settings": {"hostile": settings} if settings else {}}


class HostilePluginCase(ServiceCase):
    """Asks again and again whether the service still does what it is there for."""

    config = {"plugins": [hostile()]}

    def assert_serves(self, *pools):
        """Both pools run other jobs, at once and all of them."""
        for pool in pools or POOLS:
            batch = self.http.submit_batch("echo", list(range(20)), pool).json
            self.assertEqual(batch["by_state"], {"succeeded": 20}, batch)

    def log_events(self, name):
        """Entries of the log with this event so far."""
        return self.service.log(name)


class TaskTest(HostilePluginCase):
    """What its run function may do."""

    def be_hostile(self, how, pool):
        """Runs one hostile job, which has two seconds; answers its document."""
        return self.http.run("hostile", {"how": how}, pool, timeout_ms=2000)

    def test_each_way_harms_only_its_host(self):
        """The job ends as it may; then, on both pools, others run, and a host that fell is back."""
        for how, states in WAYS.items():
            for pool in POOLS:
                with self.subTest(how=how, pool=pool):
                    other = POOLS[1 - POOLS.index(pool)]
                    before = {worker["pid"] for worker in self.http.pool(other)["worker_list"]}
                    job = self.be_hostile(how, pool)
                    self.assertIn(job["state"], states, job)
                    self.assert_serves(other)
                    self.assertEqual({worker["pid"] for worker
                                      in self.http.pool(other)["worker_list"]}, before)
                    self.wait_all_workers()
                    self.assert_serves()
                    self.assert_status(self.http.get("/readyz"), 200)

    def test_the_death_is_told(self):
        """exit() and abort() are told as what they are, on both pools."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                error = self.be_hostile("exit", pool)["error"]
                self.assertEqual((error["code"], error.get("exit_status")), ("exit_status", 7))
                error = self.be_hostile("abort", pool)["error"]
                self.assertEqual((error["code"], error["signal_name"]), ("signal", "SIGABRT"))
                error = self.be_hostile("overflow", pool)["error"]
                self.assertEqual((error["code"], error["signal_name"]), ("signal", "SIGSEGV"))

    def test_a_job_is_stoppable_after_signals_were_blocked(self):
        """The host whose signals are all ignored still stops, or is killed with, the next job."""
        self.stop_service()
        self.start_service({"plugins": [hostile()], "pools": {"process": {"hosts": 1}}})
        self.assert_succeeded(self.be_hostile("signals", "process"))
        job = self.http.start("spin", {"ms": 60000, "ignore_stop": True}, "process")
        self.wait_for_state(job["id"], "running")
        self.http.delete(f"/jobs/{job['id']}")
        self.assertEqual(self.wait_ended(job["id"])["state"], "cancelled")
        self.assert_serves()

    def test_a_neighbour_is_told_who_it_was(self):
        """On threads the crash of the plug-in's job takes others down, and they name it."""
        sleeper = self.http.start("sleep", {"ms": 30000}, "thread")["id"]
        self.wait_for_state(sleeper, "running")
        crash = self.be_hostile("abort", "thread")
        job = self.wait_ended(sleeper)
        self.assertEqual((job["state"], job["error"]["code"], job["error"].get("culprit")),
                         ("crashed", "host_lost", crash["id"]))

    def test_its_log_lines_are_bounded_and_named(self):
        """They bear the job and the task, are escaped, cut, and at most a few hundred a job."""
        job = self.be_hostile("log", "process")
        self.assert_succeeded(job)
        lines = wait_until(lambda: self.log_events("task_log"), "the lines are in the log")
        self.assertLess(len(lines), 1000)
        self.assertEqual((lines[0]["job"], lines[0]["task"], lines[0]["pool"]),
                         (job["id"], "hostile", "process"))
        self.assertTrue(lines[0]["text"].startswith("line 0 with \n"), lines[0])

    def test_a_lock_outlives_its_holder(self):
        """One who dies with a lock, or returns with it, leaves it to the next, who is told of death."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                def lock(**args):
                    return self.http.run("hostile.lock", args, pool, timeout_ms=5000)
                self.assertEqual(lock()["result"], {"value": 1, "died": False})
                self.assertEqual(lock(keep=True)["result"], {"value": 2, "died": False})
                self.assertEqual(lock()["result"], {"value": 3, "died": False})
                self.assertEqual(lock(die=True)["state"], "crashed")
                self.assertEqual(lock()["result"], {"value": 5, "died": True})
                self.assertEqual(lock()["result"], {"value": 6, "died": False})


class LoadTest(HostilePluginCase):
    """What cannot be loaded or set up is left out, with a reason, and the rest serves."""

    REASONS = {
        "abi": "was built for version 1001",
        "refuses": "cannot work with version 1",
        "no_entry": "does not export tp_plugin_entry()",
        "undefined": "undefined symbol: tp_is_not_there",
        "bad_schema": "pattern",
        "clash": "there already",
        "no_run": "lacks a name, a description, a schema or a function",
        "constructor": "crashed while it was loaded (SIGABRT)",
    }
    SET_UPS = {
        "fail": "its {0}() failed: it was told to",
        "segv": "crashed in its {0}() (SIGSEGV)",
        "exit": "exit status 3, in its {0}()",
        "close_all": "",
    }

    def assert_left_out(self, *fragments, service=True):
        """/readyz and the log give this reason; hosts serve without the tasks."""
        answer = self.http.get("/readyz")
        self.assert_problem(answer, 503, "was left out", *fragments)
        if service:
            self.assert_serves()
        self.assertNotIn("hostile", [task["name"] for task in self.http.get("/tasks").json["tasks"]])
        self.assert_status(self.http.submit("hostile", {"how": "leak"}), 422)
        told = [entry["error"] for entry in self.log_events("plugin_left_out")]
        self.assertTrue(any(all(part in text for part in fragments) for text in told), told)

    def restart(self, **changes):
        """The service again, with another configuration."""
        self.stop_service()
        self.start_service(changes)

    def test_each_reason_is_told(self):
        """One after the other, by /readyz, the log and --check-config."""
        for variant, reason in self.REASONS.items():
            with self.subTest(variant=variant):
                path = plugin(f"hostile_{variant}")
                self.restart(plugins=[{"path": path}])
                self.assert_left_out(path, reason)
                config = os.path.join(self.directory, "twinpool.json")
                checked = run_binary("--check-config", "--config", config)
                self.assertEqual(checked.returncode, 2)
                self.assertIn(reason, checked.stderr)

    def test_a_file_that_is_not_there_or_no_shared_object(self):
        """Both are told by the loader's own words."""
        path = self.write_file("text.so", "this is no shared object\n" * 10)
        self.restart(plugins=[{"path": "missing.so"}])
        self.assert_left_out(os.path.join(self.directory, "missing.so"), "No such file")
        self.restart(plugins=[{"path": path}])
        self.assert_left_out(path, "invalid ELF header")

    def test_a_set_up_that_goes_wrong(self):
        """In host_open() or in thread_open(): the service never lets it near a host."""
        for where in ("host_open", "thread_open"):
            for how, reason in self.SET_UPS.items():
                with self.subTest(where=where, how=how):
                    self.restart(plugins=[hostile(**{where: how})])
                    self.assert_left_out(plugin("hostile"), reason.format(where))

    def test_a_set_up_that_hangs_or_leaves_processes(self):
        """It gets ten seconds; what it has started is ended, as the end of the test sees."""
        self.restart(plugins=[hostile(host_open="fork")])
        self.assert_status(self.http.get("/readyz"), 200)
        self.stop_service()
        begin = time.monotonic()
        self.start_service({"plugins": [hostile(host_open="hang")]})
        self.assertGreater(time.monotonic() - begin, 9)
        self.assert_left_out("10000 ms", "in its host_open()")

    def test_settings_for_a_task_that_is_not_there(self):
        """A misspelt name is told, with the name."""
        entry = hostile()
        entry["settings"] = {"hostil": {"x": "y"}}
        self.restart(plugins=[entry])
        self.assert_left_out("hostil")

    def test_one_bad_plugin_leaves_the_others(self):
        """Settings of its tasks do not stop the service either; the second clash is left out."""
        copy = os.path.join(self.directory, "copy.so")
        shutil.copy(plugin("hostile"), copy)
        self.restart(plugins=[{"path": plugin("hostile_abi")}, hostile(), {"path": copy}],
                     tasks={"of.the.first": {"max_running": 1}, "hostile": {"max_running": 1}})
        self.assert_problem(self.http.get("/readyz"), 503, "1001")
        problems = [entry["error"] for entry in self.log_events("plugin_left_out")]
        self.assertEqual(len(problems), 3, problems)
        self.assertIn("there already", problems[1])
        self.assertIn("of.the.first", problems[2])
        self.assert_succeeded(self.http.run("hostile", {"how": "leak"}))

    def test_an_unknown_task_is_refused_where_all_is_well(self):
        """Only a problem with a plug-in excuses a name that no task bears."""
        path = self.write_file("wrong.json", {"plugins": [hostile()], "tasks": {"nobody": {}}})
        checked = run_binary("--check-config", "--config", path)
        self.assertEqual(checked.returncode, 2)
        self.assertIn("tasks.nobody", checked.stderr)


class HostSetUpTest(HostilePluginCase):
    """What passed its trial and fails in the hosts: back-off, and /readyz tells."""

    def setUp(self):
        self.flag = None
        super().setUp()

    def start_service(self, changes=None, **options):
        self.flag = os.path.join(self.directory, "flag")
        changes = {"plugins": [hostile(fail_if=self.flag)],
                   "pools": {"process": {"hosts": 1, "restart_backoff_ms": 100,
                                         "restart_backoff_max_ms": 400}}}
        super().start_service(changes, **options)

    def test_hosts_that_fail_their_set_up(self):
        """The host that dies does not come back until it can; the other pool does not notice."""
        self.write_file("flag", "")
        self.kill_host("process", number=signal.SIGKILL)
        wait_until(lambda: self.http.pool("process")["worker_list"][0]["state"] == "backoff",
                   "the pool backs off")
        self.assert_problem(self.http.get("/readyz"), 503, "process")
        self.assert_serves("thread")
        told = wait_until(lambda: [entry for entry in self.log_events("host_output")
                                   if "host_open() failed" in entry["text"]], "the log tells why")
        self.assertIn(self.flag, told[0]["text"])
        os.remove(self.flag)
        self.wait_all_workers()
        self.assert_status(self.http.get("/readyz"), 200)
        self.assert_serves()


class ReloadTest(HostilePluginCase):
    """SIGHUP takes plug-ins anew."""

    def setUp(self):
        super().setUp()
        self.so = os.path.join(self.directory, "plugin.so")

    def reload(self, **changes):
        """Writes another configuration and asks for it."""
        path = os.path.join(self.directory, "twinpool.json")
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        config.update(changes)
        self.write_file("twinpool.json", config)
        reloads = len(self.log_events("reloaded"))
        self.service.signal(signal.SIGHUP)
        return reloads

    def wait_reloaded(self, reloads, deadline=10):
        """Waits until the server has taken what reload() asked for, and hosts are new."""
        wait_until(lambda: len(self.log_events("reloaded")) > reloads, "it was reloaded", deadline)

    def put(self, source):
        """Puts a plug-in's file in place as it should be done: by renaming."""
        shutil.copy(plugin(source), self.so + ".new")
        os.rename(self.so + ".new", self.so)

    def task_names(self):
        """Names of all tasks."""
        return [task["name"] for task in self.http.get("/tasks").json["tasks"]]

    def test_plugins_come_go_and_break_and_mend(self):
        """Each reload has the tasks of what lies there then; a broken one costs only its tasks."""
        self.wait_reloaded(self.reload(plugins=[]))
        self.assertNotIn("hostile", self.task_names())
        self.put("hostile_abi")
        self.wait_reloaded(self.reload(plugins=[{"path": self.so}]))
        self.wait_all_workers()
        self.assert_problem(self.http.get("/readyz"), 503, "1001")
        self.assert_serves()
        self.put("hostile")
        self.wait_reloaded(self.reload())
        self.assertIn("hostile", self.task_names())
        self.wait_all_workers()
        for pool in POOLS:
            self.assert_succeeded(self.http.run("hostile", {"how": "leak"}, pool))
        self.assert_status(self.http.get("/readyz"), 200)

    def test_the_service_lives_while_a_plugin_hangs_in_its_trial(self):
        """Jobs run, crash, and hosts come back, in the ten seconds that the trial takes."""
        reloads = self.reload(plugins=[hostile(host_open="hang")])
        begin = time.monotonic()
        while time.monotonic() - begin < 3:
            self.assertEqual(self.http.run("crash", None, "process")["state"], "crashed")
            self.wait_all_workers(deadline=3)
            self.assert_serves()
        self.assertEqual(len(self.log_events("reloaded")), reloads, "the trial goes on")
        self.wait_reloaded(reloads, deadline=15)
        self.wait_all_workers()
        self.assert_problem(self.http.get("/readyz"), 503, "10000 ms")
        self.assert_serves()

    def test_a_sighup_during_a_trial_is_not_lost(self):
        """What lies there at the end is what is in force at the end."""
        reloads = self.reload(plugins=[hostile(host_open="hang")])
        time.sleep(0.2)
        self.reload(plugins=[])
        self.wait_reloaded(reloads, deadline=20)
        self.wait_all_workers()
        self.assert_status(self.http.get("/readyz"), 200)
        self.assertNotIn("hostile", self.task_names())

    def test_it_can_be_stopped_during_a_trial(self):
        """SIGTERM ends everything, the trial included; the end of the test looks at processes."""
        self.reload(plugins=[hostile(host_open="hang")])
        wait_until(lambda: any(self.is_trial(pid) for pid
                               in proc.children_of(self.service.master_pid)), "the trial runs")
        begin = time.monotonic()
        self.stop_service()
        self.assertLess(time.monotonic() - begin, seconds(6))

    @staticmethod
    def is_trial(pid):
        """Whether this process is a trial of plug-ins."""
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                return file.read() == "trial\n"
        except OSError:
            return False

    def test_no_code_of_a_plugin_is_in_master_or_server(self):
        """The file is mapped by every host and by nobody else."""
        self.assert_serves()
        hosts = {worker["pid"] for pool in POOLS for worker in self.http.pool(pool)["worker_list"]}

        def maps(pid):
            with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
                return plugin("hostile") in file.read()
        for pid in hosts:
            self.assertTrue(maps(pid))
        self.assertFalse(maps(self.service.master_pid))
        self.assertFalse(maps(self.service.server_pid))
