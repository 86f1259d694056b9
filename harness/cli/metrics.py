"""``--metrics-port``: what long-running commands show to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import click
from prometheus_client import CollectorRegistry

from adapters.metrics.multiprocess import shared_registry
from adapters.metrics.prometheus import PrometheusPublisher, serve
from adapters.postgres.ledger import quarantine
from adapters.postgres.ledger.debt import owed
from adapters.prompts.migration import Stores
from harness.cli.app import App
from harness.errors import StoreUnavailable
from harness.statistics import Failure, Statistics

_SECONDS = 1.0


def metrics_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--metrics-port``, for commands that run long."""
    return click.option(
        "--metrics-port", type=click.IntRange(1, 65535), help="Serve Prometheus metrics on this port while it runs."
    )(function)


@contextmanager
def exported(app: App, stores: Stores, port: int | None, shared: Path | None = None) -> Iterator[PrometheusPublisher]:
    """A publisher whose metrics are served on the port, if one is given; lag and quarantine are kept up to date.

    ``shared``: the directory in which the processes of a run keep their values, to be served with those of this one.
    """
    own = CollectorRegistry()
    publisher = PrometheusPublisher(own)
    if port is None:
        yield publisher
        return
    with serve(port, shared_registry(shared, own) if shared else own) as at, _gauges(stores, publisher):
        app.say(f"metrics: http://localhost:{at}/metrics")
        yield publisher


@contextmanager
def _gauges(stores: Stores, publisher: PrometheusPublisher) -> Iterator[None]:
    """Keep the gauges that come from the stores up to date, in a thread, until the block ends."""
    stop = Event()

    def run() -> None:
        while not stop.is_set():
            try:
                for store, backlog in stores.backlogs().items():
                    publisher.backlog(store, backlog)
                publisher.quarantined(quarantine.count(stores.new))
                unfinished = stores.journal.pending() is not None
                publisher.authority(len(owed(stores.new)), stores.rogue_writes(), unfinished=unfinished)
            except StoreUnavailable:
                missed = Statistics()
                missed.failures[Failure.GAUGES] += 1
                publisher.counts(missed)
            stop.wait(_SECONDS)

    thread = Thread(target=run, name="crossfade-gauges", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
