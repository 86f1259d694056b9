"""What plots are made of: inline SVG whose text is not scaled.

Horizontal places are percentages of the width and heights are pixels, so a plot fits a telephone and a wide screen.
Curves stand in a frame of their own, from 0 to 100 both ways, that is stretched; their strokes are not. Colours are
classes of the report's style sheet. Every plot has a title and a description; its numbers stand in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape


class Logarithmic:
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


def text(x: float, y: float, said: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.2f}%" y="{y:g}" text-anchor="{anchor}">{escape(said)}</text>'


def level(y: float) -> str:
    """A grid line across the whole width."""
    return f'<line class="grid" x1="0%" x2="100%" y1="{y:g}" y2="{y:g}"/>'


def frame(top: float, height: float, curves: Iterable[str]) -> str:
    """A stretched frame, 0 to 100 both ways with 0 at the top, for what has no text."""
    place = f'x="0" y="{top:g}" width="100%" height="{height:g}"'
    return f'<svg aria-hidden="true" {place} viewBox="0 0 100 100" preserveAspectRatio="none">{"".join(curves)}</svg>'


def steps(spans: Iterable[tuple[float, float, float]], kind: str) -> str:
    """A line of level pieces, each from x to x at y; joined where one begins as another ends."""
    parts, end = [], None
    for begin, until, y in spans:
        joined = end is not None and abs(begin - end) < 1e-6
        parts.append(f"V{y:.2f}H{until:.3f}" if joined else f"M{begin:.3f} {y:.2f}H{until:.3f}")
        end = until
    return f'<path class="curve {kind}" d="{"".join(parts)}"/>' if parts else ""


def line(points: Iterable[tuple[float, float]], kind: str) -> str:
    return f'<polyline class="curve {kind}" points="{" ".join(f"{x:.2f},{y:.2f}" for x, y in points)}"/>'


def plot(name: str, height: float, title: str, described: str, parts: Sequence[str]) -> str:
    """``name`` is the plot's own in the whole document."""
    told = f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(described)}</desc>'
    label = f'role="img" aria-labelledby="{name}-t" aria-describedby="{name}-d"'
    return f'<svg class="plot" {label} width="100%" height="{height:g}">{told}{"".join(parts)}</svg>'
