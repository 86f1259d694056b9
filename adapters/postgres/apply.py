"""Applying carried state to a table: what is gone is deleted, what is there is made equal, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Executable,
    Row,
    String,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.part import REASON, Part


@dataclass(frozen=True, slots=True)
class Destination:
    """A table that carried rows are written to.

    ``flag``: a boolean column of which a uniqueness rule allows one true row in a scope, if there is such a rule.
    ``of_part``: whether a row came from a part of the other store.
    """

    part: Part
    columns: tuple[str, ...]
    flag: str | None
    of_part: Callable[[str], ColumnElement[bool]]

    @property
    def table(self) -> Table:
        return self.part.table

    @property
    def key(self) -> ColumnElement[Any]:
        return self.table.c[self.part.key]

    @property
    def scope(self) -> ColumnElement[Any]:
        return self.table.c[self.part.scope]

    def scopes_of(self, connection: Connection, keys: Collection[str]) -> dict[str, str | None]:
        """The scope in which each of the records stands here now, by key."""
        statement = select(self.key, self.scope).where(self.part.where_local(list(keys)))
        return {str(key): scope for key, scope in connection.execute(statement)}

    def keys_in(self, connection: Connection, scopes: Collection[str]) -> dict[str, str | None]:
        """The records that stand in the scopes here now, by key."""
        statement = select(self.key, self.scope).where(self.scope.in_(list(scopes)))
        return {str(key): scope for key, scope in connection.execute(statement)}

    def scopes_of_part(self, connection: Connection, part: str) -> list[str]:
        """Every scope in which records of the other store's part stand here."""
        statement = select(self.scope).where(self.of_part(part), self.scope.isnot(None)).distinct()
        return [str(scope) for scope in connection.execute(statement).scalars()]


def set_applying(connection: Connection) -> None:
    """Until the transaction ends, triggers of ours and the updated_at trigger stand aside."""
    connection.execute(select(func.set_config("crossfade.applying", "on", True)))


def apply(
    connection: Connection, destination: Destination, keys: Collection[str], rows: Sequence[Row[Any]]
) -> tuple[int, int]:
    """Make the records equal to ``rows``; those of ``keys`` without a row are deleted. Returns (upserted, deleted).

    Deletes and disables come first, so that enabling another record of the scope meets no rival.
    """
    present = {str(getattr(row, destination.part.key)): row for row in rows if getattr(row, REASON) is None}
    gone = [key for key in keys if key not in present]
    deleted = 0
    if gone:
        deleted = connection.execute(delete(destination.table).where(destination.part.where_local(gone))).rowcount
    if not present:
        return 0, deleted
    _lower_flags(connection, destination, present)
    return _upsert(connection, destination, list(present.values())), deleted


def affected(connection: Connection, statement: Executable) -> int:
    """Execute an INSERT and return how many rows it wrote, which SQLAlchemy tells of other statements only."""
    return connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount


def unbounded(column: Column[Any]) -> Any:
    """The column's type on its way here: text without a limit, for a cast to varchar(n) cuts without a word."""
    return Text() if isinstance(column.type, String) else column.type


def _lower_flags(connection: Connection, destination: Destination, present: dict[str, Row[Any]]) -> None:
    """Clear the flag of every record whose flag is about to go, or that is about to leave its scope."""
    if destination.flag is None:
        return
    flag = destination.table.c[destination.flag]
    keep = [
        (key, getattr(row, destination.part.scope)) for key, row in present.items() if getattr(row, destination.flag)
    ]
    key_text = destination.part.local
    stays = tuple_(key_text, destination.scope).in_(keep)
    statement = update(destination.table).where(destination.part.where_local(list(present)), flag, ~stays)
    connection.execute(statement.values({flag: False}))


def _upsert(connection: Connection, destination: Destination, rows: Sequence[Row[Any]]) -> int:
    """One statement for any number of rows: the columns travel as arrays. Equal rows are left untouched."""
    table, names = destination.table, destination.columns
    arrays = [cast(bindparam(name, [getattr(row, name) for row in rows]), ARRAY(table.c[name].type)) for name in names]
    given = func.unnest(*arrays).table_valued(*names, name="given").render_derived(name="given")
    statement = insert(table).from_select(list(names), select(*(given.c[name] for name in names)))
    rest = [name for name in names if name != destination.part.key]
    changed = tuple_(*(table.c[name] for name in rest)).is_distinct_from(
        tuple_(*(statement.excluded[name] for name in rest))
    )
    upsert = statement.on_conflict_do_update(
        index_elements=[destination.part.key], set_={name: statement.excluded[name] for name in rest}, where=changed
    )
    return affected(connection, upsert)
