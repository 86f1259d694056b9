"""Triggers of ours on other people's tables: how they are made, without holding up anybody, and recognised again.

They fire also for sessions that play a replica. Those that read or write our tables run as who prepared the database,
so that no writer needs a right it did not have before, and with a pinned search path.

Why ours ask in their bodies whether the session carries state over, and not in a WHEN clause: PostgreSQL parses that
clause anew for every statement, which costs a writer of single rows more than the call that it saves (docs/adr/0023).
Only a table that is about to be filled has it, for there it saves a call for each row.
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
APPLYING = "current_setting('crossfade.applying', true) = 'on'"  # the session carries state over
NOT_APPLYING = "current_setting('crossfade.applying', true) IS DISTINCT FROM 'on'"
PLACE = "to_regclass(coalesce(quote_ident(:schema) || '.', '') || quote_ident(:table))"  # of a table, in a query


@dataclass(frozen=True, slots=True)
class Trigger:
    """``occasion`` stands before ON in CREATE TRIGGER, ``manner`` between the table and EXECUTE.

    ``last``: no other trigger of its kind may fire after it, for it must see the row as it is going to be.
    """

    name: str
    occasion: str
    manner: str
    function: str
    constraint: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """A trigger's function, or one that such a function calls: its body, its arguments and what it returns.

    One that needs no right of ours (``ours``) runs as the writer, or as who calls it, which is cheaper.
    """

    body: str
    signature: str = "() RETURNS trigger"
    ours: bool = True


@dataclass(frozen=True, slots=True)
class Attachment:
    """What stands on one table for one purpose: triggers, and their functions by name.

    ``retired``: names of triggers that stood there for this purpose once, and are to go. ``loading``: the table is
    about to be filled by sessions of ours.
    """

    purpose: str
    table: Table
    functions: Mapping[str, Function]
    triggers: tuple[Trigger, ...]
    retired: tuple[str, ...] = ()
    loading: bool = False


def attach(engine: Engine, store: Store, wanted: Attachment) -> bool:
    """Put the triggers in place; False if they stood there in just this way before.

    When this returns, every transaction that wrote to the table without them has ended. Raises Refused, with nothing
    changed, when long transactions keep the table's lock, or another trigger would fire after one that must be last.
    """
    if is_attached(engine, wanted) and _is_loading(engine, wanted) == wanted.loading:
        return False
    _refuse_later(engine, store, wanted)
    what = f"cannot attach {wanted.purpose} to {place(wanted.table)}: its lock"
    patiently(engine, store, what, lambda connection: _create(connection, wanted))
    return True


def is_attached(engine: Engine, wanted: Attachment) -> bool:
    """Whether the triggers stand there, and call the very functions that ``attach`` would create."""
    expected = sorted((each.name, each.function, wanted.functions[each.function].body) for each in wanted.triggers)
    with engine.connect() as connection:
        standing = sorted((name, function, body) for name, function, body, _ in _standing(connection, wanted))
        return standing == expected and not _later(connection, wanted)


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
            f" WHERE c.oid = {PLACE}"
        )
        name = connection.execute(found, {"schema": table.schema, "table": table.name}).scalar()
    return None if name is None else str(name)


def row_named(name: str, table: Table) -> Any:
    """A trigger's OLD or NEW: the table's columns as attributes."""
    quote = PGDialect_psycopg(paramstyle="named").identifier_preparer.quote  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
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


def _is_loading(engine: Engine, wanted: Attachment) -> bool:
    with engine.connect() as connection:
        return any(has_when for *_, has_when in _standing(connection, wanted))


def _refuse_later(engine: Engine, store: Store, wanted: Attachment) -> None:
    with engine.connect() as connection:
        if found := _later(connection, wanted):
            raise Refused(
                f"{store}: {', '.join(found)} on {place(wanted.table)} would fire after {wanted.purpose}, and might "
                "change what it has seen; rename it (ALTER TRIGGER ... RENAME TO) so that it sorts first"
            )


def _later(connection: Connection, wanted: Attachment) -> list[str]:
    """Triggers of others that fire for each row, before it is written, and after the one that must be last."""
    last = [each.name for each in wanted.triggers if each.last]
    statement = text(
        "SELECT t.tgname FROM pg_trigger t"  # noqa: S608 - constant
        f" WHERE t.tgrelid = {PLACE} AND NOT t.tgisinternal AND t.tgtype & 3 = 3 AND t.tgenabled <> 'D'"
        ' AND t.tgname COLLATE "C" > ALL (CAST(:last AS text[])) AND t.tgname <> ALL (:names) ORDER BY 1'
    )
    given = {"table": wanted.table.name, "schema": wanted.table.schema, "last": last}
    names = [each.name for each in wanted.triggers]
    return list(connection.execute(statement, given | {"names": names}).scalars()) if last else []


def _standing(connection: Connection, wanted: Attachment) -> Sequence[Any]:
    """Those of the triggers that fire whatever a session plays: name, name and text of the function, whether WHEN."""
    statement = text(
        "SELECT t.tgname, p.proname, p.prosrc, t.tgqual IS NOT NULL"  # noqa: S608 - constant
        " FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        f" WHERE t.tgrelid = {PLACE} AND t.tgname = ANY(:names) AND t.tgenabled = 'A'"
    )
    names = [*(each.name for each in wanted.triggers), *wanted.retired]
    given = {"table": wanted.table.name, "schema": wanted.table.schema, "names": names}
    return connection.execute(statement, given).all()


def _create(connection: Connection, wanted: Attachment) -> None:
    for name, function in wanted.functions.items():
        manner = sql.SQL("SECURITY DEFINER SET search_path = pg_catalog, pg_temp" if function.ours else "")
        create = sql.SQL("CREATE OR REPLACE FUNCTION {}{} LANGUAGE plpgsql {} AS {}").format(
            sql.Identifier(SCHEMA, name), sql.SQL(function.signature), manner, sql.Literal(function.body)
        )
        run(connection, create)
    present = {name: (function, has_when) for name, function, _, has_when in _standing(connection, wanted)}
    for trigger in wanted.triggers:
        # One that stands calls the function that has just been replaced; the table need not be locked.
        if present.get(trigger.name) != (trigger.function, wanted.loading):
            _create_trigger(connection, wanted.table, trigger, loading=wanted.loading)
    for name in wanted.retired:
        if name in present:  # only now: what stands by this time does what it did
            _drop_trigger(connection, wanted.table, name)


def _create_trigger(connection: Connection, table: Table, trigger: Trigger, *, loading: bool) -> None:
    when = f" WHEN ({NOT_APPLYING})" if loading else ""
    _drop_trigger(connection, table, trigger.name)
    on, name = _identifier(table), sql.Identifier(trigger.name)
    create = sql.SQL("CREATE {} {} {} ON {} {} EXECUTE FUNCTION {}()").format(
        sql.SQL("CONSTRAINT TRIGGER" if trigger.constraint else "TRIGGER"),
        name,
        sql.SQL(trigger.occasion),
        on,
        sql.SQL(trigger.manner + when),
        sql.Identifier(SCHEMA, trigger.function),
    )
    run(connection, create)
    run(connection, sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(on, name))


def _drop_trigger(connection: Connection, table: Table, name: str) -> None:
    run(connection, sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(name), _identifier(table)))


def _identifier(table: Table) -> sql.Identifier:
    return sql.Identifier(*filter(None, (table.schema, table.name)))
