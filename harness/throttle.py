"""Throttle: how fast bulk work may go, when it has to wait, and when it is over for today.

Four reasons to wait, each looked at before a chunk begins: the greatest rate, a pause that somebody has asked for,
replicas that fall behind, and the moment up to which work may go on. A chunk that has begun is never held up.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from threading import Event, Lock
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from harness.errors import ConfigError
from harness.ports import Clock

POLL_SECONDS = 1.0  # how often pauses and replicas are looked at
_CALM = 0.5  # share of a limit below which work goes on: at the limit itself it would stop and go
_GROWTH, _SHRINKAGE = 2, 4  # a chunk has so many times the rows of the one before, at most, or one part of so many
_PACED_SECONDS = 1.0  # rows of a chunk under a rate, in seconds of it, at most
_TIME = re.compile(r"(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?:\s*(?P<zone>[A-Za-z][\w+\-/]*))?\Z")


@dataclass(frozen=True, slots=True)
class Limits:
    """``chunk_rows``: rows to begin with. 0 means no limit for all others, and for ``chunk_seconds`` no adapting."""

    chunk_rows: int
    chunk_seconds: float = 0.0
    max_chunk_rows: int = 0
    rows_per_second: float = 0.0
    lag_seconds: float = 0.0
    lag_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a replica is behind. ``note``: why that is not known, for people."""

    seconds: float = 0.0
    bytes: int = 0
    replica: str = ""
    note: str = ""


class Pressure(Protocol):
    """What bulk work does to a server beside its own load."""

    def lags(self) -> Sequence[Lag]:
        """How far each of its replicas is behind; empty if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Pause:
    """Who asked for the pause, when, and why; empty if no reason was given."""

    actor: str
    since: datetime
    reason: str = ""


class Pauses(Protocol):
    def present(self) -> Pause | None:
        """The pause that is asked for now, None if there is none."""
        ...


class Throttle:
    """Admits chunks. Safe to use from any number of threads.

    ``until``: an aware moment from which on nothing is admitted. ``now`` tells what time it is, ``clock`` how much has
    passed. ``told`` is given a line for people at every change, not at every look.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        clock: Clock,
        now: Callable[[], datetime],
        pauses: Pauses | None = None,
        pressures: Sequence[Pressure] = (),
        until: datetime | None = None,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._limits, self._clock, self._now, self._until, self._told = limits, clock, now, until, told
        self._pauses, self._pressures = pauses, tuple(pressures)
        self._numbers, self._looking = Lock(), Lock()
        self._rows = max(1, limits.chunk_rows)
        self._next_at = clock()
        self._expected: deque[int] = deque()  # rows of the chunks under way, as they were reckoned with
        self._looked_at: float | None = None
        self._paused: Pause | None = None
        self._behind: str = ""
        self._notes: set[str] = set()

    @property
    def over(self) -> bool:
        """Whether ``until`` has come."""
        return self._until is not None and self._now() >= self._until

    def admit(self, stop: Event) -> bool:
        """Wait until the next chunk may begin. False: ``stop`` is set, or ``until`` has come.

        Raises StoreUnavailable when it cannot be found out whether it may.
        """
        return self._wait(stop, self._admitted)

    def go_on(self, stop: Event) -> bool:
        """``admit`` for work that has no rows to count."""
        return self._wait(stop, lambda: 0.0)

    def _wait(self, stop: Event, admitted: Callable[[], float]) -> bool:
        while not stop.is_set() and not self.over:
            wait = POLL_SECONDS if self._held_up() else admitted()
            if wait <= 0:
                return True
            stop.wait(min(wait, POLL_SECONDS, self._left()))
        return False

    def chunk_rows(self) -> int:
        """How many rows the next chunk should have."""
        limits = self._limits
        with self._numbers:
            rows = self._rows
        if limits.chunk_seconds and limits.rows_per_second:
            return max(1, min(rows, int(limits.rows_per_second * _PACED_SECONDS)))
        return rows

    def done(self, rows: int, seconds: float) -> None:
        """A chunk that was admitted had so many rows and took so long."""
        with self._numbers:
            expected = self._expected.popleft() if self._expected else rows
            if self._limits.rows_per_second:
                self._next_at += (rows - expected) / self._limits.rows_per_second
            if self._limits.chunk_seconds and rows > 0:
                self._rows = self._adapted(rows, max(seconds, 1e-6))

    def _adapted(self, rows: int, seconds: float) -> int:
        """Toward the target by what the chunk says: one that took long counts always, a quick one only if it was full.

        The last chunk of a part, or one in a hole between keys, is quick without saying anything.
        """
        present, target = self._rows, self._limits.chunk_seconds
        fitting = int(rows * target / seconds)
        if seconds > target:
            return max(1, min(present, max(present // _SHRINKAGE, fitting)))
        if 2 * rows < present:
            return present
        most = max(self._limits.max_chunk_rows or fitting, self._limits.chunk_rows)
        return max(present, min(fitting, _GROWTH * present, most))

    def _admitted(self) -> float:
        """0 if a chunk may begin now, which then counts as begun; else how long until it may, in seconds."""
        rate, rows = self._limits.rows_per_second, self.chunk_rows()
        with self._numbers:
            moment = self._clock()
            if rate and self._next_at > moment:
                return self._next_at - moment
            if rate:  # what was not used is not saved up: after a pause nothing rushes
                self._next_at = max(self._next_at, moment) + rows / rate
            self._expected.append(rows)
            return 0.0

    def _left(self) -> float:
        """Seconds until ``until``; a moment longer, lest the last wait end just before it."""
        if self._until is None:
            return POLL_SECONDS
        return max(0.0, (self._until - self._now()).total_seconds()) + 0.001

    def _held_up(self) -> bool:
        """Whether a pause, or a replica that is behind, holds work up. Looks again once a second."""
        with self._looking:
            moment = self._clock()
            if self._looked_at is None or moment - self._looked_at >= POLL_SECONDS:
                self._looked_at = moment
                self._look_for_pause()
                if not self._paused:
                    self._look_at_replicas()
            return self._paused is not None or bool(self._behind)

    def _look_for_pause(self) -> None:
        found = self._pauses.present() if self._pauses is not None else None
        if found is not None and self._paused is None:
            why = f" ({found.reason})" if found.reason else ""
            since = found.since.astimezone().isoformat(sep=" ", timespec="seconds")
            self._told(f"paused by {found.actor} since {since}{why}; crossfade backfill --resume lets it go on")
        elif found is None and self._paused is not None:
            self._told("resumed")
        self._paused = found

    def _look_at_replicas(self) -> None:
        if not (self._limits.lag_seconds or self._limits.lag_bytes):
            return
        lags = [lag for pressure in self._pressures for lag in pressure.lags()]
        for note in {lag.note for lag in lags if lag.note} - self._notes:
            self._notes.add(note)
            self._told(note)
        share = _CALM if self._behind else 1.0
        found = "; ".join(text for lag in lags for text in self._beyond(lag, share))
        if found and not self._behind:
            self._told(f"waiting, because replication falls behind: {found}")
        elif self._behind and not found:
            self._told("replication has caught up; going on")
        self._behind = found

    def _beyond(self, lag: Lag, share: float) -> Iterator[str]:
        """What of a lag is beyond that share of its limit, in words."""
        limits = self._limits
        if limits.lag_seconds and lag.seconds > share * limits.lag_seconds:
            yield f"{lag.replica} by {lag.seconds:.0f} s (limit {limits.lag_seconds:g} s)"
        if limits.lag_bytes and lag.bytes > share * limits.lag_bytes:
            yield f"{lag.replica} by {lag.bytes:,} bytes (limit {limits.lag_bytes:,})"


def next_moment(text: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """The next moment (UTC), after ``now``, at which a clock shows ``HH:MM``, or ``HH:MM Europe/Berlin``.

    Without a name the clock is ``zone``'s, without either the machine's own. A time that the clock skips when it is
    put forward is the one that it shows instead; of one that it shows twice, the first that is still to come.
    Raises ConfigError for what is no time or no zone.
    """
    found = _TIME.match(text.strip())
    if found is None:
        raise ConfigError(f"{text!r} is no time of day: give HH:MM, or HH:MM and a zone, as in '06:30 Europe/Berlin'")
    there = _zone(found["zone"]) if found["zone"] else zone
    today = now.astimezone(there)
    for days in range(3):
        day = today.date() + timedelta(days=days)
        for fold in (0, 1):
            shown = datetime(day.year, day.month, day.day, int(found["hour"]), int(found["minute"]), fold=fold)
            # Without a zone, astimezone() asks the machine's own rules for that very day.
            moment = (shown.astimezone() if there is None else shown.replace(tzinfo=there)).astimezone(UTC)
            if moment > now:
                return moment
    raise AssertionError("every clock shows every time within two days")


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo("UTC" if name == "Z" else name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"{name!r} is no time zone; give one of the IANA names, as in Europe/Berlin") from error
