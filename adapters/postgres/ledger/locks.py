"""One command at a time: a lock that the server releases when its holder dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from adapters.postgres.errors import speaking_for
from adapters.postgres.pool import discard
from harness.errors import CommandLocked
from harness.routing import Store

_CLASS = "crossfade.command"
_HOLDER = text(
    """
    SELECT l.pid, a.application_name, a.usename,
           to_char(a.state_change AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.classid = (hashtext(:class)::bigint & 4294967295)::oid
      AND l.objid = (hashtext(:name)::bigint & 4294967295)::oid
    """
)

# The session does nothing while the command works elsewhere. The setting came with PostgreSQL 14.
_MAY_IDLE = text("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'")


@contextmanager
def command_lock(engine: Engine, name: str) -> Iterator[None]:
    """Hold the lock of that name, on a connection of its own, while the block runs.

    Raises CommandLocked at once, saying who holds it, when another process does.
    """
    with speaking_for(Store.NEW):
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        with speaking_for(Store.NEW):
            before = _acquire(connection, name)
        try:
            yield
        finally:
            _release(connection, name, before)
    finally:
        connection.close()


def is_locked(engine: Engine, name: str) -> bool:
    """Whether some process holds the lock of that name."""
    with speaking_for(Store.NEW), engine.connect() as connection:
        return connection.execute(_HOLDER, {"class": _CLASS, "name": name}).first() is not None


def _acquire(connection: Connection, name: str) -> str:
    """Take the lock and name the session after the command; the session's name before."""
    wanted = func.pg_try_advisory_lock(func.hashtext(_CLASS), func.hashtext(name))
    if not connection.execute(select(wanted)).scalar_one():
        raise CommandLocked(_held_by(connection, name))
    connection.execute(_MAY_IDLE)
    before = str(connection.execute(select(func.current_setting("application_name"))).scalar_one())
    connection.execute(select(func.set_config("application_name", f"crossfade {name}", False)))
    return before


def _release(connection: Connection, name: str, before: str) -> None:
    try:
        connection.execute(select(func.set_config("application_name", before, False)))
        connection.execute(select(func.pg_advisory_unlock(func.hashtext(_CLASS), func.hashtext(name))))
    except SQLAlchemyError:
        discard(connection)  # the session ends, and the lock with it


def _held_by(connection: Connection, name: str) -> str:
    holder = connection.execute(_HOLDER, {"class": _CLASS, "name": name}).first()
    if holder is None:
        return f"another crossfade {name} held the lock and has just ended; run the command again"
    who = f"{holder.application_name or 'a session we may not look into'}, user {holder.usename or 'unknown'}"
    return (
        f"another crossfade {name} is running ({who}, server process {holder.pid}, since {holder.since or 'unknown'} "
        "UTC); wait for it, or end it and run the command again"
    )
