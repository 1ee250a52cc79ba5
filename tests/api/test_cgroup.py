"""Commands in cgroups of their own, and what /capabilities says of that.

Most of it needs root and a cgroup v2 hierarchy that has the memory and pids controllers, of which a
part is made for the test; tests/vm/run has that everywhere. Elsewhere only the truth about its
absence is tested.
"""

import os
import shutil
import signal
import tempfile
import unittest
import uuid

from tests.harness import proc
from tests.harness.case import BASE_CONFIG, ServiceCase, merged
from tests.harness.service import Service, run_binary
from tests.harness.timing import SANITIZER, seconds, wait_until

MIB = 1 << 20
ROOT = "/sys/fs/cgroup"
POOLS = ("process", "thread")
NOBODY = 65534
# Moves itself to the cgroup $0, then becomes what follows.
ENTER = ("/bin/sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"')
TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}

TOUCH = "import sys; held = b'x' * (int(sys.argv[1]) << 20)"
# Holds 40 MiB while another that holds as much runs beside it.
TOUCH_TWICE = f"""
import os
held = b"x" * (40 << 20)
os.spawnv(os.P_WAIT, "/usr/bin/python3", ["python3", "-S", "-E", "-c", {TOUCH!r}, "40"])
"""
FORK = """
import os, sys, time
count = 0
try:
    while count < 500:
        if os.fork() == 0:
            time.sleep(300)
            os._exit(0)
        count += 1
except BlockingIOError:
    pass
print(count)
"""
# Leaves session, parent and environment behind, and says when it has.
FLEE = """
import os
read_end, write_end = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.set_inheritable(write_end, True)
        os.execve("/bin/sh", ["sh", "-c", f"echo $$ >&{write_end}; exec {write_end}>&- >/dev/null 2>&1; exec sleep 300"], {})
    os._exit(0)
os.close(write_end)
os.wait()
print(os.read(read_end, 20).decode())
"""


def python(program, **members):
    """A command that runs this program with {text} as its argument."""
    literal = program.replace("{", "{{").replace("}", "}}")
    return {"command": {"argv": ["/usr/bin/python3", "-S", "-E", "-c", literal, "{text}"], **members},
            "args_schema": TEXT}


TASKS = {
    "true": {"command": {"argv": ["true"]}},
    "sh": {"command": {"argv": ["sh", "-c", "{text}"]}, "args_schema": TEXT},
    "touch": python(TOUCH),
    "touch-twice": python(TOUCH_TWICE),
    "fork": python(FORK, rlimits={"processes": 20}),
    "flee": python(FLEE),
}


def read(*path):
    """A file of a cgroup, without its final newline."""
    with open(os.path.join(*path), encoding="ascii") as file:
        return file.read().rstrip("\n")


def write(text, *path):
    """Writes to a file of a cgroup."""
    with open(os.path.join(*path), "w", encoding="ascii") as file:
        file.write(text)


def directories(path):
    """The cgroups directly below one."""
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())


def obstacle():
    """Why no cgroup can be made for a test here; None if one can."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        given = read(ROOT, "cgroup.subtree_control").split()
    except OSError:
        return f"no cgroup v2 at {ROOT}"
    if not {"memory", "pids"} <= set(given):
        return f"{ROOT} does not give the memory and pids controllers of v2 on"
    return None if os.access(ROOT, os.W_OK) and not os.statvfs(ROOT).f_flag & os.ST_RDONLY \
        else f"{ROOT} cannot be written to"


def make_cgroup(suffix=""):
    """A directory for one test."""
    path = os.path.join(ROOT, f"twinpool-test-{uuid.uuid4().hex[:12]}{suffix}")
    os.mkdir(path)
    return path


def remove_cgroup(path):
    """With all that a failed test has left in it."""
    if not os.path.isdir(path):
        return
    write("1", path, "cgroup.kill")
    wait_until(lambda: "populated 0" in read(path, "cgroup.events"), f"{path} is empty")
    for directory, _, _ in os.walk(path, topdown=False):
        os.rmdir(directory)


class CgroupCase(ServiceCase):
    """A service with these tasks, started in a cgroup of the test's or without one."""

    def start(self, changes=None, enter=None, wrapper=()):
        """As start_service(), in the cgroup `enter` and through the wrapper."""
        changes = {"tasks": TASKS, "data_dir": "data", **(changes or {})}
        path = self.write_file("twinpool.json", merged(BASE_CONFIG, changes))
        if enter is not None:
            wrapper = (*ENTER, enter, *wrapper)
        self.service = Service(path, self.arguments, wrapper=wrapper)
        self.addCleanup(self.service.destroy)
        self.service.wait_ready()
        self.http = self.service.client()
        self.judged = False
        self.wait_all_workers()

    def cgroup(self):
        """What /capabilities says of cgroups."""
        return self.http.get("/capabilities").json["cgroup"]

    def expect_none(self, reason):
        """Cgroups are not in force, for this reason, and limits are said to be kept otherwise."""
        found = self.http.get("/capabilities").json
        self.assertIs(found["cgroup"]["in_force"], False)
        self.assertRegex(found["cgroup"]["reason"], reason)
        self.assertEqual((found["limits"]["command_memory"], found["limits"]["command_processes"],
                          found["metering"]["command_memory"]), ("rlimit_data", "rlimit_nproc", "wait4"))
        job = self.http.run("true")
        self.assert_succeeded(job)
        self.assertNotEqual(job["memory"]["source"], "cgroup_memory_peak")

    def start_fails(self, path, *fragments):
        """A cgroup that is named and cannot be used: exit status 1, and the log says why."""
        config = self.write_file("other.json", merged(BASE_CONFIG, {"commands": {"cgroup": path}}))
        ended = run_binary("--config", config)
        self.assertEqual(ended.returncode, 1, ended.stderr)
        self.assertIn("cgroup_unusable", ended.stderr)
        for fragment in fragments:
            self.assertIn(fragment, ended.stderr)


class WithoutTest(CgroupCase):
    """Where there is no cgroup for it, whatever the machine has."""

    def setUp(self):
        super().setUp()
        self.stop_service()

    def test_who_shares_a_cgroup_has_none(self):
        """The service is in the test's own cgroup: it must take nothing, and say so."""
        own = [line for line in read("/proc/self/cgroup").splitlines()]
        self.start()
        self.expect_none(".")
        has_v1_memory = any("memory" in line.split(":")[1].split(",") for line in own)
        self.assertEqual(self.cgroup()["version"], 1 if has_v1_memory or not own[-1].startswith("0::") else 2)
        self.assertEqual(read(f"/proc/{self.service.master_pid}/cgroup").splitlines(), own)

    def test_off(self):
        """By the configuration."""
        self.start({"commands": {"cgroup": "off"}})
        self.expect_none("commands.cgroup: off")

    def test_a_directory_that_is_none_stops_the_start(self):
        """Who names one relies on it."""
        self.start_fails(self.directory, "is no cgroup of version 2", "commands.cgroup")
        self.start_fails("/none", "No such file or directory")


@unittest.skipIf(obstacle(), obstacle())
class DelegatedTest(CgroupCase):
    """A service that was started in a cgroup of its own."""

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        self.base = make_cgroup()
        self.addCleanup(remove_cgroup, self.base)
        self.start(changes, self.base)
        self.assertIs(self.cgroup()["in_force"], True, self.cgroup())

    def tearDown(self):
        super().tearDown()
        self.assertEqual(directories(self.base), [], "cgroups that were left")
        self.assertEqual(read(self.base, "cgroup.subtree_control"), "")

    def runs(self):
        """The cgroups of runs that are there."""
        return directories(os.path.join(self.base, "runs"))

    def test_what_is_in_force(self):
        """It is told, and is as told: no process in the base, the service beside the runs."""
        found = self.http.get("/capabilities").json
        self.assertEqual(found["cgroup"], {"version": 2, "path": self.base, "writable": True, "in_force": True,
                                           "controllers": read(self.base, "cgroup.controllers"), "reason": None})
        self.assertEqual((found["limits"]["command_memory"], found["limits"]["command_processes"]),
                         ("cgroup_memory_max", "cgroup_pids_max"))
        self.assertEqual(read(self.base, "cgroup.procs"), "")
        self.assertEqual({int(pid) for pid in read(self.base, "service", "cgroup.procs").split()},
                         set(self.service.processes()))
        job = self.http.run("sh", {"text": "cat /proc/self/cgroup"})
        self.assertRegex(job["stdout"]["text"], r"^0::/[^/]+/runs/[0-9]+\.[0-9]+\n$")

    def test_the_peak_is_of_all_processes(self):
        """What was touched, within the room of an interpreter and of the kernel's own."""
        if not os.path.exists(os.path.join(self.base, "memory.peak")):
            self.skipTest("the kernel keeps no memory.peak (Linux 5.19)")
        for pool in POOLS:
            self.http.run("touch", {"text": "1"}, pool)  # files of the interpreter are charged to who reads them first
            base = self.http.run("touch", {"text": "1"}, pool)["memory"]["peak_bytes"]
            job = self.http.run("touch", {"text": "81"}, pool)
            self.assert_succeeded(job)
            self.assertEqual((job["memory"]["source"], job["memory"]["scope"]), ("cgroup_memory_peak", "children"))
            self.assertAlmostEqual(job["memory"]["peak_bytes"] - base, 80 * MIB, delta=4 * MIB)
            job = self.http.run("touch-twice", {"text": ""}, pool)
            self.assertGreater(job["memory"]["peak_bytes"], 80 * MIB)

    def test_a_memory_limit_is_the_whole_runs(self):
        """The kernel ends all of it; the job has failed with limit and seen, though a shell would go on."""
        for pool in POOLS[:1] if SANITIZER else POOLS:
            for text in ("81", "300"):
                job = self.http.run("touch", {"text": text}, pool, limits={"memory_bytes": 60 * MIB})
                self.assert_error(job, "failed", "memory_limit", limit_bytes=60 * MIB)
                self.assertAlmostEqual(job["error"]["seen_bytes"], 60 * MIB, delta=MIB)
            text = f"python3 -S -E -c \"{TOUCH}\" 100; echo went on"
            job = self.http.run("sh", {"text": text}, pool, limits={"memory_bytes": 60 * MIB})
            self.assert_error(job, "failed", "memory_limit", limit_bytes=60 * MIB)
            self.assertEqual(job["stdout"]["text"], "")
            self.assert_succeeded(self.http.run("touch", {"text": "20"}, pool, limits={"memory_bytes": 60 * MIB}))

    def test_processes_are_bounded(self):
        """Also of root, and each run for itself."""
        for pool in POOLS:
            job = self.http.run("fork", {"text": ""}, pool)
            self.assert_succeeded(job)
            self.assertEqual(int(job["stdout"]["text"]), 19)
        self.assertEqual(self.runs(), [])

    def test_who_flees_is_killed(self):
        """Without its session, its parent and its environment; on threads as well."""
        for pool in POOLS:
            job = self.http.run("flee", {"text": ""}, pool)
            self.assert_succeeded(job)
            self.assertFalse(os.path.exists(f"/proc/{int(job['stdout']['text'])}"), "neither runs nor is a zombie")

    def test_cpu_time_is_of_all_processes(self):
        """A limit counts what nobody has waited for yet."""
        for pool in POOLS:
            text = "(while :; do :; done) & (while :; do :; done) & wait"
            job = self.http.run("sh", {"text": text}, pool, limits={"cpu_ms": 300})
            self.assert_error(job, "timed_out", "cpu_limit")
            used = job["timing"]["cpu_user_ms"] + job["timing"]["cpu_system_ms"]
            self.assertTrue(300 <= used < seconds(5000), job["timing"])

    def test_nothing_is_left(self):
        """After 200 runs: no cgroup, no process, no descriptor."""
        before = {pool: len(proc.descriptors(self.host_pid(pool))) for pool in POOLS}
        for pool in POOLS:
            answer = self.http.submit_batch("true", [{}] * 100, pool, wait=30)
            if answer.status == 202:
                answer = self.http.get(f"/batches/{answer.json['id']}", wait=30)
            self.assertEqual(answer.json["state"], "succeeded", answer)
        self.assertEqual(self.runs(), [])
        for pool in POOLS:
            self.assertEqual(proc.children_of(self.host_pid(pool)), [])
            self.assertEqual(len(proc.descriptors(self.host_pid(pool))), before[pool])

    def test_a_killed_host_leaves_nothing(self):
        """Nor do those who fled from it."""
        for pool in POOLS:
            job = self.http.start("sh", {"text": "(setsid sleep 300 &) ; sleep 300"}, pool)["id"]
            self.wait_for_state(job, "running")
            wait_until(lambda: len(self.runs()) == 1 and
                       len(read(self.base, "runs", self.runs()[0], "cgroup.procs").split()) >= 2, "it runs")
            pids = read(self.base, "runs", self.runs()[0], "cgroup.procs").split()
            self.kill_host(pool, self.http.job(job)["worker"]["host"])
            self.assertEqual(self.wait_ended(job)["state"], "crashed")
            wait_until(lambda: self.runs() == [], "the cgroup is gone")
            self.assertEqual([pid for pid in pids if os.path.exists(f"/proc/{pid}")], [])
            self.wait_all_workers()

    def test_a_killed_service_is_cleared_up_after(self):
        """By the next one, that starts where it was; what its commands have left is dead."""
        job = self.http.start("sh", {"text": "(setsid sleep 300 &) ; sleep 300"}, "thread")["id"]
        self.wait_for_state(job, "running")
        wait_until(lambda: len(self.runs()) == 1 and
                   len(read(self.base, "runs", self.runs()[0], "cgroup.procs").split()) >= 2, "it runs")
        pids = read(self.base, "runs", self.runs()[0], "cgroup.procs").split()
        os.kill(self.service.master_pid, signal.SIGKILL)
        self.service.process.wait(seconds(10))
        self.judged = True
        self.assertEqual(len(self.runs()), 1)
        left = self.service
        self.start(None, os.path.join(self.base, "service"))
        self.assertIs(self.cgroup()["in_force"], True)
        self.assertEqual(self.cgroup()["path"], self.base)
        self.assertEqual(self.runs(), [])
        wait_until(lambda: not [pid for pid in pids if proc.is_running(int(pid))], "they are dead")
        left.close_clients()
        self.assert_succeeded(self.http.run("true"))

    def test_another_service_can_follow(self):
        """After a good end the cgroup is as it was before."""
        self.stop_service()
        self.assertEqual(directories(self.base), [])
        self.start(None, self.base)
        self.assertIs(self.cgroup()["in_force"], True)

    def test_a_reload_cannot_move_it(self):
        """The value in force stays."""
        path = os.path.join(self.directory, "twinpool.json")
        self.write_file("twinpool.json", read(path).replace('"data_dir"', '"commands": {"cgroup": "off"}, "data_dir"'))
        self.service.signal(signal.SIGHUP)
        wait_until(lambda: self.service.log("reload_refused"), "the reload is refused")
        self.assertEqual(self.service.log("reload_refused")[0]["field"], "commands.cgroup")


@unittest.skipIf(obstacle(), obstacle())
class SharedTest(CgroupCase):
    """Cgroups that are not the service's, or not where it is."""

    def setUp(self):
        super().setUp()
        self.stop_service()

    def make(self, suffix=""):
        """A cgroup that is gone after the test."""
        path = make_cgroup(suffix)
        self.addCleanup(remove_cgroup, path)
        return path

    def test_one_with_others_in_it_is_let_alone(self):
        """It may be written to, but that is not enough."""
        base = self.make()
        with tempfile.TemporaryFile() as null:
            other = os.posix_spawn("/bin/sh", [*ENTER, base, "sleep", "300"], os.environ,
                                   file_actions=[(os.POSIX_SPAWN_DUP2, null.fileno(), 0)])
        self.addCleanup(os.waitpid, other, 0)
        self.addCleanup(os.kill, other, signal.SIGKILL)
        wait_until(lambda: read(base, "cgroup.procs") == str(other), "somebody is in it")
        self.start(None, base)
        self.expect_none(f"has processes of others in it, such as {other}$")
        self.assertEqual((directories(base), read(base, "cgroup.subtree_control")), ([], ""))

    def test_one_of_systemd_must_be_delegated(self):
        """Root may write to all of them."""
        base = self.make(".service")
        self.start(None, base)
        self.expect_none("unit of systemd without Delegate=yes")
        self.assertEqual(directories(base), [])
        self.stop_service()
        os.setxattr(base, "user.delegate", b"1")
        self.start(None, base)
        self.assertIs(self.cgroup()["in_force"], True)

    def test_one_that_is_named(self):
        """The service stays where it is; a second service is refused, and runs of the first go on."""
        base = self.make()
        own = read("/proc/self/cgroup")
        self.start({"commands": {"cgroup": base}})
        self.assertIs(self.cgroup()["in_force"], True)
        self.assertEqual(read(f"/proc/{self.service.master_pid}/cgroup"), own)
        job = self.http.start("sh", {"text": "read -r x </proc/self/stat; sleep 300"}, "thread")["id"]
        self.wait_for_state(job, "running")
        wait_until(lambda: directories(f"{base}/runs"), "it runs")
        self.start_fails(base, "another service of this kind has")
        self.assertEqual(self.http.job(job)["state"], "running")
        self.cancel_all([job])
        self.assertEqual(self.wait_ended(job)["state"], "cancelled")
        self.stop_service()
        self.assertEqual(directories(base), [])

    def test_delegated_to_a_user(self):
        """Who is not root, and has got the directory and its three files."""
        base = self.make()
        for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(os.path.join(base, name), NOBODY, NOBODY)
        data = os.path.join(self.directory, "data")
        shutil.rmtree(data, ignore_errors=True)
        for path in (self.directory, os.path.join(self.directory, "twinpool.json")):
            os.chown(path, NOBODY, NOBODY)
        self.start(None, base, ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"))
        self.assertIs(self.cgroup()["in_force"], True, self.cgroup())
        for pool in POOLS:
            job = self.http.run("flee", {"text": ""}, pool)
            self.assert_succeeded(job)
            self.assertFalse(os.path.exists(f"/proc/{int(job['stdout']['text'])}"))
        self.stop_service()
        self.assertEqual(directories(base), [])

    def test_a_command_of_another_user(self):
        """Is put there before it becomes that user, and cannot change its limits."""
        base = self.make()
        tasks = {"as-user": {"command": {"argv": ["sh", "-c", "{text}"], "uid": NOBODY, "gid": NOBODY},
                             "args_schema": TEXT}}
        self.start({"tasks": tasks}, base)
        text = f"cat /proc/self/cgroup; cd {base}/runs/*; echo 0 >../../service/cgroup.procs || echo max >memory.max"
        job = self.http.run("as-user", {"text": text}, limits={"memory_bytes": 40 * MIB})
        self.assertEqual(job["state"], "failed")
        self.assertIn("/runs/", job["stdout"]["text"])
        self.assertEqual(job["stderr"]["text"].count("Permission denied"), 2, job)


if __name__ == "__main__":
    unittest.main()
