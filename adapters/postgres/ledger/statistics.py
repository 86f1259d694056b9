"""What every process counted, by the minute. Any number of processes write; readers merge."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.ledger.opening import ledger
from adapters.postgres.schema import route, statistics
from harness.statistics import Statistics

_FETCH = 500


class StatisticsBook:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def roll_up(self, process: UUID, minute: datetime, counted: Statistics) -> int:
        """Keep all that the process counted since ``minute``; a second call for the same one replaces the first.

        ``minute`` is a full minute, or within it the moment at which the process, or a new route, began. Returns the
        route's epoch.
        """
        statement = insert(statistics).values(process=process, minute=minute, body=counted.dump())
        replaced = statement.on_conflict_do_update(
            index_elements=["process", "minute"], set_={"body": statement.excluded.body}
        )
        with ledger(self._engine) as connection:
            connection.execute(replaced)
            return int(connection.execute(select(route.c.epoch)).scalar_one())

    def total(self, since: datetime | None = None) -> Statistics:
        """All processes' counts of the minutes, or parts of one, that began at ``since`` or later."""
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
                found.setdefault(_whole(minute), Statistics()).merge(Statistics.load(body))
        return list(found.items())


def _whole(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


class MinuteRollUp:
    """Adds a process's increments up, minute by minute, in the ledger. Fulfils the router's ``roll_up``.

    A new route begins a new row, so that what is counted under it can be told from what was before (the steps of an
    automatic ramp). An increment counts only once it is durable: when writing fails it is not kept here, for the
    router tries again.
    """

    def __init__(
        self, book: StatisticsBook, process: UUID, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._book, self._process, self._now = book, process, now
        self._began = self._minute = now()
        self._counted = Statistics()
        self._epoch: int | None = None

    def __call__(self, increment: Statistics) -> None:
        minute = max(self._began, _whole(self._now()))
        counted = Statistics()
        if minute == self._minute:
            counted.merge(self._counted)
        counted.merge(increment)
        epoch = self._book.roll_up(self._process, minute, counted)
        if self._epoch not in {None, epoch}:
            self._began = self._now()
        self._minute, self._counted, self._epoch = minute, counted, epoch
