"""What happened while both stores ran side by side: by operation, by latency and over time."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from harness.evidence import Evidence, settled
from harness.routing import Store
from harness.sequences import bounds
from harness.sketch import Sketch
from harness.statistics import Result, Role, Statistics
from reports.wording import iso

ALPHA = 0.05  # of the interval around a point's mismatch rate: a picture of chance, no gate

_POINTS = 240  # of a plot over time, at most
_MINUTE = timedelta(minutes=1)
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_STEPS = 48  # of a distribution, at most


def operations(evidence: Evidence) -> dict[str, Any]:
    """What was served, compared and found, by operation and for all together."""
    names = evidence.statistics.operations
    return {"all": _operation(evidence, None), "rows": [_operation(evidence, name) for name in names]}


def _operation(evidence: Evidence, operation: str | None) -> dict[str, Any]:
    statistics = evidence.statistics
    results = statistics.results(operation)
    compared = settled(results)

    def failed(store: Store) -> int:
        return sum(n for key, n in statistics.errors.items() if key[1] is store and operation in (None, key[0]))

    def of(counter: Counter[str]) -> int:
        return counter.total() if operation is None else counter[operation]

    return {
        "operation": operation,
        "kind": None if operation is None else "write" if operation in evidence.writes else "read",
        "served": {store.value: statistics.latency(store, Role.SERVED, operation).count for store in Store},
        "compared": compared,
        "matched": results[Result.MATCHED],
        "ignored": results[Result.IGNORED],
        "mismatched": results[Result.MISMATCHED],
        "mismatch_rate": results[Result.MISMATCHED] / compared if compared else None,
        "transient": results[Result.TRANSIENT],
        "not_compared": results[Result.NOT_COMPARED],
        "errors": {store.value: failed(store) for store in Store},
        "fallbacks": of(statistics.fallbacks),
        "rerouted": of(statistics.rerouted),
        "unrecorded": of(statistics.unrecorded),
    }


def latency(evidence: Evidence) -> list[dict[str, Any]]:
    """Each operation's latency in both stores, served and shadowed calls together."""
    rows = []
    for name in evidence.statistics.operations:
        row: dict[str, Any] = {"operation": name}
        for store in Store:
            sketch = evidence.statistics.latency(store, None, name)
            row[store.value] = {"calls": sketch.count} | {key: sketch.quantile(q) for key, q in _QUANTILES.items()}
            steps = sketch.cumulative(_STEPS)
            row[store.value]["distribution"] = [{"seconds": at, "share": share} for at, share in steps]
        legacy, new = row["legacy"]["p99"], row["new"]["p99"]
        row["p99_ratio"] = new / legacy if new and legacy else None
        rows.append(row)
    return rows


@dataclass(slots=True)
class _Point:
    """What the minutes of one point hold together."""

    counted: Statistics = field(default_factory=Statistics)
    lag: dict[str, float] = field(default_factory=dict)

    def document(self, at: datetime) -> dict[str, Any]:
        results = self.counted.results()
        compared, mismatched = settled(results), results[Result.MISMATCHED]
        low, high = bounds(mismatched, compared, ALPHA) if compared else (None, None)
        return {
            "at": iso(at),
            "compared": compared,
            "mismatched": mismatched,
            "not_compared": results[Result.NOT_COMPARED],
            "mismatch_rate": mismatched / compared if compared else None,
            "rate_low": low,
            "rate_high": high,
            "latency": {store.value: _brief(self.counted.latency(store)) for store in Store},
            "lag": self.lag,
        }


def _brief(sketch: Sketch) -> dict[str, Any]:
    return {"calls": sketch.count, "p50": sketch.quantile(0.5), "p99": sketch.quantile(0.99)}


def over_time(evidence: Evidence) -> dict[str, Any]:
    """Comparisons, mismatches, latency and lag, in at most 240 points of equally many minutes.

    Idle times have no point. ``first`` and ``until`` hold the acts of the same time too; acts before it do not count.
    """
    counted = [at for at, _ in evidence.by_minute] + [at for at, _ in evidence.lag_by_minute]
    if not counted:
        return {"minutes_per_point": 1, "points": [], "first": None, "until": None, "confidence": 1 - ALPHA}
    stretch = evidence.minutes * _MINUTE
    first = _begin(min(counted), evidence, stretch)
    last = max([*counted, *(entry.at for entry in evidence.acts)])
    # As many whole stretches as it takes: no stretch is parted, and each point has equally many.
    width = stretch * max(1, math.ceil((last - first + stretch) / stretch / _POINTS))
    minutes = width // _MINUTE
    points: dict[int, _Point] = {}
    for at, statistics in evidence.by_minute:
        points.setdefault((at - first) // width, _Point()).counted.merge(statistics)
    for at, lags in evidence.lag_by_minute:
        kept = points.setdefault((at - first) // width, _Point()).lag
        for store, seconds in lags.items():
            kept[store.value] = max(seconds, kept.get(store.value, 0.0))
    return {
        "minutes_per_point": minutes,
        "first": iso(first),
        "until": iso(first + ((last - first) // width + 1) * width),
        "points": [points[place].document(first + place * width) for place in sorted(points)],
        "confidence": 1 - ALPHA,
    }


def _begin(first: datetime, evidence: Evidence, stretch: timedelta) -> datetime:
    """The last moment up to the first of all from which on stretches begin with points."""
    if not evidence.by_minute:
        return first
    counted = evidence.by_minute[0][0]
    return counted - math.ceil((counted - first) / stretch) * stretch
