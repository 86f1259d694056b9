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
    TableClause,
    Text,
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
INDEX_TIMEOUT = "60s"
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
    {forgotten_all};
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
    with engine.connect() as connection:
        return [row.prosrc for row in _triggers(connection, part)] == [_body(part)] * len(_EVENTS)


def _standing(connection: Connection, part: Part) -> int:
    return len(_triggers(connection, part))


def _triggers(connection: Connection, part: Part) -> Sequence[Any]:
    """The part's capture triggers that fire whatever a session plays, with the text of their function."""
    statement = text(
        "SELECT p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = :table AND n.nspname = coalesce(:schema, current_schema())"
        " AND t.tgname = ANY(:names) AND t.tgenabled = 'A'"
    )
    names = [_trigger(event) for event in _EVENTS]
    return connection.execute(statement, {"table": part.table.name, "schema": part.table.schema, "names": names}).all()


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
        # It waits for every transaction that is older than it, holding up nobody; but not for ever.
        connection.execute(select(func.set_config("lock_timeout", INDEX_TIMEOUT, False)))
        try:
            connection.execute(statement)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
                raise
            raise Refused(
                f"legacy: the index on {_place(part)} waited longer than {INDEX_TIMEOUT} for older transactions; end "
                "them (pg_stat_activity) and run the command again, or do without it (--no-id-index)"
            ) from error
        finally:
            connection.execute(select(func.set_config("lock_timeout", "0", False)))
    part.table.indexes.discard(index)


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
    standing = _standing(connection, part) == len(_EVENTS)
    for event, tables in _EVENTS.items():
        if standing:
            break  # the triggers call the function that has just been replaced; the table need not be locked
        trigger = sql.Identifier(_trigger(event))
        statements.append(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(trigger, place))
        statements.append(
            sql.SQL("CREATE TRIGGER {} AFTER {} ON {} {} FOR EACH STATEMENT EXECUTE FUNCTION {}()").format(
                trigger, sql.SQL(event), place, sql.SQL(tables), function
            )
        )
        # Also for sessions that play a replica: their writes must be carried over like any other.
        statements.append(sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(place, trigger))
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 - a live connection has one; for the type checker
    for statement in statements:
        connection.exec_driver_sql(statement.as_string(driver).replace("%", "%%"))


def _body(part: Part) -> str:
    arrived, departed = _rows(part, "arrived"), _rows(part, "departed")
    both = union(_noted(part, arrived), _noted(part, departed)).subquery("both_")
    named: list[Any] = [literal(part.name, Text), *(cast(null(), Text) for _ in range(3))]
    whole = select(*named)
    return _BODY.format(
        inserted=literal_sql(_insert(_noted(part, arrived))),
        updated=literal_sql(_insert(select(both))),
        deleted=literal_sql(_insert(_noted(part, departed))),
        forgotten=literal_sql(part.forget(departed)) if part.forget else "NULL",
        truncated=literal_sql(_insert(whole)),
        forgotten_all="NULL" if part.forget_all is None else literal_sql(part.forget_all),
    )


def _noted(part: Part, rows: TableClause) -> Any:
    noted = part.noted(rows).subquery("noted")
    scope, key, local = noted.c.scope, noted.c.key, noted.c.local
    named = literal(part.name, Text).label("part")
    if not part.whole_scopes:
        return select(named, scope, key, local)
    # Each row under its key, so that one that goes is known to have gone, and each scope once as a whole.
    scopes = select(named, scope, cast(null(), Text).label("key"), cast(null(), Text).label("local"))
    return union(select(named, scope, key, local), scopes.where(scope.isnot(None)))


def _rows(part: Part, name: str) -> TableClause:
    return table(name, *(column(c.name, c.type) for c in part.table.c if not c.system))


def _insert(rows: Any) -> Insert:
    return insert(dirty).from_select(["part", "scope", "key", "local"], rows, include_defaults=False)


def _trigger(event: str) -> str:
    return f"crossfade_capture_{event.lower()}"


def _function(part: Part) -> str:
    """A name of its own for each table, within PostgreSQL's 63 bytes whatever the table's is."""
    digest = hashlib.sha256(_place(part).encode()).hexdigest()[:16]
    return f"capture_{part.table.name[:24]}_{digest}"


def _place(part: Part) -> str:
    return f"{part.table.schema}.{part.table.name}" if part.table.schema else part.table.name
