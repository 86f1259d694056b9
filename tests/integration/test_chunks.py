"""Chunks: how they are cut, what one does when it is repeated, held up, refused or broken off."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from command import crossfade, document, environment
from copying import TABLE, assert_equal, chunks, copied_ranges, fill, held_up, hold_up, waits
from fix_postgres import until
from fix_stores import Migration
from sqlalchemy import event

from adapters.executors.local import threads
from harness.backfill import Chunk, Copied
from harness.cli.backfill import backfill_stores
from harness.errors import ConfigError, InvalidRecord, Refused, StoreTimeout
from harness.phases import Phase


def insert(migration: Migration, ids: str, **more: str) -> None:
    """Rows with these ids, a query's text, each in a scope of its own."""
    columns = {"id": "id", "genai_type": "id", "genai_prompt": "'text'", "enabled": "true", "project_id": "1"} | more
    migration.sql(
        f"INSERT INTO {TABLE} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM ({ids}) n (id)"
    )


def rows_of(migration: Migration, chunk: Chunk) -> int:
    [row] = migration.sql(f"SELECT count(*) FROM {TABLE} WHERE id BETWEEN :a AND :b", a=chunk.low, b=chunk.high)
    return int(row[0])


@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize(
    "ids",
    [
        "SELECT generate_series(1, 100)",
        "SELECT generate_series(1, 40) UNION SELECT generate_series(1000000001, 1000000060)",
        "SELECT generate_series(-2147483648, -2147483640) UNION SELECT generate_series(2147483600, 2147483647)",
        "SELECT n * 1000 FROM generate_series(1, 100) n",
        "SELECT n * n * n FROM generate_series(1, 100) n",
        "SELECT 7",
    ],
    ids=["dense", "a hole of a billion", "both ends", "every thousandth", "thinner and thinner", "a single row"],
)
def test_every_key_is_in_one_chunk(migration: Migration, ids: str, analyzed: bool) -> None:
    """However the keys lie: each in one chunk, none has more rows than it may, nor are there many more of them."""
    insert(migration, ids)
    if analyzed:
        with migration.stores.legacy.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM ANALYZE {TABLE}")
    migration.prepare()
    total = migration.sql(f"SELECT count(*) FROM {TABLE}")[0][0]
    found = chunks(migration, "acme", rows=10)
    assert all(low.high < high.low for low, high in pairwise(found))
    sizes = [rows_of(migration, chunk) for chunk in found]
    assert (sum(sizes), max(sizes) <= 10, min(sizes) > 0) == (total, True, True)
    assert len(found) <= 2 * -(-total // 10) + 1
    assert backfill_stores(migration.app, migration.stores, 10, workers=3)["copied"] == total
    assert_equal(migration)


def test_planning_does_not_read_the_table(migration: Migration) -> None:
    """Where keys lie close together, a chunk costs two looks into the index, whatever its size."""
    insert(migration, "SELECT generate_series(1, 20000)")
    with migration.stores.legacy.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"VACUUM ANALYZE {TABLE}")
    migration.prepare()
    asked: list[str] = []
    event.listen(migration.stores.legacy, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert len(chunks(migration, "acme", rows=1000)) == 20
    looks = [statement for statement in asked if "min(" in statement]
    assert len(looks) <= 22
    assert not any("count(" in statement or "LIMIT" in statement or "OFFSET" in statement for statement in asked)


def test_a_table_without_rows(migration: Migration) -> None:
    """Nothing to copy is copied: finished, and so it is the second time."""
    migration.prepare()
    for _ in range(2):
        done = migration.backfill()
        assert (done["copied"], done["finished"]) == (0, True)
        assert migration.stores.phase is Phase.BACKFILLED
    assert migration.stores.uncopied_tenants() == []


def test_rows_that_all_do_not_fit(migration: Migration) -> None:
    """A scope of which no row can be carried is quarantined as a whole, its texts unread."""
    insert(migration, "SELECT generate_series(1, 300)", genai_prompt="repeat('w', 10001)")
    migration.prepare()
    done = migration.backfill(chunk_rows=100)
    assert (done["copied"], done["quarantined"]) == (0, 300)
    assert_equal(migration)


def test_stamps_without_end(migration: Migration) -> None:
    """Infinite stamps, in whole columns, are quarantined and not an error."""
    insert(migration, "SELECT generate_series(1, 20)", created_at="'infinity'", updated_at="'-infinity'")
    migration.prepare()
    assert migration.backfill()["quarantined"] == 20
    assert_equal(migration)


def test_a_chunk_repeated_is_not_copied_again(migration: Migration) -> None:
    """A chunk that was copied, and is asked for again, says what it brought the first time, and writes nothing."""
    fill(migration, rows=20)
    migration.prepare()
    [chunk] = chunks(migration, "acme", rows=100)
    first = migration.stores.copier.copy(chunk)
    migration.behind("DELETE FROM prompts")
    assert migration.stores.copier.copy(chunk) == first == Copied(copied=14, quarantined=6)
    assert migration.new_sql("SELECT count(*) FROM prompts")[0][0] == 0


def test_a_chunk_under_way_twice_is_copied_once(migration: Migration) -> None:
    """Whoever repeats a chunk that is under way elsewhere waits for its end, and says what that brought."""
    fill(migration, rows=20)
    migration.prepare()
    [chunk] = chunks(migration, "acme", rows=100)
    hold_up(migration, "crossfade.chunk", "BEFORE UPDATE")
    with ThreadPoolExecutor(2) as pool:
        with held_up(migration):
            copies = [pool.submit(migration.stores.copier.copy, chunk) for _ in range(2)]
            until(lambda: waits(migration) == 2)
        assert {copy.result() for copy in copies} == {Copied(copied=14, quarantined=6)}
    assert migration.new_sql("SELECT count(*) FROM prompts")[0][0] == 14


def test_chunks_of_an_earlier_backfill(migration: Migration) -> None:
    """One under way is waited for and counted; one that comes later is refused: no range is copied by two."""
    insert(migration, "SELECT generate_series(1, 20)")
    migration.prepare()
    under_way, late = chunks(migration, "acme", rows=10)
    hold_up(migration, "crossfade.chunk", "BEFORE UPDATE")
    with ThreadPoolExecutor(2) as pool:
        with held_up(migration):
            copy = pool.submit(migration.stores.copier.copy, under_way)
            until(lambda: waits(migration) == 1)
            planned = pool.submit(chunks, migration, "acme", 100)
            until(lambda: waits(migration) == 2)
        assert copy.result().copied == 10
        [rest] = planned.result()
    assert (rest.low, rest.high) == (late.low, late.high)
    with pytest.raises(Refused, match="another crossfade backfill"):
        migration.stores.copier.copy(late)


def test_rows_that_are_there_already_do_not_stop_the_copy(migration: Migration) -> None:
    """A row that catch-up brought before its chunk came is left as it is; those around it are copied."""
    insert(migration, "SELECT generate_series(1, 30)")
    migration.prepare()
    migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'changed' WHERE id = 15")
    assert migration.drain() == 0
    assert migration.new_sql("SELECT content FROM prompts")[0][0] == "changed"
    done = migration.backfill(chunk_rows=10)
    assert (done["copied"], done["already_there"]) == (29, 1)
    assert_equal(migration)


def test_a_chunk_that_fails(migration: Migration) -> None:
    """The error names part and keys, chunks under way are finished, none follows; mended, the copy goes on."""
    fill(migration, rows=200)
    insert(migration, "SELECT 301", genai_prompt="'poison'")
    migration.prepare()
    migration.behind("ALTER TABLE prompts ADD CONSTRAINT no_poison CHECK (content <> 'poison')")
    with pytest.raises(InvalidRecord, match=r"^acme, keys 3\d\d to 3\d\d: new: the rule no_poison"):
        migration.backfill(chunk_rows=10)
    assert migration.stores.phase is Phase.PREPARED
    assert 0 < len(copied_ranges(migration)) < 21
    failed = crossfade(migration.app.settings, "backfill", "--chunk-rows", "10")
    assert (failed.returncode, "acme, keys" in failed.stderr, "poison'" in failed.stderr) == (1, True, False)
    migration.behind("ALTER TABLE prompts DROP CONSTRAINT no_poison")
    assert migration.backfill(chunk_rows=10)["finished"]
    assert_equal(migration)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop(migration: Migration, number: int) -> None:
    """Ctrl-C ends it after the chunks under way, with 0 and finished: false; the same command goes on from there."""
    fill(migration, rows=200)
    migration.prepare()
    hold_up(migration, "crossfade.chunk", "BEFORE UPDATE")
    with held_up(migration):
        running = _start(migration)
        until(lambda: waits(migration) == 2)
        running.send_signal(number)
    said, log = running.communicate(timeout=60)
    assert (running.returncode, '"finished": false' in said) == (0, True), log
    assert len(copied_ranges(migration)) == 2
    assert document(crossfade(migration.app.settings, "backfill", "--json"))["finished"]
    assert_equal(migration)


def test_interrupted_for_good(migration: Migration) -> None:
    """A second Ctrl-C does not wait for the chunks under way: they are broken off, and nothing of them stays."""
    fill(migration, rows=20)
    migration.prepare()
    copier = migration.stores.copier
    hold_up(migration, "crossfade.chunk", "BEFORE UPDATE")
    with held_up(migration):
        with pytest.raises(KeyboardInterrupt), threads(2, copier.cancel) as pool:  # noqa: PT012 - it is raised in the middle
            copies = [pool.submit(copier.copy, chunk) for chunk in chunks(migration, "acme", rows=10)]
            until(lambda: waits(migration) == 2)
            raise KeyboardInterrupt
        assert [type(copy.exception()) for copy in copies] == [StoreTimeout, StoreTimeout]
    assert copied_ranges(migration) == []
    assert migration.backfill()["finished"]
    assert_equal(migration)


def _start(migration: Migration) -> subprocess.Popen[str]:
    arguments = ("backfill", "--chunk-rows", "10", "--workers", "2", "--json")
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *arguments],
        env=environment(migration.app.settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_more_workers_than_connections(prepared_migration: Migration) -> None:
    """Refused at once, saying which setting to raise, and not by chunks that wait for a connection in vain."""
    with pytest.raises(ConfigError, match="raise that to 21"):
        backfill_stores(prepared_migration.app, prepared_migration.stores, workers=18)


_COPY_AND_TELL = """
import sys
from pathlib import Path
from harness.cli.main import main
try:
    main(["backfill", "--workers", "1", "--chunk-rows", sys.argv[1]])
finally:
    # Not ru_maxrss: that begins at what the process had which started this one.
    [peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(int(peak.split()[1]) // 1024)
"""


def _peak(migration: Migration, chunk_rows: int) -> int:
    """Megabytes of memory that the command has at most while it copies all."""
    done = subprocess.run(
        [sys.executable, "-c", _COPY_AND_TELL, str(chunk_rows)],
        env=environment(migration.app.settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def test_memory_does_not_follow_the_chunk(migration: Migration) -> None:
    """Two hundred megabytes in one chunk want no more memory than their longest row does."""
    insert(migration, "SELECT generate_series(1, 200)", genai_system_message="repeat('m', 1000000)")
    migration.prepare()
    assert _peak(migration, 1000) < 200
    assert_equal(migration)


def test_a_row_of_fifty_megabytes(migration: Migration) -> None:
    """Texts of any length pass, at the cost of a few times their own size; too long a content is not even read."""
    insert(
        migration,
        "SELECT generate_series(1, 3)",
        genai_system_message="repeat('é', CASE id WHEN 2 THEN 26214400 ELSE 1 END)",
        genai_prompt="repeat('w', CASE id WHEN 3 THEN 52428800 ELSE 1 END)",
    )
    migration.prepare()
    assert _peak(migration, 1000) < 400
    [row] = migration.new_sql("SELECT octet_length(system_message) FROM prompts ORDER BY 1 DESC LIMIT 1")
    assert row[0] == 50 * 1024 * 1024
    assert migration.new_sql("SELECT reason FROM crossfade.quarantine")[0][0] == "content_too_long"
    assert_equal(migration)
