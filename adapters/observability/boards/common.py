"""What several boards share: colours, limits, the usual queries, and panels that stand on more than one."""

from __future__ import annotations

from adapters.metrics import definitions as metrics
from adapters.metrics.definitions import Definition
from adapters.observability.panels import Panel, Query, Step
from adapters.observability.rules import LONGEST_LAG, mismatches
from harness.settings import Settings

JOB = "~$job"
OF = '{job=~"$job"}'
RATE = "$__rate_interval"
ALERTS = 'ALERTS{alertname=~"Crossfade.*",alertstate="firing",job=~"$job|"}'  # the last one of them has no job

CALM: tuple[Step, ...] = ((None, "blue"),)  # a fact, neither good nor bad
NONE: tuple[Step, ...] = ((None, "green"), (1, "red"))  # any at all is bad
FEW: tuple[Step, ...] = ((None, "green"), (1, "yellow"))
VERDICTS = ((0.0, "fail", "red"), (1.0, "inconclusive", "yellow"), (2.0, "pass", "green"))
ENFORCED = ((0.0, "off", "red"), (1.0, "enforces", "green"))


def limit(value: float) -> tuple[Step, ...]:
    return ((None, "green"), (value, "red"))


def rate(metric: Definition, by: str, **wanted: str) -> str:
    return f"sum by ({by}) (rate({metric(job=JOB, **wanted)}[{RATE}]))"


def greatest(metric: Definition, by: str = "", **wanted: str) -> str:
    """Every process reports what it read; the greatest stands for all."""
    return f"max{f' by ({by})' if by else ''} ({metric(job=JOB, **wanted)})"


def tile(title: str, description: str, expression: str, steps: tuple[Step, ...], unit: str = "short") -> Panel:
    query = Query(expression, "{{store}}")
    return Panel(title, description, (query,), "stat", unit, steps, width=4, height=4)


def calls(title: str, description: str, by: str) -> Panel:
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    wanted = {"operation": "~$operation", "store": "~$store"}
    return Panel(title, description, (Query(rate(metrics.OPERATIONS, by, **wanted), legend),), unit="ops")


def latency_panel(title: str, description: str, expression: str, legend: str) -> Panel:
    return Panel(title, description, (Query(expression, legend),), unit="s")


def mismatch_panel(settings: Settings) -> Panel:
    windows = ("5m", "1h", "6h")
    return Panel(
        "Confirmed mismatches",
        "Per settled comparison. The line is the gate's limit.",
        tuple(Query(f"{mismatches(window)}{OF}", f"within {window}") for window in windows),
        unit="percentunit",
        steps=limit(settings.gates.max_mismatch_rate),
    )


def lag_panel(settings: Settings) -> Panel:
    return Panel(
        "Lag",
        "Age of the oldest change that is not yet in the other store. The line is the gate's limit.",
        (Query(f"{LONGEST_LAG}{OF}", "{{store}}"),),
        unit="s",
        steps=limit(settings.gates.max_lag_seconds),
    )


def gate_panel(width: int, height: int = 8) -> Panel:
    return Panel(
        "Gates",
        "Each gate's verdict; read anew every ten seconds.",
        (Query(f"min by (gate) ({metrics.GATES(job=JOB)})", "{{gate}}"),),
        "state-timeline",
        says=VERDICTS,
        steps=CALM,
        width=width,
        height=height,
    )
