"""TLS: what is served, to whom, by which certificate; clients that are slow or silent in a handshake."""

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import threading
import warnings

from tests.harness.case import BASE_CONFIG, DirectoryCase, ServiceCase, merged
from tests.harness.certificates import Authority
from tests.harness.client import post_bytes
from tests.harness.service import Service, run_binary
from tests.harness.timing import seconds, wait_until

MANY = 60
SPAN_MAX = 1 << 28  # of memory that is looked through: a sanitizer reserves terabytes


class TlsCase(ServiceCase):
    """A service with a certificate of the test's own authority."""

    config = {"log": {"level": "debug"}}

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        """The harness's clients trust that authority."""
        self.authority = Authority(self.directory)
        self.pair = self.authority.sign("server")
        path = self.write_file("twinpool.json", merged(merged(BASE_CONFIG, {
            "server": {"tls": {"certificate": "server.pem", "key": "server.key"}}}), changes or {}))
        self.service = Service(path, tls=self.authority.context())
        self.addCleanup(self.service.destroy)
        self.service.wait_ready()
        self.http = self.service.client()
        self.judged = False
        self.wait_all_workers()

    def hup(self, event):
        """Sends SIGHUP and waits for the event; answers it."""
        before = len(self.service.log(event))
        self.service.signal(signal.SIGHUP)
        wait_until(lambda: len(self.service.log(event)) > before, f"the log says {event}")
        return self.service.log(event)[-1]

    def tcp(self):
        """A bare connection, without TLS."""
        return socket.create_connection(("127.0.0.1", self.service.port), timeout=seconds(20))

    def shown(self, context=None):
        """The subject of the certificate that a new connection is shown."""
        with (context or self.authority.context()).wrap_socket(
                self.tcp(), server_hostname="127.0.0.1") as connection:
            return dict(entry[0] for entry in connection.getpeercert()["subject"])["commonName"]


class ServedTest(TlsCase):
    """What a good client sees."""

    def test_jobs_waits_and_streams(self):
        """Large bodies and results, waits that are suspended, events as they come."""
        self.assertIn("https://", self.service.log("listening")[0]["url"])
        self.assert_succeeded(self.http.run("echo", {"a": 1}))
        text = "x" * 700000
        self.assertEqual(self.http.run("echo", {"t": text})["result"], {"t": text})
        self.assert_succeeded(self.http.run("sleep", {"ms": 300}))
        job = self.http.start("print", {"times": 5, "interval_ms": 20})["id"]
        with self.service.raw() as raw:
            raw.send(f"GET /jobs/{job}/events HTTP/1.1\r\nHost: x\r\n"
                     "Connection: close\r\n\r\n".encode())
            self.assertIn(b"event: end", raw.read_to_end())

    def test_several_requests_in_one_record(self):
        """And one request in many records: none is left lying in a buffer."""
        one = post_bytes("/jobs", {"task": "echo", "args": 1})
        with self.service.raw() as raw:
            raw.send(one * 5)
            for _ in range(5):
                self.assertEqual(raw.read_answer("POST").status, 200)
            raw.send(post_bytes("/jobs", {"task": "sleep", "args": {"ms": 50}}))
            raw.send(one)  # while the first waits
            for piece in (one[:10], one[10:60], one[60:]):
                raw.send(piece)
            for _ in range(3):
                self.assertEqual(raw.read_answer("POST").status, 200)

    def test_many_clients_that_stay(self):
        """Each with several requests, all at once; every one is answered as its own."""
        clients = [self.service.client() for _ in range(MANY)]
        wrong = []

        def ask(number):
            for turn in range(3):
                job = clients[number].run("echo", {"n": number, "turn": turn})
                if job["result"] != {"n": number, "turn": turn}:
                    wrong.append(job)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(MANY)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds(60))
        self.assertEqual((wrong, [t for t in threads if t.is_alive()]), ([], []))

    def test_nothing_older_than_1_2(self):
        """1.2 and 1.3 are spoken; 1.1 and plain HTTP are not."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.authority.context()
            context.minimum_version = context.maximum_version = version
            self.assertEqual(self.shown(context), "server")
        old = self.authority.context()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaisesRegex(ssl.SSLError, "ALERT_PROTOCOL_VERSION|EOF"):
            self.shown(old)
        with self.tcp() as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertNotIn(b"200 OK", read_all(plain))
        self.assert_succeeded(self.http.run("echo", 1))

    def test_the_key_is_in_the_server_alone(self):
        """Neither the log nor the memory of the master or of a host has it."""
        with open(self.pair[1], encoding="ascii") as file:
            lines = file.read().splitlines()
        der = base64.b64decode("".join(lines[1:-1]))
        at = der.index(b"\x02\x01\x01\x04\x20") + 5  # RFC 5915: version 1, then 32 bytes of the key
        number = der[at:at + 32][::-1]  # as GMP has it
        self.assert_succeeded(self.http.run("echo", 1))
        self.assertTrue(memory_has(self.service.server_pid, number))
        for pid in (self.service.master_pid, *self.host_pids("process")):
            for wanted in (number, number[::-1], lines[1].encode()):
                self.assertFalse(memory_has(pid, wanted), pid)
        self.assertFalse(memory_has(self.service.server_pid, lines[1].encode()))
        self.assertNotIn(lines[1], json.dumps(self.service.log()))


class HandshakeTest(TlsCase):
    """Handshakes that take long, or never end."""

    config = {"server": {"idle_timeout_ms": 1000}}

    def test_silent_ones_are_closed_and_harm_nobody(self):
        """Those that say nothing, and those that stop in the middle; others are served meanwhile."""
        first = client_hello()
        silent = [self.tcp() for _ in range(MANY)]
        halves = [self.tcp() for _ in range(MANY)]
        for connection in halves:
            connection.sendall(first[:len(first) // 2])
        unanswered = [self.tcp() for _ in range(MANY)]
        for connection in unanswered:
            connection.sendall(first)  # the server's answer is never answered
        self.assert_succeeded(self.service.client().run("echo", 1))
        for connection in silent + halves + unanswered:
            read_all(connection)  # until it is closed
            connection.close()
        self.assert_succeeded(self.service.client().run("echo", 1))

    def test_a_slow_one_comes_through(self):
        """Byte by byte."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = self.authority.context().wrap_bio(incoming, outgoing,
                                                    server_hostname="127.0.0.1")
        with self.tcp() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    trickle(connection, outgoing.read())
                    incoming.write(connection.recv(65536))
            session.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            trickle(connection, outgoing.read())
            text = b""
            while b"200 OK" not in text:
                incoming.write(connection.recv(65536))
                try:
                    text += session.read(65536)
                except ssl.SSLWantReadError:
                    continue


class ReloadTest(TlsCase):
    """Certificates are read again at SIGHUP."""

    def test_a_new_certificate(self):
        """For new connections; open ones go on, a half-done handshake too."""
        open_client = self.service.client()
        open_client.run("echo", 1)
        with self.tcp() as waiting:
            for name in ("second", "third"):
                pair = self.authority.sign(name)
                for path, target in zip(pair, self.pair):
                    shutil.copy(path, target)
                self.hup("reloaded")
                self.assertEqual(self.shown(), name)
                self.assert_succeeded(open_client.run("echo", 1))
            with self.authority.context().wrap_socket(waiting,
                                                      server_hostname="127.0.0.1") as late:
                late.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                self.assertIn(b"200 OK", late.recv(65536))

    def test_a_bad_one_changes_nothing(self):
        """It names the setting and the file."""
        other = self.authority.sign("other")
        shutil.copy(other[1], self.pair[1])
        event = self.hup("reload_refused")
        self.assertEqual(event["field"], "server.tls.key")
        self.assertIn(self.pair[1], event["error"])
        self.assertEqual(self.shown(), "server")
        self.assert_succeeded(self.http.run("echo", 1))

    def test_clients_certificates(self):
        """Wanted from the next connection on, from the right authority, for the right purpose."""
        stranger = Authority(self.directory, "stranger")
        good = self.authority.sign("client", "clientAuth")
        config = merged(BASE_CONFIG, {"server": {"tls": {
            "certificate": "server.pem", "key": "server.key", "client_ca": "ca.pem"}}})
        self.write_file("twinpool.json", config)
        self.hup("reloaded")
        for pair in (None, stranger.sign("foe", "clientAuth"), self.authority.sign("wrong")):
            with self.assertRaises(OSError):
                self.healthz(self.authority.context(pair))
        self.assertIn(b"200 OK", self.healthz(self.authority.context(good)))
        self.write_file("twinpool.json", merged(config, {"server": {"tls": {"client_ca": None}}}))
        self.hup("reloaded")
        self.assertIn(b"200 OK", self.healthz(self.authority.context()))

    def healthz(self, context):
        """One request on a new connection. In TLS 1.3 a client learns of a refusal when it reads."""
        with context.wrap_socket(self.tcp(), server_hostname="127.0.0.1") as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = connection.recv(65536)
            if not answer:
                raise ConnectionError("closed")
            return answer


class CheckTest(DirectoryCase):
    """What is wrong is told by setting and file, before serving and by --check-config."""

    def test_what_is_wrong(self):
        """Each file, missing, wrong, and of another; a key that all may read."""
        authority = Authority(self.directory)
        certificate, key = authority.sign("server")
        other = authority.sign("other")[1]
        text = self.write_file("text", "no PEM")
        open_key = shutil.copy(key, os.path.join(self.directory, "open.key"))
        os.chmod(open_key, 0o644)
        os.chmod(text, 0o600)
        for tls, status, field, fragment in (
                ({"certificate": certificate, "key": key}, 0, "", ""),
                ({"certificate": certificate}, 2, "server.tls.key", "found none"),
                ({"key": key}, 2, "server.tls.certificate", "found none"),
                ({"certificate": certificate, "key": "/none"}, 2, "server.tls.key", "/none"),
                ({"certificate": "/none", "key": key}, 2, "server.tls.certificate", "/none"),
                ({"certificate": certificate, "key": other}, 2, "server.tls.key", other),
                ({"certificate": certificate, "key": open_key}, 2, "server.tls.key", "chmod"),
                ({"certificate": certificate, "key": text}, 2, "server.tls.key", text),
                ({"certificate": text, "key": key}, 2, "server.tls.certificate", text),
                ({"certificate": certificate, "key": key, "client_ca": text}, 2,
                 "server.tls.client_ca", text)):
            with self.subTest(tls=tls):
                path = self.write_file("twinpool.json",
                                       merged(BASE_CONFIG, {"server": {"tls": tls}}))
                result = run_binary("--config", path, "--check-config")
                self.assertEqual(result.returncode, status, result)
                self.assertIn(field, result.stderr)
                self.assertIn(fragment, result.stderr)
        self.assertEqual(run_binary("--check-config", extra_environment={
            "TWINPOOL_TLS_CERTIFICATE": certificate, "TWINPOOL_TLS_KEY": key}).returncode, 0)


def read_all(connection):
    """All until the other side closes."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionError:
        pass
    return data


def trickle(connection, data):
    """Sends byte by byte."""
    for at in range(len(data)):
        connection.sendall(data[at:at + 1])


def client_hello():
    """The first flight of a client."""
    outgoing = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing,
                                                    server_hostname="127.0.0.1")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def memory_has(pid, wanted):
    """Whether these bytes are in the writable memory of a process."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            span, permissions = line.split()[:2]
            start, end = (int(address, 16) for address in span.split("-"))
            if not permissions.startswith("rw") or end - start > SPAN_MAX:
                continue
            try:
                memory.seek(start)
                if wanted in memory.read(end - start):
                    return True
            except (OSError, OverflowError):
                continue
    return False
