"""The way back: what a rollback would move now, what it would leave behind, and what it would cost."""

from __future__ import annotations

from typing import Any

from harness.evidence import Evidence
from harness.phases import Phase
from harness.routing import Store
from harness.words import counted, duration
from reports.wording import readable


def way_back(evidence: Evidence) -> dict[str, Any]:
    """``possible`` is None before anything was counted; ``sentence`` says the whole in words."""
    cost, debt = evidence.way_back, max(evidence.debts_total, len(evidence.debts))
    notes = evidence.backlog.get(Store.NEW)
    document: dict[str, Any] = {
        "possible": evidence.phase.phase is not Phase.COMPLETE if cost or evidence.started else None,
        "reads_percent": evidence.route.reads_percent,
        "writes_percent": evidence.route.writes_percent,
        "scopes": cost.scopes if cost else None,
        "records": cost.records if cost else None,
        "notes": notes.notes if notes else None,
        "lag_seconds": notes.lag_seconds if notes else None,
        "new_only": evidence.new_only,
        "debt": debt,
        "hold_seconds_most": cost.hold_seconds if cost else None,
        "attempts_most": cost.attempts if cost else None,
        "last_act": readable(cost.last_act) if cost else "",
        "last_act_seconds": cost.last_act_seconds if cost else None,
    }
    return document | {"sentence": _sentence(evidence, debt)}


def _sentence(evidence: Evidence, debt: int) -> str:
    cost = evidence.way_back
    if evidence.phase.phase is Phase.COMPLETE:
        return "Legacy was let go of: there is no way back."
    if not evidence.started:
        return "Nothing has moved, so there is nothing to roll back."
    if cost is None:
        return "What a rollback would move was not counted."
    reads = f"the {evidence.route.reads_percent:g} % of reads that new serves" if evidence.route.reads_percent else ""
    if not cost.scopes:
        what = f"{reads} would go back at once, and" if reads else "No read moves, and"
        told = f"{what} no scope moves: legacy has authority over all that there is."
        return told[0].upper() + told[1:]
    first = f"{counted(cost.scopes, 'scope')} with {counted(cost.records, 'record')} would move to legacy"
    told = f"{first}, and {reads}" if reads else first
    held = f"writers of these scopes would be held back for {duration(cost.hold_seconds)} at most in each attempt"
    stays = f" Refused as it is: legacy cannot hold {counted(debt, 'record')}." if debt else ""
    return f"{told}; {held}.{stays}"
