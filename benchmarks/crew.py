"""The processes of a benchmark: each has its own interpreter and connections, does what it is told, and reports."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from threading import Event as Flag
from typing import Any, cast

import psycopg

from adapters.prompts.migration import opened
from benchmarks.machine import Beats, Speed, watch
from benchmarks.stage import Stage
from benchmarks.writer import Report, Round, Writer
from harness.catchup import Carried, drain
from harness.errors import Refused
from harness.routing import Store
from harness.settings import Settings

WRITERS = 4
SAMPLE_SECONDS = 0.01

_context = multiprocessing.get_context("spawn")


class Hand:
    """One process. ``tell`` gives it something to do, ``hear`` waits for what came of it."""

    def __init__(self, work: Callable[..., None], *arguments: object) -> None:
        self._pipe, theirs = _context.Pipe()
        self._process: BaseProcess = _context.Process(target=work, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def tell(self, task: object) -> None:
        self._pipe.send(task)

    def hear(self) -> Any:
        """Raises EOFError if it has died; its traceback is on standard error."""
        return self._pipe.recv()

    def dismiss(self) -> None:
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


def _tasks(pipe: Connection) -> Iterator[Any]:
    pipe.send("ready")
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return


class Writers:
    """Writers that share the scopes out among themselves, and write in the same manner."""

    def __init__(self, stage: Stage, stack: ExitStack, manner: str) -> None:
        self._manner, self._stop = manner, _context.Event()
        shares = [stage.scopes[number::WRITERS] for number in range(WRITERS)]
        self._hands = hired(stack, [Hand(_write, n, stage.urls, share, self._stop) for n, share in enumerate(shares)])

        stack.callback(self._stop.set)  # before they are dismissed: one that writes does not listen

    def write(self, place: str, seconds: float) -> list[Report]:
        for hand in self._hands:
            hand.tell(Round(self._manner, place, seconds))
        return [cast(Report, hand.hear()) for hand in self._hands]

    def begin(self, place: str, pause: float = 0.0) -> None:
        for hand in self._hands:
            hand.tell(Round(self._manner, place, None, pause))

    def end(self) -> list[Report]:
        self._stop.set()
        reports = [cast(Report, hand.hear()) for hand in self._hands]
        self._stop.clear()
        return reports


def hired(stack: ExitStack, hands: Sequence[Hand]) -> Sequence[Hand]:
    """The hands, once all of them are ready."""
    for hand in hands:
        stack.callback(hand.dismiss)
        hand.hear()
    return hands


def _write(pipe: Connection, number: int, urls: Mapping[str, str], scopes: Sequence[str], stop: Event) -> None:
    writer = Writer(number, urls, scopes, stop)
    for task in _tasks(pipe):
        pipe.send(writer.run(task))


@dataclass(frozen=True, slots=True)
class Drained:
    """What one worker carried, and from when to when by the machine's monotonic clock."""

    carried: Carried
    began: float
    ended: float


def carry(pipe: Connection, settings: Settings) -> None:
    """Drain one direction's queue each time the store that gives is named."""
    with opened(settings, bulk=True, application="crossfade-benchmark") as stores:
        carriers = {store: stores.carrier_from(store) for store in Store}
        for store in _tasks(pipe):
            began = time.monotonic()
            pause = settings.catchup.poll_seconds
            done, _ = drain(carriers[store], stop=Flag(), clock=time.monotonic, timeout=60, pause=pause)
            pipe.send(Drained(done, began, time.monotonic()))


def move(pipe: Connection, stage: Stage) -> None:
    """Move authority to each percent that is named; what the move said, or why it was refused.

    In a session of its own, as a person's command is (``catching_up``).
    """
    os.setsid()
    for aim in _tasks(pipe):
        try:
            pipe.send(Moved(stage.ramp(aim)))
        except Refused as error:
            pipe.send(Moved(str(error), refused=True))


@dataclass(frozen=True, slots=True)
class Moved:
    said: str
    refused: bool = False


@dataclass(slots=True)
class Samples:
    """The age of the oldest note, in seconds, and when that was looked at, in seconds since 1970."""

    at: array[float] = field(default_factory=lambda: array("d"))
    age: array[float] = field(default_factory=lambda: array("d"))


def sample(pipe: Connection, urls: Mapping[str, str], stop: Event) -> None:
    """Look at both queues every ``SAMPLE_SECONDS`` until the event is set."""
    oldest = "SELECT extract(epoch FROM clock_timestamp() - noted_at) FROM crossfade.dirty ORDER BY seq LIMIT 1"
    with ExitStack() as stack:
        looking = {store: stack.enter_context(psycopg.connect(urls[store.value], autocommit=True)) for store in Store}
        for _ in _tasks(pipe):
            found = {store: Samples() for store in Store}
            while not stop.wait(SAMPLE_SECONDS):
                for store, connection in looking.items():
                    row = connection.execute(oldest).fetchone()
                    found[store].at.append(time.time())
                    found[store].age.append(0.0 if row is None else float(row[0]))
            pipe.send(found)


class Sampler:
    def __init__(self, stage: Stage, stack: ExitStack) -> None:
        self._stop = _context.Event()
        [self._hand] = hired(stack, [Hand(sample, stage.urls, self._stop)])
        stack.callback(self._stop.set)
        self._hand.tell("look")

    def end(self) -> dict[Store, Samples]:
        self._stop.set()
        return cast("dict[Store, Samples]", self._hand.hear())


class Watcher:
    """Watches from the beginning how fast the machine is."""

    def __init__(self, stack: ExitStack) -> None:
        self._stop = _context.Event()
        [self._hand] = hired(stack, [Hand(watch, self._stop)])
        stack.callback(self._stop.set)
        self._hand.tell("watch")

    def end(self) -> Speed:
        self._stop.set()
        return Speed(cast(Beats, self._hand.hear()))


@contextmanager
def catching_up(stage: Stage, workers: int) -> Iterator[None]:
    """``crossfade catchup --follow`` as a service of its own, as whatever starts services would start it.

    In a session of its own: where the kernel shares processors out among these, it is one beside the writers' and the
    server's, and not one process more of the writers'.
    """
    command = [sys.executable, "-m", "harness.cli", "catchup", "--follow", "--workers", str(workers), "--json"]
    process = subprocess.Popen(
        command, env=os.environ | stage.environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0, f"crossfade catchup ended with {code}"
