"""What settling two equal answers costs: ``==`` on frozen values, as the shadow does it first, against DeepDiff."""

from __future__ import annotations

from copy import deepcopy

from deepdiff import DeepDiff

from benchmarks.router import Record
from benchmarks.row import Row, flat_out
from harness.compare import Comparison, Outcome, Pair


def measure() -> list[Row]:
    one = Record(7, "name 7", "text " * 40, "custom", "scope", True, 1, 1.5)
    same = deepcopy(one)
    other = Record(7, "name 8", "text " * 40, "custom", "scope", True, 1, 1.5)
    equal, unequal = Pair(Outcome(one), Outcome(same)), Pair(Outcome(one), Outcome(other))
    comparison = Comparison()
    return [
        Row("bare ==, equal records of 8 fields", flat_out(lambda: one == same, 0.5)),
        Row("compare, equal records", flat_out(lambda: equal.alike, 0.5)),
        Row("DeepDiff, equal records", flat_out(lambda: DeepDiff(one, same), 0.5)),
        Row("compare, unequal records", flat_out(lambda: comparison.differences(unequal), 0.5), note="off-thread"),
    ]
