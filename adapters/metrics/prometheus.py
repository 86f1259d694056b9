"""The Prometheus publisher. docs/metrics.md lists every metric; a test holds the two together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from harness.backfill import Copied
from harness.catchup import Carried
from harness.errors import ConfigError
from harness.records import Backlog
from harness.routing import RouteView, Store
from harness.statistics import Role, Statistics

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class PrometheusPublisher:
    """All metrics of a process, on one registry. The router publishes through it; commands set the gauges.

    In multi-process mode gauges show what the process that set them last, and still lives, knows.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._operations = self._counter(
            "crossfade_operations_total",
            "Calls of one store; failed ones were unavailable or raised an unknown error, refusals are answers.",
            "operation",
            "store",
            "role",
            "outcome",
        )
        self._seconds = Histogram(
            "crossfade_operation_seconds",
            "Duration of a call of one store, failed ones included.",
            ("operation", "store", "role"),
            buckets=SECONDS,
            registry=registry,
        )
        self._comparisons = self._counter(
            "crossfade_comparisons_total", "Pairs of answers, by what comparing them found.", "operation", "result"
        )
        self._fields = self._counter(
            "crossfade_mismatched_fields_total", "Fields that differed in confirmed mismatches.", "operation", "field"
        )
        self._drops = self._counter(
            "crossfade_comparisons_dropped_total", "Comparisons that were not made or not settled, and why.", "reason"
        )
        self._fallbacks = self._counter(
            "crossfade_fallbacks_total",
            "Reads that the other store answered because the drawn one was away.",
            "operation",
        )
        self._rerouted = self._counter(
            "crossfade_writes_rerouted_total",
            "Writes offered to another store, because authority had moved or was not told.",
            "operation",
        )
        self._unrecorded = self._counter(
            "crossfade_calls_unrecorded_total", "Calls whose duration was lost because a buffer was full.", "operation"
        )
        self._failures = self._counter(
            "crossfade_failures_total", "Failures of the harness's own parts, which no caller notices.", "part"
        )
        self._percent = self._gauge("crossfade_route_percent", "The route that this process follows.", "kind")
        self._epoch = self._gauge("crossfade_route_epoch", "Grows with every change of the route.")
        self._dirty = self._gauge("crossfade_dirty_keys", "Notes of changes not yet carried over.", "store")
        self._lag = self._gauge("crossfade_lag_seconds", "Age of the oldest such note, 0 without one.", "store")
        self._quarantined = self._gauge("crossfade_quarantined_rows", "Rows in quarantine.")
        self._debt = self._gauge("crossfade_rollback_debt_rows", "Records of new that legacy cannot hold.")
        self._rogue = self._gauge("crossfade_rogue_writes", "Writes that a store took without authority.", "store")
        self._unfinished = self._gauge("crossfade_unfinished_acts", "1 while an act of authority is pending, else 0.")
        self._carried = self._counter("crossfade_rows_carried_total", "Rows carried over by catch-up.", "kind")
        self._copied = self._counter("crossfade_rows_copied_total", "Rows that backfill accounted for.", "result")

    # What the router publishes

    def calls(self, operation: str, store: Store, role: Role, seconds: Sequence[float], failed: bool) -> None:
        outcome = "failed" if failed else "answered"
        self._operations.labels(operation, store, role, outcome).inc(len(seconds))
        observe = self._seconds.labels(operation, store, role).observe
        for duration in seconds:
            observe(duration)

    def counts(self, increment: Statistics) -> None:
        for (operation, result), n in increment.comparisons.items():
            self._comparisons.labels(operation, result).inc(n)
        for (operation, field), n in increment.fields.items():
            self._fields.labels(operation, field).inc(n)
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

    def carried(self, done: Carried) -> None:
        """Count one batch of catch-up."""
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

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(name, what, labels, registry=self._registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(name, what, labels, registry=self._registry, multiprocess_mode="livemostrecent")


@contextmanager
def serve(port: int, registry: CollectorRegistry) -> Iterator[int]:
    """Serve the registry's metrics over HTTP within the block; answers the port, which the system picks for 0.

    Raises ConfigError when the port cannot be had.
    """
    try:
        server, thread = start_http_server(port, registry=registry)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot serve metrics on port {port}: {error}. Choose another --metrics-port") from error
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
