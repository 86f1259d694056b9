"""Evidence: what gates judge and the report shows.

The command line gathers it from the ledger and both stores; nothing below reads either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from harness.baseline import Baseline
from harness.phases import Phase
from harness.records import (
    AuditEntry,
    Backlog,
    Debt,
    MismatchSample,
    PhaseState,
    Quarantined,
    Rejection,
    RunTotals,
    Verification,
)
from harness.routing import Route, Store
from harness.statistics import Result, Role, Statistics


@dataclass(frozen=True, slots=True)
class Sample:
    """One value that Prometheus answered; it may be NaN or infinite."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What Prometheus answered to the gate of this name.

    ``problem``: why it is no answer, or not the whole one; ``next_step``: what to do about that.
    """

    name: str
    samples: tuple[Sample, ...] = ()
    problem: str = ""
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class WayBack:
    """What a rollback would move now, and what it would cost the writers of it.

    ``scopes`` and ``records``: those that new has authority over. ``hold_seconds``: how long one attempt may hold
    writers back, at most; there are ``attempts``. ``last_act``: the newest act of authority that was carried out, and
    its seconds from the intention to the end, most of which writers went on.
    """

    scopes: int
    records: int
    hold_seconds: float
    attempts: int
    last_act: str = ""
    last_act_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a migration at ``generated_at``. Every stamp is aware.

    ``statistics``: all processes' counts since backfill; ``by_minute`` the same, in order of time, each of ``minutes``
    minutes, counted from the first one's beginning.
    ``writes``: names of the operations that are writes. Their answers are not compared: what they leave behind is
    carried over as state, and verify compares that.
    ``lag_by_minute``: each store's greatest lag in seconds, where somebody recorded it.
    ``verification``: the latest one, None if there was none; ``earlier`` ones latest first.
    ``quarantined``, ``mismatches`` and ``debts`` may be samples; ``quarantined_total`` and ``debts_total`` count all.
    So may ``audit``, ``runs``, ``earlier`` and ``rejections``, of which ``totals`` counts all, by these names.
    ``quarantined_accepted``: rows in quarantine that somebody accepted by name to leave behind.
    ``contract``: names of all operations there are, used or not. ``rogue_at``: when the latest rogue write was made.
    ``rolled_back_at``: when authority last went back to legacy.
    ``uncaptured``: parts of legacy, such as tenants created since prepare, whose changes nobody notes.
    ``new_only``: records of new that legacy cannot hold. ``debts``: those that it could, but for what they say.
    ``rogue_writes``: what each store took without authority. ``unfinished``: the act that is pending, in words.
    ``acts``: all that changed the route, oldest first. ``way_back``: None where nothing goes back, or nobody asked.
    ``guard``: the guard's mode in each store that was asked. ``holders``: transactions that a fence would wait for.
    ``versions``: crossfade's own and both servers', by name. ``prometheus``: what it answered to the gates on PromQL.
    """

    generated_at: datetime
    phase: PhaseState
    route: Route
    settings_fingerprint: str
    versions: Mapping[str, str] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=Statistics)
    by_minute: tuple[tuple[datetime, Statistics], ...] = ()
    minutes: int = 1
    lag_by_minute: tuple[tuple[datetime, Mapping[Store, float]], ...] = ()
    contract: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    verification: Verification | None = None
    earlier: tuple[Verification, ...] = ()
    backlog: Mapping[Store, Backlog] = field(default_factory=dict)
    quarantined: tuple[Quarantined, ...] = ()
    quarantined_total: int = 0
    quarantined_accepted: int = 0
    mismatches: tuple[MismatchSample, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    uncaptured: tuple[str, ...] = ()
    audit: tuple[AuditEntry, ...] = ()
    runs: tuple[RunTotals, ...] = ()
    new_only: int = 0
    rogue_writes: Mapping[Store, int] = field(default_factory=dict)
    rogue_at: datetime | None = None
    rolled_back_at: datetime | None = None
    debts: tuple[Debt, ...] = ()
    debts_total: int = 0
    unfinished: str = ""
    acts: tuple[AuditEntry, ...] = ()
    way_back: WayBack | None = None
    guard: Mapping[Store, str] = field(default_factory=dict)
    holders: tuple[str, ...] = ()
    prometheus: tuple[Answer, ...] = ()
    baseline: Baseline | None = None
    totals: Mapping[str, int] = field(default_factory=dict)

    def total(self, name: str) -> int:
        """How many there are of ``audit``, ``runs``, ``earlier`` or ``rejections``, never fewer than are listed."""
        return max(self.totals.get(name, 0), len(getattr(self, name)))

    @property
    def started(self) -> bool:
        return self.phase.phase is not Phase.IDLE

    @property
    def open_quarantine(self) -> int:
        """Rows in quarantine that are nobody's decision yet, never fewer than are listed."""
        return max(self.quarantined_total - self.quarantined_accepted, len(self.undecided))

    @property
    def undecided(self) -> tuple[Quarantined, ...]:
        """Those listed that nobody has accepted to leave behind."""
        return tuple(row for row in self.quarantined if row.accepted is None)

    def calls(self, operation: str, store: Store, role: Role | None = None) -> int:
        """How often the store was asked, in one role or in both."""
        return self.statistics.latency(store, role, operation).count

    def errors(self, operation: str, store: Store) -> int:
        """How many of the store's calls failed; refusals such as "not found" are answers, not failures."""
        return sum(self.statistics.errors[operation, store, role] for role in Role)


SHARES = ("reads_percent", "writes_percent")


def moved(entry: AuditEntry) -> dict[str, tuple[float, float]]:
    """The shares that an act changed, each with its percent before and after. Empty for any other entry."""
    was, became = entry.detail.get("from"), entry.detail.get("to")
    if isinstance(was, Mapping) and isinstance(became, Mapping):
        pairs = {name: (was.get(name), became.get(name)) for name in SHARES}
    else:
        changes = {name: entry.detail.get(name) for name in SHARES}
        pairs = {
            name: (each.get("from"), each.get("to")) for name, each in changes.items() if isinstance(each, Mapping)
        }
    return {
        name: (float(a), float(b))
        for name, (a, b) in pairs.items()
        if isinstance(a, int | float) and isinstance(b, int | float) and a != b
    }


def settled(results: Counter[Result]) -> int:
    """Comparisons that came to an end: all but those not made or given up."""
    return sum(results.values()) - results[Result.NOT_COMPARED]
