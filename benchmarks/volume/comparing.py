"""``crossfade verify`` against a bare digest scan and against reladiff, on equal stores and on unequal ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import psycopg
from rich.console import Console

from benchmarks.row import Figures
from benchmarks.volume import bare, peers
from benchmarks.volume.laps import Laps, Ways, each, row, turns
from benchmarks.volume.place import Place
from benchmarks.volume.process import Lap, crossfade

VERIFY, RELADIFF = "crossfade verify", "reladiff"
PAIR_MADE = "making the table that reladiff compares"
SCAN = "bare digest scan"
SLOWER = f"{SCAN} of the slower side, one process"
SIDES = ("legacy", "new")
SCANS = {False: "one process", True: "parallel"}
SCAN_GOAL, RELADIFF_GOAL = 1.3, 0.5
DIFFERENCES = (1, 100, 10_000)
MISMATCH = 3  # the exit code

# Every other one is lost, the rest have another text; spread over all keys without a pattern.
_DAMAGE = """
CREATE TABLE crossfade_damaged AS
  SELECT *, row_number() OVER (ORDER BY md5(id::text)) AS number FROM prompts ORDER BY md5(id::text) LIMIT {};
UPDATE prompts SET content = 'Other words: ' || prompts.content FROM crossfade_damaged AS d
  WHERE d.id = prompts.id AND number % 2 = 1;
DELETE FROM prompts USING crossfade_damaged AS d WHERE d.id = prompts.id AND number % 2 = 0;
"""
_MEND = """
DELETE FROM prompts USING crossfade_damaged AS d WHERE d.id = prompts.id;
ALTER TABLE crossfade_damaged DROP COLUMN number;
INSERT INTO prompts SELECT * FROM crossfade_damaged;
DROP TABLE crossfade_damaged;
"""


def scans(place: Place) -> dict[str, Callable[[], Lap]]:
    """A bare scan of either side, with and without parallel workers, and of both at once."""
    sides = {"legacy": (place.legacy, bare.legacy_parts(place)), "new": (place.new, bare.new_parts())}
    found: dict[str, Callable[[], Lap]] = {
        _scan(side, parallel): partial(bare.digest_scan, place, *sides[side], parallel=parallel)
        for side in SIDES
        for parallel in SCANS
    }
    return found | {f"{SCAN} of both at once": partial(_at_once, [found[_scan(side, True)] for side in SIDES])}


def _at_once(ways: Sequence[Callable[[], Lap]]) -> Lap:
    began = time.monotonic()
    with ThreadPoolExecutor(len(ways)) as pool:
        digests = {lap.document["digest"] for lap in pool.map(lambda way: way(), ways)}
    took = time.monotonic() - began
    assert len(digests) == 1, "the bare scans of both stores differ"
    return Lap(took, {"digest": digests.pop()})


def verify(place: Place, differences: int = 0) -> Lap:
    """The real command, which must find just what differs."""
    lap = crossfade(place, "verify", expected=[MISMATCH if differences else 0])
    found = lap.document
    assert (found["different"], found["missing"], found["extra"]) == (-(-differences // 2), differences // 2, 0), found
    assert found["compared"] == place.volume.prompts, found
    return lap


def reladiff(place: Place, differences: int = 0) -> Lap:
    lap = peers.reladiff(place)
    assert lap.document["rows"] == differences, lap.document
    return lap


def measure(place: Place, repeats: int, log: Console, *, whole: bool) -> tuple[Laps, Figures]:
    """Wants both stores equal. Without ``whole``: verify and the bare scans alone."""
    _vacuum(place)
    if not whole:
        laps = _equal(place, {VERIFY: partial(verify, place)}, repeats, log)
        return laps, _figures(place, laps, {})
    made = peers.make_pair(place)
    try:
        both: Ways = {VERIFY: partial(verify, place), RELADIFF: partial(reladiff, place)}
        laps = _equal(place, both, repeats, log)
        unequal = {}
        for number in DIFFERENCES:
            if number > place.volume.prompts // 10:
                continue
            with damaged(place, number):
                ways: Ways = {
                    VERIFY: partial(verify, place, number),
                    RELADIFF: partial(reladiff, place, number),
                }
                unequal[number] = turns({name: ways[name] for name in ways if name in laps}, repeats, log)
    finally:
        peers.drop_pair(place)
    if RELADIFF in laps:
        laps = {**laps, PAIR_MADE: [made]}
    return laps, _figures(place, laps, unequal)


@contextmanager
def damaged(place: Place, number: int) -> Iterator[None]:
    """So many of new's rows lost or changed behind capture's back, and put back at the end."""
    _behind(place, _DAMAGE.format(number))
    try:
        yield
    finally:
        _behind(place, _MEND)


def _equal(place: Place, ways: Ways, repeats: int, log: Console) -> Laps:
    named = scans(place)
    laps = turns(named | dict(ways), repeats, log)
    digests = {lap.document["digest"] for name in named for lap in laps[name]}
    assert len(digests) == 1, "the bare scans of both stores differ"
    return laps


def _figures(place: Place, laps: Laps, unequal: Mapping[int, Laps]) -> Figures:
    slower = max((laps[_scan(side, False)] for side in SIDES), key=lambda found: each(place, found))
    floor = "the scan", slower
    rows = [row(place, name, found, floor) for name, found in laps.items() if name.startswith("bare")]
    rows.insert(0, row(place, SLOWER, slower, floor))
    rows.append(row(place, VERIFY, laps[VERIFY], floor, SCAN_GOAL * each(place, slower)))
    if RELADIFF in laps:
        rows.append(row(place, RELADIFF, laps[RELADIFF], floor))
        rows.append(row(place, PAIR_MADE, laps[PAIR_MADE], floor))
        half = RELADIFF_GOAL * each(place, laps[RELADIFF])
        rows.append(row(place, f"{VERIFY}, against reladiff", laps[VERIFY], (RELADIFF, laps[RELADIFF]), half))
    for number, found in unequal.items():
        for name, of_it in found.items():
            what = f"{name}, {number:,} difference{'s' if number > 1 else ''}"
            rows.append(row(place, what, of_it, ("equal stores", laps[name])))
    title = f"Comparing {place.volume.prompts:,} prompts, all columns, microseconds for each"
    return Figures(title, SLOWER, VERIFY, tuple(rows))


def _scan(side: str, parallel: bool) -> str:
    return f"{SCAN} of {side}, {SCANS[parallel]}"


def _vacuum(place: Place) -> None:
    """As autovacuum leaves a table that has come to rest; else whoever reads first pays for who wrote."""
    for url in (place.legacy, place.new):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
    place.settle()


def _behind(place: Place, statements: str) -> None:
    with psycopg.connect(place.new) as connection:
        connection.execute("SET LOCAL crossfade.applying = 'on'")
        connection.execute(statements.encode())
