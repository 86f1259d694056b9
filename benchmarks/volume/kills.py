"""``kill -9`` at random during backfill and verify, again and again: is the result right, how much is done twice?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from threading import Event
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from rich.console import Console

from benchmarks.row import Figures, Row
from benchmarks.volume.comparing import verify
from benchmarks.volume.legacy import Volume, table
from benchmarks.volume.place import Place, placed
from benchmarks.volume.process import crossfade, offers
from harness.errors import CrossfadeError
from harness.settings import VerifySettings

KILLS = 10
CHUNKS = 50  # of the whole backfill
BACKFILL_WORKERS = 2
GONE_SECONDS = 300.0  # until the server has noticed that a killed client is gone, at most
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Again:
    """``begun``: how often the whole work was begun and came to its end. ``twice``: rows done more than once."""

    kills: int
    begun: int
    twice: int


def measure(rows: int, seed: int, log: Console) -> Figures:
    """Kill each command ten times on its way and let it go on; an AssertionError if the result is not as without."""
    random, chunk = Random(seed), -(-rows // CHUNKS)
    with placed(Volume(rows), log) as place:
        copying, most_copied = _backfill(place, chunk, random, log), BACKFILL_WORKERS * chunk
        comparing, most_compared = _verify(place, random, log), _rows_in_hand(place)
    found = [
        _row("backfill", copying, most_copied, f"{BACKFILL_WORKERS} chunks of {chunk:,} in hand"),
        _row("verify", comparing, most_compared, "one segment of each worker in hand, on both sides"),
    ]
    return Figures(
        f"Killed at random, {rows:,} prompts: rows done again, for each kill",
        found[0].name,
        found[0].name,
        tuple(found),
        "rows",
    )


def _row(name: str, again: Again, most: int, why: str) -> Row:
    note = f"{again.kills} kills, {again.begun} × to its end, {again.twice:,} rows done again in all; {why}: {most:,}"
    return Row(name, again.twice / again.kills, most + 1, note)


def _backfill(place: Place, chunk: int, random: Random, log: Console) -> Again:
    workers = ["--workers", str(BACKFILL_WORKERS)] if offers(place, "backfill", "--workers") else []
    arguments = ["backfill", "--chunk-rows", str(chunk), *workers]
    whole = crossfade(place, *arguments).document["seconds"]
    twice = 0

    def check() -> None:
        nonlocal twice
        done = crossfade(place, "verify")
        _await_gone(place)
        assert (done.document["verdict"], done.document["compared"]) == ("pass", place.volume.prompts), done.document
        # Counted by the server whether the transaction was committed or not.
        twice += _counted(place.new, ["public.prompts"], "n_tup_ins") - place.volume.prompts

    place.renew()
    # So that, on the average, one backfill sees all ten.
    kills, begun = _kill_often(place, arguments, 2 * whole / (KILLS + 1), random, check, place.renew, log)
    return Again(kills, begun, twice)


def _verify(place: Place, random: Random, log: Console) -> Again:
    before = _rows_read(place)
    whole = verify(place).document["seconds"]
    clean = _rows_read(place) - before
    assert clean >= 2 * place.volume.prompts, f"verify has read {clean} rows only"
    resume = ["--resume"] if offers(place, "verify", "--resume") else []
    before = _rows_read(place)
    kills, begun = _kill_often(place, ["verify", *resume], whole, random, lambda: None, lambda: None, log)
    return Again(kills, begun, _rows_read(place) - before - begun * clean)


def _kill_often(
    place: Place,
    arguments: Sequence[str],
    within: float,
    random: Random,
    check: Callable[[], None],
    again: Callable[[], None],
    log: Console,
) -> tuple[int, int]:
    """Run the command, killed at random moments, until it was killed ten times; then to its end.

    When it comes to its end ``check`` runs, and, unless there were ten kills by then, ``again``. How many kills there
    were, and how many times it came to its end. ``within``: seconds from its first statement in which it is killed.
    """
    kills, ends = 0, 0
    while True:
        after = random.random() * within if kills < KILLS else None
        killed = _run(place, arguments, after)
        if killed:
            kills += 1
            log.print(f"  {arguments[0]} killed after {after:.2f} s ({kills}/{KILLS})", highlight=False)
            continue
        ends += 1
        check()
        if kills >= KILLS:
            return kills, ends
        again()


def _run(place: Place, arguments: Sequence[str], after: float | None) -> bool:
    """Run the command, and kill it that many seconds into its work unless it has ended; whether it was.

    Returns when the server, too, has let go of it.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *arguments, "--json"],
        env=place.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if after is not None:
                _await(place, lambda sessions: sessions > 0 or process.poll() is not None)
            _, said = process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            _await_gone(place)
            return True
    if process.returncode:
        raise CrossfadeError(f"crossfade {arguments[0]} ended with {process.returncode}: {said.strip()[-500:]}")
    _await_gone(place)
    return False


def _await_gone(place: Place) -> None:
    """Wait until none of the command's sessions is left; their counters are final then."""
    _await(place, lambda sessions: sessions == 0)


def _await(place: Place, enough: Callable[[int], bool]) -> None:
    end = time.monotonic() + GONE_SECONDS
    names = [conninfo_to_dict(url)["dbname"] for url in (place.legacy, place.new)]
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = ANY(%s) AND application_name LIKE 'crossfade%%'"
    with psycopg.connect(place.admin, autocommit=True) as connection:
        while not enough(_only(connection.execute(query, [names]).fetchone())):
            if time.monotonic() > end:
                raise CrossfadeError(f"the command's sessions neither came nor went within {GONE_SECONDS:.0f} s")
            Event().wait(_POLL)


def _rows_read(place: Place) -> int:
    """Rows that scans of both stores' prompts have read so far."""
    _await_gone(place)
    tenants = [table(slug, "prompt").as_string(None) for slug in place.volume.slugs]
    return _counted(place.legacy, tenants, "seq_tup_read") + _counted(place.new, ["public.prompts"], "seq_tup_read")


def _counted(url: str, tables: Sequence[str], counter: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        statement = sql.SQL(
            "SELECT coalesce(sum({}), 0)::bigint FROM pg_stat_user_tables WHERE relid = ANY(%s::regclass[])"
        )
        return _only(connection.execute(statement.format(sql.Identifier(counter)), [list(tables)]).fetchone())


def _rows_in_hand(place: Place) -> int:
    """Rows of the segments that verify's workers read at one moment, on both sides, at most."""
    settings = VerifySettings()
    with psycopg.connect(place.new, autocommit=True) as connection:
        size = _only(connection.execute("SELECT pg_relation_size('public.prompts')").fetchone())
    segment = settings.segment_mb * 1_000_000 / (size / place.volume.prompts)
    # Legacy's rows are smaller, so more of them are in a segment; not by more than half.
    return min(place.volume.prompts * 2, round(segment * settings.workers * 2.5))


def _only(row: tuple[Any, ...] | None) -> int:
    assert row is not None
    number: int = row[0]
    return number
