"""Rogue writes: what a store took without authority, as its guard kept it in mode ``record``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, func, select

from adapters.postgres.errors import speaking_for
from adapters.postgres.schema import rogue
from harness.routing import Store


@dataclass(frozen=True, slots=True)
class Rogue:
    """One such write. ``before`` and ``after`` are the whole row, None where there was none."""

    at: datetime
    store: Store
    part: str
    operation: str
    scope: str | None
    role: str
    application: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


def count(engine: Engine, store: Store) -> int:
    """How many the store has kept."""
    with speaking_for(store), engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(rogue)).scalar_one())


def age_of_latest(engine: Engine, store: Store) -> float | None:
    """How many seconds ago the newest was taken, by the store's own clock; None if there is none."""
    age = func.extract("epoch", func.clock_timestamp() - func.max(rogue.c.at))
    with speaking_for(store), engine.connect() as connection:
        found = connection.execute(select(age)).scalar_one()
    return None if found is None else float(found)


def kept(engine: Engine, store: Store, limit: int | None) -> list[Rogue]:
    """The newest, newest first; without a limit all."""
    c = rogue.c
    chosen = select(c.at, c.part, c.operation, c.scope, c.role, c.application, c.before, c.after)
    with speaking_for(store), engine.connect() as connection:
        rows = connection.execute(chosen.order_by(c.id.desc()).limit(limit)).all()
    return [Rogue(row[0], store, *row[1:]) for row in rows]
