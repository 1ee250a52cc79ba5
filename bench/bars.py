"""What is to be reached, all of it within one run."""

import os
from typing import Callable, NamedTuple, Tuple

from bench.harness.twinpool import NO_OP_BYTES


class Bar(NamedTuple):
    """Holds if function(*medians of a round) is at most, or at least, the limit; judged by the rounds' median."""

    name: str
    text: str
    needs: Tuple[str, ...]
    function: Callable
    least: float = None
    most: float = None


def ratio(value, base):
    """value / base."""
    return value / base


def difference(value, base):
    """value - base."""
    return value - base


def ratio_to_best(value, *others):
    """value / the largest of the others."""
    return value / max(others)


def _of_both_pools():
    for pool in ("process", "thread"):
        yield Bar(f"{pool}: jobs at 64 clients", "at least 0.50 of the bare server's",
                  (f"pools/{pool}/64/rate", "limit/64/rate"), ratio, least=0.5)
        yield Bar(f"{pool}: p99 at 16 clients", "at most 4 × the bare server's",
                  (f"pools/{pool}/16/p99", "limit/16/p99"), ratio, most=4)
        yield Bar(f"{pool}: added to the median round trip, idle", "at most 60 µs",
                  (f"pools/{pool}/1/p50", "limit/1/p50"), difference, most=60)


def _of_rivals():
    ours = "pools/{}/64/rate".format
    yield Bar("process against ProcessPoolExecutor", "at least 12 ×",
              (ours("process"), "rivals/aiohttp_process/rate"), ratio, least=12)
    yield Bar("thread against ThreadPoolExecutor", "at least 4.5 ×",
              (ours("thread"), "rivals/aiohttp_thread/rate"), ratio, least=4.5)
    yield Bar("process against the best of gunicorn's prefork workers", "at least 3 ×",
              (ours("process"), "rivals/gunicorn_sync/rate", "rivals/gunicorn_prefork_gthread/rate"),
              ratio_to_best, least=3)
    yield Bar("process against the best of uWSGI's prefork", "ahead",
              (ours("process"), "rivals/uwsgi_prefork/rate", "rivals/uwsgi_prefork_router/rate"),
              ratio_to_best, least=1)
    yield Bar("thread against uWSGI's threads", "ahead",
              (ours("thread"), "rivals/uwsgi_threads/rate"), ratio, least=1)


def _of_costs():
    yield Bar("a queued job, above its body", "at most 1 KiB", ("memory/queued",),
              lambda found: found - NO_OP_BYTES, most=1024)
    for what in ("enqueue", "dispatch"):
        yield Bar(f"{what} with 1,000,000 queued", "at most 1.5 × that with 10",
                  (f"depth/1000000/{what}", f"depth/10/{what}"), ratio, most=1.5)
    for pool in ("process", "thread"):
        yield Bar(f"{pool}: what metering takes of the jobs", "at most 20 %",
                  (f"metering/{pool}/with/rate", f"metering/{pool}/without/rate"),
                  lambda with_it, without: 100 * (1 - with_it / without), most=20)
    yield Bar("a command job", "at most 1.3 × a bare vfork + exec + wait",
              ("commands/process/1/p50", "commands/bare"), ratio, most=1.3)
    yield Bar("a waiting client", "at most 8 KiB of the server's memory", ("memory/waiter",),
              lambda found: found, most=8192)


def _of_cores():
    cores = len(os.sched_getaffinity(0))
    for kind in ("process", "thread"):
        yield Bar(f"{cores} {kind} workers against one, on work for the CPU", f"at least 0.95 × {cores}",
                  (f"cores/{kind}_all/rate", f"cores/{kind}_one/rate"), ratio, least=0.95 * cores)


BARS = (
    *_of_both_pools(),
    *_of_rivals(),
    *_of_costs(),
    *_of_cores(),
    Bar("cold start to the first answered job", "at most 100 ms", ("startup/answered",),
        lambda value: value, most=100),
)


def judge(figures):
    """A dictionary for each bar whose figures were measured."""
    judged = []
    for bar in BARS:
        if not figures.has(*bar.needs):
            continue
        spread = figures.combined(bar.function, *bar.needs)
        if spread is None:
            continue
        passed = spread.median >= bar.least if bar.least is not None else spread.median <= bar.most
        judged.append({"bar": bar.name, "text": bar.text, "spread": spread, "passed": passed})
    return judged
