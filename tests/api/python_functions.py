"""The functions that test_python.py declares as tasks. They run inside the service."""

import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict, namedtuple
from enum import IntEnum

import twinpool

Pair = namedtuple("Pair", "left right")
calls = 0
calls_lock = threading.Lock()


class Color(IntEnum):
    """An int that is more."""

    RED = 1


class Word(str):
    """A str that is more."""


class Complaint(Exception):
    """An exception whose text cannot be had."""

    def __str__(self):
        raise RuntimeError("no text")


def echo(**named):
    """Answers its arguments."""
    return named


def three(a, b=2, *, c=3):
    """Has arguments that are required, optional, and by name only."""
    return [a, b, c]


def nothing():
    """Returns None."""


def derived():
    """Returns what is derived from the types of JSON."""
    return {"pair": Pair(1, 2), "ordered": OrderedDict(z=1, a=2), "color": Color.RED,
            "word": Word("w"), "tuple": (1, (2,)), "nul": "a\0b"}


def odd(kind):
    """Returns what JSON cannot express."""
    circle = []
    circle.append(circle)
    deep = 0
    for _ in range(129):
        deep = [deep]
    return {"set": {1}, "bytes": b"x", "nan": [0, {"x": float("nan")}], "inf": float("-inf"),
            "huge": 2 ** 63, "circle": circle, "deep": deep, "key": {"a": {1: 2}},
            "surrogate": ["\ud800"], "object": object(), "nul": {"a\0": 1}}[kind]


def big(length):
    """Returns a long string."""
    return "é" * length


def fail(kind):
    """Raises, after some output."""
    print("before")
    if kind == "chain":
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer é") from inner
    if kind == "note":
        error = ValueError("text")
        error.add_note("a note")
        raise error
    raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "complaint": Complaint(),
           "stopped": twinpool.Stopped(), "os": OSError(2, "gone"), "long": ValueError("x" * 5000),
           "recursion": RecursionError()}[kind]


def recurse():
    """Recurses without an end."""
    return recurse()


def lines(name, count):
    """Prints in pieces, with pauses, to both streams."""
    for number in range(count):
        print(name, end=" ")
        print(name, file=sys.stderr, end=" ")
        time.sleep(0.001)
        print(number)
        print(number, file=sys.stderr)
    print("end", end="")


def write_kinds():
    """Writes in every way that sys.stdout has."""
    sys.stdout.write("text é\n")
    sys.stdout.writelines(["l1\n", "l2\n"])
    sys.stdout.buffer.write(b"bytes\n")
    sys.stdout.buffer.write(memoryview(b"view\n"))
    print("half \ud800", flush=True)
    try:
        sys.stdout.write(b"wrong")
    except TypeError:
        print("TypeError")
    sys.stdout.close()
    return [sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.writable(), sys.stdin.read()]


def elsewhere():
    """Prints from a thread, a child by fork, and a program; as a worker that is a process can."""
    thread = threading.Thread(target=print, args=("thread",))
    thread.start()
    thread.join()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        print("child", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    subprocess.run(["echo", "program"], check=True)
    subprocess.run(["echo", "given"], check=True, stdout=sys.stdout)


def spin():
    """Computes for ever."""
    print("begun", flush=True)
    while True:
        pass


def sleep(seconds):
    """Sleeps by time.sleep()."""
    time.sleep(seconds)


def ask(seconds):
    """Sleeps by twinpool.sleep()."""
    twinpool.sleep(seconds)


def polite():
    """Polls."""
    while not twinpool.should_stop():
        time.sleep(0.01)
    raise twinpool.Stopped


def tidy():
    """Is stopped, and cleans up."""
    try:
        while True:
            try:
                time.sleep(0.005)
            except Exception:
                print("never")
    finally:
        time.sleep(0.05)
        print("tidied")


def stubborn():
    """Does not let itself be stopped."""
    while True:
        try:
            while True:
                pass
        except BaseException:
            print("no", flush=True)


def count():
    """Counts its calls in a variable of the module."""
    global calls
    with calls_lock:
        calls += 1
        return {"pid": os.getpid(), "calls": calls}


def about():
    """What the module tells of the job."""
    refused = []

    def other():
        try:
            twinpool.pool()
        except RuntimeError as error:
            refused.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    return {"pool": twinpool.pool(), "attempt": twinpool.attempt(),
            "should_stop": twinpool.should_stop(), "refused": refused}


def advance():
    """Tells its progress in every way, and waits to be seen."""
    refused = []
    for wrong in ((-1,), (1, -2), ("x",), (1, "y"), (1, 2, 3), (2 ** 63,)):
        try:
            twinpool.progress(*wrong)
        except (ValueError, TypeError, OverflowError) as error:
            refused.append(type(error).__name__)
    twinpool.progress(0)
    for number in range(100000):
        twinpool.progress(number, 100000)
    twinpool.sleep(0.2)  # what comes too soon after another is held back
    twinpool.progress(3, total=4, message="é " + ",".join(refused))
    twinpool.sleep(60)


def retry():
    """Fails at first."""
    if twinpool.attempt() < 2:
        raise ValueError("not yet")
    return twinpool.attempt()


def hold(size):
    """Holds memory in small objects."""
    return len([str(number) for number in range(size)])


def compute(n):
    """Computes, for the processor."""
    total = 0
    for number in range(n):
        total += number * number % 7
    return total


def environment():
    """Where modules come from."""
    return {"path": sys.path, "prefix": sys.prefix, "argv": sys.argv,
            "modules": [name for name in ("only_in_venv", "outside") if name in sys.modules]}


def from_venv():
    """Imports what only the virtual environment has."""
    import only_in_venv
    return only_in_venv.VALUE


not_callable = 5
