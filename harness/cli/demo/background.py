"""What goes on behind the demo's chapters: catch-up, Dispatch's own writing, and the parallel run."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from adapters.prompts.invented import LegacyWriter
from adapters.prompts.migration import Stores
from harness.catchup import follow
from harness.cli.app import App
from harness.cli.run import Plan, keep_totals, run_parallel

_ACT_SECONDS = 0.1


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
    """What changes is carried over while the block runs."""
    carrier, pause = stores.new_carrier(), stores.settings.catchup.poll_seconds
    with background(lambda stop: follow(carrier, stop=stop, pause=pause), "catch-up"):
        yield


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
