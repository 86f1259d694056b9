"""The ramp as one plot: shares, comparisons, mismatch rate, latency and lag above each other, on one axis of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from harness.words import count, counted, duration, share
from reports.svg import Logarithmic, frame, level, plot, steps, text

_TOP = 46  # room for the numbers of the steps
_PANEL = 76
_GAP = 36
_ROWS = 3  # of steps' numbers, so that those of short steps do not cover each other
_STORES = ("legacy", "new")
_LOG_TICKS = 4
_WIDE = 13  # percent of the width in which a step's shares have room, where the screen is no telephone's

Spans = list[tuple[float, float, Mapping[str, Any]]]


def ramp(over: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """``over`` and ``told`` are the model's ``over_time`` and ``ramp``. Empty when nothing was counted."""
    if not over["points"]:
        return ""
    axis = _Axis(over)
    spans, bands = list(_columns(over, axis)), list(_bands(told, axis))
    panels = [
        _shares(bands),
        _comparisons(spans, over),
        _rates(spans),
        _latencies(spans),
        _lags(spans),
    ]
    drawn = [panel for panel in panels if panel is not None]
    height = _TOP + len(drawn) * (_PANEL + _GAP)
    bottom = height - _GAP + 4
    parts = [_numbers(bands, bottom)]
    for place, (title, top, inner, marks) in enumerate(drawn):
        y = _TOP + place * (_PANEL + _GAP)
        parts += [level(y), level(y + _PANEL), text(0, y - 6, title, "label"), text(100, y - 6, top, "note", "end")]
        parts += [
            level(y + at * _PANEL / 100) + text(100, y + at * _PANEL / 100 - 3, said, "note", "end")
            for at, said in marks
        ]
        parts.append(frame(y, _PANEL, inner))
    parts += axis.ends(height - _GAP + 20)
    return plot("ramp", height, "The ramp over time", _described(over, told), parts)


Panel = tuple[str, str, list[str], list[tuple[float, str]]]  # title, greatest value, curves, inner levels


class _Axis:
    """Moments as places from 0 to 100."""

    def __init__(self, over: Mapping[str, Any]) -> None:
        self.first, self.until = (datetime.fromisoformat(over[key]) for key in ("first", "until"))
        self.width = timedelta(minutes=over["minutes_per_point"])

    def place(self, at: str) -> float:
        """Of a moment outside the nearer end."""
        return self.of(datetime.fromisoformat(at))

    def of(self, at: datetime) -> float:
        return min(100.0, max(0.0, (at - self.first) / (self.until - self.first) * 100))

    def ends(self, y: float) -> list[str]:
        form = "%H:%M" if self.first.date() == self.until.date() else "%d %b %H:%M"
        ends = ((0, self.first, "start"), (100, self.until, "end"))
        return [text(x, y, f"{at:{form}}", "note", anchor) for x, at, anchor in ends]


def _columns(over: Mapping[str, Any], axis: _Axis) -> Iterator[tuple[float, float, Mapping[str, Any]]]:
    for point in over["points"]:
        at = datetime.fromisoformat(point["at"])
        yield axis.of(at), axis.of(at + axis.width), point


def _bands(told: Mapping[str, Any], axis: _Axis) -> Iterator[tuple[float, float, Mapping[str, Any]]]:
    """The steps that the axis shows, the one it begins in too; before the first of all, what was there then."""
    found, began = told["steps"], told["steps"][0]["at"] if told["steps"] else None
    if began is None or datetime.fromisoformat(began) > axis.first:
        before = dict(found[0]["from"] if found else told["began_with"]) | {"number": 0}
        yield 0.0, axis.place(began) if began else 100.0, before
    for step in found:
        if datetime.fromisoformat(step["until"]) > axis.first:
            yield axis.place(step["at"]), axis.place(step["until"]), step


def _numbers(bands: Spans, bottom: float) -> str:
    """A line where each step begins, and its number; on a wide screen with the shares too, reads and writes."""
    ends, parts = [-100.0] * _ROWS, []
    for begin, until, step in bands:
        if step["number"]:
            parts.append(f'<line class="step" x1="{begin:.3f}%" x2="{begin:.3f}%" y1="14" y2="{bottom:g}"/>')
        short = str(step["number"] or "")
        row = next((row for row, end in enumerate(ends) if end <= begin), None)
        if row is None:
            continue
        ends[row] = begin + 2.0 * len(short) + 1.0  # generous on a wide screen, just enough on a telephone
        x, y = min(begin + 0.4, 97.0), 10 + 11 * row
        parts.append(text(x, y, short, "step-number short"))
        if until - begin >= _WIDE and row == 0:
            shares = f"{step['reads_percent']:g} / {step['writes_percent']:g} %"
            parts.append(text(x, y, f"{short}: {shares}" if short else shares, "step-number long"))
        else:
            parts.append(text(x, y, short, "step-number long"))
    return "".join(parts)


def _shares(bands: Spans) -> Panel:
    lines = [
        steps([(begin, until, 100 - step[name]) for begin, until, step in bands], kind)
        for name, kind in (("writes_percent", "writes"), ("reads_percent", "reads"))
    ]
    fill = [
        f'<rect class="band" x="{begin:.3f}" y="{100 - step["reads_percent"]:.2f}" width="{until - begin:.3f}" '
        f'height="{step["reads_percent"]:.2f}"/>'
        for begin, until, step in bands
    ]
    return "share on new", "100 %", [*fill, *lines], [(50, "50 %")]


def _comparisons(spans: Spans, over: Mapping[str, Any]) -> Panel | None:
    most = max(point["compared"] + point["not_compared"] for _, _, point in spans)
    if not most:
        return None
    bars = []
    for begin, until, point in spans:
        made, left = (100 * point[key] / most for key in ("compared", "not_compared"))
        bars += [_bar(begin, until, 100 - made, made, "compared")]
        bars += [_bar(begin, until, 100 - made - left, left, "not-compared")]
    return f"comparisons in {_per(over)}", count(most), bars, []


def _bar(begin: float, until: float, y: float, height: float, kind: str) -> str:
    if not height:
        return ""
    return (
        f'<rect class="{kind}" x="{begin:.3f}" y="{y:.2f}" width="{(until - begin) * 0.9:.3f}" height="{height:.2f}"/>'
    )


def _rates(spans: Spans) -> Panel | None:
    """The rate of each point within its interval. An interval too long for the scale is cut at the top."""
    known = [(begin, until, point) for begin, until, point in spans if point["mismatch_rate"] is not None]
    if not known:
        return None
    highest = max(point["mismatch_rate"] for _, _, point in known)
    top: float = min(1.0, max(1.25 * highest, median(point["rate_high"] for _, _, point in known)))

    def y(rate: float) -> float:
        return 100 - 100 * min(rate, top) / top

    intervals = [
        _bar(begin, until, y(point["rate_high"]), y(point["rate_low"]) - y(point["rate_high"]), "interval")
        for begin, until, point in known
    ]
    curve = steps(((begin, until, y(point["mismatch_rate"])) for begin, until, point in known), "mismatched")
    return "mismatch rate", share(top), [*intervals, curve], []


def _latencies(spans: Spans) -> Panel | None:
    values = [
        point["latency"][store][q]
        for _, _, point in spans
        for store in _STORES
        for q in ("p50", "p99")
        if point["latency"][store][q]
    ]
    if not values:
        return None
    scale, curves = Logarithmic(min(values), max(values)), []
    for store in _STORES:
        for q in ("p50", "p99"):
            timed = ((begin, until, point["latency"][store][q]) for begin, until, point in spans)
            curves.append(steps([(a, b, 100 - scale.place(value)) for a, b, value in timed if value], f"{store} {q}"))
    ticks = list(scale.ticks())
    shown = ticks[:: -(-len(ticks) // _LOG_TICKS)] if ticks else []
    marks = [(100 - scale.place(value), duration(value)) for value in shown if 8 < scale.place(value) < 75]
    return "latency, p50 and p99", duration(max(values)), curves, marks


def _lags(spans: Spans) -> Panel | None:
    values = [seconds for _, _, point in spans for seconds in point["lag"].values()]
    if not values:
        return None
    most = max(values) or 1.0
    curves = []
    for store in _STORES:
        known = [(begin, until, point["lag"][store]) for begin, until, point in spans if store in point["lag"]]
        curves.append(steps(((a, b, 100 - 100 * seconds / most) for a, b, seconds in known), store))
    return "greatest lag", duration(max(values)), curves, []


def _per(over: Mapping[str, Any]) -> str:
    minutes = over["minutes_per_point"]
    return "a minute" if minutes == 1 else counted(minutes, "minute")


def _described(over: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """The same in words, short; the tables beside it hold every number."""
    points: Sequence[Mapping[str, Any]] = over["points"]
    last = told["steps"][-1] if told["steps"] else told["began_with"]
    mismatched, compared = (sum(point[key] for point in points) for key in ("mismatched", "compared"))
    lags = [seconds for point in points for seconds in point["lag"].values()]
    parts = [
        f"{counted(told['total'], 'step')}; new serves {last['reads_percent']:g} % of reads and "
        f"{last['writes_percent']:g} % of writes at the end",
        f"{counted(len(points), 'point')} of {_per(over)} each",
        f"confirmed mismatches: {'some' if mismatched else 'none' if compared else 'nothing was compared'}",
    ]
    if lags:
        parts.append(f"greatest lag {duration(max(lags))}")
    return ". ".join(parts)
