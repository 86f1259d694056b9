"""What every process counted, by the minute. Any number of processes write; readers merge."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import BigInteger, Engine, cast, func, select, true
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import route, statistics
from harness.ports import Clock
from harness.statistics import Result, Statistics, merged

_FETCH = 500
_UNCERTAIN = timedelta(seconds=10)  # after a new route: a step that led to it is noted a moment later
_MINUTE = timedelta(minutes=1)
_EPOCH = select(route.c.epoch)


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
            return int(connection.execute(_EPOCH).scalar_one())

    def moment(self) -> tuple[int, datetime]:
        """The route's epoch now, and the time by the ledger's clock: that of processes may be another one."""
        with ledger(self._engine) as connection:
            epoch, at = connection.execute(select(route.c.epoch, func.clock_timestamp())).one()
        return int(epoch), at

    def total(self, since: datetime | None = None) -> Statistics:
        """All processes' counts of the minutes, or parts of one, that began at ``since`` or later."""
        return merged(counted for _, counted in self.rows(since))

    def mismatched(self) -> int:
        """Confirmed mismatches of all time, added up by the server: no process's counts are fetched."""
        each = func.jsonb_array_elements(statistics.c.body["comparisons"]).table_valued("value")
        n = cast(each.c.value.op("->>")(2), BigInteger)
        of_them = each.c.value.op("->>")(1) == Result.MISMATCHED.value
        chosen = select(func.coalesce(func.sum(n), 0)).select_from(statistics.join(each, true())).where(of_them)
        with ledger(self._engine) as connection:
            return int(connection.execute(chosen).scalar_one())

    def by_minute(self, since: datetime | None = None) -> list[tuple[datetime, Statistics]]:
        """Each minute that began at ``since`` or later with all processes' counts, in order of time."""
        found: dict[datetime, Statistics] = {}
        for minute, counted in self.rows(since):
            found.setdefault(_whole(minute), Statistics()).merge(counted)
        return list(found.items())

    def by_stretch(self, since: datetime | None, most: int) -> tuple[int, list[tuple[datetime, Statistics]]]:
        """The same in stretches of equally many minutes, so many at most; how many minutes each of them is.

        A month of minutes would fill a machine's memory.
        """
        minutes, first = 1, None
        found: dict[int, Statistics] = {}
        for moment, counted in self.rows(since):
            first = first or _whole(moment)
            place = (moment - first) // (minutes * _MINUTE)
            found.setdefault(place, Statistics()).merge(counted)
            while place >= most:
                minutes, place, found = 2 * minutes, place // 2, _by_two(found)
        return minutes, [(first + place * minutes * _MINUTE, found[place]) for place in found if first]

    def rows(self, since: datetime | None = None) -> Iterator[tuple[datetime, Statistics]]:
        """What began at ``since`` or later, one row after the other, in order of time. Within one transaction."""
        chosen = select(statistics.c.minute, statistics.c.body).order_by(statistics.c.minute)
        if since is not None:
            chosen = chosen.where(statistics.c.minute >= since)
        with ledger(self._engine) as connection:
            for minute, body in connection.execution_options(yield_per=_FETCH).execute(chosen):
                yield minute, Statistics.load(body)


def _by_two(stretches: Mapping[int, Statistics]) -> dict[int, Statistics]:
    """Stretches of twice as many minutes."""
    found: dict[int, Statistics] = {}
    for place, counted in stretches.items():
        found.setdefault(place // 2, Statistics()).merge(counted)
    return found


def _whole(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


class MinuteRollUp:
    """Adds a process's increments up, minute by minute, in the ledger. Fulfils the router's ``roll_up``.

    A new route begins a new row, so that what is counted under it can be told from what was before (the steps of an
    automatic ramp). For some seconds each increment does, lest one that began just before the step was noted, and the
    rest of the minute with it, be no evidence of the step. An increment that reaches back behind the new route belongs
    to the row before. It counts only once it is durable: when writing fails it is not kept here, for the router tries
    again. It may be durable all the same, its answer lost; so what is tried again in another row is taken out of that
    one first.
    """

    def __init__(self, book: StatisticsBook, process: UUID, clock: Clock = time.monotonic) -> None:
        self._book, self._process, self._clock = book, process, clock
        self._born = clock()
        self._began: datetime | None = None  # what is counted now: no row that is older gets it
        self._changed: datetime | None = None  # when the present route was first seen
        self._minute: datetime | None = None  # the row that was written last
        self._counted = Statistics()
        self._epoch: int | None = None
        self._unsure: datetime | None = None  # the row that may hold more than it was known to

    def __call__(self, increment: Statistics) -> None:
        epoch, moment = self._book.moment()
        if self._began is None or self._minute is None or self._changed is None:
            self._began = self._minute = self._changed = moment - timedelta(seconds=self._clock() - self._born)
        straddles = epoch != self._epoch  # the first increment does, too: it reaches back to the process's beginning
        minute = self._minute if straddles else max(self._began, _whole(moment))
        if self._unsure is not None and self._unsure != minute:
            self._book.roll_up(self._process, self._unsure, self._known(self._unsure))
        self._unsure = minute
        counted = self._known(minute)
        counted.merge(increment)
        self._book.roll_up(self._process, minute, counted)
        self._unsure = None
        if straddles:
            self._changed = moment
        if moment - self._changed < _UNCERTAIN:
            self._began = moment
        self._minute, self._counted, self._epoch = minute, counted, epoch

    def _known(self, minute: datetime) -> Statistics:
        """What the row is known to hold."""
        found = Statistics()
        if minute == self._minute:
            found.merge(self._counted)
        return found
