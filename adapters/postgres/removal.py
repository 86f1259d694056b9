"""Taking back what ``prepare`` put into a database that stays somebody else's."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, delete, inspect, text

from adapters.postgres.errors import speaking_for
from adapters.postgres.guard import attach_guard
from adapters.postgres.part import Part
from adapters.postgres.schema import dirty
from adapters.postgres.triggers import patiently
from harness.routing import Store

_FUNCTIONS = text(
    "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = to_regnamespace('crossfade')"
    " AND prorettype = 'trigger'::regtype"
)


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

    def remove(connection: Connection) -> None:
        for function in connection.execute(_FUNCTIONS).scalars().all():
            connection.execute(text(f"DROP FUNCTION {function} CASCADE"))  # named, and quoted, by the server itself

    with speaking_for(store):
        patiently(engine, store, "the lock of the tables", remove)
