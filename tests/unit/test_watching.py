"""The simulation behind docs/gates.md: small runs of it say what the page says, and the page is what it writes."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from benchmarks.looking import (
    ALPHA,
    BEGIN,
    CAUGHT,
    END,
    HORIZON,
    LIMIT,
    arrivals,
    caught,
    false_alarms,
    first_fail,
    fixed,
    page,
    passes,
    replaced,
    watched,
)
from harness.sequences import Side, side, trials_to_pass
from harness.words import share

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "gates.md").read_text(encoding="utf-8")
TABLES = PAGE.partition(BEGIN)[2].partition(END)[0]


def row(*beginning: str, cells: int = 0) -> list[str]:
    """The cells of the page's row that begins so, and has so many more if that is asked."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLES.splitlines()]
    left = [each[len(beginning) :] for each in rows if tuple(each[: len(beginning)]) == beginning]
    (found,) = [each for each in left if len(each) == cells or not cells]
    return found


def numbers(cell: str) -> list[int]:
    return [int(each.replace(",", "")) for each in re.findall(r"\d[\d,]*\d|\d", cell)]


def test_false_alarms_are_as_the_page_says() -> None:
    """Watched at every observation the gate stays below alpha, and a test made for one look is far beyond it."""
    alarms = false_alarms(Random(20), runs=500)
    assert side(alarms.watched.hits, alarms.watched.runs, ALPHA, 0.01) is Side.WITHIN
    assert side(alarms.passed.hits, alarms.passed.runs, ALPHA, 0.01) is not Side.ABOVE
    assert side(alarms.fixed.hits, alarms.fixed.runs, 2 * ALPHA, 0.01) is Side.ABOVE
    for name, found in (
        ("the gate, looking at every observation", alarms.watched),
        ("an exact test of a fixed sample, looking at every observation", alarms.fixed),
        ("the same test, looking once, at the end", alarms.once),
    ):
        told = float(row(name)[0].removesuffix(" %")) / 100
        assert abs(found.observed - told) < 4 * (told * (1 - told) / found.runs) ** 0.5 + 1e-9


@pytest.mark.parametrize(("limit", "rate"), CAUGHT)
def test_faults_are_caught_as_soon_as_the_page_says(limit: float, rate: float) -> None:
    """Another seed's medians are within a fifth of the page's, or a handful; certainty costs more than guessing."""
    found = caught(Random(7), limit, rate, runs=1000)
    for cell, ended in zip(row(share(rate), share(limit)), (found.watched, found.gate, found.fixed), strict=True):
        told = numbers(cell)
        assert len(told) == 3
        assert abs(ended[0] - told[0]) <= max(5, 0.2 * told[0])
    assert found.fixed[0] < found.watched[0] < found.gate[0]


def test_passes_are_as_the_page_says() -> None:
    """How many observations are enough is computed, not drawn: the page has just these numbers."""
    for limit in (0.0001, 0.001, 0.01, 0.05, 0.1):
        assert [numbers(cell)[0] for cell in row(share(limit), cells=5)] == [
            trials_to_pass(hits, limit, ALPHA) for hits in (0, 1, 2, 5, 10)
        ]


def test_the_shortcut_is_watching_at_every_observation() -> None:
    """Looking at mismatches alone fails and passes the same runs at the same moments as asking each time."""
    random, limit, horizon = Random(3), 0.05, 300
    tested, ended = watched(limit, 0.2), set()
    for _ in range(60):
        found = arrivals(random, 0.07, horizon)
        hits = [sum(at <= n for at in found) for n in range(1, horizon + 1)]
        sides = [side(k, n, limit, 0.2) for n, k in enumerate(hits, 1)]
        fail = next((n for n, each in enumerate(sides, 1) if each is Side.ABOVE), None)
        assert first_fail(found, tested) == fail
        passed = passes(found, horizon, lambda k: trials_to_pass(k, limit, 0.2) or 0)
        assert passed is (Side.WITHIN in sides)
        ended.add((fail is not None, passed))
    assert len(ended) > 1


def test_the_exact_test_is_exact() -> None:
    """Its last failing observation is where the binomial tail crosses alpha."""
    assert fixed(0.5, 0.05)(5) == 5  # 1/32; with one more observation, 7/64
    assert fixed(0.5, 0.05)(4) == 0  # 1/16
    assert fixed(LIMIT, ALPHA)(1) == 51  # 1 - 0.999^51 = 4.97 %


def test_the_page_is_made_by_the_simulation() -> None:
    """Only the part between the marks is written anew, and it has the form that stands in the page."""
    part = page(false_alarms(Random(1), runs=20, horizon=HORIZON), [caught(Random(1), *CAUGHT[0], runs=20)])
    made = replaced(PAGE, part)
    assert made.partition(BEGIN)[0] == PAGE.partition(BEGIN)[0]
    assert made.partition(END)[2] == PAGE.partition(END)[2]
    heads = [line for line in part.splitlines() if line.startswith("| ") and "limit" in line.lower()]
    assert heads
    assert all(line in TABLES for line in heads)
