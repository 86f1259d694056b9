"""What every process counted, by the minute. Any number of processes write; readers merge."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.ledger.opening import ledger
from adapters.postgres.schema import statistics
from harness.statistics import Statistics

_FETCH = 500


class StatisticsBook:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def roll_up(self, process: UUID, minute: datetime, counted: Statistics) -> None:
        """Keep all that the process counted in the minute; a second call for the same minute replaces the first."""
        whole = minute.replace(second=0, microsecond=0)
        statement = insert(statistics).values(process=process, minute=whole, body=counted.dump())
        replaced = statement.on_conflict_do_update(
            index_elements=["process", "minute"], set_={"body": statement.excluded.body}
        )
        with ledger(self._engine) as connection:
            connection.execute(replaced)

    def total(self, since: datetime | None = None) -> Statistics:
        """All processes' counts of the minutes that began at ``since`` or later."""
        whole = Statistics()
        for _, counted in self.by_minute(since):
            whole.merge(counted)
        return whole

    def by_minute(self, since: datetime | None = None) -> list[tuple[datetime, Statistics]]:
        """Each minute that began at ``since`` or later with all processes' counts, in order of time."""
        chosen = select(statistics.c.minute, statistics.c.body).order_by(statistics.c.minute)
        if since is not None:
            chosen = chosen.where(statistics.c.minute >= since)
        found: dict[datetime, Statistics] = {}
        with ledger(self._engine) as connection:
            for minute, body in connection.execution_options(yield_per=_FETCH).execute(chosen):
                found.setdefault(minute, Statistics()).merge(Statistics.load(body))
        return list(found.items())
