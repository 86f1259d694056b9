"""A live document as ``harness.cli.watching`` makes it, to be changed by tests."""

from __future__ import annotations

from typing import Any

from harness.gates import GATES
from harness.pulse import POINTS


def live_document(**changes: Any) -> dict[str, Any]:
    """Of a migration on its way, with nothing wrong."""
    return {
        "at": "2026-03-04T12:00:30.000+00:00",
        "phase": "RAMPING",
        "epoch": 12,
        "reads_percent": 25.0,
        "writes_percent": 0.0,
        "shadow_percent": 100.0,
        "automatic_ramp": {"state": "running", "step": 3, "steps": 9, "reason": "", "paused": False},
        "unfinished": None,
        "away": {"legacy": None, "new": None},
        "look_age_seconds": 0.2,
        "judging_failed": False,
        "operations_per_second": {"legacy": 75.0, "new": 25.0},
        "compared_per_second": 99.5,
        "lately_seconds": 60.0,
        "errors_lately": {"legacy": 0, "new": 2},
        "latency_seconds": {"legacy": {"p50": 0.0012, "p99": 0.0042}, "new": {"p50": 0.0013, "p99": 0.0053}},
        "dirty": {"legacy": 3, "new": 0},
        "lag_seconds": {"legacy": 0.021, "new": 0.0},
        "mismatch": {"rate": 0.0, "low": 0.0, "high": 0.0006, "mismatched": 0, "compared": 7767},
        "mismatches_confirmed": 0,
        "history": {
            "seconds": 15.0,
            "operations_per_second": [float(n) for n in range(POINTS)],
            "mismatch_rate": [None] * (POINTS - 1) + [0.0],
            "p99_seconds": [0.005] * POINTS,
            "lag_seconds": [0.01] * POINTS,
        },
        "quarantined": 3,
        "quarantined_undecided": 1,
        "rejected": [],
        "last_verification": {"at": "2026-03-04T10:00:00+00:00", "verdict": "pass"},
        "verdict": "pass",
        "gates": [{"name": name, "verdict": "pass", "evidence": f"evidence of {name}"} for name in GATES],
        "gates_age_seconds": 4.0,
        "next": "crossfade ramp N, crossfade report, then crossfade cutover",
    } | changes
