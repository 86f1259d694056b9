"""From COPY to COPY: rows stream from one database to another in binary form, no value ever becoming an object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from psycopg import Connection as Driver
from psycopg import sql
from sqlalchemy import Connection, Select, Table

from adapters.postgres.errors import speaking_for
from adapters.postgres.literal import literal_sql
from harness.errors import CrossfadeError
from harness.routing import Store

_BLOCK = 1 << 17  # bytes written at once: the driver hands out single rows, and each write costs more than a row


def stream(giving: Connection, rows: Select[Any], taking: Connection, table: Table, store: Store) -> int:
    """Append the rows of ``rows`` to the table, by the columns' names; how many there were.

    The names are the table's; the columns' types must be the same on both sides, byte for byte. ``store`` is the one
    that takes. Raises CrossfadeError on behalf of the store that failed. Memory: a few blocks, or the longest row.
    """
    names = [column.name for column in rows.selected_columns]
    out = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(sql.SQL(literal_sql(rows)))
    into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(*filter(None, (table.schema, table.name))), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with speaking_for(store.other), driver_of(giving).cursor() as reader, reader.copy(out) as rows_out:
        # What reading raises is the giver's: explained where it happens, before this block can take it for its own.
        with speaking_for(store), driver_of(taking).cursor() as writer:
            with writer.copy(into) as rows_in:
                for block in _blocks(rows_out, store.other):
                    rows_in.write(block)
            written = writer.rowcount
        read = reader.rowcount
    if read != written:
        raise CrossfadeError(f"{read} rows were read from {store.other} and {written} written to {store}")
    return written


def driver_of(connection: Connection) -> Driver[Any]:
    """The driver's own connection."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, Driver):
        raise CrossfadeError("bulk copy needs psycopg 3 under SQLAlchemy")
    return driver


def _blocks(rows: Iterable[Any], store: Store) -> Iterator[bytes]:
    held: list[Any] = []
    size = 0
    with speaking_for(store):
        for row in rows:
            held.append(row)
            size += len(row)
            if size >= _BLOCK:
                yield held[0] if len(held) == 1 else b"".join(held)  # a huge row is not copied once more
                held, size = [], 0
    yield b"".join(held)
