"""The shadow: asks the other store what a caller has just been answered, and compares the two.

Nothing here is in a caller's path but appending to a bounded queue. An unequal pair is no mismatch yet: it is looked
at again, both stores being asked anew, until nothing is on its way any more and both repeat themselves.

A write comes here only when it was refused, and as a rehearsal: asked of either store, it changes nothing.
"""

from __future__ import annotations

import functools
import reprlib
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from harness.bound import Bound
from harness.breaker import Breaker
from harness.compare import Comparison, Outcome, Pair
from harness.errors import CannotHold, NoAuthority, RepositoryError, StoreUnavailable
from harness.pairing import Pairing
from harness.ports import Clock
from harness.recorder import Recorder, Track
from harness.records import FieldDifference, MismatchSample
from harness.routing import Store
from harness.settings import ShadowSettings
from harness.statistics import Drop, Failure, Result, Role
from harness.workers import Worker, Workers

# What a caller leaves behind: a bare tuple, because making one costs the caller a thirtieth of a microsecond. Last the
# seconds in which the store answered, None if it failed.
Task = tuple[Bound, Store, tuple[Any, ...], dict[str, Any], object, type[BaseException] | None, float | None]
Apart = Callable[[str | None, Hashable | None], Drop | None]
Settled = Callable[[str | None, Hashable | None], bool]

PAUSE_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Look:
    """An unequal pair that waits to be looked at again. ``pair`` is what the last settled look saw."""

    bound: Bound
    served: Store
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    due: float
    looks: int = 0
    pair: Pair | None = None


class _BreakerOpen(Exception):
    """The store must not be asked now."""


class Shadow:
    """Compares in the background. Callers append to ``queue`` while it is shorter than ``room``, else ``refuse``.

    ``apart`` says whether a read cannot be compared now, and why; ``settled`` whether nothing is on its way for a
    scope and key. Latencies and errors of a shadow's first call are counted, those of later looks are not, nor those
    of rehearsals: a store's writes must not look fast because it rehearsed what it refused.
    """

    def __init__(
        self,
        settings: ShadowSettings,
        *,
        comparison: Comparison,
        recorder: Recorder,
        apart: Apart,
        settled: Settled,
        clock: Clock,
        now: Callable[[], datetime],
    ) -> None:
        self._settings, self._comparison, self._recorder = settings, comparison, recorder
        self._apart, self._settled, self._clock, self._now = apart, settled, clock, now
        self.queue: deque[Task] = deque()
        self.room = 0  # until it is started
        self.pairing = Pairing(settings)
        self._refusal = Drop.STOPPED
        self._looks: deque[Look] = deque()  # in the order in which they fall due, for the pause is always the same
        self._breakers = {store: Breaker(settings.breaker_failures, settings.breaker_seconds, clock) for store in Store}
        self._workers: Workers[Task | Look] = Workers(
            settings.workers,
            settings.timeout_seconds,
            take=self._take,
            do=self._do,
            late=self._late,
            stranded=self._stranded,
            failed=recorder.failed(Failure.WORKER),
            clock=clock,
        )
        self._brief = reprlib.Repr()
        self._brief.maxstring = self._brief.maxother = 60

    def refuse(self, track: Track) -> None:
        """Count a comparison for which there is no room."""
        track.drops[self._refusal].add()

    def start(self) -> None:
        self._workers.start()
        self.room, self._refusal = self._settings.queue, Drop.QUEUE_FULL

    @property
    def at_rest(self) -> bool:
        """Whether nothing is queued, in hand, or waiting for another look."""
        with self._workers.lock:
            return not self.queue and not self._looks and self._workers.at_rest

    def stop(self, seconds: float) -> None:
        """Take no more, end what is in hand within so long, and count what is left as stopped."""
        self.room, self._refusal = 0, Drop.STOPPED
        self._workers.stop(seconds)
        with self._workers.lock:
            self._drop_queue(Drop.STOPPED)
            while self._looks:
                self._looks.popleft().bound.track.drops[Drop.STOPPED].add()

    # What the workers call back

    def _take(self) -> Task | Look | None:
        if self._looks and self._looks[0].due <= self._clock():
            return self._looks.popleft()
        return self.queue.popleft() if self.queue else None

    def _do(self, worker: Worker[Task | Look], job: Task | Look) -> None:
        bound = job.bound if isinstance(job, Look) else job[0]
        try:
            if isinstance(job, Look):
                self._look_again(worker, job)
            else:
                self._compare(worker, job)
        except _BreakerOpen:
            worker.conclude(bound.track.drops[Drop.BREAKER_OPEN].add)
        except StoreUnavailable:
            worker.conclude(bound.track.drops[Drop.STORE_FAILED].add)
        except NoAuthority:
            worker.conclude(bound.track.drops[Drop.UNSETTLED].add)

    def _late(self, job: Task | Look, store: Store | None, seconds: float) -> None:
        bound = job.bound if isinstance(job, Look) else job[0]
        stopped = self._refusal is Drop.STOPPED
        if store is not None:
            self._breakers[store].failed()
            if not isinstance(job, Look) and bound.timed:
                bound.track.calls[store, Role.SHADOWED, True].add(seconds)
                if not stopped:  # else it was given up before its time, which is not the store's fault
                    self.pairing.note(bound.track, job[1], job[6], None)
        bound.track.drops[Drop.STOPPED if stopped else Drop.TIMEOUT if store is not None else Drop.UNSETTLED].add()

    def _stranded(self) -> None:
        """Every thread hangs in a call: what is queued would grow stale until one returns."""
        self._drop_queue(Drop.BREAKER_OPEN)

    def _drop_queue(self, reason: Drop) -> None:
        for _ in range(len(self.queue)):
            self.queue.popleft()[0].track.drops[reason].add()

    # One comparison

    def _compare(self, worker: Worker[Task | Look], task: Task) -> None:
        bound, served, args, kwargs, answer, error, _ = task
        shadowed = self._ask(worker, bound, served.other, args, kwargs, first=task if bound.timed else None)
        pair = Pair.of(served, Outcome(answer, error), shadowed)
        if _cannot_hold(pair):
            worker.conclude(bound.track.drops[Drop.HELD].add)
        elif (counting := self._verdict(bound.track, pair, Result.MATCHED)) is None:
            look = Look(bound, served, args, kwargs, due=self._clock() + self._settings.look_seconds)
            worker.conclude(lambda: self._wait_for(look))
        else:
            worker.conclude(counting)

    def _look_again(self, worker: Worker[Task | Look], look: Look) -> None:
        track = look.bound.track
        scope, key = look.bound.place(look.args, look.kwargs)
        apart = self._apart(scope, key)
        if apart is Drop.HELD:
            return worker.conclude(track.drops[Drop.HELD].add)
        pair: Pair | None = None
        if apart is None and self._is_settled(worker, scope, key):
            pair = self._ask_both(worker, look)
            if _cannot_hold(pair):
                return worker.conclude(track.drops[Drop.HELD].add)
            counting = self._verdict(track, pair, Result.TRANSIENT)
            if counting is not None:
                return worker.conclude(counting)
            # Asked again afterwards: a write that came between the two answers would explain the difference.
            if self._apart(scope, key) is not None or not self._is_settled(worker, scope, key):
                pair = None
        if pair is not None and look.pair is not None and self._repeated(track.name, pair, look.pair):
            return self._confirm(worker, look, scope, pair)
        if look.looks + 1 >= self._settings.second_looks:
            return worker.conclude(track.drops[Drop.UNSETTLED].add)
        due = self._clock() + self._settings.look_seconds
        return worker.conclude(lambda: self._wait_for(replace(look, due=due, looks=look.looks + 1, pair=pair)))

    def _verdict(self, track: Track, pair: Pair, equal: Result) -> Callable[[], object] | None:
        """What counts the pair, as ``equal`` or as ignored; None: unequal, whatever that will turn out to be."""
        if pair.alike:
            return track.results[equal].add
        try:
            rules = self._comparison.excuses(pair, track.name)
        except Exception as error:  # noqa: BLE001 - answers of any kind meet a foreign library here
            self._recorder.failed(Failure.COMPARE)(error)
            return None
        return functools.partial(_count_ignored, track, rules) if rules else None

    def _repeated(self, operation: str, pair: Pair, earlier: Pair) -> bool:
        try:
            return self._comparison.repeated(pair, earlier, operation)
        except Exception as error:  # noqa: BLE001 - as above
            self._recorder.failed(Failure.COMPARE)(error)
            return False

    def _wait_for(self, look: Look) -> None:
        if len(self._looks) < self._settings.queue:
            self._looks.append(look)
        else:
            look.bound.track.drops[Drop.UNSETTLED].add()

    def _confirm(self, worker: Worker[Task | Look], look: Look, scope: str | None, pair: Pair) -> None:
        track, differences = look.bound.track, self._differences(pair, look.bound.track.name)
        arguments = ", ".join(
            [
                *(self._brief.repr(value) for value in look.args),
                *(f"{name}={self._brief.repr(value)}" for name, value in look.kwargs.items()),
            ]
        )
        sample = MismatchSample(self._now(), track.name, look.served, scope, arguments, differences)

        def count() -> None:
            track.results[Result.MISMATCHED].add()
            track.fields.add(frozenset(difference.field for difference in differences))
            self._recorder.sample(sample)

        worker.conclude(count)

    def _differences(self, pair: Pair, operation: str) -> tuple[FieldDifference, ...]:
        try:
            return self._comparison.differences(pair, operation)
        except Exception as error:  # noqa: BLE001 - it differs all the same, in what cannot be told
            self._recorder.failed(Failure.COMPARE)(error)
            return (FieldDifference("other", None, None),)

    # Asking

    def _ask_both(self, worker: Worker[Task | Look], look: Look) -> Pair:
        # The one that was asked first then is asked last now: a steady stream of writes shows as another pair.
        shadowed = self._ask(worker, look.bound, look.served.other, look.args, look.kwargs)
        served = self._ask(worker, look.bound, look.served, look.args, look.kwargs)
        return Pair.of(look.served, served, shadowed)

    def _ask(
        self,
        worker: Worker[Task | Look],
        bound: Bound,
        store: Store,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        first: Task | None = None,
    ) -> Outcome:
        """What the store answers or raises. ``first``: the task of which this is the first call, to be counted.

        Raises StoreUnavailable, _BreakerOpen, Abandoned when it is late, and NoAuthority, which is no answer.
        """
        breaker = self._breakers[store]
        if not breaker.allows():
            raise _BreakerOpen
        began = self._clock()
        outcome = worker.call(functools.partial(_outcome, bound.methods[store], args, kwargs), store)
        error = outcome.error
        unavailable = error is not None and issubclass(error, StoreUnavailable)
        (breaker.failed if unavailable else breaker.succeeded)()
        if first is not None:
            failed, took = error is not None and not issubclass(error, RepositoryError), self._clock() - began
            bound.track.calls[store, Role.SHADOWED, failed].add(took)
            self.pairing.note(bound.track, first[1], first[6], None if failed else took)
        if unavailable:
            raise StoreUnavailable(f"{store} did not answer {bound.track.name}; the comparison is dropped")
        if error is not None and issubclass(error, NoAuthority):
            raise NoAuthority(f"{store} did not rehearse {bound.track.name}; the comparison is dropped")
        return outcome

    def _is_settled(self, worker: Worker[Task | Look], scope: str | None, key: Hashable | None) -> bool:
        """Whether nothing is on its way. Raises StoreUnavailable when it cannot be told."""
        return worker.call(functools.partial(self._settled, scope, key), None)


def _count_ignored(track: Track, rules: frozenset[str]) -> None:
    track.results[Result.IGNORED].add()
    track.rules.add(rules)


def _cannot_hold(pair: Pair) -> bool:
    errors = (pair.legacy.error, pair.new.error)
    return any(error is not None and issubclass(error, CannotHold) for error in errors)


def _outcome(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
    try:
        return Outcome(method(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - whatever a shadow raises, even SystemExit, ends here
        return Outcome(error=type(error))
