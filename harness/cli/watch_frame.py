"""One frame of ``status --watch``: lines of fixed places, never wider than asked for."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from harness.pulse import POINTS
from harness.records import Verdict
from harness.watched import MARKS, Line, Shown, Told

WIDTH, HEIGHT = 80, 24  # what a frame is made for
_WIDEST = 120
_BLOCKS = "▁▂▃▄▅▆▇█"
_NAME, _FIGURE = 12, 11
_BESIDE, _LEAST_SPARK = 50, 5  # cells beside a row of blocks
_COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow"}
_GATE = 12
_FIXED = 17  # lines of a frame that are no gates


def frame(told: Told, width: int = WIDTH, height: int = HEIGHT, hint: str = "") -> Text:
    """``height`` lines at most; ``hint`` says in the first one how to end it."""
    width = min(width, _WIDEST)
    span = max(_LEAST_SPARK, min(POINTS, width - _BESIDE))
    lines = [
        _ends(f"{told.phase}, epoch {told.epoch}", f"{told.at}{hint and f'  {hint}'}", width),
        _shares(told),
        Text.assemble((_cell("auto ramp", _NAME), "dim"), " ", told.ramp),
        Text("! " + "; ".join(told.alerts), "bold red") if told.alerts else Text(),
        *_figures(told, span),
        *(_line(line, span) for line in told.lines),
        _ends("gates", told.judged, width),
        *_gates(told.gates, max(1, height - _FIXED), width),
    ]
    lines = [*lines[: max(0, height - 2)], *_wrapped("next", told.next_step, width)]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True, overflow="crop").join(lines[:height])


def spark(points: Sequence[float | None], width: int = POINTS) -> str:
    """Blocks from nothing to the greatest point; a blank where nothing is known."""
    shown = list(points)[-width:]
    most = max((point for point in shown if point is not None), default=0.0)

    def block(point: float | None) -> str:
        if point is None:
            return " "
        return _BLOCKS[min(len(_BLOCKS) - 1, int(point / most * len(_BLOCKS)))] if most > 0 else _BLOCKS[0]

    return "".join(map(block, shown)).rjust(width)


def _shares(told: Told) -> Text:
    text = Text.assemble((_cell("on new", _NAME), "dim"), " ")
    for name, share in told.shares:
        text.append(f"{name} ", "dim")
        text.append(_cell(share, 9))
    return text


def _figures(told: Told, span: int) -> list[Text]:
    head = f"{'':{_NAME}}{'legacy':>{_FIGURE}}{'new':>{_FIGURE}}  {told.span}"
    rows = [Text(head, "dim")]
    for row in told.rows:
        text = Text.assemble((_cell(row.name, _NAME), "dim"), _right(row.legacy), _right(row.new), "  ")
        rows.append(_sparked(text, row.points, row.most, span))
    return rows


def _line(line: Line, span: int) -> Text:
    text = Text.assemble((_cell(line.name, _NAME), "dim"), " ")
    if not line.points:
        return text.append(line.text)
    text.append(_cell(line.text, 2 * _FIGURE + 1))
    return _sparked(text, line.points, line.most, span)


def _sparked(text: Text, points: Sequence[float | None], most: str, span: int) -> Text:
    if points:
        text.append(spark(points, span), "cyan")
        text.append(f" ≤ {most}" if most else "", "dim")
    return text


def _gates(gates: Sequence[Shown], room: int, width: int) -> list[Text]:
    """A line for each as long as there is room; the last line names the others. Always as many lines."""
    shown = list(gates) if len(gates) <= room else list(gates[: room - 1])
    lines = [_gate(gate) for gate in shown]
    if rest := gates[len(shown) :]:
        lines.append(_others(rest, width))
    return lines + [Text() for _ in range(room - len(lines))]


def _gate(gate: Shown) -> Text:
    mark = f"{MARKS[gate.verdict]} {_cell(gate.name, _GATE)} "
    return Text.assemble((mark, _COLOURS[gate.verdict]), f"{gate.verdict.value:<12} ", (gate.evidence, "dim"))


def _others(gates: Sequence[Shown], width: int) -> Text:
    """Their marks and names; how many more where these do not fit."""
    text, left = Text(), len(gates)
    for gate in gates:
        word, more = f"{MARKS[gate.verdict]} {gate.name} ", f"and {left} more"
        room = width - cell_len(text.plain) - (len(more) if left > 1 else 0)
        if cell_len(word) > room:
            return text.append(more)
        text.append(word, _COLOURS[gate.verdict])
        left -= 1
    return text


def _wrapped(name: str, text: str, width: int) -> list[Text]:
    """Two lines, whatever the text is."""
    first, room = text, width - _NAME - 1
    second = ""
    if cell_len(text) > room and " " in text[:room]:
        first, second = text[: (cut := text.rfind(" ", 0, room))], text[cut + 1 :]
    return [
        Text.assemble((_cell(name, _NAME), "dim"), " ", (first, "bold")),
        Text.assemble(" " * (_NAME + 1), (second, "bold")),
    ]


def _ends(left: str, right: str, width: int) -> Text:
    """One text at each end of the line; the right one stays whole."""
    room = max(0, width - cell_len(right) - 1)
    return Text.assemble((_cell(left, room), "bold"), " ", (right, "dim"))


def _cell(text: str, width: int) -> str:
    """Exactly as wide; cut with an ellipsis."""
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"


def _right(text: str) -> str:
    return " " + (text.rjust(_FIGURE - 1) if cell_len(text) < _FIGURE else _cell(text, _FIGURE - 1))
