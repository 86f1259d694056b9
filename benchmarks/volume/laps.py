"""Laps of several ways to do the same, in turns, and the rows that they make."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from benchmarks.row import Row
from benchmarks.volume.peers import Absent
from benchmarks.volume.place import Place
from benchmarks.volume.process import Lap

PEAK_GOAL = 200_000_000  # bytes

Ways = Mapping[str, Callable[[], Lap]]
Laps = Mapping[str, Sequence[Lap]]


def turns(ways: Ways, repeats: int, log: Console, before: Callable[[], None] = lambda: None) -> Laps:
    """Each way once, and all of them again, so that the machine's noise hits all; ``before`` runs before each, untimed.

    A way whose peer is absent is left out, and why is said.
    """
    laps: dict[str, list[Lap]] = defaultdict(list)
    left_out: set[str] = set()
    for number in range(1, repeats + 1):
        for name, way in ways.items():
            if name in left_out:
                continue
            before()
            try:
                lap = way()
            except Absent as why:
                log.print(f"  {name} is left out: {why}", markup=False, highlight=False)
                left_out.add(name)
                continue
            laps[name].append(lap)
            log.print(f"  {number}/{repeats} {name}: {lap.seconds:.1f} s", markup=False, highlight=False)
    return laps


def row(
    place: Place, name: str, laps: Sequence[Lap], against: tuple[str, Sequence[Lap]], goal: float | None = None
) -> Row:
    """The median of the laps for one prompt, with its rate, its rate in relation to another's, and its memory."""
    took, other = each(place, laps), each(place, against[1])
    peak = peak_of(laps)
    note = f"{1e6 / took:,.0f} rows/s, {other / took:.2f} of {against[0]}'s"
    if peak is not None:
        note += f"; {said_of(peak)}"
    return Row(name, took, goal, note, peak)


def each(place: Place, laps: Sequence[Lap]) -> float:
    """Microseconds for one prompt, the median."""
    return statistics.median(lap.seconds for lap in laps) / place.volume.prompts * 1e6


def peak_of(laps: Sequence[Lap]) -> int | None:
    return max((lap.peak_bytes for lap in laps if lap.peak_bytes is not None), default=None)


def said_of(peak: int) -> str:
    return f"{peak / 1e6:.0f} MB {'✓' if peak < PEAK_GOAL else '✗'}"
