"""Operations: does new answer as legacy does, as fast, and as reliably?"""

from __future__ import annotations

from adapters.metrics import definitions as metrics
from adapters.observability.boards.common import JOB, RATE, calls, limit, rate
from adapters.observability.panels import Board, Panel, Query, Row
from adapters.observability.rules import SLOWDOWN
from harness.settings import Settings


def _quantile(share: float) -> Query:
    wanted = {"operation": "~$operation", "store": "~$store"}
    buckets = f"rate({metrics.OPERATION_SECONDS('_bucket', job=JOB, **wanted)}[{RATE}])"
    return Query(
        f"histogram_quantile({share:g}, sum by (le, operation, store) ({buckets}))",
        f"{{{{operation}}}} {{{{store}}}} p{share * 100:g}",
    )


def operations(settings: Settings) -> Board:
    each = {"operation": "~$operation"}
    failed = rate(metrics.OPERATIONS, "operation, store", outcome="failed", store="~$store", **each)
    answers = (
        Panel(
            "Comparisons",
            "What comparing the answers found.",
            (Query(rate(metrics.COMPARISONS, "result", **each), "{{result}}"),),
            unit="ops",
            whole=True,
        ),
        Panel(
            "Confirmed mismatches by operation",
            "Unequal at every look, with nothing on its way.",
            (Query(rate(metrics.COMPARISONS, "operation", result="mismatched", **each), "{{operation}}"),),
            unit="ops",
        ),
        Panel(
            "Differing fields",
            "Which fields differed in confirmed mismatches; nothing to see is good.",
            (Query(f"sum by (operation, field) ({metrics.FIELDS(job=JOB, **each)})", "{{operation}} {{field}}"),),
            width=8,
        ),
        Panel(
            "Ignored by rule",
            "Comparisons that only rules in crossfade.toml excuse; nothing to see where there are none.",
            (Query(f"sum by (operation, rule) ({metrics.IGNORED(job=JOB, **each)})", "{{operation}} {{rule}}"),),
            width=8,
        ),
        Panel(
            "Comparisons dropped",
            "Why comparisons were not made or not settled.",
            (Query(rate(metrics.DROPS, "reason"), "{{reason}}"),),
            unit="ops",
            width=8,
            whole=True,
        ),
    )
    paths = (
        Panel(
            "Fallbacks",
            "Reads that the other store answered, because the drawn one was away.",
            (Query(rate(metrics.FALLBACKS, "operation", **each), "{{operation}}"),),
            unit="ops",
            width=8,
        ),
        Panel(
            "Writes rerouted",
            "Offered to another store, because authority had moved.",
            (Query(rate(metrics.REROUTED, "operation", **each), "{{operation}}"),),
            unit="ops",
            width=8,
        ),
        Panel(
            "Calls not recorded",
            "Their duration was lost because a buffer was full.",
            (Query(rate(metrics.UNRECORDED, "operation", **each), "{{operation}}"),),
            unit="ops",
            width=8,
        ),
    )
    return Board(
        "crossfade-operations",
        "Crossfade: operations",
        "Does new answer as legacy does, as fast, and as reliably?",
        (
            Row(
                "Calls",
                (
                    calls("Calls by operation", "Of callers and for comparison.", "operation, store"),
                    Panel(
                        "Failed calls",
                        "The store was away, or raised an unknown error.",
                        (Query(failed, "{{operation}} {{store}}"),),
                        unit="ops",
                    ),
                ),
            ),
            Row(
                "Latency",
                (
                    Panel("Median", "By operation and store.", (_quantile(0.5),), unit="s", width=8),
                    Panel("99th percentile", "By operation and store.", (_quantile(0.99),), unit="s", width=8),
                    Panel(
                        "New over legacy",
                        "New's 99th percentile over legacy's. The line is the gate's limit.",
                        (Query(f'{SLOWDOWN}{{job=~"$job",operation=~"$operation"}}', "{{operation}}"),),
                        steps=limit(settings.gates.max_slowdown),
                        width=8,
                    ),
                ),
            ),
            Row("Answers", answers),
            Row("Ways taken", paths),
        ),
    )
