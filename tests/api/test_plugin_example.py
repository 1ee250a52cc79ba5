"""The example of a plug-in, built as its README says, from an installed tree."""

import json
import os
import shlex
import subprocess
import tempfile
import unittest
from unittest import mock

from tests.harness.case import ServiceCase
from tests.harness.service import SOURCE, run_binary
from tests.harness.timing import seconds

BUILD = os.environ.get("TWINPOOL_BUILD")
EXAMPLE = os.path.join(SOURCE, "examples", "plugin-zlib")
POOLS = ("process", "thread")


def run(*command, **options):
    """Runs a command; its output is in the error if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=seconds(200), check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}")
    return done.stdout


@unittest.skipUnless(BUILD, "TWINPOOL_BUILD must name the build directory")
class PluginExampleTest(ServiceCase):
    """Against twinpool as it is installed."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory(prefix="twinpool-installed-")
        cls.addClassCleanup(directory.cleanup)
        cls.prefix = os.path.join(directory.name, "prefix")
        cls.build = os.path.join(directory.name, "build")
        run("cmake", "--install", BUILD, "--prefix", cls.prefix)
        run("cmake", "-S", EXAMPLE, "-B", cls.build, f"-DCMAKE_PREFIX_PATH={cls.prefix}",
            f"-DCMAKE_INSTALL_PREFIX={cls.prefix}", "-DCMAKE_C_FLAGS=-Werror")
        run("cmake", "--build", cls.build)
        run("cmake", "--install", cls.build)
        cls.binary = os.path.join(cls.prefix, "bin", "twinpool")

    def setUp(self):
        patch = mock.patch.dict(os.environ, {"TWINPOOL_BINARY": self.binary})
        patch.start()
        self.addCleanup(patch.stop)
        with open(os.path.join(EXAMPLE, "twinpool.json"), encoding="utf-8") as file:
            self.config = json.load(file)
        self.config["plugins"][0]["path"] = self.find_installed()
        super().setUp()

    def find_installed(self):
        """Where the example was installed: in the directory that pkg-config tells, too."""
        directory = run("pkg-config", "--variable=plugindir", "twinpool",
                        env=self.package_environment()).strip()
        path = os.path.join(directory, "zlib-tasks.so")
        self.assertTrue(os.path.exists(path), path)
        return os.path.realpath(path)

    def package_environment(self):
        """An environment in which pkg-config knows the installed tree."""
        libraries = [where for where, _, names in os.walk(self.prefix) if "twinpool.pc" in names]
        return {**os.environ, "PKG_CONFIG_PATH": libraries[0]}

    def test_it_does_what_its_readme_says(self):
        """Compress and back, and the CRC that everybody checks by, on both pools."""
        text = "abc abc abc abc " * 5000
        for pool in POOLS:
            with self.subTest(pool=pool):
                packed = self.http.run("zlib.compress", {"text": text}, pool)
                self.assert_succeeded(packed)
                self.assertLess(packed["result"]["bytes_out"], 1000)
                again = self.http.run("zlib.decompress",
                                      {"base64": packed["result"]["base64"]}, pool)
                self.assert_succeeded(again)
                self.assertEqual(again["result"], {"text": text, "bytes_out": len(text)})
                crc = self.http.run("zlib.crc32", {"text": "123456789"}, pool)
                self.assertEqual(crc["result"], {"crc32": 3421780262, "bytes_in": 9, "calls": 1})
                crc = self.http.run("zlib.crc32", {"base64": "MTIzNDU2Nzg5"}, pool)
                self.assertEqual(crc["result"], {"crc32": 3421780262, "bytes_in": 9, "calls": 2})

    def test_what_is_wrong_is_told(self):
        """Arguments that the schema cannot hold to, and bytes that zlib refuses."""
        for task, args, fragment in (
                ("zlib.crc32", {}, "either"),
                ("zlib.crc32", {"text": "", "base64": ""}, "both"),
                ("zlib.compress", {"base64": "a"}, "no base64"),
                ("zlib.compress", {"base64": "a==="}, "no base64"),
                ("zlib.decompress", {"base64": ""}, "too early"),
                ("zlib.decompress", {"base64": "eNpLTEo="}, "too early"),
                ("zlib.decompress", {"base64": "AAAA"}, "zlib")):
            with self.subTest(task=task, args=args):
                job = self.http.run(task, args)
                self.assertEqual((job["state"], job["error"]["code"]), ("failed", "task_error"))
                self.assertIn(fragment, job["error"]["message"])

    def test_bytes_that_are_no_text(self):
        """Come back as base64."""
        packed = self.http.run("zlib.compress", {"base64": "//79AA=="})["result"]["base64"]
        back = self.http.run("zlib.decompress", {"base64": packed})["result"]
        self.assertEqual(back, {"base64": "//79AA==", "bytes_out": 4})

    def test_the_task_list_tells_its_kind(self):
        """Kind, pools, and the schema as the plug-in has it."""
        tasks = {task["name"]: task for task in self.http.get("/tasks").json["tasks"]}
        task = tasks["zlib.compress"]
        self.assertEqual((task["kind"], task["thread_safe"], sorted(task["pools"])),
                         ("plugin", True, sorted(POOLS)))
        self.assertEqual(task["args_schema"]["properties"]["level"]["maximum"], 9)

    def test_a_wrong_setting_is_refused_by_the_plugin(self):
        """Its host_open() says why, by its own words."""
        plugins = self.config["plugins"]
        plugins[0]["settings"]["zlib.compress"]["level"] = "high"
        path = self.write_file("wrong.json", {"plugins": plugins})
        checked = run_binary("--check-config", "--config", path)
        self.assertEqual(checked.returncode, 2)
        self.assertIn('the setting "level" is "high"; expected 0 to 9', checked.stderr)

    def test_it_builds_without_cmake(self):
        """By the compiler's command of the README."""
        output = os.path.join(self.directory, "by-hand.so")
        flags = shlex.split(run("pkg-config", "--cflags", "--libs", "twinpool", "zlib",
                                env=self.package_environment()))
        sources = [os.path.join(EXAMPLE, name) for name in ("zlib_tasks.c", "base64.c")]
        run("cc", "-shared", "-fPIC", "-fvisibility=hidden", '-DPLUGIN_VERSION="1.0.0"', "-o",
            output, *sources, *flags)
        path = self.write_file("by-hand.json", {"plugins": [{"path": "by-hand.so"}]})
        checked = run_binary("--check-config", "--config", path)
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))
