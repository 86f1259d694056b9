"""Verify: stored data against stored data.

Digests computed in the databases are compared bucket by bucket; only unequal buckets are read row by row, and only
unequal rows are looked at again. A row is reported when two looks in a row found the same two versions of it and
nothing noted for it in between: then no write and no carrying-over was on its way. (A carrying-over between the two
reads of one look would show new's old version once, and the next look new's later one.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from itertools import islice
from threading import Event
from typing import Protocol

from harness.ports import Clock
from harness.records import FieldDifference, Kind, RowDifference, Verdict, Verification

_PAUSE = 0.1
_LATE_LOOKS = 2
_MOST_LOOKED_AT = 2_000  # rows in one look; more differing rows are looked at in turns


@dataclass(frozen=True, slots=True)
class Digest:
    """What is known of the rows of one bucket without reading them: how many, and a sum over their digests."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its scope, and each canonical column as text; None is NULL.

    ``version`` changes with every write to the row, also with one that brings old values back; None if the store
    does not tell.
    """

    scope: str | None
    values: tuple[str | None, ...]
    version: str | None = field(default=None, compare=False)


class Side(Protocol):
    """One store's representable rows, as verify reads them. Keys and buckets sort alike on both sides."""

    @property
    def columns(self) -> Sequence[str]: ...

    def digests(self) -> Mapping[str, Digest]:
        """Every bucket that has rows."""
        ...

    def rows_in(self, buckets: Collection[str]) -> Iterator[tuple[str, str]]:
        """Key and digest of each row of the buckets, in the order of keys; bounded memory."""
        ...

    def records(self, keys: Collection[str]) -> Mapping[str, Record]:
        """The rows with these keys that there are."""
        ...


class Queue(Protocol):
    """What is known to be on its way, and what cannot go."""

    def noted(self, keys: Collection[str], scopes: Collection[str | None]) -> frozenset[str]:
        """Those of the keys for which something is noted and not yet carried over."""
        ...

    def owed(self, keys: Collection[str]) -> frozenset[str]:
        """Those of the keys that new holds and legacy cannot, which is known."""
        ...

    def quarantine(self) -> tuple[int, frozenset[str]]:
        """How many rows are in quarantine, and the keys of which legacy and quarantine now say something different.

        Without those for which something is noted and not yet carried over.
        """
        ...

    def new_only(self) -> int:
        """How many rows of new are none of this migration's business."""
        ...


@dataclass(slots=True)
class _Findings:
    """Rows that differ, by what became of them."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    examples: list[RowDifference] = field(default_factory=list)
    transient: int = 0
    unsettled: int = 0
    owed: int = 0


def verify(
    legacy: Side,
    new: Side,
    queue: Queue,
    *,
    patience: float,
    examples: int,
    now: Callable[[], datetime],
    clock: Clock,
    stop: Event,
    found: Callable[[RowDifference], None] = lambda _: None,
) -> Verification:
    """Compare all rows and return the verdict. ``found`` gets every confirmed difference, in no order.

    ``patience``: seconds that differing rows may take to be carried over before they count as unsettled. Unsettled
    rows make the verdict inconclusive, never a pass. Errors of a store are raised: there is no verdict then.
    """
    started = clock()
    ours, theirs = legacy.digests(), new.digests()
    unequal = sorted(bucket for bucket in ours.keys() | theirs.keys() if ours.get(bucket) != theirs.get(bucket))
    suspects = _suspects(legacy, new, unequal)
    findings = _Findings()

    def confirm(difference: RowDifference) -> None:
        findings.kinds[difference.kind] += 1
        if len(findings.examples) < examples:
            findings.examples.append(difference)
        found(difference)

    until = clock() + patience
    while batch := _take(suspects, _MOST_LOOKED_AT):
        _look(legacy, new, queue, batch, findings, confirm, until=until, clock=clock, stop=stop)
    quarantined, unaccounted = _quarantine(queue, clock=clock, until=until, stop=stop)
    return Verification(
        at=now(),
        verdict=_verdict(findings, unaccounted),
        compared=sum(digest.rows for digest in ours.values()) + findings.kinds[Kind.EXTRA],
        missing=findings.kinds[Kind.MISSING],
        extra=findings.kinds[Kind.EXTRA],
        different=findings.kinds[Kind.DIFFERENT],
        transient=findings.transient,
        unsettled=findings.unsettled,
        quarantined=quarantined,
        unaccounted=unaccounted,
        new_only=queue.new_only(),
        owed=findings.owed,
        seconds=clock() - started,
        examples=tuple(findings.examples),
    )


def _quarantine(queue: Queue, *, clock: Clock, until: float, stop: Event) -> tuple[int, int]:
    """How many rows are in quarantine, and how many are unaccounted for at two looks in a row."""
    held, odd = queue.quarantine()
    late = 0
    while odd and late <= _LATE_LOOKS and not stop.is_set():
        late += clock() >= until
        stop.wait(_PAUSE)
        held, odd_now = queue.quarantine()
        if odd_now == odd:
            break
        odd &= odd_now
    return held, len(odd)


def _verdict(findings: _Findings, unaccounted: int) -> Verdict:
    if findings.kinds or unaccounted:
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if findings.unsettled else Verdict.PASS


def _suspects(legacy: Side, new: Side, buckets: Collection[str]) -> Iterator[str]:
    """Keys whose digests differ: both sides read in the order of keys, side by side."""
    if not buckets:
        return
    ours, theirs = legacy.rows_in(buckets), new.rows_in(buckets)
    a, b = next(ours, None), next(theirs, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            assert a is not None  # noqa: S101 - the loop's condition; for the type checker
            yield a[0]
            a = next(ours, None)
        elif a is None or b[0] < a[0]:
            yield b[0]
            b = next(theirs, None)
        else:
            if a[1] != b[1]:
                yield a[0]
            a, b = next(ours, None), next(theirs, None)


def _take(keys: Iterator[str], most: int) -> list[str]:
    return list(islice(keys, most))


def _look(
    legacy: Side,
    new: Side,
    queue: Queue,
    keys: Sequence[str],
    findings: _Findings,
    confirm: Callable[[RowDifference], None],
    *,
    until: float,
    clock: Clock,
    stop: Event,
) -> None:
    """Look at rows again until each is equal, confirmed, or out of patience."""
    open_keys, before = set(keys), dict[str, object]()
    late = 0
    while open_keys:
        theirs, ours = new.records(open_keys), legacy.records(open_keys)
        scopes = {record.scope for record in (*theirs.values(), *ours.values())}
        on_the_way, owed = queue.noted(open_keys, scopes), queue.owed(open_keys)
        for key in sorted(open_keys):
            mine, other = ours.get(key), theirs.get(key)
            # With the versions: neither row was written to between the looks, not even back and forth.
            seen = mine, other, mine and mine.version, other and other.version
            if mine == other:
                findings.transient += 1
                open_keys.discard(key)
            elif key in on_the_way:
                before.pop(key, None)
            elif key in owed:
                findings.owed += 1
                open_keys.discard(key)
            elif before.get(key) == seen:
                confirm(difference(legacy.columns, key, mine, other))
                open_keys.discard(key)
            else:
                before[key] = seen
        late += clock() >= until  # what is not on its way gets the second look that confirms it, however late
        if stop.is_set() or late > _LATE_LOOKS:
            findings.unsettled += len(open_keys)
            return
        if open_keys:
            stop.wait(_PAUSE)


def difference(columns: Sequence[str], key: str, ours: Record | None, theirs: Record | None) -> RowDifference:
    """How two versions of one row differ, field by field."""
    if theirs is None:
        return RowDifference(key, ours.scope if ours else None, Kind.MISSING)
    if ours is None:
        return RowDifference(key, theirs.scope, Kind.EXTRA)
    differing = tuple(
        FieldDifference(name, mine, other)
        for name, mine, other in zip(columns, ours.values, theirs.values, strict=True)
        if mine != other
    )
    return RowDifference(key, ours.scope, Kind.DIFFERENT, differing)


def as_json(verification: Verification) -> dict[str, object]:
    """The verification's counts, as ``verify --json`` prints them."""
    plain = {f.name: getattr(verification, f.name) for f in fields(verification) if f.name != "examples"}
    return plain | {"at": verification.at.isoformat(), "verdict": verification.verdict.value}
