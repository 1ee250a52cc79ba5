"""What is to be reached, all of it within one run."""

from typing import Callable, NamedTuple, Tuple


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


def _of_both_pools():
    for pool in ("process", "thread"):
        yield Bar(f"{pool}: jobs at 64 clients", "at least 0.50 of the bare server's",
                  (f"pools/{pool}/64/rate", "limit/64/rate"), ratio, least=0.5)
        yield Bar(f"{pool}: p99 at 16 clients", "at most 4 × the bare server's",
                  (f"pools/{pool}/16/p99", "limit/16/p99"), ratio, most=4)
        yield Bar(f"{pool}: added to the median round trip, idle", "at most 60 µs",
                  (f"pools/{pool}/1/p50", "limit/1/p50"), difference, most=60)


BARS = (
    *_of_both_pools(),
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
