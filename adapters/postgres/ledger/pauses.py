"""Pauses that somebody asked for: durable, so that a run that begins later stands still too."""

from __future__ import annotations

from sqlalchemy import Engine, delete, select
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.ledger.audit import write
from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import pause
from harness.throttle import Pause


class PauseBook:
    """The pause of one kind of work; fulfils ``harness.throttle.Pauses``."""

    def __init__(self, engine: Engine, work: str) -> None:
        self._engine, self._work = engine, work

    def present(self) -> Pause | None:
        chosen = select(pause.c.actor, pause.c.since, pause.c.reason).where(pause.c.work == self._work)
        with ledger(self._engine) as connection:
            row = connection.execute(chosen).one_or_none()
        return None if row is None else Pause(row.actor, row.since, row.reason)

    def ask(self, actor: str, reason: str) -> bool:
        """Ask for a pause; False if somebody has, before: then it stays theirs."""
        wanted = insert(pause).values(work=self._work, actor=actor, reason=reason).on_conflict_do_nothing()
        with ledger(self._engine) as connection:
            asked = connection.execute(wanted.returning(pause.c.work)).first() is not None
            if asked:
                write(connection, actor, f"{self._work} paused", reason, {})
        return asked

    def end(self, actor: str, reason: str) -> bool:
        """End the pause; False if there was none."""
        with ledger(self._engine) as connection:
            ended = bool(connection.execute(delete(pause).where(pause.c.work == self._work)).rowcount)
            if ended:
                write(connection, actor, f"{self._work} resumed", reason, {})
        return ended
