"""Which store has authority over a scope, computed in SQL: the twin of ``harness.routing``.

The formula is written once, here. It serves as an expression on any route, as ``crossfade.authority(scope)`` in both
databases, and inside the guards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from psycopg import sql
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Numeric,
    String,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import BIT, JSONB, JSONPATH

from adapters.postgres.literal import literal_sql
from adapters.postgres.schema import SCHEMA, route_copy
from adapters.postgres.triggers import run
from harness.errors import NotPrepared
from harness.routing import BUCKETS, Store

ROUTE = route_copy.alias("r")  # the columns that the route has in both databases

_LEGACY: ColumnElement[str] = literal_column("'legacy'", Text)
_NEW: ColumnElement[str] = literal_column("'new'", Text)
_NO_PINS: ColumnElement[Any] = literal_column("'{}'", JSONB)


def bucket_of(scope: ColumnElement[Any], salt: ColumnElement[Any] | str) -> ColumnElement[int]:
    """``harness.routing.bucket``: the first 32 bits of ``md5(salt || scope)``, unsigned, modulo 10,000."""
    salted = _given(salt, Text()) + scope
    first = func.substr(func.md5(salted), _number(1), _number(8), type_=String())
    bits = cast(literal_column("'x'", String) + first, BIT(32))
    return func.mod(cast(bits, BigInteger), _number(BUCKETS), type_=BigInteger())


def authority_of(
    scope: ColumnElement[Any],
    salt: ColumnElement[Any] | str,
    writes_percent: ColumnElement[Any] | float,
    pins: ColumnElement[Any] | Mapping[str, str],
) -> ColumnElement[str]:
    """'legacy' or 'new': the scope's own pin, else its group's, else by bucket; legacy where the scope is NULL.

    Each of the route's values is a column of a route table, or the value itself.
    """
    name = scope if isinstance(scope.type, Text) else cast(scope, Text)
    known = _given(pins, JSONB())
    group = func.split_part(name, literal_column("'/'", Text), _number(1), type_=Text())
    share = _given(writes_percent, Numeric(5, 2)) * _number(100)
    # Before the ramp and after the cutover the percent alone decides, and every write is spared a bucket's md5.
    of_bucket = case((bucket_of(name, salt) < share, _NEW), else_=_LEGACY)
    by_percent = case((share == _number(0), _LEGACY), (share == _number(100 * 100), _NEW), else_=of_bucket)
    decided = func.coalesce(_pin(known, name), _pin(known, group), by_percent)
    return case((name.is_(None), _LEGACY), else_=decided)


def authority_now(scope: ColumnElement[Any]) -> ColumnElement[str]:
    """``authority_of`` as the row of ``ROUTE`` has it, for a query on that row."""
    return authority_of(scope, ROUTE.c.salt, ROUTE.c.writes_percent, ROUTE.c.pins)


def has_all(store: Store) -> ColumnElement[bool]:
    """Whether the store has authority over everything, for a query on ``ROUTE``."""
    whole = _number(100 if store is Store.NEW else 0)
    return and_(ROUTE.c.writes_percent == whole, ~pinned_to(store.other))


def allows(store: Store, scope: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether the guard lets the store take writes to the scope, for a query on ``ROUTE``. Calls ``allowing``.

    What decides where nothing is pinned and the percent is whole stands in the query, all else in the function:
    setting up a formula costs a statement as much as computing it, unless a call hides it (docs/adr/0023).
    """
    whole = and_(ROUTE.c.writes_percent == _number(100 if store is Store.NEW else 0), ROUTE.c.pins == _NO_PINS)
    if store is Store.NEW:
        whole = and_(whole, scope.isnot(None))
    given = literal_column(f"'{store}'", Text), scope, ROUTE.c.guard, ROUTE.c.salt, ROUTE.c.writes_percent, ROUTE.c.pins
    asked: ColumnElement[bool] = getattr(func, SCHEMA).allows(*given, type_=Boolean)
    return case((whole, literal_column("true")), else_=asked)


def allowing() -> tuple[str, str]:
    """``crossfade.allows``, all of what ``allows`` says: its arguments and result, and its body.

    In PL/pgSQL, because PostgreSQL puts the text of a function in SQL in the place of the call.
    """
    store, guard, scope, salt = (literal_column(name, Text) for name in ("store", "guard", "scope", "salt"))
    percent, pins = literal_column("writes_percent", Numeric(5, 2)), literal_column("pins", JSONB)
    allowed = or_(guard == "off", authority_of(scope, salt, percent, pins) == store)
    arguments = "(store text, scope text, guard text, salt text, writes_percent numeric, pins jsonb)"
    return f"{arguments} RETURNS boolean", f"BEGIN RETURN {literal_sql(allowed)}; END"


def has_any(store: Store) -> ColumnElement[bool]:
    """Whether the store has authority over anything, for a query on ``ROUTE``."""
    return ~has_all(store.other)


def pinned_to(store: Store) -> ColumnElement[bool]:
    """Whether any scope or group is pinned to the store, for a query on ``ROUTE``."""
    # A path and no subquery: a writer would have to set up a plan for that.
    pinned: ColumnElement[Any] = literal_column(f"'$.* ? (@ == \"{store}\")'", JSONPATH)
    return func.jsonb_path_exists(ROUTE.c.pins, pinned, type_=Boolean)


def create_functions(connection: Connection) -> None:
    """Create ``crossfade.bucket(salt, scope)`` and ``crossfade.authority(scope)``, which reads this database's route.

    The latter is NULL while there is no route. One look at the route for each call, so many scopes are better asked
    with ``authority_of`` in one query.
    """
    bucket, authority = sql.Identifier(SCHEMA, "bucket"), sql.Identifier(SCHEMA, "authority")
    scope, salt = literal_column("scope", Text), literal_column("salt", Text)
    formula = f"SELECT {literal_sql(bucket_of(scope, salt))}"
    asked = f"BEGIN RETURN ({literal_sql(select(authority_now(scope)).select_from(ROUTE))}); END"
    create = "CREATE OR REPLACE FUNCTION {}(salt text, scope text) RETURNS bigint LANGUAGE sql IMMUTABLE AS {}"
    run(connection, sql.SQL(create).format(bucket, sql.Literal(formula)))
    create = "CREATE OR REPLACE FUNCTION {}(scope text) RETURNS text LANGUAGE plpgsql STABLE AS {}"
    run(connection, sql.SQL(create).format(authority, sql.Literal(asked)))


def no_route(store: Store) -> NotPrepared:
    """The guard of a store without a route refuses every write, in the same words."""
    return NotPrepared(f"{store} does not know its authority: crossfade.route is empty. Run crossfade prepare")


def _pin(pins: ColumnElement[Any], name: ColumnElement[Any]) -> ColumnElement[str]:
    return pins.op("->>", return_type=Text())(name)


def _given(value: Any, type_: Any) -> ColumnElement[Any]:
    if isinstance(value, ColumnElement):
        return value
    if isinstance(value, Mapping):
        return cast(literal(json.dumps(dict(value), sort_keys=True), Text), type_)
    return literal(Decimal(str(value)) if isinstance(value, float) else value, type_)


def _number(number: int) -> ColumnElement[int]:
    return literal_column(str(number), BigInteger)
