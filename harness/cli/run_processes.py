"""The processes of a parallel run, seen from their parent."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from threading import Event

from harness.cli.run_worker import Share, Snapshot, work
from harness.errors import CrossfadeError
from harness.statistics import Statistics
from harness.workload import Performed

Progress = Callable[[Statistics, float], None]
_REFRESH_SECONDS = 0.5
_END_SECONDS = 30.0


@dataclass(slots=True)
class _Child:
    process: SpawnProcess
    pipe: Pipe
    latest: Snapshot | None = None
    open: bool = True

    def receive(self) -> None:
        try:
            self.latest = self.pipe.recv()
        except EOFError:
            self.open = False


def run_processes(
    shares: Sequence[Share], stop: Event, progress: Progress, ended: Callable[[int], None]
) -> tuple[Statistics, Performed]:
    """Run each share in a process of its own, until all have ended. Setting ``stop`` asks them to end early.

    ``progress`` gets what all have counted so far, about twice a second; ``ended`` the number of each process that
    ended. Raises the error in which a process ended, or CrossfadeError for one that was killed.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit connections and metrics
    shared_stop = context.Event()
    children = []
    for share in shares:
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(share, sending, shared_stop), daemon=True)
        process.start()
        sending.close()  # so that the end of the process is the end of the pipe
        children.append(_Child(process, receiving))
    started = time.monotonic()
    try:
        while any(child.open for child in children):
            ready = wait([child.pipe for child in children if child.open], timeout=_REFRESH_SECONDS)
            for child in children:
                if child.pipe in ready:
                    child.receive()
            if stop.is_set():
                shared_stop.set()
            progress(_sum(children), time.monotonic() - started)
    finally:
        shared_stop.set()
        for child in children:
            child.process.join(_END_SECONDS)
            ended(child.process.pid or 0)
    return _sum(children), _performed(children)


def _sum(children: Sequence[_Child]) -> Statistics:
    whole = Statistics()
    for child in children:
        if child.latest is not None and child.latest.statistics:
            whole.merge(Statistics.load(child.latest.statistics))
    return whole


def _performed(children: Sequence[_Child]) -> Performed:
    done = Performed({}, {}, {}, 0.0, 0.0)
    for child in children:
        if child.latest is not None and child.latest.error is not None:
            raise child.latest.error
        if child.latest is None or child.latest.performed is None:
            raise CrossfadeError(
                f"a process of the run ended without its totals (exit code {child.process.exitcode}); "
                "what it had counted until then is in the ledger"
            )
        done += child.latest.performed
    return done
