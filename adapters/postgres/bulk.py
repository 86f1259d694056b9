"""Bulk copy: chunks stream from COPY to COPY, without a row ever becoming a Python object.

A chunk reads legacy only after it has the lock that keeps catch-up away (``crossfade.standing``, SHARE against
ROW EXCLUSIVE). Otherwise catch-up could carry over a delete, and forget its note, between the chunk's read and its
insert, and the deleted row would return. Rows, quarantine and checkpoint are committed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection as Driver
from psycopg import sql
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from adapters.postgres.apply import Destination, affected, set_applying, unbounded
from adapters.postgres.errors import speaking_for
from adapters.postgres.literal import literal_sql
from adapters.postgres.part import REASON, Part
from adapters.postgres.schema import checkpoint, dirty, quarantine
from harness.backfill import Copied
from harness.errors import Conflict, CrossfadeError
from harness.failpoints import passing
from harness.routing import Store

_ATTEMPTS = 3
_STAGE = "crossfade_stage"


class ChunkCopier:
    """Copies legacy's parts to new. One at a time for each part; ``copy_next`` is safe to repeat after any crash."""

    def __init__(self, legacy: Engine, parts: Sequence[Part], new: Engine, destination: Destination) -> None:
        self._legacy, self._new, self._destination = legacy, new, destination
        self._parts = {part.name: part for part in parts}
        self._stage = _stage_table(destination)

    def parts(self) -> Sequence[str]:
        return tuple(self._parts)

    def estimate(self) -> int:
        with speaking_for(Store.LEGACY), self._legacy.connect() as connection:
            return sum(
                connection.execute(select(func.count()).select_from(p.table)).scalar_one() for p in self._parts.values()
            )

    def so_far(self) -> Copied:
        c = checkpoint.c
        totals = select(
            *(func.coalesce(func.sum(x), 0) for x in (c.copied, c.already_there, c.quarantined, c.deferred))
        )
        with speaking_for(Store.NEW), self._new.connect() as connection:
            return Copied(*(int(total) for total in connection.execute(totals).one()))

    def copy_next(self, part: str, limit: int) -> Copied | None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._copy_chunk(self._parts[part], limit)
            except Conflict:  # someone enabled a record of the scope after the chunk had looked for rivals
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("the loop returns or raises")

    def _copy_chunk(self, part: Part, limit: int) -> Copied | None:
        with speaking_for(Store.NEW), self._new.begin() as new:
            new.execute(text("LOCK TABLE crossfade.standing IN SHARE MODE"))  # before legacy is read; see above
            set_applying(new)
            last = new.execute(select(checkpoint.c.last_key).where(checkpoint.c.part == part.name)).scalar()
            with speaking_for(Store.LEGACY), self._legacy.connect() as legacy:
                upto = _upper(legacy, part, last, limit)
                if upto is None:
                    _finish(new, part)
                    return None
                self._stream(legacy, new, part.carried_where(_between(part, last, upto)))
                chunk = self._place(new, part)
            _advance(new, part, upto, chunk)
            passing("backfill.before_commit")
        passing("backfill.after_commit")
        return chunk

    def _stream(self, legacy: Connection, new: Connection, rows: Select[Any]) -> None:
        """Fill the stage with the rows; binary, so no value is parsed on the way."""
        self._stage.create(new)
        names = [column.name for column in self._stage.c]
        ordered = rows.subquery()
        copied = select(*(ordered.c[name] for name in names))
        out = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(sql.SQL(literal_sql(copied)))
        into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
            sql.Identifier(_STAGE), sql.SQL(", ").join(map(sql.Identifier, names))
        )
        with (
            _driver(legacy).cursor() as reader,
            _driver(new).cursor() as writer,
            reader.copy(out) as rows_out,
            writer.copy(into) as rows_in,
        ):
            for block in rows_out:
                rows_in.write(block)

    def _place(self, new: Connection, part: Part) -> Copied:
        """Move the stage's rows to where they belong, and account for each."""
        stage, table = self._stage, self._destination.table
        fit = stage.c[REASON].is_(None)
        total = new.execute(select(func.count()).select_from(stage)).scalar_one()
        quarantined = _quarantine(new, part, stage, self._destination)
        deferred = self._defer(new, part, fit)
        names = list(self._destination.columns)
        rows = select(*(stage.c[name] for name in names)).where(fit)
        added = (
            upsert(table).from_select(names, rows).on_conflict_do_nothing(index_elements=[self._destination.part.key])
        )
        copied = affected(new, added)
        there = new.execute(
            select(func.count())
            .select_from(stage.join(table, stage.c[self._destination.part.key] == self._destination.key))
            .where(fit)
        ).scalar_one()
        chunk = Copied(copied, there - copied, quarantined, deferred)
        if chunk.rows != total:
            raise CrossfadeError(
                f"{total} rows of {part.name} were read and {chunk.rows} accounted for; the chunk was not copied"
            )
        return chunk

    def _defer(self, new: Connection, part: Part, fit: ColumnElement[bool]) -> int:
        """Take rows out of the stage whose flag another record of the scope has, and note them for catch-up.

        Such a row changed hands while the copy went on: an older chunk brought the scope's former flag bearer. The
        notes are committed before the chunk is: a crash between leaves notes too many, never one too few.
        """
        stage, table, destination = self._stage, self._destination.table, self._destination
        flag = destination.flag
        if flag is None:
            return 0
        key, scope = stage.c[destination.part.key], stage.c[destination.part.scope]
        rival = exists().where(destination.scope == scope, table.c[flag], destination.key != key)
        rows = new.execute(delete(stage).where(fit, stage.c[flag], rival).returning(key, scope, stage.c.local)).all()
        if rows:
            notes = [{"part": part.name, "scope": row[1], "key": str(row[0]), "local": row[2]} for row in rows]
            with speaking_for(Store.LEGACY), self._legacy.begin() as legacy:
                legacy.execute(insert(dirty), notes)
        return len(rows)


def _stage_table(destination: Destination) -> Table:
    columns = [Column(name, unbounded(destination.table.c[name])) for name in destination.columns]
    extra = Column(REASON, Text), Column("local", Text)
    return Table(_STAGE, MetaData(), *columns, *extra, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")


def _upper(legacy: Connection, part: Part, last: int | None, limit: int) -> int | None:
    """The key that the next ``limit`` rows reach up to, found by the key's own index."""
    order = _order(part)
    following = select(order.label("key")).order_by(order).limit(limit)
    if last is not None:
        following = following.where(order > last)
    return legacy.execute(select(func.max(following.subquery().c.key))).scalar()


def _between(part: Part, last: int | None, upto: int) -> ColumnElement[bool]:
    order = _order(part)
    return order <= upto if last is None else and_(order > last, order <= upto)


def _order(part: Part) -> ColumnElement[int]:
    if part.order is None:
        raise CrossfadeError(f"part {part.name!r} has no integer key to cut chunks by")
    return part.order


def _quarantine(new: Connection, part: Part, stage: Table, destination: Destination) -> int:
    unfit = stage.c[REASON].isnot(None)
    rows = select(
        stage.c[destination.part.key].cast(Text),
        literal(part.name, Text),
        stage.c.local,
        stage.c[destination.part.scope],
        stage.c[REASON],
    ).where(unfit)
    statement = upsert(quarantine).from_select(["key", "part", "local", "scope", "reason"], rows)
    statement = statement.on_conflict_do_update(
        index_elements=["key"], set_={"scope": statement.excluded.scope, "reason": statement.excluded.reason}
    )
    return affected(new, statement)


def _advance(new: Connection, part: Part, upto: int, chunk: Copied) -> None:
    counts = {
        "copied": chunk.copied,
        "already_there": chunk.already_there,
        "quarantined": chunk.quarantined,
        "deferred": chunk.deferred,
    }
    statement = upsert(checkpoint).values(part=part.name, last_key=upto, finished=False, **counts)
    summed = {name: checkpoint.c[name] + statement.excluded[name] for name in counts}
    new.execute(
        statement.on_conflict_do_update(
            index_elements=["part"], set_={"last_key": upto, "finished": False, "updated_at": func.now(), **summed}
        )
    )


def _finish(new: Connection, part: Part) -> None:
    statement = upsert(checkpoint).values(part=part.name, last_key=None, finished=True)
    new.execute(
        statement.on_conflict_do_update(index_elements=["part"], set_={"finished": True, "updated_at": func.now()})
    )


def _driver(connection: Connection) -> Driver[Any]:
    driver = connection.connection.driver_connection
    if not isinstance(driver, Driver):
        raise CrossfadeError("bulk copy needs psycopg 3 under SQLAlchemy")
    return driver
