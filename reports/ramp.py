"""The ramp: which shares new had from when to when, who moved them, and on which evidence."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from harness.autoramp import BY_ITSELF
from harness.evidence import SHARES, Evidence, moved
from harness.records import AuditEntry
from reports.wording import iso, readable

_STEPS = 200
_DECISIONS = frozenset({"auto advance begun", "auto retreat decided", "auto retreat begun"})


def ramp(evidence: Evidence) -> dict[str, Any]:
    """The newest steps in order of time, numbered from the first there ever was. Each lasts until the next one."""
    shares, steps = _before(evidence), list[dict[str, Any]]()
    decisions = sorted((entry for entry in evidence.audit if entry.action in _DECISIONS), key=lambda entry: entry.at)
    for number, entry in enumerate(sorted(evidence.acts, key=lambda entry: entry.at), 1):
        was = dict(shares)
        shares |= {name: after for name, (_, after) in moved(entry).items()}
        steps.append(
            {
                "number": number,
                "at": iso(entry.at),
                "until": iso(evidence.generated_at),
                **shares,
                "from": was,
                "actor": readable(entry.actor),
                "action": readable(entry.action),
                "reason": readable(entry.reason),
                "gates": _decided(entry, decisions, since=_at(steps)),
            }
        )
    for step, following in pairwise(steps):
        step["until"] = following["at"]
    return {"total": len(steps), "began_with": _before(evidence), "steps": steps[-_STEPS:]}


def _before(evidence: Evidence) -> dict[str, float]:
    """The shares before the first act: what the first one to change each of them found."""
    shares = {name: getattr(evidence.route, name) for name in SHARES}
    for entry in sorted(evidence.acts, key=lambda entry: entry.at, reverse=True):
        shares |= {name: before for name, (before, _) in moved(entry).items()}
    return shares


def _at(steps: list[dict[str, Any]]) -> datetime | None:
    return datetime.fromisoformat(steps[-1]["at"]) if steps else None


def _decided(act: AuditEntry, decisions: list[AuditEntry], since: datetime | None) -> list[dict[str, Any]]:
    """The gates on which an automatic ramp took the step: those of its latest decision since the step before.

    A step by hand rests on none, though an automatic one may have been begun, and refused, just before.
    """
    if not act.reason.startswith(BY_ITSELF):
        return []
    between = [each for each in decisions if each.at <= act.at and (since is None or each.at >= since)]
    told = [gates_of(each.detail) for each in between]
    return next((each for each in reversed(told) if each), [])


def gates_of(detail: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The gates that an entry of the audit says it rests on."""
    gates = detail.get("gates")
    if not isinstance(gates, list):
        return []
    return [
        {
            "name": readable(str(gate.get("name", ""))),
            "verdict": readable(str(gate.get("verdict", ""))),
            "evidence": readable(str(gate.get("evidence", ""))),
        }
        for gate in gates
        if isinstance(gate, Mapping)
    ]
