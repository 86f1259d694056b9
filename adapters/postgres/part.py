"""What Crossfade must know of one table to carry its rows: the mapping of a store is a few of these.

A store may keep one kind of record in several tables of the same shape (Dispatch: one per tenant). Each is a
part. Everything that any PostgreSQL store needs (bulk copy, capture, carrying over, digests) is written against
parts, so a new adapter brings parts and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    DateTime,
    Delete,
    FromClause,
    Insert,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    any_,
    case,
    cast,
    collate,
    literal,
    literal_column,
    null,
    select,
)

from adapters.postgres.prepared import parameter

REASON = "reason"
VERSION = "row_version"


def texts(name: str) -> ColumnElement[Any]:
    """A parameter of that name, an array of text."""
    return parameter(name, ARRAY(Text))


def these(values: Iterable[str]) -> ColumnElement[Any]:
    """The values as an array of text."""
    return literal(sorted(values), ARRAY(Text))


def alike(one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether two values are the same when written out, which not all types' own equality says (1.0 and 1.00)."""
    if isinstance(one.type, Integer | Uuid | Boolean | DateTime):
        return one == other
    return collate(cast(one, Text), "C") == collate(cast(other, Text), "C")


@dataclass(frozen=True, slots=True)
class Holding:
    """Which rows of a table the other store could not hold. A row is whatever has the table's columns as attributes.

    ``unholdable``: of a row, the name of why, or NULL.
    ``by``: the columns on which that depends; and it may depend on what stands beside the row.
    ``stays``: true only of an UPDATE, told by the row before and after, that made nothing unholdable.
    ``alone``: true only of a row that could be held whatever stood beside it; no query. Both need not be true of each
    such, but should be of nearly all: they are what a writer pays for, and where neither is true, ``unholdable`` tells.
    """

    unholdable: Callable[[Any], ColumnElement[Any]]
    by: tuple[str, ...]
    stays: Callable[[Any, Any], ColumnElement[bool]]
    alone: Callable[[Any], ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class Part:
    """One table of a store.

    ``canonical``: selects the canonical columns, in the mapping's order, then ``reason``: NULL, or the closed-set
    name of why the row cannot be represented on the other side.
    ``few``: the same, for a few rows that a condition names, where that is to be read in another way.
    ``key`` and ``scope``: which canonical columns name the record and its scope.
    ``order``: the table's integer key, by which chunks are cut; None where rows are never bulk copied from.
    ``local``: the table's own key as an expression of text; ``where_local``, given an array of such texts: the rows
    with one of these keys.
    ``where_key``, given an array of canonical keys as text: a condition, fit for an index, that their rows fulfil; a
    few others may fulfil it too, so the canonical key is asked for again (``by_keys``). The same function as
    ``where_local`` where the canonical key is the table's own, so that neither is asked for what the other has told.
    ``where_scope``: the rows of a scope, or None if this part cannot hold the scope.
    ``where_scopes``, given an array of scopes: their rows; None where they cannot be told in one condition.
    ``noted``: for rows of the table's shape, what capture writes down beside the scope: columns key, local, text both.
    ``staying``: the same of rows that stay where they are, without the key (NULL), if that is costly to tell: whoever
    reads the note asks the row, or, if that has gone meanwhile, is told by the note of its going.
    ``guessed``: then, for a local key, the canonical key that its row most likely has.
    ``forget``: what else must go when such rows are deleted, if anything; ``forget_all``: when all are.
    ``keep``, given arrays of local keys and of the canonical keys of records, both as text: keeps each local key for
    its record, which has no row any more, unless another row has it; None where nothing rests on local keys.
    ``identity``: an expression worth an index, because the canonical key is computed and not stored.
    ``version``: an expression of text that changes with every write to the row, if there is one.
    ``scope_of``: for rows of the table's shape (anything with its columns as attributes), the scope as an expression.
    ``scope_by``: every column on which that depends, and it on nothing else; None where that is not said, and then both
    scopes are computed and compared for each UPDATE of a row.
    ``cascaded``: for a row that is being deleted, whether its owner is gone and took it along, if rows have owners.
    ``holding``: which rows the other store could not hold; None where ``canonical`` says all there is to say.
    ``whole_scopes``: one row's change may change what is carried of its siblings, so whole scopes are carried.
    """

    name: str
    table: Table
    key: str
    scope: str
    canonical: Select[Any]
    order: ColumnElement[int] | None
    local: ColumnElement[str]
    where_local: Callable[[ColumnElement[Any]], ColumnElement[bool]]
    where_key: Callable[[ColumnElement[Any]], ColumnElement[bool]]
    where_scope: Callable[[str], ColumnElement[bool] | None]
    noted: Callable[[FromClause], Select[Any]]
    scope_of: Callable[[Any], ColumnElement[str]]
    scope_by: tuple[str, ...] | None = None
    where_scopes: Callable[[ColumnElement[Any]], ColumnElement[bool]] | None = None
    cascaded: Callable[[Any], ColumnElement[bool]] | None = None
    holding: Holding | None = None
    staying: Callable[[FromClause], Select[Any]] | None = None
    guessed: Callable[[str], str] | None = None
    forget: Callable[[FromClause], Delete] | None = None
    forget_all: Delete | None = None
    keep: Callable[[ColumnElement[Any], ColumnElement[Any]], Insert] | None = None
    identity: ColumnElement[Any] | None = None
    version: ColumnElement[str] | None = None
    few: Select[Any] | None = None
    whole_scopes: bool = False

    @property
    def carried(self) -> Select[Any]:
        """``canonical`` with ``local``; of a row that cannot be represented, only what names it.

        So that a huge text or a stamp that Python cannot hold never leaves the database.
        """
        # OFFSET 0 keeps the planner from computing the reason once for each column that asks for it.
        whole = self.canonical.add_columns(self.local.label("local")).offset(literal_column("0"))
        rows = whole.subquery("rows")
        named = {self.key, self.scope, REASON, "local"}
        columns: list[ColumnElement[Any]] = [
            column if column.name in named else case((rows.c[REASON].is_(None), column)).label(column.name)
            for column in rows.c
        ]
        return select(*columns)

    def by_keys(self, keys: ColumnElement[Any]) -> Select[Any]:
        """The canonical rows with one of these keys, an array of text, each with its version."""
        version = cast(null(), Text) if self.version is None else self.version
        rows = self.canonical.where(self.where_key(keys)).add_columns(version.label(VERSION)).subquery("rows")
        return select(rows).where(cast(rows.c[self.key], Text) == any_(keys))

    def carried_where(self, condition: ColumnElement[bool]) -> Select[Any]:
        """``carried`` of the few rows that fulfil a condition on the table's own columns."""
        return replace(self, canonical=self.of_few.where(condition)).carried

    @property
    def of_few(self) -> Select[Any]:
        return self.canonical if self.few is None else self.few
