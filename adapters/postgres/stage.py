"""The way round for a chunk of which new has some rows already: over a table of its own, which can be asked first."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    Table,
    Text,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from adapters.postgres.apply import Destination, affected, unbounded
from adapters.postgres.authority import ROUTE, authority_now
from adapters.postgres.errors import speaking_for
from adapters.postgres.part import REASON, Part
from adapters.postgres.pipe import stream
from adapters.postgres.schema import dirty
from harness.backfill import Copied
from harness.routing import Store

_NAME = "crossfade_stage"


class Stage:
    """A temporary table of the destination's shape, in each transaction that wants one."""

    def __init__(self, legacy: Engine, destination: Destination) -> None:
        self._legacy, self._destination = legacy, destination
        columns = [Column(name, unbounded(destination.table.c[name])) for name in destination.columns]
        extra = Column("local", Text)
        self._table = Table(_NAME, MetaData(), *columns, extra, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")

    def fill(self, legacy: Connection, new: Connection, part: Part, inside: ColumnElement[bool]) -> Copied:
        """Copy the fit rows inside the range, and say of each what became of it.

        A row whose key is in new already stays there as it is. Raises Conflict when somebody raises a flag meanwhile.
        """
        rows = part.canonical.where(inside).add_columns(part.local.label("local")).subquery("rows")
        fit = select(*(rows.c[column.name] for column in self._table.c)).where(rows.c[REASON].is_(None))
        with speaking_for(Store.NEW):
            self._table.create(new)
            stream(legacy, fit, new, self._table, Store.NEW)
            deferred = self._defer(new, part)
            return self._place(new) + Copied(deferred=deferred)

    def _place(self, new: Connection) -> Copied:
        stage, destination = self._table, self._destination
        names = list(destination.columns)
        adding = upsert(destination.table).from_select(names, select(*(stage.c[name] for name in names)))
        copied = affected(new, adding.on_conflict_do_nothing(index_elements=[destination.part.key]))
        both = stage.join(destination.table, stage.c[destination.part.key] == destination.key)
        there = new.execute(select(func.count()).select_from(both)).scalar_one()
        return Copied(copied, there - copied)

    def _defer(self, new: Connection, part: Part) -> int:
        """Take rows out of the stage that are not the copy's to bring, and note them for catch-up, which decides.

        One whose flag another record of the scope has: it changed hands while the copy went on, and an older chunk
        brought the scope's former flag bearer. And one of a scope that new has authority over, by its route, which the
        caller keeps from changing. The notes are committed before the chunk is: a crash between leaves notes too many,
        never one too few.
        """
        stage, table, destination = self._table, self._destination.table, self._destination
        flag = destination.flag
        key, scope = stage.c[destination.part.key], stage.c[destination.part.scope]
        not_ours: ColumnElement[bool] = exists(select(ROUTE.c.single).where(authority_now(scope) == Store.NEW.value))
        if flag is not None:
            rival = exists().where(destination.scope == scope, table.c[flag], destination.key != key)
            not_ours = or_(not_ours, and_(stage.c[flag], rival))
        rows = new.execute(delete(stage).where(not_ours).returning(key, scope, stage.c.local)).all()
        if rows:
            notes = [{"part": part.name, "scope": row[1], "key": str(row[0]), "local": row[2]} for row in rows]
            with speaking_for(Store.LEGACY), self._legacy.begin() as legacy:
                legacy.execute(insert(dirty), notes)
        return len(rows)
