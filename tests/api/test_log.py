"""The log: one JSON line an event, by which a job can be followed from request to end."""

from tests.harness.case import ServiceCase
from tests.harness.documents import instant
from tests.harness.timing import wait_until


class LogTest(ServiceCase):
    """What an operator reads."""

    arguments = ("--log-level", "debug")

    def lines_with(self, **members):
        """The lines that have these members."""
        return [entry for entry in self.service.log()
                if all(entry.get(name) == value for name, value in members.items())]

    def wait_for_line(self, **members):
        """The first line with these members, once there is one."""
        return wait_until(lambda: next(iter(self.lines_with(**members)), None),
                          f"a line with {members}")

    def test_a_job_can_be_followed_by_its_ids(self):
        """Its submission bears the request's id and the job's; its end the job's and the state."""
        answer = self.http.post("/jobs", {"task": "echo", "args": 1},
                                headers={"X-Request-Id": "order-4711"})
        job_id = answer.json["id"]
        submitted = self.wait_for_line(request_id="order-4711", job=job_id)
        ended = self.wait_for_line(event="job_ended", job=job_id)
        self.assertEqual((ended["task"], ended["state"]), ("echo", "succeeded"))
        self.assertLessEqual(instant(submitted["time"]), instant(ended["time"]))

    def test_a_crash_is_a_warning_that_names_the_job_and_the_host(self):
        """What an operator must see shows at the usual level."""
        job = self.http.run("crash", None, "process")
        ended = self.wait_for_line(event="job_ended", job=job["id"])
        self.assertEqual((ended["level"], ended["state"]), ("warning", "crashed"))
        down = self.wait_for_line(event="host_down", pool="process", pid=job["worker"]["pid"])
        self.assertEqual(down["level"], "warning")

    def test_nothing_that_a_client_sends_breaks_a_line(self):
        """Hostile ids, paths and texts; every line stays JSON, which the end of each test checks."""
        self.http.request("GET", "/a%0a%0d%22%5c%1b[31m", headers={"X-Request-Id": "a b"})
        self.http.post("/jobs", {"task": "echo\n\"\\\u001b[31m\u2028"})
        self.http.submit("sleep", {"ms": 1}, "process", labels={"a\n": "\u0007\""})
        self.http.run("read", {"path": "../\n\"x"})
        self.wait_for_line(event="job_ended", task="read")

    def test_the_life_of_the_service_is_told(self):
        """From `starting` over `ready` with its address to `stopped`, by whom each was done."""
        self.stop_service()
        events = [entry["event"] for entry in self.service.log()]
        for event in ("starting", "listening", "host_ready", "ready", "shutdown_asked", "stopped"):
            self.assertIn(event, events)
        self.assertEqual(events[-1], "stopped")
        ready = self.lines_with(event="ready")[0]
        self.assertEqual((ready["url"], ready["process"]),
                         (f"http://127.0.0.1:{self.service.port}", "server"))
