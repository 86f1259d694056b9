"""Workers: a few threads that ask stores off the caller's path, and are given up when a store does not return.

A thread inside a hung call cannot be ended. It is abandoned: its job is counted as late, another thread takes its
place, and when the call does return, what it brought is thrown away. There are never more than twice as many
threads as workers; when all of them hang, nothing more is asked until one returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from harness.beat import Beat
from harness.ports import Clock
from harness.routing import Store

J = TypeVar("J")
T = TypeVar("T")

NAP_SECONDS = 0.005  # between two looks at the queue by any of the workers
LONGEST_NAP = 0.05  # to which naps grow while there is nothing to do
BATCH = 500  # jobs between two naps: a caller going flat out must find the interpreter free now and then
SUPERVISION_SECONDS = 0.1


class Abandoned(Exception):
    """The call took too long and was counted as such; what it returned must not be used."""


class Worker(Generic[J]):
    """One thread, the job it has in hand, and the call it is waiting for: which store, since when."""

    __slots__ = ("_clock", "_lock", "abandoned", "calling", "job", "thread")

    def __init__(self, lock: threading.Lock, clock: Clock) -> None:
        self._lock, self._clock = lock, clock
        self.job: J | None = None
        self.calling: tuple[Store | None, float] | None = None
        self.abandoned = False
        self.thread: threading.Thread | None = None

    def call(self, act: Callable[[], T], store: Store | None) -> T:
        """What ``act`` returns or raises, or Abandoned when it came too late."""
        self.calling = (store, self._clock())
        try:
            return act()
        finally:
            with self._lock:
                self.calling = None
                late = self.abandoned
            if late:
                raise Abandoned

    def conclude(self, act: Callable[[], object]) -> None:
        """End the job with ``act``, which counts it; Abandoned when it was counted as late already."""
        with self._lock:
            if self.abandoned:
                raise Abandoned
            self.job = None
            act()


class Workers(Generic[J]):
    """Takes jobs with ``take``, does them with ``do``, and tells ``late`` of each that was abandoned.

    ``take``, ``late`` and ``stranded`` run under ``lock``, and ``do`` ends each job by ``Worker.conclude``: none is
    ever both done and late. Callers need not wake anybody: workers look for jobs every few milliseconds (idle ones
    less often), which costs callers nothing at any rate of calls.
    """

    def __init__(
        self,
        count: int,
        timeout: float,
        *,
        take: Callable[[], J | None],
        do: Callable[[Worker[J], J], None],
        late: Callable[[J, Store | None, float], None],
        stranded: Callable[[], None],
        failed: Callable[[object], object],
        clock: Clock,
    ) -> None:
        self._count, self._timeout, self._clock = count, timeout, clock
        self._take, self._do, self._late, self._stranded, self._failed = take, do, late, stranded, failed
        self.lock = threading.Lock()
        self._nap = min(count * NAP_SECONDS, LONGEST_NAP)
        self._stopping = threading.Event()
        self._live: set[Worker[J]] = set()
        self._hung: set[Worker[J]] = set()
        self._supervision = Beat("supervise", self.supervise, SUPERVISION_SECONDS, failed)

    @property
    def at_rest(self) -> bool:
        """Whether no worker has a job in hand. Ask it under ``lock``."""
        return all(worker.job is None for worker in self._live)

    @property
    def hung(self) -> int:
        """Abandoned threads whose call has not returned."""
        return len(self._hung)

    def start(self) -> None:
        with self.lock:
            self._replenish()
        self._supervision.start()

    def supervise(self) -> None:
        """Abandon what takes too long, and put others in its place."""
        now = self._clock()
        with self.lock:
            for worker in list(self._live):
                if worker.calling is not None and now - worker.calling[1] >= self._timeout:
                    self._abandon(worker)
            self._replenish()
            if not self._live and not self._stopping.is_set():
                self._stranded()

    def stop(self, seconds: float) -> None:
        """Let each worker end the call it is in, for so long in all; abandon those that do not return."""
        self._stopping.set()
        self._supervision.stop()
        until = self._clock() + seconds
        for worker in list(self._live):
            if worker.thread is not None:
                worker.thread.join(min(seconds, max(0.0, until - self._clock())))
        with self.lock:
            for worker in list(self._live):
                self._abandon(worker)

    def _abandon(self, worker: Worker[J]) -> None:
        store, since = worker.calling or (None, self._clock())
        worker.abandoned = True
        self._live.discard(worker)
        self._hung.add(worker)
        if worker.job is not None:
            self._late(worker.job, store, self._clock() - since)

    def _replenish(self) -> None:
        while (
            not self._stopping.is_set()
            and len(self._live) < self._count
            and len(self._live) + len(self._hung) < 2 * self._count
        ):
            worker: Worker[J] = Worker(self.lock, self._clock)
            worker.thread = threading.Thread(target=self._run, args=(worker,), name="crossfade-shadow", daemon=True)
            self._live.add(worker)
            worker.thread.start()

    def _run(self, worker: Worker[J]) -> None:
        nap = self._nap
        while True:
            done = 0
            while done < BATCH and not worker.abandoned and not self._stopping.is_set() and self._step(worker):
                done += 1
            if worker.abandoned and not self._returns(worker):
                return
            nap = self._nap if done else min(1.5 * nap, LONGEST_NAP)
            if self._stopping.wait(nap):
                with self.lock:
                    self._live.discard(worker)
                return

    def _step(self, worker: Worker[J]) -> bool:
        """Do one job; False when there is none."""
        with self.lock:
            job = worker.job = self._take()
        if job is None:
            return False
        try:
            self._do(worker, job)
        except Abandoned:
            return False
        except Exception as error:  # noqa: BLE001 - a fault of ours costs one comparison, never a worker
            self._failed(error)
            with self.lock:
                if worker.job is not None and not worker.abandoned:
                    worker.job = None
                    self._late(job, None, 0.0)
        return True

    def _returns(self, worker: Worker[J]) -> bool:
        """Whether a worker whose call came back late goes on; it ends if others have taken its place."""
        with self.lock:
            self._hung.discard(worker)
            if self._stopping.is_set() or len(self._live) >= self._count:
                return False
            worker.abandoned, worker.job = False, None
            self._live.add(worker)
            return True
