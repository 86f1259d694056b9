"""The gate of latency: both stores' quantiles, of the same calls where both answered them.

A quantile's bounds are a confidence sequence too: whether a call is at most as long as the quantile is a coin of known
chance, so the counts below and above a duration rule it out, or do not (S. R. Howard, A. Ramdas, "Sequential estimation
of quantiles with applications to A/B testing and best-arm identification", Bernoulli 28(3), 2022, do the same with
tighter mixtures). They decide a fail. A pass is the estimate's, over enough calls: tails are too thin for more.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from harness.evidence import Evidence
from harness.gates.finding import Finding, Terms, failed, inconclusive, passed
from harness.gates.rates import alpha_of_one
from harness.routing import Store
from harness.sequences import Side, side
from harness.sketch import Sketch
from harness.statistics import Role
from harness.words import duration, named

TAIL_CALLS = 100  # a 99th percentile of fewer calls is their maximum, and says little
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Quantile:
    """Seconds: as estimated, and as it is for certain. ``high`` is infinite while too few calls were longer."""

    estimate: float
    low: float
    high: float


def quantile(sketch: Sketch, q: float, alpha: float) -> Quantile:
    """A quantile of a sketch that is not empty, with bounds that hold at all times."""
    n = sketch.count

    def where(below: int) -> Side:
        """Where the share of longer calls is, of what it would be at the quantile, if so many are no longer."""
        return side(n - below, n, 1 - q, alpha)

    counts = range(n + 1)
    low = bisect_left(counts, True, key=lambda below: where(below) is not Side.ABOVE) - 1
    high = bisect_left(counts, True, key=lambda below: where(below) is Side.WITHIN)
    estimate = sketch.quantile(q)
    assert estimate is not None  # noqa: S101 - the caller has looked; for the type checker
    return Quantile(
        estimate,
        sketch.around(low)[0] if low >= 0 else 0.0,
        sketch.around(high - 1)[1] if high <= n else math.inf,
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """One quantile of one operation in both stores."""

    name: str
    legacy: Quantile
    new: Quantile

    def told(self) -> str:
        legacy, new = self.legacy.estimate, self.new.estimate
        return f"{self.name} {new / legacy:.2f} times ({duration(legacy)} → {duration(new)})"

    def figures(self) -> dict[str, float | None]:
        legacy, new = self.legacy, self.new
        return {
            "legacy": legacy.estimate,
            "legacy_low": legacy.low,
            "legacy_high": None if math.isinf(legacy.high) else legacy.high,
            "new": new.estimate,
            "new_low": new.low,
            "new_high": None if math.isinf(new.high) else new.high,
            "ratio": new.estimate / legacy.estimate,
        }


def latency(evidence: Evidence, terms: Terms) -> Finding:
    settings, thin, judged = terms.settings, [], dict[str, dict[str, Comparison]]()
    names = evidence.statistics.operations
    alpha = alpha_of_one(evidence, terms) / (len(QUANTILES) * len(Store))
    for name in names:
        legacy, new = (_calls(evidence, name, store) for store in Store)
        if min(legacy.count, new.count) < TAIL_CALLS:
            if new.count or name not in evidence.writes:
                thin.append(name)
            continue
        judged[name] = {
            p: Comparison(f"{name} {p}", quantile(legacy, q, alpha), quantile(new, q, alpha))
            for p, q in QUANTILES.items()
        }
    few = f"fewer than {TAIL_CALLS} calls of both stores: {named(thin)}" if thin else ""
    if not judged:
        return inconclusive(few or "no operation was timed", "crossfade run")
    every = [each for of_one in judged.values() for each in of_one.values()]
    certain = [each for each in every if _slower(each.new.low, each.legacy.high, terms)]
    seeming = [each for each in every if _slower(each.new.estimate, each.legacy.estimate, terms)]
    limit = f"limit {settings.max_slowdown:g} times"
    figures: dict[str, Any] = {
        "limit": settings.max_slowdown,
        "alpha_fail": terms.alpha_fail,
        "operations": {
            name: {"calls": {store.value: _calls(evidence, name, store).count for store in Store}}
            | {p: each.figures() for p, each in of_one.items()}
            for name, of_one in judged.items()
        },
    }
    if certain:
        told = named([each.told() for each in certain])
        return failed(f"new's over legacy's, for certain beyond the {limit}: {told}", _NEXT, **figures)
    if seeming:
        text = f"new's over legacy's, beyond the {limit}, but not for certain"
        told = named([each.told() for each in seeming])
        return inconclusive(f"{text}: {told}", "crossfade run", **figures)
    text = f"new's over legacy's: {named([of_one['p99'].told() for of_one in judged.values()])}; {limit}"
    return passed(f"{text}; not judged, {few}" if thin else text, **figures)


_NEXT = "look at new's plans and indexes, then crossfade run"


def _slower(new: float, legacy: float, terms: Terms) -> bool:
    return new > terms.settings.max_slowdown * legacy and new - legacy >= terms.settings.slowdown_seconds


def _calls(evidence: Evidence, operation: str, store: Store) -> Sketch:
    """Of a read those that both stores answered; a write is made in one store only."""
    if operation in evidence.writes:
        return evidence.statistics.latency(store, Role.SERVED, operation)
    return evidence.statistics.pair_latency(operation, store)
