"""How far the copy of each part is, as others than the copier want to know it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine, select

from adapters.postgres.ledger.opening import ledger
from adapters.postgres.schema import checkpoint


def finished_parts(engine: Engine) -> dict[str, datetime]:
    """The parts that are copied to the end, and since when."""
    chosen = select(checkpoint.c.part, checkpoint.c.updated_at).where(checkpoint.c.finished)
    with ledger(engine) as connection:
        return {row.part: row.updated_at for row in connection.execute(chosen)}
