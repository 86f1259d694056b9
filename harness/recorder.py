"""The recorder: takes what callers and comparisons observed, without making them wait, and hands it on.

Callers only ever append to a bounded deque or step a counter; neither takes a lock. A thread of the recorder
drains them into Statistics and to the publisher. What found no room is counted too.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from harness.beat import Beat
from harness.errors import CrossfadeError
from harness.ports import Publisher, SampleSink
from harness.records import MismatchSample
from harness.routing import RouteView, Store
from harness.statistics import Drop, Failure, Paired, Result, Role, Statistics

T = TypeVar("T")
RollUp = Callable[[Statistics], None]

BUFFER = 32_768  # latencies of one kind that may wait for a drain: ten drains a second leave 300,000 calls a second
SAMPLES = 200
DRAIN_SECONDS = 0.1
ROLL_UP_SECONDS = 5.0


class Tally:
    """Counts calls of ``add`` from any number of threads: stepping ``itertools.count`` is atomic, so no lock."""

    __slots__ = ("_seen", "add")

    def __init__(self) -> None:
        self.add = itertools.count().__next__
        self._seen = 0

    def take(self) -> int:
        """How often ``add`` was called since the last take. For one thread at a time."""
        drawn = self.add()  # reading the counter steps it as well, so the next reading starts one further
        counted, self._seen = drawn - self._seen, drawn + 1
        return counted


class Buffer(Generic[T]):
    """What waits to be drained: never blocks, never grows beyond ``limit``; what finds no room is counted as lost."""

    __slots__ = ("items", "limit", "lost")

    def __init__(self, limit: int) -> None:
        self.items: deque[T] = deque()
        self.limit, self.lost = limit, Tally()

    def add(self, item: T) -> None:
        if len(self.items) < self.limit:
            self.items.append(item)
        else:
            self.lost.add()

    def take(self) -> list[T]:
        """What is there now, oldest first. For one thread at a time."""
        return [self.items.popleft() for _ in range(len(self.items))]


class Track:
    """What was observed of one operation since the last drain. ``calls`` by store, role, and whether it failed.

    ``paired``: legacy's and new's seconds for the same operation.
    """

    __slots__ = ("calls", "drops", "fallbacks", "fields", "name", "paired", "pairs", "rerouted", "results", "rules")

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: dict[tuple[Store, Role, bool], Buffer[float]] = {
            (store, role, failed): Buffer(BUFFER) for store in Store for role in Role for failed in (False, True)
        }
        self.results: dict[Result, Tally] = {result: Tally() for result in Result if result is not Result.NOT_COMPARED}
        self.drops = {reason: Tally() for reason in Drop}
        self.fallbacks, self.rerouted = Tally(), Tally()
        self.fields: Buffer[frozenset[str]] = Buffer(BUFFER)
        self.rules: Buffer[frozenset[str]] = Buffer(BUFFER)
        self.pairs = {result: Tally() for result in Paired}
        self.paired: Buffer[tuple[float, float]] = Buffer(BUFFER)

    def drain(self, into: Statistics) -> list[tuple[Store, Role, list[float], bool]]:
        """Move everything into ``into``, and answer the calls with their durations."""
        calls = []
        for (store, role, failed), buffer in self.calls.items():
            if durations := buffer.take():
                into.latencies[self.name, store, role].add_all(durations)
                calls.append((store, role, durations, failed))
                if failed:
                    into.errors[self.name, store, role] += len(durations)
            if lost := buffer.lost.take():
                into.unrecorded[self.name] += lost
        for result, tally in self.results.items():
            if n := tally.take():
                into.comparisons[self.name, result] += n
        for reason, tally in self.drops.items():
            if n := tally.take():
                into.drops[reason] += n
                into.comparisons[self.name, Result.NOT_COMPARED] += n
        for fields in self.fields.take():
            into.fields.update((self.name, field) for field in fields)
        for rules in self.rules.take():
            into.rules.update((self.name, rule) for rule in rules)
        if n := self.fallbacks.take():
            into.fallbacks[self.name] += n
        if n := self.rerouted.take():
            into.rerouted[self.name] += n
        self._drain_pairs(into)
        return calls

    def _drain_pairs(self, into: Statistics) -> None:
        for result, tally in self.pairs.items():
            if n := tally.take():
                into.pairs[self.name, result] += n
        if paired := self.paired.take():
            into.paired[self.name, Store.LEGACY].add_all(legacy for legacy, _ in paired)
            into.paired[self.name, Store.NEW].add_all(new for _, new in paired)


class Recorder:
    """Counts for all operations of one router.

    ``roll_up`` is given what was counted since its last success, every few seconds and at the end; while it
    raises, the increment is kept and grows. ``samples`` gets confirmed mismatches at the same pace.
    """

    def __init__(
        self,
        operations: Iterable[str],
        *,
        publisher: Publisher | None = None,
        samples: SampleSink | None = None,
        roll_up: RollUp | None = None,
        roll_up_seconds: float = ROLL_UP_SECONDS,
    ) -> None:
        self.tracks = {name: Track(name) for name in operations}
        self._publisher, self._sink, self._roll_up = publisher, samples, roll_up
        self._samples: Buffer[MismatchSample] = Buffer(SAMPLES)
        self._failures = {part: Tally() for part in Failure}
        self._lock = threading.Lock()  # among those who drain; callers never take it
        self._totals, self._increment = Statistics(), Statistics()
        self.beats = (
            Beat("record", self.drain, DRAIN_SECONDS, self.failed(Failure.PUBLISH), once_more=True),
            # A thread of its own: a ledger that hangs must not keep latencies from being drained.
            Beat("roll-up", self.hand_on, roll_up_seconds, self.failed(Failure.ROLL_UP), once_more=True),
        )

    def failed(self, part: Failure) -> Callable[[object], object]:
        """What to call when a part of the harness failed: the one place where such failures are counted."""
        add = self._failures[part].add
        return lambda _error: add()

    def sample(self, sample: MismatchSample) -> None:
        if self._sink is not None:
            self._samples.add(sample)

    def route(self, view: RouteView) -> None:
        if self._publisher is not None:
            try:
                self._publisher.route(view)
            except Exception:  # noqa: BLE001 - a publisher's fault must not stop the route from being followed
                self._failures[Failure.PUBLISH].add()

    def statistics(self) -> Statistics:
        """All that was counted since the start, as a copy."""
        self.drain()
        found = Statistics()
        with self._lock:
            found.merge(self._totals)
        return found

    def drain(self) -> None:
        """Take what was observed so far into the totals, and publish it."""
        with self._lock:
            drained, calls = Statistics(), []
            for track in self.tracks.values():
                calls += [(track.name, *call) for call in track.drain(drained)]
            for part, tally in self._failures.items():
                if n := tally.take():
                    drained.failures[part] += n
            if lost := self._samples.lost.take():
                drained.failures[Failure.SAMPLE] += lost
            if drained.empty:
                return
            # Counted before it is published: a publisher that raises costs metrics, never the totals.
            self._totals.merge(drained)
            if self._roll_up is not None:
                self._increment.merge(drained)
            self._publish(drained, calls)

    def _publish(self, drained: Statistics, calls: list[tuple[str, Store, Role, list[float], bool]]) -> None:
        if self._publisher is None:
            return
        try:
            for name, store, role, durations, failed in calls:
                self._publisher.calls(name, store, role, durations, failed)
            self._publisher.counts(drained)
        except Exception:  # noqa: BLE001 - a publisher's fault is counted, and costs its metrics only
            self._failures[Failure.PUBLISH].add()

    def hand_on(self) -> None:
        """Give samples to their sink and the increment to ``roll_up``; what could not be given is kept."""
        self._keep_samples()
        self.drain()
        if self._roll_up is None:
            return
        with self._lock:
            increment, self._increment = self._increment, Statistics()
        if increment.empty:
            return
        try:
            self._roll_up(increment)
        except Exception:
            with self._lock:
                self._increment.merge(increment)
            raise  # the beat counts it and comes again

    def _keep_samples(self) -> None:
        if self._sink is None:
            return
        waiting = self._samples.take()
        for place, sample in enumerate(waiting):
            try:
                self._sink.mismatch(sample)
            except CrossfadeError:
                self._failures[Failure.SAMPLE].add()
                for kept in waiting[place:]:  # the ledger is away for now: they are tried again
                    self._samples.add(kept)
                return
            except Exception:  # noqa: BLE001 - this one cannot be kept; the others may be
                self._failures[Failure.SAMPLE].add()
