"""The total of what every process counted, for whoever looks at it again and again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from adapters.postgres.ledger.statistics import StatisticsBook
from harness.statistics import Statistics

# A process adds to its present minute only. What is older than this is read once; so long may clocks differ.
SETTLED = timedelta(minutes=2)


class RunningTotal:
    """Reads the whole history once, and afterwards only the minutes that may still grow. Not for several threads."""

    def __init__(self, book: StatisticsBook, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._book, self._now = book, now
        self._since: datetime | None = None
        self._edge: datetime | None = None  # what began before it is in ``_settled``
        self._settled = Statistics()

    def total(self, since: datetime | None = None) -> Statistics:
        """As ``StatisticsBook.total``. Another ``since`` than the last time's reads its history anew."""
        if since != self._since or self._edge is None:
            self._since, self._edge, self._settled = since, since, Statistics()
        horizon = (self._now() - SETTLED).replace(second=0, microsecond=0)
        found = self._book.by_minute(self._edge)
        whole = Statistics()
        for minute, counted in found:
            (self._settled if minute < horizon else whole).merge(counted)
        self._edge = horizon if self._edge is None else max(self._edge, horizon)
        whole.merge(self._settled)
        return whole
