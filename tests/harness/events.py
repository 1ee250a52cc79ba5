"""A reader of server-sent events, by the rules of the HTML standard as far as we use them."""

import http.client
import json
import socket

from tests.harness.timing import seconds


class Event:
    """One event: its id, type and decoded data."""

    def __init__(self, event_id, name, data):
        self.id = event_id
        self.name = name
        self.data = data

    def __repr__(self):
        return f"<Event {self.id} {self.name} {str(self.data)[:200]}>"


class EventStream:
    """GET /jobs/{id}/events, or below another path, open. Iterating gives events until its end."""

    def __init__(self, service, job_id, last=None, receive_buffer=None, timeout=40, below="/jobs"):
        self.comments = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(seconds(timeout))
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.connect((service.host, service.port))
        header = "" if last is None else f"Last-Event-ID: {last}\r\n"
        self._socket.sendall(f"GET {below}/{job_id}/events HTTP/1.1\r\nHost: test\r\n"
                             f"{header}\r\n".encode())
        self._response = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Hangs up."""
        if self._response is not None:
            self._response.close()
        self._socket.close()

    @property
    def response(self):
        """The answer's head, waited for when it is first asked for."""
        if self._response is None:
            self._response = http.client.HTTPResponse(self._socket)
            self._response.begin()
        return self._response

    def __iter__(self):
        return self

    def __next__(self):
        event = self.next_event()
        if event is None:
            raise StopIteration
        return event

    def next_event(self):
        """The next event; None at the end of the stream."""
        fields = {}
        while True:
            line = self.response.readline().decode("utf-8")
            if not line:
                if fields:
                    raise AssertionError(f"the stream ended within an event: {fields}")
                return None
            if line == "\n":
                if fields:
                    return Event(fields.get("id"), fields["event"], json.loads(fields["data"]))
                continue
            if line.startswith(":"):
                self.comments += 1
                continue
            name, value = line.rstrip("\n").split(": ", 1)
            if name in fields:
                raise AssertionError(f"{name} twice in an event")
            fields[name] = value

    def wait_for(self, name, **data):
        """Reads up to the first event of this name with these members; answers all that were read."""
        seen = []
        for event in self:
            seen.append(event)
            if event.name == name and data.items() <= event.data.items():
                return seen
        raise AssertionError(f"the stream ended without {name} {data}: {seen}")


def text_of(events, stream="stdout", attempt=1):
    """The output that these events tell, which must have no hole that no gap names."""
    text = ""
    position = None
    for event in events:
        if event.name not in ("output", "gap") or event.data.get("stream") != stream:
            continue
        if event.data["attempt"] != attempt:
            continue
        if position is not None and event.data["offset"] != position:
            raise AssertionError(f"at {position} of {stream} comes {event}")
        position = event.data["offset"]
        if event.name == "output":
            text += event.data["text"]
            position += len(event.data["text"].encode())
        else:
            position += event.data["bytes"]
    return text


def lost_bytes(events, stream="stdout"):
    """How many bytes of output gaps name."""
    return sum(event.data["bytes"] for event in events
               if event.name == "gap" and event.data.get("stream") == stream)


def states_of(events):
    """The states that these events tell, each with its attempt."""
    return [(event.data["state"], event.data["attempt"]) for event in events
            if event.name == "state"]
