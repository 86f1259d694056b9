"""The Prometheus publisher, and the server that shows what it publishes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from adapters.metrics import definitions
from adapters.metrics.definitions import Definition
from adapters.metrics.live_page import Application, beside
from harness.backfill import Copied
from harness.catchup import Carried
from harness.errors import ConfigError
from harness.phases import Phase
from harness.records import Backlog, Verdict
from harness.routing import RouteView, Store
from harness.statistics import Result, Role, Statistics

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_VERDICTS = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}  # so that the least is that of all together


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a migration stands. ``verified``: seconds since 1970 of the verification that counts, 0 without one.

    ``enforcing``: whether each store's guard refuses what it has no authority for. ``rejected``: scopes that were.
    """

    phase: Phase
    enforcing: Mapping[Store, bool]
    verified: float
    rejected: int
    gates: Mapping[str, Verdict]


class PrometheusPublisher:
    """All metrics of a process, on one registry. The router publishes through it; commands set the gauges.

    In multi-process mode gauges show what the process that set them last, and still lives, knows.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._operations = self._counter(definitions.OPERATIONS)
        self._seconds = self._histogram(definitions.OPERATION_SECONDS)
        self._comparisons = self._counter(definitions.COMPARISONS)
        self._fields = self._counter(definitions.FIELDS)
        self._ignored = self._counter(definitions.IGNORED)
        self._drops = self._counter(definitions.DROPS)
        self._fallbacks = self._counter(definitions.FALLBACKS)
        self._rerouted = self._counter(definitions.REROUTED)
        self._unrecorded = self._counter(definitions.UNRECORDED)
        self._failures = self._counter(definitions.FAILURES)
        self._percent = self._gauge(definitions.ROUTE_PERCENT)
        self._epoch = self._gauge(definitions.ROUTE_EPOCH)
        self._dirty = self._gauge(definitions.DIRTY_KEYS)
        self._lag = self._gauge(definitions.LAG)
        self._quarantined = self._gauge(definitions.QUARANTINED)
        self._debt = self._gauge(definitions.DEBT)
        self._rogue = self._gauge(definitions.ROGUE)
        self._unfinished = self._gauge(definitions.UNFINISHED)
        self._rejected = self._gauge(definitions.REJECTED)
        self._enforcing = self._gauge(definitions.ENFORCING)
        self._phase = self._gauge(definitions.PHASE_NOW)
        self._verified = self._gauge(definitions.VERIFIED)
        self._gates = self._gauge(definitions.GATES)
        self._notes = self._counter(definitions.NOTES_CARRIED)
        self._carried = self._counter(definitions.ROWS_CARRIED)
        self._copied = self._counter(definitions.ROWS_COPIED)
        self._named: set[str] = set()

    # What the router publishes

    def calls(self, operation: str, store: Store, role: Role, seconds: Sequence[float], failed: bool) -> None:
        outcome = "failed" if failed else "answered"
        self._begin(operation)
        self._operations.labels(operation, store, role, outcome).inc(len(seconds))
        observe = self._seconds.labels(operation, store, role).observe
        for duration in seconds:
            observe(duration)

    def counts(self, increment: Statistics) -> None:
        for (operation, result), n in increment.comparisons.items():
            self._begin(operation)
            self._comparisons.labels(operation, result).inc(n)
        for (operation, field), n in increment.fields.items():
            self._fields.labels(operation, field).inc(n)
        for (operation, rule), n in increment.rules.items():
            self._ignored.labels(operation, rule).inc(n)
        for reason, n in increment.drops.items():
            self._drops.labels(reason).inc(n)
        for operation, n in increment.fallbacks.items():
            self._fallbacks.labels(operation).inc(n)
        for operation, n in increment.rerouted.items():
            self._rerouted.labels(operation).inc(n)
        for operation, n in increment.unrecorded.items():
            self._unrecorded.labels(operation).inc(n)
        for part, n in increment.failures.items():
            self._failures.labels(part).inc(n)

    def route(self, view: RouteView) -> None:
        self._percent.labels("reads").set(view.route.reads_percent)
        self._percent.labels("writes").set(view.route.writes_percent)
        self._percent.labels("shadow").set(view.route.shadow_percent)
        self._epoch.set(view.route.epoch)

    # What commands publish

    def backlog(self, store: Store, backlog: Backlog) -> None:
        self._dirty.labels(store).set(backlog.notes)
        self._lag.labels(store).set(backlog.lag_seconds)

    def quarantined(self, rows: int) -> None:
        self._quarantined.set(rows)

    def authority(self, debt: int, rogue: Mapping[Store, int], *, unfinished: bool) -> None:
        self._debt.set(debt)
        for store, writes in rogue.items():
            self._rogue.labels(store).set(writes)
        self._unfinished.set(int(unfinished))

    def standing(self, standing: Standing) -> None:
        """What the ledger says of the migration."""
        for phase in Phase:
            self._phase.labels(phase).set(int(phase is standing.phase))
        for store, enforcing in standing.enforcing.items():
            self._enforcing.labels(store).set(int(enforcing))
        self._verified.set(standing.verified)
        self._rejected.set(standing.rejected)
        for gate, verdict in standing.gates.items():
            self._gates.labels(gate).set(_VERDICTS[verdict])

    def carried(self, done: Carried) -> None:
        """Count one batch of catch-up."""
        self._notes.inc(done.notes)
        for kind, n in (("upserted", done.upserted), ("deleted", done.deleted), ("quarantined", done.quarantined)):
            self._carried.labels(kind).inc(n)

    def copied(self, done: Copied) -> None:
        """Count one chunk of backfill."""
        for result, n in (
            ("copied", done.copied),
            ("already_there", done.already_there),
            ("quarantined", done.quarantined),
            ("deferred", done.deferred),
        ):
            self._copied.labels(result).inc(n)

    def _begin(self, operation: str) -> None:
        """Have an operation's series begin at zero: of a series that begins later, Prometheus misses the first step."""
        if operation in self._named:
            return
        self._named.add(operation)
        for result in Result:
            self._comparisons.labels(operation, result)
        for store, role, outcome in product(Store, Role, definitions.OUTCOME.values):
            self._operations.labels(operation, store, role, outcome)
        for metric in (self._fallbacks, self._rerouted, self._unrecorded):
            metric.labels(operation)

    def _counter(self, of: Definition) -> Counter:
        """A counter; its series begin at zero, where the labels' values are known beforehand."""
        made = Counter(of.name, of.what, _names(of), registry=self._registry)
        if of.labels and all(label.values for label in of.labels):
            for values in product(*(label.values for label in of.labels)):
                made.labels(*values)
        return made

    def _gauge(self, of: Definition) -> Gauge:
        return Gauge(of.name, of.what, _names(of), registry=self._registry, multiprocess_mode="livemostrecent")

    def _histogram(self, of: Definition) -> Histogram:
        return Histogram(of.name, of.what, _names(of), buckets=SECONDS, registry=self._registry)


def _names(of: Definition) -> list[str]:
    return [label.name for label in of.labels]


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Standard error is the command's own."""


@contextmanager
def serve(
    port: int, registry: CollectorRegistry, document: Callable[[], Mapping[str, Any]] | None = None
) -> Iterator[int]:
    """Serve the registry's metrics over HTTP within the block; answers the port, which the system picks for 0.

    ``document``: what the live page at ``/`` shows; without it every path shows the metrics. Raises ConfigError when
    the port cannot be had.
    """
    metrics: Application = make_wsgi_app(registry)
    application = metrics if document is None else beside(metrics, document)
    try:
        server = make_server("0.0.0.0", port, application, ThreadingWSGIServer, _Quiet)  # noqa: S104 - scraped from elsewhere
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot serve metrics on port {port}: {error}. Choose another --metrics-port") from error
    thread = Thread(target=server.serve_forever, name="crossfade-metrics", daemon=True)
    thread.start()
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
