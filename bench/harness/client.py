"""A keep-alive HTTP client without ornaments: one write for each request, whole answers."""

import json
import socket

from bench.harness.process import Failure


def request_bytes(method, path, body=b""):
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body or method in ("POST", "PATCH"):
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Client:
    """One connection."""

    def __init__(self, port, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def close(self):
        """Ends the connection."""
        self.socket.close()

    def send(self, data):
        """Requests, any number of them."""
        self.socket.sendall(data)

    def _more(self):
        piece = self.socket.recv(1 << 20)
        if not piece:
            raise Failure("the connection was closed")
        return piece

    def receive(self):
        """The next answer: its status and its body."""
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end].decode("latin-1")
        length = next((int(line.split(":")[1]) for line in head.split("\r\n")
                       if line.lower().startswith("content-length:")), 0)
        pieces = [data[end + 4:]]
        missing = length - len(pieces[0])
        while missing > 0:
            pieces.append(self._more())
            missing -= len(pieces[-1])
        data = b"".join(pieces)
        self._rest = data[length:]
        return int(head.split()[1]), data[:length]

    def raw(self, method, path, body=b""):
        """Asks, and answers with status and bytes."""
        self.send(request_bytes(method, path, body))
        return self.receive()

    def call(self, method, path, document=None, expected=(200, 202)):
        """Asks, and answers with the parsed answer."""
        body = b"" if document is None else json.dumps(document).encode()
        status, answer = self.raw(method, path, body)
        if status not in expected:
            raise Failure(f"{method} {path}: {status} {answer[:300]!r}")
        return json.loads(answer)

    def repeat(self, request, count, expected, window=100):
        """Sends the same request so often, `window` of them under way at most; answers the last body."""
        answer = b""
        for first in range(0, count, window):
            size = min(window, count - first)
            self.send(request * size)
            for _ in range(size):
                status, answer = self.receive()
                if status != expected:
                    raise Failure(f"{status} {answer[:300]!r}")
        return answer
