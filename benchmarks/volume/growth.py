"""All of it: the first size in full, and whether speed and memory stay as they are when the rows grow."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from benchmarks.row import Figures, Row
from benchmarks.volume import comparing, copying
from benchmarks.volume.comparing import VERIFY
from benchmarks.volume.copying import BACKFILL, PIPE
from benchmarks.volume.laps import row
from benchmarks.volume.legacy import Volume
from benchmarks.volume.place import placed

GOAL = 0.85  # of the first size's rows a second


def measure(sizes: Sequence[int], repeats: int, log: Console) -> list[Figures]:
    """Copying and comparing at the first size, with peers; then, for each further one, how the rates change.

    Further sizes are measured a third as often, because they take so much longer.
    """
    found: list[Figures] = []
    grown: dict[str, list[Row]] = {PIPE: [], BACKFILL: [], VERIFY: []}
    for size in sizes:
        first = size == sizes[0]
        times = repeats if first else max(1, repeats // 3)
        log.print(f"{size:,} prompts", highlight=False)
        with placed(Volume(size), log) as place:
            copied = copying.measure(place, times, log, whole=first)
            compared, comparison = comparing.measure(place, times, log, whole=first)
            found += [copying.figures(place, copied), comparison]
            laps = {PIPE: copied[PIPE], BACKFILL: copied[BACKFILL], VERIFY: compared[VERIFY]}
            for name, rows in grown.items():
                goal = rows[0].microseconds / GOAL if rows and name != PIPE else None
                rows.append(row(place, f"{name}, {place.volume.prompts:,}", laps[name], (PIPE, laps[PIPE]), goal))
    if len(sizes) > 1:
        whole = tuple(each for by_size in grown.values() for each in by_size)
        found.append(Figures("As the rows grow, microseconds for each", whole[0].name, whole[0].name, whole))
    return found
