"""Plots: small pure functions from the report's model to inline SVG.

Horizontal places are percentages of the width and heights are pixels, so a plot fits a telephone and a wide screen
without its text being scaled. Colours are classes of the report's style sheet. Every plot has a text alternative; its
numbers stand in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any

from harness.evidence import count, counted, duration

_ROW = 62
_HEIGHT = 96
_QUANTILES = ("p50", "p95", "p99")


def latency(rows: Sequence[Mapping[str, Any]]) -> str:
    """For each operation a range from median to 99th percentile for legacy and for new, on one logarithmic scale.

    Empty when nothing was timed.
    """
    rows = [row for row in rows if row["legacy"]["calls"] or row["new"]["calls"]]
    values = [row[store][q] for row in rows for store in ("legacy", "new") for q in _QUANTILES if row[store][q]]
    if not values:
        return ""
    scale = _Logarithmic(min(values), max(values))
    height = _ROW * len(rows) + 24
    parts = [_tick(scale.place(value), duration(value), height) for value in scale.ticks()]
    for position, row in enumerate(rows):
        top = _ROW * position
        parts.append(_text(0, top + 16, row["operation"], "label"))
        if row["p99_ratio"]:
            parts.append(_text(100, top + 16, f"p99 × {row['p99_ratio']:.2f}", "note", "end"))
        parts += [_range(scale, row[store], top + y, store) for store, y in (("legacy", 33), ("new", 47))]
    said = [
        f"{row['operation']}: "
        + "; ".join(
            f"{store} " + ", ".join(f"{q} {duration(row[store][q])}" for q in _QUANTILES)
            for store in ("legacy", "new")
            if row[store]["calls"]
        )
        for row in rows
    ]
    return _svg("latency", height, "Latency by operation, legacy against new", ". ".join(said), parts)


def _range(scale: _Logarithmic, quantiles: Mapping[str, Any], y: int, store: str) -> str:
    if not quantiles["calls"]:
        return _text(0, y + 4, f"not asked of {store}", "note")
    p50, p95, p99 = (scale.place(quantiles[q]) for q in _QUANTILES)
    line = f'<line class="{store}" x1="{p50:.2f}%" x2="{p99:.2f}%" y1="{y}" y2="{y}"/>'
    return line + "".join(_mark(x, y, store, name) for x, name in ((p50, "p50"), (p95, "p95"), (p99, "p99")))


def _mark(x: float, y: int, store: str, quantile: str) -> str:
    """Legacy's marks are squares and new's are circles, so that they differ without colour too."""
    size = {"p50": 5, "p95": 3, "p99": 5}[quantile]
    kind = f"{store} {quantile}"
    if store == "new":
        return f'<circle class="{kind}" cx="{x:.2f}%" cy="{y}" r="{size}"/>'
    side = 2 * size - 1
    place = f'x="{x:.2f}%" y="{y - side / 2}" transform="translate({-side / 2} 0)"'
    return f'<rect class="{kind}" {place} width="{side}" height="{side}"/>'


class _Logarithmic:
    """Places from 0 to 100 for positive values, with a little room on both sides."""

    def __init__(self, least: float, most: float) -> None:
        self._low = math.log10(least) - 0.05
        self._span = math.log10(most) + 0.05 - self._low

    def place(self, value: float) -> float:
        return (math.log10(value) - self._low) / self._span * 100

    def ticks(self) -> Iterator[float]:
        """Round values within the scale: of 1, 2 and 5 in each decade, or powers of ten alone where it is long."""
        steps = (1, 2, 5) if self._span < 1.6 else (1, 3) if self._span < 2.4 else (1,)
        for decade in range(math.floor(self._low), math.ceil(self._low + self._span) + 1):
            for step in steps:
                value = step * 10.0**decade
                if 0 <= self.place(value) <= 100:
                    yield value


def comparisons(over: Mapping[str, Any]) -> str:
    """Settled comparisons over time, those that were not made on top of them. Empty when there were none."""
    points = over["points"]
    most = max((point["compared"] + point["not_compared"] for point in points), default=0)
    if not most:
        return ""
    bars = []
    for x, width, point in _columns(over):
        made, left = (_HEIGHT * point[key] / most for key in ("compared", "not_compared"))
        bars.append(_bar(x, width, _HEIGHT - made, made, "compared"))
        bars.append(_bar(x, width, _HEIGHT - made - left, left, "not-compared"))
    said = f"At most {counted(most, 'comparison')} in {_per(over)}, made or not."
    return _svg("time", _HEIGHT + 26, "Comparisons over time", said, [_top(count(most)), *bars, *_span(over)])


def mismatches(over: Mapping[str, Any]) -> str:
    """Confirmed mismatches over time. Empty when there were none."""
    most = max((point["mismatched"] for point in over["points"]), default=0)
    if not most:
        return ""
    heights = ((x, width, _HEIGHT * point["mismatched"] / most) for x, width, point in _columns(over))
    bars = [_bar(x, width, _HEIGHT - height, height, "mismatched") for x, width, height in heights]
    said = f"At most {counted(most, 'confirmed mismatch', 'confirmed mismatches')} in {_per(over)}."
    return _svg("time", _HEIGHT + 26, "Confirmed mismatches over time", said, [_top(count(most)), *bars, *_span(over)])


def lag(over: Mapping[str, Any]) -> str:
    """Each store's greatest lag over time. Empty when nobody recorded it."""
    values = [seconds for point in over["points"] for seconds in point["lag"].values()]
    if not values:
        return ""
    most = max(values) or 1.0
    marks = []
    for x, width, point in _columns(over):
        for store, seconds in point["lag"].items():
            y = _HEIGHT * (1 - seconds / most)
            marks.append(f'<line class="{store}" x1="{x:.3f}%" x2="{x + width:.3f}%" y1="{y:.1f}" y2="{y:.1f}"/>')
    said = f"At most {duration(max(values))}."
    return _svg("time", _HEIGHT + 26, "Lag over time", said, [_top(duration(max(values))), *marks, *_span(over)])


def _columns(over: Mapping[str, Any]) -> Iterator[tuple[float, float, Mapping[str, Any]]]:
    """Each point with its place and width in percent. Idle times stay empty."""
    first, until = (datetime.fromisoformat(over[key]) for key in ("first", "until"))
    width = timedelta(minutes=over["minutes_per_point"]) / (until - first) * 100
    for point in over["points"]:
        yield (datetime.fromisoformat(point["at"]) - first) / (until - first) * 100, width, point


def _per(over: Mapping[str, Any]) -> str:
    minutes = over["minutes_per_point"]
    return "a minute" if minutes == 1 else counted(minutes, "minute")


def _bar(x: float, width: float, y: float, height: float, kind: str) -> str:
    if not height:
        return ""
    tall = max(height, 1.5)  # one mismatch beside a thousand must still be seen
    place = f'x="{x:.3f}%" y="{min(y, _HEIGHT - tall):.1f}"'
    return f'<rect class="{kind}" {place} width="{width * 0.86:.3f}%" height="{tall:.1f}"/>'


def _top(text: str) -> str:
    """The line of the greatest value, with the value on it, and the base line."""
    lines = "".join(f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>' for y in (0, _HEIGHT))
    return lines + _text(100, -5, text, "note", "end")


def _span(over: Mapping[str, Any]) -> list[str]:
    first, until = (datetime.fromisoformat(over[key]) for key in ("first", "until"))
    form = "%H:%M" if first.date() == until.date() else "%d %b %H:%M"
    places = ((0, first, "start"), (100, until, "end"))
    return [_text(x, _HEIGHT + 18, f"{at:{form}}", "note", anchor) for x, at, anchor in places]


def _tick(x: float, text: str, height: int) -> str:
    line = f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y1="22" y2="{height - 18}"/>'
    return line + _text(x, height - 3, text, "tick", "start" if x < 6 else "end" if x > 94 else "middle")


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.2f}%" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(kind: str, height: int, title: str, described: str, parts: Sequence[str]) -> str:
    label = escape(f"{title}. {described}", quote=True)
    size = f'width="100%" height="{height}"'
    return f'<svg class="plot {kind}" role="img" aria-label="{label}" {size}>{"".join(parts)}</svg>'
