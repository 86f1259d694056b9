"""The pulse of a migration: what happens just now, and how it went in the last minutes.

It is taken from totals that only grow, whoever counted them. Processes hand their counts on every few seconds, so a
rate is that of a window of several such moments, or it would jump.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from harness.evidence import settled
from harness.routing import Store
from harness.sketch import Sketch
from harness.statistics import Result, Role, Statistics

POINTS = 30
LATELY = 60.0  # seconds that quantiles and errors speak of, at least
_LEAST_WINDOW = 10.0


@dataclass(frozen=True, slots=True)
class Tally:
    """The few figures of a total that are looked at. Served operations, and all calls' failures and durations."""

    served: Mapping[Store, int]
    failed: Mapping[Store, int]
    durations: Mapping[Store, Sketch]
    compared: int
    mismatched: int

    def since(self, earlier: Tally) -> Tally:
        """What came in addition; never less than nothing, should a total have begun anew."""
        return Tally(
            {store: max(0, n - earlier.served[store]) for store, n in self.served.items()},
            {store: max(0, n - earlier.failed[store]) for store, n in self.failed.items()},
            {store: _beyond(sketch, earlier.durations[store]) for store, sketch in self.durations.items()},
            max(0, self.compared - earlier.compared),
            max(0, self.mismatched - earlier.mismatched),
        )


@dataclass(frozen=True, slots=True)
class Point:
    """One moment of the past; None where nothing is known of it."""

    operations_per_second: float | None = None
    mismatch_rate: float | None = None
    p99_seconds: float | None = None  # of new
    lag_seconds: float | None = None  # the greater of both stores'


def tally(total: Statistics) -> Tally:
    results = total.results()
    failed = dict.fromkeys(Store, 0)
    for (_, store, _), n in total.errors.items():
        failed[store] += n
    return Tally(
        {store: total.latency(store, Role.SERVED).count for store in Store},
        failed,
        {store: total.latency(store) for store in Store},
        settled(results),
        results[Result.MISMATCHED],
    )


NOTHING = tally(Statistics())
UNKNOWN: dict[str, Any] = {  # what ``Pulse.now`` says where nobody could look
    "operations_per_second": {"legacy": None, "new": None},
    "compared_per_second": None,
    "lately_seconds": None,
    "errors_lately": {"legacy": None, "new": None},
    "latency_seconds": {"legacy": {"p50": None, "p99": None}, "new": {"p50": None, "p99": None}},
}


def window_of(roll_up_seconds: float) -> float:
    """Seconds over which rates are taken where processes hand their counts on so often."""
    return max(_LEAST_WINDOW, 3 * roll_up_seconds)


class Pulse:
    """Takes looks at a growing total. Not for several threads.

    ``age``: how many seconds before the first look the total begins. ``past``: points of the time before it, oldest
    first, each as long as the window.
    """

    def __init__(self, window: float, at: float, age: float, past: Sequence[Point] = ()) -> None:
        self._window, self._began = window, at
        self._marks: deque[tuple[float, Tally]] = deque([(at - age, NOTHING)])
        self._points = deque(past, maxlen=POINTS)
        self._slot: tuple[float, Tally] | None = None
        self._worst: float | None = None

    def take(self, at: float, total: Tally, lag: float | None) -> None:
        """Look at the total at a moment of the monotonic clock; ``lag`` in seconds, None if it could not be read."""
        self._marks.append((at, total))
        while len(self._marks) > 2 and at - self._marks[1][0] >= LATELY:
            self._marks.popleft()
        self._begin_point(at, total)
        if lag is not None:
            self._worst = max(lag, self._worst or 0.0)

    def now(self) -> dict[str, Any]:
        """Rates of the last window, quantiles and errors of about the last minute, as JSON."""
        at, latest = self._marks[-1]
        began, earliest = self._marks[0]
        lately = latest.since(earliest)
        return {
            **self._rates(),
            "lately_seconds": round(at - began, 1),
            "errors_lately": {store.value: n for store, n in lately.failed.items()},
            "latency_seconds": {
                store.value: {"p50": sketch.quantile(0.5), "p99": sketch.quantile(0.99)}
                for store, sketch in lately.durations.items()
            },
        }

    def history(self) -> dict[str, Any]:
        """The last points, oldest first, by name; ``seconds`` is how long each lasted."""
        missing = [Point()] * (POINTS - len(self._points))
        rows = [asdict(point) for point in (*missing, *self._points)]
        return {"seconds": self._window, **{each.name: [row[each.name] for row in rows] for each in fields(Point)}}

    def _rates(self) -> dict[str, Any]:
        at, latest = self._marks[-1]
        within = [mark for mark in self._marks if mark[0] >= self._began]
        long_enough = [mark for mark in within if at - mark[0] >= self._window]
        began, base = long_enough[-1] if long_enough else within[0]
        seconds = at - began
        if seconds < self._window / 3:
            return {name: UNKNOWN[name] for name in ("operations_per_second", "compared_per_second")}
        made = latest.since(base)
        return {
            "operations_per_second": {store.value: n / seconds for store, n in made.served.items()},
            "compared_per_second": made.compared / seconds,
        }

    def _begin_point(self, at: float, total: Tally) -> None:
        if self._slot is None:
            self._slot = (at, total)
            return
        began, base = self._slot
        seconds = at - began
        if seconds < self._window:
            return
        if seconds < 2 * self._window:
            self._points.append(point_of(total.since(base), seconds, self._worst))
        else:  # nobody could look for a while
            self._points.extend([Point()] * min(POINTS, int(seconds // self._window)))
        self._slot, self._worst = (at, total), None


def point_of(made: Tally, seconds: float, lag: float | None) -> Point:
    return Point(
        sum(made.served.values()) / seconds,
        made.mismatched / made.compared if made.compared else None,
        made.durations[Store.NEW].quantile(0.99),
        lag,
    )


def past_points(
    by_minute: Sequence[tuple[datetime, Statistics]],
    lag_by_minute: Sequence[tuple[datetime, Mapping[Store, float]]],
    now: datetime,
    window: float,
) -> list[Point]:
    """What the minutes before ``now`` say, in points as long as the window; each is what its minute was on average."""
    lags = {minute: max(lag.values(), default=None) for minute, lag in lag_by_minute}
    known = {minute: tally(counted) for minute, counted in by_minute}
    points = []
    for back in range(POINTS, 0, -1):
        minute = (now - timedelta(seconds=(back - 0.5) * window)).replace(second=0, microsecond=0)
        seconds = min(60.0, (now - minute).total_seconds())
        made, lag = known.get(minute, NOTHING), lags.get(minute)
        points.append(point_of(made, seconds, lag) if seconds >= window else Point(lag_seconds=lag))
    return points


def _beyond(sketch: Sketch, earlier: Sketch) -> Sketch:
    found = Sketch()
    found.buckets = sketch.buckets - earlier.buckets
    found.count = found.buckets.total()
    found.total = max(0.0, sketch.total - earlier.total)
    return found
