"""A small HTTP client that holds every answer to what all answers promise."""

import http.client
import json
import re
import socket
import urllib.parse

from tests.harness.documents import check_job, check_whole_sum
from tests.harness.timing import seconds

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
DEFAULT_TIMEOUT = 40
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Answer:
    """One HTTP answer. `body` is bytes; `json` is decoded when it is asked for."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        """The decoded body; duplicate keys, which no answer may have, fail."""
        return json.loads(self.body, object_pairs_hook=_object_without_duplicates)

    def __repr__(self):
        return f"<Answer {self.status} {self.body[:600]!r}>"


def _object_without_duplicates(pairs):
    document = dict(pairs)
    if len(document) != len(pairs):
        raise AssertionError(f"duplicate keys: {[key for key, _ in pairs]}")
    return document


def check_answer(answer, method="GET"):
    """What every answer promises: a request id, a type, no caching, and problems in one form."""
    _require(REQUEST_ID.match(answer.headers.get("X-Request-Id", "")), "a request id", answer)
    if answer.headers.get("Cache-Control") == "no-cache":
        check_file(answer)
        return
    _require(answer.headers.get("Cache-Control") == "no-store", "Cache-Control: no-store", answer)
    if method == "HEAD" or answer.status == 204:
        _require(answer.body == b"", "no body", answer)
        return
    content_type = answer.headers.get("Content-Type", "")
    if content_type == "application/yaml":
        return
    _require(answer.body.endswith(b"\n"), "a final newline", answer)
    if answer.status == 200 and content_type == METRICS_TYPE:
        return
    if answer.status >= 400:
        _require(content_type == "application/problem+json", "the problem type", answer)
        check_problem(answer)
    else:
        _require(content_type == "application/json", "the JSON type", answer)
        _require(isinstance(answer.json, dict), "an object", answer)


def check_file(answer):
    """A file of the dashboard, the only thing that may be cached, if it is asked about each time."""
    _require(answer.status in (200, 304), "a status of a file", answer)
    for name in ("ETag", "Vary", "Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"):
        _require(answer.headers.get(name), name, answer)


def check_problem(answer):
    """application/problem+json (RFC 9457) with title, status, detail and the request's id."""
    problem = answer.json
    _require(problem.get("status") == answer.status, "the status in the problem", answer)
    for name in ("title", "detail"):
        text = problem.get(name)
        _require(isinstance(text, str) and text, f"a {name}", answer)
    _require(problem.get("request_id") == answer.headers["X-Request-Id"], "its request id", answer)
    if answer.status == 503:
        _require(answer.headers.get("Retry-After", "").isdigit(), "an integer Retry-After", answer)


def _require(condition, what, answer):
    if not condition:
        raise AssertionError(f"an answer without {what}: {answer!r} {dict(answer.headers)}")


class _Connection(http.client.HTTPConnection):
    """By whatever way connect() knows."""

    def __init__(self, host, port, timeout, path, tls):
        super().__init__(host, port or 80, timeout=seconds(timeout))
        self._way = (host, port, timeout, path, tls)

    def connect(self):
        """Called by the library when it needs a connection."""
        self.sock = connect(*self._way)


def connect(host, port, timeout=DEFAULT_TIMEOUT, path=None, tls=None):
    """A socket to host and port, or to the Unix socket at path; tls is an ssl.SSLContext."""
    if path is not None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(seconds(timeout))
        connection.connect(path)
        return connection
    connection = socket.create_connection((host, port), timeout=seconds(timeout))
    # A request goes out in two pieces, and the second is not to wait for the first's acknowledgement.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return connection
    try:
        return tls.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


class Client:
    """One keep-alive connection. Not for several threads at once."""

    def __init__(self, host, port, timeout=DEFAULT_TIMEOUT, token=None, path=None, tls=None):
        self.host = host
        self.port = port
        self._token = token
        self._connection = _Connection(host, port, timeout, path, tls)

    def close(self):
        """Closes the connection."""
        self._connection.close()

    def request(self, method, path, body=None, headers=None):
        """Sends one request and answers the checked Answer. A dict or list body becomes JSON."""
        headers = dict(headers or {})
        if self._token is not None:
            headers.setdefault("Authorization", f"Bearer {self._token}")
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        elif isinstance(body, str):
            body = body.encode()
        try:
            self._connection.request(method, path, body=body, headers=headers)
            response = self._connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except BaseException:
            self._connection.close()
            raise
        check_answer(answer, method)
        if answer.status < 300 and answer.body and path.startswith("/jobs"):
            for job in answer.json.get("jobs", [answer.json]):
                check_job(job)
        return answer

    def get(self, path, **query):
        """GET path with these query parameters."""
        return self.request("GET", with_query(path, query))

    def delete(self, path):
        """DELETE path."""
        return self.request("DELETE", path)

    def post(self, path, body, headers=None, **query):
        """POST a JSON document (or bytes) with these query parameters."""
        return self.request("POST", with_query(path, query), body, headers)

    def submit(self, task, args=None, pool=None, wait=None, **fields):
        """POST /jobs with only the fields that are given."""
        query = {} if wait is None else {"wait": wait}
        return self.post("/jobs", submission(task, args, pool, **fields), **query)

    def submit_batch(self, task, args, pool=None, wait=None, **fields):
        """POST /batches with only the fields that are given."""
        query = {} if wait is None else {"wait": wait}
        return self.post("/batches", submission(task, args, pool, **fields), **query)

    def run(self, task, args=None, pool=None, **fields):
        """Runs a job to its end and answers its document, whatever state it ended in."""
        answer = self.submit(task, args, pool, **fields)
        if answer.status != 200:
            raise AssertionError(f"{task} on {pool} did not end: {answer!r}")
        job = answer.json
        if job["state"] == "succeeded" and "delay_ms" not in fields and job["attempt"] == 1:
            check_whole_sum(job)
        return job

    def start(self, task, args=None, pool=None, **fields):
        """Submits without waiting and answers the job's document as it was then."""
        answer = self.submit(task, args, pool, wait=0, **fields)
        if answer.status not in (200, 202):
            raise AssertionError(f"{task} on {pool} was refused: {answer!r}")
        return answer.json

    def job(self, job_id, wait=None):
        """The document of one job; with `wait` after at most that many seconds."""
        query = {} if wait is None else {"wait": wait}
        answer = self.get(f"/jobs/{job_id}", **query)
        if answer.status != 200:
            raise AssertionError(f"job {job_id} cannot be read: {answer!r}")
        return answer.json

    def pool(self, name):
        """One pool's entry of GET /pools."""
        for entry in self.get("/pools").json["pools"]:
            if entry["name"] == name:
                return entry
        raise AssertionError(f"no pool {name}")

    def patch_pool(self, name, **changes):
        """PATCH /pools/{name}; answers the Answer."""
        return self.request("PATCH", f"/pools/{name}", changes)

    def stats(self):
        """GET /stats."""
        return self.get("/stats").json


def with_query(path, query):
    """path with ?name=value pairs behind it."""
    return path + ("?" + urllib.parse.urlencode(query) if query else "")


def submission(task, args=None, pool=None, **fields):
    """The body of a submission with only the fields that are given."""
    body = {"task": task, **fields}
    if args is not None:
        body["args"] = args
    if pool is not None:
        body["pool"] = pool
    return body


class RawConnection:
    """A socket for what a well-behaved client would not send."""

    def __init__(self, host, port, timeout=DEFAULT_TIMEOUT, path=None, tls=None):
        self.socket = connect(host, port, timeout, path, tls)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the socket."""
        self.socket.close()

    def send(self, data):
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def send_post(self, path, body):
        """Sends a whole POST of JSON text."""
        self.send(post_bytes(path, body))

    def read_answer(self, method="GET"):
        """Reads one whole answer without judging it."""
        response = http.client.HTTPResponse(self.socket, method=method)
        response.begin()
        return Answer(response.status, response.headers, response.read())

    def read_to_end(self):
        """Everything until the other side closes; a reset counts as closing."""
        data = b""
        while True:
            try:
                piece = self.socket.recv(65536)
            except ConnectionError:
                return data
            if not piece:
                return data
            data += piece


def post_bytes(path, body):
    """A POST request as bytes; body is text, bytes, or a document that becomes JSON."""
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    head = (f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n")
    return head.encode() + body
