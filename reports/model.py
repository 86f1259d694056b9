"""The model: everything that a report says, as plain JSON values. Renderers read nothing else.

Durations are seconds, shares are 0 to 1, stamps ISO 8601 in UTC. Lists are bounded; each has its whole count beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from harness.baseline import Baseline
from harness.evidence import Evidence
from harness.gates import Gate
from harness.phases import NEXT_STEP
from harness.records import Quarantined, RowDifference, Verification
from harness.statistics import Drop, Failure, Result
from reports.activity import latency, operations, over_time
from reports.checksum import KEY, checksum
from reports.ramp import ramp
from reports.redaction import arguments, side_by_side
from reports.risks import risks
from reports.timeline import timeline
from reports.verdict import verdict
from reports.way_back import way_back
from reports.wording import iso, readable

FORMAT = 2  # grows when a key of the JSON document goes away or changes its meaning

_FIELDS = 20  # operation and field, the most mismatched first
_PER_FIELD = 3
_ROWS = 50

DROPS = {
    Drop.QUEUE_FULL: "the queue of comparisons was full",
    Drop.TIMEOUT: "the shadow store answered too late",
    Drop.BREAKER_OPEN: "the shadow store had failed, and was left alone for a while",
    Drop.STORE_FAILED: "one of the two stores was unavailable",
    Drop.UNSETTLED: "unequal, but the scope never stood still for a second look",
    Drop.HELD: "it touches quarantine, or records that one store cannot hold",
    Drop.UNDER_WAY: "a write was on its way, so the store with authority answered alone",
    Drop.STOPPED: "the process ended before it",
}
FAILURES = {
    Failure.ROUTE: "the route could not be read; the last known one stayed",
    Failure.CARRY: "writes could not be carried over at once; they were tried again",
    Failure.COMPARE: "two answers could not be told apart field by field",
    Failure.PUBLISH: "metrics were refused",
    Failure.SAMPLE: "a mismatch's sample could not be kept",
    Failure.ROLL_UP: "statistics could not be handed on at once; they were tried again",
    Failure.WORKER: "a comparison ended in an error of Crossfade's own",
}


def model(evidence: Evidence, gates: Sequence[Gate], *, redact: bool) -> dict[str, Any]:
    """Compute the report once. It is what ``json`` makes of it, so that a copy read back is equal to it."""
    said = json.loads(json.dumps(_said(evidence, gates, redact=redact), allow_nan=False))
    return {**said, KEY: checksum(said)}


def _said(evidence: Evidence, gates: Sequence[Gate], *, redact: bool) -> dict[str, Any]:
    statistics = evidence.statistics
    return {
        "format": FORMAT,
        "generated_at": iso(evidence.generated_at),
        "redacted": redact,
        "verdict": verdict(evidence, gates),
        "phase": {
            "phase": evidence.phase.phase.value,
            "epoch": evidence.phase.epoch,
            "since": iso(evidence.phase.since),
            "actor": readable(evidence.phase.actor),
            "reason": readable(evidence.phase.reason),
            "next": NEXT_STEP[evidence.phase.phase],
        },
        "route": {
            "epoch": evidence.route.epoch,
            "reads_percent": evidence.route.reads_percent,
            "writes_percent": evidence.route.writes_percent,
            "shadow_percent": evidence.route.shadow_percent,
            "pins": _pins(evidence),
            "unfinished": readable(evidence.unfinished),
        },
        "gates": [
            {
                "name": gate.name,
                "question": gate.question,
                "verdict": gate.verdict.value,
                "evidence": readable(gate.evidence, 2000),
                "next": gate.next_step,
                "figures": dict(gate.figures),
            }
            for gate in gates
        ],
        "risks": risks(evidence, gates),
        "ramp": ramp(evidence),
        "way_back": way_back(evidence),
        "operations": operations(evidence),
        "dropped": _counts(statistics.drops, DROPS),
        "failures": _counts(statistics.failures, FAILURES),
        "latency": latency(evidence),
        "over_time": over_time(evidence),
        "mismatches": _mismatches(evidence, redact),
        "baseline": _baseline(evidence.baseline),
        "verification": _verification(evidence, redact),
        "backlog": {
            store.value: {"notes": backlog.notes, "lag_seconds": backlog.lag_seconds}
            for store, backlog in evidence.backlog.items()
        },
        "quarantine": _quarantine(evidence),
        "rejections": _rejections(evidence),
        "new_only": evidence.new_only,
        "rogue_writes": {store.value: n for store, n in evidence.rogue_writes.items()},
        "rollback_debt": _debt(evidence),
        "runs": _runs(evidence),
        "timeline": timeline(evidence),
        "settings_fingerprint": readable(evidence.settings_fingerprint),
        "versions": {readable(name): readable(version) for name, version in evidence.versions.items()},
    }


def _counts(counter: Mapping[Any, int], meanings: Mapping[Any, str]) -> list[dict[str, Any]]:
    """What was counted at all, the most frequent first."""
    rows = [(key, counter.get(key, 0)) for key in meanings]
    return [
        {"reason": key.value, "meaning": meanings[key], "count": n}
        for key, n in sorted(rows, key=lambda row: -row[1])
        if n
    ]


def _pins(evidence: Evidence) -> dict[str, Any]:
    pins = sorted(evidence.route.pins.items())
    return {
        "total": len(pins),
        "rows": [{"name": readable(name), "store": store.value} for name, store in pins[:_ROWS]],
    }


def _mismatches(evidence: Evidence, redact: bool) -> dict[str, Any]:
    """The most differing fields by operation, each with its newest examples."""
    examples: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for sample in evidence.mismatches:
        for difference in sample.differences:
            example = {
                "at": iso(sample.at),
                "served": sample.served.value,
                "scope": _scope(sample.scope),
                "arguments": arguments(sample.arguments, redact=redact),
                **side_by_side(difference, redact=redact),
            }
            examples.setdefault((sample.operation, difference.field), []).append(example)
    # A sample's field counts even when the process that saw it died before its counts reached the ledger.
    counts = {key: len(shown) for key, shown in examples.items()} | dict(evidence.statistics.fields)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "total": evidence.statistics.results()[Result.MISMATCHED],
        "samples": len(evidence.mismatches),
        "fields_total": len(ranked),
        "fields": [
            {"operation": key[0], "field": readable(key[1]), "count": n, "examples": examples.get(key, [])[:_PER_FIELD]}
            for key, n in ranked[:_FIELDS]
        ],
    }


def _baseline(found: Baseline | None) -> dict[str, Any] | None:
    """What one store compared with itself differed in: without it nobody knows which mismatches are noise."""
    if found is None:
        return None
    fields = [
        {
            "operation": each.operation,
            "field": readable(each.field),
            "differed": each.differed,
            "compared": each.compared,
            "open": each.open,
            "rules": [readable(rule) for rule in each.rules],
        }
        for each in found.noise[:_FIELDS]
    ]
    return {
        "at": iso(found.at),
        "store": found.store.value,
        "sentence": readable(found.sentence(), 1000),
        "compared": found.compared,
        "transient": found.transient,
        "unsettled": found.unsettled,
        "failed": found.failed,
        "fields_total": len(found.noise),
        "fields": fields,
    }


def _verification(evidence: Evidence, redact: bool) -> dict[str, Any]:
    latest = evidence.verification
    age = None if latest is None else max(0.0, (evidence.generated_at - latest.at).total_seconds())
    return {
        "latest": None if latest is None else _verified(latest) | {"age_seconds": age},
        "examples": [] if latest is None else [_row(each, redact) for each in latest.examples[:_ROWS]],
        "examples_total": 0 if latest is None else len(latest.examples),
        "earlier": [_verified(each) for each in evidence.earlier[:_ROWS]],
        "earlier_total": evidence.total("earlier"),
    }


def _verified(found: Verification) -> dict[str, Any]:
    return {
        "at": iso(found.at),
        "verdict": found.verdict.value,
        "restriction": found.restriction,
        "compared": found.compared,
        "missing": found.missing,
        "extra": found.extra,
        "different": found.different,
        "transient": found.transient,
        "unsettled": found.unsettled,
        "quarantined": found.quarantined,
        "unaccounted": found.unaccounted,
        "new_only": found.new_only,
        "seconds": found.seconds,
    }


def _row(row: RowDifference, redact: bool) -> dict[str, Any]:
    fields = [side_by_side(difference, redact=redact) for difference in row.fields]
    return {"key": readable(row.key), "scope": _scope(row.scope), "kind": row.kind.value, "fields": fields}


def _quarantine(evidence: Evidence) -> dict[str, Any]:
    by_reason = sorted(evidence.undecided, key=lambda row: row.reason)
    accepted = [row for row in evidence.quarantined if row.accepted is not None]
    groups = [(reason, list(rows)) for reason, rows in groupby(by_reason, key=lambda row: row.reason)]
    return {
        "total": evidence.open_quarantine,
        "listed": len(by_reason),
        "accepted": evidence.quarantined_accepted,
        "left_behind": [_held(row) | {"accepted": readable(row.accepted or "")} for row in accepted[:_ROWS]],
        "reasons": [
            {"reason": readable(reason), "count": len(rows), "examples": [_held(row) for row in rows[:_ROWS]]}
            for reason, rows in sorted(groups, key=lambda group: -len(group[1]))
        ],
    }


def _held(row: Quarantined) -> dict[str, Any]:
    place = {"part": readable(row.part), "local": readable(row.local), "key": readable(row.key)}
    return place | {"scope": _scope(row.scope), "reason": readable(row.reason), "since": iso(row.since)}


def _debt(evidence: Evidence) -> dict[str, Any]:
    rows = evidence.debts[:_ROWS]
    return {
        "total": max(evidence.debts_total, len(evidence.debts)),
        "rows": [
            {"key": readable(row.key), "scope": _scope(row.scope), "reason": row.reason, "since": iso(row.since)}
            for row in rows
        ],
    }


def _rejections(evidence: Evidence) -> dict[str, Any]:
    return {
        "total": evidence.total("rejections"),
        "rows": [
            {
                "scope": _scope(each.scope),
                "error": readable(each.error),
                "attempts": each.attempts,
                "first_seen": iso(each.first_seen),
                "last_seen": iso(each.last_seen),
            }
            for each in evidence.rejections[:_ROWS]
        ],
    }


_RUN_KEYS = ("operations", "compared", "matched", "mismatched", "transient", "not_compared", "dropped", "errors")


def _runs(evidence: Evidence) -> dict[str, Any]:
    rows = []
    for run in evidence.runs[:_ROWS]:
        totals = {key: _total(run.totals.get(key)) for key in _RUN_KEYS}
        rows.append({"at": iso(run.at), "seconds": run.seconds, **totals})
    return {"total": evidence.total("runs"), "rows": rows}


def _total(value: object) -> int | None:
    """A count, or the sum of counts by reason or store; None for what a run did not say."""
    if isinstance(value, Mapping):
        return sum(n for n in value.values() if isinstance(n, int))
    return value if isinstance(value, int) else None


def _scope(scope: str | None) -> str:
    return "(none)" if scope is None else readable(scope)
