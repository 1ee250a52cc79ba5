"""Tasks that run programs: what gets through to them, what comes back, and that nothing of them stays."""

import base64
import os
import shutil
import subprocess
import time
import unittest

from tests.harness import proc
from tests.harness.case import DirectoryCase, ServiceCase
from tests.harness.service import run_binary
from tests.harness.timing import SANITIZER, wait_until

POOLS = ("process", "thread")
STRING = {"type": "string"}
TEXT = {"type": "object", "required": ["text"], "properties": {"text": STRING}}
# Text that a shell, a careless quoting or a careless splitting would act on.
HOSTILE = ["; touch hacked", "$(touch hacked)", "`touch hacked`", "| touch hacked", "&& touch hacked",
           "a b  c", "'", '"', "\\", "*", "~", "$HOME", "${IFS}", "a\nb", "\t", "", "%s%n", "{text}",
           "x -rf /", "é\U0001f600", "#", "!", "<in", ">out", "\x7f\x1b[0m"]


def encode(data):
    """base64 as text."""
    return base64.b64encode(data).decode()


def shell(**more):
    """A task that runs the script it is given: for tests only."""
    return {"command": {"argv": ["sh", "-c", {"argv": ["{text}"], "allow_dash": True}], **more},
            "args_schema": TEXT}


def echo(argv, properties=None, **more):
    """A task that prints its arguments, each ended by a line with a dot."""
    return {"command": {"argv": ["printf", "%s\\n.\\n", *argv], "result": "text", **more},
            "args_schema": {"type": "object", "properties": properties or {"text": {**STRING, "default": ""}}}}


TASKS = {
    "sh": shell(),
    "say": echo(["--", "{text}"]),
    "say-bare": echo(["{text}"]),
    "say-list": echo(["--", "{list...}", "{{end}}"],
                     {"list": {"type": "array", "items": STRING, "default": []}}),
    "say-if": echo([{"if": "loud", "argv": ["LOUD"]}, {"if": "n", "argv": ["n={n}"]}, "end"],
                   {"loud": {"type": "boolean"}, "n": {"type": "number"}}),
    "cat": {"command": {"argv": ["cat"], "stdin": "<{text}>", "result": "text"}, "args_schema": TEXT},
    "cat-bytes": {"command": {"argv": ["md5sum"], "stdin": {"base64": "text"}, "result": "text"},
                  "args_schema": TEXT},
    "json": {"command": {"argv": ["cat"], "stdin": "{text}", "result": "json"}, "args_schema": TEXT},
    "env": {"command": {"argv": ["/usr/bin/env"], "result": "text"}},
    "env-some": {"command": {"argv": ["/usr/bin/env"], "result": "text",
                             "environment": {"inherit": ["TEST_GIVEN", "TEST_ABSENT"],
                                             "set": {"LANG": "C.UTF-8", "TEST_TEXT": "<{text}>"}}},
                 "args_schema": TEXT},
    "exits": shell(exit={"1": "succeeded", "0": "failed"}),
    "files": {"command": {"argv": ["sh", "-c", "sort in.txt > out.txt; wc -c < in.txt > count"],
                          "files": {"in": {"text": {"as": "in.txt"}},
                                    "out": {"sorted": {"path": "out.txt"}, "count": {"max_bytes": 10},
                                            "log": {"optional": True}}}},
              "args_schema": TEXT},
    "bounded": shell(rlimits={"files": 16, "file_bytes": 1000, "cpu_s": 1, "memory_bytes": 100 << 20}),
    "true": {"command": {"argv": ["true"]}},
}


class CommandCase(ServiceCase):
    """A service with these tasks, whose scratch directories lie in the test's directory."""

    tasks = TASKS

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        self.scratch = os.path.join(self.directory, "data", "scratch")
        super().start_service({"tasks": self.tasks, "data_dir": "data", **(changes or {})}, arguments,
                              {"TEST_GIVEN": "given", "TEST_SECRET": "secret",
                               **(extra_environment or {})})

    def tearDown(self):
        left = os.listdir(self.scratch)
        super().tearDown()
        self.assertEqual(left, [], "scratch directories that were left")

    def succeed(self, task, args=None, pool="process", **fields):
        """Runs it well and answers its result."""
        job = self.http.run(task, args, pool, **fields)
        self.assert_succeeded(job)
        return job["result"]

    def fail(self, task, args=None, pool="process", **fields):  # pylint: disable=arguments-renamed
        """Runs it; it fails by itself; answers why."""
        job = self.http.run(task, args, pool, **fields)
        self.assertEqual((job["state"], job["error"]["code"]), ("failed", "task_error"), job)
        return job["error"]["message"]


class ArgumentsTest(CommandCase):
    """What an argument can be, and what it cannot become."""

    def test_tasks_are_listed_as_commands(self):
        """GET /tasks: kind, description, schema, pools."""
        tasks = {task["name"]: task for task in self.http.get("/tasks").json["tasks"]}
        self.assertEqual(tasks["sh"]["kind"], "command")
        self.assertEqual(tasks["sh"]["args_schema"], TEXT)
        self.assertEqual(set(tasks["sh"]["pools"]), set(POOLS))
        self.assertEqual(tasks["echo"]["kind"], "builtin")

    def test_hostile_text_stays_one_argument(self):
        """Neither a shell nor a splitting sees it, and it is what it was."""
        for pool in POOLS:
            for text in HOSTILE:
                with self.subTest(pool=pool, text=text):
                    self.assertEqual(self.succeed("say", {"text": text}, pool), f"--\n.\n{text}\n.\n")

    def test_a_dash_is_refused_where_it_could_be_an_option(self):
        """Unless the template has a -- before it."""
        for text in ("-", "-n", "--version", "--", "-\u00e9"):
            self.assertIn('args.text: found a text that starts with "-"',
                          self.fail("say-bare", {"text": text}))
            self.assertEqual(self.succeed("say", {"text": text}), f"--\n.\n{text}\n.\n")

    def test_a_nul_never_arrives(self):
        """JSON can write one; it is refused before the job is made."""
        answer = self.http.submit("say", {"text": "a\x00b"})
        self.assert_problem(answer, 400)

    def test_wrong_arguments_are_refused_by_the_schema(self):
        """As of any task."""
        self.assert_problem(self.http.submit("say", {"text": 5}), 422, field="args.text")
        self.assert_problem(self.http.submit("say", {"txt": "x"}), 422)
        self.assert_problem(self.http.submit("true", {"any": 1}), 422)

    def test_lists_and_conditions(self):
        """{list...} is an argument each; an element with if may be left out."""
        for pool in POOLS:
            self.assertEqual(self.succeed("say-list", {"list": ["a b", "-c", ""]}, pool),
                             "--\n.\na b\n.\n-c\n.\n\n.\n{end}\n.\n")
            self.assertEqual(self.succeed("say-list", {}, pool), "--\n.\n{end}\n.\n")
            self.assertEqual(self.succeed("say-if", {}, pool), "end\n.\n")
            self.assertEqual(self.succeed("say-if", {"loud": False, "n": -0.5}, pool),
                             "n=-0.5\n.\nend\n.\n")
            self.assertEqual(self.succeed("say-if", {"loud": True}, pool), "LOUD\n.\nend\n.\n")

    def test_too_long_for_the_system(self):
        """An argument has at most 131071 bytes; that is told, not cut."""
        self.assertEqual(self.succeed("say", {"text": "x" * 131071}), "--\n.\n" + "x" * 131071 + "\n.\n")
        self.assertIn("131071 bytes", self.fail("say", {"text": "x" * 131072}))


class InAndOutTest(CommandCase):
    """stdin, the environment, files, and what comes of it."""

    def test_stdin(self):
        """A text with placeholders, or bytes; more than a pipe holds."""
        for pool in POOLS:
            self.assertEqual(self.succeed("cat", {"text": "ä\n"}, pool), "<ä\n>")
            large = "0123456789abcdef" * 20000
            self.assertEqual(self.succeed("cat", {"text": large}, pool), f"<{large}>")
            self.assertIn("9dd4e461268c8034f5c8564e155c67a6", self.succeed("cat-bytes", {"text": encode(b"x")}, pool))
            self.assertIn("no base64", self.fail("cat-bytes", {"text": "#"}, pool))

    def test_a_program_that_does_not_read_its_stdin(self):
        """It ends nobody's pipe."""
        for pool in POOLS:
            self.succeed("sh", {"text": "exec <&-; true"}, pool)

    def test_the_environment_is_empty(self):
        """But for the mark of the run, and what the operator lets in."""
        for pool in POOLS:
            self.assertRegex(self.succeed("env", None, pool), r"\ATWINPOOL_RUN=[0-9a-f]{32}\n\Z")
            lines = self.succeed("env-some", {"text": "a=b"}, pool).splitlines()
            self.assertEqual(lines[1:], ["TEST_GIVEN=given", "LANG=C.UTF-8", "TEST_TEXT=<a=b>"])

    def test_results_from_stdout(self):
        """json and text; the output is kept beside."""
        for pool in POOLS:
            self.assertEqual(self.succeed("json", {"text": '{"a": [1, null]}'}, pool), {"a": [1, None]})
            self.assertIn("no JSON: line 1", self.fail("json", {"text": "{"}, pool))
            job = self.http.run("cat", {"text": "t"}, pool)
            self.assertEqual((job["result"], job["stdout"]["text"]), ("<t>", "<t>"))

    def test_exit_statuses(self):
        """0 is success unless the configuration says otherwise; the last line of stderr tells why."""
        for pool in POOLS:
            self.assertEqual(self.succeed("sh", {"text": "exit 0"}, pool)["exit_status"], 0)
            self.assertEqual(self.fail("sh", {"text": "echo a >&2; echo why >&2; exit 9"}, pool),
                             "exit status 9: why")
            self.assertEqual(self.fail("sh", {"text": "kill -ABRT $$"}, pool),
                             "ended by the signal SIGABRT")
            self.assertEqual(self.succeed("exits", {"text": "exit 1"}, pool)["exit_status"], 1)
            self.assertEqual(self.fail("exits", {"text": "exit 0"}, pool), "exit status 0")

    def test_files(self):
        """From base64 into the scratch directory and back; that is the working directory, and private."""
        for pool in POOLS:
            result = self.succeed("files", {"text": encode(b"b\na\n")}, pool)
            self.assertEqual(result["files"], {"sorted": {"base64": encode(b"a\nb\n"), "bytes": 4},
                                               "count": {"base64": encode(b"4\n"), "bytes": 2}})
            job = self.http.run("sh", {"text": "pwd; stat -c %a .; ls -A"}, pool)
            where, mode = job["stdout"]["text"].split()
            self.assertEqual((os.path.dirname(where), mode), (self.scratch, "700"))
            self.assertFalse(os.path.exists(where))

    def test_scratch_directories_of_any_kind_are_removed(self):
        """Deep ones, closed ones, links that lead out."""
        kept = self.write_file("kept", "kept")
        script = (f"ln -s {self.directory} out; mkdir -p a/b; touch a/b/c; chmod 0 a/b; chmod 0 a; "
                  "i=0; while [ $i -lt 200 ]; do mkdir d; cd d; i=$((i+1)); done")
        for pool in POOLS:
            self.succeed("sh", {"text": script}, pool)
            self.assertEqual(os.listdir(self.scratch), [])
        self.assertTrue(os.path.exists(kept))

    def test_output_comes_while_it_runs(self):
        """Both streams, kept when the job is killed."""
        for pool in POOLS:
            job = self.http.start("sh", {"text": "echo one; echo two >&2; trap '' TERM; sleep 1000"}, pool)
            def said(job=job):
                found = self.http.job(job["id"])
                return found["stdout"]["text"] and found["stderr"]["text"] and found
            found = wait_until(said, "the output of a command that runs")
            self.assertEqual(found["state"], "running")
            self.http.delete(f"/jobs/{job['id']}")
            ended = self.wait_ended(job["id"])
            self.assertEqual((ended["state"], ended["stdout"]["text"], ended["stderr"]["text"]),
                             ("cancelled", "one\n", "two\n"))

    def test_much_output(self):
        """More than is kept is counted, and nobody hangs."""
        for pool in POOLS:
            job = self.http.run("sh", {"text": "head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2"},
                                pool)
            self.assert_succeeded(job)
            self.assertEqual((job["stdout"]["total_bytes"], job["stderr"]["total_bytes"]),
                             (5000000, 3000000))


def has_argument(pid, argument):
    """Whether a running process has this as one of its arguments."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return argument.encode() in file.read().split(b"\0") and proc.is_running(pid)
    except OSError:
        return False


def runs(argument):
    """Running processes with this argument."""
    return [pid for pid in proc.all_pids() if has_argument(pid, argument)]


class EndTest(CommandCase):
    """Whatever way a run ends, nothing of it goes on."""

    mark = f"{900000 + os.getpid()}"  # seconds that only our sleepers sleep

    def tree(self):
        """A script that leaves every kind of descendant, and waits."""
        sleep = f"sleep {self.mark}"
        return (f"{sleep} & (setsid {sleep} &) ; (setsid sh -c '(trap \"\" TERM HUP; {sleep}) & {sleep}' "
                f">/dev/null 2>&1 </dev/null &); (nohup {sleep} >/dev/null 2>&1 &); echo all; ")

    def assert_none_left(self):
        """At once: the job is not said to have ended before."""
        self.assertEqual(runs(self.mark), [])

    def test_a_timeout_ends_the_whole_tree(self):
        """Children, daemons that were forked twice in sessions of their own, those that ignore SIGTERM."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job = self.http.run("sh", {"text": self.tree() + f"sleep {self.mark}"}, pool,
                                    timeout_ms=500)
                self.assertEqual((job["state"], job["error"]["code"], job["stdout"]["text"]),
                                 ("timed_out", "wall_limit", "all\n"))
                self.assert_none_left()
        self.assert_hosts_lived()

    def test_a_success_ends_what_it_leaves(self):
        """Also if that holds its output open."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job = self.http.run("sh", {"text": self.tree()}, pool)
                self.assert_succeeded(job)
                self.assert_none_left()
        self.assert_hosts_lived()

    def test_neighbours_are_left_alone(self):
        """On threads of one host, a run's end touches no other run."""
        neighbour = self.http.start("sh", {"text": f"(setsid sleep 1.3 &); {'sleep 0.1; ' * 13} echo done"},
                                    "thread")
        self.wait_for_state(neighbour["id"], "running")
        for _ in range(5):
            self.http.run("sh", {"text": self.tree()}, "thread")
        self.assert_none_left()
        ended = self.wait_ended(neighbour["id"])
        self.assert_succeeded(ended)
        self.assertEqual(ended["stdout"]["text"], "done\n")

    def test_a_stop_is_told_as_sigterm(self):
        """A program that cleans up has the grace for it, and may even succeed."""
        for pool in POOLS:
            job = self.http.start("sh", {"text": "trap 'echo bye; exit 0' TERM; echo on; "
                                                 "while :; do sleep 0.02; done"}, pool)
            wait_until(lambda job=job: self.http.job(job["id"])["stdout"]["text"], "it is on")
            began = time.monotonic()
            self.http.delete(f"/jobs/{job['id']}")
            ended = self.wait_ended(job["id"])
            self.assertEqual((ended["state"], ended["stdout"]["text"]), ("succeeded", "on\nbye\n"))
            self.assertLess(time.monotonic() - began, 1 if not SANITIZER else 4)

    def test_a_killed_host_leaves_nothing(self):
        """The master ends the command, and the next host sweeps the scratch directory."""
        job = self.http.start("sh", {"text": self.tree() + f"sleep {self.mark}"})
        wait_until(lambda: self.http.job(job["id"])["stdout"]["text"], "it is on")
        os.kill(self.http.job(job["id"])["worker"]["pid"], 9)
        ended = self.wait_ended(job["id"])
        self.assertEqual((ended["state"], ended["error"]["code"]), ("crashed", "signal"))
        self.assert_none_left()
        wait_until(lambda: not os.listdir(self.scratch), "the scratch directory is swept")

    def test_a_shutdown_ends_commands(self):
        """SIGTERM to the service: the service's own end is judged by the harness."""
        for pool in POOLS:
            job = self.http.start("sh", {"text": self.tree() + f"sleep {self.mark}"}, pool)
            wait_until(lambda job=job: self.http.job(job["id"])["stdout"]["text"], "it is on")
        self.service.close_clients()
        self.service.signal()
        self.service.signal()
        self.judge_end(lambda status: status == 0)
        self.assert_none_left()

    def assert_hosts_lived(self):
        """No host was ended for what a command did."""
        for name in POOLS:
            self.assertEqual(self.http.pool(name)["restarts"]["total"], 0)


class CostTest(CommandCase):
    """CPU, memory, limits: of the command, not of the host that waits for it."""

    def test_cpu_is_counted(self):
        """That of the program, of what it waited for, and of what was killed in the end."""
        spin = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"
        for pool in POOLS:
            job = self.http.run("sh", {"text": f"({spin}); {spin}"}, pool)
            cpu_ms = job["timing"]["cpu_user_ms"] + job["timing"]["cpu_system_ms"]
            self.assertGreater(cpu_ms, 50)
            self.assertLess(cpu_ms, job["timing"]["run_ms"] + 20)
            usage = job["result"]["usage"]
            self.assertAlmostEqual(usage["cpu_user_ms"] + usage["cpu_system_ms"], cpu_ms, delta=20)

    def test_memory_is_the_commands(self):
        """And is said to be."""
        for pool in POOLS:
            job = self.http.run("sh", {"text": "head -c 50000000 /dev/zero | tail -n 1 | wc -c; sleep 0.1"}, pool)
            self.assertEqual((job["memory"]["scope"], job["memory"]["source"], job["memory"]["baseline_bytes"]),
                             ("children", "wait4", 0))
            self.assertTrue(50_000_000 < job["memory"]["peak_bytes"] < 120_000_000, job["memory"])
            self.assertEqual(job["result"]["usage"]["peak_bytes"], job["memory"]["peak_bytes"])
            small = self.http.run("sh", {"text": "sleep 0.2"}, pool)
            # The ThreadSanitizer makes a fork of vfork, so a look at the child may come before its exec: it sees the
            # host's memory then.
            most = 20_000_000 if SANITIZER != "thread" else 20_000_000 + small["memory"]["host_rss_bytes"]
            self.assertTrue(300_000 < small["memory"]["peak_bytes"] < most, small["memory"])

    def test_a_memory_limit_is_kept_and_told(self):
        """memory_limit, with what was seen; threads take such a limit only where the allocator keeps it."""
        for pool in POOLS[:1] if SANITIZER else POOLS:
            job = self.http.run("sh", {"text": "head -c 60000000 /dev/zero | tail -n 1 | wc -c"}, pool,
                                limits={"memory_bytes": 20 << 20})
            self.assertEqual((job["state"], job["error"]["code"]), ("failed", "memory_limit"), job)
            self.assertGreater(job["error"]["seen_bytes"], 20 << 20)
            job = self.http.run("sh", {"text": "head -c 60000 /dev/zero | tail -n 1 | wc -c"}, pool,
                                limits={"memory_bytes": 20 << 20})
            self.assert_succeeded(job)

    def test_a_cpu_limit_is_kept_and_told(self):
        """Though the host itself uses next to nothing."""
        for pool in POOLS:
            job = self.http.run("sh", {"text": "while :; do :; done"}, pool, limits={"cpu_ms": 300})
            self.assertEqual((job["state"], job["error"]["code"]), ("timed_out", "cpu_limit"), job)
            self.assertLess(job["timing"]["run_ms"], 5000 if not SANITIZER else 20000)

    def test_rlimits(self):
        """Of each process."""
        for pool in POOLS:
            job = self.http.run("bounded", {"text": "ulimit -n; ulimit -t; ulimit -v; ulimit -c"}, pool)
            self.assertEqual(job["stdout"]["text"].split(), ["16", "1", str(100 << 10), "0"])
            self.assertIn("SIGXFSZ", self.fail("bounded", {"text": "exec head -c 5000 /dev/zero > f"}, pool))
            self.assertIn("SIGKILL", self.fail("bounded", {"text": "while :; do :; done"}, pool))

    def test_two_hundred_at_once(self):
        """Each with a scratch directory of its own; no descriptor stays."""
        server = {name: len(proc.descriptors(pid)) for name, pid in self.hosts().items()}
        for pool in POOLS:
            answer = self.http.submit_batch("sh", [{"text": f"echo {i} > f; cat f"} for i in range(200)], pool,
                                            wait=60)
            self.assert_status(answer, 200)
            self.assertEqual(answer.json["state"], "succeeded", answer.json["results"][:3])
        for name, pid in self.hosts().items():
            self.assertEqual(len(proc.descriptors(pid)), server[name], name)

    def hosts(self):
        """Their pids, by pool and number."""
        return {f"{pool}/{worker['host']}": worker["pid"] for pool in POOLS
                for worker in self.http.get(f"/pools/{pool}").json["worker_list"]}


class RootTest(CommandCase):
    """Files below directories that the operator names."""

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        self.source = os.path.join(self.directory, "source")
        self.target = os.path.join(self.directory, "target")
        os.makedirs(os.path.join(self.source, "sub"))
        os.makedirs(os.path.join(self.target, "sub"))
        with open(os.path.join(self.source, "sub", "file"), "w", encoding="ascii") as file:
            file.write("content")
        os.symlink("/etc/passwd", os.path.join(self.source, "link"))
        os.symlink("/etc", os.path.join(self.target, "etc"))
        os.mkfifo(os.path.join(self.source, "pipe"))
        self.tasks = {"copy": {
            "command": {"argv": ["cp", "in", "out"],
                        "files": {"in": {"from": {"as": "in", "root": self.source}},
                                  "out": {"out": {"root": self.target, "to": "{to}"}}}},
            "args_schema": {"type": "object", "required": ["from", "to"],
                            "properties": {"from": STRING, "to": STRING}}}}
        super().start_service(changes, arguments, extra_environment)

    def test_within(self):
        """Read from one and put in the other; a file that is there is not replaced."""
        for pool in POOLS:
            result = self.succeed("copy", {"from": "sub/file", "to": f"sub/{pool}"}, pool)
            self.assertEqual(result["files"], {"out": {"path": f"sub/{pool}", "bytes": 7}})
            with open(os.path.join(self.target, "sub", pool), encoding="ascii") as file:
                self.assertEqual(file.read(), "content")
            self.assertIn("File exists", self.fail("copy", {"from": "sub/file", "to": f"sub/{pool}"}, pool))

    def test_nothing_outside(self):
        """By no path and no link."""
        for path in ("../secret", "/etc/passwd", "link", "sub/../../x", "pipe", "sub", "", "none"):
            with self.subTest(path=path):
                self.assertIn("args.from: ", self.fail("copy", {"from": path, "to": "x"}))
        for path in ("../x", "/tmp/x", "etc/x", "sub/../../x", "", "sub", "none/x"):
            with self.subTest(path=path):
                self.assertIn("cannot be put", self.fail("copy", {"from": "sub/file", "to": path}))
        self.assertEqual(sorted(os.listdir(self.target)), ["etc", "sub"])


class CapabilitiesTest(CommandCase):
    """GET /capabilities, and what it says of a command."""

    def test_what_it_says(self):
        """It has looked, and needs no privilege to."""
        found = self.http.get("/capabilities").json
        self.assertIn("command", found["task_kinds"])
        self.assertIs(found["system_calls"]["change_user"], os.geteuid() == 0)
        self.assertTrue(found["system_calls"]["no_new_privs"])
        self.assertEqual(found["bubblewrap"]["usable"], found["bubblewrap"]["reason"] is None)
        self.assertEqual(found["bubblewrap"]["path"] is None, shutil.which("bwrap") is None)

    def test_no_new_privileges(self):
        """Set for every command."""
        job = self.http.run("sh", {"text": "grep NoNewPrivs /proc/self/status"})
        self.assertEqual(job["stdout"]["text"].split(), ["NoNewPrivs:", "1"])


def bubblewrap_works():
    """Tried as the service will."""
    return bool(shutil.which("bwrap")) and subprocess.run(
        ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], check=False,
        capture_output=True).returncode == 0


@unittest.skipUnless(bubblewrap_works(), "no bubblewrap that works here")
class SandboxTest(CommandCase):
    """A command in bubblewrap."""

    tasks = {"sh": shell(sandbox="bubblewrap"), "true": {"command": {"argv": ["true"]}}}

    def test_it_sees_little_and_writes_nothing_else(self):
        """No network, no processes but its own, nothing to write to but its directory and /tmp."""
        script = ("ls /sys/class/net 2>/dev/null >/dev/null; cat /proc/net/dev | tail -n +3 | cut -d: -f1; "
                  f"ls /proc | grep -c '^[0-9]'; touch {self.directory}/x /etc/x 2>/dev/null || echo refused; "
                  "touch /tmp/x here && ls; ls -A ..")
        for pool in POOLS:
            job = self.http.run("sh", {"text": script}, pool)
            self.assert_succeeded(job)
            lines = job["stdout"]["text"].split()
            self.assertEqual(lines[0], "lo")
            self.assertLess(int(lines[1]), 10)
            self.assertEqual(lines[2:4], ["refused", "here"])
            self.assertEqual(len(lines), 5, lines)  # of the scratch directories it sees its own
        self.assertFalse(os.path.exists(f"{self.directory}/x"))

    def test_its_end_is_the_end_of_all(self):
        """The processes in it cannot leave it."""
        mark = f"{700000 + os.getpid()}"
        for pool in POOLS:
            job = self.http.run("sh", {"text": f"(env -i setsid sleep {mark} >/dev/null 2>&1 &); sleep {mark}"},
                                pool, timeout_ms=400)
            self.assertEqual(job["state"], "timed_out")
            wait_until(lambda: not runs(mark), "all of it has ended")

    def test_its_exit_status_comes_through(self):
        """As without."""
        self.assertEqual(self.http.run("sh", {"text": "exit 7"})["error"]["message"], "exit status 7")


@unittest.skipUnless(os.geteuid() == 0, "only root can become somebody else")
class UserTest(CommandCase):
    """A command as another user."""

    tasks = {"sh": {"command": {"argv": ["sh", "-c", "{text}"], "uid": 65534, "gid": 65534,
                                "files": {"in": {"file": {"as": "in"}}, "out": {"out": {"optional": True}}}},
                    "args_schema": {"type": "object", "required": ["text"],
                                    "properties": {"text": STRING, "file": STRING}}}}

    def test_who_it_is(self):
        """The user and one group; its files are its own."""
        for pool in POOLS:
            job = self.http.run("sh", {"text": "id -u; id -G; cat in > out; cat in", "file": encode(b"x\n")}, pool)
            self.assert_succeeded(job)
            self.assertEqual(job["stdout"]["text"], "65534\n65534\nx\n")
            self.assertEqual(job["result"]["files"]["out"]["base64"], encode(b"x\n"))

    def test_what_it_starts_ends(self):
        """As with our own."""
        mark = f"{600000 + os.getpid()}"
        for pool in POOLS:
            self.http.run("sh", {"text": f"(setsid sleep {mark} &)"}, pool)
            self.assertEqual(runs(mark), [])


class RefusedTest(DirectoryCase):
    """What is refused when the configuration is loaded, with a message that says where and why."""

    def check(self, task, *fragments):
        """--check-config refuses the task, and says all of these."""
        path = self.write_file("twinpool.json", {"tasks": {"t": task}})
        done = run_binary("--config", path, "--check-config")
        self.assertEqual(done.returncode, 2, done)
        for fragment in fragments:
            self.assertIn(fragment, done.stderr)

    def test_programs(self):
        """One that is not there is named with its path."""
        self.check({"command": {"argv": ["/no/such/program"]}}, "tasks.t.command.argv[0]",
                   '"/no/such/program" (No such file or directory)')
        self.check({"command": {"argv": ["./here"]}}, f'"{self.directory}/./here"')
        self.check({"command": {"argv": ["no-such-program"]}}, "/usr/local/bin, /usr/bin, /bin")
        self.check({"command": {"argv": []}}, "tasks.t.command.argv")

    def test_templates(self):
        """A placeholder needs a property of the schema that is certain to be there."""
        self.check({"command": {"argv": ["true", "{x}"]}}, "tasks.t.command.argv[1]", "{x}")
        self.check({"command": {"argv": ["true", "{x}"]},
                    "args_schema": {"type": "object", "properties": {"x": STRING}}}, "may be left out")
        self.check({"command": {"argv": ["true"], "shell": True}}, 'unknown property "shell"')

    def test_declarations(self):
        """One kind a task, a name that is free and well-formed, a schema that compiles."""
        true = {"argv": ["true"]}
        self.check({"command": true, "python": "a:b"}, "a second kind")
        self.check({"description": "x"}, "not declared here")
        self.check({"command": true, "args_schema": {"type": "array"}}, "tasks.t.args_schema.type")
        self.check({"command": true, "args_schema": {"type": "object", "properties": {"a": {"pattern": "x"}}}},
                   "tasks.t.args_schema.properties.a")
        for name in ("echo", "T", "", "a b", "x" * 64):
            path = self.write_file("twinpool.json", {"tasks": {name: {"command": true}}})
            self.assertEqual(run_binary("--config", path, "--check-config").returncode, 2, name)

    def test_users_and_sandboxes(self):
        """What this system does not let us do."""
        self.check({"command": {"argv": ["true"], "uid": 7}}, "tasks.t.command.gid")
        if os.geteuid() != 0:
            self.check({"command": {"argv": ["true"], "uid": 7, "gid": 7}}, "CAP_SETUID")
        if not bubblewrap_works():
            self.check({"command": {"argv": ["true"], "sandbox": "bubblewrap"}}, "tasks.t.command.sandbox")


if __name__ == "__main__":
    unittest.main()
