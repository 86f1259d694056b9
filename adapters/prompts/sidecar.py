"""What Dispatch has no column for, written to the sidecar in the transaction of the rows, and numbers for new rows.

An entry says only what its row does not; the rest goes on following the row. One that would say nothing is not kept.
An entry without a row keeps a record's number, for the day when legacy can hold the record again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import starmap
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    ColumnElement,
    Delete,
    Executable,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    case,
    delete,
    func,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.apply import unbounded
from adapters.postgres.part import texts
from adapters.postgres.prepared import Prepared, parameter
from adapters.postgres.trip import Answer, Trip
from adapters.prompts.canonical import legacy_type
from adapters.prompts.dispatch import instant, local_stamp, sidecar
from adapters.prompts.dispatch_rows import legacy_id


class RowName(NamedTuple):
    """A row of Dispatch's: numbers repeat from tenant to tenant."""

    organization: str
    legacy_id: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What a row's sidecar entry is to say; a None leaves the derived value in force.

    Of the stamps only those are kept that legacy's clock cannot tell from another instant.
    """

    organization: str
    legacy_id: int
    id: UUID
    name: str | None = None
    description: str | None = None
    type: str | None = None
    version: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def silent(self) -> bool:
        """Whether it says nothing, unless one of its stamps has to be kept."""
        said = self.name, self.description, self.type, self.version
        return said == (None,) * len(said) and self.id == legacy_id(self.organization, self.legacy_id)


def describe(
    row: RowName, genai_type: int, record: Any, created_at: datetime | None, updated_at: datetime | None
) -> Entry:
    """The entry for a record (anything with the canonical columns as attributes) in a row of that type."""
    known = legacy_type(genai_type)
    return Entry(
        organization=row.organization,
        legacy_id=row.legacy_id,
        id=record.id,
        name=None if record.name == known.display else record.name,
        description=record.description,
        type=None if record.type == known.type else str(record.type),
        version=None if record.version == 1 else record.version,
        created_at=created_at,
        updated_at=updated_at,
    )


class Sidecar:
    """The sidecar's statements, for one legacy time zone."""

    def __init__(self, time_zone: str) -> None:
        self._write = Prepared(_writing(time_zone))

    def write(self, trip: Trip, entries: Sequence[Entry]) -> list[Answer]:
        """Make the rows' entries say just this; the answer, if any, names the rows whose entry changed."""
        return [trip.ask(self._write, **_given(entries))] if entries else []

    def keep_numbers(self, trip: Trip, ids: dict[RowName, str]) -> None:
        """Keep the numbers of rows that are about to go, each for the record of that id."""
        if ids:
            numbers = {"organizations": [r.organization for r in ids], "numbers": [r.legacy_id for r in ids]}
            trip.ask(_KEEP, ids=list(ids.values()), **numbers)

    def drop(self, trip: Trip, rows: Collection[RowName]) -> None:
        """Remove the entries of the rows."""
        if rows:
            trip.ask(_DROP, organizations=[r.organization for r in rows], numbers=[r.legacy_id for r in rows])

    def release(self, trip: Trip, id: UUID) -> RowName | None:
        """Remove the entry of a record that has no row, if there is one; the row it kept the number of."""
        return next(starmap(RowName, trip.ask(_RELEASE, id=id).rows), None)


def next_numbers(trip: Trip, table: Table, count: int) -> Answer:
    """So many numbers for new rows, from the tenant's own sequence: Dispatch never meets one of them."""
    quoted = f'"{str(table.schema).replace(chr(34), chr(34) * 2)}"."{table.name}"'
    return trip.ask(_NUMBERS, table=quoted, count=count)


_SAID: tuple[Column[Any], ...] = tuple(column for column in sidecar.c if not column.system)
_KEYS = [sidecar.c.organization, sidecar.c.legacy_id]
_STAMPS = ("created_at", "updated_at")


def _given(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """The entries as one array for each column."""
    names = [*(column.name for column in _SAID), "silent"]
    return {name: [getattr(entry, name) for entry in entries] for name in names}


def _said(zone: str) -> Any:
    """The given entries, with those stamps only that have to be kept."""
    names = [column.name for column in _SAID]
    arrays = [parameter(column.name, ARRAY(unbounded(column))) for column in _SAID]
    given = func.unnest(*arrays, parameter("silent", ARRAY(Boolean))).table_valued(*names, "silent", name="given")
    given = given.render_derived(name="given")

    def kept(moment: ColumnElement[Any]) -> ColumnElement[Any]:
        return case((instant(local_stamp(moment, zone), zone) != moment, moment))

    stamps = {name: kept(given.c[name]) for name in _STAMPS}
    return select(*(stamps.get(column.name, column).label(column.name) for column in given.c)).cte("said")


def _is_silent(said: Any) -> ColumnElement[bool]:
    return and_(said.c.silent, *(said.c[name].is_(None) for name in _STAMPS))


def _writing(zone: str) -> Executable:
    """Entries that say something are made to say it, the others are removed; the rows whose entry changed."""
    said = _said(zone)
    chosen: Select[Any] = select(*(said.c[column.name] for column in _SAID)).where(~_is_silent(said))
    statement = insert(sidecar).from_select(list(_SAID), chosen)
    rest = [column for column in _SAID if column not in _KEYS]
    changed = tuple_(*rest).is_distinct_from(tuple_(*(statement.excluded[column.name] for column in rest)))
    updated = {column.name: statement.excluded[column.name] for column in rest}
    upserted = statement.on_conflict_do_update(index_elements=_KEYS, set_=updated, where=changed)
    same = and_(*(column == said.c[column.name] for column in _KEYS))
    removed = delete(sidecar).where(same, _is_silent(said))
    done = [act.returning(*_KEYS).cte(name) for name, act in (("written", upserted), ("removed", removed))]
    return union_all(*(select(act) for act in done))


def _numbering() -> Executable:
    sequence = func.pg_get_serial_sequence(parameter("table", Text), "id")
    series = func.generate_series(1, parameter("count", Integer)).table_valued("n")
    return select(func.nextval(sequence)).select_from(series)


def _rows_given() -> Any:
    arrays = texts("organizations"), parameter("numbers", ARRAY(Integer))
    return func.unnest(*arrays).table_valued("organization", "legacy_id", name="gone").render_derived(name="gone")


def _dropping() -> Delete:
    gone = _rows_given()
    return delete(sidecar).where(*(column == gone.c[column.name] for column in _KEYS))


def _keeping() -> Executable:
    arrays = texts("organizations"), parameter("numbers", ARRAY(Integer)), parameter("ids", ARRAY(Uuid))
    kept = func.unnest(*arrays).table_valued("organization", "legacy_id", "id", name="kept").render_derived(name="kept")
    statement = insert(sidecar).from_select(["organization", "legacy_id", "id"], select(*kept.c))
    return statement.on_conflict_do_nothing(index_elements=_KEYS)


_NUMBERS = Prepared(_numbering())
_DROP = Prepared(_dropping())
_KEEP = Prepared(_keeping())
_RELEASE = Prepared(delete(sidecar).where(sidecar.c.id == parameter("id", Uuid)).returning(*_KEYS))
