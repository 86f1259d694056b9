"""``crossfade backfill``: copy what existed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adapters.executors.dask import cluster
from adapters.executors.local import threads
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.locks import command_lock
from adapters.prompts.migration import Stores, opened
from adapters.prompts.remote import RemoteCopy
from harness.backfill import Copied, Copy
from harness.backfill import backfill as copy_all
from harness.cli.app import App, FiniteRange, actor, command, facts, reason_option
from harness.cli.metrics import exported, metrics_option
from harness.cli.throttling import MOMENT, set_pause, throttle_of
from harness.errors import ConfigError, Refused
from harness.phases import Phase
from harness.routing import Store
from harness.settings import EXECUTORS, THREADS

_BREATH_SECONDS = 0.1  # catch-up asks again every catchup.poll_seconds while it stands aside
_SPARE_CONNECTIONS = 3  # the command's lock, planning, and a deferred row's note


class ExecutorName(click.ParamType[str]):
    """One of the executors that the settings may name."""

    name = "executor"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(EXECUTORS, str(value)):
            self.fail(f'{value!r} is neither "{THREADS}" nor "dask://HOST:PORT".', param, ctx)
        return str(value)


EXECUTOR = ExecutorName()


@command("crossfade backfill --workers 4 --rows-per-second 50000")
@click.option("--workers", type=click.IntRange(1, 256), help="Chunks copied at once, instead of the settings'.")
@click.option(
    "--executor", type=EXECUTOR, help='"threads", or "dask://HOST:PORT" of a scheduler, instead of the settings\'.'
)
@click.option("--chunk-rows", type=click.IntRange(1, 1_000_000), help="Rows of every chunk, instead of adapted ones.")
@click.option("--rows-per-second", type=FiniteRange(0), help="The greatest rate, instead of the settings'; 0: none.")
@click.option("--until", type=MOMENT, help="End then, by your clock or with a zone: '06:30 Europe/Berlin'.")
@click.option(
    "--defer-indexes", is_flag=True, help="Drop what indexes an empty prompts can do without; build them last."
)
@click.option("--pause", "pausing", is_flag=True, help="Let a backfill stand still, in whatever terminal it runs.")
@click.option("--resume", "resuming", is_flag=True, help="Let it go on.")
@reason_option
@metrics_option
def backfill(
    app: App,
    workers: int | None,
    executor: str | None,
    chunk_rows: int | None,
    rows_per_second: float | None,
    until: datetime | None,
    defer_indexes: bool,
    pausing: bool,
    resuming: bool,
    reason: str,
    metrics_port: int | None,
) -> None:
    """Copy every row of legacy to new, several chunks at once, with a checkpoint each.

    Go on after any interruption by running it again: at most one chunk for each worker is repeated, and repeating
    changes nothing. Ctrl-C ends it after the chunks under way, a second one at once. Rows that new cannot hold go to
    quarantine with the reason. Writers are not held up.
    """
    if pausing and resuming:
        raise click.UsageError("give --pause or --resume")
    if pausing or resuming:
        with opened(app.settings) as stores:
            told = set_pause(stores, paused=pausing, reason=reason)
        app.result(told, lambda out: out.print(facts(told)))
        return
    with (
        opened(app.settings, bulk=True) as stores,
        exported(app, stores, metrics_port) as publisher,
        _bar(app, stores) as show,
    ):

        def progress(chunk: Copied) -> None:
            publisher.copied(chunk)
            show(chunk)

        document = backfill_stores(
            app,
            stores,
            chunk_rows,
            rows_per_second,
            progress,
            workers=workers,
            executor=executor,
            until=until,
            defer_indexes=defer_indexes,
            reason=reason,
        )
    app.result(document, lambda out: out.print(facts(document)))


def backfill_stores(
    app: App,
    stores: Stores,
    chunk_rows: int | None = None,
    rows_per_second: float | None = None,
    progress: Callable[[Copied], None] = lambda _: None,
    *,
    workers: int | None = None,
    executor: str | None = None,
    until: datetime | None = None,
    defer_indexes: bool = False,
    reason: str = "",
) -> dict[str, Any]:
    """Copy all parts, build indexes that were put off, and move PREPARED to BACKFILLED when all is finished."""
    stores.require(Phase.PREPARED)
    if stores.phase is Phase.COMPLETE:
        raise Refused("the migration is COMPLETE and legacy was let go of; nothing of it is copied any more")
    if missing := stores.uncaptured_tenants():
        raise Refused(f"legacy has tenants without capture: {', '.join(missing)}; run crossfade prepare first")
    first = stores.phase is Phase.PREPARED
    started = time.monotonic()
    pace = throttle_of(app, stores, chunk_rows=chunk_rows, rows_per_second=rows_per_second, until=until)
    with (
        command_lock(stores.new, "backfill"),
        _crew(stores, workers, executor or app.settings.backfill.executor) as (copy, crew, count),
    ):
        stores.require(Phase.PREPARED)  # again, now that nobody can give the migration up any more
        if defer_indexes:
            stores.indexes.put_off(actor(), reason)
        done, finished = copy_all(
            stores.chunk_plan,
            copy,
            crew,
            workers=count,
            pace=pace,
            stop=app.stop,
            progress=progress,
            breath=0.0 if first else _BREATH_SECONDS,
        )
        indexes = stores.indexes
        missing = indexes.build(app.stop, go_on=pace.go_on, told=app.say) if finished else indexes.missing()
        finished = finished and not missing
        if finished and stores.phases.present().phase is Phase.PREPARED:
            with speaking_for(Store.NEW):
                stores.guard_new(loading=False)
            stores.phases.advance(Phase.BACKFILLED, actor(), f"{stores.chunk_plan.so_far().rows} rows accounted for")
    return _document(done, finished, missing, time.monotonic() - started)


def _document(done: Copied, finished: bool, missing_indexes: list[str], seconds: float) -> dict[str, Any]:
    return {
        "copied": done.copied,
        "already_there": done.already_there,
        "quarantined": done.quarantined,
        "deferred": done.deferred,
        "finished": finished,
        "seconds": round(seconds, 3),
        "rows_per_second": round(done.rows / seconds, 1) if seconds else 0.0,
        "missing_indexes": missing_indexes,
    } | ({} if finished else {"next": "crossfade backfill goes on where this ended"})


@contextmanager
def _crew(stores: Stores, workers: int | None, executor: str) -> Iterator[tuple[Copy, Executor, int]]:
    """Who copies chunks, where, and how many at once."""
    if executor != THREADS:
        with cluster(executor) as (remote, tasks):
            yield RemoteCopy.of(stores.settings, stores.salt), remote, workers or tasks
        return
    count = workers or stores.settings.backfill.workers
    most = stores.settings.pool.max_connections - _SPARE_CONNECTIONS
    if count > most:
        raise ConfigError(
            f"{count} workers want more connections than pool.max_connections grants: raise that to "
            f"{count + _SPARE_CONNECTIONS}, or use {max(1, most)} workers at most"
        )
    with threads(count, stores.copier.cancel) as local:
        yield stores.copier.copy, local, count


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
        before = stores.chunk_plan.so_far()
        task = bar.add_task(
            "", total=stores.chunk_plan.estimate(), completed=before.rows, quarantined=before.quarantined
        )
        total = before

        def advance(chunk: Copied) -> None:
            nonlocal total
            total += chunk
            bar.update(task, completed=total.rows, quarantined=total.quarantined)

        yield advance
