"""Both tables, and how their rows are read as canonical columns: the mapping, written once.

Legacy names a row by two columns. The canonical key is one text made of both, which new keeps as its id.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    UniqueConstraint,
    any_,
    case,
    cast,
    literal,
    select,
    type_coerce,
)

from adapters.postgres.apply import Destination
from adapters.postgres.part import Part

COLUMNS = ("id", "warehouse", "sku", "pieces", "shelf")

stock = Table(  # legacy's
    "stock",
    MetaData(),
    Column("warehouse", Text, primary_key=True),
    Column("article", Integer, primary_key=True, index=True),
    Column("pieces", Integer, nullable=False),
    Column("shelf", Text),
    schema="public",
)
items = Table(  # new's
    "items",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("warehouse", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("pieces", Integer, CheckConstraint("pieces >= 0"), nullable=False),
    Column("shelf", Text),
    UniqueConstraint("warehouse", "sku"),
)


def _sku(rows: Any) -> ColumnElement[str]:
    return literal("A-", Text).concat(cast(rows.article, Text))


def _id(rows: Any) -> ColumnElement[str]:
    """Of both columns, so that no two rows share it: what follows the last slash is the article's."""
    return rows.warehouse.concat(literal("/", Text)).concat(_sku(rows))  # type: ignore[no-any-return] # a column


def _legacy_noted(rows: FromClause) -> Select[Any]:
    key = _id(rows.c)
    columns: list[ColumnElement[Any]] = [key.label("key"), key.label("local")]
    return select(*columns).select_from(rows)


def _new_noted(rows: FromClause) -> Select[Any]:
    return select(rows.c.id.label("key"), rows.c.id.label("local")).select_from(rows)


_reason = case((stock.c.pieces < 0, literal("negative_pieces", Text))).label("reason")

legacy_part = Part(
    name="stock",
    table=stock,
    key="id",
    scope="warehouse",
    canonical=select(
        _id(stock.c).label("id"), stock.c.warehouse, _sku(stock.c).label("sku"), stock.c.pieces, stock.c.shelf, _reason
    ),
    order=stock.c.article,  # any integer with an index; need not be unique: a chunk is all rows of some articles
    local=_id(stock.c),
    where_local=lambda keys: _id(stock.c) == any_(keys),
    where_key=lambda keys: _id(stock.c) == any_(keys),
    where_scope=lambda scope: stock.c.warehouse == scope,
    noted=_legacy_noted,
    scope_of=lambda rows: rows.warehouse,
    scope_by=("warehouse",),
    identity=_id(stock.c),  # computed, so `prepare` puts an index on it, for the conditions above
)
new_part = Part(
    name="",
    table=items,
    key="id",
    scope="warehouse",
    canonical=select(*(items.c[name] for name in COLUMNS), type_coerce(None, Text).label("reason")),
    order=None,
    local=items.c.id,
    where_local=lambda keys: items.c.id == any_(keys),
    where_key=lambda keys: items.c.id == any_(keys),
    where_scope=lambda scope: items.c.warehouse == scope,
    noted=_new_noted,
    scope_of=lambda rows: rows.warehouse,
    scope_by=("warehouse",),
)
destination = Destination(new_part, COLUMNS, flag=None, of_part=lambda name: literal(name == legacy_part.name))
