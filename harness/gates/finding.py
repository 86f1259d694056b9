"""What a gate answers, and on what terms it judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.deciding import GateSettings
from harness.evidence import Evidence
from harness.records import Verdict

SHARERS = 5  # gates that fail by evidence of chance: mismatches, errors, slow, applies, latency


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: what it asks, the verdict, the evidence in words and numbers, and what to do if it is no pass.

    ``figures``: plain JSON values, by name. Of a rate: observed, bound_low, bound_high, limit, hits, n, alpha,
    alpha_fail, and the same of each operation under ``operations``. Bounds are None where nothing was counted.
    """

    name: str
    question: str
    verdict: Verdict
    evidence: str
    next_step: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    evidence: str
    next_step: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terms:
    """Limits, and how alpha is spent. ``sequences``: how often counts begin anew while somebody watches.

    A pass is judged with the whole of alpha: new passes as a whole only if every gate passes, so one rate beyond its
    limit is let through as likely as its own gate lets it through, and no likelier (an intersection-union test: R. L.
    Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24(4), 1982). A fail of any gate
    at any time stops the whole, so there alpha is shared among gates and sequences (Bonferroni's inequality).
    """

    settings: GateSettings
    sequences: int = 1

    @property
    def alpha(self) -> float:
        return self.settings.alpha

    @property
    def alpha_fail(self) -> float:
        """One gate's share in one sequence."""
        return self.settings.alpha / (SHARERS * self.sequences)


Judge = Callable[[Evidence, Terms], Finding]


def passed(evidence: str, **figures: Any) -> Finding:
    return Finding(Verdict.PASS, evidence, figures=figures)


def failed(evidence: str, next_step: str, **figures: Any) -> Finding:
    return Finding(Verdict.FAIL, evidence, next_step, figures)


def inconclusive(evidence: str, next_step: str, **figures: Any) -> Finding:
    return Finding(Verdict.INCONCLUSIVE, evidence, next_step, figures)
