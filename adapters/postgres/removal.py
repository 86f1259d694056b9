"""Taking back what ``prepare`` put into a database that stays somebody else's."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql
from sqlalchemy import Connection, Engine, Table, delete, inspect, text

from adapters.postgres.errors import speaking_for
from adapters.postgres.guard import attach_guard
from adapters.postgres.part import Part
from adapters.postgres.schema import dirty
from adapters.postgres.triggers import patiently, run
from harness.routing import Store

LOCKS = "the lock of the tables that our triggers stand on"
_FUNCTIONS = text(
    "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = to_regnamespace('crossfade')"
    " AND prorettype = 'trigger'::regtype"
)


_NOTES = text(
    "SELECT FROM pg_proc WHERE pronamespace = to_regnamespace('crossfade') AND prorettype = 'trigger'::regtype"
    " AND strpos(prosrc, 'INSERT INTO crossfade.dirty') > 0"
)


def is_noted(engine: Engine, store: Store) -> bool:
    """Whether a trigger of ours, of this version or another, notes changes; asked of no table, for it may be gone."""
    with speaking_for(store), engine.connect() as connection:
        return connection.execute(_NOTES).first() is not None


def stop_noting(engine: Engine, store: Store, parts: Sequence[Part]) -> None:
    """Note no more changes of the parts, guarded as they stay, and forget those that are noted."""
    with speaking_for(store):
        for part in parts:
            attach_guard(engine, store, part, noting=False)
    forget_notes(engine, store)


def forget_notes(engine: Engine, store: Store) -> None:
    with speaking_for(store), engine.begin() as connection:
        if inspect(connection).has_table(dirty.name, dirty.schema):  # or it was uninstalled meanwhile
            connection.execute(delete(dirty))


def remove_triggers(engine: Engine, store: Store) -> None:
    """Remove every trigger of ours from the store's tables: nothing is noted, nothing refused any more."""

    with speaking_for(store):
        patiently(engine, store, LOCKS, drop_triggers)


def drop_triggers(connection: Connection) -> None:
    """The same in a transaction of the caller's: until it ends, it holds the exclusive locks of those tables."""
    for function in connection.execute(_FUNCTIONS).scalars().all():
        connection.execute(text(f"DROP FUNCTION {function} CASCADE"))  # named, and quoted, by the server itself


def lock_table(connection: Connection, table: Table) -> None:
    """Keep everybody out of the table until the transaction ends. Waits for those who are in there."""
    named = sql.Identifier(*filter(None, (table.schema, table.name)))
    run(connection, sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(named))


def has_triggers(engine: Engine, store: Store) -> bool:
    """Whether a trigger of ours may stand on the store's tables still."""
    with speaking_for(store), engine.connect() as connection:
        return connection.execute(_FUNCTIONS).first() is not None
