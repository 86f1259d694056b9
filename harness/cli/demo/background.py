"""What goes on behind the demo's chapters: catch-up, Dispatch's own writing, and the parallel run."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe
from typing import Any

from adapters.prompts.invented_writer import LegacyWriter
from adapters.prompts.migration import Stores, opened
from harness.catchup import follow
from harness.cli.app import App, quiet_driver
from harness.cli.run import Plan, keep_totals, run_parallel
from harness.errors import CrossfadeError
from harness.settings import Settings

_ACT_SECONDS = 0.1
_END_SECONDS = 30.0


@contextmanager
def background(work: Callable[[threading.Event], object], name: str) -> Iterator[None]:
    """Work in a thread while the block runs; an error of it is raised at the end."""
    stop, errors = threading.Event(), list[Exception]()

    def run() -> None:
        try:
            work(stop)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits for this one
            errors.append(error)

    thread = threading.Thread(target=run, name=f"crossfade-demo-{name}")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def catching_up(stores: Stores) -> Iterator[None]:
    """What changes is carried over while the block runs, by a process of its own, as in life.

    A thread would stand still for seconds while this process judges gates on a busy machine.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_carry_over, args=(stores.settings, theirs), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    try:
        _hear(ours)
        yield
        with suppress(OSError):  # it has ended: what it said last tells why
            ours.send("enough")
        _hear(ours)
    finally:
        ours.close()
        process.join(_END_SECONDS)


def _hear(pipe: Pipe) -> None:
    """Wait for a word of the process that carries over; raise the error that it ended in."""
    try:
        error = pipe.recv()
    except (EOFError, OSError):
        raise CrossfadeError("the demo's catch-up worker has died") from None
    if error is not None:
        raise error


def _carry_over(settings: Settings, pipe: Pipe) -> None:
    """Carry over until the other end of ``pipe`` says a word or is gone. Says None once it has begun, and at the end
    None or the error.
    """
    quiet_driver()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the demo itself ends early, and says so
    stop = threading.Event()

    def listen() -> None:
        with suppress(EOFError, OSError):
            pipe.recv()
        stop.set()

    last: CrossfadeError | None = None
    try:
        with opened(settings, bulk=True, application="crossfade catchup") as stores:
            carrier = stores.new_carrier()
            threading.Thread(target=listen, name="crossfade-demo-end", daemon=True).start()
            pipe.send(None)
            follow(carrier, stop=stop, pause=settings.catchup.poll_seconds)
    except CrossfadeError as error:
        error.__cause__ = None  # the driver's error need not survive the way to the parent
        last = error
    with suppress(OSError):  # nobody listens any more when the demo was killed
        pipe.send(last)


@contextmanager
def dispatch_writing(stores: Stores, seed: int, *, tame: bool = False) -> Iterator[Counter[bool]]:
    """Dispatch goes on writing while the block runs, knowing nothing of all this.

    Yields its acts, counted by whether the guard refused them. ``tame``: nothing that new could not hold.
    """
    writer, acts = LegacyWriter(stores.legacy, seed, tame=tame), Counter[bool]()

    def write(stop: threading.Event) -> None:
        while not stop.wait(_ACT_SECONDS):
            acts[writer.step().endswith(" refused")] += 1

    with background(write, "dispatch"):
        yield acts


@contextmanager
def running(app: App, stores: Stores, plan: Plan) -> Iterator[dict[str, Any]]:
    """A parallel run while the block goes on; its totals are in the dictionary afterwards."""
    totals = dict[str, Any]()

    def run(stop: threading.Event) -> None:
        totals.update(run_parallel(replace(app, stop=stop), stores, plan))
        keep_totals(stores, totals)

    with background(run, "run"):
        yield totals
