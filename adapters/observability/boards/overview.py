"""The overview: is the migration well?"""

from __future__ import annotations

from adapters.metrics import definitions as metrics
from adapters.observability.boards.common import (
    ALERTS,
    CALM,
    FEW,
    JOB,
    NONE,
    OF,
    VERDICTS,
    calls,
    gate_panel,
    greatest,
    lag_panel,
    latency_panel,
    limit,
    mismatch_panel,
    tile,
)
from adapters.observability.panels import Board, Panel, Query, Row
from adapters.observability.rules import LONGEST_LAG, MOST_DIRTY, P99
from harness.settings import Settings


def overview(settings: Settings) -> Board:
    gates = settings.gates
    age = f"time() - (max ({metrics.VERIFIED(job=JOB)}) > 0)"
    now = (
        Panel(
            "Phase",
            "Where the migration is.",
            (Query(f"max by (phase) ({metrics.PHASE_NOW(job=JOB)}) == 1", "{{phase}}"),),
            "stat",
            steps=CALM,
            width=4,
            height=4,
            named=True,
        ),
        Panel(
            "Verdict",
            "All gates together: the worst of them.",
            (Query(f"min ({metrics.GATES(job=JOB)})", "verdict"),),
            "stat",
            steps=CALM,
            says=VERDICTS,
            width=4,
            height=4,
        ),
        tile("Alerts", "Alerts that fire now.", f"count({ALERTS}) or vector(0)", NONE),
        tile("Reads by new", "Share of reads.", greatest(metrics.ROUTE_PERCENT, kind="reads"), CALM, "percent"),
        tile("Writes by new", "Share of scopes.", greatest(metrics.ROUTE_PERCENT, kind="writes"), CALM, "percent"),
        tile("Verified", "Age of the verification that counts.", age, limit(gates.verify_hours * 3600), "s"),
        tile(
            "Lag",
            "Age of the oldest change on its way.",
            f"max ({LONGEST_LAG}{OF})",
            limit(gates.max_lag_seconds),
            "s",
        ),
        tile("Changes on their way", "Notes in both stores.", f"sum ({MOST_DIRTY}{OF})", CALM),
        tile("Quarantine", "Rows that new cannot represent.", greatest(metrics.QUARANTINED), FEW),
        tile("Rollback debt", "Records that legacy cannot hold.", greatest(metrics.DEBT), FEW),
        tile("Rogue writes", "Taken without authority.", f"sum ({greatest(metrics.ROGUE, 'store')})", NONE),
        tile("Unfinished act", "A move of authority that is half done.", greatest(metrics.UNFINISHED), NONE),
    )
    shares = tuple(Query(greatest(metrics.ROUTE_PERCENT, kind=kind), kind) for kind in ("reads", "writes", "shadow"))
    return Board(
        "crossfade-overview",
        "Crossfade: overview",
        "Is the migration well? Where does it stand, and does anything grow that should not?",
        (
            Row("Now", now),
            Row(
                "Over time",
                (
                    Panel(
                        "Route",
                        "New's share of reads and writes; share of reads that is compared.",
                        shares,
                        unit="percent",
                    ),
                    mismatch_panel(settings),
                    calls("Calls", "Calls of each store, for callers and for comparison.", "store, role"),
                    latency_panel(
                        "99th percentile",
                        "The slowest operation of each store.",
                        f"max by (store) ({P99}{OF})",
                        "{{store}}",
                    ),
                    lag_panel(settings),
                    gate_panel(12),
                ),
            ),
        ),
    )
