"""Rollback debt: records of new that legacy cannot hold, and why. Written under legacy's locks, before its commit.

What a rollback leaves behind is debt no more: its row is kept apart, once for each time (``left_behind``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.guarding import NO_PLACE
from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import debt
from adapters.postgres.prepared import Prepared
from harness.records import Debt


def hold(connection: Connection, unfit: Sequence[Mapping[str, str | None]]) -> None:
    """Hold the unfit ones (key, scope, reason); those that are held already keep their ``since``."""
    if unfit:
        statement = insert(debt)
        renewed = {name: statement.excluded[name] for name in ("scope", "reason")}
        rows = [{name: row[name] for name in ("key", "scope", "reason")} for row in unfit]
        connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=renewed), rows)


def owed(engine: Engine) -> list[Debt]:
    """What legacy cannot hold now, the oldest first.

    Without what legacy has no place for at all: that is new-only, and stays so.
    """
    with ledger(engine) as connection:
        rows: Sequence[Any] = OWED.execute(connection).all()
        return [Debt(*row) for row in rows]


def _owed() -> Select[Any]:
    chosen = select(debt.c.key, debt.c.scope, debt.c.reason, debt.c.since)
    chosen = chosen.where(debt.c.reason != literal_column(f"'{NO_PLACE}'"))
    return chosen.order_by(debt.c.since, debt.c.key)


OWED = Prepared(_owed())
