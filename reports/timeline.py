"""The timeline: who changed what, and why; of an act of authority what it changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.evidence import Evidence
from harness.records import AuditEntry
from harness.words import count
from reports.ramp import gates_of
from reports.wording import iso, readable

_ENTRIES = 100


def timeline(evidence: Evidence) -> dict[str, Any]:
    """The newest entries, in order of time."""
    newest = sorted(evidence.audit, key=lambda entry: entry.at)[-_ENTRIES:]
    return {"total": evidence.total("audit"), "entries": list(_entries(newest))}


def _entries(newest: Sequence[AuditEntry]) -> Iterator[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for entry in newest:
        gates = gates_of(entry.detail)
        yield {
            "at": iso(entry.at),
            "actor": readable(entry.actor),
            "action": readable(entry.action),
            "reason": readable(entry.reason),
            "detail": readable(_detail(entry)),
            # A step that is begun and one that is taken rest on the same evidence: once is enough.
            "gates": [] if gates == told else gates,
        }
        told = gates or told


def _detail(entry: AuditEntry) -> str:
    """What changed, in words. An automatic ramp says where it stood and where it went; its gates stand apart."""
    detail = entry.detail
    if not (entry.action.startswith("auto ") and "stands" in detail):
        return _flat(detail)
    towards = detail.get("towards")
    told = f"at step {_plain(detail.get('step'))} ({_plain(detail['stands'])})"
    return told if towards is None else f"{told}, towards step {_plain(towards)}"


def _flat(detail: Mapping[str, Any]) -> str:
    if detail.keys() == {"from", "to"}:
        return _change(detail["from"], detail["to"])
    return ", ".join(f"{key} {_plain(value)}" for key, value in detail.items())


def _change(was: Any, became: Any) -> str:
    """Of two mappings only what differs: an act of authority says the whole route before and after."""
    if not (isinstance(was, Mapping) and isinstance(became, Mapping)):
        return f"{_plain(was)} → {_plain(became)}"
    changed = [key for key in {**was, **became} if was.get(key) != became.get(key)]
    return ", ".join(f"{key} {_nested(was.get(key), became.get(key))}" for key in changed) or "no change"


def _nested(was: Any, became: Any) -> str:
    told = _change(was, became)
    return f"({told})" if isinstance(was, Mapping) and isinstance(became, Mapping) else told


def _plain(value: Any) -> str:
    if isinstance(value, Mapping | Sequence) and not value:
        return "none"
    if isinstance(value, Mapping):
        told = _flat(value)
        return told if value.keys() == {"from", "to"} else f"({told})"
    if isinstance(value, Sequence) and all(isinstance(each, Mapping) for each in value):
        return count(len(value))  # records of something else; where they matter they have a section of their own
    if isinstance(value, Iterable) and not isinstance(value, str):
        return " ".join(_plain(each) for each in value)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return "none" if value is None else str(value)
