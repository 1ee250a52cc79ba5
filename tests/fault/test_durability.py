"""kill -9 of everything at random moments, under load, again and again: what was answered 202 is there.

TWINPOOL_DURABILITY_ROUNDS sets how often. Each job appends a line to a file when it runs, which outlives
everything: so the witness for how often a job ran is not the service's word alone.
"""

import collections
import http.client
import os
import random
import subprocess
import threading
import time

from tests.harness.case import BASE_CONFIG, DurableCase, copy_database, merged
from tests.harness.client import submission
from tests.harness.documents import ENDED_STATES, check_job
from tests.harness.service import Service
from tests.harness.timing import SANITIZER, wait_until

ROUNDS = int(os.environ.get("TWINPOOL_DURABILITY_ROUNDS", "5" if SANITIZER else "30"))
SEED = int(os.environ.get("TWINPOOL_DURABILITY_SEED", str(time.time_ns() % 100000)))
SUBMITTERS = 4
JOBS_PER_ROUND = 30
LOAD_S = 0.25  # at most, before the kill
POOLS = ("process", "thread")
LOST = ("host_lost", "signal")  # the second if the host was killed first
OLD_ONES = 20  # ended jobs of rounds before that are looked at in each round


class _Witness:
    """The file to which every run adds a line with its job's token."""

    def __init__(self, path):
        self.path = path

    def task(self):
        """The configuration of the task that does it, and then takes its time."""
        return {"args_schema": {"type": "object", "required": ["token", "seconds"],
                                "properties": {"token": {"type": "string"},
                                               "seconds": {"type": "string"}}},
                "command": {"argv": ["sh", "-c", f'echo "$2" >>"{self.path}"; exec sleep "$3"', "sh",
                                     "--", "{token}", "{seconds}"]}}

    def runs(self):
        """How often each token has run."""
        if not os.path.exists(self.path):
            return collections.Counter()
        with open(self.path, encoding="ascii") as file:
            return collections.Counter(file.read().split())


class _Ledger:
    """What was submitted, and what was answered. The submitters share it."""

    def __init__(self):
        self._lock = threading.Lock()
        self.attempts = {}  # token -> how many it may have
        self.told = {}  # id -> token: answered 202 or 200, so it is on disk
        self.batches = {}  # id -> tokens
        self.unsure = {}  # key -> body: no answer came

    def plan(self, choose):
        """A new token with its allowed attempts."""
        with self._lock:
            token = f"t{len(self.attempts)}"
            self.attempts[token] = choose((1, 1, 3))
        return token

    def tell(self, job, token):
        """The job was accepted."""
        with self._lock:
            self.told[job] = token

    def tell_batch(self, batch, tokens):
        """The batch was accepted, with a job for each token."""
        with self._lock:
            self.batches[batch["id"]] = tokens
            for entry, token in zip(batch["results"], tokens, strict=True):
                self.told[entry["job"]] = token


class _Refused(Exception):
    """Nothing was accepted."""


class _Submitter(threading.Thread):
    """Submits jobs until the service is gone, or the round has enough."""

    def __init__(self, client, seed, ledger):
        super().__init__(daemon=True)
        self.client = client
        self.random = random.Random(seed)
        self.ledger = ledger
        self.failure = None

    def run(self):
        try:
            for _ in range(JOBS_PER_ROUND // SUBMITTERS):
                self.random.choice((self.submit_job, self.submit_job, self.submit_job,
                                    self.submit_keyed, self.submit_batch, self.wait_for_job))()
        except (_Refused, OSError, http.client.HTTPException):
            pass  # the service is gone, or going
        except Exception as wrong:  # noqa: BLE001 - handed to the test, which fails with it
            self.failure = wrong

    def body(self, token, **fields):
        """A submission that leaves this token behind when it runs."""
        attempts = self.ledger.attempts[token]
        seconds = self.random.choice(("0", "0", "0.01", "0.05"))
        return submission("mark", {"token": token, "seconds": seconds},
                          self.random.choice(POOLS), max_attempts=attempts,
                          retry={"backoff_ms": 5}, labels={"token": token}, **fields)

    def post(self, path, body, **options):
        """An answer that is to be 202, or 200 if it was quick; 503 if the service dies by halves."""
        answer = self.client.post(path, body, **options)
        if answer.status == 503:
            raise _Refused
        if answer.status not in (200, 202):
            raise AssertionError(f"refused: {answer!r}")
        return answer.json

    def submit_job(self):
        """Answered at once; some are delayed."""
        token = self.ledger.plan(self.random.choice)
        delay = self.random.choice((0, 0, 0, 30, 300))
        self.ledger.tell(self.post("/jobs", self.body(token, delay_ms=delay), wait=0)["id"], token)

    def submit_keyed(self):
        """With a key: what was not answered can be asked again."""
        token = self.ledger.plan(self.random.choice)
        body = self.body(token)
        self.ledger.unsure[token] = body
        job = self.post("/jobs", body, headers={"Idempotency-Key": token}, wait=0)["id"]
        self.ledger.tell(job, token)
        del self.ledger.unsure[token]

    def submit_batch(self):
        """Three jobs with the same terms."""
        tokens = [self.ledger.plan(lambda _: 1) for _ in range(3)]
        body = self.body(tokens[0])
        body["args"] = [{"token": token, "seconds": "0"} for token in tokens]
        self.ledger.tell_batch(self.post("/batches", body, wait=0), tokens)

    def wait_for_job(self):
        """One that is not durable: its end is promised by its answer alone."""
        self.post("/jobs", submission("echo", 1, self.random.choice(POOLS)))


class KillTest(DurableCase):
    """Durability under kill -9."""

    def setUp(self):
        self.ledger = _Ledger()
        self.ended = {}  # id -> document of what has been seen to have ended
        self.random = random.Random(SEED)
        super().setUp()

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        """With the task that leaves marks, and with crashes that are not capped by their own limit."""
        self.witness = _Witness(os.path.join(self.directory, "runs"))
        super().start_service(merged(self.terms(), changes or {}), arguments, extra_environment)

    def terms(self):
        """What the test needs of the configuration."""
        return {"tasks": {"mark": self.witness.task()},
                "pools": {pool: {"max_crashes": 100} for pool in POOLS}}

    def test_what_was_answered_202_survives(self):
        """ROUNDS times."""
        print(f"\n{ROUNDS} rounds, seed {SEED}", flush=True)
        for number in range(ROUNDS):
            self.load_and_kill(number)
            self.check_database()
            if self.random.random() < 0.3:
                self.kill_while_it_starts()
            self.start_service()
            self.ask_again()
            self.check_all_are_there()
        self.drain()
        self.check_runs()

    def load_and_kill(self, number):
        """Submitters at work, and a kill in the midst of it."""
        submitters = [_Submitter(self.service.client(), f"{SEED}-{number}-{i}", self.ledger)
                      for i in range(SUBMITTERS)]
        for submitter in submitters:
            submitter.start()
        submitters[0].join(self.random.uniform(0, LOAD_S))
        self.kill_service(in_any_order=True)
        for submitter in submitters:
            submitter.join(30)
            self.assertFalse(submitter.is_alive(), "a submitter hangs")
            if submitter.failure:
                raise submitter.failure

    def kill_while_it_starts(self):
        """The recovery is interrupted, too."""
        config = merged(BASE_CONFIG, {"data_dir": self.data_dir, **self.terms()})
        service = Service(self.write_file("twinpool.json", config))
        self.addCleanup(service.destroy)
        try:
            service.process.wait(self.random.uniform(0, 0.3))
        except subprocess.TimeoutExpired:
            pass
        service.forget_ready()
        service.kill_tree(in_any_order=True)

    def ask_again(self):
        """Those with a key whose answer never came: each is one job, whether it had been taken or not."""
        for key, body in list(self.ledger.unsure.items()):
            answer = self.http.post("/jobs", body, headers={"Idempotency-Key": key}, wait=0)
            self.assertIn(answer.status, (200, 202), answer)
            self.ledger.tell(answer.json["id"], key)
            del self.ledger.unsure[key]

    def check_all_are_there(self):
        """Every job and batch that was accepted; those that had ended are what they were."""
        for job_id in self.ledger.told:
            if job_id not in self.ended:
                self.look_at(job_id)
        for job_id in self.random.sample(sorted(self.ended), min(OLD_ONES, len(self.ended))):
            self.assertEqual(self.http.job(job_id), self.ended[job_id])
        for batch_id, tokens in self.ledger.batches.items():
            batch = self.http.get(f"/batches/{batch_id}")
            self.assert_status(batch, 200)
            self.assertEqual([self.ledger.told[entry["job"]] for entry in batch.json["results"]], tokens)
        self.ledger.batches.clear()

    def look_at(self, job_id, wait=None):
        """A job that was accepted: the one that was submitted; answers its document."""
        job = self.http.job(job_id, wait=wait)
        token = self.ledger.told[job_id]
        if not job["batch"]:
            self.assertEqual(job["labels"], {"token": token})
        self.assertEqual((job["task"], job["durable"]), ("mark", True), job)
        if job["state"] in ENDED_STATES:
            self.ended[job_id] = job
        return job

    def drain(self):
        """Nobody kills any more: all end."""
        for job_id in self.ledger.told:
            if job_id not in self.ended:
                self.assertIn(self.look_at(job_id, wait=30)["state"], ENDED_STATES)
        self.stop_service()
        self.start_service()
        for job_id, job in self.ended.items():
            self.assertEqual(self.http.job(job_id), job)
        listed = self.list_all(task="mark", limit=500)
        self.assertEqual(len(set(listed)), len(listed))
        self.assertLessEqual(set(self.ended), set(listed))

    def check_runs(self):
        """By the marks: no job ran more often than its retries allow, and none succeeded without."""
        runs = self.witness.runs()
        for token, attempts in self.ledger.attempts.items():
            self.assertLessEqual(runs[token], attempts, token)
        for job_id, job in self.ended.items():
            check_job(job)
            token = self.ledger.told[job_id]
            self.assertLessEqual(runs[token], job["attempt"], job)
            if job["state"] == "succeeded":
                self.assertGreaterEqual(runs[token], 1, job)
            else:
                self.assertEqual((job["state"], job["attempt"]), ("crashed", job["max_attempts"]), job)
                self.assertIn(job["error"]["code"], LOST, job)
            for entry in job["previous_attempts"]:
                self.assertIn(entry["error"]["code"], LOST, job)
        states = collections.Counter((job["state"], job["attempt"]) for job in self.ended.values())
        print(f"{len(self.ended)} jobs by state and attempt: {dict(states)}", flush=True)
