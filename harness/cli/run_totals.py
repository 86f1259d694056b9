"""What a parallel run did, as scripts and people read it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness.routing import RouteView, Store
from harness.statistics import Drop, Result, Role, Statistics
from harness.workload import Performed

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
# These were told apart on purpose; the others are work that was not done.
_APART = {Drop.HELD, Drop.UNDER_WAY}


def totals(statistics: Statistics, performed: Performed) -> dict[str, Any]:
    """The document that ``run --json`` prints. Latencies are in seconds, null where a store was not asked."""
    results = statistics.results()
    return {
        "operations": sum(performed.calls.values()),
        "served": {store.value: statistics.latency(store, Role.SERVED).count for store in Store},
        "compared": sum(results.values()) - results[Result.NOT_COMPARED],
        "matched": results[Result.MATCHED],
        "ignored": results[Result.IGNORED],
        "ignored_by_rule": _by_rule(statistics),
        "mismatched": results[Result.MISMATCHED],
        "transient": results[Result.TRANSIENT],
        "not_compared": results[Result.NOT_COMPARED],
        "dropped": sum(n for reason, n in statistics.drops.items() if reason not in _APART),
        "drops": {reason.value: n for reason, n in sorted(statistics.drops.items())},
        "errors": sum(performed.failed.values()),
        "refused": sum(performed.refused.values()),
        "store_errors": {s.value: sum(n for (_, of, _), n in statistics.errors.items() if of is s) for s in Store},
        "fallbacks": statistics.fallbacks.total(),
        "rerouted": statistics.rerouted.total(),
        "unrecorded": statistics.unrecorded.total(),
        "failures": {part.value: n for part, n in sorted(statistics.failures.items())},
        "latency_seconds": {store.value: _latency(statistics, store) for store in Store},
        "by_operation": {name: _of_operation(statistics, name) for name in statistics.operations},
        "seconds": round(performed.seconds, 3),
        "late_seconds": round(performed.late_seconds, 3),
    }


def _latency(statistics: Statistics, store: Store) -> dict[str, float | None]:
    sketch = statistics.latency(store)
    return {name: sketch.quantile(q) for name, q in _QUANTILES.items()}


def _by_rule(statistics: Statistics) -> dict[str, int]:
    """How many ignored comparisons each rule had a part in."""
    counted = Counter[str]()
    for (_, rule), n in statistics.rules.items():
        counted[rule] += n
    return dict(sorted(counted.items()))


def _of_operation(statistics: Statistics, name: str) -> dict[str, Any]:
    results = statistics.results(name)
    return {
        "served": {store.value: statistics.latency(store, Role.SERVED, name).count for store in Store},
        **{result.value: results[result] for result in Result},
    }


_HEADINGS = (
    "legacy\nserved",
    "new\nserved",
    "\nmatched",
    "mis-\nmatched",
    "tran-\nsient",
    "not\ncomp.",
    "legacy\np99 ms",
    "new\np99 ms",
)


def live_table(statistics: Statistics, view: RouteView | None, seconds: float) -> Group:
    """The table that people watch while the run goes on, and see at its end."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    # Headings and cells are short enough for the longest operation's name within 80 columns.
    table.add_column("operation", no_wrap=True)
    for name in _HEADINGS:
        table.add_column(name, justify="right", no_wrap=True)
    for operation in statistics.operations:
        table.add_row(operation, *_cells(statistics, operation))
    table.add_row("all", *_cells(statistics, None), style="bold")
    served = "" if view is None else f", {view.route.reads_percent:g} % of reads served by new"
    return Group(Text(f"{seconds:.0f} s{served}"), table)


def _cells(statistics: Statistics, operation: str | None) -> list[str]:
    results = statistics.results(operation)
    served = [_short(statistics.latency(store, Role.SERVED, operation).count) for store in Store]
    counted = (Result.MATCHED, Result.MISMATCHED, Result.TRANSIENT, Result.NOT_COMPARED)
    tails = (statistics.latency(store, None, operation).quantile(0.99) for store in Store)
    return [
        *served,
        *(_short(results[result]) for result in counted),
        *("–" if tail is None else f"{tail * 1000:.1f}" for tail in tails),
    ]


def _short(count: int) -> str:
    """A count in at most six characters up to ninety-nine millions; the totals at the end are exact."""
    return f"{count:,}" if count < 100_000 else f"{count // 1000:,}k"
