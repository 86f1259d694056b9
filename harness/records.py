"""Values that the ledger keeps and the commands and the report show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from harness.phases import Phase
from harness.routing import Store


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Kind(StrEnum):
    """How a row of one store differs from the other's."""

    MISSING = "missing"  # authority has it, the shadow does not
    EXTRA = "extra"  # the shadow has it, authority does not
    DIFFERENT = "different"  # both have it, with other values
    MISPLACED = "misplaced"  # legacy and quarantine say something different of it


@dataclass(frozen=True, slots=True)
class PhaseState:
    phase: Phase
    epoch: int
    since: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    at: datetime
    actor: str
    action: str
    reason: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A legacy row that cannot be represented in new. ``key`` is canonical, ``local`` legacy's own.

    ``accepted``: why somebody accepted by name that it is left behind; ``image``: what the row said then, long texts
    by their length alone.
    """

    key: str
    part: str
    local: str
    scope: str | None
    reason: str
    since: datetime
    accepted: str | None = None
    accepted_by: str | None = None
    accepted_at: datetime | None = None
    image: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Debt:
    """A record of new that legacy cannot hold: rolling back would leave it behind."""

    key: str
    scope: str | None
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One field's two values, as text; None where the whole answer or row is absent or the value is NULL."""

    field: str
    legacy: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class RowDifference:
    key: str
    scope: str | None
    kind: Kind
    fields: tuple[FieldDifference, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """What one run of verify found. ``transient`` rows differed at first and were equal at a later look.

    ``at``: the moment that it speaks of, the first of the ``snapshots`` that it rests on. ``owed``: rows that new holds
    and legacy cannot, which is known (rollback debt). ``restriction``: what alone was looked at, in words, empty for
    everything; a verdict with one is never a pass.
    """

    at: datetime
    verdict: Verdict
    compared: int
    missing: int
    extra: int
    different: int
    transient: int
    unsettled: int
    quarantined: int
    unaccounted: int
    new_only: int
    seconds: float
    examples: tuple[RowDifference, ...] = ()
    owed: int = 0
    restriction: str = ""
    snapshots: int = 1


@dataclass(frozen=True, slots=True)
class MismatchSample:
    """A confirmed mismatch of one operation's two answers."""

    at: datetime
    operation: str
    served: Store
    scope: str | None
    arguments: str
    differences: tuple[FieldDifference, ...]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A scope that could not be carried over, and why; gone once it could."""

    scope: str | None
    error: str
    attempts: int
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """The dirty queue of one store. ``lag_seconds`` is the age of its oldest note, 0 when it is empty."""

    notes: int = 0
    lag_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RunTotals:
    """What one parallel run did, as ``run --json`` prints it."""

    at: datetime
    seconds: float
    totals: Mapping[str, Any] = field(default_factory=dict)
