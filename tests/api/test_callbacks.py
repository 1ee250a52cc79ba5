"""callback_url: who asked is told of the end, signed, again until it is taken, to allowed places only."""

import collections
import hashlib
import hmac
import http.server
import json
import os
import threading

from tests.harness.case import DurableCase
from tests.harness.timing import wait_until

SECRET = "correct horse battery staple"
Call = collections.namedtuple("Call", "path headers body")


class Receiver:
    """An HTTP server that notes what it is sent and answers as told."""

    def __init__(self):
        self.calls = []
        self.answers = collections.defaultdict(list)  # by path: statuses (or headers) still to be given
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """One request."""

            def do_POST(self):
                """Notes it and answers."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.calls.append(Call(self.path, dict(self.headers.items()), body))
                answers = receiver.answers[self.path]
                status, headers = answers.pop(0) if answers else (204, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def url(self, path, host="127.0.0.1"):
        """Where it is."""
        return f"http://{host}:{self.port}{path}"

    def at(self, path):
        """The calls to a path."""
        return [call for call in self.calls if call.path == path]

    def close(self):
        """Ends it."""
        self.server.shutdown()
        self.server.server_close()


class CallbackCase(DurableCase):
    """A service whose callbacks may go to the loopback network, and a receiver there."""

    config = {"callbacks": {"allow": ["127.0.0.0/8"], "backoff_ms": 1, "backoff_max_ms": 20,
                            "max_tries": 4, "timeout_ms": 5000}}

    def setUp(self):
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)
        super().setUp()

    def told(self, path, count=1):
        """Waits until so many calls came to the path; answers them."""
        wait_until(lambda: len(self.receiver.at(path)) >= count, f"{count} calls to {path}", 20)
        return self.receiver.at(path)

    def start_with(self, url, task="echo", args=1, **fields):
        """A job that is told of there; its id."""
        return self.http.start(task, args, "process", callback_url=url, **fields)["id"]


class DeliveryTest(CallbackCase):
    """What is sent, and how often."""

    def test_the_ended_job_is_sent(self):
        """Whatever it ended as: the same document that GET answers."""
        job_id = self.start_with(self.receiver.url("/good?x=1"), args={"n": 1})
        crashed = self.start_with(self.receiver.url("/bad"), "crash", {"signal": "ABRT"})
        call, = self.told("/good?x=1")
        self.assertEqual(json.loads(call.body), self.http.job(job_id))
        self.assertEqual(call.headers["Content-Type"], "application/json")
        self.assertEqual(call.headers["Twinpool-Job"], job_id)
        self.assertEqual(call.headers["Twinpool-Delivery"], f"{job_id}.1")
        self.assertNotIn("Twinpool-Signature", call.headers)
        self.assertEqual(json.loads(self.told("/bad")[0].body), self.http.job(crashed))
        self.assertEqual(self.http.job(job_id)["callback_url"], self.receiver.url("/good?x=1"))

    def test_a_waited_for_job_is_told_of_too(self):
        """The answer does not take its place."""
        job = self.http.run("echo", 2, "thread", callback_url=self.receiver.url("/waited"))
        self.assertEqual(json.loads(self.told("/waited")[0].body)["id"], job["id"])

    def test_failures_are_tried_again_and_success_is_the_end(self):
        """500, a redirection, 503 with Retry-After: all are tried again, in order."""
        self.receiver.answers["/flaky"] = [(500, {}), (302, {"Location": self.receiver.url("/x")}),
                                           (503, {"Retry-After": "1"})]
        job_id = self.start_with(self.receiver.url("/flaky"))
        calls = self.told("/flaky", 4)
        self.assertEqual([call.headers["Twinpool-Delivery"] for call in calls],
                         [f"{job_id}.{number}" for number in (1, 2, 3, 4)])
        self.assertEqual(len({call.body for call in calls}), 1)
        # One that comes later is told of later: nothing of the former is left.
        self.start_with(self.receiver.url("/later"))
        self.told("/later")
        self.assertEqual(len(self.receiver.at("/flaky")), 4)
        self.assertEqual(self.receiver.at("/x"), [])

    def test_it_is_given_up(self):
        """After max_tries, or at once when the place is gone (410)."""
        self.receiver.answers["/never"] = [(500, {})] * 9
        self.receiver.answers["/gone"] = [(410, {})]
        self.start_with(self.receiver.url("/gone"))
        self.start_with(self.receiver.url("/never"))
        self.told("/never", 4)
        wait_until(lambda: len(self.service.log("callback_given_up")) == 2, "two are given up")
        self.assertEqual(len(self.receiver.at("/gone")), 1)
        self.assertEqual(len(self.receiver.at("/never")), 4)

    def test_each_job_of_a_batch_is_told_of(self):
        """By its own end."""
        answer = self.http.submit_batch("echo", list(range(20)), "thread",
                                        callback_url=self.receiver.url("/batch"))
        results = sorted(json.loads(call.body)["result"] for call in self.told("/batch", 20))
        self.assertEqual((answer.status, results), (200, list(range(20))))

    def test_kill_9_loses_none(self):
        """What was not taken before is told after the next start; what was is not told again."""
        self.receiver.answers["/taken"] = [(204, {})]
        self.start_with(self.receiver.url("/taken"))
        self.told("/taken")
        self.receiver.answers["/late"] = [(500, {})] * 2
        late = self.start_with(self.receiver.url("/late"))
        slow = self.start_with(self.receiver.url("/slow"), "sleep", {"ms": 300}, max_attempts=3)
        self.told("/late")
        self.kill_service()
        self.start_service(self.config)
        wait_until(lambda: len(self.receiver.at("/slow")) >= 1, "the other is told of", 30)
        wait_until(lambda: not self.receiver.answers["/late"], "all tries were made", 90)
        calls = self.told("/late", 3)
        self.assertEqual({call.headers["Twinpool-Job"] for call in calls}, {late})
        self.assertEqual(self.receiver.at("/slow")[0].headers["Twinpool-Job"], slow)


class SignatureTest(CallbackCase):
    """With a secret."""

    def test_signed(self):
        """HMAC-SHA-256 of the time, a full stop and the body, by the file's content."""
        path = self.write_file("secret", SECRET + "\n")
        os.chmod(path, 0o600)
        self.restart_service({"callbacks": {"secret_file": path}})
        self.start_with(self.receiver.url("/signed"), args="ü")
        call, = self.told("/signed")
        fields = dict(field.split("=", 1) for field in call.headers["Twinpool-Signature"].split(","))
        expected = hmac.new(SECRET.encode(), fields["t"].encode() + b"." + call.body, hashlib.sha256)
        self.assertEqual(fields["v1"], expected.hexdigest())
        self.assertNotIn(SECRET, "".join(map(str, self.service.log())))


class AllowTest(CallbackCase):
    """To whom."""

    def refused(self, url):
        """The problem's detail."""
        answer = self.http.submit("echo", 1, "process", wait=0, callback_url=url)
        self.assertEqual((answer.status, answer.json["field"]), (422, "callback_url"), answer)
        return answer.json["detail"]

    def test_nobody_unless_configured(self):
        """And the answer says how."""
        self.restart_service({"callbacks": {"allow": []}})
        self.assertIn("callbacks.allow", self.refused(self.receiver.url("/")))

    def test_bad_urls(self):
        """What is no absolute URL of http or https without a user."""
        for url in ("", "x", "/path", "ftp://127.0.0.1/", "file:///etc/passwd", "http://",
                    "http://user:word@127.0.0.1/", "gopher://127.0.0.1/"):
            with self.subTest(url=url):
                self.assertIn("expected an", self.refused(url))

    def test_addresses_outside(self):
        """As an address in the URL, in whatever form, and as what a name stands for."""
        self.restart_service({"callbacks": {"allow": ["10.0.0.0/8", "*.example.org", "localhost"]}})
        for url in ("http://127.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
                    "http://0x7f000001/", "http://2130706433/"):
            with self.subTest(url=url):
                self.assertIn("does not allow", self.refused(url))
        # Only when it is looked up is it known to be of this machine, and a name is not enough.
        self.restart_service({"callbacks": {"allow": ["localhost"], "max_tries": 1}})
        self.start_with(self.receiver.url("/inner", "localhost"))
        wait_until(lambda: self.service.log("callback_given_up"), "it is given up")
        self.assertIn("is not allowed", self.service.log("callback_given_up")[0]["error"])
        self.assertEqual(self.receiver.calls, [])
