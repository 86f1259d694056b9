"""What both dirty queues, quarantine and rollback debt say of rows under verification."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, Text, and_, any_, cast, exists, false, func, or_, select

from adapters.postgres.digest import TableSide
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.tables import debt, quarantine
from adapters.postgres.notes import BY_ROW, OF_RECORD
from adapters.postgres.part import Part, texts, these
from adapters.postgres.schema import dirty
from harness.routing import Store


class Queues:
    """Fulfils ``harness.looking.Queue``. ``new_only`` tells the rows of ``table`` that are none of the migration's."""

    def __init__(self, legacy: Engine, side: TableSide, new: Engine, new_only: ColumnElement[bool], table: Any) -> None:
        self._legacy, self._side, self._new = legacy, side, new
        self._new_only, self._table = new_only, table

    def noted(self, keys: Collection[str], scopes: Collection[str | None]) -> frozenset[str]:
        named = [scope for scope in scopes if scope is not None]
        whole = and_(~OF_RECORD, or_(dirty.c.scope.is_(None), dirty.c.scope == any_(these(named))))
        # Rows first: one that goes in between has left a note with its key.
        found = {row[0] for row in self._side.asked("noted", keys, _noted_by_row)}
        for store, engine in ((Store.LEGACY, self._legacy), (Store.NEW, self._new)):
            with speaking_for(store), engine.connect() as connection:
                if connection.execute(select(dirty.c.seq).where(whole).limit(1)).first() is not None:
                    return frozenset(keys)
                statement = select(dirty.c.key).where(dirty.c.key == any_(these(keys)))
                found |= set(connection.execute(statement).scalars())
        return frozenset(found)

    def owed(self, keys: Collection[str]) -> frozenset[str]:
        chosen = select(debt.c.key).where(debt.c.key == any_(these(keys)))
        with speaking_for(Store.NEW), self._new.connect() as connection:
            return frozenset(connection.execute(chosen).scalars())

    def misplaced(self, keys: Collection[str]) -> Mapping[str, str | None]:
        held = select(quarantine.c.key, quarantine.c.scope, quarantine.c.reason)
        with speaking_for(Store.NEW), self._new.connect() as connection:
            rows = connection.execute(held.where(quarantine.c.key == any_(these(keys))))
            listed = frozenset((row[0], row[1], row[2]) for row in rows)
        odd = {key: scope for key, scope, _ in self._side.unfit(keys) ^ listed}
        noted = self.noted(odd.keys(), ()) if odd else frozenset()
        return {key: scope for key, scope in odd.items() if key not in noted}

    def places(self, keys: Collection[str]) -> dict[str, tuple[str, str]]:
        """Part and local key of those of the keys that are in quarantine."""
        chosen = select(quarantine.c.key, quarantine.c.part, quarantine.c.local)
        with speaking_for(Store.NEW), self._new.connect() as connection:
            rows = connection.execute(chosen.where(quarantine.c.key == any_(these(keys))))
            return {row[0]: (row[1], row[2]) for row in rows}

    def new_only(self) -> int:
        with speaking_for(Store.NEW), self._new.connect() as connection:
            return connection.execute(select(func.count()).select_from(self._table).where(self._new_only)).scalar_one()


def held_rows(*conditions: ColumnElement[bool]) -> Select[Any]:
    """What the ledger says of unrepresentable rows, as a side of a verification reads it."""
    return select(quarantine.c.key, quarantine.c.scope, quarantine.c.reason).where(*conditions)


def _noted_by_row(part: Part) -> Select[Any]:
    """The records of the part with one of ``keys`` that are noted without their key."""
    if part.staying is None:
        return select(dirty.c.key).where(false())
    rows = part.of_few.where(part.where_key(texts("keys"))).add_columns(part.local.label("local")).subquery()
    key = cast(rows.c[part.key], Text)
    noted = exists().where(BY_ROW, dirty.c.part == part.name, dirty.c.local == rows.c.local)
    return select(key).where(key == any_(texts("keys")), noted)
