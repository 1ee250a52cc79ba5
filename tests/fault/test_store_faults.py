"""What the disk does to the store: a torn or foreign file, no permission, no room.

Durable submissions are refused with the reason, everything else works, nothing is damaged further, and
the store is there again without a restart once the cause is gone.
"""

import os
import shutil
import sqlite3
import subprocess

from tests.harness.case import (BASE_CONFIG, DATABASE, ServiceCase, check_database,
                                copy_database, merged)
from tests.harness.service import Service
from tests.harness.timing import seconds, wait_until

LONG_MS = 60000
NAMESPACE = ("unshare", "--mount", "--propagation", "private")


class FaultCase(ServiceCase):
    """A service whose store cannot be used."""

    def setUp(self):
        self.data_dir = None
        super().setUp()

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        """Begins with a data directory that was never used."""
        self.data_dir = self.data_dir or os.path.join(self.directory, "data")
        super().start_service({"data_dir": self.data_dir, **(changes or {})}, arguments,
                              extra_environment)

    def store(self):
        """GET /stats of the store."""
        return self.http.stats()["store"]

    def wait_store(self, available=True):
        """Waits until the store is there, or not; answers its numbers."""
        def look():
            store = self.store()
            return store if store["available"] is available and (available or store["error"]) else None
        return wait_until(look, f"the store is available: {available}", 20)

    def check_refusals(self, *reasons):
        """What would have to be kept is refused and says why; all else works."""
        echo = {"task": "echo", "args": 1}
        for body, headers, path, query in (
                (echo, {}, "/jobs", {"wait": 0}), (echo, {"Idempotency-Key": "k"}, "/jobs", {}),
                ({**echo, "delay_ms": 1}, {}, "/jobs", {}),
                ({**echo, "args": [1, 2]}, {}, "/batches", {"wait": 0})):
            answer = self.http.post(path, body, headers=headers, **query)
            self.assert_problem(answer, 503, "cannot be kept", *reasons)
        self.assert_succeeded(self.http.run("echo", 1))
        self.assertEqual(self.http.submit_batch("echo", [1, 2]).json["state"], "succeeded")
        self.assert_status(self.http.get("/readyz"), 200)

    def check_wait_that_runs_out(self):
        """503 that tells where the job is, which goes on."""
        answer = self.http.submit("sleep", {"ms": LONG_MS}, "thread", wait=0.1)
        self.assert_problem(answer, 503, "goes on", "would not survive a restart")
        job = self.http.get(answer.headers["Location"]).json
        self.assertEqual((job["state"], job["durable"]), ("running", False))
        self.cancel_all([job["id"]])


class FileTest(FaultCase):
    """A file that is not, or no longer, a database of ours."""

    def damage_page(self, path):
        """The first page is overwritten in the middle."""
        with open(path, "r+b") as file:
            file.seek(200)
            file.write(os.urandom(3000))
        return "damaged"

    def tear(self, path):
        """The second half is missing."""
        os.truncate(path, os.path.getsize(path) // 2 // 4096 * 4096)
        return "damaged"

    def put_text(self, path):
        """It is no database at all."""
        with open(path, "wb") as file:
            file.write(b"Dear diary,\n" * 1000)
        return "no database"

    def put_foreign(self, path):
        """It is somebody else's."""
        os.unlink(path)
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE recipes(cake TEXT)")
        connection.commit()
        connection.close()
        return "another program"

    def put_directory(self, path):
        """It is no file."""
        os.unlink(path)
        os.mkdir(path)
        return "irectory"

    def test_what_is_no_database_of_ours_is_left_alone(self):
        """The reason is told, the file stays as it was, and once it is gone the store is there."""
        jobs = [self.http.start("echo", {"n": n})["id"] for n in range(50)]
        for job in jobs:
            self.wait_ended(job)
        self.stop_service()
        path = os.path.join(self.data_dir, DATABASE)
        whole = self.directory + "/whole"
        shutil.copy(path, whole)
        for damage in (self.damage_page, self.tear, self.put_text, self.put_foreign,
                       self.put_directory):
            with self.subTest(damage=damage.__name__):
                reason = damage(path)
                content = self.content(path)
                self.start_service()
                store = self.wait_store(available=False)
                self.assertIn(path, store["error"])
                self.assertIn(reason, store["error"])
                self.check_refusals(reason)
                if damage == self.tear:
                    self.check_wait_that_runs_out()
                    self.check_reading(jobs[0])
                else:
                    self.assertEqual(self.content(path), content)
                if damage == self.put_directory:
                    os.rmdir(path)  # and the store begins with an empty file
                else:
                    shutil.copy(whole, whole + "-copy")
                    os.replace(whole + "-copy", path)
                self.wait_store()
                if damage != self.put_directory:
                    self.assertEqual(self.http.job(jobs[0])["result"], {"n": 0})
                self.assert_status(self.http.submit("echo", wait=0), 202)
                self.stop_service()
                check_database(self.data_dir)

    def content(self, path):
        """Of a file; of a directory, what is in it."""
        if os.path.isdir(path):
            return os.listdir(path)
        with open(path, "rb") as file:
            return file.read()

    def check_reading(self, job):
        """The history cannot be read, and says so; what is at hand is listed."""
        ended = self.http.run("echo", "at hand")
        page = self.http.get("/jobs", limit=1).json
        self.assertEqual((page["jobs"], page["complete"]), ([ended], False))
        for answer in (self.http.get(f"/jobs/{job}"), self.http.get(f"/jobs/{job}/events"),
                       self.http.delete(f"/jobs/{job}"), self.http.get(f"/batches/{job}")):
            self.assert_problem(answer, 503, "cannot be")

    def test_a_directory_that_cannot_be_made(self):
        """There is a file in its place; when that is gone, all is well."""
        self.stop_service()
        shutil.rmtree(self.data_dir)
        self.write_file("data", "in the way")
        self.start_service()
        self.assertIn(self.data_dir, self.wait_store(available=False)["error"])
        self.check_refusals()
        os.unlink(self.data_dir)
        self.wait_store()
        self.assert_status(self.http.submit("echo", wait=0), 202)

    def test_two_services_do_not_share_a_file(self):
        """The second one says who has it, and takes over when that one has ended."""
        first, self.service = self.service, None
        self.start_service()
        error = self.wait_store(available=False)["error"]
        self.assertIn("another service", error)
        self.assertIn(str(first.server_pid), error)
        self.check_refusals("another service")
        first.stop()
        self.wait_store()
        self.assert_status(self.http.submit("echo", wait=0), 202)


def can_mount():
    """Whether this machine lets us mount something in a namespace of our own."""
    try:
        return subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
                              capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class MountCase(FaultCase):
    """A service in a mount namespace, in which `mount` has put something at the data directory."""

    mount = ""

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        """With the namespace; "$0" of the script is the data directory."""
        if not can_mount():
            self.skipTest("mount namespaces are not allowed here")
        self.data_dir = os.path.join(self.directory, "data")
        os.makedirs(self.data_dir, exist_ok=True)
        self.prepare()
        config = merged(BASE_CONFIG, {"data_dir": self.data_dir, **(changes or {})})
        self.service = Service(self.write_file("twinpool.json", config), wrapper=(
            *NAMESPACE, "sh", "-c", self.mount + ' && exec "$@"', self.data_dir))
        self.addCleanup(self.service.destroy)
        self.service.wait_ready()
        self.http = self.service.client()
        self.judged = False
        self.wait_all_workers()
        # What the service sees: the wrapper has become the master.
        self.seen_dir = f"/proc/{self.service.process.pid}/root{self.data_dir}"

    def prepare(self):
        """Before it is mounted."""

    def run_inside(self, *command):
        """Runs a command in the namespace."""
        subprocess.run(["nsenter", f"--mount=/proc/{self.service.process.pid}/ns/mnt", *command],
                       check=True, capture_output=True, timeout=seconds(20))


class ReadOnlyTest(MountCase):
    """A data directory that cannot be written to; root is not above that."""

    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"'

    def test_a_read_only_directory(self):
        """The reason is told; made writable, it is used."""
        self.assertIn("Read-only file system", self.wait_store(available=False)["error"])
        self.check_refusals("Read-only file system")
        self.run_inside("mount", "-o", "remount,bind,rw", self.data_dir)
        self.wait_store()
        self.assert_status(self.http.submit("echo", wait=0), 202)


class FullDiskTest(MountCase):
    """No room left, and room again."""

    mount = 'mount -t tmpfs -o size=3m tmpfs "$0"'

    def fill(self):
        """Until nothing more goes in."""
        with open(os.path.join(self.seen_dir, "filler"), "wb", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while file.write(b"x" * size):
                        pass
                except OSError:
                    continue

    def wait_refused(self):
        """What SQLite has allocated already may still take a few."""
        def look():
            answer = self.http.submit("echo", {"text": "x" * 2000}, wait=0)
            if answer.status == 202:
                self.accepted.append(answer.json["id"])
                return None
            return answer
        return wait_until(look, "the disk is full", 20)

    def test_a_full_disk(self):
        """Refused while it is full, nothing lost that was accepted before, all well after it."""
        self.wait_store()
        self.accepted = [self.http.start("echo", n)["id"] for n in range(10)]
        running = self.http.start("sleep", {"ms": LONG_MS}, "thread")["id"]
        self.wait_for_state(running, "running")
        self.fill()
        self.assert_problem(self.wait_refused(), 503, "full")
        self.check_refusals("full")
        self.check_wait_that_runs_out()
        connection = self.service.raw()
        self.addCleanup(connection.close)
        connection.send(f"DELETE /jobs/{running} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        wait_until(lambda: running in self.list_all(state="cancelled"), "it has ended")
        wait_until(lambda: self.store()["kept"] >= 1, "the end waits for room")
        check_database(self.seen_dir)
        os.unlink(os.path.join(self.seen_dir, "filler"))
        self.wait_store()
        wait_until(lambda: self.store()["waiting"] == 0, "all is written")
        self.assertGreater(self.store()["failures"], 0)
        self.accepted.append(self.http.start("echo", "after")["id"])
        documents = {job: self.wait_ended(job) for job in [running, *self.accepted]}
        self.assertEqual(documents[running]["state"], "cancelled")
        wait_until(lambda: self.store()["waiting"] == 0, "all is written")
        self.check_what_is_on_disk(documents)

    def check_what_is_on_disk(self, documents):
        """Another service, after kill -9 of this one, knows all of it."""
        check_database(self.seen_dir)
        copy = os.path.join(self.directory, "copy")
        copy_database(self.seen_dir, copy)
        self.kill_service()
        ServiceCase.start_service(self, {"data_dir": copy})
        self.wait_store()
        for job, document in documents.items():
            self.assertEqual(self.http.job(job), document)
