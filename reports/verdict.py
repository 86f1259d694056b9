"""The verdict in one sentence: the gate that decides it, and the core of its evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.evidence import Evidence, settled
from harness.gates import Gate, decide
from harness.phases import NEXT_STEP
from harness.records import Verdict
from harness.words import count, counted, duration, named
from reports.wording import readable

WORDS = {Verdict.PASS: "GO", Verdict.FAIL: "NO-GO", Verdict.INCONCLUSIVE: "NOT YET"}

# What a gate's failing means, and what is not known while it cannot be told.
_SAID = {
    "phase": ("not everything is copied and captured", "whether everything was copied"),
    "verified": ("the stored data differs", "whether the stored data is equal"),
    "mismatches": ("the stores give different answers", "whether both stores give the same answers"),
    "coverage": ("operations in use were never compared", "whether every operation in use was compared"),
    "errors": ("new fails where legacy answers", "whether new answers where legacy does"),
    "slow": ("new is slow call by call", "whether new answers about as soon as legacy, call by call"),
    "latency": ("new answers more slowly than legacy", "whether new is fast enough"),
    "applies": ("what is written is refused by the other store", "whether the other store takes what is written"),
    "rejections": ("scopes could not be carried over", "whether every scope could be carried over"),
    "lag": ("carrying over lags behind", "whether everything written is carried over in time"),
    "dirty": ("too much is left to carry over", "whether little is left to carry over"),
    "quarantine": ("rows cannot be represented in new", "whether every row can be represented in new"),
    "rogue": ("writes went to a store without authority", "whether every write went to the store with authority"),
    "debt": ("legacy could not take back what new holds", "whether legacy could take back what new holds"),
    "rehearsal": ("the way back was not tried", "whether the way back works: it was not tried"),
}
_CORE = 160


def verdict(evidence: Evidence, gates: Sequence[Gate]) -> dict[str, Any]:
    """Word, sentence, next step, and the gates counted by verdict."""
    decided = decide(gates)
    of = {each: [gate for gate in gates if gate.verdict is each] for each in Verdict}
    unmet = of[Verdict.FAIL] + of[Verdict.INCONCLUSIVE]
    return {
        "word": WORDS[decided],
        "verdict": decided.value,
        "sentence": _passed(evidence, gates) if decided is Verdict.PASS else _unmet(evidence, of[decided]),
        "next": unmet[0].next_step if unmet else NEXT_STEP[evidence.phase.phase],
        "counts": {each.value: len(found) for each, found in of.items()},
    }


def _passed(evidence: Evidence, gates: Sequence[Gate]) -> str:
    compared = settled(evidence.statistics.results())
    rows = 0 if evidence.verification is None else evidence.verification.compared
    said = [f"{counted(compared, 'answer')} compared"] if compared else []
    said += [f"{counted(rows, 'row')} verified"] if rows else []
    return f"all {counted(len(gates), 'gate')} pass{f' ({named(said)})' if said else ''}."


def _unmet(evidence: Evidence, gates: Sequence[Gate]) -> str:
    if not gates:
        return "no gate was evaluated."
    first, others = gates[0], [gate.name for gate in gates[1:]]
    fails = first.verdict is Verdict.FAIL
    meaning = _SAID.get(first.name)
    if meaning is None:
        said = f"the gate {first.name} {'fails' if fails else 'cannot be told'}"
    else:
        said = meaning[0] if fails else f"it is not known {meaning[1]}"
    told = f"{said} ({first.name}: {_core(first)})"
    if others:
        also = "also fail" if fails else "are inconclusive too"
        if len(others) == 1:
            also = "also fails" if fails else "is inconclusive too"
        told += f"; {named(others)} {also}"
    return f"{told}." if settled(evidence.statistics.results()) else f"{told}; nothing was compared."


def _core(gate: Gate) -> str:
    """The figure that decides, in few words; else the first part of the evidence."""
    shaped = _CORES.get(gate.name)
    told = shaped(gate.figures) if shaped is not None and gate.verdict is Verdict.FAIL else ""
    text = readable(told or "; ".join(_telling(gate.evidence.split("; "))), 10_000)
    return text if len(text) <= _CORE else f"{text[: _CORE - 1].rstrip()}…"


def _telling(clauses: Sequence[str]) -> list[str]:
    """The first clause, and the one that says why it cannot be told."""
    why = next((each for each in clauses[1:] if each.startswith(("fewer than", "too few", "not certainly"))), None)
    return [clauses[0], *([why] if why else [])]


def _slowest(figures: Mapping[str, Any]) -> str:
    """The quantile by which new is behind the most, as far as that is certain."""
    most, told = 0.0, ""
    for name, p, each in _quantiles(figures):
        high = each["legacy_high"]
        certain = each["new_low"] / high if high else 0.0
        if certain > most:
            most, told = certain, f"{p} of {name} {duration(each['new'])} against {duration(each['legacy'])}"
    return told


def _quantiles(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, of_one in figures.get("operations", {}).items():
        for p, each in of_one.items():
            if isinstance(each, Mapping) and "new_low" in each:
                yield name, p, each


def _worst(figures: Mapping[str, Any]) -> str:
    """Hits among trials, of the operation with the most of them for certain."""
    told = f"{count(figures['hits'])} in {count(figures['n'])}" if figures.get("n") else ""
    parts = {name: each for name, each in figures.get("operations", {}).items() if each.get("hits")}
    if not told or not parts:
        return told
    name, worst = max(parts.items(), key=lambda item: (item[1].get("bound_low") or -math.inf, item[1]["hits"]))
    if len(figures["operations"]) == 1:
        return f"{told} of {name}"
    return f"{told}; of {name} {count(worst['hits'])} in {count(worst['n'])}"


_CORES = {"latency": _slowest, "mismatches": _worst, "errors": _worst, "slow": _worst, "applies": _worst}
