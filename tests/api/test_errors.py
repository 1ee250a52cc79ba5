"""What is wrong with a request is told with the right status, place and alternatives."""

import uuid

from tests.harness.case import ServiceCase

MAX_BODY = 4096


class BodyTest(ServiceCase):
    """Bodies that are no submission."""

    config = {"server": {"max_body_bytes": MAX_BODY}}

    def tearDown(self):
        self.assertEqual(self.http.get("/jobs").json["jobs"], [], "a refused request made a job")
        self.assert_succeeded(self.http.run("echo", 1))
        super().tearDown()

    def test_what_is_no_json_is_400_with_line_and_column(self):
        """The detail names the place, and the problem has it as members too."""
        cases = (
            (b'{"task":', 1),
            (b'{"task":"echo"', 1),
            (b'{\n "task": "echo",\n "args": tru\n}', 3),
            (b'{"task":"echo"} x', 1),
            (b'{"task":"echo",}', 1),
            (b"{'task':'echo'}", 1),
            (b'{"task":"echo","task":"echo"}', 1),
            (b'{"task":"echo","args":{"a":1,"a":2}}', 1),
            (b'{"task":"\xff\xfe"}', 1),
            (b'{"task":"echo","args":"\xc0\xaf"}', 1),
            (b'{"task":"echo","args":"\xed\xa0\x80"}', 1),
            (b'{"task":"echo","args":"\\ud800"}', 1),
            (b'{"task":"echo","args":"a\\u0000b"}', 1),
            (b'{"task":"echo"}\x00', 1),
            (b'\x00', 1),
            (b'{"task":"echo","args":1e999}', 1),
            (b'{"task":"echo","args":99999999999999999999}', 1),
            (b'{"task":"echo","args":01}', 1),
            (b'{"task":"echo","args":NaN}', 1),
            (b'[' * 2000, 1),
            (b'{"task":"echo","args":' + b'[' * 200 + b']' * 200 + b'}', 1),
            (b'{"task":"echo","args":' + b'{"a":' * 200 + b'1' + b'}' * 201, 1),
        )
        for body, line in cases:
            for path in ("/jobs", "/batches"):
                with self.subTest(body=body[:60], path=path):
                    answer = self.http.post(path, body)
                    self.assert_problem(answer, 400, f"line {line}, column ")

    def test_an_empty_body_is_400(self):
        """There is nothing to read, whatever the header says."""
        for body in (b"", b"  \n"):
            with self.subTest(body=body):
                self.assert_problem(self.http.post("/jobs", body), 400)

    def test_json_that_is_no_object_is_422(self):
        """Well-formed, but no submission."""
        for body in (b"[]", b"1", b'"x"', b"null", b"true"):
            with self.subTest(body=body):
                self.assert_problem(self.http.post("/jobs", body), 422, "object")

    def test_a_body_over_the_limit_is_413(self):
        """By its declared length, before it is read, or by what comes in chunks."""
        body = b'{"task":"echo","args":"' + b"x" * MAX_BODY + b'"}'
        self.assert_problem(self.http.post("/jobs", body), 413, str(MAX_BODY))
        with self.service.raw() as connection:
            connection.send(b"POST /jobs HTTP/1.1\r\nHost: test\r\n"
                            b"Content-Length: 1000000000000\r\n\r\n{")
            self.assertEqual(connection.read_answer().status, 413)
        with self.service.raw() as connection:
            connection.send(b"POST /jobs HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
                            + b"400\r\n" + b"y" * 1024 + b"\r\n")
            for _ in range(5):
                connection.send(b"400\r\n" + b"y" * 1024 + b"\r\n")
            connection.send(b"0\r\n\r\n")
            self.assertEqual(connection.read_answer().status, 413)

    def test_a_body_at_the_limit_is_taken(self):
        """The limit itself is allowed: what is wrong then is the JSON."""
        answer = self.http.post("/jobs", b"x" * MAX_BODY)
        self.assert_problem(answer, 400, "line 1")

    def test_another_content_type_is_415(self):
        """JSON, nothing, and what curl -d sends are accepted; the rest is not."""
        for content_type in ("text/plain", "application/xml", "multipart/form-data; boundary=x",
                             "application/jsonx", "image/png"):
            with self.subTest(content_type=content_type):
                answer = self.http.post("/jobs", b'{"task":"echo"}',
                                        headers={"Content-Type": content_type})
                self.assert_problem(answer, 415, "application/json")


class AcceptedBodyTest(ServiceCase):
    """Bodies that are accepted in more than one dress."""

    def test_content_types_that_are_accepted(self):
        """With or without parameters, in any case, and as curl -d sends it."""
        for content_type in ("application/json", "application/json; charset=utf-8",
                             "Application/JSON", "application/x-www-form-urlencoded"):
            with self.subTest(content_type=content_type):
                answer = self.http.post("/jobs", b'{"task":"echo","args":1}',
                                        headers={"Content-Type": content_type})
                self.assert_status(answer, 200)

    def test_no_content_type(self):
        """A request without the header is read as JSON."""
        with self.service.raw() as connection:
            connection.send(b"POST /jobs HTTP/1.1\r\nHost: test\r\nContent-Length: 15\r\n\r\n"
                            b'{"task":"echo"}')
            self.assertEqual(connection.read_answer().status, 200)

    def test_a_chunked_body(self):
        """Chunks make one body."""
        with self.service.raw() as connection:
            connection.send(b"POST /jobs HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
                            b'8\r\n{"task":\r\n7\r\n"echo"}\r\n0\r\n\r\n')
            self.assertEqual(connection.read_answer().status, 200)

    def test_expect_100_continue(self):
        """Who asks whether to send the body is told to."""
        with self.service.raw() as connection:
            connection.send(b"POST /jobs HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n"
                            b"Content-Length: 15\r\n\r\n")
            self.assertTrue(connection.socket.recv(4096).startswith(b"HTTP/1.1 100 "))
            connection.send(b'{"task":"echo"}')
            self.assertEqual(connection.read_answer().status, 200)

    def test_a_body_on_get_and_delete_is_ignored(self):
        """It is read and thrown away; the connection stays usable."""
        self.assert_status(self.http.request("GET", "/healthz", b"junk"), 200)
        self.assert_status(self.http.request("DELETE", f"/jobs/{uuid.uuid4()}", b"junk"), 404)
        self.assert_status(self.http.get("/healthz"), 200)

    def test_nesting_within_the_limit(self):
        """A hundred levels are fine."""
        value = 1
        for _ in range(100):
            value = [value]
        self.assertEqual(self.http.run("echo", value)["result"], value)


class FieldTest(ServiceCase):
    """Well-formed submissions with something wrong in them."""

    def assert_refused(self, body, field, *fragments):
        """422 about this field, and no job."""
        with self.subTest(body=body):
            self.assert_problem(self.http.post("/jobs", body), 422, *fragments, field=field)

    def tearDown(self):
        self.assertEqual(self.http.get("/jobs").json["jobs"], [], "a refused request made a job")
        super().tearDown()

    def test_unknown_fields_are_refused(self):
        """Never ignored, so a misspelt name is seen; those that exist are told."""
        self.assert_refused({"task": "echo", "arg": 1}, "arg", "args")
        self.assert_refused({"task": "echo", "": 1}, None)

    def test_a_wrong_type_is_refused(self):
        """What was found and what was expected."""
        for body, field in (
                ({}, "task"),
                ({"args": 1}, "task"),
                ({"task": 5}, "task"),
                ({"task": None}, "task"),
                ({"task": "echo", "pool": 5}, "pool"),
                ({"task": "echo", "timeout_ms": "5"}, "timeout_ms"),
                ({"task": "echo", "timeout_ms": 1.5}, "timeout_ms"),
                ({"task": "echo", "timeout_ms": -1}, "timeout_ms"),
                ({"task": "echo", "labels": []}, "labels"),
                ({"task": "echo", "labels": {"a": 1}}, "labels.a"),
                ({"task": "echo", "labels": {"a" * 64: "x"}}, None),
                ({"task": "echo", "labels": {"a": "x" * 256}}, "labels.a"),
                ({"task": "echo", "labels": {f"k{n}": "" for n in range(33)}}, "labels")):
            self.assert_refused(body, field)

    def test_args_that_break_the_schema_are_refused(self):
        """The path, what was found and what was expected."""
        for task, args, field, fragments in (
                ("primes", {"n": "x"}, "args.n", ('"x"', "integer")),
                ("primes", {"n": -1}, "args.n", ("-1",)),
                ("primes", {"n": 2000000001}, "args.n", ("2000000000",)),
                ("primes", {"n": 1.0}, "args.n", ("integer",)),
                ("primes", {"n": 1, "m": 2}, "args.m", ("n",)),
                ("primes", {"n": True}, "args.n", ("integer",)),
                ("primes", [1], "args", ("object",)),
                ("sleep", {"ms": None}, "args.ms", ("null",)),
                ("crash", {"signal": "HUP"}, "args.signal", ("SEGV", "HUP")),
                ("counter", {"lock": 1}, "args.lock", ("true or false",)),
                ("read", {"path": ""}, "args.path", ())):
            self.assert_refused({"task": task, "args": args}, field, *fragments)

    def test_missing_arguments_are_named(self):
        """Also when there are no args at all."""
        for body in ({"task": "primes", "args": {}}, {"task": "primes"}):
            with self.subTest(body=body):
                answer = self.http.post("/jobs", body)
                self.assert_status(answer, 422)
                self.assertTrue(answer.json["field"].startswith("args"), answer)
                self.assertIn("n", answer.json["field"] + answer.json["detail"])

    def test_an_unknown_task_or_pool_names_those_that_exist(self):
        """So that a typo can be mended from the answer alone."""
        self.assert_refused({"task": "prims"}, "task", "prims", "primes", "echo", "sha256")
        self.assert_refused({"task": "echo", "pool": "gpu"}, "pool", "gpu", "process", "thread")

    def test_a_timeout_beyond_the_maximum_is_refused(self):
        """The maximum is named."""
        self.assert_refused({"task": "echo", "timeout_ms": 3600001}, "timeout_ms", "3600000")

    def test_an_unknown_query_parameter_is_refused(self):
        """On every resource."""
        for method, path in (("POST", "/jobs"), ("POST", "/batches"), ("GET", "/jobs"),
                             ("GET", "/tasks"), ("GET", "/pools"), ("GET", "/stats"),
                             ("GET", "/healthz"), ("GET", "/readyz")):
            with self.subTest(method=method, path=path):
                body = {"task": "echo", "args": [1]} if method == "POST" else None
                answer = self.http.request(method, path + "?colour=red", body)
                self.assert_problem(answer, 422, field="?colour")
