"""Backfill copies every row once, accounts for each, and goes on after any crash."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from command import crossfade, document
from copying import TABLE, assert_equal, chunks, copied_ranges, fill, held_up, hold_up, is_copying, waits
from fix_postgres import Databases, until
from fix_stores import Migration, create_tenants, migration_between
from sqlalchemy import text

from adapters.prompts.dispatch_rows import legacy_id
from adapters.prompts.migration import opened
from harness.backfill import Copied
from harness.catchup import follow
from harness.cli.backfill import backfill_stores
from harness.errors import CommandLocked, Refused
from harness.settings import MigrationSettings


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


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("point", ["backfill.before_commit@3", "backfill.after_commit@3"])
def test_killed_in_the_middle_it_goes_on(migration: Migration, point: str, workers: int) -> None:
    """kill -9 around a chunk's commit, then the same command: each row once, repeated one chunk per worker at most."""
    fill(migration, rows=300)
    migration.prepare()
    settings = migration.app.settings
    name, _, nth = point.partition("@")
    arguments = ("backfill", "--chunk-rows", "40", "--workers", str(workers))
    killed = crossfade(settings, *arguments, CROSSFADE_FAILPOINTS=f"{name}=kill@{nth}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    until(lambda: not is_copying(migration))  # a commit that had been sent may still be on its way
    ranges = copied_ranges(migration)
    begun = 3 + (workers - 1)  # the chunk at the point, those before it, and what the other workers have under way
    assert begun - 1 - workers <= len(ranges) <= begun
    migration.sql(f"DELETE FROM {TABLE} WHERE id % 5 = 0")  # some copied already, some not yet
    migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'changed after the crash' WHERE id % 7 = 0")
    done = crossfade(settings, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert document(done)["already_there"] == 0  # a chunk and its checkpoint are durable together, or neither is
    assert_equal(migration)


def test_rows_that_change_hands_during_the_copy_are_left_to_catchup(migration: Migration) -> None:
    """The enabled prompt of a scope changes between two chunks: the later row is noted, not forced in, and arrives."""
    a = migration.prompt(enabled=True)
    b = migration.prompt(enabled=False)
    migration.prepare()
    first, second = chunks(migration, "acme", rows=1)
    assert migration.stores.copier.copy(first) == Copied(copied=1)
    migration.sql(f"UPDATE {TABLE} SET enabled = (id = :b) WHERE id IN (:a, :b)", a=a, b=b)
    assert migration.stores.copier.copy(second) == Copied(deferred=1)
    migration.backfill()
    assert_equal(migration)


def test_chunks_that_want_each_others_scopes(migration: Migration) -> None:
    """Two chunks under way raise the flags of the same two scopes, crosswise: a deadlock, and both are copied."""
    for number, (genai_type, enabled) in enumerate(((1, True), (2, True), (2, False), (1, False))):
        content = "second" if number % 2 else "first"
        migration.prompt(genai_type=genai_type, enabled=enabled, genai_prompt=content)
    migration.prepare()
    first, second = chunks(migration, "acme", rows=2)
    hold_up(migration, "prompts", "BEFORE INSERT", "NEW.content = 'second'")
    with ThreadPoolExecutor(2) as pool:
        with held_up(migration):
            copies = [pool.submit(migration.stores.copier.copy, first)]
            until(lambda: waits(migration) == 1)
            migration.sql(f"UPDATE {TABLE} SET enabled = NOT enabled")
            copies.append(pool.submit(migration.stores.copier.copy, second))
            until(lambda: waits(migration) == 2)
        found = [copy.result() for copy in copies]
    # Whichever gave way began anew: the first read other flags then, the second found the first one's rows.
    assert found[0] == Copied(copied=2)
    assert found[1] in (Copied(copied=2), Copied(deferred=2))
    migration.backfill()
    assert_equal(migration)


def test_copy_and_catchup_together_bring_nothing_back(migration: Migration) -> None:
    """Deletes, updates and swaps during a copy by three workers, with catch-up at work: no zombie, nothing stale."""
    fill(migration, rows=400)
    migration.prepare()
    stop, copied = threading.Event(), threading.Event()
    carrier = migration.stores.new_carrier()
    worker = threading.Thread(target=follow, args=(carrier,), kwargs={"stop": stop, "pause": 0.001})

    def write() -> None:
        n = 0
        while not copied.is_set() or n < 20:
            n += 1
            migration.sql(f"DELETE FROM {TABLE} WHERE id % 20 = :n", n=n % 20)
            migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'round ' || :n WHERE id % 11 = :k", n=str(n), k=n % 11)
            migration.sql(f"UPDATE {TABLE} SET enabled = NOT enabled WHERE id % 13 = :k", k=n % 13)
            migration.sql(
                f"INSERT INTO {TABLE} (id, genai_type, genai_prompt, enabled, project_id)"
                " VALUES (1 + 3 * :n, 5000 + :n, 'born late', true, 1)",
                n=n,
            )

    writer = threading.Thread(target=write)
    worker.start()
    writer.start()
    try:
        assert backfill_stores(migration.app, migration.stores, 20, workers=3)["finished"]
    finally:
        copied.set()
        writer.join()
        stop.set()
        worker.join()
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
