"""That the benchmark forms its ratios, and judges its bars, as bench/README.md says."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

# pylint: disable=wrong-import-position
from bench import bars, parts  # noqa: E402
from bench.harness import report  # noqa: E402
from bench.harness.bench import Row  # noqa: E402
from bench.harness.figures import Figures, Spread  # noqa: E402


class FiguresTest(unittest.TestCase):
    """Rounds, medians, ratios."""

    def setUp(self):
        self.figures = Figures()
        for number, (ours, theirs) in enumerate(((10, 20), (40, 50), (90, 100))):
            self.figures.add("ours", number, ours, "/s")
            self.figures.add("theirs", number, theirs, "/s")

    def test_a_ratio_is_the_median_of_the_rounds_ratios(self):
        self.assertEqual(self.figures.ratio("ours", "theirs"), Spread(0.8, 0.5, 0.9, 3))

    def test_an_inverted_row_turns_the_ratio_round(self):
        row = Row("", "ours", "theirs", inverted=True)
        self.assertEqual(row.ratio(self.figures), Spread(1.25, 100 / 90, 2.0, 3))

    def test_only_rounds_with_both_count(self):
        self.figures.add("late", 2, 45, "/s")
        self.assertEqual(self.figures.ratio("late", "ours"), Spread(0.5, 0.5, 0.5, 1))

    def test_a_row_without_base_has_no_ratio(self):
        self.assertIsNone(Row("", "ours").ratio(self.figures))
        self.assertIsNone(Row("", "ours", "absent").ratio(self.figures))

    def test_spreads_are_told_in_words(self):
        self.assertEqual(report.spread_text(self.figures.spread("theirs")), "50 (20 – 100)")


class BarsTest(unittest.TestCase):
    """Pass and miss, by the median."""

    @staticmethod
    def _judged(figures):
        return {bar["bar"]: bar["passed"] for bar in bars.judge(figures)}

    def test_a_bar_from_below(self):
        for ours, passed in ((50, True), (49, False)):
            figures = Figures()
            for number, noise in enumerate((0, 40, -40)):
                figures.add("pools/process/64/rate", number, ours + noise, "/s")
                figures.add("limit/64/rate", number, 100, "/s")
            self.assertEqual(self._judged(figures), {"process: jobs at 64 clients": passed})

    def test_a_bar_from_above(self):
        for p50, passed in ((90, True), (91, False)):
            figures = Figures()
            figures.add("pools/thread/1/p50", 0, p50, "µs")
            figures.add("limit/1/p50", 0, 30, "µs")
            self.assertEqual(self._judged(figures),
                             {"thread: added to the median round trip, idle": passed})

    def test_what_was_not_measured_is_not_judged(self):
        self.assertEqual(bars.judge(Figures()), [])

    def test_every_bar_has_one_limit(self):
        for bar in bars.BARS:
            self.assertNotEqual(bar.least is None, bar.most is None, bar.name)


class PartsTest(unittest.TestCase):
    """The list of parts."""

    def test_every_part_can_be_had_and_has_its_own_name(self):
        for name in parts.MODULES:
            self.assertEqual(parts.part_class(name).name, name)

    def test_needs_come_along_in_order(self):
        self.assertEqual(parts.with_needs(["rivals"]), ["limit", "pools", "rivals"])


if __name__ == "__main__":
    unittest.main()
