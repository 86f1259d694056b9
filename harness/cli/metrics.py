"""``--metrics-port``: what long-running commands show to Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import click
from prometheus_client import CollectorRegistry

from adapters.metrics.multiprocess import shared_registry
from adapters.metrics.prometheus import PrometheusPublisher, Standing, serve
from adapters.postgres.ledger import quarantine
from adapters.postgres.ledger.debt import owed
from adapters.prompts.migration import Stores
from harness.cli.app import App
from harness.cli.report import gather
from harness.errors import CrossfadeError
from harness.gates import evaluate
from harness.statistics import Failure, Statistics

_SECONDS = 1.0
_STANDING_SECONDS = 10.0
_SHARE = 20.0


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
    missed = Statistics()
    missed.failures[Failure.GAUGES] = 1

    def gauges(name: str, read: Callable[[], None], seconds: float) -> _Gauges:
        return _Gauges(name, read, seconds, lambda: publisher.counts(missed))

    with (
        serve(port, shared_registry(shared, own) if shared else own) as at,
        gauges("gauges", lambda: _publish_backlog(stores, publisher), _SECONDS),
        gauges("standing", lambda: publisher.standing(standing_of(stores)), _STANDING_SECONDS),
    ):
        app.say(f"metrics: http://localhost:{at}/metrics")
        yield publisher


def _publish_backlog(stores: Stores, publisher: PrometheusPublisher) -> None:
    for store, backlog in stores.backlogs().items():
        publisher.backlog(store, backlog)
    publisher.quarantined(quarantine.count(stores.new))
    unfinished = stores.journal.pending() is not None
    publisher.authority(len(owed(stores.new)), stores.rogue_writes(), unfinished=unfinished)


def standing_of(stores: Stores) -> Standing:
    """Where the migration stands, with its gates judged now."""
    fresh = replace(stores)  # a tenant that was created meanwhile is to be seen
    evidence = gather(fresh)
    verified = evidence.verification
    return Standing(
        phase=evidence.phase.phase,
        enforcing={store: mode == "enforce" for store, mode in fresh.guard_modes().items()},
        verified=0.0 if verified is None else verified.at.timestamp(),
        rejected=len(evidence.rejections),
        gates={gate.name: gate.verdict for gate in evaluate(evidence, fresh.settings.gates)},
    )


class _Gauges:
    """Reads gauges from the stores, in a thread, until the block ends; ``missed`` when a store is away.

    A reading that takes long is not repeated at once: it has a twentieth of the time at most.
    """

    def __init__(self, name: str, read: Callable[[], None], seconds: float, missed: Callable[[], None]) -> None:
        self._read, self._seconds, self._missed = read, seconds, missed
        self._stop = Event()
        self._thread = Thread(target=self._run, name=f"crossfade-{name}", daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._read()
            except CrossfadeError:
                self._missed()
            self._stop.wait(max(self._seconds, _SHARE * (time.monotonic() - began)))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
