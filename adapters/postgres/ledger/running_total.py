"""The total of what every process counted, for whoever looks at it again and again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from adapters.postgres.ledger.statistics import StatisticsBook
from harness.statistics import Statistics

# A process adds to its present minute only. What is older than this is read once; so long may an answer take.
SETTLED = timedelta(minutes=2)
# But a process that was idle, or cut off, may add to an older one, or take back what it is not sure of.
_ANEW = timedelta(hours=1)


class RunningTotal:
    """Reads the whole history once an hour, else only the minutes that may still grow. Not for several threads.

    ``now``: the ledger's own clock, by which processes tell minutes, unless another one is given.
    """

    def __init__(self, book: StatisticsBook, now: Callable[[], datetime] | None = None) -> None:
        self._book, self._now = book, now or (lambda: book.moment()[1])
        self._since: datetime | None = None
        self._edge: datetime | None = None  # what began before it is in ``_settled``
        self._read: datetime | None = None  # when that was read from the beginning
        self._settled = Statistics()

    def total(self, since: datetime | None = None) -> Statistics:
        """As ``StatisticsBook.total``. Another ``since`` than the last time's reads its history anew."""
        now = self._now()
        if since != self._since or self._edge is None or self._read is None or now - self._read >= _ANEW:
            self._since, self._edge, self._settled, self._read = since, since, Statistics(), now
        horizon = (now - SETTLED).replace(second=0, microsecond=0)
        settled, whole = Statistics(), Statistics()
        for moment, counted in self._book.rows(self._edge):
            (settled if moment < horizon else whole).merge(counted)
        # Once all is read: what breaks off in the middle is read again.
        self._settled.merge(settled)
        self._edge = horizon if self._edge is None else max(self._edge, horizon)
        whole.merge(self._settled)
        return whole
