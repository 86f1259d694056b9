"""Triggers of ours on other people's tables: how they are made, without holding up anybody, and recognised again.

All of them run as who prepared the database, so that no writer needs a right it did not have before, and with a pinned
search path. They fire also for sessions that play a replica.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from psycopg import sql
from sqlalchemy import Connection, Engine, Table, func, literal_column, select, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import OperationalError

from adapters.postgres.schema import SCHEMA
from harness.errors import Refused
from harness.routing import Store

LOCK_ATTEMPTS = 10
LOCK_TIMEOUT = "1s"  # a waiting CREATE TRIGGER holds up every writer behind it, so it waits briefly and asks again
NOT_APPLYING = "current_setting('crossfade.applying', true) IS DISTINCT FROM 'on'"  # the session carries no state over
_PLACE = "to_regclass(coalesce(quote_ident(:schema) || '.', '') || quote_ident(:table))"


@dataclass(frozen=True, slots=True)
class Trigger:
    """``occasion`` stands before ON in CREATE TRIGGER, ``manner`` between the table and EXECUTE."""

    name: str
    occasion: str
    manner: str
    function: str
    constraint: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """What stands on one table for one purpose: triggers, and the bodies of their functions by name."""

    purpose: str
    table: Table
    functions: Mapping[str, str]
    triggers: tuple[Trigger, ...]


def attach(engine: Engine, store: Store, wanted: Attachment) -> bool:
    """Put the triggers in place; False if they stood there in just this way before.

    When this returns, every transaction that wrote to the table without them has ended. Raises Refused, with nothing
    changed, when long transactions keep the table's lock.
    """
    if is_attached(engine, wanted):
        return False
    what = f"cannot attach {wanted.purpose} to {place(wanted.table)}: its lock"
    patiently(engine, store, what, lambda connection: _create(connection, wanted))
    return True


def is_attached(engine: Engine, wanted: Attachment) -> bool:
    """Whether the triggers stand there, and call the very functions that ``attach`` would create."""
    expected = sorted((each.name, each.function, wanted.functions[each.function]) for each in wanted.triggers)
    with engine.connect() as connection:
        return sorted(map(tuple, _standing(connection, wanted))) == expected


def has_trigger(engine: Engine, wanted: Attachment) -> bool:
    """Whether any of the triggers stands there, whatever it calls: the table was prepared once."""
    with engine.connect() as connection:
        return bool(_standing(connection, wanted))


def patiently(engine: Engine, store: Store, what: str, act: Callable[[Connection], object]) -> None:
    """Run the act in a transaction that waits briefly for each lock, and again a few times.

    Raises Refused, with nothing changed: ``what`` was not to be had.
    """
    for _ in range(LOCK_ATTEMPTS):
        try:
            with engine.begin() as connection:
                connection.execute(select(func.set_config("lock_timeout", LOCK_TIMEOUT, True)))
                act(connection)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
                raise
        else:
            return
    raise Refused(
        f"{store}: {what} was not to be had in {LOCK_ATTEMPTS} attempts of {LOCK_TIMEOUT}; end the long transactions "
        "there (pg_stat_activity) and run the command again"
    )


def schema_of(engine: Engine, table: Table) -> str | None:
    """The schema in which the table is found; None if it is not there."""
    with engine.connect() as connection:
        found = text(
            "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"  # noqa: S608 - constant
            f" WHERE c.oid = {_PLACE}"
        )
        name = connection.execute(found, {"schema": table.schema, "table": table.name}).scalar()
    return None if name is None else str(name)


def row_named(name: str, table: Table) -> Any:
    """A trigger's OLD or NEW: the table's columns as attributes."""
    quote = PGDialect_psycopg().identifier_preparer.quote  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
    columns = {c.key: literal_column(f"{name}.{quote(c.name)}", c.type) for c in table.c if not c.system}
    return SimpleNamespace(**columns)


def function_name(purpose: str, table: Table) -> str:
    """A name of its own for each table, within PostgreSQL's 63 bytes whatever the table's is."""
    digest = hashlib.sha256(place(table).encode()).hexdigest()[:16]
    return f"{purpose}_{table.name[:24]}_{digest}"


def place(table: Table) -> str:
    """The table as messages name it."""
    return f"{table.schema}.{table.name}" if table.schema else table.name


def run(connection: Connection, statement: sql.Composable) -> None:
    """Run a statement that takes no parameters."""
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 - a live connection has one; for the type checker
    connection.exec_driver_sql(statement.as_string(driver).replace("%", "%%"))


def _standing(connection: Connection, wanted: Attachment) -> Sequence[Any]:
    """Those of the triggers that fire whatever a session plays, with name and text of their function."""
    statement = text(
        "SELECT t.tgname, p.proname, p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"  # noqa: S608
        f" WHERE t.tgrelid = {_PLACE} AND t.tgname = ANY(:names) AND t.tgenabled = 'A'"
    )
    names = [each.name for each in wanted.triggers]
    given = {"table": wanted.table.name, "schema": wanted.table.schema, "names": names}
    return connection.execute(statement, given).all()


def _create(connection: Connection, wanted: Attachment) -> None:
    for name, body in wanted.functions.items():
        create = sql.SQL(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp AS {}"
        )
        run(connection, create.format(sql.Identifier(SCHEMA, name), sql.Literal(body)))
    present = {name: function for name, function, _ in _standing(connection, wanted)}
    for trigger in wanted.triggers:
        # One that stands calls the function that has just been replaced; the table need not be locked.
        if present.get(trigger.name) != trigger.function:
            _create_trigger(connection, wanted.table, trigger)


def _create_trigger(connection: Connection, table: Table, trigger: Trigger) -> None:
    on, name = sql.Identifier(*filter(None, (table.schema, table.name))), sql.Identifier(trigger.name)
    run(connection, sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(name, on))
    create = sql.SQL("CREATE {} {} {} ON {} {} EXECUTE FUNCTION {}()").format(
        sql.SQL("CONSTRAINT TRIGGER" if trigger.constraint else "TRIGGER"),
        name,
        sql.SQL(trigger.occasion),
        on,
        sql.SQL(trigger.manner),
        sql.Identifier(SCHEMA, trigger.function),
    )
    run(connection, create)
    run(connection, sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(on, name))
