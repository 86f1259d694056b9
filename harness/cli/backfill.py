"""``crossfade backfill``: copy what existed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.locks import command_lock
from adapters.prompts.migration import Stores, opened
from harness.backfill import Copied
from harness.backfill import backfill as copy_all
from harness.cli.app import App, FiniteRange, actor, command, facts
from harness.cli.metrics import exported, metrics_option
from harness.errors import Refused
from harness.phases import Phase
from harness.routing import Store


@command("crossfade backfill --rows-per-second 5000")
@click.option("--chunk-rows", type=click.IntRange(1, 1_000_000), help="Rows per chunk, instead of the settings'.")
@click.option("--rows-per-second", type=FiniteRange(0), help="The greatest rate, instead of the settings'; 0: none.")
@metrics_option
def backfill(app: App, chunk_rows: int | None, rows_per_second: float | None, metrics_port: int | None) -> None:
    """Copy every row of legacy to new, in chunks with a checkpoint each.

    Go on after any interruption by running it again: at most one chunk is repeated, and repeating changes nothing.
    Rows that new cannot hold go to quarantine with the reason. Writers are not held up.
    """
    with (
        opened(app.settings, bulk=True) as stores,
        exported(app, stores, metrics_port) as publisher,
        _bar(app, stores) as show,
    ):

        def progress(chunk: Copied) -> None:
            publisher.copied(chunk)
            show(chunk)

        document = backfill_stores(app, stores, chunk_rows, rows_per_second, progress)
    app.result(document, lambda out: out.print(facts(document)))


def backfill_stores(
    app: App,
    stores: Stores,
    chunk_rows: int | None = None,
    rows_per_second: float | None = None,
    progress: Callable[[Copied], None] = lambda _: None,
) -> dict[str, Any]:
    """Copy all parts, and move PREPARED to BACKFILLED when each is finished."""
    stores.require(Phase.PREPARED)
    if missing := stores.uncaptured_tenants():
        raise Refused(f"legacy has tenants without capture: {', '.join(missing)}; run crossfade prepare first")
    settings = app.settings.backfill
    started = time.monotonic()
    with command_lock(stores.new, "backfill"):
        done, finished = copy_all(
            stores.copier,
            chunk_rows=chunk_rows or settings.chunk_rows,
            rows_per_second=settings.rows_per_second if rows_per_second is None else rows_per_second,
            clock=time.monotonic,
            stop=app.stop,
            progress=progress,
        )
        if finished and stores.phases.present().phase is Phase.PREPARED:
            with speaking_for(Store.NEW):
                stores.guard_new(loading=False)
            stores.phases.advance(Phase.BACKFILLED, actor(), f"{stores.copier.so_far().rows} rows accounted for")
    seconds = time.monotonic() - started
    return {
        "copied": done.copied,
        "already_there": done.already_there,
        "quarantined": done.quarantined,
        "deferred": done.deferred,
        "finished": finished,
        "seconds": round(seconds, 3),
        "rows_per_second": round(done.rows / seconds, 1) if seconds else 0.0,
    }


@contextmanager
def _bar(app: App, stores: Stores) -> Iterator[Callable[[Copied], None]]:
    columns = (
        TextColumn("backfill"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[quarantined]} quarantined"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=app.log, disable=not app.log.is_terminal) as bar:
        stores.require(Phase.PREPARED)
        before = stores.copier.so_far()
        task = bar.add_task("", total=stores.copier.estimate(), completed=before.rows, quarantined=before.quarantined)
        total = before

        def advance(chunk: Copied) -> None:
            nonlocal total
            total += chunk
            bar.update(task, completed=total.rows, quarantined=total.quarantined)

        yield advance
