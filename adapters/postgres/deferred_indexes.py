"""Indexes that wait until a copy is done: built once over all rows, instead of kept up with every one.

Only for an empty table, and only what makes reading faster. What holds a rule stays where it is: the primary key,
unique indexes, constraints. The copy itself needs them (docs/adr/0021).

An index is written down in the ledger, in the server's own words, in the transaction that drops it; the transaction
that builds it again takes it off the list. So at any moment each index either stands or is on the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event, Lock
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine, Row, Table, delete, exists, func, insert, literal_column, or_, select, text

from adapters.postgres import triggers
from adapters.postgres.authority import ROUTE, has_any
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.audit import write
from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import deferred_index
from adapters.postgres.schema import dirty
from harness.errors import Refused, RepositoryError, StoreTimeout
from harness.failpoints import passing
from harness.routing import Store
from harness.settings import BackfillSettings

_POLL_SECONDS = 0.2
_CANCEL_SECONDS = 5.0

# What something else hangs on stays too: a replica identity, CLUSTER, an extension, statistics of its own.
_DEFERRABLE = text(
    """
    SELECT i.relname AS name, n.nspname AS schema, pg_get_indexdef(i.oid) AS definition,
           coalesce(t.spcname, '') AS tablespace, obj_description(i.oid, 'pg_class') AS comment
    FROM pg_index x
    JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_namespace n ON n.oid = i.relnamespace
    LEFT JOIN pg_tablespace t ON t.oid = i.reltablespace
    WHERE x.indrelid = :table AND i.relkind = 'i' AND x.indisvalid
      AND NOT (x.indisunique OR x.indisprimary OR x.indisexclusion OR x.indisclustered OR x.indisreplident)
      AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.oid)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = i.oid AND d.deptype = 'x')
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.oid AND coalesce(a.attstattarget, -1) >= 0)
    ORDER BY i.relname
    """
)
_STANDING = text(
    """
    SELECT x.indisvalid AND x.indisready AS valid, pg_get_indexdef(i.oid) AS definition
    FROM pg_class i JOIN pg_namespace n ON n.oid = i.relnamespace JOIN pg_index x ON x.indexrelid = i.oid
    WHERE i.relname = :name AND n.nspname = :schema
    """
)
# A session whose client has died stops building within a second, where the server can look (PostgreSQL 14).
_NOTICE_DEATH = text(
    "SELECT set_config(name, '1s', true) FROM pg_settings WHERE name = 'client_connection_check_interval'"
)
_SERVES = select(or_(has_any(Store.NEW), literal_column("r.reads_percent > 0"))).select_from(ROUTE)
_WITHOUT = "run crossfade backfill without --defer-indexes"


class DeferredIndexes:
    """The indexes of one table in new that are put off and built again."""

    def __init__(self, engine: Engine, table: Table, settings: BackfillSettings) -> None:
        self._engine, self._table, self._settings = engine, table, settings
        self._at_work: set[psycopg.Connection[Any]] = set()
        self._lock = Lock()

    def missing(self) -> list[str]:
        """The names of those that are still to be built."""
        return missing(self._engine)

    def put_off(self, actor: str, reason: str) -> list[str]:
        """Write down and drop what can wait; the names of all that waits now. Does nothing where some wait already.

        Raises Refused, with nothing changed, when the table is not empty or somebody else uses it.
        """
        if not self.missing():
            what = f"the lock of {triggers.place(self._table)}, to drop its indexes,"
            with speaking_for(Store.NEW):
                triggers.patiently(self._engine, Store.NEW, what, lambda new: self._drop(new, actor, reason))
            passing("indexes.put_off")
        return self.missing()

    def build(self, stop: Event, *, go_on: Callable[[Event], bool], told: Callable[[str], None]) -> list[str]:
        """Build what is missing, several at once; the names of what is missing still.

        Some are when ``stop`` is set, which cancels those under way, or when ``go_on``, asked before each, says no.
        Raises Refused for one that cannot be built; others stay built.
        """
        failed = Event()

        def one(name: str) -> None:
            if not failed.is_set() and go_on(stop) and self._build(name, stop):
                told(f"index {name} is built")

        with ThreadPoolExecutor(self._settings.index_workers, "index") as pool:
            under_way = {pool.submit(one, name) for name in self.missing()}
            try:
                while under_way:
                    ended, under_way = wait(under_way, timeout=_POLL_SECONDS)
                    if stop.is_set():
                        self._cancel()
                    for each in ended:
                        each.result()
            finally:
                failed.set()
        return self.missing()

    # Dropping

    def _drop(self, new: Connection, actor: str, reason: str) -> None:
        table = self._empty_table(new)
        if new.execute(select(exists(select(dirty.c.seq)))).scalar_one() or new.execute(_SERVES).scalar():
            raise Refused(
                f"new: others use {self._table.name} already, and want its indexes; run crossfade backfill without "
                "--defer-indexes"
            )
        # The server's words must name every schema, so that they mean the same on any search path.
        new.execute(select(func.set_config("search_path", "pg_catalog", True)))
        rows = [dict(row) for row in new.execute(_DEFERRABLE, {"table": table}).mappings()]
        if not rows:
            return
        new.execute(insert(deferred_index), rows)
        write(new, actor, "indexes put off", reason, {"indexes": [row["name"] for row in rows]})
        passing("indexes.recorded")
        for row in rows:
            triggers.run(new, sql.SQL("DROP INDEX {}").format(sql.Identifier(row["schema"], row["name"])))

    def _empty_table(self, new: Connection) -> int:
        """The table's oid; nobody else is at it until the transaction ends."""
        name = sql.Identifier(*filter(None, (self._table.schema, self._table.name)))
        triggers.run(new, sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name))
        found = text("SELECT oid, relkind::text, relispartition FROM pg_class WHERE oid = to_regclass(:name)")
        oid, kind, part = new.execute(found, {"name": triggers.place(self._table)}).one()
        if kind != "r" or part:
            raise Refused(f"new: {self._table.name} is partitioned, so its indexes stay; {_WITHOUT}")
        if new.execute(select(exists(select(self._table.c[0]).select_from(self._table)))).scalar_one():
            raise Refused(f"new: {self._table.name} is not empty, so its indexes stay; {_WITHOUT}")
        return int(oid)

    # Building

    def _build(self, name: str, stop: Event) -> bool:
        """Build one; False if it was cancelled because ``stop`` is set."""
        try:
            with ledger(self._engine) as new, self._cancellable(new):
                # Whoever began with it before, and died, has ended when this row can be locked.
                chosen = select(deferred_index).where(deferred_index.c.name == name).with_for_update()
                if (row := new.execute(chosen).one_or_none()) is not None:
                    self._restore(new, row)
                    new.execute(delete(deferred_index).where(deferred_index.c.name == name))
                    passing("indexes.before_commit")
        except StoreTimeout:
            if not stop.is_set():
                raise
            return False
        except RepositoryError as error:
            raise Refused(
                f"new: the index {name} cannot be built: some row does not fit it ({error}). Mend the row in legacy, "
                "run crossfade catchup, then crossfade backfill again"
            ) from error
        passing("indexes.built")
        return True

    def _restore(self, new: Connection, row: Row[Any]) -> None:
        """Have the index stand as it was. What an attempt by hand has left invalid is dropped."""
        settings = {
            "maintenance_work_mem": f"{self._settings.index_memory_mb}MB",
            "max_parallel_maintenance_workers": str(self._settings.index_parallel),
            "default_tablespace": row.tablespace,
            "search_path": "pg_catalog",
            "statement_timeout": "0",
        }
        new.execute(select(*(func.set_config(name, value, True) for name, value in settings.items())))
        new.execute(_NOTICE_DEATH)
        index = sql.Identifier(row.schema, row.name)
        standing = new.execute(_STANDING, {"name": row.name, "schema": row.schema}).one_or_none()
        if standing is not None and not standing.valid:
            triggers.run(new, sql.SQL("DROP INDEX {}").format(index))
        elif standing is not None and standing.definition != row.definition:
            raise Refused(
                f"new: there is another index of the name {row.name}; drop or rename it, then run crossfade backfill "
                "again"
            )
        if standing is None or not standing.valid:
            triggers.run(new, sql.SQL(row.definition))
        if row.comment is not None:
            triggers.run(new, sql.SQL("COMMENT ON INDEX {} IS {}").format(index, sql.Literal(row.comment)))

    @contextmanager
    def _cancellable(self, new: Connection) -> Iterator[None]:
        driver = new.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)  # noqa: S101 - the engine is ours; for the type checker
        with self._lock:
            self._at_work.add(driver)
        try:
            yield
        finally:
            with self._lock:
                self._at_work.discard(driver)

    def _cancel(self) -> None:
        with self._lock:
            for driver in self._at_work:
                driver.cancel_safe(timeout=_CANCEL_SECONDS)


def missing(engine: Engine) -> list[str]:
    """The names of the indexes that are put off and not built yet."""
    with ledger(engine) as connection:
        return list(connection.execute(select(deferred_index.c.name).order_by(deferred_index.c.name)).scalars())
