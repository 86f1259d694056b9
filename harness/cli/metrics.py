"""``--metrics-port``: what long-running commands show to Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import click
from prometheus_client import CollectorRegistry

from adapters.metrics.live_page import SECONDS
from adapters.metrics.multiprocess import shared_registry
from adapters.metrics.prometheus import PrometheusPublisher, Standing, serve
from adapters.postgres.ledger import quarantine
from adapters.postgres.ledger.debt import owed
from adapters.postgres.ledger.running_total import RunningTotal
from adapters.postgres.ledger.statistics import StatisticsBook
from adapters.prompts.migration import Stores
from harness.cli.app import App
from harness.cli.gathering import gather
from harness.cli.rounds import Rounds
from harness.cli.watching import Watching
from harness.gates import evaluate
from harness.statistics import Failure, Statistics

_SECONDS = 1.0
_STANDING_SECONDS = 10.0
_LAG_SECONDS = 5.0
_ONLOOKER_SECONDS = 60.0  # a page that was not asked for so long has no reader
_FRESH_SECONDS = 3 * SECONDS  # an older look has the page wait for the next one …
_PATIENCE_SECONDS = 3.0  # … but not longer than this
_STEP_SECONDS = 0.05


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
    # A look that is lost is harmless: there is another one soon, and a minute without any is a gap in the report.
    lags = Rounds("lag", stores.keep_lags, _LAG_SECONDS, lambda _: None)
    if port is None:
        with lags:
            yield publisher
        return
    missed = Statistics()
    missed.failures[Failure.GAUGES] = 1

    def gauges(name: str, read: Callable[[], None], seconds: float) -> Rounds:
        return Rounds(name, read, seconds, lambda _: publisher.counts(missed))

    onlookers, counted = _Onlookers(stores), RunningTotal(StatisticsBook(stores.new))
    with (
        lags,
        onlookers.looking(),
        serve(port, shared_registry(shared, own) if shared else own, onlookers.document) as at,
        gauges("gauges", lambda: _publish_backlog(stores, publisher), _SECONDS),
        gauges("standing", lambda: publisher.standing(standing_of(stores, counted)), _STANDING_SECONDS),
    ):
        app.say(f"metrics: http://localhost:{at}/metrics, and a page of where it stands: http://localhost:{at}/")
        yield publisher


def _publish_backlog(stores: Stores, publisher: PrometheusPublisher) -> None:
    for store, backlog in stores.backlogs().items():
        publisher.backlog(store, backlog)
    publisher.quarantined(quarantine.count(stores.new))
    unfinished = stores.journal.pending() is not None
    publisher.authority(len(owed(stores.new)), stores.rogue_writes(), unfinished=unfinished)


def standing_of(stores: Stores, counted: RunningTotal) -> Standing:
    """Where the migration stands, with its gates judged now."""
    fresh = replace(stores)  # a tenant that was created meanwhile is to be seen
    evidence = gather(fresh, total=counted.total)
    verified = evidence.verification
    return Standing(
        phase=evidence.phase.phase,
        enforcing={store: mode == "enforce" for store, mode in fresh.guard_modes().items()},
        verified=0.0 if verified is None else verified.at.timestamp(),
        rejected=evidence.total("rejections"),
        gates={gate.name: gate.verdict for gate in evaluate(evidence, fresh.settings.gates)},
    )


class _Onlookers:
    """What the live page shows. The stores are asked for it only while somebody looks at the page."""

    def __init__(self, stores: Stores) -> None:
        self._until, self._ending = -math.inf, Event()
        self._watching = Watching(stores, lambda: time.monotonic() < self._until)

    @contextmanager
    def looking(self) -> Iterator[None]:
        with self._watching.looking(SECONDS):
            try:
                yield
            finally:
                self._ending.set()

    def document(self) -> dict[str, Any]:
        """What is known; the first onlooker after a while waits a moment for a fresh look."""
        asked = time.monotonic()
        self._until = asked + _ONLOOKER_SECONDS
        while self._is_old() and time.monotonic() - asked < _PATIENCE_SECONDS:
            self._ending.wait(_STEP_SECONDS)
        return self._watching.document()

    def _is_old(self) -> bool:
        return not self._ending.is_set() and (not self._watching.begun or self._watching.age > _FRESH_SECONDS)
