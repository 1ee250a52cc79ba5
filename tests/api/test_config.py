"""Configuration: what is wrong is named, what wins is settled, and --check-config tells without serving."""

import json
import os
import re
import socket
import unittest

from tests.harness import proc
from tests.harness.case import BASE_CONFIG, DirectoryCase, ServiceCase, merged
from tests.harness.client import Client
from tests.harness.service import SOURCE, Service, run_binary

# What is laid over the good configuration, and what the complaint must contain: path, found, expected.
WRONG = (
    ({"pools": {"process": {"threads": 0}}}, ("pools.process.threads", "0", "1 to 256")),
    ({"pools": {"process": {"hosts": 257}}}, ("pools.process.hosts", "257", "256")),
    ({"pools": {"process": {"hosts": "many"}}}, ("pools.process.hosts", "many", "cores")),
    ({"pools": {"process": {"hosts": 1.5}}}, ("pools.process.hosts", "1.5", "integer")),
    ({"pools": {"process": {"host": 1}}}, ("pools.process.host", "hosts")),
    ({"pools": {"Upper": {}}}, ("Upper", "lower-case")),
    ({"pools": []}, ("pools", "object")),
    ({"pools": {"process": {"timeout_ms": 10, "max_timeout_ms": 5}}},
     ("pools.process.timeout_ms", "10", "5")),
    ({"server": {"listen": "nowhere"}}, ("server.listen", "nowhere", "HOST:PORT")),
    ({"server": {"listen": "127.0.0.1:99999"}}, ("server.listen", "99999")),
    ({"server": {"max_body_bytes": "1M"}}, ("server.max_body_bytes", "1M", "integer")),
    ({"server": {"default_wait_ms": 2, "max_wait_ms": 1}}, ("server.default_wait_ms", "2", "1")),
    ({"server": {"port": 80}}, ("server.port", "listen")),
    ({"log": {"level": "loud"}}, ("log.level", "loud", "debug")),
    ({"default_pool": "gpu"}, ("default_pool", "gpu", "process", "thread")),
    ({"tasks": {"prims": {}}}, ("tasks.prims", "primes")),
    ({"tasks": {"crash": {"enabled": "yes"}}}, ("tasks.crash.enabled", "yes", "true or false")),
    ({"tasks": {"read": {"root": "/no/such/directory"}}},
     ("tasks.read.root", "/no/such/directory")),
    ({"colour": "red"}, ("colour", "server", "pools")),
)


class CheckConfigTest(DirectoryCase):
    """--check-config: 0 if it would serve, 2 and a sentence if not."""

    def check(self, config, **variables):
        """Runs --check-config over a file with this content."""
        path = self.write_file("twinpool.json", config)
        return run_binary("--config", path, "--check-config", extra_environment=variables)

    def assert_refused(self, result, *fragments):
        """Exit status 2, nothing on stdout, and all fragments in what was said."""
        self.assertEqual((result.returncode, result.stdout), (2, ""), result)
        for fragment in fragments:
            self.assertIn(fragment, result.stderr)

    def test_a_good_one_passes(self):
        """The tests' own, the shipped one, and every example."""
        self.assertEqual(self.check(BASE_CONFIG).returncode, 0)
        self.assertEqual(self.check({}).returncode, 0)
        directory = os.path.join(SOURCE, "config")
        examples = os.path.join(directory, "examples")
        for path in [os.path.join(directory, "twinpool.json"),
                     *(os.path.join(examples, name) for name in sorted(os.listdir(examples)))]:
            with self.subTest(path=path):
                result = run_binary("--config", path, "--check-config")
                self.assertEqual(result.returncode, 0, result)

    def test_a_wrong_one_names_path_found_and_expected(self):
        """Each kind of mistake, one by one."""
        for changes, fragments in WRONG:
            with self.subTest(changes=changes):
                self.assert_refused(self.check(merged(BASE_CONFIG, changes)), *fragments)

    def test_a_syntax_error_names_file_line_and_column(self):
        """As an editor would."""
        result = self.check('{\n "server": {\n  "listen": tru\n }\n}')
        self.assert_refused(result, "twinpool.json", "line 3", "column")
        self.assert_refused(self.check(""), "twinpool.json")
        self.assert_refused(self.check('{"server":{},"server":{}}'), "server")
        self.assert_refused(self.check("[]"), "object")

    def test_a_file_that_cannot_be_read_is_named(self):
        """No such file; a directory."""
        for path in ("/no/such/file", self.directory):
            with self.subTest(path=path):
                self.assert_refused(run_binary("--config", path, "--check-config"), path)

    def test_wrong_variables_are_named(self):
        """By the variable; one that does not exist lists those that do."""
        self.assert_refused(self.check(BASE_CONFIG, TWINPOOL_LISTEN="x"), "TWINPOOL_LISTEN", "x")
        self.assert_refused(self.check(BASE_CONFIG, TWINPOOL_LISTN="127.0.0.1:0"),
                            "TWINPOOL_LISTN", "TWINPOOL_LISTEN")

    def test_wrong_flags_are_named(self):
        """By the flag."""
        self.assert_refused(run_binary("--listen", "x", "--check-config"), "--listen", "x")
        self.assert_refused(run_binary("--log-level", "loud", "--check-config"), "--log-level",
                            "loud", "debug")
        self.assert_refused(run_binary("--colour", "red"), "colour")
        self.assert_refused(run_binary("--config"), "config")
        self.assert_refused(run_binary("extra"), "extra")
        self.assert_refused(run_binary("--ready-fd", "x", "--listen", "127.0.0.1:0"), "ready")

    def test_a_wrong_configuration_does_not_serve(self):
        """The same complaint without --check-config."""
        path = self.write_file("twinpool.json", {"server": {"listen": 5}})
        self.assert_refused(run_binary("--config", path), "server.listen", "5")

    def test_an_address_in_use_is_told(self):
        """Not with status 0, by its port, and no process is left behind."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            address = f"127.0.0.1:{port}"
            path = self.write_file("twinpool.json",
                                   merged(BASE_CONFIG, {"server": {"listen": address}}))
            mark = f"TEST_TAKEN={address}"
            result = run_binary("--config", path,
                                extra_environment=dict([mark.split("=")]))
        self.assertGreater(result.returncode, 0, result)
        self.assertIn(str(port), result.stderr)
        self.assertEqual(proc.pids_with_environment(mark), [])


class CommandLineTest(unittest.TestCase):
    """--help and --version."""

    def test_help(self):
        """Every flag and its variable, on stdout, with status 0."""
        result = run_binary("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for word in ("--config", "--listen", "--data-dir", "--ready-fd", "--check-config",
                     "--log-level", "--log-format", "--version", "TWINPOOL_LISTEN",
                     "TWINPOOL_DATA_DIR"):
            self.assertIn(word, result.stdout)

    def test_version(self):
        """Name and version on one line, and how the heap is metered."""
        result = run_binary("--version")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertTrue(re.match(r"twinpool \d+\.\d+\.\d+", result.stdout), result.stdout)


class PrecedenceTest(ServiceCase):
    """The file, then the variables, then the flags: later wins."""

    def restart(self, **options):
        """Stops the service of setUp and starts another."""
        self.stop_service()
        self.start_service(**options)

    def test_port_0_takes_a_free_port_and_tells_it(self):
        """Two services with port 0 have different ports, told by --ready-fd and in the log."""
        first = self.service
        self.addCleanup(first.destroy)
        path = self.write_file("second.json", BASE_CONFIG)
        second = Service(path)
        self.addCleanup(second.destroy)
        second.wait_ready()
        self.assertNotEqual(first.port, second.port)
        said = json.dumps(second.log()) + "\n".join(second.stdout_lines())
        self.assertIn(str(second.port), said)
        second.stop()

    def test_a_variable_wins_over_the_file(self):
        """TWINPOOL_LISTEN replaces server.listen."""
        self.restart(changes={"server": {"listen": "127.0.0.1:1"}},
                     extra_environment={"TWINPOOL_LISTEN": "127.0.0.1:0"})
        self.assert_status(self.http.get("/readyz"), 200)

    def test_a_flag_wins_over_a_variable(self):
        """--listen replaces TWINPOOL_LISTEN."""
        self.restart(arguments=("--listen", "127.0.0.1:0"),
                     extra_environment={"TWINPOOL_LISTEN": "127.0.0.1:1"})
        self.assert_status(self.http.get("/readyz"), 200)

    def test_pools_can_be_sized_by_variables(self):
        """TWINPOOL_POOL_<NAME>_HOSTS and _THREADS."""
        self.restart(extra_environment={"TWINPOOL_POOL_PROCESS_HOSTS": "3",
                                        "TWINPOOL_POOL_THREAD_THREADS": "5"})
        self.assertEqual([self.http.pool(name)["workers"] for name in ("process", "thread")],
                         [3, 5])

    def test_the_log_level_is_obeyed(self):
        """At error an undisturbed life leaves no line; at debug there is more than at info."""
        self.restart(arguments=("--log-level", "error"))
        self.http.run("echo", 1)
        self.stop_service()
        self.assertEqual(self.service.log(), [])

    def test_the_log_can_be_text(self):
        """--log-format text for people: no JSON, one line an event."""
        self.restart(arguments=("--log-format", "text"))
        self.assertEqual(self.service.log(), [])
        self.service.close_clients()
        self.service.signal()
        self.assertEqual(self.service.process.wait(30), 0)
        self.judged = True

    def test_nothing_is_written_outside_the_data_directory(self):
        """A service without one leaves its directory as it was; one with it writes only there."""
        self.assertEqual(os.listdir(self.directory), ["twinpool.json"])
        data = os.path.join(self.directory, "data")
        os.mkdir(data)
        self.restart(arguments=("--data-dir", data))
        self.http.run("echo", 1)
        self.assertEqual(sorted(os.listdir(self.directory)), ["data", "twinpool.json"])

    def test_ipv6(self):
        """[::1]:PORT works where the machine has IPv6."""
        if not os.path.exists("/proc/net/if_inet6") or not _has_ipv6_loopback():
            self.skipTest("this machine has no IPv6 loopback")
        self.stop_service()
        service = Service(self.write_file("six.json", BASE_CONFIG), ("--listen", "[::1]:0"))
        self.addCleanup(service.destroy)
        line = service.read_ready_line()
        port = int(re.match(r"http://\[::1\]:(\d+)\n\Z", line).group(1))
        client = Client("::1", port)
        self.assertEqual(client.get("/readyz").status, 200)
        client.close()
        service.stop()


def _has_ipv6_loopback():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


class CoresTest(ServiceCase):
    """"cores" is the number of CPUs that the service may use."""

    config = {"pools": {"process": {"hosts": "cores"}, "thread": {"threads": "cores"}}}

    def test_cores_are_the_cpus_of_this_process(self):
        """At most those that the scheduler allows, at least one; the same for both pools."""
        workers = [self.http.pool(name)["workers"] for name in ("process", "thread")]
        self.assertEqual(workers[0], workers[1])
        self.assertGreaterEqual(workers[0], 1)
        self.assertLessEqual(workers[0], len(os.sched_getaffinity(0)))
