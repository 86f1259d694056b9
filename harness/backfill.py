"""Backfill: copy what existed, in chunks that several workers copy at once, each with a checkpoint of its own.

Chunks know nothing of each other: any order will do, and any of them may be repeated. So whoever runs them need only
be a ``concurrent.futures.Executor``, be it of this process's threads or of another machine's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from harness.errors import CrossfadeError


@dataclass(frozen=True, slots=True)
class Copied:
    """Rows of a chunk, or of many, by what became of them; together they are all that was read.

    ``deferred``: the row's scope stood otherwise on the other side just then (an enabled prompt in its place, or
    authority has moved); it is noted as dirty, and catch-up does what is right.
    """

    copied: int = 0
    already_there: int = 0
    quarantined: int = 0
    deferred: int = 0

    @property
    def rows(self) -> int:
        return self.copied + self.already_there + self.quarantined + self.deferred

    def __add__(self, other: Copied) -> Copied:
        return Copied(
            self.copied + other.copied,
            self.already_there + other.already_there,
            self.quarantined + other.quarantined,
            self.deferred + other.deferred,
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows of a part whose keys are ``low`` to ``high``, both included. ``run``: the backfill that planned it."""

    part: str
    low: int
    high: int
    run: int = 0

    def __str__(self) -> str:
        return f"{self.part}, keys {self.low} to {self.high}"


class Plan(Protocol):
    """What is to be copied. Durable: what was copied before is not planned again."""

    def parts(self) -> Sequence[str]:
        """Every part. From now on chunks of an earlier run are refused."""
        ...

    def chunks(self, part: str, rows: Callable[[], int]) -> Iterator[Chunk]:
        """What of the part is not copied; each chunk, when it is asked for, of ``rows()`` rows at most."""
        ...

    def finish(self, part: str) -> None:
        """All chunks of the part are copied."""
        ...


class Pace(Protocol):
    """What holds the work back (``harness.throttle``)."""

    def admit(self, stop: Event) -> bool:
        """Wait until the next chunk may begin; False when there is to be none any more."""
        ...

    def chunk_rows(self) -> int: ...

    def done(self, rows: int, seconds: float) -> None:
        """A chunk that was admitted has ended."""
        ...


Copy = Callable[[Chunk], Copied]


def backfill(
    plan: Plan,
    copy: Copy,
    executor: Executor,
    *,
    workers: int,
    pace: Pace,
    stop: Event,
    progress: Callable[[Copied], None] = lambda _: None,
    breath: float = 0.0,
) -> tuple[Copied, bool]:
    """Copy what is left of every part. Returns what this call did, and whether all parts are finished.

    ``copy`` makes rows and checkpoint of a chunk durable together; it has to be picklable if the executor's workers
    are other processes. No more than ``workers`` chunks are under way at once. ``stop``, or the pace, ends it after
    these. So does a chunk that fails: its error is raised, with part and keys in front. ``breath``: nothing at all is
    under way for so many seconds after each round of ``workers`` chunks, for whoever waits for that.
    """
    crew = _Crew(plan, copy, executor, pace, progress)
    try:
        for part in plan.parts():
            for chunk in plan.chunks(part, pace.chunk_rows):
                crew.settle(workers - 1)
                if crew.failed or stop.is_set() or not pace.admit(stop):
                    return crew.ended(), False
                crew.begin(chunk)
                if breath and crew.under_way == workers:
                    crew.settle(0)
                    stop.wait(breath)
            crew.planned(part)
        return crew.ended(), True
    except CrossfadeError:
        crew.settle(0)  # what is under way is wanted all the same
        raise


class _Crew:
    """The chunks under way, and what became of those before them."""

    def __init__(
        self, plan: Plan, copy: Copy, executor: Executor, pace: Pace, progress: Callable[[Copied], None]
    ) -> None:
        self._plan, self._copy, self._executor, self._pace, self._progress = plan, copy, executor, pace, progress
        self._pending: dict[Future[tuple[Copied, float]], Chunk] = {}
        self._left: Counter[str] = Counter()
        self._planned: set[str] = set()
        self._done = Copied()
        self._failure: CrossfadeError | None = None

    @property
    def under_way(self) -> int:
        return len(self._pending)

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def begin(self, chunk: Chunk) -> None:
        self._left[chunk.part] += 1
        self._pending[self._executor.submit(_timed, self._copy, chunk)] = chunk

    def planned(self, part: str) -> None:
        """There are no more chunks of the part."""
        self._planned.add(part)
        self._finish(part)

    def settle(self, under_way: int) -> None:
        """Take note of chunks that have ended, waiting until at most so many are under way."""
        while self._pending:
            patience = None if len(self._pending) > under_way else 0
            ended, _ = wait(self._pending, timeout=patience, return_when=FIRST_COMPLETED)
            if not ended:
                return
            for future in ended:
                self._account(self._pending.pop(future), future)

    def ended(self) -> Copied:
        """Wait for all; what they did together. Raises what the first failure was."""
        self.settle(0)
        if self._failure is not None:
            raise self._failure
        return self._done

    def _account(self, chunk: Chunk, future: Future[tuple[Copied, float]]) -> None:
        error = CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._failure = self._failure or _explained(chunk, error)
            return
        copied, seconds = future.result()
        self._pace.done(copied.rows, seconds)
        self._progress(copied)
        self._done += copied
        self._left[chunk.part] -= 1
        self._finish(chunk.part)

    def _finish(self, part: str) -> None:
        if part in self._planned and not self._left[part]:
            self._plan.finish(part)


def _timed(copy: Copy, chunk: Chunk) -> tuple[Copied, float]:
    """The chunk's copy and its seconds, by the clock of who makes it; the clock cannot travel to another process."""
    began = time.monotonic()
    return copy(chunk), time.monotonic() - began


def _explained(chunk: Chunk, error: BaseException) -> CrossfadeError:
    """The error with part and keys in front, of the same class if it is ours."""
    if isinstance(error, CrossfadeError):
        explained = type(error)(f"{chunk}: {error}")
    elif isinstance(error, CancelledError):
        explained = CrossfadeError(f"{chunk}: given up by the executor; see whether its workers run, then run it again")
    else:
        explained = CrossfadeError(f"{chunk}: unexpected {type(error).__name__}; what is durable stays, run it again")
    explained.__cause__ = error
    return explained
