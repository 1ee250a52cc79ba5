"""GET /jobs/{id}/events: what happens to a job, as it happens."""

import socket
import struct
import time

from tests.harness import proc
from tests.harness.case import ServiceCase
from tests.harness.documents import check_job
from tests.harness.events import EventStream, lost_bytes, states_of, text_of
from tests.harness.timing import SCALE, wait_until

POOLS = ("process", "thread")
KEPT = 65536
READERS = 200
RSS_GROWTH_BYTES = (24 << 20) * SCALE


class EventsCase(ServiceCase):
    """What all of these tests do."""

    def events(self, job_id, **options):
        """An open stream, closed with the test."""
        stream = EventStream(self.service, job_id, **options)
        self.addCleanup(stream.close)
        return stream

    def start_print(self, pool, times, interval_ms, **args):
        """Starts a job that writes over time; answers its id."""
        fields = args.pop("fields", {})
        return self.http.start("print", {"times": times, "interval_ms": interval_ms, **args}, pool,
                               **fields)["id"]

    def wait_open(self, count):
        """Waits until the server has so many streams."""
        wait_until(lambda: self.http.stats()["server"]["streams_open"] == count,
                   f"{count} streams are open", 30)

    def assert_ends_well(self, events, job_id):
        """The last event is the end, and its data the job as GET answers it."""
        self.assertEqual([event.name for event in events].count("end"), 1)
        self.assertEqual((events[-1].name, events[-1].id), ("end", "end"))
        check_job(events[-1].data)
        self.assertEqual(events[-1].data, self.http.job(job_id))


class LiveTest(EventsCase):
    """A reader that reads sees all of it, in order, when it happens."""

    def test_states_output_and_end(self):
        """From the queue to the end; nothing twice, nothing left out."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job_id = self.start_print(pool, 5, 100, text="a line")
                stream = self.events(job_id)
                events = list(stream)
                self.assertEqual(stream.response.status, 200)
                self.assertEqual(stream.response.headers["Content-Type"], "text/event-stream")
                self.assertEqual(stream.response.headers["Cache-Control"], "no-store")
                self.assertTrue(stream.response.headers["X-Request-Id"])
                self.assertEqual(states_of(events),
                                 [("queued", 0), ("running", 1), ("succeeded", 1)])
                self.assertEqual(text_of(events), "a line\n" * 5)
                self.assertGreaterEqual(sum(event.name == "output" for event in events), 3)
                self.assertEqual(len({event.id for event in events}), len(events))
                self.assert_ends_well(events, job_id)

    def test_output_comes_when_it_is_written(self):
        """The first line is read long before the job writes its last."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job_id = self.start_print(pool, 2, 60000, text="first")
                stream = self.events(job_id)
                seen = stream.wait_for("output")
                self.assertEqual(seen[-1].data, {"attempt": 1, "stream": "stdout", "offset": 0,
                                                 "text": "first\n"})
                self.assertEqual(self.http.job(job_id)["state"], "running")
                self.http.delete(f"/jobs/{job_id}")
                rest = list(stream)
                self.assertEqual(states_of(rest), [("stopping", 1), ("cancelled", 1)])
                self.assert_ends_well(rest, job_id)

    def test_progress(self):
        """It grows, its last is what the job's document keeps."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job_id = self.start_print(pool, 6, 80)
                events = list(self.events(job_id))
                told = [event.data for event in events if event.name == "progress"]
                done = [progress["done"] for progress in told]
                self.assertEqual(done, sorted(set(done)))
                self.assertGreaterEqual(len(done), 3)
                last = {"done": 6, "total": 6, "message": "lines"}
                self.assertEqual(told[-1], last)
                self.assertEqual(self.http.job(job_id)["progress"], last)

    def test_progress_of_the_builtins(self):
        """Those that know how far they are say so; the others have none."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                primes = self.http.run("primes", {"n": 20000001}, pool)
                self.assertEqual(primes["progress"],
                                 {"done": 20000001, "total": 20000001, "message": None})
                sha256 = self.http.run("sha256", {"mib": 3}, pool)
                self.assertEqual(sha256["progress"], {"done": 3, "total": 3, "message": "MiB"})
                self.assertIsNone(self.http.run("echo", 1, pool)["progress"])

    def test_progress_while_it_runs(self):
        """GET /jobs/{id} shows it, too."""
        job_id = self.start_print("process", 2, 60000)
        wait_until(lambda: self.http.job(job_id)["progress"] is not None, "progress is known")
        self.assertEqual(self.http.job(job_id)["progress"],
                         {"done": 1, "total": 2, "message": "lines"})
        self.cancel_all([job_id])

    def test_characters_are_not_cut(self):
        """Characters of several bytes arrive whole, however the job's writes cut them."""
        text = "aé€😀" * 3000
        for pool in POOLS:
            with self.subTest(pool=pool):
                job_id = self.start_print(pool, 1, 0, text=text)
                self.wait_ended(job_id)
                self.assertEqual(text_of(list(self.events(job_id))), text + "\n")

    def test_bursts_are_seen_whole(self):
        """Much more at once than a job keeps: who reads it as it comes sees all of it."""
        for kept in (1000, 3, KEPT):
            limits = {"limits": {"output_bytes": kept}, "delay_ms": 300}
            for pool in POOLS:
                with self.subTest(pool=pool, kept=kept):
                    text = "é" * 10000 if kept > 10 else "e" * 500
                    job_id = self.start_print(pool, 8, 50, text=text, fields=limits)
                    events = list(self.events(job_id))
                    self.assertEqual(lost_bytes(events), 0)
                    self.assertEqual(text_of(events), f"{text}\n" * 8)

    def test_retries_are_seen(self):
        """The output of an attempt that failed is told before that of the next."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job_id = self.http.start("crash", {"text": "last words", "after_ms": 200}, pool,
                                         max_attempts=2, retry={"backoff_ms": 1})["id"]
                events = list(self.events(job_id))
                self.assertEqual(states_of(events),
                                 [("queued", 0), ("running", 1), ("scheduled", 1), ("queued", 1),
                                  ("running", 2), ("crashed", 2)])
                for attempt in (1, 2):
                    self.assertEqual(text_of(events, attempt=attempt), "last words")
                self.assertEqual(lost_bytes(events), 0)
                self.assert_ends_well(events, job_id)
                self.wait_all_workers()

    def test_a_job_that_waits(self):
        """The stream is there before the job has begun, and tells when it does."""
        busy = self.fill_pool("process")
        job_id = self.start_print("process", 1, 0)
        stream = self.events(job_id)
        self.assertEqual(states_of([stream.next_event()]), [("queued", 0)])
        self.cancel_all(busy)
        self.assert_ends_well(list(stream), job_id)

    def test_silence_is_broken_by_comments(self):
        """After 15 s without an event, so that nobody takes the connection for dead."""
        job_id = self.http.start("sleep", {"ms": 16000}, "thread")["id"]
        stream = self.events(job_id)
        self.assert_ends_well(list(stream), job_id)
        self.assertEqual(stream.comments, 1)


class ResumeTest(EventsCase):
    """Who comes back with the id of the last event goes on behind it."""

    def test_every_event_is_a_place_to_go_on_from(self):
        """Of an ended job: from each id on come exactly the events behind it."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                job_id = self.start_print(pool, 4, 60)
                live = list(self.events(job_id))
                whole = text_of(live)
                for number, event in enumerate(live[:-1]):
                    rest = list(self.events(job_id, last=event.id))
                    self.assertEqual(text_of(live[:number + 1]) + text_of(rest), whole)
                    self.assertEqual(states_of(live[:number + 1]) + states_of(rest),
                                     states_of(live))
                    self.assertEqual(lost_bytes(rest), 0)
                    self.assert_ends_well(rest, job_id)

    def test_while_it_runs(self):
        """A reader that loses its connection after each event misses nothing."""
        job_id = self.start_print("thread", 10, 50)
        events = []
        last = None
        while not events or events[-1].name != "end":
            with EventStream(self.service, job_id, last) as stream:
                events.append(stream.next_event())
            last = events[-1].id
        self.assertEqual(text_of(events), "Sample Thread\n" * 10)
        self.assertEqual(states_of(events), [("queued", 0), ("running", 1), ("succeeded", 1)])

    def test_by_query(self):
        """?last_event_id= does as the header; the header wins."""
        job_id = self.http.run("print", {"text": "abc"})["id"]
        position = next(event.id for event in self.events(job_id) if event.name == "output")
        by_header = [event.id for event in self.events(job_id, last=position)]
        with self.service.raw() as connection:
            connection.send(f"GET /jobs/{job_id}/events?last_event_id={position} HTTP/1.1\r\n"
                            f"Host: test\r\n\r\n".encode())
            body = connection.read_answer().body.decode()
        self.assertEqual([line[4:] for line in body.split("\n") if line.startswith("id: ")],
                         by_header)

    def test_after_the_end_there_is_nothing(self):
        """204 tells an EventSource to stop coming back."""
        job_id = self.http.run("echo", 1)["id"]
        answer = self.http.request("GET", f"/jobs/{job_id}/events",
                                   headers={"Last-Event-ID": "end"})
        self.assert_status(answer, 204)

    def test_what_an_earlier_attempt_wrote_is_named_as_lost(self):
        """It is not kept; the gap says how much it was."""
        job_id = self.http.start("crash", {"text": "0123456789", "after_ms": 100}, "process",
                                 max_attempts=2, retry={"backoff_ms": 1})["id"]
        self.wait_ended(job_id)
        events = list(self.events(job_id, last="1-2-4-0-0"))
        self.assertEqual((events[0].name, events[0].data),
                         ("gap", {"attempt": 1, "stream": "stdout", "offset": 4, "bytes": 6}))
        self.assertEqual(states_of(events)[0], ("scheduled", 1))
        self.assertEqual(text_of(events, attempt=2), "0123456789")

    def test_ids_that_are_none(self):
        """422 names what is wrong with them."""
        job_id = self.http.run("print", {"text": "abc"})["id"]
        for wrong in ("x", "1", "0-0-0-0-0", "2-0-0-0-0", "1-9-0-0-0", "1-0-5-0-0", "1-0-0-1-0",
                      "1-0-0-0-7", "1-0-0-0-0-0", "1--0-0-0", "-1-0-0-0-0", "1-0-0-0-",
                      "99999999999999999999-0-0-0-0", " 1-0-0-0-0", "END"):
            with self.subTest(id=wrong):
                self.assert_problem(self.http.get(f"/jobs/{job_id}/events", last_event_id=wrong),
                                    422, field="?last_event_id")
        answer = self.http.request("GET", f"/jobs/{job_id}/events", headers={"Last-Event-ID": "x"})
        self.assert_problem(answer, 422, field="Last-Event-ID")
        busy = self.http.start("sleep", {"ms": 60000})["id"]
        self.assert_problem(self.http.get(f"/jobs/{busy}/events", last_event_id="end"), 422)
        self.cancel_all([busy])


class SurfaceTest(EventsCase):
    """The call beside its stream."""

    def test_other_methods(self):
        """HEAD has the head of GET and ends at once; others are 405."""
        job_id = self.http.start("sleep", {"ms": 60000})["id"]
        answer = self.http.request("HEAD", f"/jobs/{job_id}/events")
        self.assert_status(answer, 200)
        self.assertEqual(answer.headers["Content-Type"], "text/event-stream")
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = self.http.request(method, f"/jobs/{job_id}/events")
            self.assert_problem(answer, 405)
            self.assertEqual(answer.headers["Allow"], "GET, HEAD, OPTIONS")
        answer = self.http.request("OPTIONS", f"/jobs/{job_id}/events")
        self.assertEqual((answer.status, answer.headers["Allow"]), (204, "GET, HEAD, OPTIONS"))
        self.assert_problem(self.http.get(f"/jobs/{job_id}/events", wait=1), 422, field="?wait")
        self.cancel_all([job_id])

    def test_paths_that_are_not_there(self):
        """A job that there is not, and what looks like the path."""
        job_id = self.http.run("echo", 1)["id"]
        for path in (f"/jobs/{job_id[:-1]}0/events", "/jobs/x/events", f"/jobs/{'x' * 500}/events",
                     f"/jobs/{job_id}/events/", f"/jobs/{job_id}/eventsx", "/jobs//events",
                     f"/jobs/{job_id}x/events", f"/jobs/{job_id}/event"):
            with self.subTest(path=path):
                if path == f"/jobs/{job_id}/events":
                    continue
                self.assert_problem(self.http.get(path), 404)

    def test_http_1_0(self):
        """Without chunks: the connection ends with the stream."""
        job_id = self.start_print("process", 3, 50, text="old")
        with self.service.raw() as connection:
            connection.send(f"GET /jobs/{job_id}/events HTTP/1.0\r\n\r\n".encode())
            data = connection.read_to_end()
        head, body = data.split(b"\r\n\r\n", 1)
        self.assertNotIn(b"chunked", head)
        self.assertIn(b"\nevent: end\n", body)
        self.assertTrue(body.endswith(b"}\n\n"))

    def test_the_connection_goes_on_after_the_stream(self):
        """It can be used for the next request."""
        job_id = self.http.run("echo", 1)["id"]
        with self.service.raw() as connection:
            for _ in range(3):
                connection.send(f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                self.assertIn(b"event: end", connection.read_answer().body)


class ReadersTest(EventsCase):
    """Readers that are many, slow, or gone."""

    def test_two_hundred_readers_of_one_job(self):
        """Each of them sees all of it."""
        self.http.run("echo", 1)
        before = self.server_descriptors()
        job_id = self.start_print("thread", 20, 50, text="for all")
        streams = [self.events(job_id) for _ in range(READERS)]
        self.wait_open(READERS)
        for stream in streams:
            events = list(stream)
            self.assertEqual(text_of(events), "for all\n" * 20)
            self.assertEqual(states_of(events)[-1], ("succeeded", 1))
            self.assertEqual(events[-1].name, "end")
            stream.close()
        wait_until(lambda: self.server_descriptors() <= before, "their descriptors are closed")
        self.wait_open(0)

    def test_slow_readers_cost_little(self):
        """Twenty that read nothing while jobs write a lot; everybody else is served as ever."""
        for pool in POOLS:
            with self.subTest(pool=pool):
                self.http.run("print", {"text": "x" * 60000, "times": 1000}, pool)
                rss = proc.rss_bytes(self.service.server_pid)
                jobs = [self.start_print(pool, 1000, 1, text="x" * 60000,
                                         fields={"timeout_ms": 60000}) for _ in range(2)]
                streams = [self.events(job_id, receive_buffer=4096)
                           for job_id in jobs for _ in range(10)]
                self.wait_open(len(streams))
                other = "thread" if pool == "process" else "process"
                for _ in range(20):
                    begin = time.monotonic()
                    self.assert_succeeded(self.http.run("echo", 1, other))
                    self.assertLess(time.monotonic() - begin, 2 * SCALE)
                for job_id in jobs:
                    self.assert_succeeded(self.wait_ended(job_id, 40))
                self.assertLess(proc.rss_bytes(self.service.server_pid) - rss, RSS_GROWTH_BYTES)
                for stream in streams:
                    events = list(stream)
                    self.assertEqual(len(text_of(events)) + lost_bytes(events), 60001 * 1000)
                    self.assertGreater(lost_bytes(events), 0)
                    self.assertEqual(events[-1].name, "end")
                    stream.close()

    def test_who_falls_behind_goes_on_from_what_is_there(self):
        """Head, a gap that names what is missing, tail."""
        job = self.http.run("print", {"text": "y" * 9999, "times": 50}, "process")
        events = list(self.events(job["id"]))
        gaps = [event.data for event in events if event.name == "gap"]
        self.assertEqual(gaps, [{"attempt": 1, "stream": "stdout", "offset": KEPT // 2,
                                 "bytes": 500000 - KEPT}])
        self.assertEqual(text_of(events), job["stdout"]["text"] + job["stdout"]["tail"])

    def test_who_vanishes_leaves_nothing_behind(self):
        """Politely or not, while nothing happens; the job goes on."""
        for abruptly in (False, True):
            with self.subTest(abruptly=abruptly):
                self.http.run("echo", 1)
                before = self.server_descriptors()
                job_id = self.http.start("sleep", {"ms": 60000})["id"]
                streams = [self.events(job_id) for _ in range(50)]
                self.wait_open(50)
                for stream in streams:
                    if abruptly:
                        stream._socket.setsockopt(  # pylint: disable=protected-access
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    stream.close()
                wait_until(lambda: self.server_descriptors() <= before,
                           "the descriptors of readers that have gone are closed")
                self.wait_open(0)
                self.assertEqual(self.http.job(job_id)["state"], "running")
                self.cancel_all([job_id])

    def test_who_vanishes_amid_output(self):
        """At any moment of a stream that flows."""
        self.http.run("echo", 1)
        before = self.server_descriptors()
        job_id = self.start_print("thread", 1000, 1, text="z" * 5000)
        for number in range(100):
            with EventStream(self.service, job_id) as stream:
                for _ in range(number % 5):
                    stream.next_event()
        self.wait_ended(job_id)
        wait_until(lambda: self.server_descriptors() <= before, "all descriptors are closed")
        self.wait_open(0)


class IdleTest(EventsCase):
    """server.idle_timeout_ms is for who does not read, not for who waits."""

    config = {"server": {"idle_timeout_ms": 1000}}

    def test_who_does_not_read_is_cut_off_and_can_come_back(self):
        """While the job goes on; the last id tells where to go on."""
        job_id = self.start_print("thread", 1000, 5, text="x" * 60000, fields={"delay_ms": 300})
        stream = self.events(job_id, receive_buffer=4096)
        first = [stream.next_event() for _ in range(5)]
        self.wait_open_by_new_client(1)
        self.wait_open_by_new_client(0)
        self.assertEqual(self.service.client().job(job_id)["state"], "running")
        rest = self.events(job_id, last=first[-1].id).wait_for("gap")
        self.assertIn("output", [event.name for event in rest])
        self.service.client().delete(f"/jobs/{job_id}")

    def test_who_waits_is_not_cut_off(self):
        """Nothing happens for longer than the idle time."""
        job_id = self.service.client().start("sleep", {"ms": 3500})["id"]
        events = list(self.events(job_id))
        self.assertEqual(states_of(events)[-1], ("succeeded", 1))
        self.assertEqual(events[-1].name, "end")

    def wait_open_by_new_client(self, count):
        """As wait_open(), since our own connection is cut off for idleness as well."""
        wait_until(lambda: self.service.client().stats()["server"]["streams_open"] == count,
                   f"{count} streams are open", 30)


class ForgettingTest(EventsCase):
    """Ended jobs are forgotten whoever reads their events."""

    config = {"retention": {"jobs": 2}}

    def test_a_reader_of_a_forgotten_job_gets_its_end(self):
        """A slow reader does not keep it, and is told what it was too late for."""
        job_id = self.start_print("process", 500, 1, text="x" * 20000)
        stream = self.events(job_id, receive_buffer=4096)
        self.wait_open(1)
        self.wait_ended(job_id)
        for _ in range(10):
            self.http.run("echo", 1)
        self.assert_status(self.http.get(f"/jobs/{job_id}"), 404)
        events = list(stream)
        self.assertEqual(len(text_of(events)) + lost_bytes(events), 20001 * 500)
        self.assertEqual(states_of(events)[-1], ("succeeded", 1))
        self.assertEqual((events[-1].name, events[-1].data["id"]), ("end", job_id))

    def test_a_live_reader_sees_the_end_of_a_job_that_goes_at_once(self):
        """The newest ended job is kept long enough, even among many."""
        job_id = self.start_print("thread", 3, 100)
        stream = self.events(job_id)
        stream.wait_for("output")
        batch = self.http.start("sleep", {"ms": 1}, "thread")
        self.assertTrue(batch["id"])
        self.assertEqual(list(stream)[-1].name, "end")


class ShutdownTest(EventsCase):
    """The end of the service ends every stream, and is not held up by them."""

    def test_readers_get_the_end_of_their_job(self):
        """Queued and running jobs are ended by the shutdown; their readers are told."""
        running = self.fill_pool("process", ms=600)
        queued = self.http.start("sleep", {"ms": 1}, "process")["id"]
        ids = [*running, queued]
        streams = [self.events(job_id) for job_id in ids]
        self.wait_open(len(streams))
        begin = time.monotonic()
        self.service.signal()
        ends = [list(stream)[-1] for stream in streams]
        self.assertEqual([event.name for event in ends], ["end"] * len(ends))
        self.assertEqual([event.data["state"] for event in ends],
                         ["succeeded"] * len(running) + ["cancelled"])
        for stream in streams:
            stream.close()
        self.stop_service()
        self.assertLess(time.monotonic() - begin, 5 * SCALE)

    def test_a_reader_that_does_not_read_holds_nothing_up(self):
        """Its backlog is dropped after a moment."""
        self.start_service_again()
        job_id = self.start_print("process", 1000, 0, text="x" * 60000)
        self.events(job_id, receive_buffer=4096)
        self.wait_open(1)
        self.wait_ended(job_id)
        begin = time.monotonic()
        self.stop_service()
        self.assertLess(time.monotonic() - begin, 10 * SCALE)

    def start_service_again(self):
        """One that keeps much output, so that there is a backlog."""
        self.stop_service()
        self.start_service({"pools": {"process": {"output_bytes": 8 << 20,
                                                  "max_output_bytes": 8 << 20}}})
