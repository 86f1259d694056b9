"""Carrying state into Dispatch: the way back. Numbers, NULL stamps and all else that legacy says its own way stay.

Nothing is written that reads as it should already. A row that legacy cannot hold is taken out, but its number is kept
in the sidecar, so that the record returns under it. Uniqueness (type, project, enabled) is a deferred rule of
Dispatch's and speaks at COMMIT, so the order of statements has no rivals to mind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    Connection,
    Executable,
    Integer,
    Select,
    Text,
    Uuid,
    any_,
    cast,
    false,
    literal,
    null,
    select,
    true,
    union_all,
)

from adapters.postgres.part import REASON, Part, texts
from adapters.postgres.prepared import Prepared, PreparedByShape
from adapters.postgres.taking import Applied, Found
from adapters.postgres.trip import Answer, Trip
from adapters.prompts.canonical import DebtReason, LegacyScope, Reading, parse_scope
from adapters.prompts.dispatch_tables import sidecar
from adapters.prompts.left_behind import LeftBehind, Wanted
from adapters.prompts.room import Room, Rooms
from adapters.prompts.sidecar import RowName, Sidecar, describe
from adapters.prompts.tenant_rows import TenantRow, arrays, writing
from harness.errors import CannotHold


class _Fit(NamedTuple):
    """A record that legacy can hold, and its place there."""

    record: Any
    place: LegacyScope


@dataclass(frozen=True, slots=True)
class _Places:
    """By key: the records' rows, and their sidecar entries."""

    rows: dict[str, RowName] = field(default_factory=dict)
    entries: dict[str, RowName] = field(default_factory=dict)
    room: Room = field(default_factory=Room)

    def of(self, keys: Collection[str]) -> _Places:
        rows, entries = ({key: row for key, row in all_.items() if key in keys} for all_ in (self.rows, self.entries))
        return _Places(rows, entries, self.room)


class DispatchTaking:
    """All tenants as one store to carry to; fulfils ``Taking``. Scope policy ``type`` only, else CannotHold."""

    def __init__(self, parts: Sequence[Part], reading: Reading) -> None:
        if not reading.by_type:
            raise CannotHold(
                'legacy cannot take prompts under scope_policy = "project": a scope does not say which of '
                'Dispatch\'s types a prompt has; use scope_policy = "type"'
            )
        self._parts = {part.name: part for part in parts}
        self._zone = reading.time_zone
        self._sidecar = Sidecar(reading.time_zone)
        self._rooms, self._left_behind = Rooms(self._parts), LeftBehind(self._parts)
        self._find = Prepared(_finding(parts))
        self._prepared = PreparedByShape()

    def look(self, trip: Trip, keys: Collection[str], scopes: Collection[str]) -> Callable[[], Found]:
        answers = [trip.ask(self._find, keys=sorted(keys))] if keys else []
        room = self._rooms.ask(trip, filter(None, (parse_scope(scope, with_type=True) for scope in scopes)))
        return lambda: _found([row for answer in answers for row in answer.rows], room())

    def keys_of_part(self, connection: Connection, part: str) -> list[tuple[str, str]]:
        """Key and scope of every record here that has a scope: the other store has one part, and they are all of it."""
        if not self._parts:
            return []
        selects = []
        for tenant in self._parts.values():
            rows = tenant.canonical.subquery()
            selects.append(select(cast(rows.c.id, Text), rows.c.project_id).where(rows.c.project_id.isnot(None)))
        return [(str(key), str(scope)) for key, scope in connection.execute(union_all(*selects))]

    def make_equal(self, trip: Trip, keys: Collection[str], rows: Sequence[Any], found: Found) -> Applied:
        given = {row.key_ for row in rows}
        places: _Places = found.places.of(given.union(keys))
        fit, unfit = self._sort(trip, rows, found.scopes, places.room)
        # The rows that legacy is not to hold, or not in this tenant.
        left = {key: row for key, row in places.rows.items() if key not in fit or _moves(row, fit[key])}
        # The numbers of rows that go though their records do not.
        self._sidecar.keep_numbers(trip, {row: key for key, row in left.items() if key in given and key not in fit})
        # The entries of what has gone to another tenant go first: it is to have one there.
        self._drop(trip, [row for key, row in places.entries.items() if key in fit and _moves(row, fit[key])])
        gone = [row for key, row in places.entries.items() if key not in given]
        self._drop(trip, [row for row in gone if row.organization not in self._parts])  # a tenant that is gone
        dropped = [row for row in gone if row.organization in self._parts]
        changed = self._write(trip, fit, places, left.values(), dropped)
        deleted = len(left.keys() - fit.keys())
        # A project that is deleted takes along what stood in it, at any time: what would have left it lives on in new.
        moved = {row for key, row in places.rows.items() if key in fit and _changes_scope(key, row, fit[key], found)}
        return Applied(
            unfit,
            lambda: sum(len({number for number, _ in answer.rows}) for answer in changed.values()),
            lambda: deleted,
            (lambda: not moved <= _written(changed)) if moved else None,
        )

    def _sort(
        self, trip: Trip, rows: Iterable[Any], scopes: Mapping[str, str | None], room: Room
    ) -> tuple[dict[str, _Fit], dict[str, str]]:
        """The records that legacy can hold, by key, and why it cannot hold others that say nothing of it themselves."""
        fit: dict[str, _Fit] = {}
        unfit: dict[str, str] = {}
        for row in rows:
            if getattr(row, REASON) is not None:
                continue
            key, place = row.key_, parse_scope(row.scope_, with_type=True)
            if place is None or place.organization not in self._parts:
                unfit[key] = DebtReason.NO_PLACE
            # Where a record stays in its scope, the row that is there says that the project is, too.
            elif scopes.get(key) != row.scope_ and (place.organization, place.project) not in room.projects:
                unfit[key] = DebtReason.NO_PROJECT
            else:
                fit[key] = _Fit(row, place)
        wanted = [Wanted(key, one.record.scope_, one.record.enabled) for key, one in fit.items()]
        for key in self._left_behind.make_room(trip, wanted, room.rows):
            unfit[key] = DebtReason.PLACE_TAKEN
            del fit[key]
        return fit, unfit

    def _drop(self, trip: Trip, rows: Iterable[RowName]) -> None:
        for organization, numbers in _by_tenant(rows).items():
            self._sidecar.drop(trip, organization, numbers)

    def _write(
        self,
        trip: Trip,
        fit: Mapping[str, _Fit],
        places: _Places,
        left: Iterable[RowName],
        dropped: Iterable[RowName],
    ) -> dict[str, Answer]:
        """Delete what is left and the entries that are dropped, and write rows and entries: where a record stands, else
        under the number that was kept for it, else under a new one. The answers, by tenant, name the rows of which
        anything changed.
        """
        gone, without, given = _by_tenant(left), _by_tenant(dropped), defaultdict[str, list[TenantRow]](list)
        for key, one in sorted(fit.items()):
            row = places.rows.get(key) or places.entries.get(key)
            number = None if row is None or _moves(row, one) else row.legacy_id
            stands = number is not None and key in places.rows
            given[one.place.organization].append(_given(one, number, stands=stands))
        changed = {}
        for organization in sorted(gone.keys() | without.keys() | given.keys()):
            build = partial(writing, self._parts[organization].table, organization, self._zone)
            named = arrays(given[organization], gone[organization], without[organization])
            changed[organization] = trip.ask(self._prepared.get(organization, build), **named)
        return changed


def _by_tenant(rows: Iterable[RowName]) -> defaultdict[str, list[int]]:
    found = defaultdict[str, list[int]](list)
    for row in rows:
        found[row.organization].append(row.legacy_id)
    return found


def _found(rows: Iterable[Any], room: Room) -> Found:
    places, scopes = _Places(room=room), dict[str, str | None]()
    for standing in room.rows:
        places.rows[standing.key] = RowName(standing.organization, standing.number)
        scopes[standing.key] = standing.scope
    for organization, number, key, scope, stands in rows:
        if stands:
            places.rows[key], scopes[key] = RowName(organization, number), scope
        else:
            places.entries[key] = RowName(organization, number)
    # A row that was left behind may take the place of one that stands, when it has to give way to another.
    crowded = {standing.scope for standing in room.rows if standing.unfit}
    return Found(scopes, places, {standing.key for standing in room.rows if standing.scope not in crowded})


def _moves(row: RowName, one: _Fit) -> bool:
    return row.organization != one.place.organization


def _changes_scope(key: str, row: RowName, one: _Fit, found: Found) -> bool:
    """Whether a row that stands is to stand in another scope of its tenant."""
    return not _moves(row, one) and found.scopes.get(key) != one.record.scope_


def _written(changed: Mapping[str, Answer]) -> set[RowName]:
    return {RowName(name, number) for name, answer in changed.items() for number, own in answer.rows if own}


def _given(one: _Fit, number: int | None, *, stands: bool) -> TenantRow:
    record, place = one.record, one.place
    assert place.type is not None  # noqa: S101 - scopes are read with their type; for the type checker
    entry = describe(place.organization, number, place.type, record, record.created_at, record.updated_at)
    return TenantRow(record, place.project, place.type, stands, entry)


def _finding(parts: Sequence[Part]) -> Executable:
    """Rows and sidecar entries of the records with one of ``keys``: organization, number, key, scope, stands."""
    arms: list[Select[Any]] = []
    for part in parts:
        rows = part.carried_where(part.where_key(texts("keys"))).subquery()
        key = cast(rows.c.id, Text)
        named = literal(part.name, Text), cast(rows.c.local, Integer), key, rows.c.project_id, true()
        arms.append(select(*named).where(key == any_(texts("keys"))))
    entry = sidecar.c.organization, sidecar.c.legacy_id, cast(sidecar.c.id, Text), cast(null(), Text), false()
    arms.append(select(*entry).where(sidecar.c.id == any_(cast(texts("keys"), ARRAY(Uuid)))))
    return union_all(*arms)
