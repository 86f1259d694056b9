"""Giving a migration up: the ledger as if nothing had been copied."""

from __future__ import annotations

from sqlalchemy import Engine, delete, func, select, update

from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.phases import step_to
from adapters.postgres.ledger.tables import (
    cascade,
    checkpoint,
    debt,
    pause,
    quarantine,
    rejection,
    route,
    verified_segment,
    verifying,
)
from adapters.postgres.schema import dirty
from adapters.postgres.triggers import LOCK_TIMEOUT
from harness.phases import Phase


def close_ledger(engine: Engine, *, actor: str, reason: str) -> None:
    """Bring the migration back to IDLE: what was copied and what is held back must be looked at anew.

    Statistics, verifications and the audit stay. Does nothing at IDLE. Raises IllegalPhase while both stores are in
    use, and StoreTimeout when others keep rows of the ledger: the caller keeps everybody out of legacy's tables.
    """
    with ledger(engine) as connection:
        connection.execute(select(func.set_config("lock_timeout", LOCK_TIMEOUT, True)))
        for table in (checkpoint, quarantine, rejection, debt, cascade, dirty, pause, verified_segment, verifying):
            connection.execute(delete(table))
        connection.execute(update(route).values(epoch=route.c.epoch + 1, reads_percent=0, pins={}, automatic=[]))
        step_to(connection, Phase.IDLE, actor, reason)
