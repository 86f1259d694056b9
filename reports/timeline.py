"""The timeline: who changed what, and why; of an act of authority what it changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.evidence import Evidence
from reports.wording import iso, readable

_ENTRIES = 100


def timeline(evidence: Evidence) -> dict[str, Any]:
    """The newest entries, in order of time."""
    newest = sorted(evidence.audit, key=lambda entry: entry.at)[-_ENTRIES:]
    return {
        "total": len(evidence.audit),
        "entries": [
            {
                "at": iso(entry.at),
                "actor": readable(entry.actor),
                "action": readable(entry.action),
                "reason": readable(entry.reason),
                "detail": readable(_flat(entry.detail)),
            }
            for entry in newest
        ],
    }


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
    if isinstance(value, Iterable) and not isinstance(value, str):
        return " ".join(_plain(each) for each in value)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return "none" if value is None else str(value)
