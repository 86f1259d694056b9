"""Backfill copies every row once, accounts for each, and goes on after any crash."""

from __future__ import annotations

import signal
import threading

import pytest
from command import crossfade, document
from fix_postgres import Databases
from fix_stores import Migration, create_tenants, migration_between
from sqlalchemy import text

from adapters.prompts.dispatch_rows import legacy_id
from adapters.prompts.migration import opened
from harness.catchup import follow
from harness.cli.backfill import backfill_stores
from harness.config import MigrationSettings
from harness.errors import CommandLocked, Refused
from harness.records import Verdict

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


def assert_equal(migration: Migration) -> None:
    assert migration.drain() == 0
    found = migration.verify()
    assert (found.verdict, found.missing, found.extra, found.different, found.unaccounted) == (Verdict.PASS, 0, 0, 0, 0)


def test_every_row_is_accounted_for(migration: Migration) -> None:
    """What was read is what was copied, plus what is in quarantine with its reason; a second run copies nothing."""
    fill(migration)
    migration.prompt("umbra")
    migration.prepare()
    done = migration.backfill(chunk_rows=64)
    counted = {name: done[name] for name in ("copied", "already_there", "quarantined", "deferred", "finished")}
    assert counted == {"copied": 351, "already_there": 0, "quarantined": 150, "deferred": 0, "finished": True}
    reasons = migration.new_sql("SELECT reason, count(*) FROM crossfade.quarantine GROUP BY reason ORDER BY reason")
    assert [tuple(row) for row in reasons] == [("content_too_long", 50), ("empty_content", 50), ("no_project", 50)]
    assert_equal(migration)
    again = migration.backfill()
    assert (again["copied"], again["already_there"], again["quarantined"]) == (0, 0, 0)


def test_repeated_rows_are_counted_as_there(migration: Migration) -> None:
    """A backfill begun anew finds every row in place and writes none."""
    fill(migration, rows=50)
    migration.prepare()
    migration.backfill()
    migration.new_sql("DELETE FROM crossfade.checkpoint")
    again = migration.backfill(chunk_rows=7)
    assert (again["copied"], again["already_there"], again["quarantined"]) == (0, 35, 15)
    assert_equal(migration)


def test_stamps_and_texts_arrive_unchanged(migration: Migration) -> None:
    """What was stored to the microsecond arrives to the microsecond, and a missing stamp takes the other one."""
    migration.sql(
        f"INSERT INTO {TABLE} (genai_type, genai_prompt, genai_system_message, enabled, created_at, project_id)"
        " VALUES (3, E'tab\\t, quote \\', backslash \\\\, emoji 🚨', '', true, '1999-12-31 23:59:59.999999', 2)"
    )
    migration.prepare()
    migration.backfill()
    [row] = migration.new_sql(
        "SELECT id::text, content, system_message, created_at::text, updated_at::text, name, type FROM prompts"
    )
    stamp = "1999-12-31 23:59:59.999999+00"
    text_ = "tab\t, quote ', backslash \\, emoji 🚨"
    assert tuple(row) == (str(legacy_id("acme", 1)), text_, "", stamp, stamp, "Signal Analysis", "classification")


@pytest.mark.parametrize("point", ["backfill.before_commit@3", "backfill.after_commit@3"])
def test_killed_in_the_middle_it_goes_on(migration: Migration, point: str) -> None:
    """kill -9 around a chunk's commit, then the same command: each row once, the repeated work one chunk at most."""
    fill(migration, rows=300)
    migration.prepare()
    settings = migration.app.settings
    name, _, nth = point.partition("@")
    killed = crossfade(settings, "backfill", "--chunk-rows", "40", CROSSFADE_FAILPOINTS=f"{name}=kill@{nth}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    migration.sql(f"DELETE FROM {TABLE} WHERE id % 5 = 0")  # some copied already, some not yet
    migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'changed after the crash' WHERE id % 7 = 0")
    done = crossfade(settings, "backfill", "--chunk-rows", "40", "--json")
    assert done.returncode == 0, done.stderr
    assert document(done)["already_there"] == 0  # a chunk and its checkpoint are durable together, or neither is
    assert_equal(migration)


def test_rows_that_change_hands_during_the_copy_are_left_to_catchup(migration: Migration) -> None:
    """The enabled prompt of a scope changes between two chunks: the later row is noted, not forced in, and arrives."""
    a = migration.prompt(enabled=True)
    b = migration.prompt(enabled=False)
    migration.prepare()
    copier = migration.stores.copier
    assert copier.copy_next("acme", 1) is not None
    migration.sql(f"UPDATE {TABLE} SET enabled = (id = :b) WHERE id IN (:a, :b)", a=a, b=b)
    chunk = copier.copy_next("acme", 1)
    assert chunk is not None
    assert (chunk.copied, chunk.deferred) == (0, 1)
    migration.backfill()
    assert_equal(migration)


def test_copy_and_catchup_together_bring_nothing_back(migration: Migration) -> None:
    """Deletes and updates during the copy, with catch-up at work all the time: no zombie, nothing stale."""
    fill(migration, rows=400)
    migration.prepare()
    stop = threading.Event()
    worker = threading.Thread(
        target=follow, args=(migration.stores.new_carrier(),), kwargs={"stop": stop, "pause": 0.001}
    )
    worker.start()
    copier, n = migration.stores.copier, 0
    try:
        while copier.copy_next("acme", 20) is not None:
            n += 1
            migration.sql(f"DELETE FROM {TABLE} WHERE id % 20 = :n", n=n % 20)
            migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'round ' || :n WHERE id % 11 = :k", n=str(n), k=n % 11)
    finally:
        stop.set()
        worker.join()
    migration.backfill()
    assert_equal(migration)


def test_two_backfills_do_not_run_at_once(prepared_migration: Migration) -> None:
    """The second one says who holds the lock, and changes nothing."""
    from adapters.postgres.ledger.locks import command_lock

    with command_lock(prepared_migration.stores.new, "backfill"), pytest.raises(CommandLocked):
        prepared_migration.backfill()


def test_unprepared_or_uncaptured_is_refused(migration: Migration) -> None:
    """No copy without capture: a change during it would be lost."""
    with pytest.raises(Refused, match="prepare"):
        migration.backfill()
    migration.prepare()
    with migration.stores.legacy.begin() as connection:
        create_tenants(connection, ("latecomer",))
    with opened(migration.app.settings) as later, pytest.raises(Refused, match="latecomer"):
        backfill_stores(migration.app, later)


@pytest.mark.parametrize(
    ("keep", "kept", "held"), [("newest", "third", 2), ("oldest", "first", 2), ("undecided", None, 3)]
)
def test_policy_project_carries_what_was_decided(databases: Databases, keep: str, kept: str | None, held: int) -> None:
    """Of several enabled prompts of a project the decided one is carried, the others wait in quarantine; live too."""
    with migration_between(databases, migration=MigrationSettings(scope_policy="project", keep=keep)) as migration:  # type: ignore[arg-type]
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        for number, content in enumerate(("first", "second", "third"), 1):
            migration.prompt(genai_type=number, enabled=True, genai_prompt=content, updated_at=f"2025-01-0{number}")
        migration.prompt(genai_type=1, enabled=False, genai_prompt="disabled")
        migration.prepare()
        migration.backfill()
        assert_equal(migration)
        enabled = migration.new_sql("SELECT content FROM prompts WHERE enabled")
        assert [row[0] for row in enabled] == ([kept] if kept else [])
        assert migration.new_sql("SELECT count(*) FROM crossfade.quarantine")[0][0] == held
        migration.sql(f"UPDATE {TABLE} SET enabled = false WHERE genai_prompt IN ('second', 'third')")
        assert_equal(migration)
        assert [row[0] for row in migration.new_sql("SELECT content FROM prompts WHERE enabled")] == ["first"]


def test_late_writers_are_waited_for(migration: Migration) -> None:
    """A transaction that wrote before capture was attached is seen by the copy: attaching waits for its end."""
    slow = migration.stores.legacy.connect()
    slow.execute(text(f"INSERT INTO {TABLE} (genai_type, genai_prompt, enabled, project_id) VALUES (1, 'x', true, 1)"))
    preparing = threading.Thread(target=migration.prepare)
    preparing.start()
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass(:t)"
    while migration.sql(waiting, t=TABLE)[0][0] == 0:
        assert preparing.is_alive()
    slow.commit()
    slow.close()
    preparing.join()
    migration.backfill()
    assert migration.new_sql("SELECT count(*) FROM prompts")[0][0] == 1
    assert_equal(migration)
