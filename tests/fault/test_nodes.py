"""Three services, one PostgreSQL: any answers for any job; kill -9 of services and of the database under load.

Each run of a job appends a line to a file that outlives everything, so the witness for how often a job ran is
not the services' word alone.
"""

import collections
import http.client
import os
import random
import shutil
import signal
import threading
import time
import unittest

from tests.harness.case import DirectoryCase
from tests.harness.client import submission
from tests.harness.documents import ENDED_STATES
from tests.harness.events import EventStream
from tests.harness.postgres import Postgres, programs
from tests.harness.service import Service
from tests.harness.timing import wait_until

NODES = 3
SUBMITTERS = 3
CHAOS_S = float(os.environ.get("TWINPOOL_NODES_SECONDS", "8"))
LEASE_MS = 3000
LONG_MS = 60000


@unittest.skipUnless(programs(), "PostgreSQL is not installed")
class NodesCase(DirectoryCase):
    """A cluster of PostgreSQL and services that share it."""

    def setUp(self):
        super().setUp()
        self.witness = os.path.join(self.directory, "witness")
        self.postgres = Postgres()
        self.addCleanup(self.postgres.destroy)
        self.postgres.start()
        self.nodes = [None] * NODES
        for number in range(NODES):
            self.start_node(number)

    def config(self, number):
        """Of a service."""
        tee = shutil.which("tee")
        return {
            "server": {"listen": "127.0.0.1:0", "shutdown_grace_ms": 3000},
            "data_dir": os.path.join(self.directory, f"node{number}"),
            "store": {"kind": "postgresql", "connection": self.postgres.connection,
                      "node": f"node{number}", "lease_ms": LEASE_MS, "poll_ms": 150},
            "pools": {"process": {"hosts": 2}, "thread": {"hosts": 1, "threads": 2}},
            "tasks": {"mark": {
                "args_schema": {"type": "object", "required": ["token"],
                                "properties": {"token": {"type": "string"}}},
                "command": {"argv": [tee, "-a", self.witness], "stdin": "{token}\n"}}},
        }

    def start_node(self, number):
        """Starts one; it answers when it has reached the database."""
        path = self.write_file(f"node{number}.json", self.config(number))
        node = Service(path)
        self.nodes[number] = node
        self.addCleanup(node.destroy)
        node.wait_ready()
        with_client = node.client()
        wait_until(lambda: with_client.stats()["store"]["available"], "it has reached the database", 30)
        return node

    def tearDown(self):
        for node in self.nodes:
            if node and node.process.poll() is None:
                node.stop()

    def ended(self, client, job_id, deadline=40):
        """The job's document once it has ended, by whichever service is asked."""
        def look():
            job = client.get(f"/jobs/{job_id}", wait=2).json
            return job if job.get("state") in ENDED_STATES else None
        return wait_until(look, f"job {job_id} ends", deadline)

    def runs(self):
        """How often each token has run."""
        if not os.path.exists(self.witness):
            return collections.Counter()
        with open(self.witness, encoding="ascii") as file:
            return collections.Counter(file.read().split())


class TogetherTest(NodesCase):
    """Any service answers for any job."""

    def test_wait_read_cancel_follow_and_list_from_another(self):
        """What one accepted, another tells, waits for, cancels and lists."""
        clients = [node.client() for node in self.nodes]
        job = clients[0].submit("echo", {"n": 1}, "process", wait=0).json
        self.assertTrue(job["durable"])
        self.assertEqual(self.ended(clients[1], job["id"])["result"], {"n": 1})
        # More than one service has workers for: all of them work.
        many = [clients[0].submit("sleep", {"ms": 200}, "process", wait=0).json["id"] for _ in range(30)]
        pids = {self.ended(clients[2], one)["worker"]["pid"] for one in many}
        owners = {number for number, node in enumerate(self.nodes) for pid in pids if node.owns(pid)}
        self.assertEqual(owners, {0, 1, 2})
        answers = [client.post("/jobs", submission("echo", 7, "process"),
                               headers={"Idempotency-Key": "the-same"}, wait=0) for client in clients]
        self.assertTrue(all(answer.status in (200, 202) for answer in answers), answers)
        keyed = {answer.json["id"] for answer in answers}
        self.assertEqual(len(keyed), 1)
        listed = set()
        cursor = {}
        while cursor is not None:
            page = clients[1].get("/jobs", limit=10, **cursor).json
            listed |= {entry["id"] for entry in page["jobs"]}
            cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
        self.assertLessEqual({job["id"], *many, *keyed}, listed)

    def test_cancelled_from_another(self):
        """One that runs, and one that waits in the queue."""
        clients = [node.client() for node in self.nodes]
        running = [clients[0].submit("sleep", {"ms": LONG_MS}, "process", wait=0).json["id"]
                   for _ in range(2 * NODES)]
        for one in running:
            wait_until(lambda one=one: clients[1].get(f"/jobs/{one}").json["state"] == "running", "it runs")
        self.check_hanging_up(running[0])
        queued = clients[0].submit("sleep", {"ms": LONG_MS}, "process", wait=0).json["id"]
        self.assertEqual(clients[2].delete(f"/jobs/{queued}").status, 200)
        self.assertEqual(clients[1].get(f"/jobs/{queued}").json["state"], "cancelled")
        self.assertEqual(clients[1].delete(f"/jobs/{queued}").status, 409)
        for number, one in enumerate(running):
            self.assertIn(clients[number % NODES].delete(f"/jobs/{one}").status, (200, 202))
        for one in running:
            self.assertEqual(self.ended(clients[2], one)["state"], "cancelled")

    def check_hanging_up(self, job_id):
        """Who waits at a service that does not have the job, and goes, is noticed long before its time."""
        worker = self.nodes[0].client().job(job_id)["worker"]["pid"]
        node = next(node for node in self.nodes if not node.owns(worker))
        client = node.client()
        with node.raw() as waiter:
            waiter.send(f"GET /jobs/{job_id}?wait=300 HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            wait_until(lambda: client.stats()["server"]["requests_open"] == 2, "it waits")
        wait_until(lambda: client.stats()["server"]["requests_open"] == 1, "its place is free again")

    def test_followed_from_another(self):
        """Its events: progress and output as they come, and the end."""
        clients = [node.client() for node in self.nodes]
        job = clients[0].submit("print", {"text": "line", "times": 8, "interval_ms": 400}, "process",
                                wait=0).json
        worker = wait_until(lambda: clients[0].get(f"/jobs/{job['id']}").json["worker"], "it runs")
        owner = next(number for number, node in enumerate(self.nodes) if node.owns(worker["pid"]))
        other = self.nodes[(owner + 1) % NODES]
        with EventStream(other, job["id"]) as stream:
            events = list(stream)
        self.assertEqual(events[-1].name, "end")
        self.assertEqual(events[-1].data["state"], "succeeded")
        output = "".join(event.data["text"] for event in events if event.name == "output")
        self.assertEqual(output, events[-1].data["stdout"]["text"])
        self.assertGreater(len([event for event in events if event.name == "output"]), 1)


class DeathTest(NodesCase):
    """A service dies, or the database does."""

    def test_jobs_of_a_dead_service_are_rescued(self):
        """By their retry rule: run again where that was allowed, crashed where not."""
        clients = [node.client() for node in self.nodes]
        once = [clients[0].submit("sleep", {"ms": LONG_MS}, "process", wait=0).json["id"] for _ in range(2)]
        again = clients[0].submit("sleep", {"ms": 1500}, "thread", wait=0, max_attempts=3).json["id"]
        # Of a job that another service runs, who runs it is told as long as somebody asks.
        worker = {one: wait_until(lambda one=one: clients[1].get(f"/jobs/{one}").json["worker"], "it runs")
                  for one in (*once, again)}
        pid = worker[again]["pid"]
        victim = next(number for number, node in enumerate(self.nodes) if node.owns(pid))
        survivor = clients[(victim + 1) % NODES]
        mine = [one for one in once
                if self.nodes[victim].owns(worker[one]["pid"])]
        self.nodes[victim].kill_tree()
        rescued = self.ended(survivor, again)
        self.assertEqual((rescued["state"], rescued["attempt"]), ("succeeded", 2))
        self.assertIn(rescued["previous_attempts"][0]["error"]["code"], ("host_lost", "signal"))
        for one in mine:
            job = self.ended(survivor, one)
            self.assertEqual(job["state"], "crashed")
            # The second if its host was seen to be killed before its service was.
            self.assertIn(job["error"]["code"], ("host_lost", "signal"))
        for one in set(once) - set(mine):
            survivor.delete(f"/jobs/{one}")

    def test_without_the_database(self):
        """Waited-for jobs go on, durable ones get 503, and all is well when it is back."""
        client = self.nodes[0].client()
        self.postgres.kill()
        self.assertEqual(client.run("echo", 1, "process")["state"], "succeeded")
        wait_until(lambda: not client.stats()["store"]["available"] or
                   client.submit("echo", 2, "process", wait=0).status == 503, "the loss is seen")
        answer = client.submit("echo", 2, "process", wait=0)
        self.assertEqual(answer.status, 503, answer)
        self.assertEqual(client.run("echo", 3, "thread")["state"], "succeeded")
        self.postgres.start()
        accepted = wait_until(lambda: client.submit("echo", 4, "process", wait=0).json.get("id"),
                              "durable jobs are taken again", 40)
        self.assertEqual(self.ended(self.nodes[1].client(), accepted)["result"], 4)

    def test_chaos(self):
        """Services and the database are killed under load: every job is accounted for."""
        ledger = {}
        stop = threading.Event()
        threads = [threading.Thread(target=self.submit_until, args=(seed, ledger, stop), daemon=True)
                   for seed in range(SUBMITTERS)]
        for thread in threads:
            thread.start()
        self.rage(time.monotonic() + CHAOS_S)
        stop.set()
        for thread in threads:
            thread.join(60)
        client = self.nodes[0].client()
        for job_id in list(ledger):
            self.ended(client, job_id, 60)
        runs = self.runs()
        crashed = 0
        for job_id, (token, attempts) in ledger.items():
            job = client.get(f"/jobs/{job_id}").json
            crashed += job["state"] == "crashed"
            self.assertIn(job["state"], ("succeeded", "crashed"), job)
            self.assertLessEqual(runs[token], attempts, f"{token} ran too often: {job}")
            if job["state"] == "succeeded":
                self.assertGreaterEqual(runs[token], 1, job)
            else:
                self.assertEqual(job["error"]["code"] in ("host_lost", "signal"), True, job)
        self.assertGreater(len(ledger), 50)
        self.assertLess(crashed, len(ledger))

    def submit_until(self, seed, ledger, stop):
        """Submits to whichever service answers; notes what was answered 202."""
        choose = random.Random(seed)
        number = 0
        while not stop.is_set():
            node = self.nodes[choose.randrange(NODES)]
            attempts = choose.choice((1, 3))
            token = f"t{seed}x{number}"
            number += 1
            try:
                client = node.client()
                answer = client.submit("mark", {"token": token}, choose.choice(("process", "thread")),
                                       wait=0, max_attempts=attempts, retry={"backoff_ms": 5})
                if answer.status in (200, 202):
                    ledger[answer.json["id"]] = (token, attempts)
                elif answer.status != 503:
                    raise AssertionError(f"refused: {answer!r}")
            except (OSError, http.client.HTTPException):
                stop.wait(0.05)  # it was killed

    def rage(self, until):
        """Kills a service or the database, again and again."""
        choose = random.Random(7)
        while time.monotonic() < until:
            time.sleep(choose.uniform(0.3, 0.8))
            if choose.random() < 0.3:
                self.postgres.restart(choose.choice((signal.SIGKILL, signal.SIGINT)))
            else:
                number = choose.randrange(NODES)
                self.nodes[number].kill_tree()
                self.start_node(number)


if __name__ == "__main__":
    unittest.main()
