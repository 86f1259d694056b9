"""Applying carried state to a table: what is gone is deleted, what is there is made equal, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Executable,
    String,
    Table,
    Text,
    cast,
    delete,
    false,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.part import REASON, Part, texts
from adapters.postgres.prepared import PreparedByShape, parameter
from adapters.postgres.taking import Applied, Found
from adapters.postgres.trip import Answer, Trip


@dataclass(frozen=True, slots=True)
class Destination:
    """A table that carried rows are written to; fulfils ``Taking``.

    ``flag``: a boolean column of which a uniqueness rule allows one true row in a scope, if there is such a rule.
    ``of_part``: whether a row came from a part of the other store.
    """

    part: Part
    columns: tuple[str, ...]
    flag: str | None
    of_part: Callable[[str], ColumnElement[bool]]
    prepared: PreparedByShape = field(default_factory=PreparedByShape, compare=False, repr=False)

    @property
    def table(self) -> Table:
        return self.part.table

    @property
    def key(self) -> ColumnElement[Any]:
        return self.table.c[self.part.key]

    @property
    def scope(self) -> ColumnElement[Any]:
        return self.table.c[self.part.scope]

    def look(self, trip: Trip, keys: Collection[str], scopes: Collection[str]) -> Callable[[], Found]:
        """Where the records stand here now; ``places`` are the keys of those whose flag is raised.

        There is a place for every record here, whatever its scope.
        """
        if not keys:
            return Found
        answer = trip.ask(self.prepared.get("find", lambda: _finding(self)), keys=sorted(keys))
        return lambda: Found(
            {key: scope for key, scope, _ in answer.rows}, frozenset(key for key, _, raised in answer.rows if raised)
        )

    def keys_of_part(self, connection: Connection, part: str) -> list[tuple[str, str]]:
        """Key and scope of every record with a scope that came from the other store's part."""
        statement = select(self.key, self.scope).where(self.of_part(part), self.scope.isnot(None))
        return [(str(key), str(scope)) for key, scope in connection.execute(statement)]

    def make_equal(self, trip: Trip, keys: Collection[str], rows: Sequence[Any], found: Found) -> Applied:
        """Make the records equal to ``rows``; those of ``keys`` without a fit one are deleted.

        Deletes and disables come first, so that enabling another record of the scope meets no rival.
        """
        present = {row.key_: row for row in rows if getattr(row, REASON) is None}
        deletes, upserts = list[Answer](), list[Answer]()
        if gone := sorted((set(keys) - present.keys()) & found.scopes.keys()):
            deletes.append(trip.ask(self.prepared.get("delete", lambda: _deletion(self)), keys=gone))
        if present:
            self._lower_flags(trip, present, found)
            columns = {name: [getattr(row, name) for row in present.values()] for name in self.columns}
            upserts.append(trip.ask(self.prepared.get("upsert", lambda: _upsertion(self)), **columns))
        return Applied({}, lambda: sum(each.count for each in upserts), lambda: sum(each.count for each in deletes))

    def _lower_flags(self, trip: Trip, present: Mapping[str, Any], found: Found) -> None:
        """Clear the flag of every record whose flag is about to go, or that is about to leave its scope."""
        if (flag := self.flag) is None:
            return
        lowered = [
            key
            for key in sorted(found.places & present.keys())
            if not getattr(present[key], flag) or present[key].scope_ != found.scopes[key]
        ]
        if lowered:
            trip.ask(self.prepared.get("lower", lambda: _lowering(self, flag)), keys=lowered)


def set_applying(connection: Connection) -> None:
    """Until the transaction ends, triggers of ours and the updated_at trigger stand aside."""
    connection.execute(select(func.set_config("crossfade.applying", "on", True)))


def affected(connection: Connection, statement: Executable) -> int:
    """Execute an INSERT and return how many rows it wrote, which SQLAlchemy tells of other statements only."""
    return connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount


def unbounded(column: Column[Any]) -> Any:
    """The column's type on its way here: text without a limit, for a cast to varchar(n) cuts without a word."""
    return Text() if isinstance(column.type, String) else column.type


def _finding(destination: Destination) -> Executable:
    flag = false() if destination.flag is None else destination.table.c[destination.flag]
    chosen = select(cast(destination.key, Text), destination.scope, flag.label("flag"))
    return chosen.where(destination.part.where_local(texts("keys")))


def _deletion(destination: Destination) -> Executable:
    return delete(destination.table).where(destination.part.where_local(texts("keys")))


def _lowering(destination: Destination, flag: str) -> Executable:
    chosen = update(destination.table).where(destination.part.where_local(texts("keys")))
    return chosen.values({flag: False})


def _upsertion(destination: Destination) -> Executable:
    """One statement for any number of rows: the columns travel as arrays. Equal rows are left untouched."""
    table, names = destination.table, destination.columns
    arrays = [parameter(name, ARRAY(unbounded(table.c[name]))) for name in names]
    given = func.unnest(*arrays).table_valued(*names, name="given").render_derived(name="given")
    statement = insert(table).from_select(list(names), select(*(given.c[name] for name in names)))
    rest = [name for name in names if name != destination.part.key]
    changed = tuple_(*(table.c[name] for name in rest)).is_distinct_from(
        tuple_(*(statement.excluded[name] for name in rest))
    )
    return statement.on_conflict_do_update(
        index_elements=[destination.part.key], set_={name: statement.excluded[name] for name in rest}, where=changed
    )
