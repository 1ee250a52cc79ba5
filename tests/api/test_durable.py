"""Jobs in the store: what a 202 promises, Idempotency-Key, and the history."""

import datetime
import socket
import threading
import uuid

from tests.harness.case import DurableCase, ServiceCase
from tests.harness.events import EventStream
from tests.harness.timing import wait_until

LONG_MS = 60000
STORE_MEMBERS = {"kind", "available", "error", "database_bytes", "waiting", "kept", "lag_ms",
                 "transactions", "synced", "requests", "failures", "dropped", "commit_ms"}


def keyed(key):
    """The header."""
    return {"Idempotency-Key": key}


def instant(text):
    """A time of a document."""
    return datetime.datetime.fromisoformat(text)


class RestartTest(DurableCase):
    """What is there after the service has ended, and how it goes on."""

    config = {"pools": {"process": {"hosts": 1}, "thread": {"threads": 1}}}

    def submit_of_each_kind(self):
        """Jobs of every kind that is answered 202, by name; only one can run at a time."""
        ended = self.http.start("echo", {"ended": True}, "process", labels={"kind": "ended"})
        self.wait_ended(ended["id"])
        jobs = {"ended": self.http.job(ended["id"])}
        jobs["once"] = self.http.start("sleep", {"ms": LONG_MS}, "process")
        jobs["again"] = self.http.start("sleep", {"ms": 50}, "process", labels={"a": "b"}, priority=3)
        jobs["delayed"] = self.http.start("echo", "later", "thread", delay_ms=LONG_MS)
        jobs["soon"] = self.http.start("echo", "soon", "thread", delay_ms=300)
        self.assertTrue(all(job["durable"] for job in jobs.values()), jobs)
        return jobs

    def test_all_that_was_answered_202_is_there_after_kill_9(self):
        """Ended ones as they were, queued ones run, delayed ones wait for their time, batches go on."""
        jobs = self.submit_of_each_kind()
        self.wait_for_state(jobs["once"]["id"], "running")
        retried = self.http.start("sleep", {"ms": LONG_MS}, "thread", max_attempts=3,
                                  retry={"backoff_ms": 1})
        self.wait_for_state(retried["id"], "running")
        batch = self.http.submit_batch("echo", [1, 2, 3], "process", wait=0).json
        self.kill_service()
        self.check_database()
        self.start_service(self.config)
        self.assertEqual(self.http.job(jobs["ended"]["id"]), jobs["ended"])
        self.assert_error(self.wait_ended(jobs["once"]["id"]), "crashed", "host_lost")
        again = self.wait_ended(jobs["again"]["id"])
        self.assert_succeeded(again)
        self.assertEqual((again["attempt"], again["labels"], again["priority"]), (1, {"a": "b"}, 3))
        self.assertEqual(again["submitted_at"], jobs["again"]["submitted_at"])
        retried = self.wait_for_state(retried["id"], "running")
        self.assertEqual(retried["attempt"], 2)
        self.assertEqual(retried["previous_attempts"][0]["error"]["code"], "host_lost")
        self.cancel_all([retried["id"]])
        self.assert_succeeded(self.wait_ended(jobs["soon"]["id"]))
        self.assert_still_delayed(jobs["delayed"])
        batch = self.http.get(f"/batches/{batch['id']}", wait=20).json
        self.assertEqual(([entry["result"] for entry in batch["results"]], batch["state"],
                          batch["by_state"], batch["ended"]),
                         ([1, 2, 3], "succeeded", {"succeeded": 3}, 3))
        self.http.delete(f"/jobs/{jobs['delayed']['id']}")

    def assert_still_delayed(self, before):
        """The job waits for the same time as before."""
        job = self.http.job(before["id"])
        self.assertEqual(job["state"], "scheduled")
        drift = instant(job["scheduled_for"]) - instant(before["scheduled_for"])
        self.assertLess(abs(drift.total_seconds()), 0.01)

    def test_a_good_end_leaves_what_waits_for_the_next_start(self):
        """SIGTERM: durable jobs that had not begun are neither run nor cancelled."""
        running = self.http.start("sleep", {"ms": 300}, "thread")
        self.wait_for_state(running["id"], "running", "succeeded")
        self.assert_status(self.http.patch_pool("process", paused=True), 200)
        queued = self.http.start("echo", "queued", "process")
        delayed = self.http.start("echo", "later", "process", delay_ms=LONG_MS)
        batch = self.http.submit_batch("echo", ["a", "b"], "process", wait=0).json
        waiter = self.service.raw()
        self.addCleanup(waiter.close)
        waiter.send(f"GET /jobs/{queued['id']}?wait=20 HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        wait_until(lambda: self.http.stats()["jobs"]["waiters"] == 1, "somebody waits")
        self.stop_service()
        self.assertEqual(waiter.read_answer().json["state"], "queued")
        self.start_service(self.config)
        self.assert_succeeded(self.wait_ended(queued["id"]))
        self.assert_succeeded(self.http.job(running["id"]))
        self.assert_still_delayed(delayed)
        batch = self.http.get(f"/batches/{batch['id']}", wait=20).json
        self.assertEqual([entry["result"] for entry in batch["results"]], ["a", "b"])
        self.http.delete(f"/jobs/{delayed['id']}")

    def test_a_wait_that_runs_out_is_kept_before_its_202(self):
        """A plain job is not on disk while it is waited for, and is when the answer is 202."""
        self.assertFalse(self.http.run("echo", 1)["durable"])
        job = self.http.submit("sleep", {"ms": LONG_MS}, "process", wait=0.1, max_attempts=2)
        self.assert_status(job, 202)
        self.assertTrue(job.json["durable"])
        batch = self.http.submit_batch("sleep", [{"ms": 0}, {"ms": LONG_MS}], "thread", wait=0.3)
        self.assert_status(batch, 202)
        self.kill_service()
        self.start_service(self.config)
        self.assertEqual(self.wait_for_state(job.json["id"], "running")["attempt"], 2)
        batch = self.http.get(f"/batches/{batch.json['id']}", wait=20)
        self.assert_status(batch, 200)
        self.assertEqual(batch.json["by_state"], {"succeeded": 1, "crashed": 1})
        self.cancel_all([job.json["id"]])

    def test_who_hangs_up_is_promised_nothing(self):
        """The job goes on and costs the disk nothing; no 202 is sent, in case somebody still reads."""
        with self.service.raw() as connection:
            connection.send_post("/jobs", {"task": "sleep", "args": {"ms": LONG_MS},
                                           "pool": "process"})
            wait_until(lambda: self.http.stats()["jobs"]["waiters"] == 1, "it waits")
            connection.socket.shutdown(socket.SHUT_WR)
            self.assertNotIn(b" 202 ", connection.read_to_end()[:20])
        job = self.http.get("/jobs").json["jobs"][0]
        self.assertEqual((job["state"], job["durable"]), ("running", False))
        self.cancel_all([job["id"]])


class KeyTest(DurableCase):
    """Idempotency-Key."""

    config = {"retention": {"jobs": 3}, "store": {"idempotency_ms": 8000},
              "pools": {"process": {"hosts": 1}}}

    def post(self, key, body, path="/jobs", **query):
        """POST with a key."""
        return self.http.post(path, body, headers=keyed(key), **query)

    def test_the_same_key_and_body_answer_with_the_first_job(self):
        """Ended or not, waited for or not, spaced and ordered otherwise, at hand or not, restarted or not."""
        body = {"task": "sleep", "args": {"ms": 7}, "pool": "process"}
        self.assert_status(self.http.patch_pool("process", paused=True), 200)
        first = self.post('"one"', body, wait=0)
        self.assert_status(first, 202)
        self.assertNotIn("Idempotency-Replayed", first.headers)
        at_once = self.post("one", body, wait=0)
        self.assert_status(at_once, 202)
        self.assertEqual(at_once.headers["Location"], f"/jobs/{first.json['id']}")
        self.assert_status(self.http.patch_pool("process", paused=False), 200)
        waited = self.post(' "one" ', b'{"pool":"process", "args":{"ms":7},\n "task":"sleep"}')
        self.assert_status(waited, 200)
        for answer in (at_once, waited):
            self.assertEqual((answer.json["id"], answer.headers["Idempotency-Replayed"]),
                             (first.json["id"], "true"))
        self.assert_succeeded(waited.json)
        for n in range(6):
            self.http.run("echo", n)
        forgotten = self.post("one", body, wait=0)
        self.assertEqual((forgotten.status, forgotten.json), (200, waited.json))
        self.assertEqual(self.http.get("/jobs", task="sleep").json["jobs"], [waited.json])

    def test_another_submission_is_refused(self):
        """422 about the header; a batch is another submission than a job."""
        self.assert_status(self.post("k", {"task": "echo", "args": [1]}), 200)
        for path, body in (("/jobs", {"task": "echo", "args": [2]}),
                           ("/jobs", {"task": "echo", "args": [1], "priority": 1}),
                           ("/batches", {"task": "echo", "args": [1]})):
            with self.subTest(path=path, body=body):
                self.assert_problem(self.post("k", body, path), 422, "another submission",
                                    field="Idempotency-Key")

    def test_what_is_no_key_is_refused(self):
        """400, and nothing is run."""
        for key in ("", '""', '"', '"a', 'a"', '"a" b', "a b", '"a\\b"', "a,b", '"a";p=1', "é",
                    "x" * 256, '"' + "x" * 256 + '"', "'a' 'b'"):
            with self.subTest(key=key):
                answer = self.post(key.encode(), {"task": "echo"})
                self.assert_problem(answer, 400, "255", field="Idempotency-Key")
        with self.service.raw() as connection:
            body = b'{"task":"echo"}'
            connection.send(b"POST /jobs HTTP/1.1\r\nHost: test\r\nIdempotency-Key: a\r\n"
                            b"Idempotency-Key: b\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            self.assertEqual(connection.read_answer().status, 400)
        self.assertEqual(self.http.get("/jobs").json["jobs"], [])

    def test_what_is_a_key(self):
        """Any printable ASCII, up to 255 bytes; escaped where it must be."""
        same = {"a": ('"a"', "a"), "quotes": ('"\\"\\\\"', '"\\"\\\\" '), "space": ('"a b"', '"a b"'),
                "long": ("y" * 255, '"' + "y" * 255 + '"'), "uuid": (str(uuid.UUID(int=7)),) * 2}
        ids = {}
        for name, keys in same.items():
            first, second = (self.post(key, {"task": "echo", "args": name}) for key in keys)
            self.assert_status(first, 200)
            self.assertEqual(first.json["id"], second.json["id"])
            ids[name] = first.json["id"]
        self.assertEqual(len(set(ids.values())), len(same))

    def test_concurrent_duplicates_are_one_job(self):
        """However many come at once."""
        body = {"task": "counter", "args": {"increments": 1, "memory": "shared"}, "pool": "process"}
        answers = []

        def submit(client):
            answers.append(client.post("/jobs", body, headers=keyed("all")))
        threads = [threading.Thread(target=submit, args=(self.service.client(),)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([answer.status for answer in answers], [200] * 12)
        self.assertEqual(len({answer.json["id"] for answer in answers}), 1)
        self.assertEqual(sum("Idempotency-Replayed" not in answer.headers for answer in answers), 1)
        self.assertEqual(len(self.http.get("/jobs", task="counter").json["jobs"]), 1)

    def test_batches_have_keys_too(self):
        """The first batch is the answer, also after a kill -9 and from the store alone."""
        body = {"task": "echo", "args": list(range(5))}
        first = self.post("batch", body, "/batches")
        again = self.post("batch", body, "/batches")
        self.assertEqual((again.status, again.json, again.headers["Idempotency-Replayed"]),
                         (200, first.json, "true"))
        self.kill_service()
        self.start_service(self.config)
        stored = self.post("batch", body, "/batches", wait=0)
        self.assertEqual((stored.status, stored.headers["Idempotency-Replayed"]), (200, "true"))
        self.assertEqual(stored.json["results"], first.json["results"])
        self.assertEqual({**stored.json, "timing": None}, {**first.json, "timing": None})

    def test_what_is_kept_no_longer_is_not_run_again(self):
        """409 while the key is remembered and its job is not."""
        self.restart_service({"store": {"idempotency_ms": 3600000,
                                        "retention": {"succeeded": {"jobs": 1}}}})
        job = self.post("old", {"task": "echo"}).json["id"]
        for n in range(5):
            self.http.run("echo", n)
        wait_until(lambda: self.http.get(f"/jobs/{job}").status == 404, "the job is forgotten")
        self.assert_problem(self.post("old", {"task": "echo"}), 409, job, "not run again",
                            field="Idempotency-Key")

    def test_a_key_is_forgotten_after_its_time(self):
        """store.idempotency_ms; then the same key makes another job."""
        self.restart_service({"store": {"idempotency_ms": 1000}})
        first = self.post("brief", {"task": "echo"}).json["id"]
        self.assertEqual(self.post("brief", {"task": "echo"}).json["id"], first)

        def look():
            answer = self.post("brief", {"task": "echo"})
            return answer if answer.json["id"] != first else None
        self.assertNotIn("Idempotency-Replayed", wait_until(look, "the key is forgotten").headers)


class HistoryTest(DurableCase):
    """GET /jobs and GET /jobs/{id} of what is no longer at hand."""

    config = {"retention": {"jobs": 5}, "pools": {"process": {"hosts": 1}}}

    def run_many(self):
        """40 jobs of several kinds, of which most are no longer at hand; oldest first."""
        jobs = []
        for n in range(40):
            if n % 8 == 7:
                task, args = "sha256", {}
            else:
                task, args = "echo", {"n": n}
            jobs.append(self.http.run(task, args, ("process", "thread")[n % 2],
                                      labels={"team": "ab"[n // 20], "n": str(n), "x=y": "=1"}))
        return jobs

    def check_filters(self, jobs):
        """Every filter against what was submitted."""
        middle = jobs[17]["submitted_at"]
        offset = instant(middle).astimezone(datetime.timezone(datetime.timedelta(hours=2)))
        choices = (
            ({}, lambda job: True),
            ({"limit": 7}, lambda job: True),
            ({"state": "failed"}, lambda job: job["state"] == "failed"),
            ({"state": "failed,succeeded", "limit": 9}, lambda job: True),
            ({"state": "queued,running"}, lambda job: False),
            ({"pool": "thread"}, lambda job: job["pool"] == "thread"),
            ({"task": "sha256", "limit": 2}, lambda job: job["task"] == "sha256"),
            ({"label": "team=b", "limit": 3}, lambda job: job["labels"]["team"] == "b"),
            ({"label": "n=31"}, lambda job: job["labels"]["n"] == "31"),
            ({"label": "team="}, lambda job: False),
            ({"since": middle}, lambda job: job["submitted_at"] >= middle),
            ({"until": middle}, lambda job: job["submitted_at"] < middle),
            ({"since": offset.isoformat(), "until": jobs[30]["submitted_at"], "pool": "process"},
             lambda job: middle <= job["submitted_at"] < jobs[30]["submitted_at"]
             and job["pool"] == "process"),
        )
        for query, wanted in choices:
            with self.subTest(query=query):
                self.assertEqual(self.list_all(**query),
                                 [job["id"] for job in reversed(jobs) if wanted(job)])

    def test_the_history_goes_beyond_what_is_at_hand(self):
        """Documents as they were; filters and cursor; after a restart, too."""
        jobs = self.run_many()
        self.assertLessEqual(self.http.stats()["jobs"]["kept"], 10)
        self.check_filters(jobs)
        for job in (jobs[0], jobs[20], jobs[39]):
            self.assertEqual(self.http.job(job["id"]), job)
        self.restart_service({})
        self.check_filters(jobs)
        for job in (jobs[0], jobs[20], jobs[39]):
            self.assertEqual(self.http.job(job["id"], wait=5), job)
            self.assert_problem(self.http.delete(f"/jobs/{job['id']}"), 409, job["state"])
        self.check_events(jobs[0])

    def check_events(self, job):
        """Of one that has ended long ago there is its end."""
        with EventStream(self.service, job["id"]) as events:
            self.assertEqual([(event.id, event.name, event.data) for event in events],
                             [("end", "end", job)])
        answer = self.http.request("GET", f"/jobs/{job['id']}/events",
                                   headers={"Last-Event-ID": "end"})
        self.assert_status(answer, 204)

    def test_a_cursor_stays_where_it_is(self):
        """Jobs that come and jobs that are forgotten meanwhile neither shift nor repeat anything."""
        ids = [self.http.run("echo", n)["id"] for n in range(12)]
        first = self.http.get("/jobs", limit=4).json
        for n in range(8):
            self.http.run("echo", n)
        rest = self.list_all(limit=4, cursor=first["next_cursor"])
        self.assertEqual([job["id"] for job in first["jobs"]] + rest, ids[::-1])

    def test_large_results_make_short_pages(self):
        """A page is bounded by bytes, in the store and in the answer; none is left out."""
        text = "x" * (1 << 20)
        ids = [self.http.run("echo", text[:-1000])["id"] for _ in range(12)]
        page = self.http.get("/jobs", limit=1000)
        self.assertLess(len(page.body), 6 << 20)
        self.assertIsNotNone(page.json["next_cursor"])
        self.assertEqual(self.list_all(limit=1000), ids[::-1])

    def test_live_and_ended_jobs_are_one_list(self):
        """What waits is listed from hand, what has ended from the store, each once."""
        ended = [self.http.run("echo", n)["id"] for n in range(8)]
        running = self.http.start("sleep", {"ms": LONG_MS}, "process")["id"]
        queued = [self.http.start("echo", n, "process")["id"] for n in range(3)]
        self.assertEqual(self.list_all(limit=3), queued[::-1] + [running] + ended[::-1])
        self.assertEqual(self.list_all(state="queued"), queued[::-1])
        self.cancel_all([running])

    def test_what_is_wrong_with_a_filter_is_told(self):
        """422 about the parameter."""
        for name, value in (("label", "team"), ("label", "=x"), ("label", "k" * 64 + "=x"),
                            ("since", "yesterday"), ("until", "2026-02-30T00:00:00Z"), ("since", ""),
                            ("since", "2026-01-02T03:04:05"), ("state", "queued,done"), ("state", "")):
            with self.subTest(name=name, value=value):
                self.assert_problem(self.http.get("/jobs", **{name: value}), 422, field=f"?{name}")

    def test_nobody_knows_what_never_was(self):
        """404, whether it is asked for, cancelled or watched."""
        path = f"/jobs/{uuid.UUID(int=0x019b7d3c5b3e70009c5e0b6f5a2d1c11)}"
        for method, more in (("GET", ""), ("GET", "?wait=5"), ("DELETE", ""), ("GET", "/events")):
            self.assert_problem(self.http.request(method, path + more), 404)
        self.assert_problem(self.http.get(path.replace("jobs", "batches"), wait=5), 404)

    def test_the_retention_of_the_store_is_by_state(self):
        """The oldest succeeded jobs go; the failed one stays."""
        self.restart_service({"store": {"retention": {"succeeded": {"jobs": 4}}}})
        failed = self.http.run("sha256", {})["id"]
        ids = [self.http.run("echo", n)["id"] for n in range(12)]

        def look():
            left = self.list_all()
            return left if len(left) <= 5 + 1 else None
        left = wait_until(look, "the store is swept", 15)
        self.assertIn(failed, left)
        self.assertEqual(left[:4], ids[:-5:-1])


class SettingsTest(ServiceCase):
    """What is kept without a data directory, and by other settings."""

    def check_key(self):
        """Keys hold within the life of the service."""
        ids = {self.http.post("/jobs", {"task": "echo"}, headers=keyed("k")).json["id"]
               for _ in range(2)}
        self.assertEqual(len(ids), 1)

    def test_without_a_data_directory_nothing_is_promised(self):
        """Jobs are not durable, 202 is answered all the same, keys hold."""
        job = self.http.start("sleep", {"ms": 100})
        self.assertFalse(job["durable"])
        self.assertFalse(self.wait_ended(job["id"])["durable"])
        self.check_key()
        store = self.http.stats()["store"]
        self.assertEqual(set(store), STORE_MEMBERS)
        self.assertEqual((store["kind"], store["available"], store["error"]), ("memory", True, None))

    def test_all_or_none_can_be_durable(self):
        """store.durable."""
        for setting, wait, expected in (("all", None, True), ("none", 0, False)):
            with self.subTest(setting=setting):
                self.stop_service()
                self.start_service({"data_dir": f"{self.directory}/{setting}",
                                    "store": {"durable": setting}})
                self.assertIs(self.http.submit("echo", 1, wait=wait).json["durable"], expected)
                self.check_key()


class StatsTest(DurableCase):
    """What /stats says of the store."""

    def test_the_store_is_counted(self):
        """Submissions make transactions that reach the disk; nothing is left waiting."""
        before = self.http.stats()["store"]
        self.assertEqual(set(before), STORE_MEMBERS)
        self.assertEqual((before["kind"], before["available"], before["error"]),
                         ("sqlite", True, None))
        for n in range(5):
            self.wait_ended(self.http.start("echo", n)["id"])
        store = wait_until(self.idle_store, "the store is idle")
        self.assertGreater(store["transactions"], before["transactions"])
        self.assertGreaterEqual(store["synced"], before["synced"] + 5)
        self.assertGreaterEqual(store["requests"], before["requests"] + 10)
        self.assertLessEqual(store["synced"], store["transactions"])
        self.assertGreater(store["database_bytes"], 0)
        self.assertGreater(store["commit_ms"], 0)
        self.assertEqual((store["kept"], store["failures"], store["dropped"], store["lag_ms"]),
                         (0, 0, 0, 0))

    def idle_store(self):
        """The store's numbers, once nothing waits."""
        store = self.http.stats()["store"]
        return store if store["waiting"] == 0 else None
