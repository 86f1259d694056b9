"""The pulse: rates, quantiles and curves out of totals that only grow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from harness.pulse import POINTS, UNKNOWN, Point, Pulse, past_points, tally, window_of
from harness.routing import Store
from harness.statistics import Result, Role, Statistics

WINDOW = 15.0


def total(calls: int, *, seconds: float = 0.01, matched: int = 0, mismatched: int = 0, failed: int = 0) -> Statistics:
    """So many calls of legacy, and half as many of new."""
    found = Statistics()
    found.latencies["find", Store.LEGACY, Role.SERVED].add_all([seconds] * calls)
    found.latencies["find", Store.NEW, Role.SERVED].add_all([seconds / 2] * (calls // 2))
    found.latencies["find", Store.NEW, Role.SHADOWED].add_all([seconds / 2] * calls)
    found.comparisons["find", Result.MATCHED] = matched
    found.comparisons["find", Result.MISMATCHED] = mismatched
    found.comparisons["find", Result.NOT_COMPARED] = 7
    found.errors["find", Store.NEW, Role.SHADOWED] = failed
    return found


def followed(seconds: int, per_second: int, lag: float | None = 0.5) -> Pulse:
    """A pulse taken every second of a steady flow, of which half is compared."""
    pulse = Pulse(WINDOW, 100.0, 60.0)
    for n in range(seconds + 1):
        pulse.take(100.0 + n, tally(total(n * per_second, matched=n * per_second // 2)), lag)
    return pulse


def test_rates_are_those_of_the_window() -> None:
    """Served operations by store and settled comparisons, per second; what was before the window does not count."""
    pulse = followed(20, 100)
    now = pulse.now()
    assert now["operations_per_second"] == {"legacy": pytest.approx(100), "new": pytest.approx(50)}
    assert now["compared_per_second"] == pytest.approx(50)
    for n in range(16):  # and then nothing more happens
        pulse.take(121.0 + n, tally(total(2000, matched=1000)), 0.0)
    assert pulse.now()["operations_per_second"] == {"legacy": 0, "new": 0}


def test_a_rate_is_not_told_of_a_moment() -> None:
    """Within the first seconds there is none: counts come in steps."""
    assert followed(4, 100).now()["operations_per_second"] == UNKNOWN["operations_per_second"]
    assert followed(5, 100).now()["compared_per_second"] == pytest.approx(50)


def test_quantiles_and_errors_speak_of_the_last_minute() -> None:
    """What is older than about a minute has no part in them; before that, what the total held at the first look."""
    pulse = Pulse(WINDOW, 0.0, 90.0)
    pulse.take(0.0, tally(total(100, seconds=0.2, failed=5)), None)
    now = pulse.now()
    assert (now["lately_seconds"], now["errors_lately"]) == (90, {"legacy": 0, "new": 5})
    assert now["latency_seconds"]["legacy"]["p99"] == pytest.approx(0.2, rel=0.02)
    later = total(100, seconds=0.2, failed=5)
    later.merge(total(50, seconds=0.01, failed=1))
    for n in range(1, 100):
        pulse.take(float(n), tally(total(100, seconds=0.2, failed=5) if n < 60 else later), None)
    now = pulse.now()
    assert now["errors_lately"] == {"legacy": 0, "new": 1}
    assert now["latency_seconds"]["legacy"]["p99"] == pytest.approx(0.01, rel=0.02)
    assert 60 <= now["lately_seconds"] <= 61


def test_no_call_has_no_quantile() -> None:
    """Nothing is None, never 0 seconds."""
    pulse = Pulse(WINDOW, 0.0, 60.0)
    pulse.take(0.0, tally(Statistics()), 0.0)
    assert pulse.now()["latency_seconds"] == UNKNOWN["latency_seconds"]


def test_a_point_for_each_window() -> None:
    """Points come one by one, the newest last, and the worst lag of each stays."""
    pulse = followed(31, 100)
    pulse.take(132.0, tally(total(3200)), 9.0)
    history = pulse.history()
    assert history["seconds"] == WINDOW
    assert history["operations_per_second"] == [None] * (POINTS - 2) + [pytest.approx(150)] * 2
    assert history["lag_seconds"][-2:] == [0.5, 0.5]
    assert history["mismatch_rate"][-2:] == [0, 0]
    assert history["p99_seconds"][-1] == pytest.approx(0.005, rel=0.02)
    for n in range(133, 147):
        pulse.take(float(n), tally(total(n * 100 - 10_000)), 0.1)
    assert pulse.history()["lag_seconds"][-1] == 9.0


def test_a_gap_is_a_gap() -> None:
    """While nobody could look, nothing is known: no point is made up, and the window after it is a whole one."""
    pulse = followed(15, 100)
    pulse.take(115.0 + 4 * WINDOW, tally(total(6000)), 0.5)
    pulse.take(115.0 + 5 * WINDOW, tally(total(6000 + 1500)), 0.5)
    rates = pulse.history()["operations_per_second"]
    assert rates[-6:] == [pytest.approx(150), None, None, None, None, pytest.approx(150)]


def test_a_total_that_began_anew_is_no_negative_rate() -> None:
    """Whatever the ledger says, rates are never below nothing."""
    pulse = followed(20, 100)
    pulse.take(136.0, tally(total(10)), 0.0)
    assert pulse.now()["operations_per_second"] == {"legacy": 0, "new": 0}


def test_the_past_is_that_of_the_ledgers_minutes() -> None:
    """Before the first look, each point is its minute's average; a minute without a row served nothing."""
    now = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)
    minutes = [(now.replace(second=0), total(60)), (now.replace(second=0) - timedelta(minutes=1), total(1200))]
    lags = [(now.replace(second=0) - timedelta(minutes=1), {Store.LEGACY: 2.0, Store.NEW: 0.0})]
    points = past_points(minutes, lags, now, WINDOW)
    assert len(points) == POINTS
    assert [point.operations_per_second for point in points[-7:]] == pytest.approx([0, 30, 30, 30, 30, 3, 3])
    assert [point.lag_seconds for point in points[-7:]] == [None, 2, 2, 2, 2, None, None]
    soon = now.replace(second=5)
    assert past_points([], [], soon, WINDOW)[-1] == Point(0.0)  # its middle lies in the minute before
    assert past_points([], [], now.replace(second=8), WINDOW)[-1] == Point()  # too young to tell


def test_windows_hold_several_hand_overs() -> None:
    """However seldom processes hand their counts on."""
    assert (window_of(0.5), window_of(5.0), window_of(20.0)) == (10.0, 15.0, 60.0)
