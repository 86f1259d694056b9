"""Gates: may the migration go on, and what do the verdicts rest on?"""

from __future__ import annotations

from adapters.metrics import definitions as metrics
from adapters.observability.alerts import DROPPED_SHARE
from adapters.observability.boards.common import ALERTS, JOB, OF, VERDICTS, gate_panel, limit, mismatch_panel
from adapters.observability.panels import Board, Panel, Query, Row
from adapters.observability.rules import DROPPED, excess
from harness.settings import Settings


def gates(settings: Settings) -> Board:
    errors = Panel(
        "New's failures beyond legacy's",
        "Per call of new, on the same operations. The line is the gate's limit.",
        tuple(Query(f"{excess(window)}{OF}", f"within {window}") for window in ("5m", "1h", "6h")),
        unit="percentunit",
        steps=limit(settings.gates.max_error_rate),
    )
    verdicts = tuple(
        Query(f"count (min by (gate) ({metrics.GATES(job=JOB)}) == {value:g}) or vector(0)", text)
        for value, text, _ in VERDICTS
    )
    dropped = Panel(
        "Dropped comparisons",
        "Share that was not made because of load, or because a store did not answer. The line is the alert's.",
        (Query(f"{DROPPED}{OF}", "dropped"),),
        unit="percentunit",
        steps=limit(DROPPED_SHARE),
    )
    firing = Panel(
        "Alerts that fire",
        "Each names a page of the runbook.",
        (Query(f"sum by (alertname, severity, store, operation) ({ALERTS})", "", at_once=True),),
        "table",
    )
    settled = f"sum (increase({metrics.COMPARISONS(job=JOB, result='!not_compared')}[1h]))"
    return Board(
        "crossfade-gates",
        "Crossfade: gates",
        "May the migration go on? Every gate, and what its verdict rests on.",
        (
            Row(
                "Verdicts",
                (
                    gate_panel(16, 10),
                    Panel("Verdicts", "How many gates say what.", verdicts, width=8, height=10),
                ),
            ),
            Row(
                "Evidence",
                (
                    mismatch_panel(settings),
                    errors,
                    Panel(
                        "Settled comparisons",
                        "Within the last hour; below the line the gate has too few, if nothing was compared before.",
                        (Query(settled, "settled"),),
                        steps=((None, "red"), (settings.gates.min_comparisons, "green")),
                    ),
                    dropped,
                ),
            ),
            Row("Alerts", (firing,)),
        ),
    )
