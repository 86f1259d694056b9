"""What Dispatch has no column for, written to the sidecar in the transaction of the rows, and numbers for new rows.

An entry says only what its row does not; the rest goes on following the row. One that would say nothing is not kept.
An entry without a row keeps a record's number, for the day when legacy can hold the record again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import starmap
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CTE,
    Boolean,
    Column,
    ColumnElement,
    Delete,
    Executable,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    case,
    delete,
    exists,
    func,
    literal,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.apply import unbounded
from adapters.postgres.part import texts
from adapters.postgres.prepared import Prepared, parameter
from adapters.postgres.trip import Trip
from adapters.prompts.canonical import legacy_type
from adapters.prompts.dispatch import beside, instant, local_stamp
from adapters.prompts.dispatch_rows import legacy_id
from adapters.prompts.dispatch_tables import sidecar


class RowName(NamedTuple):
    """A row of Dispatch's: numbers repeat from tenant to tenant."""

    organization: str
    legacy_id: int


class Entry(NamedTuple):
    """What a row's sidecar entry is to say; a None leaves the derived value in force.

    ``legacy_id``: None where the row has yet to be given a number. Of the stamps only those are kept that legacy's
    clock cannot tell from another instant.
    """

    organization: str
    legacy_id: int | None
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
        if self.legacy_id is None:  # an id that was made elsewhere
            return False
        said = self.name, self.description, self.type, self.version
        return said == (None,) * len(said) and self.id == legacy_id(self.organization, self.legacy_id)


def describe(
    organization: str,
    number: int | None,
    genai_type: int,
    record: Any,
    created_at: datetime | None,
    updated_at: datetime | None,
) -> Entry:
    """The entry for a record (anything with the canonical columns as attributes) in a row of that type."""
    known = legacy_type(genai_type)
    return Entry(
        organization=organization,
        legacy_id=number,
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

    def write(self, trip: Trip, entry: Entry) -> None:
        """Make a row's entry say just this."""
        trip.ask(self._write, **{name: getattr(entry, name) for name in _ENTRY})

    def keep_numbers(self, trip: Trip, ids: dict[RowName, str]) -> None:
        """Keep the numbers of rows that are about to go, each for the record of that id."""
        if ids:
            numbers = {"organizations": [r.organization for r in ids], "numbers": [r.legacy_id for r in ids]}
            trip.ask(_KEEP, ids=list(ids.values()), **numbers)

    def drop(self, trip: Trip, organization: str, numbers: Sequence[int]) -> None:
        """Remove the entries of a tenant's rows."""
        trip.ask(_DROP, organization=organization, numbers=list(numbers))

    def release(self, trip: Trip, id: UUID) -> RowName | None:
        """Remove the entry of a record that has no row, if there is one; the row it kept the number of."""
        return next(starmap(RowName, trip.ask(_RELEASE, id=id).rows), None)


def next_number(table: Table, organization: str, given: FromClause | None = None) -> ColumnElement[int]:
    """A number for a new row, another one each time, from the tenant's own sequence: Dispatch never meets it.

    Of rows that are ``given``, for each that has none as its ``number``.

    The sequence may be behind rows that were made with numbers of their own: it is drawn from until a number is neither
    taken nor kept. That is safe beside Dispatch's own inserts, and moves it past those rows for Dispatch, too; to set
    it could set it back, behind what Dispatch draws meanwhile.
    """
    quoted = f'"{str(table.schema).replace(chr(34), chr(34) * 2)}"."{table.name}"'
    sequence = func.pg_get_serial_sequence(literal(quoted, Text), literal("id", Text))
    draw = select(func.nextval(sequence, type_=Integer()).label("number"))
    first = draw if given is None else draw.where(given.c.number.is_(None)).correlate(given)
    drawn = first.cte("drawn", recursive=True, nesting=True)
    row = select(table.c.id).where(table.c.id == drawn.c.number)
    entry = select(sidecar.c.legacy_id).where(beside(organization, drawn.c.number))
    taken = union_all(row.correlate(drawn), entry.correlate(drawn))  # as one: each alone might be hashed, whole
    again = draw.select_from(drawn).where(exists(taken.scalar_subquery()))
    return select(func.max(drawn.union_all(again).c.number)).scalar_subquery()


def said(zone: str, *, created_at: Any, updated_at: Any, **values: Any) -> Any:
    """Entries to write, from the columns of what is given: those stamps only that have to be kept."""

    def kept(moment: ColumnElement[Any]) -> ColumnElement[Any]:
        return case((instant(local_stamp(moment, zone), zone) != moment, moment))

    values |= {"created_at": kept(created_at), "updated_at": kept(updated_at)}
    return select(*(value.label(name) for name, value in values.items())).cte("said")


def dropping(organization: ColumnElement[str], numbers: ColumnElement[Any]) -> Delete:
    """Remove the entries of a tenant's rows.

    Never by a join: a plan of one that is made while the sidecar holds next to nothing reads all of it, and is kept.
    """
    return delete(sidecar).where(sidecar.c.organization == organization, sidecar.c.legacy_id == any_(numbers))


def written(organization: ColumnElement[str], said: Any) -> list[CTE]:
    """A tenant's entries that say something are made to say it, the others are removed; both name the rows whose entry
    changed.
    """
    silent = and_(said.c.silent, *(said.c[name].is_(None) for name in _STAMPS))
    chosen: Select[Any] = select(*(said.c[column.name] for column in _SAID)).where(~silent)
    statement = insert(sidecar).from_select(list(_SAID), chosen)
    rest = [column for column in _SAID if column not in _KEYS]
    changed = tuple_(*rest).is_distinct_from(tuple_(*(statement.excluded[column.name] for column in rest)))
    updated = {column.name: statement.excluded[column.name] for column in rest}
    upserted = statement.on_conflict_do_update(index_elements=_KEYS, set_=updated, where=changed)
    removed = dropping(organization, func.array(select(said.c.legacy_id).where(silent).scalar_subquery()))
    return [act.returning(*_KEYS).cte(name) for name, act in (("written", upserted), ("removed", removed))]


_SAID: tuple[Column[Any], ...] = tuple(column for column in sidecar.c if not column.system)
_KEYS = [sidecar.c.organization, sidecar.c.legacy_id]
_STAMPS = ("created_at", "updated_at")
_ENTRY = [*(column.name for column in _SAID), "silent"]


def _writing(zone: str) -> Executable:
    given = {column.name: parameter(column.name, unbounded(column)) for column in _SAID}
    done = written(given["organization"], said(zone, silent=parameter("silent", Boolean), **given))
    return union_all(*(select(act) for act in done))


def _keeping() -> Executable:
    arrays = texts("organizations"), parameter("numbers", ARRAY(Integer)), parameter("ids", ARRAY(Uuid))
    kept = func.unnest(*arrays).table_valued("organization", "legacy_id", "id", name="kept").render_derived(name="kept")
    statement = insert(sidecar).from_select(["organization", "legacy_id", "id"], select(*kept.c))
    return statement.on_conflict_do_nothing(index_elements=_KEYS)


_DROP = Prepared(dropping(parameter("organization", Text), parameter("numbers", ARRAY(Integer))))
_KEEP = Prepared(_keeping())
_RELEASE = Prepared(delete(sidecar).where(sidecar.c.id == parameter("id", Uuid)).returning(*_KEYS))
