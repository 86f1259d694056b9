"""Gates of what new does oftener than legacy: reads that fail, answers that are slow, writes that fail.

Where one store's share is set against the other's, each has bounds of its own: a confidence sequence with half of
alpha. So the difference is certain as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.evidence import Evidence
from harness.gates.finding import Finding, Terms, failed, inconclusive, passed
from harness.gates.rates import Question, Rate, alpha_of_one, judged
from harness.records import Verdict
from harness.routing import Store
from harness.sequences import Side, bounds, prior_near, side
from harness.statistics import Paired, Role
from harness.words import count, counted, named, share

_FEW = 100  # calls, of which not even a share of 5 % is certain


@dataclass(frozen=True, slots=True)
class Excess:
    """By how much new's share is above legacy's; negative where legacy's is above."""

    new: Rate
    legacy: Rate

    @property
    def observed(self) -> float:
        return self.new.observed - self.legacy.observed

    def least(self, alpha: float, limit: float) -> float:
        """It is not smaller, for certain."""
        return self._bounds(self.new, alpha, limit)[0] - self._bounds(self.legacy, alpha, limit)[1]

    def most(self, alpha: float, limit: float) -> float:
        """It is not greater, for certain."""
        return self._bounds(self.new, alpha, limit)[1] - self._bounds(self.legacy, alpha, limit)[0]

    def told(self) -> str:
        return f"new {self.new.told()}, legacy {self.legacy.told()}"

    def figures(self, limit: float, alpha: float, alpha_fail: float) -> dict[str, Any]:
        return {
            "observed": self.observed,
            "bound_low": self.least(alpha_fail, limit),
            "bound_high": self.most(alpha, limit),
            "limit": limit,
            "hits": self.new.hits,
            "n": self.new.n,
            "legacy_hits": self.legacy.hits,
            "legacy_n": self.legacy.n,
            "alpha": alpha,
            "alpha_fail": alpha_fail,
        }

    @staticmethod
    def _bounds(rate: Rate, alpha: float, limit: float) -> tuple[float, float]:
        return bounds(rate.hits, rate.n, alpha / 2, prior_near(limit))


def errors(evidence: Evidence, terms: Terms) -> Finding:
    """Of reads those that new failed and legacy answered; of writes the share beyond legacy's."""
    question = Question(
        ("failure of new where legacy answered", "failures of new where legacy answered"),
        ("call that both stores were asked", "calls that both stores were asked"),
        terms.settings.max_error_rate,
        terms.settings.min_comparisons,
        "see new's log and its connections, then crossfade run",
    )
    parts = {
        name: Rate(pairs[Paired.NEW_FAILED], pairs.total())
        for name in _paired(evidence)
        if (pairs := evidence.statistics.pairs_of(name)).total()
    }
    found = inconclusive("no operation was asked of both stores", "crossfade run")
    if parts:
        found = judged(question, parts, evidence, terms)
    return _with_writes(found, question, evidence, terms)


def slow(evidence: Evidence, terms: Terms) -> Finding:
    """Pairs in which new was much slower, beyond those in which legacy was: a busy machine slows both by chance."""
    limit, least = terms.settings.max_slow_rate, terms.settings.min_comparisons
    parts = {name: found for name in _paired(evidence) if (found := _slowness(evidence, name)).new.n}
    if not parts:
        return inconclusive("no operation was answered by both stores", "crossfade run")
    whole = Excess(
        sum((each.new for each in parts.values()), Rate(0, 0)),
        sum((each.legacy for each in parts.values()), Rate(0, 0)),
    )
    alpha_whole, alone = terms.alpha_fail / 2, alpha_of_one(evidence, terms)
    figures = whole.figures(limit, terms.alpha, alpha_whole)
    figures["operations"] = {name: each.figures(limit, terms.alpha, alone) for name, each in parts.items()}
    text = (
        f"of {counted(whole.new.n, 'pair')} new was much slower in {count(whole.new.hits)}, legacy in "
        f"{count(whole.legacy.hits)}; new oftener by {share(max(0.0, whole.observed))}, certainly by "
        f"{share(max(0.0, figures['bound_high']))} at most; limit {share(limit)}"
    )
    beyond = [f"all together ({whole.told()})"] if figures["bound_low"] > limit else []
    beyond += [f"{name} ({each.told()})" for name, each in parts.items() if each.least(alone, limit) > limit]
    if beyond:
        next_step = "look at new's plans, indexes and connections, then crossfade run"
        return failed(f"{text}; certainly beyond it: {named(beyond)}", next_step, **figures)
    if whole.new.n < least:
        return inconclusive(f"{text}; fewer than {counted(least, 'pair')}", "crossfade run", **figures)
    unsure = [f"{name} ({each.told()})" for name, each in parts.items() if each.observed > limit]
    if unsure:
        return inconclusive(f"{text}; too few to tell of {named(unsure)}", "crossfade run", **figures)
    if figures["bound_high"] > limit:
        return inconclusive(f"{text}; not certainly within it", "crossfade run", **figures)
    return passed(text, **figures)


def _paired(evidence: Evidence) -> list[str]:
    return sorted({name for name, _ in evidence.statistics.pairs})


def _slowness(evidence: Evidence, operation: str) -> Excess:
    pairs = evidence.statistics.pairs_of(operation)
    n = pairs[Paired.ANSWERED] + pairs[Paired.SLOW] + pairs[Paired.LEGACY_SLOW]
    return Excess(Rate(pairs[Paired.SLOW], n), Rate(pairs[Paired.LEGACY_SLOW], n))


def _with_writes(found: Finding, question: Question, evidence: Evidence, terms: Terms) -> Finding:
    """The same verdict, unless new fails writes more often than legacy: those are made in one store only, unpaired."""
    writes = _writes(evidence)
    if not writes:
        return found
    limit, alone = question.limit, alpha_of_one(evidence, terms)
    told = {name: each.figures(limit, terms.alpha, alone) for name, each in writes.items()}
    figures: Mapping[str, Any] = {**found.figures, "writes": told}
    beyond = [
        f"{name} ({each.told()})"
        for name, each in writes.items()
        if told[name]["bound_low"] > limit or _fails_alone(each, limit, alone)
    ]
    if beyond:
        return failed(f"{found.evidence}; writes certainly fail more often: {named(beyond)}", question.mend, **figures)
    unsure = [f"{name} ({each.told()})" for name, each in writes.items() if each.observed > limit]
    if unsure and found.verdict is not Verdict.FAIL:
        text = f"{found.evidence}; too few to tell of the writes {named(unsure)}"
        return inconclusive(text, question.more, **figures)
    return Finding(found.verdict, found.evidence, found.next_step, figures)


def _fails_alone(writes: Excess, limit: float, alpha: float) -> bool:
    """Where legacy was given hardly any, as when all writes have moved, there is nothing to set new's share against.

    Then it is held against the limit as it is. Else new could fail every write and nobody be certain of it.
    """
    few = writes.legacy.n < _FEW and writes.observed > limit
    return few and side(writes.new.hits, writes.new.n, limit, alpha) is Side.ABOVE


def _writes(evidence: Evidence) -> dict[str, Excess]:
    """Failures of the writes that new was given, and of the same operations of legacy."""

    def rate(name: str, store: Store) -> Rate:
        return Rate(evidence.errors(name, store), evidence.calls(name, store))

    return {
        name: Excess(rate(name, Store.NEW), rate(name, Store.LEGACY))
        for name in sorted(evidence.writes)
        if evidence.calls(name, Store.NEW, Role.SERVED)
    }
