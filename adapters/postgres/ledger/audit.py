"""Who changed what about the migration, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, insert, select

from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import audit
from harness.records import AuditEntry


def write(connection: Connection, actor: str, action: str, reason: str, detail: Mapping[str, Any]) -> None:
    """Add an entry within the transaction of the change that it speaks of. ``detail`` must be JSON."""
    connection.execute(insert(audit).values(actor=actor, action=action, reason=reason, detail=dict(detail)))


class AuditBook:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, actor: str, action: str, reason: str, detail: Mapping[str, Any] | None = None) -> None:
        with ledger(self._engine) as connection:
            write(connection, actor, action, reason, detail or {})

    def entries(self, limit: int = 100, *, without: str = "") -> list[AuditEntry]:
        """The newest entries, newest first. ``without``: none of those whose action begins so."""
        chosen = select(audit.c.at, audit.c.actor, audit.c.action, audit.c.reason, audit.c.detail)
        if without:
            chosen = chosen.where(~audit.c.action.startswith(without, autoescape=True))
        with ledger(self._engine) as connection:
            rows = connection.execute(chosen.order_by(audit.c.id.desc()).limit(limit)).all()
        return [AuditEntry(*row) for row in rows]
