"""What a verdict rests on: all that the ledger, both stores and Prometheus say of the migration."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from adapters.metrics.asking import ask
from adapters.postgres.crossing import count_moving
from adapters.postgres.ledger.audit import AuditBook
from adapters.postgres.ledger.baselines import BaselineBook
from adapters.postgres.ledger.debt import owed
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.postgres.ledger.lags import LagBook
from adapters.postgres.ledger.quarantine import by_reason, listed
from adapters.postgres.ledger.statistics import StatisticsBook
from adapters.postgres.pool import check_server
from adapters.postgres.rogue import age_of_latest
from adapters.prompts.contract import PromptRepository
from adapters.prompts.migration import Stores
from harness.errors import StoreTimeout
from harness.evidence import Evidence, WayBack, moved
from harness.operations import operations_of
from harness.phases import Phase
from harness.records import AuditEntry, PhaseState
from harness.routing import Store
from harness.statistics import Statistics, merged

_SHOWN = 200  # quarantined rows, mismatches, rejections and audit entries in one report, at most
_STRETCHES = 480  # that a report's time is read in, at most
_LOOKED_THROUGH = 10_000  # audit entries searched for the act from which evidence counts


def gather(
    stores: Stores,
    begin: datetime | None = None,
    gates: Collection[str] | None = None,
    total: Callable[[datetime | None], Statistics] | None = None,
) -> Evidence:
    """Everything the ledger, both stores and Prometheus say of the migration now. Refused before prepare.

    ``begin``: calls, comparisons and mismatches before that moment are left out. ``gates``: of those on PromQL only
    these are asked. ``total``: reads what was counted since a moment, for those who want no more than a verdict; what
    was counted by the minute is left out then.
    """
    phase: PhaseState = stores.phases.present()
    evidence, statistics = EvidenceBook(stores.new), StatisticsBook(stores.new)
    # Without an automatic ramp's own entries: one that tries for hours makes thousands, and would hide the others.
    audit = AuditBook(stores.new).entries(_LOOKED_THROUGH, without="auto ")
    since = max((entry.at for entry in audit if _renews(entry)), default=None)
    counted_since = max(filter(None, (since, begin)), default=None)
    minutes, by_minute = (1, []) if total else statistics.by_stretch(counted_since, _STRETCHES)
    # Of one reading: what is counted meanwhile is in the whole and in its minute, or in neither.
    whole = total(counted_since) if total else merged(counted for _, counted in by_minute)
    latest = evidence.standing()
    undecided, quarantined = by_reason(stores.new, accepted=False).total(), by_reason(stores.new).total()
    # What is to be decided first, then what was accepted.
    shown = [row for accepted in (False, True) for row in listed(stores.new, accepted=accepted, limit=_SHOWN)]
    debts, act, totals = owed(stores.new), stores.journal.pending(), evidence.totals()
    asked = stores.settings.gates
    queries = [each for each in asked.prometheus if gates is None or each.gate in gates]
    return Evidence(
        generated_at=datetime.now(UTC),
        phase=phase,
        route=stores.routes.view().route,
        settings_fingerprint=stores.settings.fingerprint(),
        versions={
            "crossfade": version("crossfade"),
            "legacy": f"PostgreSQL {check_server(stores.legacy, Store.LEGACY)}",
            "new": f"PostgreSQL {check_server(stores.new, Store.NEW)}",
        },
        statistics=whole,
        by_minute=tuple(by_minute),
        minutes=minutes,
        lag_by_minute=() if total else tuple(LagBook(stores.new).by_minute(counted_since)),
        contract=frozenset(operations_of(PromptRepository)),
        writes=frozenset(name for name, each in operations_of(PromptRepository).items() if each.kind == "write"),
        verification=latest if latest is not None and (since is None or latest.at >= since) else None,
        earlier=tuple(each for each in evidence.verifications(20) if each != latest),
        backlog=stores.backlogs(),
        quarantined=tuple(shown[:_SHOWN]),
        quarantined_total=quarantined,
        quarantined_accepted=max(0, quarantined - undecided),  # one may have gone between the two counts
        mismatches=tuple(
            each for each in evidence.mismatches(_SHOWN) if counted_since is None or each.at >= counted_since
        ),
        rejections=tuple(evidence.rejections(_SHOWN)),
        uncaptured=tuple(dict.fromkeys([*stores.uncaptured_tenants(), *stores.uncopied_tenants()])),
        audit=tuple(AuditBook(stores.new).entries(_SHOWN)),
        runs=tuple(evidence.runs(20)),
        new_only=stores.queue.new_only(),
        rogue_writes=stores.rogue_writes(),
        rogue_at=_latest_rogue(stores),
        rolled_back_at=max((entry.at for entry in audit if _goes_back(entry)), default=None),
        debts=tuple(debts[:_SHOWN]),
        debts_total=len(debts),
        acts=tuple(entry for entry in reversed(audit) if moved(entry)),
        unfinished="" if act is None else f"{act.command} of {act.actor}",
        prometheus=ask(queries, asked.prometheus_url),
        totals={
            "audit": totals["audit"],
            "rejections": totals["rejection"],
            "runs": totals["run"],
            "earlier": totals["verification"] - (latest is not None),
        },
    )


def gather_all(stores: Stores) -> Evidence:
    """All that ``gather`` says, and what only a report asks for: what the way back would cost takes counting."""
    return replace(
        gather(stores),
        baseline=BaselineBook(stores.new).latest(),
        way_back=_way_back(stores),
        guard=stores.guard_modes(),
        holders=tuple(stores.long_transactions()),
    )


def _way_back(stores: Stores) -> WayBack | None:
    """None after complete, and where counting takes longer than ``pool.statement_seconds``."""
    before = stores.stand()
    if before.phase is Phase.COMPLETE:
        return None
    after, new = replace(before, writes_percent=0.0, pins={}), Store.NEW
    try:
        scopes, records = count_moving(stores.engine(new), new, stores.parts_of(new), stores.salt, before, after)
    except StoreTimeout:  # so many rows are no reason to have no report
        return None
    move, (command, seconds) = stores.settings.move, stores.journal.last() or ("", None)
    return WayBack(scopes, records, move.fence_seconds, move.attempts, command, seconds)


def _renews(entry: AuditEntry) -> bool:
    """Whether evidence counts from this act on: what was compared before says nothing of the stores as they are now."""
    return entry.action == "repair" or (entry.action == "phase" and entry.detail.get("to") == Phase.BACKFILLED)


def _latest_rogue(stores: Stores) -> datetime | None:
    """When the latest rogue write was made, by the clock of new, which verifications go by.

    The clocks of two servers differ, so each store tells how long ago it was.
    """
    ages = [age for store in stores.left if (age := age_of_latest(stores.engine(store), store)) is not None]
    if not ages:
        return None
    _, now = StatisticsBook(stores.new).moment()  # after the ages: rather too late than too early
    return now - timedelta(seconds=min(ages))


def _goes_back(entry: AuditEntry) -> bool:
    """Whether authority went back to legacy: a rollback of reads alone is no rehearsal."""
    return entry.action == "rollback" and "from" in entry.detail
