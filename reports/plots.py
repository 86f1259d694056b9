"""Plots of latency: small pure functions from the report's model to inline SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.words import duration
from reports.svg import Logarithmic, frame, level, line, plot, text

_ROW = 62
_TALL = 110
_QUANTILES = ("p50", "p95", "p99")
_STORES = ("legacy", "new")
_TICKS = 5  # of a distribution, at most: it may be narrow


def latency(rows: Sequence[Mapping[str, Any]]) -> str:
    """For each operation a range from median to 99th percentile for legacy and for new, on one logarithmic scale.

    Empty when nothing was timed.
    """
    rows = [row for row in rows if row["legacy"]["calls"] or row["new"]["calls"]]
    values = [row[store][q] for row in rows for store in _STORES for q in _QUANTILES if row[store][q]]
    if not values:
        return ""
    scale = Logarithmic(min(values), max(values))
    height = _ROW * len(rows) + 24
    parts = [_tick(scale.place(value), duration(value), 22, height) for value in scale.ticks()]
    for position, row in enumerate(rows):
        top = _ROW * position
        parts.append(text(0, top + 16, row["operation"], "label"))
        if row["p99_ratio"]:
            parts.append(text(100, top + 16, f"p99 × {row['p99_ratio']:.2f}", "note", "end"))
        parts += [_range(scale, row[store], top + y, store) for store, y in (("legacy", 33), ("new", 47))]
    said = ". ".join(f"{row['operation']}: {_told(row)}" for row in rows)
    return plot("latency-ranges", height, "Latency by operation, legacy against new", said, parts)


def _told(row: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{store} " + ", ".join(f"{q} {duration(row[store][q])}" for q in _QUANTILES)
        for store in _STORES
        if row[store]["calls"]
    )


def _range(scale: Logarithmic, quantiles: Mapping[str, Any], y: int, store: str) -> str:
    if not quantiles["calls"]:
        return text(0, y + 4, f"not asked of {store}", "note")
    p50, p95, p99 = (scale.place(quantiles[q]) for q in _QUANTILES)
    drawn = f'<line class="{store}" x1="{p50:.2f}%" x2="{p99:.2f}%" y1="{y}" y2="{y}"/>'
    return drawn + "".join(_mark(x, y, store, name) for x, name in ((p50, "p50"), (p95, "p95"), (p99, "p99")))


def _mark(x: float, y: int, store: str, quantile: str) -> str:
    """Legacy's marks are squares and new's are circles, so that they differ without colour too."""
    size = {"p50": 5, "p95": 3, "p99": 5}[quantile]
    kind = f"{store} {quantile}"
    if store == "new":
        return f'<circle class="{kind}" cx="{x:.2f}%" cy="{y}" r="{size}"/>'
    side = 2 * size - 1
    place = f'x="{x:.2f}%" y="{y - side / 2}" transform="translate({-side / 2} 0)"'
    return f'<rect class="{kind}" {place} width="{side}" height="{side}"/>'


def distributions(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """For each operation that was timed the share of calls that took no longer than each duration, in both stores.

    All on one logarithmic scale, so that operations can be held against each other. Legacy's line is dashed.
    """
    timed = [row for row in rows if any(row[store]["distribution"] for store in _STORES)]
    ends = [each["seconds"] for row in timed for store in _STORES for each in row[store]["distribution"]]
    if not ends:
        return []
    scale = Logarithmic(min(ends), max(ends))
    return [
        {"operation": row["operation"], "svg": _distribution(f"distribution-{place}", row, scale)}
        for place, row in enumerate(timed)
    ]


def _distribution(name: str, row: Mapping[str, Any], scale: Logarithmic) -> str:
    ticks = list(scale.ticks())
    shown = ticks[:: -(-len(ticks) // _TICKS)]
    parts = [_tick(scale.place(value), duration(value), 14, _TALL + 32) for value in shown]
    for y, share in ((14, "100 %"), (14 + _TALL / 2, "50 %"), (14 + _TALL, "")):
        parts += [level(y), text(0, y - 3, share, "note")]
    parts.append(frame(14, _TALL, (line(_rising(row[store], scale), store) for store in _STORES)))
    title = f"Distribution of the latency of {row['operation']}, legacy against new"
    return plot(name, _TALL + 32, title, _told(row), parts)


def _rising(of_store: Mapping[str, Any], scale: Logarithmic) -> Iterator[tuple[float, float]]:
    points = [(scale.place(each["seconds"]), 100 * (1 - each["share"])) for each in of_store["distribution"]]
    if points:
        yield max(0.0, points[0][0] - 0.01), 100.0
    yield from points
    if points:
        yield 100.0, 0.0


def _tick(x: float, said: str, top: float, height: float) -> str:
    drawn = f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y1="{top:g}" y2="{height - 18:g}"/>'
    return drawn + text(x, height - 3, said, "tick", "start" if x < 8 else "end" if x > 92 else "middle")
