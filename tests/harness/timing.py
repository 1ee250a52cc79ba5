"""Deadlines: everything that a test waits for is bounded, and no test sleeps and hopes."""

import os
import time

SANITIZER = os.environ.get("TWINPOOL_SANITIZER", "")

# A sanitizer slows the service down, so every deadline grows by the same factor.
SCALE = 4 if SANITIZER else 1


def seconds(value):
    """A deadline of `value` seconds on an ordinary build, scaled for a sanitizer's."""
    return value * SCALE


def wait_until(predicate, what, deadline=10):
    """Polls until predicate() is truthy and answers that value.

    Fails, naming `what`, when `deadline` (scaled) seconds have passed.
    """
    end = time.monotonic() + seconds(deadline)
    pause = 0.002
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {seconds(deadline)} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
