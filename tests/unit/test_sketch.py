"""The latency sketch: quantiles within one percent, mergeable, and unharmed by a trip through JSON."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from harness.sketch import ACCURACY, Sketch

durations = st.lists(st.floats(1e-7, 1e3), min_size=1, max_size=200)


def sketched(values: list[float]) -> Sketch:
    sketch = Sketch()
    sketch.add_all(values)
    return sketch


@given(durations, st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_quantiles_are_within_the_bound(values: list[float], q: float) -> None:
    """Each quantile is within the promised share of the value at its rank."""
    exact = sorted(values)[int(q * (len(values) - 1))]
    found = sketched(values).quantile(q)
    assert found is not None
    assert abs(found - exact) <= ACCURACY * exact * 1.0001


@given(durations, durations)
def test_merging_is_adding_all(one: list[float], other: list[float]) -> None:
    """Two sketches merged are the sketch of both together."""
    merged = sketched(one)
    merged.merge(sketched(other))
    whole = sketched(one + other)
    assert (merged.buckets, merged.count) == (whole.buckets, whole.count)


@given(durations)
def test_dump_and_load_change_nothing(values: list[float]) -> None:
    """What was dumped, as JSON, loads as the same sketch."""
    sketch = sketched(values)
    again = Sketch.load(json.loads(json.dumps(sketch.dump())))
    assert (again.buckets, again.count, again.total) == (sketch.buckets, sketch.count, sketch.total)


def test_nothing_has_no_quantile() -> None:
    """Of no durations there is no quantile, rather than a zero."""
    assert Sketch().quantile(0.5) is None


def test_no_time_at_all_is_counted() -> None:
    """A duration of zero counts, as the shortest one that is told apart."""
    assert (found := sketched([0.0]).quantile(0.5)) is not None
    assert found < 1e-8
