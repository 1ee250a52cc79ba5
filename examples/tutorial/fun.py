"""The tutorial's function, once for the processor and once for waiting."""

import os
import threading
import time

import twinpool


def fun(name, n=2_000_000):
    """Says who runs it, computes for about a third of a second, and says so again."""
    print(f"{name} starts in process {os.getpid()}, thread {threading.get_native_id()}")
    total = 0
    for number in range(n):
        total += number * number % 7
    print(f"{name} is done on the pool {twinpool.pool()}")
    return {"name": name, "total": total}


def wait(name, seconds=0.5):
    """The same for a function that only waits, as for a network or a disk."""
    print(f"{name} starts in process {os.getpid()}, thread {threading.get_native_id()}")
    time.sleep(seconds)
    print(f"{name} is done on the pool {twinpool.pool()}")
    return {"name": name}
