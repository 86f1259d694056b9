"""Gates: the conditions of a cutover, each judged on the evidence and on nothing else.

One function for each gate, all in one table. What was not looked at is inconclusive, never passed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harness.deciding import GateSettings
from harness.evidence import Evidence
from harness.gates import excess, facts, latency, prometheus, rates
from harness.gates.finding import Finding, Gate, Judge, Terms
from harness.records import Verdict

__all__ = ["GATES", "STATISTICAL", "Finding", "Gate", "decide", "evaluate", "names_of"]

GATES: dict[str, tuple[str, Judge]] = {
    "phase": ("Was everything copied?", facts.phase),
    "verified": ("Is the stored data equal, row by row?", facts.verified),
    "mismatches": ("Do both stores give the same answers?", rates.mismatches),
    "coverage": ("Was every operation in use compared?", facts.coverage),
    "errors": ("Does new answer where legacy does?", excess.errors),
    "slow": ("Does new answer about as soon as legacy, call by call?", excess.slow),
    "latency": ("Is new fast enough, in the middle and at its slowest?", latency.latency),
    "applies": ("Is what is written accepted by the other store?", rates.applies),
    "rejections": ("Could every scope be carried over?", facts.rejections),
    "lag": ("Is everything written carried over in time?", facts.lag),
    "dirty": ("Is little left to carry over?", facts.dirty),
    "quarantine": ("Can every row be represented in new?", facts.quarantine),
    "rogue": ("Was every write made in the store with authority?", facts.rogue),
    "debt": ("Could legacy take back all that new holds?", facts.debt),
    "rehearsal": ("Was the way back tried, if it has to be?", facts.rehearsal),
}

# Those that rest on calls of a parallel run, or on changes carried over. All but coverage share alpha.
STATISTICAL = ("mismatches", "coverage", "errors", "slow", "latency", "applies")


def evaluate(
    evidence: Evidence, settings: GateSettings, *, only: Collection[str] | None = None, sequences: int = 1
) -> tuple[Gate, ...]:
    """Judge the gates named, or all: in the table's order, then those on PromQL in the settings' order.

    ``sequences``: how often the counts begin anew in all while the gates are watched, such as the steps of a ramp;
    alpha is shared among them.
    """
    terms, found = Terms(settings, sequences), []
    for name, (question, judge) in GATES.items():
        if only is None or name in only:
            finding = judge(evidence, terms)
            found.append(Gate(name, question, finding.verdict, finding.evidence, finding.next_step, finding.figures))
    asked = (each for each in settings.prometheus if only is None or each.gate in only)
    return (*found, *(prometheus.gate_of(each, evidence) for each in asked))


def names_of(settings: GateSettings) -> tuple[str, ...]:
    """All gates there are under these settings."""
    return (*GATES, *(each.gate for each in settings.prometheus))


def decide(gates: Sequence[Gate]) -> Verdict:
    """The verdict of all gates together: any fail fails; else any inconclusive one, or none at all, is inconclusive."""
    verdicts = {gate.verdict for gate in gates}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.INCONCLUSIVE
