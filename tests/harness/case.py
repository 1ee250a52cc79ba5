"""The base of all tests: a service for the test, judged at its end."""

import copy
import json
import os
import shutil
import signal
import sqlite3
import tempfile
import unittest

from tests.harness import proc
from tests.harness.documents import ENDED_STATES
from tests.harness.service import Service
from tests.harness.timing import wait_until

DATABASE = "twinpool.db"  # in the data directory

# Small pools whose sizes do not depend on the machine.
BASE_CONFIG = {
    "server": {"listen": "127.0.0.1:0"},
    "pools": {"process": {"hosts": 2, "threads": 1}, "thread": {"hosts": 1, "threads": 4}},
    "tasks": {"crash": {"enabled": True}},
}


def merged(base, changes):
    """base with changes laid over it, object by object; None takes a member away."""
    result = copy.deepcopy(base)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result


def copy_database(source, target):
    """Copies the database, as it is now, from one data directory to another, which is made."""
    os.makedirs(target)
    for suffix in ("", "-wal"):
        name = DATABASE + suffix
        if os.path.exists(os.path.join(source, name)):
            shutil.copy(os.path.join(source, name), target)


def check_database(data_dir):
    """SQLite finds nothing wrong with it; it looks at a copy, so that nothing is mended by looking."""
    with tempfile.TemporaryDirectory(prefix="twinpool-test-") as directory:
        copy_database(data_dir, os.path.join(directory, "copy"))
        connection = sqlite3.connect(os.path.join(directory, "copy", DATABASE))
        try:
            found = connection.execute("PRAGMA integrity_check").fetchall()
        finally:
            connection.close()
    if found != [("ok",)]:
        raise AssertionError(f"the database is damaged: {found}")


class DirectoryCase(unittest.TestCase):
    """A test with a temporary directory of its own."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="twinpool-test-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def write_file(self, name, content):
        """Writes text, or a document as JSON, into the directory and answers its path."""
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content, indent=1))
        return path


class ServiceCase(DirectoryCase):
    """Starts a service from BASE_CONFIG with the class's `config` laid over it.

    self.service and self.http (a keep-alive client) are ready when a test begins; when it ends the
    service must leave by SIGTERM with status 0 and a clean log, unless the test judged its end.
    """

    config = {}
    arguments = ()

    def setUp(self):
        super().setUp()
        self.service = None
        self.http = None
        self.start_service(self.config)

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        """Starts a service as self.service, all workers up; the one before must have been judged."""
        path = self.write_file("twinpool.json", merged(BASE_CONFIG, changes or {}))
        service = Service(path, self.arguments if arguments is None else arguments,
                          extra_environment)
        self.addCleanup(service.destroy)
        service.wait_ready()
        self.service = service
        self.http = service.client()
        self.judged = False
        self.wait_all_workers()

    def restart_service(self, changes):
        """Stops it well and starts it anew, with changes laid over the class's configuration."""
        self.stop_service()
        self.start_service(merged(self.config, changes))

    def stop_service(self, **options):
        """Stops it well, now."""
        self.judged = True
        self.service.stop(**options)

    def kill_service(self, **options):
        """kill -9 of all of it, now."""
        self.judged = True
        self.service.kill_tree(**options)

    def judge_end(self, is_expected_status, **options):
        """The test ended the service in its own way: judges that end instead."""
        self.judged = True
        self.service.judge_end(is_expected_status, **options)

    def tearDown(self):
        if not self.judged:
            self.stop_service()

    # --- promises that many tests look at

    def assert_status(self, answer, status):
        """The answer has this status; shows its body if not."""
        self.assertEqual(answer.status, status, answer)

    def assert_problem(self, answer, status, *fragments, field=None):
        """A problem of this status whose detail has these fragments, about this field."""
        self.assert_status(answer, status)
        for fragment in fragments:
            self.assertIn(fragment, answer.json["detail"])
        if field is not None:
            self.assertEqual(answer.json.get("field"), field, answer)

    def assert_succeeded(self, job):
        """The job's document says succeeded, and has no error."""
        self.assertEqual((job["state"], job["error"]), ("succeeded", None), job)

    def assert_error(self, job, state, code, **members):
        """The job has ended in this state by this cause; its error has these members."""
        self.assertEqual((job["state"], (job["error"] or {}).get("code")), (state, code), job)
        self.assertIsNone(job["result"])
        for name, value in members.items():
            self.assertEqual(job["error"].get(name), value, job)

    def wait_for_state(self, job_id, *states, deadline=10):
        """Waits until the job is in one of these states; answers its document.

        A job that runs counts once its worker has begun and is therefore known.
        """
        def look():
            job = self.http.job(job_id)
            begun = job["state"] != "running" or job["worker"] is not None
            return job if job["state"] in states and begun else None
        return wait_until(look, f"job {job_id} is {' or '.join(states)}", deadline)

    def wait_ended(self, job_id, seconds=30):
        """Waits, by the API's own wait, for the job's end; answers its document."""
        job = self.http.job(job_id, wait=seconds)
        self.assertIn(job["state"], ENDED_STATES, job)
        return job

    def wait_all_workers(self, deadline=15):
        """Waits until no worker of any pool is down; answers GET /pools' list."""
        def look():
            pools = self.http.get("/pools").json["pools"]
            return pools if all(pool["workers_down"] == 0 for pool in pools) else None
        return wait_until(look, "every worker is up", deadline)

    def fill_pool(self, pool, ms=20000):
        """Occupies every worker of a pool with sleepers and waits until all run."""
        count = self.http.pool(pool)["workers"]
        jobs = [self.http.start("sleep", {"ms": ms}, pool)["id"] for _ in range(count)]
        for job_id in jobs:
            self.wait_for_state(job_id, "running")
        return jobs

    def cancel_all(self, job_ids):
        """Cancels these jobs and waits until each has ended."""
        for job_id in job_ids:
            self.http.delete(f"/jobs/{job_id}")
        for job_id in job_ids:
            self.wait_ended(job_id)

    def host_pid(self, pool, host=0):
        """The pid of a host, once it is up."""
        def look():
            return next((worker["pid"] for worker in self.http.pool(pool)["worker_list"]
                         if worker["host"] == host and worker["state"] in ("idle", "busy")), None)
        return wait_until(look, f"host {host} of pool {pool} is up")

    def host_pids(self, pool):
        """The pids of the hosts that are up."""
        return {worker["pid"] for worker in self.http.pool(pool)["worker_list"]
                if worker["state"] in ("idle", "busy")}

    def restarts(self, pool):
        """How many hosts of a pool have ended, by reason; the reasons that occurred."""
        by_reason = self.http.stats()["pools"][pool]["restarts"]["by_reason"]
        return {reason: count for reason, count in by_reason.items() if count}

    def wait_host_replaced(self, pool, pid, deadline=10):
        """Waits until this process is gone and every worker of the pool is up; answers the pool."""
        def look():
            entry = self.http.pool(pool)
            gone = all(worker["pid"] != pid for worker in entry["worker_list"])
            return entry if gone and entry["workers_down"] == 0 and not proc.is_running(pid) else None
        return wait_until(look, f"the host {pid} of pool {pool} is replaced", deadline)

    def kill_host(self, pool, host=0, number=signal.SIGKILL):
        """Sends a signal to a host of a pool; answers its pid."""
        pid = self.host_pid(pool, host)
        os.kill(pid, number)
        return pid

    def list_all(self, **query):
        """The ids of GET /jobs with these filters, page after page."""
        ids = []
        while True:
            page = self.http.get("/jobs", **query).json
            self.assertIs(page["complete"], True)
            ids += [job["id"] for job in page["jobs"]]
            if page["next_cursor"] is None:
                return ids
            self.assertNotEqual(page["next_cursor"], query.get("cursor"), "the cursor never ends")
            query["cursor"] = page["next_cursor"]

    def server_descriptors(self):
        """How many descriptors the server has open."""
        return len(proc.descriptors(self.service.server_pid))


class DurableCase(ServiceCase):
    """A service with a data directory, which stays when the service is started anew."""

    def setUp(self):
        self.data_dir = None
        super().setUp()

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        """As ServiceCase does it, on the data directory; the store is open when it answers."""
        self.data_dir = self.data_dir or os.path.join(self.directory, "data")
        super().start_service({"data_dir": self.data_dir, **(changes or {})}, arguments,
                              extra_environment)
        wait_until(lambda: self.http.stats()["store"]["available"], "the store is open", 20)

    def check_database(self):
        """What is on the disk now is a whole database."""
        check_database(self.data_dir)
