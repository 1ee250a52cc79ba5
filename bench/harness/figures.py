"""Samples of each round, and what is told of them: medians, spreads, ratios.

A ratio is formed within each round, from two measurements that lie seconds apart, and only then the median of the
rounds' ratios is taken: what slows the whole machine down for a while slows down both.
"""

import statistics
from typing import NamedTuple


class Spread(NamedTuple):
    """The median of some samples, the least and the largest of them, and how many there were."""

    median: float
    low: float
    high: float
    count: int

    def as_json(self):
        """For the JSON report."""
        return dict(self._asdict())


def spread_of(values):
    """The Spread of a list of numbers; None of an empty one."""
    values = list(values)
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


class Figures:
    """Everything that was measured: by name, one sample a round at most."""

    def __init__(self):
        self._samples = {}  # name -> {round: value}
        self._units = {}

    def add(self, name, number, value, unit):
        """One sample of the round with this number."""
        self._samples.setdefault(name, {})[number] = float(value)
        self._units[name] = unit

    def names(self):
        """All names, in the order in which they were first measured."""
        return list(self._samples)

    def unit(self, name):
        """What the samples of a name are counted in."""
        return self._units[name]

    def has(self, *names):
        """Whether there is a sample of each of them."""
        return all(self._samples.get(name) for name in names)

    def spread(self, name):
        """Of all rounds; None if it was not measured."""
        return spread_of(self._samples.get(name, {}).values())

    def combined(self, function, *names):
        """The Spread of function(a, b, …) over the rounds in which all names were measured."""
        rounds = set.intersection(*(set(self._samples.get(name, {})) for name in names))
        return spread_of(function(*(self._samples[name][number] for name in names))
                         for number in sorted(rounds))

    def ratio(self, name, base):
        """name / base, round by round."""
        return self.combined(lambda value, of: value / of if of else float("inf"), name, base)

    def as_json(self):
        """For the JSON report: each name with its unit, samples and spread."""
        return {name: {"unit": self._units[name],
                       "samples": [by_round[number] for number in sorted(by_round)],
                       **self.spread(name).as_json()}
                for name, by_round in self._samples.items()}
