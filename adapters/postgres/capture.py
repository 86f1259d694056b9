"""Capture: triggers that note, in the writer's own transaction, which record of which scope changed.

They see what no wrapper sees: raw SQL, cascades, the other system itself. The notes are ``crossfade.dirty`` in the
same database. A note of a record names scope and key; with a scope and no key it stands for the whole scope; with
neither it stands for the whole part (TRUNCATE).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from psycopg import sql
from sqlalchemy import (
    Connection,
    Engine,
    Insert,
    Select,
    TableClause,
    Text,
    case,
    cast,
    column,
    func,
    insert,
    literal,
    null,
    select,
    table,
    text,
    union,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateIndex, Index

from adapters.postgres.literal import literal_sql
from adapters.postgres.part import Part
from adapters.postgres.schema import dirty
from harness.errors import Refused
from harness.records import Backlog

SCHEMA = "crossfade"
LOCK_ATTEMPTS = 10
LOCK_TIMEOUT = "1s"  # a waiting CREATE TRIGGER holds up every writer behind it, so it waits briefly and asks again
_EVENTS = {
    "INSERT": "REFERENCING NEW TABLE AS arrived",
    "UPDATE": "REFERENCING OLD TABLE AS departed NEW TABLE AS arrived",
    "DELETE": "REFERENCING OLD TABLE AS departed",
    "TRUNCATE": "",
}
# Sequence of the statements: a row's note must see the sidecar entry that ``forget`` then removes.
_BODY = """
BEGIN
  IF current_setting('crossfade.applying', true) = 'on' THEN
    RETURN NULL;
  END IF;
  IF TG_OP = 'INSERT' THEN
    {inserted};
  ELSIF TG_OP = 'UPDATE' THEN
    {updated};
  ELSIF TG_OP = 'DELETE' THEN
    {deleted};
    {forgotten};
  ELSE
    {truncated};
  END IF;
  RETURN NULL;
END
"""


def attach(engine: Engine, part: Part) -> bool:
    """Capture changes of the part from now on; False if it was captured in just this way before.

    When this returns, every transaction that wrote to the table without being noted has ended, so a copy that
    starts now sees its rows. Raises Refused, with nothing changed, when long transactions keep the table's lock.
    """
    if is_attached(engine, part):
        return False
    for _ in range(LOCK_ATTEMPTS):
        try:
            with engine.begin() as connection:
                _create(connection, part)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
                raise
        else:
            return True
    raise Refused(
        f"legacy: cannot attach capture to {_place(part)}: its lock was not to be had in {LOCK_ATTEMPTS} attempts of "
        f"{LOCK_TIMEOUT}; end the long transactions on it (pg_stat_activity) and run the command again"
    )


def is_attached(engine: Engine, part: Part) -> bool:
    """Whether the part's changes are noted, by the same function as ``attach`` would create."""
    statement = text(
        "SELECT p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = :table AND n.nspname = coalesce(:schema, current_schema())"
        " AND t.tgname = ANY(:names) AND t.tgenabled <> 'D'"
    )
    names = [_trigger(event) for event in _EVENTS]
    with engine.connect() as connection:
        found = connection.execute(
            statement, {"table": part.table.name, "schema": part.table.schema, "names": names}
        ).scalars()
        return list(found) == [_body(part)] * len(_EVENTS)


def index_identity(engine: Engine, part: Part) -> None:
    """Put an index on the part's computed key, without holding up writers. Repeats what a crash left invalid."""
    if part.identity is None:
        return
    index = Index("crossfade_identity", part.identity, _table=part.table)
    statement = CreateIndex(index, if_not_exists=True)
    invalid = text(
        "SELECT NOT indisvalid FROM pg_index"
        " WHERE indexrelid = to_regclass(coalesce(quote_ident(:schema) || '.', '') || quote_ident(:name))"
    )
    drop = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(
        sql.Identifier(*filter(None, (part.table.schema, str(index.name))))
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.execute(invalid, {"schema": part.table.schema, "name": index.name}).scalar():
            connection.exec_driver_sql(drop.as_string(None))
        index.dialect_options["postgresql"]["concurrently"] = True
        connection.execute(statement)
    part.table.indexes.discard(index)


def captured_tables(engine: Engine) -> frozenset[tuple[str, str]]:
    """Schema and name of every table whose changes are noted."""
    statement = text(
        "SELECT DISTINCT n.nspname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname = :name AND t.tgenabled <> 'D'"
    )
    with engine.connect() as connection:
        return frozenset((row[0], row[1]) for row in connection.execute(statement, {"name": _trigger("INSERT")}))


def backlog(engine: Engine) -> Backlog:
    """How much is noted and not yet carried over, and how old the oldest note is."""
    age = func.coalesce(func.extract("epoch", func.clock_timestamp() - func.min(dirty.c.noted_at)), 0)
    with engine.connect() as connection:
        notes, lag = connection.execute(select(func.count(), age).select_from(dirty)).one()
    return Backlog(int(notes), max(0.0, float(lag)))


def note(connection: Connection, notes: Sequence[dict[str, str | None]]) -> None:
    """Note records by hand, so that catch-up carries over what authority holds for them."""
    if notes:
        connection.execute(insert(dirty), list(notes))


def _create(connection: Connection, part: Part) -> None:
    connection.execute(select(func.set_config("lock_timeout", LOCK_TIMEOUT, True)))
    function = sql.Identifier(SCHEMA, _function(part))
    place = sql.Identifier(*([part.table.schema] if part.table.schema else []), part.table.name)
    statements = [
        sql.SQL(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp AS {}"
        ).format(function, sql.Literal(_body(part)))
    ]
    for event, tables in _EVENTS.items():
        trigger = sql.Identifier(_trigger(event))
        statements.append(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(trigger, place))
        statements.append(
            sql.SQL("CREATE TRIGGER {} AFTER {} ON {} {} FOR EACH STATEMENT EXECUTE FUNCTION {}()").format(
                trigger, sql.SQL(event), place, sql.SQL(tables), function
            )
        )
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 - a live connection has one; for the type checker
    for statement in statements:
        connection.exec_driver_sql(statement.as_string(driver).replace("%", "%%"))


def _body(part: Part) -> str:
    arrived, departed = _rows(part, "arrived"), _rows(part, "departed")
    both = union(_noted(part, arrived), _noted(part, departed)).subquery()
    named: list[Any] = [literal(part.name, Text), *(cast(null(), Text) for _ in range(3))]
    whole = select(*named)
    return _BODY.format(
        inserted=literal_sql(_insert(_noted(part, arrived))),
        updated=literal_sql(_insert(select(both))),
        deleted=literal_sql(_insert(_noted(part, departed))),
        forgotten=literal_sql(part.forget(departed)) if part.forget else "NULL",
        truncated=literal_sql(_insert(whole)),
    )


def _noted(part: Part, rows: TableClause) -> Select[Any]:
    noted = part.noted(rows).subquery("noted")
    scope, key, local = noted.c.scope, noted.c.key, noted.c.local
    named = literal(part.name, Text).label("part")
    if not part.whole_scopes:
        return select(named, scope, key, local)
    # Of a row without a scope only the key can be noted; of the others the scope is enough.
    alone = scope.is_(None)
    return select(named, scope, case((alone, key)).label("key"), case((alone, local)).label("local")).distinct()


def _rows(part: Part, name: str) -> TableClause:
    return table(name, *(column(c.name, c.type) for c in part.table.c))


def _insert(rows: Select[Any]) -> Insert:
    return insert(dirty).from_select(["part", "scope", "key", "local"], rows, include_defaults=False)


def _trigger(event: str) -> str:
    return f"crossfade_capture_{event.lower()}"


def _function(part: Part) -> str:
    """A name of its own for each table, within PostgreSQL's 63 bytes whatever the table's is."""
    digest = hashlib.sha256(_place(part).encode()).hexdigest()[:16]
    return f"capture_{part.table.name[:24]}_{digest}"


def _place(part: Part) -> str:
    return f"{part.table.schema}.{part.table.name}" if part.table.schema else part.table.name
