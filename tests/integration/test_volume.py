"""The generator behind the benchmarks of volume, at a size that takes no time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_postgres import Server, engine_for
from fix_stores import Migration
from rich.console import Console

from benchmarks.volume import growth, odd
from benchmarks.volume.comparing import SLOWER, VERIFY
from benchmarks.volume.copying import BACKFILL, PIPE, PIPE_DEFERRED
from benchmarks.volume.legacy import Volume, disk_needed, fill, table
from benchmarks.volume.place import require_room
from harness.errors import Refused
from harness.records import Verdict
from harness.routing import Store

VOLUME = Volume(rows=1_995, organizations=2, seed=7)
SLUG = VOLUME.slugs[0]


@contextmanager
def filled(server: Server, volume: Volume) -> Iterator[psycopg.Connection[Any]]:
    with (
        server.database("volume") as url,
        engine_for(url, Store.LEGACY) as engine,
    ):
        fill(engine, url, volume)
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection


def rows_of(connection: psycopg.Connection[Any], slug: str, what: str, rest: str = "") -> list[tuple[Any, ...]]:
    name = table(slug, "prompt").as_string(connection)
    return connection.execute(f"SELECT {what} FROM {name} {rest}".encode()).fetchall()


def test_it_makes_what_it_promises(server: Server) -> None:
    """One enabled and one disabled prompt for each project and type, rounded up to whole projects; about 400 bytes."""
    assert (VOLUME.projects, VOLUME.prompts) == (100, 2_000)
    with filled(server, VOLUME) as connection:
        for slug in VOLUME.slugs:
            [(rows, projects, lowest, highest)] = rows_of(
                connection, slug, "count(*), count(DISTINCT project_id), min(id), max(id)"
            )
            assert (rows, projects, lowest, highest) == (1_000, 100, 1, 1_000)
            each = rows_of(connection, slug, "project_id, genai_type, enabled, count(*)", "GROUP BY 1, 2, 3")
            assert len(each) == 1_000
            assert {row[1] for row in each} == {1, 2, 3, 4, 5}
            assert {row[3] for row in each} == {1}
            [(average, shortest, longest, texts, silent)] = rows_of(
                connection,
                slug,
                "avg(pg_column_size(prompt.*))::int, min(char_length(genai_prompt)), max(char_length(genai_prompt)),"
                " count(DISTINCT genai_prompt), count(*) FILTER (WHERE genai_system_message IS NULL)",
            )
            assert 350 <= average <= 450
            assert longest > 1.5 * shortest
            assert texts == 1_000
            assert 150 <= silent <= 350


def test_the_same_seed_makes_the_same_rows_and_another_seed_others(server: Server) -> None:
    """All columns follow from seed and number."""
    made = []
    for seed in (7, 7, 8):
        with filled(server, Volume(200, seed=seed)) as connection:
            made.append([rows_of(connection, slug, "prompt::text", "ORDER BY id") for slug in VOLUME.slugs])
    assert made[0] == made[1]
    assert all(one != other for one, other in zip(made[0], made[2], strict=True))


def test_dispatchs_own_rules_hold_afterwards(server: Server) -> None:
    """Keys are back when it is done: a second enabled prompt is refused, and the next id follows the last."""
    with filled(server, Volume(200)) as connection:
        name = table(SLUG, "prompt").as_string(connection)
        insert = (
            f"INSERT INTO {name} (genai_type, genai_prompt, enabled, project_id) VALUES (%s, 'x', true, 1) RETURNING id"
        )
        assert connection.execute(insert.encode(), [99]).fetchone() == (101,)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert.encode(), [1])
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute(f"UPDATE {name} SET project_id = 12345".encode())


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """How much is needed is said, with what is free."""
    said = StringIO()
    with pytest.raises(Refused, match="GB free"):
        require_room(Volume(10**12), tmp_path, Console(file=said))
    assert "1,000,000,000,000 prompts need about" in said.getvalue()


@pytest.mark.slow
def test_the_whole_benchmark_runs() -> None:
    """Every way that is measured does its work, finds just what differs, and peers that are not here are left out."""
    tables = growth.measure([2_000, 3_000], 1, Console(file=StringIO()))
    names = [{row.name for row in figures.rows} for figures in tables]
    assert names[0] >= {PIPE, BACKFILL, PIPE_DEFERRED}
    assert names[1] >= {SLOWER, VERIFY}
    assert names[2] == {PIPE, BACKFILL}
    assert names[4] == {f"{name}, {size}" for name in (PIPE, BACKFILL, VERIFY) for size in ("2,000", "3,000")}
    assert all(row.microseconds > 0 for figures in tables for row in figures.rows)


def test_no_rows_at_all(server: Server) -> None:
    """A volume of nothing is a Dispatch database without prompts, and wants no disk."""
    with filled(server, Volume(0)) as connection:
        assert rows_of(connection, SLUG, "count(*)") == [(0,)]
    assert disk_needed(0) == 0


def test_a_migration_of_the_oddest_rows_accounts_for_each(migration: Migration) -> None:
    """Huge texts, a crowded project, holes of a billion and endless stamps are copied, or quarantined by reason."""
    with psycopg.connect(migration.app.settings.legacy.url, autocommit=True) as connection:
        carried = odd.huge_texts(connection, "acme", megabytes=1)
        carried += odd.crowd(connection, "acme", 300)
        carried += odd.holes(connection, "acme", rows=3)
        long = odd.huge_texts(connection, "acme", megabytes=1, column="genai_prompt")
        stamped = odd.far_stamps(connection, "acme")
        [(size,)] = connection.execute(
            b"SELECT max(octet_length(genai_system_message)) FROM dispatch_organization_acme.prompt"
        ).fetchall()
    assert size >= 1_000_000
    assert [number for number in carried if number > 999_999] == [
        *range(1_000_000_000, 1_000_000_003),
        *range(2_000_000_000, 2_000_000_003),
    ]
    assert len(carried) == 1 + 300 + 6
    migration.prepare()
    done = migration.backfill()
    # Only the pair of two NULLs can be carried; a NULL takes the other stamp.
    assert done["copied"] == len(carried) + 1
    reasons = dict(migration.new_sql("SELECT reason, count(*) FROM crossfade.quarantine GROUP BY reason"))
    assert reasons == {"content_too_long": len(long), "stamp_out_of_range": len(stamped) - 1}
    assert migration.verify().verdict is Verdict.PASS


def test_a_crowded_scope_of_news_own(migration: Migration) -> None:
    """New may hold any number of disabled prompts of one scope."""
    migration.prepare()
    with psycopg.connect(migration.app.settings.new.url) as connection:
        connection.execute("SET LOCAL crossfade.applying = 'on'")
        odd.crowded_scope(connection, "acme/project-1/incident-summary", 500)
    [(rows, scopes)] = migration.new_sql("SELECT count(*), count(DISTINCT project_id) FROM prompts WHERE NOT enabled")
    assert (rows, scopes) == (500, 1)
