"""One snapshot of a database, read over several connections at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from sqlalchemy import Connection, Engine, text

from adapters.postgres.errors import speaking_for
from harness.routing import Store

_READING = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
# Where there is such a setting: transaction_timeout came with PostgreSQL 17. A JIT would be compiled for each segment.
_FOR_LONG_WORK = text(
    """
    SELECT set_config(name, value, true) FROM pg_settings
    JOIN (VALUES ('statement_timeout', '0'), ('idle_in_transaction_session_timeout', '0'),
                 ('transaction_timeout', '0'), ('jit', 'off'), ('work_mem', '32MB'))
        AS wanted (name, value) USING (name)
    """
)
_ALONE = text("SET LOCAL max_parallel_workers_per_gather = 0")
_NO_SORTING = text("SET LOCAL enable_sort = off")


def begin_long_work(connection: Connection) -> None:
    """Until the transaction ends: no time limit, room for hash tables, no compiled plans."""
    connection.execute(_FOR_LONG_WORK)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A store as it was at one moment. It lasts as long as the block of ``snapshot`` does."""

    at: datetime
    store: Store
    engine: Engine
    name: str

    @contextmanager
    def reading(self, *, alone: bool = False) -> Iterator[Connection]:
        """A connection of its own that sees the snapshot. Any number at once, from any thread.

        ``alone``: without the server's own parallel workers. They cannot share a range of blocks, so a planner that
        hopes for them reads the whole table instead.
        """
        with speaking_for(self.store), self.engine.connect() as connection:
            connection.execute(_READING)
            named = sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self.name)).as_string()
            connection.exec_driver_sql(named)  # before anything is read
            begin_long_work(connection)
            # There are few buckets, which the planner cannot know: it would sort all rows by them, on disk.
            connection.execute(_NO_SORTING)
            if alone:
                connection.execute(_ALONE)
            yield connection


@contextmanager
def snapshot(engine: Engine, store: Store) -> Iterator[Snapshot]:
    """Take a snapshot. As long as the block lasts the server keeps what was deleted since; no writer waits."""
    with speaking_for(store), engine.connect() as connection:
        connection.execute(_READING)
        begin_long_work(connection)
        row = connection.execute(text("SELECT now(), pg_export_snapshot()")).one()
        yield Snapshot(row[0], store, engine, row[1])
