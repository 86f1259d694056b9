"""The contract of both stores, and one implementation for both: a part says all in which they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, Engine, select, update

from adapters.postgres.errors import speaking_for
from adapters.postgres.part import Part, these
from harness.errors import NotFound
from harness.operations import read, write
from harness.routing import Store


@dataclass(frozen=True, slots=True)
class Item:
    warehouse: str
    sku: str
    pieces: int
    shelf: str | None


def key_of(warehouse: str, sku: str) -> str:
    """The canonical key, as the databases make it."""
    return f"{warehouse}/{sku}"


class Stock(Protocol):
    @read(scope=lambda warehouse, sku: warehouse, key=key_of)
    def find(self, warehouse: str, sku: str) -> Item: ...

    @write(
        scope=lambda warehouse, sku, pieces: warehouse,
        key=lambda warehouse, sku, pieces: key_of(warehouse, sku),
    )
    def count(self, warehouse: str, sku: str, pieces: int) -> Item: ...


@dataclass(frozen=True, slots=True)
class SqlStock:
    """Raises NotFound where there is no such item."""

    engine: Engine
    store: Store
    part: Part

    def find(self, warehouse: str, sku: str) -> Item:
        with speaking_for(self.store), self.engine.connect() as connection:
            return self._read(connection, key_of(warehouse, sku))

    def count(self, warehouse: str, sku: str, pieces: int) -> Item:
        key = key_of(warehouse, sku)
        with speaking_for(self.store), self.engine.begin() as connection:
            wanted = update(self.part.table).where(self.part.where_key(these([key])))
            connection.execute(wanted.values(pieces=pieces))
            return self._read(connection, key)

    def _read(self, connection: Connection, key: str) -> Item:
        rows = self.part.canonical.where(self.part.where_key(these([key]))).subquery()
        row = connection.execute(select(rows.c.warehouse, rows.c.sku, rows.c.pieces, rows.c.shelf)).one_or_none()
        if row is None:
            raise NotFound(f"there is no item {key}")
        return Item(*row)
