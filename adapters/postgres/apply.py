"""Applying carried state to a table: what is gone is deleted, what is there is made equal, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
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
    delete,
    exists,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.part import REASON, Part, texts
from adapters.postgres.prepared import PreparedByShape, parameter
from adapters.postgres.taking import Applied, Standing


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

    def find(self, connection: Connection, keys: Collection[str]) -> Standing:
        """Where the records stand here now."""
        chosen = select(self.key, self.scope)
        found = self.prepared.get("find", lambda: chosen.where(self.part.where_local(texts("keys"))))
        rows: Sequence[Any] = found.execute(connection, keys=sorted(keys)).all()
        return Standing({str(row[0]): row[1] for row in rows})

    def keys_of_part(self, connection: Connection, part: str) -> list[tuple[str, str]]:
        """Key and scope of every record with a scope that came from the other store's part."""
        statement = select(self.key, self.scope).where(self.of_part(part), self.scope.isnot(None))
        return [(str(key), str(scope)) for key, scope in connection.execute(statement)]

    def make_equal(
        self, connection: Connection, keys: Collection[str], rows: Sequence[Row[Any]], found: Standing
    ) -> Applied:
        """Make the records equal to ``rows``; those of ``keys`` without a fit one are deleted.

        Deletes and disables come first, so that enabling another record of the scope meets no rival.
        """
        present = {str(getattr(row, self.part.key)): row for row in rows if getattr(row, REASON) is None}
        gone = sorted(set(keys) - present.keys())
        deleted = 0
        if gone:
            removal = self.prepared.get("delete", lambda: _deletion(self))
            deleted = removal.execute(connection, keys=gone).rowcount
        if not present:
            return Applied(0, deleted)
        if self.flag is not None:
            _lower_flags(connection, self, self.flag, present)
        upsert = self.prepared.get("upsert", lambda: _upsertion(self))
        columns = {name: [getattr(row, name) for row in present.values()] for name in self.columns}
        return Applied(upsert.execute(connection, **columns).rowcount, deleted)


def set_applying(connection: Connection) -> None:
    """Until the transaction ends, triggers of ours and the updated_at trigger stand aside."""
    connection.execute(select(func.set_config("crossfade.applying", "on", True)))


def affected(connection: Connection, statement: Executable) -> int:
    """Execute an INSERT and return how many rows it wrote, which SQLAlchemy tells of other statements only."""
    return connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount


def unbounded(column: Column[Any]) -> Any:
    """The column's type on its way here: text without a limit, for a cast to varchar(n) cuts without a word."""
    return Text() if isinstance(column.type, String) else column.type


def _deletion(destination: Destination) -> Executable:
    return delete(destination.table).where(destination.part.where_local(texts("keys")))


def _lower_flags(connection: Connection, destination: Destination, flag: str, present: dict[str, Row[Any]]) -> None:
    """Clear the flag of every record whose flag is about to go, or that is about to leave its scope."""
    bearers = {key: getattr(row, destination.part.scope) for key, row in present.items() if getattr(row, flag)}
    lowering = destination.prepared.get("lower", lambda: _lowering(destination, flag))
    lowering.execute(connection, keys=list(present), bearers=list(bearers), bearers_scopes=list(bearers.values()))


def _lowering(destination: Destination, flag: str) -> Executable:
    keep = func.unnest(texts("bearers"), texts("bearers_scopes")).table_valued("key", "scope", name="keep")
    keep = keep.render_derived(name="keep")
    stays = exists().where(keep.c.key == destination.part.local, keep.c.scope == destination.scope)
    raised = destination.table.c[flag]
    chosen = update(destination.table).where(destination.part.where_local(texts("keys")), raised, ~stays)
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
