"""Clients by the thousand, clients that vanish, and clients that make no sense."""

import json
import random
import socket
import struct
import time

from tests.harness.case import ServiceCase
from tests.harness.client import post_bytes
from tests.harness.many import ManyClients
from tests.harness.service import raise_descriptor_limit
from tests.harness.timing import wait_until

CLIENTS = 1000
GARBAGE = (
    b"\x00" * 100,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xab" * 300,
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost test\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: test\r\nContent-Length: x\r\n\r\n",
    b"POST /jobs HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n",
    b"POST /jobs HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST /jobs HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"POST /jobs HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: " + b"b" * 100000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n" * 1000,
    b"GET /jobs?wait=%zz&%00=%ff HTTP/1.1\r\nHost: test\r\n\r\n",
)


class ManyWaitersTest(ServiceCase):
    """A thousand clients that wait at once are all answered."""

    config = {"server": {"default_wait_ms": 120000}}

    @classmethod
    def setUpClass(cls):
        raise_descriptor_limit(4 * CLIENTS)

    def wait_for_waiters(self, count):
        """Waits until so many requests wait."""
        wait_until(lambda: self.http.stats()["server"]["requests_waiting"] == count,
                   f"{count} requests wait", 60)

    def test_all_who_wait_for_one_job_are_answered(self):
        """One job, a thousand waiters, one end, a thousand equal answers."""
        job = self.http.start("sleep", {"ms": 3600000}, "thread", timeout_ms=3600000)
        request = (f"GET /jobs/{job['id']}?wait=120 HTTP/1.1\r\nHost: test\r\n\r\n").encode()
        with ManyClients(self.service.host, self.service.port, CLIENTS) as clients:
            for index in range(CLIENTS):
                clients.send(index, request)
            self.wait_for_waiters(CLIENTS)
            self.http.delete(f"/jobs/{job['id']}")
            answers = list(clients.answers(CLIENTS, 60))
        self.assertEqual({status for _, status, _ in answers}, {200})
        self.assertEqual({json.loads(body)["state"] for _, _, body in answers}, {"cancelled"})
        self.assertEqual({index for index, _, _ in answers}, set(range(CLIENTS)))

    def test_each_of_a_thousand_gets_its_own_result(self):
        """A thousand jobs wait in the queue; each client gets the result of its own."""
        for pool in ("process", "thread"):
            with self.subTest(pool=pool):
                busy = self.fill_pool(pool, ms=3600000)
                with ManyClients(self.service.host, self.service.port, CLIENTS) as clients:
                    for index in range(CLIENTS):
                        clients.send(index, post_bytes("/jobs", {"task": "echo", "args": index,
                                                                 "pool": pool}))
                    self.wait_for_waiters(CLIENTS)
                    self.assertEqual(self.http.pool(pool)["queue_length"], CLIENTS)
                    self.cancel_all(busy)
                    answers = list(clients.answers(CLIENTS, 60))
                self.assertEqual({status for _, status, _ in answers}, {200})
                self.assertEqual({index: json.loads(body)["result"]
                                  for index, _, body in answers},
                                 {index: index for index in range(CLIENTS)})

    def test_nothing_of_them_is_left(self):
        """When they have gone, the server holds as many descriptors as before."""
        self.http.run("echo", 1)
        before = self.server_descriptors()
        self.test_all_who_wait_for_one_job_are_answered()
        wait_until(lambda: self.server_descriptors() <= before,
                   "the server's descriptors are back at the baseline")
        self.assertEqual(self.http.stats()["server"]["connections"], 1)


class VanishingClientsTest(ServiceCase):
    """Clients that leave before they are answered."""

    def wait_for_baseline(self, before):
        """Waits until the server's descriptors are back."""
        wait_until(lambda: self.server_descriptors() <= before,
                   "the descriptors of clients that have gone are closed")

    def vanish(self, connections, abruptly):
        """Closes connections, by a reset if abruptly."""
        for connection in connections:
            if abruptly:
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                             struct.pack("ii", 1, 0))
            connection.close()

    def test_who_vanishes_while_waiting_leaves_nothing_behind(self):
        """Long before their jobs end; the jobs go on."""
        for abruptly in (False, True):
            with self.subTest(abruptly=abruptly):
                self.http.run("echo", 1)
                before = self.server_descriptors()
                connections = [self.service.raw() for _ in range(100)]
                for connection in connections:
                    connection.send_post("/jobs", {"task": "sleep", "args": {"ms": 3600000},
                                                   "timeout_ms": 3600000})
                wait_until(lambda: self.http.stats()["server"]["requests_waiting"] == 100,
                           "all wait")
                self.vanish(connections, abruptly)
                self.wait_for_baseline(before)
                stats = self.http.stats()
                self.assertEqual((stats["server"]["requests_waiting"], stats["jobs"]["waiters"]),
                                 (0, 0))
                self.assertEqual(stats["jobs"]["live"], 100)
                jobs = self.http.get("/jobs", limit=100).json["jobs"]
                self.cancel_all([job["id"] for job in jobs])

    def test_who_vanishes_just_before_the_answer_does_no_harm(self):
        """The answer to a closed connection is dropped."""
        for _ in range(50):
            connection = self.service.raw()
            connection.send_post("/jobs", {"task": "sleep", "args": {"ms": 5}, "pool": "thread"})
            self.vanish([connection], abruptly=True)
        wait_until(lambda: self.http.stats()["jobs"]["live"] == 0, "all jobs have ended")
        self.assert_succeeded(self.http.run("echo", 1))

    def test_half_closed_connections_are_answered(self):
        """A client that has sent all and shut down its sending side may still get its answer.

        If the service takes the half-closed connection for gone, that is allowed; hanging is not.
        """
        with self.service.raw() as connection:
            connection.send_post("/jobs", {"task": "sleep", "args": {"ms": 100}})
            connection.socket.shutdown(socket.SHUT_WR)
            data = connection.read_to_end()
        self.assertTrue(data == b"" or data.startswith(b"HTTP/1.1 200 "), data)

    def test_who_reads_nothing_does_not_stop_the_others(self):
        """Large answers that nobody reads fill one socket, not the server."""
        self.http.run("echo", "x" * 900000)
        job_id = self.http.get("/jobs", limit=1).json["jobs"][0]["id"]
        before = self.server_descriptors()
        lazy = [self.service.raw() for _ in range(20)]
        for connection in lazy:
            for _ in range(5):
                connection.send(f"GET /jobs/{job_id} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        for _ in range(20):
            self.assert_succeeded(self.http.run("echo", 1))
        self.vanish(lazy, abruptly=True)
        self.wait_for_baseline(before)


class RudeClientsTest(ServiceCase):
    """Requests that are incomplete, slow, or no requests at all."""

    config = {"server": {"idle_timeout_ms": 1000}}

    def assert_serves(self):
        """The service works and has lost nothing; by a new connection, since ours was idle too."""
        self.http = self.service.client()
        self.assert_succeeded(self.http.run("echo", 1, "process"))
        self.assert_succeeded(self.http.run("echo", 1, "thread"))

    def test_half_sent_requests_are_closed_after_the_idle_time(self):
        """Whatever part is missing; others are served meanwhile."""
        whole = post_bytes("/jobs", {"task": "echo", "args": "half"})
        connections = []
        for length in (0, 1, 10, 40, len(whole) - 5, len(whole) - 1):
            connection = self.service.raw()
            self.addCleanup(connection.close)
            connection.send(whole[:length])
            connections.append(connection)
        self.assert_serves()
        for connection in connections:
            data = connection.read_to_end()
            self.assertTrue(data == b"" or data.startswith(b"HTTP/1.1 4"), data)
        self.http = self.service.client()
        self.assertEqual(self.http.stats()["pools"]["process"]["submitted"], 1)

    def test_a_slow_body_arrives(self):
        """A byte at a time, slower in all than the idle time, is still one request."""
        body = json.dumps({"task": "echo", "args": "slow", "labels": {"a": "b"}}).encode()
        pause = 1.5 / len(body)
        with self.service.raw() as connection:
            connection.send(post_bytes("/jobs", body)[:-len(body)])
            for byte in body:
                connection.send(bytes([byte]))
                time.sleep(pause)  # the promise is about a slow sender: its slowness is the input
            answer = connection.read_answer()
        self.assertEqual((answer.status, answer.json["result"]), (200, "slow"))

    def test_a_waiting_client_is_not_idle(self):
        """server.idle_timeout_ms is not for who waits for a job."""
        job = self.http.run("sleep", {"ms": 2500})
        self.assert_succeeded(job)

    def test_garbage_is_refused_or_closed(self):
        """Never a success for what is no request, never silence for ever, never a crash."""
        connections = [self.service.raw() for _ in GARBAGE]
        for connection, garbage in zip(connections, GARBAGE, strict=True):
            self.addCleanup(connection.close)
            try:
                connection.send(garbage)
            except ConnectionError:
                continue
        for connection, garbage in zip(connections, GARBAGE, strict=True):
            with self.subTest(garbage=garbage[:50]):
                data = connection.read_to_end()
                self.assertFalse(data.startswith(b"HTTP/1.1 2"), data[:200])
        self.assert_serves()

    def test_random_bytes(self):
        """A hundred connections of noise, from a fixed seed."""
        noise = random.Random(20260102)
        for number in range(100):
            with self.service.raw() as connection:
                prefix = (b"", b"GET ", b"POST /jobs HTTP/1.1\r\nContent-Length: 50\r\n\r\n")
                try:
                    connection.send(prefix[number % 3] + noise.randbytes(noise.randrange(1, 3000)))
                except ConnectionError:
                    continue
        self.assert_serves()
        wait_until(lambda: self.http.stats()["server"]["connections"] == 1,
                   "the connections of the noise are gone")

    def test_a_body_that_ends_early(self):
        """A client that promises more than it sends, and leaves: no job is made of it."""
        for _ in range(20):
            with self.service.raw() as connection:
                connection.send(b"POST /jobs HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n"
                                b'{"task":"echo"}')
        self.assert_serves()
        self.assertEqual(len(self.http.get("/jobs").json["jobs"]), 2)
