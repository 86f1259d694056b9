"""``crossfade backfill`` against the bare pipe, and beside what others do with the raw tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rich.console import Console

from benchmarks.row import Figures
from benchmarks.volume import bare, peers
from benchmarks.volume.laps import Laps, Ways, each, row, turns
from benchmarks.volume.place import Place
from benchmarks.volume.process import Lap, crossfade, offers

PIPE, BACKFILL, DEFERRED = "bare pipe", "crossfade backfill", "crossfade backfill --defer-indexes"
PIPE_DEFERRED = "bare pipe, indexes afterwards"
GOAL = 0.85  # of the pipe's rows a second


def ways(place: Place, *, whole: bool) -> Ways:
    """What is measured, in the order of a round; without ``whole`` only the pipe and what stands against it."""
    found: dict[str, Callable[[], Lap]] = {PIPE: partial(bare.pipe, place), BACKFILL: partial(backfill, place)}
    if not whole:
        return found
    if offers(place, "backfill", "--defer-indexes"):
        found[DEFERRED] = partial(backfill, place, "--defer-indexes")
    found[PIPE_DEFERRED] = partial(bare.pipe, place, indexes_later=True)
    found["pg_dump --data-only | psql, raw"] = partial(peers.dump, place)
    found["pgcopydb, raw"] = partial(peers.pgcopydb, place)
    return found


def backfill(place: Place, *options: str) -> Lap:
    """The real command, on a new store in which nothing is copied yet."""
    lap = crossfade(place, "backfill", *options)
    assert lap.document["finished"], lap.document
    assert lap.document["copied"] == place.volume.prompts, lap.document
    return lap


def measure(place: Place, repeats: int, log: Console, *, whole: bool) -> Laps:
    """Each way in turns, always into an empty new store; then one more backfill, which stays."""
    laps = turns(ways(place, whole=whole), repeats, log, before=place.renew)
    place.renew()
    backfill(place)
    return laps


def figures(place: Place, laps: Laps) -> Figures:
    goal = each(place, laps[PIPE]) / GOAL
    goals = {BACKFILL: goal, DEFERRED: goal}
    rows = [row(place, name, found, (PIPE, laps[PIPE]), goals.get(name)) for name, found in laps.items()]
    return Figures(f"Copying {place.volume.prompts:,} prompts, microseconds for each", PIPE, BACKFILL, tuple(rows))
