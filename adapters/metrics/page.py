"""docs/metrics.md, from the definitions."""

from __future__ import annotations

from adapters.metrics.definitions import METRICS, Label

_HEAD = """\
# Metrics

Long-running commands serve these with `--metrics-port N`; a process that uses the router as a library passes
`PrometheusPublisher(registry)` as its `publisher`. With `crossfade run --processes N` one port shows the sum of all
processes. [Rules and boards](observability.md) come with them, and at the root of the port a
[page of where it stands](observability.md#where-it-stands-live).

Durations are in seconds, counters end in `_total`. Labels come from closed sets only: never a key, a scope or a text.
This page is generated from the metrics themselves (`make docs`).

| metric | labels | what it says |
| --- | --- | --- |
"""


def as_markdown() -> str:
    """The page of all metrics and their labels."""
    rows = []
    for metric in METRICS:
        names = ", ".join(f"`{label.name}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` |{f' {names} ' if names else ' '}| {metric.what} |\n")
    labels = dict.fromkeys(label for metric in METRICS for label in metric.labels)
    values = [f"| `{label.name}`{f' {label.of}' if label.of else ''} | {_values(label)} |\n" for label in labels]
    return _HEAD + "".join(rows) + "\n## Labels\n\n| label | values |\n| --- | --- |\n" + "".join(values)


def _values(label: Label) -> str:
    remarks = dict(label.remarks)
    told = [f"`{value}` ({remarks[value]})" if value in remarks else f"`{value}`" for value in label.values]
    return ", ".join(told) or label.meaning
