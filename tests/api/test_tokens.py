"""Bearer tokens: who may do what, and that no token is ever told."""

import json
import os
import signal

from tests.harness.case import BASE_CONFIG, DirectoryCase, ServiceCase, merged
from tests.harness.client import Client
from tests.harness.service import Service, run_binary
from tests.harness.timing import wait_until

SCOPES = {"reader": "read", "submitter": "submit", "admin": "admin", "all": "submit,read,admin"}
# A call and the scope that it needs.
CALLS = (
    ("GET", "/jobs", None, "read"), ("HEAD", "/jobs", None, "read"), ("GET", "/stats", None, "read"),
    ("GET", "/tasks", None, "read"), ("GET", "/openapi.yaml", None, "read"),
    ("GET", "/jobs/01a20533-a033-7001-930b-e4914f2748c7", None, "read"),
    ("GET", "/jobs/01a20533-a033-7001-930b-e4914f2748c7/events", None, "read"),
    ("POST", "/jobs", {"task": "echo", "args": 1}, "submit"),
    ("POST", "/batches", {"task": "echo", "args": [1]}, "submit"),
    ("DELETE", "/jobs/01a20533-a033-7001-930b-e4914f2748c7", None, "submit"),
    ("PATCH", "/pools/thread", {"hosts": 1}, "admin"),
)


def make_token(name, scopes):
    """What `twinpool token` makes: the token and its line."""
    result = run_binary("token", name, "--scope", scopes)
    if result.returncode != 0:
        raise AssertionError(result)
    return result.stderr.strip(), result.stdout


def bearer(token):
    """The header."""
    return {"Authorization": f"Bearer {token}"}


class TokenCase(ServiceCase):
    """A service with a token of each scope, at the log's lowest level."""

    config = {"server": {"tokens_file": "tokens"}, "log": {"level": "debug"}}

    def setUp(self):
        self.tokens = {}
        super().setUp()

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        """The harness's own client is one that may do everything."""
        self.write_tokens()
        path = self.write_file("twinpool.json", merged(BASE_CONFIG, changes or {}))
        self.service = Service(path, self.arguments, extra_environment)
        self.addCleanup(self.service.destroy)
        self.service.wait_ready()
        self.service.token = self.tokens["all"]
        self.http = self.service.client()
        self.judged = False
        self.wait_all_workers()

    def write_tokens(self):
        """A fresh token for each name."""
        lines = ["# who may do what\n"]
        for name, scopes in SCOPES.items():
            self.tokens[name], line = make_token(name, scopes)
            lines.append(line)
        os.chmod(self.write_file("tokens", "".join(lines)), 0o600)

    def ask(self, method, path, body=None, token=None, headers=None):
        """One request on a connection of its own: a refusal may close it."""
        client = Client(self.service.host, self.service.port, token=token)
        try:
            return client.request(method, path, body, headers)
        finally:
            client.close()


class ScopeTest(TokenCase):
    """What each token may do, and what nobody may without."""

    def test_each_call_needs_its_scope(self):
        """401 without, 403 with another scope, and with the right one neither."""
        for method, path, body, scope in CALLS:
            with self.subTest(call=f"{method} {path}"):
                answer = self.ask(method, path, body)
                self.assert_status(answer, 401)
                self.assertEqual(answer.headers["WWW-Authenticate"], 'Bearer realm="twinpool"')
                for name, scopes in SCOPES.items():
                    answer = self.ask(method, path, body, token=self.tokens[name])
                    if scope in scopes.split(","):
                        self.assertNotIn(answer.status, (401, 403), answer)
                        continue
                    self.assert_status(answer, 403)
                    self.assertIn(f'scope="{scope}"', answer.headers["WWW-Authenticate"])
                    if method != "HEAD":
                        self.assertEqual(answer.json["scope"], scope)
                        self.assertIn(name, answer.json["detail"])

    def test_health_is_open(self):
        """To probes, which have no token; nothing else is, whether it exists or not."""
        for path in ("/healthz", "/readyz", "/", "/dashboard/app.js"):
            self.assert_status(self.ask("GET", path), 200)
            self.assert_status(self.ask("GET", path, token="wrong"), 200)
        for method, path in (("GET", "/nothing"), ("PUT", "/jobs"), ("OPTIONS", "/jobs"),
                             ("GET", "/healthz/x"), ("GET", "/dashboard/"), ("GET", "/dashboard/x/y"), ("GET", "//healthz")):
            with self.subTest(call=f"{method} {path}"):
                self.assert_status(self.ask(method, path), 401)
        self.assert_status(self.ask("GET", "/nothing", token=self.tokens["submitter"]), 404)
        self.assert_status(self.ask("PUT", "/jobs", token=self.tokens["submitter"]), 405)
        self.assert_status(self.ask("OPTIONS", "/jobs", token=self.tokens["submitter"]), 204)

    def test_what_is_no_token(self):
        """Other schemes, other texts, a line of the file, a digest of it, very long ones."""
        good = self.tokens["all"]
        with open(os.path.join(self.directory, "tokens"), encoding="utf-8") as file:
            line = file.read().splitlines()[-1]
        for value in (f"Basic {good}", good, "Bearer", "Bearer ", f"Bearer {good}x",
                      f"Bearer {good[:-1]}", f"Bearer {good} x", f"Bearer {good.lower()}",
                      f"Bearer {line}", f"Bearer {line.split(':')[-1]}", "Bearer " + "a" * 5000):
            with self.subTest(value=value[:30]):
                answer = self.ask("GET", "/jobs", headers={"Authorization": value})
                self.assert_status(answer, 401)
        self.assert_status(self.ask("GET", "/jobs", headers={"Authorization": f"bearer  {good}"}),
                           200)

    def test_the_body_of_a_stranger_is_not_read(self):
        """The refusal comes before a body that never does, and ends the connection."""
        with self.service.raw() as raw:
            raw.send(b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
                     b"Expect: 100-continue\r\n\r\n")
            answer = raw.read_answer("POST")
            self.assertEqual((answer.status, answer.headers["Connection"]), (401, "close"))
            self.assertEqual(raw.read_to_end(), b"")
        with self.service.raw() as raw:
            raw.send(b"POST /jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.assertEqual(raw.read_answer("POST").status, 401)

    def test_the_log_names_the_client_and_tells_no_token(self):
        """At debug level, whatever was asked, and wherever a token was put."""
        for name, token in self.tokens.items():
            for method, path, body, _ in CALLS:
                self.ask(method, path, body, token=token)
            self.ask("GET", f"/jobs?token={token}", token=name)
        self.stop_service()
        entries = self.service.log("request")
        self.assertEqual({entry.get("client") for entry in entries} - {None}, set(SCOPES))
        text = json.dumps(self.service.log())
        for name, token in self.tokens.items():
            self.assertNotIn(token, text, name)
            self.assertNotIn(token[4:], text, name)


class ReloadTest(TokenCase):
    """The file is read again at SIGHUP."""

    def hup(self, event):
        """Sends SIGHUP and waits for the event; answers it."""
        before = len(self.service.log(event))
        self.service.signal(signal.SIGHUP)
        wait_until(lambda: len(self.service.log(event)) > before, f"the log says {event}")
        return self.service.log(event)[-1]

    def test_new_tokens_are_in_force(self):
        """The old ones are not; an open connection is asked anew with each request."""
        old = dict(self.tokens)
        self.assert_status(self.http.get("/stats"), 200)
        self.write_tokens()
        self.hup("reloaded")
        self.assert_status(self.http.get("/stats"), 401)
        self.assert_status(self.ask("GET", "/stats", token=old["reader"]), 401)
        self.assert_status(self.ask("GET", "/stats", token=self.tokens["reader"]), 200)
        self.service.token = self.tokens["all"]

    def test_a_broken_file_changes_nothing(self):
        """And the log says which line, without what stands there."""
        kept = self.tokens["all"]
        path = os.path.join(self.directory, "tokens")
        for content, mode, fragment in (("x read twp_misplaced\n", 0o600, "line 1"),
                                        ("", 0o600, "no token"),
                                        (make_token("y", "read")[1], 0o606, "chmod o-w")):
            with self.subTest(fragment=fragment):
                self.write_file("tokens", content)
                os.chmod(path, mode)
                event = self.hup("reload_refused")
                self.assertEqual(event["field"], "server.tokens_file")
                self.assertIn(fragment, event["error"])
                self.assert_status(self.ask("GET", "/stats", token=kept), 200)
        self.assertNotIn("misplaced", json.dumps(self.service.log()))

    def test_a_file_that_all_may_read_is_warned_of(self):
        """It has digests only."""
        self.assertEqual(self.service.log("tokens_readable_by_all"), [])
        os.chmod(os.path.join(self.directory, "tokens"), 0o644)
        self.hup("reloaded")
        wait_until(lambda: self.service.log("tokens_readable_by_all"), "the warning")


class CommandTest(DirectoryCase):
    """twinpool token."""

    def test_what_it_refuses(self):
        """With what it expects."""
        for arguments, fragment in ((("token",), "Usage"), (("token", "x"), "Usage"),
                                    (("token", "x", "--scope", "write"), "submit, read, admin"),
                                    (("token", "x", "--scope", "read,"), "submit, read, admin"),
                                    (("token", "x", "y", "--scope", "read"), "Usage"),
                                    (("token", "x y", "--scope", "read"), "name")):
            with self.subTest(arguments=arguments):
                result = run_binary(*arguments)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertIn(fragment, result.stderr)


class AnonymousTest(ServiceCase):
    """Beyond loopback without a token: only if it is said."""

    config = {"server": {"listen": "0.0.0.0:0", "allow_anonymous": True}}

    def start_service(self, changes=None, arguments=None, extra_environment=None):
        """Its ready line has the address that it listens on; the log says how open it is."""
        path = self.write_file("twinpool.json", merged(BASE_CONFIG, changes or {}))
        self.service = Service(path)
        self.addCleanup(self.service.destroy)
        url = self.service.read_ready_line()
        self.assertRegex(url, r"\Ahttp://0\.0\.0\.0:[0-9]+\n\Z")
        self.service.port = int(url.rsplit(":", 1)[1])
        self.http = self.service.client()
        self.judged = False

    def test_it_is_said_in_the_log(self):
        """And no token is needed."""
        self.assertEqual(len(self.service.log("open_to_all")), 1)
        self.assert_succeeded(self.http.run("echo", 1))

    def test_it_is_refused_unless_said(self):
        """By file, flag or variable; a file of tokens will do as well."""
        path = self.write_file("other.json", {"server": {"listen": "0.0.0.0:0"}})
        self.write_file("tokens", make_token("a", "read")[1])
        tokens = os.path.join(self.directory, "tokens")
        for arguments, variables, status in (
                ((), {}, 2), ((), {"TWINPOOL_ALLOW_ANONYMOUS": "0"}, 2),
                ((), {"TWINPOOL_ALLOW_ANONYMOUS": "1"}, 0), (("--allow-anonymous",), {}, 0),
                ((), {"TWINPOOL_TOKENS_FILE": tokens}, 0), (("--tokens-file", tokens), {}, 0)):
            with self.subTest(arguments=arguments, variables=variables):
                result = run_binary("--config", path, "--check-config", *arguments,
                                    extra_environment=variables)
                self.assertEqual(result.returncode, status, result)
                if status:
                    self.assertIn("server.allow_anonymous", result.stderr)
