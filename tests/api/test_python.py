"""Tasks that are functions of Python, on both pools; skipped where the binary has none."""

import json
import os
import re
import shutil
import time
import unittest

from tests.harness.case import BASE_CONFIG, DirectoryCase, ServiceCase, merged
from tests.harness.service import SOURCE, run_binary
from tests.harness.timing import seconds, wait_until

POOLS = ("process", "thread")
SANITIZER = os.environ.get("TWINPOOL_SANITIZER")
FUNCTIONS = ("echo", "three", "nothing", "derived", "odd", "big", "fail", "recurse", "lines",
             "write_kinds", "elsewhere", "spin", "ask", "polite", "tidy", "stubborn", "about",
             "retry", "hold", "advance", "compute", "environment")
ANY = {"type": "object"}
TASKS = {f"py.{name}": {"python": f"python_functions:{name}", "args_schema": ANY}
         for name in FUNCTIONS}
TASKS["py.sleep"] = {"python": "python_functions:sleep", "args_schema": ANY}
TASKS["py.count"] = {"python": "python_functions:count"}
PYTHON = re.search(r"^python: (\S+)$", run_binary("--version").stdout, re.MULTILINE).group(1)


def copy_functions(directory):
    """Puts the functions where the service's configuration has them."""
    here = os.path.dirname(os.path.abspath(__file__))
    os.makedirs(os.path.join(directory, "functions"), exist_ok=True)
    shutil.copy(os.path.join(here, "python_functions.py"), os.path.join(directory, "functions"))


@unittest.skipIf(PYTHON == "none", "the binary was built without Python")
class PythonCase(ServiceCase):
    """A service whose tasks are functions."""

    config = {"python": {"path": ["functions"]}, "tasks": TASKS,
              "server": {"max_body_bytes": 20000000},
              "pools": {"process": {"result_bytes": 20000000, "stop_grace_ms": 3000},
                        "thread": {"threads": 2, "result_bytes": 20000000,
                                   "stop_grace_ms": 3000}}}

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        copy_functions(self.directory)
        super().start_service(changes, arguments, extra_environment)

    def call(self, function, pool, **named):
        """Runs a function to its end; answers the job."""
        return self.http.run(f"py.{function}", named, pool)

    def result(self, function, pool, **named):
        """What a function returned."""
        job = self.call(function, pool, **named)
        self.assert_succeeded(job)
        return job["result"]

    def assert_task_error(self, job, *fragments):
        """The job failed with these in its message; answers its stderr."""
        self.assertEqual((job["state"], job["error"]["code"]), ("failed", "task_error"), job)
        for fragment in fragments:
            self.assertIn(fragment, job["error"]["message"])
        self.assertIsNone(job["result"])
        return job["stderr"]["text"]


class ValuesTest(PythonCase):
    """Arguments and results."""

    def test_values_come_back_as_they_went(self):
        """Every type of JSON, to its limits."""
        values = {"null": None, "true": True, "false": False, "zero": 0, "max": 2 ** 63 - 1,
                  "min": -2 ** 63, "real": 0.1, "tiny": 5e-324, "huge": 1.7976931348623157e308,
                  "text": "é ☃ \U0001f600 \"\\\n", "empty": "", "list": [1, [2, [3, []]]],
                  "object": {"a": {"b": {}}, "ключ": "значение"}}
        for pool in POOLS:
            with self.subTest(pool=pool):
                self.assertEqual(self.result("echo", pool, **values), values)
                self.assertEqual(list(self.result("echo", pool, **values)), list(values))
                self.assertIs(self.result("echo", pool, x=True)["x"], True)
                self.assertIsInstance(self.result("echo", pool, x=1.0)["x"], float)
                self.assertIsNone(self.result("nothing", pool))

    def test_derived_types_are_what_they_derive_from(self):
        """namedtuple, OrderedDict, IntEnum, subclasses of str; a NUL in a string."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                self.assertEqual(self.result("derived", pool),
                                 {"pair": [1, 2], "ordered": {"z": 1, "a": 2}, "color": 1,
                                  "word": "w", "tuple": [1, [2]], "nul": "a\0b"})

    def test_what_json_cannot_express_is_a_clear_error(self):
        """The message has the place and the type."""
        expected = {"set": "result: found the type set", "bytes": "result: found the type bytes",
                    "nan": "result[1].x: found the float nan", "inf": "the float -inf",
                    "huge": "an int of more than 64 bits", "circle": "contains itself",
                    "deep": "nested more than 128 deep", "key": "result.a: found a key of the "
                    "type int", "surrogate": "result[0]: found a str with half of a surrogate",
                    "object": "the type object", "nul": "a key with a NUL"}
        for pool in POOLS:
            with self.subTest(pool=pool):
                for kind, fragment in expected.items():
                    self.assert_task_error(self.call("odd", pool, kind=kind), fragment)

    def test_depth_is_bounded_both_ways(self):
        """127 lists within the object of the arguments are the most, and come back."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                value = 0
                for _ in range(126):
                    value = [value]
                self.assertEqual(self.result("echo", pool, x=value), {"x": value})

    def test_arguments_are_named(self):
        """Defaults hold; a mismatch is Python's TypeError."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                self.assertEqual(self.result("three", pool, a=1), [1, 2, 3])
                self.assertEqual(self.result("three", pool, c=1, a=2, b=3), [2, 3, 1])
                self.assert_task_error(self.call("three", pool, d=1), "TypeError: three() got an "
                                       "unexpected keyword argument 'd'")
                self.assert_task_error(self.call("three", pool), "TypeError: three() missing 1 "
                                       "required positional argument: 'a'")

    def test_the_schema_of_the_declaration_is_checked_first(self):
        """Without args_schema a task takes no arguments."""
        answer = self.http.submit("py.count", {"x": 1})
        self.assert_problem(answer, 422, "x", field="args.x")

    def test_big_values(self):
        """Megabytes in and out."""
        text = "é" * 500000
        for pool in POOLS:
            with self.subTest(pool=pool):
                self.assertEqual(len(self.result("big", pool, length=5000000)), 5000000)
                self.assertEqual(self.result("echo", pool, x=text)["x"], text)

    def test_tasks_are_listed(self):
        """GET /tasks has kind, schema and pools."""
        tasks = {task["name"]: task for task in self.http.get("/tasks").json["tasks"]}
        self.assertEqual((tasks["py.echo"]["kind"], tasks["py.echo"]["args_schema"],
                          tasks["py.echo"]["pools"]), ("python", ANY, ["process", "thread"]))


class ErrorsTest(PythonCase):
    """Exceptions."""

    def test_an_exception_is_told_with_its_traceback(self):
        """One line as the message; all of it in stderr."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job = self.call("fail", pool, kind="chain")
                stderr = self.assert_task_error(job, "ValueError: outer é")
                self.assertEqual(job["stdout"]["text"], "before\n")
                self.assertIn("KeyError: 'inner'", stderr)
                self.assertIn("The above exception was the direct cause", stderr)
                self.assertRegex(stderr, r'/functions/python_functions.py", line \d+, in fail\n')
                self.assertTrue(stderr.endswith("ValueError: outer é\n"), stderr)
                self.assertNotIn("<twinpool>", stderr)
                stderr = self.assert_task_error(self.call("fail", pool, kind="note"),
                                                "ValueError: text")
                self.assertIn("a note", stderr)

    def test_exceptions_that_are_special_elsewhere(self):
        """None of them ends the host."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                before = self.call("nothing", pool)["worker"]
                for kind, message in (("exit", "SystemExit: 3"), ("interrupt", "KeyboardInterrupt"),
                                      ("stopped", "twinpool.Stopped"), ("os", "FileNotFoundError: "
                                      "[Errno 2] gone"), ("recursion", "RecursionError"),
                                      ("complaint", "python_functions.Complaint: <the exception "
                                       "cannot be shown>"), ("long", "ValueError: xxx")):
                    self.assert_task_error(self.call("fail", pool, kind=kind), message)
                self.assert_task_error(self.call("recurse", pool), "RecursionError: maximum")
                after = self.call("nothing", pool)["worker"]
                self.assertEqual(before["generation"], after["generation"])

    @unittest.skipIf(SANITIZER, "a sanitizer's allocator has no limit")
    def test_a_memory_limit_is_a_memory_error(self):
        """Small objects count too, and the host lives on, on both pools."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                before = self.call("nothing", pool)["worker"]
                job = self.http.run("py.hold", {"size": 2000000}, pool,
                                    limits={"memory_bytes": 30000000})
                self.assertEqual((job["state"], job["error"]["code"]),
                                 ("failed", "memory_limit"), job)
                self.assertEqual(self.result("hold", pool, size=1000), 1000)
                self.assertEqual(self.call("nothing", pool)["worker"]["generation"],
                                 before["generation"])


class OutputTest(PythonCase):
    """What is printed."""

    def test_jobs_side_by_side_do_not_mix(self):
        """Lines, pieces of lines, and the last one without an end, of both streams."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                args = [{"name": f"job-{number}", "count": 30} for number in range(12)]
                batch = self.http.submit_batch("py.lines", args, pool).json
                for entry, arg in zip(batch["results"], args, strict=True):
                    job = self.http.job(entry["job"])
                    text = "".join(f"{arg['name']} {number}\n" for number in range(30))
                    self.assertEqual(job["stdout"]["text"], text + "end")
                    self.assertEqual(job["stderr"]["text"], text)

    def test_every_way_to_write(self):
        """sys.stdout is a text file with bytes below."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job = self.call("write_kinds", pool)
                self.assert_succeeded(job)
                self.assertEqual(job["result"], [False, "utf-8", True, ""])
                self.assertEqual(job["stdout"]["text"], "text é\nl1\nl2\nbytes\nview\n"
                                 "half \\ud800\nTypeError\n")

    def test_threads_and_children_of_a_process(self):
        """On a worker that is a process all that is written is the job's."""
        job = self.call("elsewhere", "process")
        self.assert_succeeded(job)
        self.assertEqual(job["stdout"]["text"], "thread\nchild\nprogram\ngiven\n")

    def test_what_was_printed_before_a_kill_is_there(self):
        """Whole lines at least."""
        job = self.http.run("py.spin", {}, "process", timeout_ms=300)
        self.assertEqual((job["state"], job["stdout"]["text"]), ("timed_out", "begun\n"))


class StopTest(PythonCase):
    """Cancelling and time limits end functions politely: the host stays."""

    # ThreadSanitizer holds signals back from code that computes and calls nothing.
    pools = ("thread",) if SANITIZER == "thread" else POOLS

    def assert_stops(self, task, pool, args, state="cancelled"):
        """A running job of this task ends soon when it is cancelled, and costs no host."""
        before = self.call("nothing", pool)["worker"]
        job_id = self.http.start(task, args, pool)["id"]
        self.wait_for_state(job_id, "running")
        time.sleep(0.05)
        begin = time.monotonic()
        self.http.delete(f"/jobs/{job_id}")
        job = self.wait_ended(job_id)
        self.assertEqual(job["state"], state, job)
        self.assertLess(time.monotonic() - begin, seconds(2))
        for _ in range(4):
            after = self.call("nothing", pool)
            self.assert_succeeded(after)
            self.assertEqual(after["worker"]["generation"], before["generation"])
        return job

    def test_cancelling(self):
        """Loops, pauses, and what cleans up behind itself."""
        for pool in self.pools:
            with self.subTest(pool=pool):
                for _ in range(5):
                    self.assert_stops("py.spin", pool, {})
                self.assert_stops("py.ask", pool, {"seconds": 60})
                self.assert_stops("py.polite", pool, {})
                job = self.assert_stops("py.tidy", pool, {})
                self.assertEqual(job["stdout"]["text"], "tidied\n")

    def test_a_sleep_in_c_ends_early_on_a_process(self):
        """time.sleep() is interrupted."""
        self.assert_stops("py.sleep", "process", {"seconds": 60})

    def test_a_time_limit(self):
        """The same by timeout_ms, also of two at once."""
        for pool in self.pools:
            with self.subTest(pool=pool):
                before = self.call("nothing", pool)["worker"]
                jobs = [self.http.start("py.spin", {}, pool, timeout_ms=300) for _ in range(4)]
                for job in jobs:
                    job = self.wait_ended(job["id"])
                    self.assertEqual((job["state"], job["error"]["code"]),
                                     ("timed_out", "wall_limit"))
                self.assertEqual(self.call("nothing", pool)["worker"]["generation"],
                                 before["generation"])

    @unittest.skipIf(SANITIZER == "thread", "ThreadSanitizer holds the signal back")
    def test_who_does_not_stop_is_killed(self):
        """After the grace, with the host; the output until then is there."""
        job_id = self.http.start("py.stubborn", {}, "process")["id"]
        self.wait_for_state(job_id, "running")
        time.sleep(0.2)
        self.http.delete(f"/jobs/{job_id}")
        job = self.wait_ended(job_id)
        self.assertEqual((job["state"], job["stdout"]["text"]), ("cancelled", "no\n"))
        self.wait_all_workers()
        self.assertIsNone(self.result("nothing", "process"))


class HostTest(PythonCase):
    """The interpreter and its host."""

    def test_state_is_private_to_a_process_and_shared_by_threads(self):
        """A variable of a module."""
        counts = {}
        for pool in POOLS:
            with self.subTest(pool=pool):
                batch = self.http.submit_batch("py.count", [{}] * 20, pool).json
                counts = {}
                for entry in batch["results"]:
                    counts.setdefault(entry["result"]["pid"], []).append(entry["result"]["calls"])
                for calls in counts.values():
                    self.assertEqual(sorted(calls), list(range(1, len(calls) + 1)))
                self.assertLessEqual(len(counts), 2 if pool == "process" else 1)

    def test_what_the_module_tells(self):
        """pool, attempt, should_stop; only on the job's own thread."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                about = self.result("about", pool)
                self.assertEqual((about["pool"], about["attempt"], about["should_stop"]),
                                 (pool, 1, False))
                self.assertRegex(about["refused"][0], "this thread runs no job")
                job = self.http.run("py.retry", {}, pool, max_attempts=3,
                                    retry={"backoff_ms": 1, "on": ["task_error"]})
                self.assertEqual((job["state"], job["result"]), ("succeeded", 2), job)

    def test_progress(self):
        """progress() shows in the job while it runs; wrong values are exceptions."""
        expected = {"done": 3, "total": 4,
                    "message": "é ValueError,ValueError,TypeError,TypeError,TypeError,"
                               "OverflowError"}
        for pool in POOLS:
            with self.subTest(pool=pool):
                job_id = self.http.start("py.advance", {}, pool)["id"]

                def look(job_id=job_id):
                    progress = self.http.job(job_id)["progress"] or {}
                    return all(progress.get(name) == value for name, value in expected.items())

                wait_until(look, "the progress is told")
                self.cancel_all([job_id])

    def test_the_users_environment_is_not_heeded(self):
        """PYTHONPATH and its kin are not; python.path is."""
        self.stop_service()
        self.start_service(self.config, extra_environment={
            "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "PYTHONWARNINGS": "error"})
        for pool in POOLS:
            with self.subTest(pool=pool):
                found = self.result("environment", pool)
                self.assertNotIn("/nowhere", found["path"])
                self.assertNotIn("", found["path"])
                self.assertTrue(found["path"][0].endswith("/functions"))
                self.assertEqual(found["argv"], [""])
        self.assertEqual(os.listdir(os.path.join(self.directory, "functions")),
                         ["python_functions.py"])


class BrokenTest(PythonCase):
    """What cannot be imported."""

    BROKEN = {"missing": "nowhere:f", "syntax": "bad_syntax:f", "leaves": "leaves:f",
              "lacks": "python_functions:no.such", "value": "python_functions:not_callable"}
    config = merged(PythonCase.config, {"tasks": {
        f"broken.{name}": {"python": spec} for name, spec in BROKEN.items()}})

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        os.makedirs(os.path.join(self.directory, "functions"), exist_ok=True)
        self.write_file("functions/bad_syntax.py", "def f(:\n")
        self.write_file("functions/leaves.py", "import sys\nprint('told')\nsys.exit(1)\n")
        super().start_service(changes, arguments, extra_environment)

    def test_jobs_fail_and_the_host_stands(self):
        """The message names the error, the log has it once for each host and task."""
        expected = {"missing": "ModuleNotFoundError: No module named 'nowhere'",
                    "syntax": "SyntaxError: ", "leaves": "SystemExit: 1",
                    "lacks": "AttributeError: module 'python_functions' has no attribute 'no'",
                    "value": "TypeError: python_functions:not_callable is int"}
        for pool in POOLS:
            with self.subTest(pool=pool):
                for name, message in expected.items():
                    for _ in range(2):
                        stderr = self.assert_task_error(self.http.run(f"broken.{name}", {}, pool),
                                                        message)
                        self.assertIn(message, stderr)
                self.assertIsNone(self.result("nothing", pool))
        self.assert_status(self.http.get("/readyz"), 200)
        text = json.dumps(self.service.log())
        self.assertEqual(text.count("No module named 'nowhere'"), 3, text)


@unittest.skipIf(PYTHON == "none", "the binary was built without Python")
class VenvTest(PythonCase):
    """A virtual environment."""

    config = merged(PythonCase.config, {"python": {"venv": "venv"}, "tasks": {
        "py.from_venv": {"python": "python_functions:from_venv"}}})

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        version = ".".join(PYTHON.split(".")[:2])
        packages = f"venv/lib/python{version}/site-packages"
        os.makedirs(os.path.join(self.directory, packages), exist_ok=True)
        os.makedirs(os.path.join(self.directory, "venv/bin"), exist_ok=True)
        self.write_file("venv/pyvenv.cfg", "home = /usr/bin\n")
        self.write_file("venv/bin/python3", "")
        self.write_file(f"{packages}/only_in_venv.py", "VALUE = 'found'\n")
        super().start_service(changes, arguments, extra_environment)

    def test_packages_of_the_environment_are_found(self):
        """And sys.prefix is its directory."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                self.assertEqual(self.result("from_venv", pool), "found")
                self.assertTrue(self.result("environment", pool)["prefix"].endswith("/venv"))


@unittest.skipIf(PYTHON == "none", "the binary was built without Python")
class ConfigTest(DirectoryCase):
    """Wrong configurations."""

    def check(self, changes):
        """--check-config's complaint."""
        path = self.write_file("twinpool.json", merged(BASE_CONFIG, changes))
        result = run_binary("--check-config", "--config", path)
        self.assertEqual(result.returncode, 2, result)
        return result.stderr

    def test_a_wrong_declaration(self):
        """The message names the place and says what was expected."""
        for spec in ("module", "module:", ":function", "a b:c", "m:f()", "m:f:g", "1m:f", "m..n:f"):
            with self.subTest(spec=spec):
                text = self.check({"tasks": {"x": {"python": spec}}})
                self.assertIn("tasks.x.python", text)
                self.assertIn("package.module:function", text)

    def test_directories_must_exist(self):
        """Of the path and of the environment; and that must be of this version."""
        self.assertIn("python.path[0]", self.check({"python": {"path": ["nowhere"]}}))
        self.assertIn("python.venv", self.check({"python": {"venv": "nowhere"}}))
        os.mkdir(os.path.join(self.directory, "empty"))
        self.assertIn("site-packages", self.check({"python": {"venv": "empty"},
                                                   "tasks": {"x": {"python": "m:f"}}}))


@unittest.skipIf(PYTHON == "none", "the binary was built without Python")
class TutorialTest(ServiceCase):
    """examples/tutorial, as it is there but for the address and with less to do."""

    def setUp(self):
        directory = os.path.join(SOURCE, "examples", "tutorial")
        with open(os.path.join(directory, "twinpool.json"), encoding="utf-8") as file:
            self.config = json.load(file)
        self.config["server"]["listen"] = "127.0.0.1:0"
        self.config["python"]["path"] = [directory]
        super().setUp()

    def test_the_same_function_five_times_on_each_pool(self):
        """Every job has its result and its own two lines."""
        for pool in POOLS:
            for task, more in (("fun", {"n": 1000}), ("wait", {"seconds": 0.01})):
                with self.subTest(pool=pool, task=task):
                    args = [{"name": name, **more} for name in "ABCDE"]
                    batch = self.http.submit_batch(task, args, pool).json
                    for entry, arg in zip(batch["results"], args, strict=True):
                        name = arg["name"]
                        self.assertEqual(entry["result"]["name"], name)
                        self.assertRegex(self.http.job(entry["job"])["stdout"]["text"],
                                         rf"\A{name} starts in process \d+, thread \d+\n"
                                         rf"{name} is done on the pool {pool}\n\Z")


@unittest.skipIf(SANITIZER, "times of a sanitizer tell nothing")
@unittest.skipIf((os.cpu_count() or 1) < 2, "needs two processors")
class LockTest(PythonCase):
    """The interpreter's lock is what tells the pools apart."""

    def batch_seconds(self, task, args, pool):
        """How long four jobs take, on the pool's two workers."""
        begin = time.monotonic()
        batch = self.http.submit_batch(task, [args] * 4, pool).json
        taken = time.monotonic() - begin
        self.assertEqual([entry["state"] for entry in batch["results"]], ["succeeded"] * 4)
        return taken

    def ratio(self, task, args):
        """How much longer the pool of threads takes than the pool of processes."""
        return (self.batch_seconds(task, args, "thread")
                / self.batch_seconds(task, args, "process"))

    def test_computing_is_faster_on_processes(self):
        """Nearly twice as fast on two idle processors; at best of ten tries at least 1.3 times."""
        best = 0
        for _ in range(10):
            best = max(best, self.ratio("py.compute", {"n": 2000000}))
            if best > 1.3:
                return
        self.fail(f"at best {best:.2f} times as fast")

    def test_waiting_is_as_fast_on_both(self):
        """A sleep gives the lock away."""
        ratios = []
        for _ in range(3):
            ratios.append(self.ratio("py.sleep", {"seconds": 0.3}))
            if 1 / 1.5 < ratios[-1] < 1.5:
                return
        self.fail(f"found {ratios}")
