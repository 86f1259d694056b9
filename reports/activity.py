"""What happened while both stores ran side by side: by operation, by latency and over time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from harness.evidence import Evidence, settled
from harness.routing import Store
from harness.statistics import Result, Role
from reports.wording import iso

_POINTS = 240  # of a plot over time, at most
_MINUTE = timedelta(minutes=1)
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


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
        legacy, new = row["legacy"]["p99"], row["new"]["p99"]
        row["p99_ratio"] = new / legacy if new and legacy else None
        rows.append(row)
    return rows


def over_time(evidence: Evidence) -> dict[str, Any]:
    """Comparisons, mismatches and lag, in at most 240 points of equally many minutes. Idle times have no point."""
    stamps = [at for at, _ in evidence.by_minute] + [at for at, _ in evidence.lag_by_minute]
    if not stamps:
        return {"minutes_per_point": 1, "points": [], "first": None, "until": None}
    first, last = min(stamps), max(stamps)
    minutes = max(1, math.ceil((last - first + _MINUTE) / _MINUTE / _POINTS))
    place = _placing(first, minutes)
    points: dict[int, dict[str, Any]] = {}
    for at in sorted(stamps):
        begin = first + place(at) * minutes * _MINUTE
        points.setdefault(place(at), {"at": iso(begin), "compared": 0, "mismatched": 0, "not_compared": 0, "lag": {}})
    for at, counted in evidence.by_minute:
        point, results = points[place(at)], counted.results()
        point["compared"] += settled(results)
        point["mismatched"] += results[Result.MISMATCHED]
        point["not_compared"] += results[Result.NOT_COMPARED]
    for at, lags in evidence.lag_by_minute:
        kept = points[place(at)]["lag"]
        for store, seconds in lags.items():
            kept[store.value] = max(seconds, kept.get(store.value, 0.0))
    until = first + (place(last) + 1) * minutes * _MINUTE
    return {
        "minutes_per_point": minutes,
        "first": iso(first),
        "until": iso(until),
        "points": [points[at] for at in sorted(points)],
    }


def _placing(first: datetime, minutes: int) -> Callable[[datetime], int]:
    return lambda at: (at - first) // (minutes * _MINUTE)
