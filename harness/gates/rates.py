"""Gates of rates: certainly beyond the limit fails, certainly within it passes, anything else is not known yet.

Certain means by a confidence sequence (``harness.sequences``): however often somebody looks, and whenever they stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.evidence import Evidence, settled
from harness.gates.finding import Finding, Terms, failed, inconclusive, passed
from harness.sequences import Side, bounds, prior_near, side, trials_to_pass
from harness.statistics import Apply, Result
from harness.words import count, counted, named, share


@dataclass(frozen=True, slots=True)
class Rate:
    """So many hits of so many trials."""

    hits: int
    n: int

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.hits + other.hits, self.n + other.n)

    @property
    def observed(self) -> float:
        return self.hits / self.n if self.n else 0.0

    def told(self) -> str:
        return f"{count(self.hits)} in {count(self.n)}"


@dataclass(frozen=True, slots=True)
class Question:
    """What is counted, in words, and its limit. ``least``: trials below which nothing passes."""

    hit: tuple[str, str]  # one, many
    trial: tuple[str, str]
    limit: float
    least: int
    mend: str
    more: str = "crossfade run"


def mismatches(evidence: Evidence, terms: Terms) -> Finding:
    settings, parts = terms.settings, {}
    for name in evidence.statistics.operations:
        results = evidence.statistics.results(name)
        if compared := settled(results):
            parts[name] = Rate(results[Result.MISMATCHED], compared)
    question = Question(
        ("confirmed mismatch", "confirmed mismatches"),
        ("settled comparison", "settled comparisons"),
        settings.max_mismatch_rate,
        settings.min_comparisons,
        "mend what the report's differing fields show, then crossfade run",
    )
    if not parts:
        return inconclusive("no answers were compared", "crossfade run")
    return judged(question, parts, evidence, terms)


def applies(evidence: Evidence, terms: Terms) -> Finding:
    made = evidence.statistics.applies
    whole = Rate(made[Apply.REJECTED], made[Apply.REJECTED] + made[Apply.CARRIED])
    more = "crossfade catchup --follow, while something is written; crossfade run --write-ratio 0.1 writes"
    if not whole.n:
        return inconclusive("nothing that was written was carried over", more)
    question = Question(
        ("refused", "refused"),
        ("scope's change", "scopes' changes"),
        terms.settings.max_rejected_rate,
        1,
        "mend what the report's rejections say, then crossfade catchup",
        more,
    )
    return judged(question, {}, evidence, terms, whole)


def judged(
    question: Question, parts: Mapping[str, Rate], evidence: Evidence, terms: Terms, whole: Rate | None = None
) -> Finding:
    """Of all operations together, and of each: a bad one is not hidden by a busy one.

    An operation alone fails the gate when it is certainly beyond the limit, and leaves it open while it seems so.
    That it is certainly within is asked of all together: rare operations would take for ever to show it.
    """
    whole = whole or sum(parts.values(), Rate(0, 0))
    alone = alpha_of_one(evidence, terms)
    alpha_whole = terms.alpha_fail / (2 if parts else 1)
    figures = _figures(whole, question.limit, terms.alpha, alpha_whole)
    if parts:
        told = {name: _figures(rate, question.limit, terms.alpha, alone) for name, rate in parts.items()}
        figures["operations"] = told
    text = _told(whole, question, figures)
    beyond = [f"all together ({whole.told()})"] if _beyond(whole, question.limit, alpha_whole) else []
    beyond += [f"{name} ({rate.told()})" for name, rate in parts.items() if _beyond(rate, question.limit, alone)]
    if beyond:
        return failed(f"{text}; certainly beyond it: {named(beyond)}", question.mend, **figures)
    if whole.n < question.least:
        return inconclusive(f"{text}; fewer than {counted(question.least, *question.trial)}", question.more, **figures)
    unsure = [f"{name} ({rate.told()})" for name, rate in parts.items() if rate.observed > question.limit]
    if unsure:
        return inconclusive(f"{text}; too few to tell of {named(unsure)}", question.more, **figures)
    if question.limit and side(whole.hits, whole.n, question.limit, terms.alpha) is not Side.WITHIN:
        enough = trials_to_pass(whole.hits, question.limit, terms.alpha)
        more = f"; with no more of them, {count(enough)} would be enough" if enough and enough > whole.n else ""
        return inconclusive(f"{text}; not certainly within it{more}", question.more, **figures)
    return passed(text, **figures)


def alpha_of_one(evidence: Evidence, terms: Terms) -> float:
    """An operation's share: half of the gate's belongs to all together, half to all operations there are."""
    return terms.alpha_fail / 2 / max(1, len(evidence.contract.union(evidence.statistics.operations)))


def _beyond(rate: Rate, limit: float, alpha: float) -> bool:
    return side(rate.hits, rate.n, limit, alpha) is Side.ABOVE


def _figures(rate: Rate, limit: float, alpha: float, alpha_fail: float) -> dict[str, Any]:
    prior = prior_near(limit)
    return {
        "observed": rate.observed,
        "bound_low": bounds(rate.hits, rate.n, alpha_fail, prior)[0],
        "bound_high": bounds(rate.hits, rate.n, alpha, prior)[1],
        "limit": limit,
        "hits": rate.hits,
        "n": rate.n,
        "alpha": alpha,
        "alpha_fail": alpha_fail,
    }


def _told(rate: Rate, question: Question, figures: Mapping[str, Any]) -> str:
    return (
        f"{counted(rate.hits, *question.hit)} in {counted(rate.n, *question.trial)}, {share(rate.observed)}; "
        f"certainly between {share(figures['bound_low'])} and {share(figures['bound_high'])}; "
        f"limit {share(question.limit)}"
    )
