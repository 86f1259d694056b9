"""What Crossfade must know of one table to carry its rows: the mapping of a store is a few of these.

A store may keep one kind of record in several tables of the same shape (Dispatch: one per tenant). Each is a
part. Everything that any PostgreSQL store needs (bulk copy, capture, carrying over, digests) is written against
parts, so a new adapter brings parts and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Delete, FromClause, Select, Table

REASON = "reason"


@dataclass(frozen=True, slots=True)
class Part:
    """One table of a store.

    ``canonical``: selects the canonical columns, in the mapping's order, then ``reason``: NULL, or the closed-set
    name of why the row cannot be represented on the other side.
    ``order``: the table's integer key, by which chunks are cut; None where rows are never bulk copied from.
    ``local``: the table's own key as an expression of text, ``where_local`` the rows with one of these keys.
    ``where_scope``: the rows of a scope, or None if this part cannot hold the scope.
    ``noted``: for rows of the table's shape, what capture writes down: columns scope, key, local, all text.
    ``forget``: what else must go when such rows are deleted, if anything.
    ``whole_scopes``: one row's change may change what is carried of its siblings, so scopes are noted as a whole.
    """

    name: str
    table: Table
    canonical: Select[Any]
    order: ColumnElement[int] | None
    local: ColumnElement[str]
    where_local: Callable[[Sequence[str]], ColumnElement[bool]]
    where_scope: Callable[[str], ColumnElement[bool] | None]
    noted: Callable[[FromClause], Select[Any]]
    forget: Callable[[FromClause], Delete] | None = None
    whole_scopes: bool = False
