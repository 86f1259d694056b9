"""Scopes that could not be carried over, and why; gone once they could."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import rejection
from harness.records import Rejection


def reject(connection: Connection, scope: str | None, error: str) -> bool:
    """Note one more failed attempt; whether it is the first. ``error`` must hold no row's contents."""
    statement = insert(rejection).values(scope=scope or "", error=error)
    again = {"error": error, "attempts": rejection.c.attempts + 1, "last_seen": func.now()}
    noted = statement.on_conflict_do_update(index_elements=["scope"], set_=again).returning(rejection.c.attempts)
    return bool(connection.execute(noted).scalar_one() == 1)


def rejections(engine: Engine, limit: int = 100) -> list[Rejection]:
    """The scopes that could not be carried over, the longest waiting first."""
    c = rejection.c
    chosen = select(c.scope, c.error, c.attempts, c.first_seen, c.last_seen).order_by(c.first_seen, c.scope)
    with ledger(engine) as connection:
        rows = connection.execute(chosen.limit(limit)).all()
    return [Rejection(row[0] or None, *row[1:]) for row in rows]
