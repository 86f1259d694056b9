"""Whether anything was written to a server between two moments."""

from __future__ import annotations

from sqlalchemy import Engine

from adapters.postgres.errors import speaking_for
from harness.routing import Store


def visible_transactions(engine: Engine, store: Store) -> str:
    """Which transactions can be seen now. The same text at two moments: no row has appeared or changed in between.

    It speaks of the whole server, also of databases that are nobody's business here, so it changes more often than it
    would have to. Costs no transaction number, and works on a standby. PostgreSQL 13 calls it pg_current_snapshot,
    and still knows the older name.
    """
    with speaking_for(store), engine.connect() as connection:
        return str(connection.exec_driver_sql("SELECT txid_current_snapshot()::text").scalar_one())
