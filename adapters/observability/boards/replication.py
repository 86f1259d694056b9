"""Replication: does every change arrive, and does only one store accept it?"""

from __future__ import annotations

from adapters.metrics import definitions as metrics
from adapters.observability.boards.common import CALM, ENFORCED, JOB, OF, RATE, greatest, lag_panel, rate
from adapters.observability.panels import Board, Panel, Query, Row
from adapters.observability.rules import MOST_DIRTY
from harness.settings import Settings


def replication(settings: Settings) -> Board:
    waiting = (
        lag_panel(settings),
        Panel(
            "Changes on their way",
            "Notes that are not yet carried over, by the store where the change was made.",
            (Query(f"{MOST_DIRTY}{OF}", "{{store}}"),),
        ),
        Panel(
            "Notes settled",
            "By catch-up, of both directions.",
            (Query(f"sum (rate({metrics.NOTES_CARRIED(job=JOB)}[{RATE}]))", "notes"),),
            unit="ops",
            width=8,
        ),
        Panel(
            "Rows carried",
            "What became of them.",
            (Query(rate(metrics.ROWS_CARRIED, "kind"), "{{kind}}"),),
            unit="ops",
            width=8,
            whole=True,
        ),
        Panel(
            "Rows copied",
            "By backfill; only its own process reports them.",
            (Query(rate(metrics.ROWS_COPIED, "result"), "{{result}}"),),
            unit="ops",
            width=8,
            whole=True,
        ),
    )
    left = (
        Panel(
            "Quarantine, debt, refusals",
            "Rows that new cannot represent, records that legacy cannot hold, scopes that one store refused.",
            (
                Query(greatest(metrics.QUARANTINED), "quarantined rows"),
                Query(greatest(metrics.DEBT), "rollback debt"),
                Query(greatest(metrics.REJECTED), "rejected scopes"),
            ),
        ),
        Panel(
            "Crossfade's own failures",
            "Of parts that no caller notices.",
            (Query(rate(metrics.FAILURES, "part"), "{{part}}"),),
            unit="ops",
        ),
    )
    authority = (
        Panel(
            "Guard",
            "Whether each store refuses what it has no authority for.",
            (Query(f"min by (store) ({metrics.ENFORCING(job=JOB)})", "{{store}}"),),
            "state-timeline",
            says=ENFORCED,
            steps=CALM,
            width=8,
            height=6,
        ),
        Panel(
            "Rogue writes",
            "Taken without authority, by store.",
            (Query(greatest(metrics.ROGUE, "store"), "{{store}}"),),
            width=8,
            height=6,
        ),
        Panel(
            "Route's epoch",
            "Grows with every change; processes that differ follow different routes, for a second at most.",
            (Query(f"{metrics.ROUTE_EPOCH(job=JOB)} > 0", "{{instance}}"),),
            width=8,
            height=6,
        ),
    )
    return Board(
        "crossfade-replication",
        "Crossfade: replication",
        "Does every change arrive, and does only one store accept it?",
        (Row("On its way", waiting), Row("Held back", left), Row("Authority", authority)),
    )
