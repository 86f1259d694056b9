"""Noise baselines, kept in the audit: who compared a store with itself, when, and what differed."""

from __future__ import annotations

from sqlalchemy import Engine, select

from adapters.postgres.ledger.audit import write
from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import audit
from harness.baseline import Baseline
from harness.routing import Store

ACTION = "noise baseline"


class BaselineBook:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, found: Baseline, actor: str, reason: str) -> None:
        """Keep it. Raises NotPrepared before ``crossfade prepare``."""
        with ledger(self._engine) as connection:
            write(connection, actor, ACTION, reason, found.dump())

    def latest(self, store: Store = Store.LEGACY) -> Baseline | None:
        """The last one of the store; of its fields those that differed."""
        chosen = select(audit.c.detail).where(audit.c.action == ACTION, audit.c.detail["store"].astext == store.value)
        with ledger(self._engine) as connection:
            dumped = connection.execute(chosen.order_by(audit.c.id.desc()).limit(1)).scalar_one_or_none()
        return None if dumped is None else Baseline.load(dumped)
