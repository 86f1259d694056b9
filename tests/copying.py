"""What tests of the copy share: rows to copy, chunks of them, and ways to hold a chunk up in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fix_stores import Migration
from sqlalchemy import text

from harness.backfill import Chunk
from harness.records import Verdict

HELD_UP = 4242  # an advisory lock
TABLE = "dispatch_organization_acme.prompt"


def fill(migration: Migration, tenant: str = "acme", rows: int = 500) -> None:
    """Rows with holes between their ids, each in a scope of its own; of ten, one too long, one empty, one scopeless."""
    migration.sql(
        f"INSERT INTO dispatch_organization_{tenant}.prompt"
        " (id, genai_type, genai_prompt, enabled, created_at, updated_at, project_id)"
        " SELECT n * 3, 1000 + n, CASE n % 10 WHEN 1 THEN repeat('w', 10001) WHEN 2 THEN '' ELSE 'text ' || n END,"
        " n % 2 = 0, timestamp '2024-05-05 10:00' + n * interval '1 minute', NULL,"
        " CASE n % 10 WHEN 3 THEN NULL ELSE 1 + n % 6 END FROM generate_series(1, :rows) n",
        rows=rows,
    )


def chunks(migration: Migration, part: str, rows: int) -> list[Chunk]:
    """The chunks of a part, as a backfill that begins now would plan them."""
    migration.stores.chunk_plan.parts()
    return list(migration.stores.chunk_plan.chunks(part, lambda: rows))


def copied_ranges(migration: Migration) -> list[tuple[int, int]]:
    return [(row[0], row[1]) for row in migration.new_sql("SELECT low, high FROM crossfade.chunk ORDER BY low")]


def is_copying(migration: Migration) -> bool:
    """Whether a command that is gone has left a transaction in new."""
    [row] = migration.new_sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'crossfade%' AND application_name <> 'crossfade-test'"
    )
    return bool(row[0])


def waits(migration: Migration) -> int:
    """How many sessions wait for a lock in new."""
    [row] = migration.new_sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return int(row[0])


def hold_up(migration: Migration, table: str, occasion: str, when: str = "true") -> None:
    """From now on whoever writes such a row to the table waits there while ``held_up``."""
    migration.new_sql(
        "CREATE FUNCTION held_up() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN PERFORM pg_advisory_xact_lock_shared({HELD_UP}); RETURN NEW; END'"
    )
    migration.new_sql(
        f"CREATE TRIGGER held_up {occasion} ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION held_up()"
    )


@contextmanager
def held_up(migration: Migration) -> Iterator[None]:
    with migration.stores.new.begin() as holder:
        holder.execute(text(f"SELECT pg_advisory_xact_lock({HELD_UP})"))
        yield


def assert_equal(migration: Migration) -> None:
    assert migration.drain() == 0
    found = migration.verify()
    assert (found.verdict, found.missing, found.extra, found.different, found.unaccounted) == (Verdict.PASS, 0, 0, 0, 0)
