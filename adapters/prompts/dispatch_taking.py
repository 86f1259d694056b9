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
from itertools import chain, starmap
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    Connection,
    DateTime,
    Executable,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    case,
    cast,
    delete,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.types import TypeEngine

from adapters.postgres.part import REASON, Part, texts
from adapters.postgres.prepared import Prepared, PreparedByShape, parameter
from adapters.postgres.taking import Applied, Standing
from adapters.postgres.trip import Answer, Trip
from adapters.prompts.canonical import DebtReason, LegacyScope, Reading, parse_scope
from adapters.prompts.dispatch import EPOCH, instant, local_stamp, sidecar, tenant_tables
from adapters.prompts.left_behind import Left, LeftBehind, Wanted
from adapters.prompts.sidecar import Entry, RowName, Sidecar, describe, next_numbers
from harness.errors import CannotHold

_GIVEN: dict[str, TypeEngine[Any]] = {
    "id": Integer(),
    "genai_type": Integer(),
    "genai_prompt": Text(),
    "genai_system_message": Text(),
    "enabled": Boolean(),
    "project_id": Integer(),
    "created_at": DateTime(timezone=True),
    "updated_at": DateTime(timezone=True),
}
_STAMPS = ("created_at", "updated_at")
_Build = Callable[[Table, str, str], Executable]


@dataclass(frozen=True, slots=True)
class _Fit:
    """A record that legacy can hold, and its place there."""

    record: Any
    place: LegacyScope


@dataclass(frozen=True, slots=True)
class _Places:
    """By key: the records' rows, and their sidecar entries."""

    rows: dict[str, RowName] = field(default_factory=dict)
    entries: dict[str, RowName] = field(default_factory=dict)

    def of(self, keys: Collection[str]) -> _Places:
        return _Places(*({key: row for key, row in all_.items() if key in keys} for all_ in (self.rows, self.entries)))


@dataclass(frozen=True, slots=True)
class _Room:
    """Of the places where records are to stand: those of their projects that exist, and what was left behind there."""

    projects: set[tuple[str, int]]
    left_behind: list[Left]


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
        self._left_behind = LeftBehind(self._parts)
        self._find = Prepared(_finding(parts))
        self._prepared = PreparedByShape()

    def find(self, trip: Trip, keys: Collection[str]) -> Callable[[], Standing]:
        answer = trip.ask(self._find, keys=sorted(keys))
        return lambda: _standing(answer.rows)

    def survey(self, trip: Trip, rows: Sequence[Any]) -> Callable[[], _Room]:
        asked: dict[str, set[LegacyScope]] = defaultdict(set)
        for place in filter(None, (parse_scope(row.scope_, with_type=True) for row in rows)):
            if place.organization in self._parts:
                asked[place.organization].add(place)
        projects = {organization: self._projects(trip, organization, places) for organization, places in asked.items()}
        left = [self._left_behind.ask(trip, organization, places) for organization, places in asked.items()]
        return lambda: _Room(
            {(organization, number) for organization, answer in projects.items() for [number] in answer.rows},
            list(chain.from_iterable(each() for each in left)),
        )

    def keys_of_part(self, connection: Connection, part: str) -> list[tuple[str, str]]:
        """Key and scope of every record here that has a scope: the other store has one part, and they are all of it."""
        if not self._parts:
            return []
        selects = []
        for tenant in self._parts.values():
            rows = tenant.canonical.subquery()
            selects.append(select(cast(rows.c.id, Text), rows.c.project_id).where(rows.c.project_id.isnot(None)))
        return [(str(key), str(scope)) for key, scope in connection.execute(union_all(*selects))]

    def make_equal(
        self, trip: Trip, keys: Collection[str], rows: Sequence[Any], found: Standing, surveyed: _Room
    ) -> Applied:
        given = {row.key_ for row in rows}
        places: _Places = found.places.of(given.union(keys))
        fit, unfit = self._sort(trip, rows, found.scopes, surveyed)
        deleted = self._remove(trip, places, fit, given)
        changed = self._write(trip, fit, self._numbers(trip, places, fit), places)
        return Applied(unfit, lambda: len(set().union(*(_names(each) for each in changed))), lambda: deleted)

    def _sort(
        self, trip: Trip, rows: Iterable[Any], scopes: Mapping[str, str | None], room: _Room
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
        wanted = [Wanted(key, one.place, one.record.enabled) for key, one in fit.items()]
        for key in self._left_behind.make_room(trip, wanted, room.left_behind):
            unfit[key] = DebtReason.PLACE_TAKEN
            del fit[key]
        return fit, unfit

    def _projects(self, trip: Trip, organization: str, places: Collection[LegacyScope]) -> Answer:
        """Those of the places' projects that exist. One that goes after this look ends as its foreign key's error."""
        look = self._prepared.get(("projects", organization), partial(_looking, organization))
        return trip.ask(look, numbers=sorted({place.project for place in places}))

    def _remove(self, trip: Trip, places: _Places, fit: Mapping[str, _Fit], given: Collection[str]) -> int:
        """Take out the rows that legacy is not to hold, or not in this tenant; how many."""
        left = {key: row for key, row in places.rows.items() if key not in fit or _moves(row, fit[key])}
        kept = {row: key for key, row in left.items() if key in given and key not in fit}
        self._sidecar.keep_numbers(trip, kept)
        gone = {row for key, row in places.entries.items() if key not in given}
        moved = {row for key, row in places.entries.items() if key in fit and _moves(row, fit[key])}
        self._sidecar.drop(trip, gone | moved)
        for organization, numbers in _by_organization(left.values()).items():
            table = self._parts[organization].table
            removal = self._prepared.get(("delete", organization), partial(_deleting, table))
            trip.ask(removal, numbers=numbers)
        return len(left.keys() - fit.keys())

    def _numbers(self, trip: Trip, places: _Places, fit: Mapping[str, _Fit]) -> dict[str, RowName]:
        """The row of each record: where it stands, else the number that was kept for it, else a new one."""
        rows: dict[str, RowName] = {}
        fresh: dict[str, list[str]] = defaultdict(list)
        for key, one in sorted(fit.items()):
            known = places.rows.get(key) or places.entries.get(key)
            if known is not None and not _moves(known, one):
                rows[key] = known
            else:
                fresh[one.place.organization].append(key)
        asked = {
            organization: next_numbers(trip, self._parts[organization].table, len(keys))
            for organization, keys in fresh.items()
        }
        for organization, answer in asked.items():
            numbers = zip(fresh[organization], answer.rows, strict=True)
            rows |= {key: RowName(organization, number) for key, [number] in numbers}
        return rows

    def _write(self, trip: Trip, fit: Mapping[str, _Fit], rows: Mapping[str, RowName], places: _Places) -> list[Answer]:
        """Write rows and entries; the answers name the rows of which either changed."""
        changed = self._sidecar.write(trip, [_entry(rows[key], one) for key, one in fit.items()])
        batches: dict[tuple[str, _Build], list[tuple[RowName, _Fit]]] = defaultdict(list)
        for key, one in fit.items():
            build: _Build = _updating if rows[key] == places.rows.get(key) else _inserting
            batches[one.place.organization, build].append((rows[key], one))
        for (organization, build), batch in batches.items():
            table = self._parts[organization].table
            statement = self._prepared.get((build, organization), partial(build, table, organization, self._zone))
            changed.append(trip.ask(statement, **_arrays(batch)))
        return changed


def _standing(rows: Iterable[Any]) -> Standing:
    found, scopes = _Places(), dict[str, str | None]()
    for organization, number, key, scope, stands in rows:
        if stands:
            found.rows[key], scopes[key] = RowName(organization, number), scope
        else:
            found.entries[key] = RowName(organization, number)
    return Standing(scopes, found)


def _names(answer: Answer) -> set[RowName]:
    return set(starmap(RowName, answer.rows))


def _moves(row: RowName, one: _Fit) -> bool:
    return row.organization != one.place.organization


def _by_organization(rows: Iterable[RowName]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for row in sorted(rows):
        numbers[row.organization].append(row.legacy_id)
    return numbers


def _entry(row: RowName, one: _Fit) -> Entry:
    assert one.place.type is not None  # noqa: S101 - scopes are read with their type; for the type checker
    return describe(row, one.place.type, one.record, one.record.created_at, one.record.updated_at)


def _arrays(rows: Sequence[tuple[RowName, _Fit]]) -> dict[str, list[Any]]:
    """The rows' values as one array for each of ``_GIVEN``."""
    return {
        "id": [row.legacy_id for row, _ in rows],
        "genai_type": [one.place.type for _, one in rows],
        "genai_prompt": [one.record.content for _, one in rows],
        "genai_system_message": [one.record.system_message for _, one in rows],
        "enabled": [one.record.enabled for _, one in rows],
        "project_id": [one.place.project for _, one in rows],
        "created_at": [one.record.created_at for _, one in rows],
        "updated_at": [one.record.updated_at for _, one in rows],
    }


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


def _looking(organization: str) -> Executable:
    project, _ = tenant_tables(organization)
    return select(project.c.id).where(project.c.id == any_(parameter("numbers", ARRAY(Integer))))


def _deleting(table: Table) -> Executable:
    return delete(table).where(table.c.id == any_(parameter("numbers", ARRAY(Integer))))


def _given() -> Any:
    arrays = [parameter(name, ARRAY(kind)) for name, kind in _GIVEN.items()]
    return func.unnest(*arrays).table_valued(*_GIVEN, name="given").render_derived(name="given")


def _inserting(table: Table, organization: str, zone: str) -> Executable:
    given = _given()
    chosen = [local_stamp(given.c[name], zone) if name in _STAMPS else given.c[name] for name in _GIVEN]
    return insert(table).from_select(list(_GIVEN), select(*chosen)).returning(literal(organization, Text), table.c.id)


def _updating(table: Table, organization: str, zone: str) -> Executable:
    """Only rows that do not read as given, and of these only the stamps that do not.

    A NULL stamp reads as the other one, so as long as both read as given, both stay.
    """
    given, own = _given(), table.c
    created, updated = given.c.created_at, given.c.updated_at

    def tells(stamp: Any, moment: Any) -> ColumnElement[bool]:
        # By the clock of legacy; where that shows a time twice, the sidecar says which of the two.
        return or_(instant(stamp, zone) == moment, local_stamp(moment, zone) == stamp)

    def reads(first: Any, second: Any, moment: Any) -> ColumnElement[bool]:
        borrowed = second.isnot(None), and_(tells(second, moment), created == updated)
        return case((first.isnot(None), tells(first, moment)), borrowed, else_=moment == EPOCH)

    stand = and_(
        reads(own.created_at, own.updated_at, created),
        reads(own.updated_at, own.created_at, updated),
    )
    plain = [name for name in _GIVEN if name != "id" and name not in _STAMPS]
    values = {name: given.c[name] for name in plain}
    for name in _STAMPS:
        stays = or_(stand, tells(own[name], given.c[name]))
        values[name] = case((stays, own[name]), else_=local_stamp(given.c[name], zone))
    differs = tuple_(*(own[name] for name in plain)).is_distinct_from(tuple_(*(given.c[name] for name in plain)))
    changed = update(table).where(own.id == given.c.id, or_(differs, ~stand)).values(values)
    return changed.returning(literal(organization, Text), own.id)
