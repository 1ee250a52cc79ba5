"""The Debian package: made by CPack of this build, looked at and unpacked, never installed."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

from tests.harness.service import SOURCE, environment

BUILD = os.environ.get("TWINPOOL_BUILD")
CONFFILES = {"/etc/default/twinpool", "/etc/twinpool/twinpool.json", "/etc/twinpool/twinpool.schema.json"}
FILES = CONFFILES | {"/usr/bin/twinpool", "/usr/include/twinpool/task.h", "/lib/systemd/system/twinpool.service",
                     "/lib/systemd/system/twinpool.socket", "/usr/lib/pkgconfig/twinpool.pc",
                     "/usr/share/doc/twinpool/copyright", "/usr/share/doc/twinpool/changelog.gz"}


def run(*command, umask=-1, cwd=None):
    """Runs a command to a good end and answers its output."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, umask=umask,
                            env=environment(), cwd=cwd, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        raise AssertionError(f"{command}: {result.stdout}{result.stderr}")
    return result.stdout


@unittest.skipUnless(BUILD and shutil.which("dpkg-deb"), "needs a build directory, and Debian's tools")
class PackageTest(unittest.TestCase):
    """One package for all tests, made under a umask that must not show in it."""

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory(prefix="twinpool-package-")
        cls.addClassCleanup(directory.cleanup)
        made, cls.root = os.path.join(directory.name, "made"), os.path.join(directory.name, "root")
        run("cpack", "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-B", made, umask=0o077,
            cwd=directory.name)
        cls.package, = (os.path.join(made, name) for name in os.listdir(made) if name.endswith(".deb"))
        cls.control = os.path.join(directory.name, "control")
        run("dpkg-deb", "--control", cls.package, cls.control)
        run("dpkg-deb", "--extract", cls.package, cls.root)

    def field(self, name):
        """One field of the control file."""
        return run("dpkg-deb", "--field", self.package, name).strip()

    def read(self, path):
        """A file of the package."""
        with open(self.root + path, encoding="utf-8") as file:
            return file.read()

    def test_control(self):
        """Name, version, and the libraries that the binary is linked with."""
        with open(os.path.join(SOURCE, "CMakeLists.txt"), encoding="utf-8") as file:
            version = re.search(r"project\(twinpool VERSION (\S+)", file.read()).group(1)
        self.assertEqual((self.field("Package"), self.field("Version")), ("twinpool", version))
        self.assertEqual(self.field("Architecture"), run("dpkg", "--print-architecture").strip())
        depends = {entry.split()[0] for entry in self.field("Depends").split(", ")}
        for name in ("adduser", "libc6", "libmicrohttpd12", "libjansson4", "libgnutls30", "libnettle8"):
            self.assertIn(name, depends)

    def test_files(self):
        """All of them are there, root's, with Debian's modes, in no place that a package may not use."""
        found = {}
        for line in run("dpkg-deb", "--contents", self.package).splitlines():
            mode, owner, _, _, _, path = line.split(None, 5)
            self.assertEqual(owner, "root/root", line)
            found[path[1:]] = mode
        self.assertLessEqual(FILES, set(found))
        for path, mode in found.items():
            wanted = "drwxr-xr-x" if path.endswith("/") else \
                "-rwxr-xr-x" if path.startswith("/usr/bin/") else "-rw-r--r--"
            self.assertEqual(mode, wanted, path)
            self.assertRegex(path, r"\A/(|etc/.*|lib/(systemd/.*)?|usr/((bin|include|lib|share)/.*)?)\Z")

    def test_conffiles(self):
        """All that lies in /etc, and nothing else."""
        with open(os.path.join(self.control, "conffiles"), encoding="utf-8") as file:
            self.assertEqual(set(file.read().split()), CONFFILES)
        etc = {os.path.join(directory, name)[len(self.root):]
               for directory, _, names in os.walk(os.path.join(self.root, "etc")) for name in names}
        self.assertEqual(etc, CONFFILES)

    def test_checksums(self):
        """Of every file but the conffiles."""
        with open(os.path.join(self.control, "md5sums"), encoding="utf-8") as file:
            listed = {"/" + line.split(None, 1)[1].strip() for line in file}
        self.assertLessEqual(FILES - CONFFILES, listed)
        run("md5sum", "--check", "--strict", os.path.join(self.control, "md5sums"), cwd=self.root)

    def test_maintainer_scripts(self):
        """Executable, of a shell that parses them, and they end at the first mistake."""
        for name in ("postinst", "prerm", "postrm"):
            path = os.path.join(self.control, name)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o755)
            with open(path, encoding="utf-8") as file:
                self.assertTrue(file.read().startswith("#!/bin/sh\nset -e\n"))
            run("sh", "-n", path)

    def test_units(self):
        """They start what the package has, as the user that it makes."""
        service = self.read("/lib/systemd/system/twinpool.service")
        command = re.search(r"^ExecStart=(\S+)", service, re.MULTILINE).group(1)
        self.assertTrue(os.access(self.root + command, os.X_OK))
        config = re.search(r"TWINPOOL_CONFIG=(\S+)", service).group(1)
        self.assertIn(config, CONFFILES)
        user = re.search(r"^User=(\S+)", service, re.MULTILINE).group(1)
        with open(os.path.join(self.control, "postinst"), encoding="utf-8") as file:
            self.assertRegex(file.read(), rf"adduser .*--system.* {user}\n")

    def test_the_program(self):
        """It is stripped, it runs, and the packaged configuration is one that it takes."""
        program = self.root + "/usr/bin/twinpool"
        self.assertIn("twinpool " + self.field("Version"), run(program, "--version"))
        run(program, "--check-config", "--config", self.root + "/etc/twinpool/twinpool.json")
        self.assertNotIn(".debug_info", run("readelf", "--section-headers", program))
