"""Bulk copy: the rows of a chunk stream from COPY to COPY, from the canonical SELECT into the very table.

1. The chunk takes the lock that keeps catch-up away (``crossfade.standing``, SHARE against ROW EXCLUSIVE), and only
   then reads legacy. Otherwise catch-up could carry over a delete, and forget its note, between the chunk's read and
   its insert, and the deleted row would return.
2. It claims its range. A range that is copied already, by a repetition of this very chunk, is not copied again.
3. It takes new's fence, shared, and asks its route. Of a scope that new has authority over nothing is copied: what
   legacy has there may be what new has deleted since.
4. It reads legacy in one snapshot: the rows that fit, how many rows there are, and, if these are more, those that do
   not fit. So each row is accounted for, and fit ones are read once.
5. Rows, quarantine and checkpoint are committed together.

Where rows of the chunk are in new already, or another record holds the flag of a scope, the table's own keys refuse
the stream, with nothing changed. The chunk then goes by way of a stage (``adapters.postgres.stage``), which asks
before it writes, and costs half as much again. So it does once new has authority over anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import psycopg
from sqlalchemy import ColumnElement, Connection, Engine, Text, cast, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from adapters.postgres.apply import Destination, set_applying
from adapters.postgres.authority import ROUTE, has_any
from adapters.postgres.chunks import key_of
from adapters.postgres.errors import speaking_for
from adapters.postgres.guarding import FENCE
from adapters.postgres.ledger.checkpoints import claim, record
from adapters.postgres.ledger.tables import quarantine
from adapters.postgres.part import REASON, Part
from adapters.postgres.pipe import driver_of, stream
from adapters.postgres.stage import Stage
from harness.backfill import Chunk, Copied
from harness.errors import Conflict, CrossfadeError, StoreContended
from harness.failpoints import passing
from harness.routing import Store

_ATTEMPTS = 4
_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
_CANCEL_SECONDS = 2.0


class ChunkCopier:
    """Copies chunks of legacy's parts to new; any number at once, from any number of threads and processes.

    A chunk may be repeated after any crash, and while it is under way elsewhere.
    """

    def __init__(self, legacy: Engine, parts: Sequence[Part], new: Engine, destination: Destination) -> None:
        self._legacy, self._new, self._destination = legacy, new, destination
        self._parts = {part.name: part for part in parts}
        self._stage = Stage(legacy, destination)
        self._crowded = False  # the latest chunk met what was in new already, so the next one may as well
        self._busy: set[psycopg.Connection[Any]] = set()
        self._busy_lock = Lock()

    def copy(self, chunk: Chunk) -> Copied:
        """Copy the chunk, with its checkpoint; what became of its rows. Raises CrossfadeError, with nothing copied."""
        for attempt in range(1, _ATTEMPTS + 1):
            staged = attempt > 1 or self._crowded
            try:
                copied = self._copy_once(chunk, staged=staged)
            except (Conflict, StoreContended):
                # Somebody's record stands where one of ours belongs, or two chunks wanted a scope crosswise.
                if attempt == _ATTEMPTS:
                    raise
            else:
                self._crowded = bool(copied.already_there or copied.deferred)
                return copied
        raise AssertionError("the loop returns or raises")

    def cancel(self) -> None:
        """Let chunks under way in other threads fail soon."""
        with self._busy_lock:
            busy = list(self._busy)
        for connection in busy:
            connection.cancel_safe(timeout=_CANCEL_SECONDS)

    def _copy_once(self, chunk: Chunk, *, staged: bool) -> Copied:
        part = self._parts[chunk.part]
        with speaking_for(Store.NEW), self._new.begin() as new, self._at_work(new):
            new.execute(text("LOCK TABLE crossfade.standing IN SHARE MODE"))  # before legacy is read; see above
            set_applying(new)
            if (done := claim(new, chunk)) is not None:
                return done
            new.execute(select(func.pg_advisory_xact_lock_shared(*FENCE)))
            moved = bool(new.execute(select(has_any(Store.NEW)).select_from(ROUTE)).scalar())  # after the fence's lock
            with speaking_for(Store.LEGACY), self._legacy.connect() as legacy, self._at_work(legacy):
                legacy.execute(_SNAPSHOT)
                copied = self._carry(legacy, new, part, chunk, staged=staged or moved)
            record(new, chunk, copied)
            passing("backfill.before_commit")
        passing("backfill.after_commit")
        return copied

    def _carry(self, legacy: Connection, new: Connection, part: Part, chunk: Chunk, *, staged: bool) -> Copied:
        inside = key_of(part).between(chunk.low, chunk.high)
        if staged:
            copied = self._stage.fill(legacy, new, part, inside)
        else:
            copied = Copied(stream(legacy, self._fit(part, inside), new, self._destination.table, Store.NEW))
        total = legacy.execute(select(func.count()).select_from(part.table).where(inside)).scalar_one()
        if copied.rows < total:
            copied += Copied(quarantined=_quarantine(legacy, new, part, inside))
        if copied.rows != total:
            raise CrossfadeError(f"{total} rows were read and {copied.rows} accounted for; the chunk was not copied")
        return copied

    def _fit(self, part: Part, inside: ColumnElement[bool]) -> Any:
        rows = part.canonical.where(inside).subquery("rows")
        return select(*(rows.c[name] for name in self._destination.columns)).where(rows.c[REASON].is_(None))

    @contextmanager
    def _at_work(self, connection: Connection) -> Iterator[None]:
        driver = driver_of(connection)
        with self._busy_lock:
            self._busy.add(driver)
        try:
            yield
        finally:
            with self._busy_lock:
                self._busy.discard(driver)


def _quarantine(legacy: Connection, new: Connection, part: Part, inside: ColumnElement[bool]) -> int:
    """Hold the rows that new cannot; how many they are. Their contents are not read."""
    rows = part.canonical.where(inside).add_columns(part.local.label("local")).subquery("rows")
    named = select(
        cast(rows.c[part.key], Text).label("key"),
        literal(part.name, Text).label("part"),
        rows.c.local,
        rows.c[part.scope].label("scope"),
        rows.c[REASON].label("reason"),
    ).where(rows.c[REASON].isnot(None))
    unfit = [dict(row) for row in legacy.execute(named).mappings()]
    if unfit:
        with speaking_for(Store.NEW):
            statement = upsert(quarantine)
            renewed = {name: statement.excluded[name] for name in ("scope", "reason")}
            new.execute(statement.on_conflict_do_update(index_elements=["key"], set_=renewed), unfit)
    return len(unfit)
