"""What a host does in Python before the first import: see interpreter.c, which runs this text.

twinpool is the built-in module of module.c. Nothing here is for the authors of functions.
"""

import io
import os
import signal
import sys
import traceback

import twinpool


class Bytes(io.RawIOBase):
    """The bytes below sys.stdout and sys.stderr: what is written belongs to the thread's job."""

    mode = "wb"

    def __init__(self, stream):
        super().__init__()
        self._stream = stream
        self.name = stream

    def writable(self):
        """True."""
        return True

    def write(self, data):
        """Takes all of it, always."""
        data = bytes(data)
        twinpool._write(self._stream, data)
        return len(data)

    def flush(self):
        """Sends on what no newline has sent yet."""
        twinpool._flush(self._stream)

    def fileno(self):
        """The descriptor, where it comes back in the job: on workers that are processes."""
        if not twinpool._owns_descriptors():
            raise io.UnsupportedOperation("on a pool of threads the job's output has no descriptor")
        return self._stream

    def close(self):
        """Does nothing: the next job prints too."""


class Text(io.TextIOBase):
    """sys.stdout or sys.stderr."""

    mode = "w"
    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = True
    write_through = False

    def __init__(self, stream, name):
        super().__init__()
        self._stream = stream
        self.name = name
        self.buffer = Bytes(stream)

    def writable(self):
        """True."""
        return True

    def write(self, text):
        """Writes a str; what UTF-8 cannot express (half of a surrogate pair) is escaped."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        twinpool._write(self._stream, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self):
        """Sends on what no newline has sent yet."""
        twinpool._flush(self._stream)

    def fileno(self):
        """As Bytes.fileno()."""
        return self.buffer.fileno()

    def reconfigure(self, **_):
        """Does nothing."""

    def close(self):
        """Does nothing: the next job prints too."""


def start(path):
    """Prepares the interpreter of this host; path is the configuration's python.path."""
    sys.path[:0] = path
    sys.stdin = open(os.devnull, encoding="utf-8")
    sys.stdout = Text(1, "<stdout>")
    sys.stderr = Text(2, "<stderr>")
    # As the python command has it: a pipe without a reader is a BrokenPipeError.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(twinpool._STOP_SIGNAL, twinpool._on_stop)


def load(module, names):
    """Imports a module and answers what is found in it by these names, separated by dots."""
    __import__(module)
    function = sys.modules[module]
    for name in names.split("."):
        function = getattr(function, name)
    if not callable(function):
        raise TypeError(f"{module}:{names} is {type(function).__name__}, which cannot be called")
    return function


def count(n):
    """Counts to n, one by one: what the interpreter's lock is measured with."""
    reached = 0
    while reached < n:
        reached += 1
    return reached


def describe(error):
    """What failed as (last line, whole traceback), both without the frames of this file."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    try:
        text = str(error)
    except Exception:  # whatever the author's __str__ does
        text = "<the exception cannot be shown>"
    return f"{name}: {text}" if text else name, "".join(lines)
