"""Many connections at once, driven by one thread."""

import re
import selectors
import socket
import time

from tests.harness.timing import seconds

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *([0-9]+)\r\n")


def split_answer(data):
    """The first whole answer in data as (status, body, length), or None if it is not there yet."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    length = _LENGTH.search(data, 0, head_end + 2)
    if not length:
        raise AssertionError(f"an answer without a length: {bytes(data[:head_end])!r}")
    end = head_end + 4 + int(length.group(1))
    if len(data) < end:
        return None
    return int(data[9:12]), bytes(data[head_end + 4:end]), end


class ManyClients:
    """`count` keep-alive connections, each with at most one request under way."""

    def __init__(self, host, port, count):
        self._sockets = []
        self._selector = selectors.DefaultSelector()
        try:
            for index in range(count):
                connection = socket.create_connection((host, port), timeout=seconds(20))
                self._sockets.append(connection)
                self._selector.register(connection, selectors.EVENT_READ, index)
        except BaseException:
            self.close()
            raise
        self._received = [bytearray() for _ in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes every connection, also those that wait for an answer."""
        self._selector.close()
        for connection in self._sockets:
            connection.close()

    def __len__(self):
        return len(self._sockets)

    def send(self, index, request):
        """Sends a whole request on one connection."""
        self._sockets[index].sendall(request)

    def answers(self, wanted, deadline):
        """Yields (index, status, body) of the next `wanted` answers, in the order they come."""
        end = time.monotonic() + seconds(deadline)
        while wanted > 0:
            ready = self._selector.select(max(0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"{wanted} answers are missing after {seconds(deadline)} s")
            for key, _ in ready:
                answer = self._receive(key.data)
                if answer:
                    wanted -= 1
                    yield key.data, *answer

    def _receive(self, index):
        piece = self._sockets[index].recv(65536)
        if not piece:
            raise AssertionError(f"connection {index} was closed without an answer")
        received = self._received[index]
        received += piece
        answer = split_answer(received)
        if not answer:
            return None
        status, body, length = answer
        del received[:length]
        return status, body

    def pump(self, request, total, deadline):
        """Sends the same request `total` times, one at a time on each connection.

        Yields (status, body) of each answer.
        """
        sent = min(len(self), total)
        for index in range(sent):
            self.send(index, request)
        for index, status, body in self.answers(total, deadline):
            if sent < total:
                self.send(index, request)
                sent += 1
            yield status, body
