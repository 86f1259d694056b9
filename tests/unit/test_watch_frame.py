"""The frame of ``status --watch``: everything in its place at 80 columns and 24 lines, whatever the numbers are."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len
from watched_example import live_document

from harness.cli.watch_frame import HEIGHT, WIDTH, frame, spark
from harness.pulse import POINTS, UNKNOWN
from harness.watched import told

HUGE = 10**15
EXTREME: dict[str, Any] = {
    "epoch": HUGE,
    "reads_percent": 33.33,
    "automatic_ramp": {"state": "retreating", "step": 10, "steps": 10, "reason": "gate: " + "x" * 900, "paused": True},
    "unfinished": {"command": "cutover", "actor": "somebody with a long name " * 9},
    "away": dict.fromkeys(("legacy", "new"), "2026-03-04T11:00:00+00:00"),
    "operations_per_second": {"legacy": 1e18, "new": 0.0001},
    "compared_per_second": 123456789.0,
    "errors_lately": dict.fromkeys(("legacy", "new"), HUGE),
    "latency_seconds": {store: {"p50": 1e-9, "p99": 1e9} for store in ("legacy", "new")},
    "dirty": dict.fromkeys(("legacy", "new"), HUGE),
    "lag_seconds": dict.fromkeys(("legacy", "new"), 1e12),
    "mismatch": {"rate": 0.123456789, "low": 1e-12, "high": 0.99999, "mismatched": HUGE, "compared": HUGE},
    "history": {"seconds": 900.0}
    | {name: [1e15] * POINTS for name in ("operations_per_second", "mismatch_rate", "p99_seconds", "lag_seconds")},
    "quarantined": HUGE,
    "quarantined_undecided": HUGE,
    "gates": [
        {"name": f"prometheus:{'n' * 80}{n}", "verdict": "inconclusive", "evidence": "名" * 300} for n in range(60)
    ],
    "gates_age_seconds": 1e7,
    "next": "crossfade " + "word " * 90,
}
NOTHING: dict[str, Any] = UNKNOWN | {
    **dict.fromkeys(("phase", "epoch", "reads_percent", "writes_percent", "shadow_percent")),
    "automatic_ramp": None,
    "dirty": {"legacy": None, "new": None},
    "lag_seconds": {"legacy": None, "new": None},
    "mismatch": None,
    "last_verification": None,
    "gates": [],
    "gates_age_seconds": None,
    "look_age_seconds": None,
    "history": {"seconds": 15.0}
    | {name: [None] * POINTS for name in ("operations_per_second", "mismatch_rate", "p99_seconds", "lag_seconds")},
}


def lines(width: int = WIDTH, height: int = HEIGHT, **changes: Any) -> list[str]:
    return frame(told(live_document(**changes)), width, height, "q quits").plain.split("\n")


@pytest.mark.parametrize("changes", [{}, EXTREME, NOTHING], ids=["usual", "extreme", "nothing known"])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 16), (20, 4), (200, 60)])
def test_no_line_is_too_wide_and_none_too_many(changes: dict[str, Any], width: int, height: int) -> None:
    """Every frame has its size, with the next step in its last two lines, and control characters are none."""
    found = lines(width, height, **changes)
    assert len(found) == height
    assert max(map(cell_len, found)) <= width
    assert found[-2].startswith("next")
    assert all(line.isprintable() for line in found)


def test_nothing_jumps() -> None:
    """From nothing known to huge numbers, every label keeps its line, and figures end in the same columns."""
    frames = [lines(**changes) for changes in ({}, EXTREME, NOTHING)]
    labels = [[line[:10] for line in found[1:3] + found[4:15]] for found in frames]
    assert labels[0] == labels[1] == labels[2]
    for row in range(5, 11):
        for end in (23, 34):  # where legacy's and new's figures end
            assert {(found[row][end - 1] != " ", found[row][end : end + 1].strip()) for found in frames} == {(True, "")}


def test_what_does_not_pass_is_shown_first_and_readable_without_colour() -> None:
    """Fails, then inconclusive ones, each with a mark, its verdict and evidence; what finds no room is named."""
    gates = live_document()["gates"]
    gates[7] |= {"verdict": "inconclusive", "evidence": "nothing was carried over"}
    gates[9] |= {"verdict": "fail", "evidence": "legacy 9 s behind"}
    found = lines(gates=gates)[15:22]
    assert found[0].split(maxsplit=3) == ["✗", "lag", "fail", "legacy 9 s behind"]
    assert found[1].split(maxsplit=3) == ["?", "applies", "inconclusive", "nothing was carried over"]
    assert found[2].split(maxsplit=3) == ["✓", "phase", "pass", "evidence of phase"]
    assert found[6].startswith("✓ ")
    assert found[6].rstrip().endswith("more")


def test_a_taller_terminal_shows_every_gate() -> None:
    """With room enough each gate has its line."""
    text = "\n".join(lines(height=40))
    for gate in live_document()["gates"]:
        assert gate["evidence"] in text


def test_a_store_that_is_away_is_told_in_words() -> None:
    """The fourth line is empty in health, and says which store is away since when otherwise."""
    assert lines()[3].strip() == ""
    away = {"legacy": None, "new": "2026-03-04T11:59:00+00:00"}
    assert lines(away=away)[3] == "! new cannot be reached since 11:59:00 UTC; trying again"


def test_old_looks_are_said_to_be_old() -> None:
    """What is shown says how old it is, once that is more than a moment; gates say it always."""
    assert "no look for 40 s" in lines(look_age_seconds=40.0)[3]
    assert "judged 4 s ago" in lines()[14]


def test_sparks() -> None:
    """The greatest point is a full block, nothing the lowest, the unknown a blank; the newest is at the right end."""
    assert spark([None, 0.0, 1.0, 2.0], 6) == "   ▁▅█"
    assert spark([0.0, 0.0], 2) == "▁▁"
    assert spark([], 3) == "   "
    assert spark([9.0, 1.0, 1.0], 2) == "██"


def test_texts_cannot_steer_the_terminal() -> None:
    """Escape sequences and line breaks in what people or servers wrote are not passed on."""
    gates = [{"name": "prometheus:x", "verdict": "fail", "evidence": "a\x1b[2Jb\nc\x9bd"}]
    text = "\n".join(lines(gates=gates, next="one\ntwo\x07"))
    assert all(character == "\n" or character.isprintable() for character in text)
    assert "a [2Jb c d" in text
