"""Where a migration stands: what ``status --json`` prints, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from adapters.postgres.deferred_indexes import missing
from adapters.postgres.ledger.courses import CourseBook
from adapters.postgres.ledger.debt import owed
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.postgres.ledger.quarantine import by_reason
from adapters.postgres.ledger.statistics import StatisticsBook
from adapters.prompts.migration import Stores
from harness.cli.autoramp import as_json
from harness.cli.gathering import gather
from harness.cli.planning import stand_as_json
from harness.gates import Gate, decide, evaluate
from harness.phases import NEXT_STEP, Phase, at_least
from harness.records import Verdict
from harness.routing import Store
from harness.statistics import Statistics


def judged(stores: Stores, total: Callable[[datetime | None], Statistics] | None = None) -> tuple[Gate, ...]:
    """All gates as they are now; none before prepare."""
    if stores.phase is Phase.IDLE:
        return ()
    evidence = gather(stores, total=total or StatisticsBook(stores.new).total)
    return evaluate(evidence, stores.settings.gates)


def status_of(stores: Stores, gates: Sequence[Gate] | None = None) -> dict[str, Any]:
    """The document that ``status --json`` prints. ``gates``: those that somebody has just judged."""
    phase = stores.phase
    document: dict[str, Any] = {"phase": phase.value, "epoch": 0}
    if phase is Phase.IDLE:
        document |= NOTHING_YET | {"half_left": stores.half_left()}
        return document | {"next": next_step(document)}
    gates = judged(stores) if gates is None else gates
    route = stores.routes.view().route
    backlogs = stores.backlogs()
    evidence = EvidenceBook(stores.new)
    latest = evidence.standing()
    quarantined, debts = by_reason(stores.new), owed(stores.new)
    began = at_least(phase, Phase.BACKFILLED)  # what is kept of an attempt that was given up before says nothing now
    document |= {
        "epoch": route.epoch,
        "reads_percent": route.reads_percent,
        "writes_percent": route.writes_percent,
        "shadow_percent": route.shadow_percent,
        "dirty": {store.value: each.notes for store, each in backlogs.items()},
        "lag_seconds": {store.value: round(each.lag_seconds, 3) for store, each in backlogs.items()},
        "quarantined": quarantined.total(),
        "quarantined_by_reason": dict(quarantined),
        "quarantined_undecided": by_reason(stores.new, accepted=False).total(),
        "mismatches_confirmed": StatisticsBook(stores.new).mismatched(),
        "rejected": [{"scope": each.scope, "error": each.error} for each in evidence.rejections()],
        "uncaptured_tenants": stores.uncaptured_tenants(),
        "uncopied_tenants": stores.uncopied_tenants(),
        "missing_indexes": missing(stores.new),
        "backfill_paused": stores.pauses.present() is not None,
        "long_transactions": stores.long_transactions(),
        "pins": {name: store.value for name, store in route.pins.items()},
        "guard": {store.value: mode for store, mode in stores.guard_modes().items()},
        "rogue_writes": sum(stores.rogue_writes().values()),
        "new_only": stores.queue.new_only(),
        "rollback_debt": len(debts),
        "owed": [{"key": each.key, "scope": each.scope, "reason": each.reason} for each in debts[:_MOST_OWED]],
        "unfinished": unfinished(stores),
        "half_complete": stores.half_complete(),
        "half_left": False,
        "uninstalled": Store.LEGACY not in stores.left,
        "automatic_ramp": as_json(course) if began and (course := CourseBook(stores.new).course()) else None,
        "routes_differ": stores.routes_differ(),
        "last_verification": {"at": latest.at.isoformat(), "verdict": latest.verdict.value}
        if began and latest
        else None,
        "verdict": decide(gates).value,
        "gates": [{"name": gate.name, "verdict": gate.verdict.value, "evidence": gate.evidence} for gate in gates],
    }
    return document | {"next": next_step(document)}


def unfinished(stores: Stores) -> dict[str, Any] | None:
    """The journalled act that is neither finished nor undone: under way just now, or left so by a crash."""
    act = stores.journal.pending()
    if act is None:
        return None
    return {
        "command": act.command,
        "actor": act.actor,
        "reason": act.reason,
        "loser": act.loser.value,
        "after": stand_as_json(act.after),
    }


_MOST_OWED = 20  # records that are named

NOTHING_YET: dict[str, Any] = {
    "reads_percent": 0.0,
    "writes_percent": 0.0,
    "shadow_percent": 0.0,
    "dirty": {"legacy": 0, "new": 0},
    "lag_seconds": {"legacy": 0.0, "new": 0.0},
    "quarantined": 0,
    "quarantined_by_reason": {},
    "quarantined_undecided": 0,
    "mismatches_confirmed": 0,
    "rejected": [],
    "uncaptured_tenants": [],
    "uncopied_tenants": [],
    "missing_indexes": [],
    "backfill_paused": False,
    "long_transactions": [],
    "pins": {},
    "guard": {},
    "rogue_writes": 0,
    "new_only": 0,
    "rollback_debt": 0,
    "owed": [],
    "unfinished": None,
    "half_complete": False,
    "half_left": False,
    "uninstalled": True,
    "automatic_ramp": None,
    "routes_differ": False,
    "last_verification": None,
    "verdict": decide(()).value,
    "gates": [],
}


def next_step(document: dict[str, Any]) -> str:
    """What to do next: what stands in the way goes before the phase's own next step."""
    if document["unfinished"]:
        return f"crossfade resume: {document['unfinished']['command']} is half done, unless it runs just now"
    if document["half_complete"]:
        return "crossfade complete: it is half done"
    if document["half_left"]:
        return "crossfade uninstall: it, or prepare, was cut short; or crossfade prepare, to begin anew"
    if document["uninstalled"] and document["phase"] == Phase.COMPLETE:
        return "nothing: new is on its own, and legacy was left as it was found"
    if document["routes_differ"]:
        return "crossfade resume, then crossfade repair: one store goes by an older route, as after a restored backup"
    if document["uncaptured_tenants"]:
        return "crossfade prepare, then crossfade backfill: tenants appeared that nothing carries over"
    if document["uncopied_tenants"] and at_least(Phase(document["phase"]), Phase.BACKFILLED):
        return "crossfade backfill, then crossfade verify: tenants appeared that are not copied"
    if document["backfill_paused"] and document["phase"] == Phase.PREPARED:
        return "crossfade backfill --resume: the backfill is paused"
    if document["missing_indexes"]:
        return "crossfade backfill: indexes of prompts were put off, and it builds them at its end"
    if document["rejected"] and at_least(Phase(document["phase"]), Phase.BACKFILLED):
        return "mend what is refused (see rejected), then crossfade catchup"
    if document["rogue_writes"] and "rogue" in _open(document):  # of old ones a verification has told since
        return "crossfade rogue: writes went to a store without authority; then crossfade verify"
    if off := sorted(store for store, mode in document["guard"].items() if mode != "enforce"):
        return f"guard.mode = enforce, then crossfade prepare: until {' and '.join(off)} enforces, no authority moves"
    if document["phase"] == Phase.CUT_OVER and (pinned := sorted(document["pins"])):
        return f"crossfade ramp --unpin {pinned[0]}: its writes are served by legacy still; then verify and complete"
    return NEXT_STEP[Phase(document["phase"])]


def _open(document: dict[str, Any]) -> set[str]:
    """The gates that do not pass."""
    return {each["name"] for each in document["gates"] if each["verdict"] != Verdict.PASS}
