"""Catch-up carries state over: idempotent, order-free, many workers at once, and no crash loses a change."""

from __future__ import annotations

import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from command import crossfade
from fix_stores import Migration, create_tenants
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from adapters.postgres.notes import Choice
from adapters.postgres.schema import dirty
from adapters.prompts.dispatch_rows import legacy_id
from adapters.prompts.migration import opened
from harness.catchup import follow
from harness.cli.prepare import prepare_stores
from harness.records import Verdict
from harness.routing import Store

TABLE = "dispatch_organization_acme.prompt"


def assert_equal(migration: Migration) -> None:
    assert migration.drain() == 0
    found = migration.verify()
    assert (found.verdict, found.missing, found.extra, found.different, found.unaccounted) == (Verdict.PASS, 0, 0, 0, 0)


def new_rows(migration: Migration) -> dict[str, tuple[object, ...]]:
    rows = migration.new_sql("SELECT id::text, project_id, enabled, content, updated_at FROM prompts")
    return {row[0]: tuple(row[1:]) for row in rows}


def test_every_kind_of_change_arrives(carried_migration: Migration) -> None:
    """Inserts, updates, deletes and moves between scopes arrive; stamps are legacy's, not the day's."""
    number = carried_migration.prompt(project=1, genai_type=2, enabled=True)
    key = str(legacy_id("acme", number))
    assert_equal(carried_migration)
    [stamps] = carried_migration.new_sql("SELECT created_at::text, updated_at::text FROM prompts")
    assert tuple(stamps) == ("2025-01-01 09:30:00.000001+00", "2025-01-01 09:30:00.000007+00")
    carried_migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'second', project_id = 4")
    assert_equal(carried_migration)
    assert new_rows(carried_migration)[key][0] == "acme/project-4/incident-summary"
    [stamp] = carried_migration.new_sql("SELECT updated_at::text FROM prompts")
    assert stamp[0] == "2025-01-01 09:30:00.000007+00"
    carried_migration.sql(f"DELETE FROM {TABLE}")
    assert_equal(carried_migration)
    assert new_rows(carried_migration) == {}


def test_enabling_one_and_disabling_another_meets_no_rival(carried_migration: Migration) -> None:
    """A swap of enabled and disabled in one legacy transaction is carried over whole."""
    a = carried_migration.prompt(enabled=True)
    b = carried_migration.prompt(enabled=False)
    assert_equal(carried_migration)
    carried_migration.sql(f"UPDATE {TABLE} SET enabled = (id = :b) WHERE id IN (:a, :b)", a=a, b=b)
    assert_equal(carried_migration)
    rows = new_rows(carried_migration)
    assert (rows[str(legacy_id("acme", a))][1], rows[str(legacy_id("acme", b))][1]) == (False, True)


def test_scopes_that_swap_their_prompts_arrive(carried_migration: Migration) -> None:
    """Two enabled prompts that change places between scopes are carried over in one batch."""
    a = carried_migration.prompt(project=1, enabled=True)
    b = carried_migration.prompt(project=2, enabled=True)
    assert_equal(carried_migration)
    carried_migration.sql(f"UPDATE {TABLE} SET project_id = 3 - project_id WHERE id IN (:a, :b)", a=a, b=b)
    assert_equal(carried_migration)


def test_quarantine_is_entered_and_left(carried_migration: Migration) -> None:
    """A row that becomes too long leaves new and is held with its reason; shortened, it comes back."""
    number = carried_migration.prompt()
    assert_equal(carried_migration)
    carried_migration.sql(f"UPDATE {TABLE} SET genai_prompt = repeat('y', 10001)")
    assert_equal(carried_migration)
    held = carried_migration.new_sql("SELECT key, part, local, scope, reason FROM crossfade.quarantine")
    scope = "acme/project-1/incident-summary"
    assert [tuple(row) for row in held] == [
        (str(legacy_id("acme", number)), "acme", str(number), scope, "content_too_long")
    ]
    assert new_rows(carried_migration) == {}
    carried_migration.sql(f"UPDATE {TABLE} SET genai_prompt = repeat('y', 10000)")
    assert_equal(carried_migration)
    assert carried_migration.new_sql("SELECT * FROM crossfade.quarantine") == []
    assert len(new_rows(carried_migration)) == 1


def test_same_local_ids_of_two_tenants_are_told_apart(carried_migration: Migration) -> None:
    """Ids repeat from tenant to tenant; each row is quarantined or carried under its own."""
    carried_migration.prompt("acme", genai_prompt="")
    carried_migration.prompt("umbra", project=None)
    carried_migration.prompt("umbra", project=1)
    assert_equal(carried_migration)
    held = carried_migration.new_sql("SELECT part, local, reason FROM crossfade.quarantine ORDER BY part")
    assert [tuple(row) for row in held] == [("acme", "1", "empty_content"), ("umbra", "1", "no_project")]


def test_truncate_is_carried_over(carried_migration: Migration) -> None:
    """A truncated tenant is empty on the other side too, its quarantine included; other tenants keep their rows."""
    for project in (1, 2, 3):
        carried_migration.prompt(project=project)
    carried_migration.prompt(project=None)
    carried_migration.prompt("umbra")
    assert_equal(carried_migration)
    carried_migration.sql(f"TRUNCATE {TABLE}")
    assert_equal(carried_migration)
    assert len(new_rows(carried_migration)) == 1
    assert carried_migration.new_sql("SELECT * FROM crossfade.quarantine") == []


def test_note_that_commits_late_is_not_lost(carried_migration: Migration) -> None:
    """A transaction that noted first and commits last keeps its note, though higher numbers were settled before."""
    with carried_migration.stores.legacy.connect() as slow:
        slow.execute(
            text(f"INSERT INTO {TABLE} (genai_type, genai_prompt, enabled, project_id) VALUES (1, 'x', true, 1)")
        )
        carried_migration.prompt(project=1, genai_type=1)
        assert carried_migration.drain() == 0
        slow.commit()
    assert len(carried_migration.notes()) == 1
    assert_equal(carried_migration)
    assert len(new_rows(carried_migration)) == 2


def test_refused_scope_holds_up_no_other(carried_migration: Migration) -> None:
    """A scope that new refuses is left dirty with the reason; the others arrive, and it too once the cause is gone."""
    carried_migration.behind(
        "INSERT INTO prompts (name, content, type, project_id, enabled)"
        " VALUES ('squatter', 'x', 'custom', 'acme/project-1/incident-summary', true)"
    )
    carried_migration.prompt(project=1, enabled=True)
    carried_migration.prompt(project=2, enabled=True)
    assert carried_migration.drain() == 1
    [rejected] = carried_migration.new_sql("SELECT scope, error, attempts FROM crossfade.rejection")
    assert rejected[0] == "acme/project-1/incident-summary"
    assert "idx_prompts_project_enabled_unique" in rejected[1]
    assert sum(row[0] == "acme/project-2/incident-summary" for row in new_rows(carried_migration).values()) == 1
    carried_migration.behind("DELETE FROM prompts WHERE name = 'squatter'")
    assert_equal(carried_migration)
    assert carried_migration.new_sql("SELECT * FROM crossfade.rejection") == []


def test_stands_aside_while_a_chunk_is_copied(carried_migration: Migration) -> None:
    """While a backfill chunk is under way nothing is carried over, and nothing is lost by it."""
    carried_migration.prompt()
    with carried_migration.stores.new.begin() as chunk:
        chunk.execute(text("LOCK TABLE crossfade.standing IN SHARE MODE"))
        batch = carried_migration.stores.new_carrier().carry_batch()
    assert batch.aside
    assert len(carried_migration.notes()) == 1
    assert_equal(carried_migration)


def test_later_notes_bring_the_earlier_ones_of_their_scopes_along(carried_migration: Migration) -> None:
    """A worker that begins behind another's batch has the new records and not the deletions before them: refused
    together, they are tried with all that is noted of their scopes, at once and not scope by scope.
    """
    for project in range(1, 7):
        carried_migration.prompt(project=project, enabled=True)
    assert carried_migration.drain() == 0
    carried_migration.sql("DELETE FROM dispatch_organization_acme.prompt")
    [(last,)] = carried_migration.sql("SELECT max(seq) FROM crossfade.dirty")
    for project in range(1, 7):
        carried_migration.prompt(project=project, enabled=True, genai_prompt="again")
    carrier = carried_migration.stores.carrier_from(Store.LEGACY)
    done = carrier.carry_chosen(Choice.of(dirty.c.seq > last, 1000))
    assert (done.notes, done.rejected, done.upserted, done.deleted) == (12, 0, 6, 6)
    assert carried_migration.new_sql("SELECT count(*) FROM prompts WHERE content = 'again'") == [(6,)]


def test_many_workers_and_writers_agree_in_the_end(carried_migration: Migration) -> None:
    """Four writers at random (insert, change, swap, move, delete) and four workers: afterwards all rows are equal."""
    stop, seeds = threading.Event(), range(4)

    def write(seed: int) -> None:
        chance = random.Random(seed)
        for step in range(120):
            with carried_migration.stores.legacy.connect() as connection:
                try:
                    _act(connection, chance, step)
                    connection.commit()
                except DBAPIError as error:
                    # The deferred rule refuses some acts, as Dispatch's users know; and writers may deadlock.
                    if getattr(error.orig, "sqlstate", None) not in {"23505", "40P01"}:
                        raise

    with ThreadPoolExecutor(8) as pool:
        workers = [
            pool.submit(follow, carried_migration.stores.new_carrier(), stop=stop, pause=0.002) for _ in range(4)
        ]
        list(pool.map(write, seeds))
        stop.set()
        carried = sum(worker.result().notes for worker in workers)
    assert carried > 0
    assert_equal(carried_migration)


def _act(connection: object, chance: random.Random, step: int) -> None:
    table = f"dispatch_organization_{chance.choice(['acme', 'umbra'])}.prompt"
    values = {
        "p": chance.randint(1, 3),
        "q": chance.randint(1, 3),
        "t": chance.choice([1, 2, 99]),
        "e": chance.random() < 0.5,
        "c": chance.choice(["", f"content {step}", "z" * 10_001, f"content {step}"]),
    }
    statement = chance.choices(
        [
            f"INSERT INTO {table} (genai_type, genai_prompt, enabled, project_id) VALUES (:t, :c, :e, :p)",
            f"UPDATE {table} SET genai_prompt = :c WHERE project_id = :p",
            f"UPDATE {table} SET enabled = NOT enabled WHERE project_id = :p AND genai_type = :t",
            f"UPDATE {table} SET project_id = CASE project_id WHEN :p THEN :q ELSE :p END WHERE project_id IN (:p, :q)",
            f"DELETE FROM {table} WHERE project_id = :p AND genai_type = :t",
        ],
        [5, 3, 3, 3, 2],
    )[0]
    used = {name: value for name, value in values.items() if f":{name}" in statement}
    connection.execute(text(statement), used)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "point", ["catchup.before_apply", "catchup.before_commit", "catchup.after_commit", "catchup.after_forget"]
)
def test_killed_anywhere_it_goes_on_where_it_was(carried_migration: Migration, point: str) -> None:
    """kill -9 between any two steps of catch-up, then the same command again: nothing lost, nothing twice."""
    for project in (1, 2, 3):
        carried_migration.prompt(project=project, enabled=True)
    carried_migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'changed' WHERE project_id = 2")
    settings = carried_migration.app.settings
    killed = crossfade(settings, "catchup", CROSSFADE_FAILPOINTS=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL
    carried_migration.sql(f"DELETE FROM {TABLE} WHERE project_id = 3")
    done = crossfade(settings, "catchup")
    assert done.returncode == 0, done.stderr
    assert_equal(carried_migration)
    assert len(new_rows(carried_migration)) == 2


def test_tenant_that_appears_later_is_carried_by_workers_at_work(carried_migration: Migration) -> None:
    """A tenant created and prepared during the migration is carried over by workers that began before it."""
    worker = carried_migration.stores.new_carrier()
    assert worker.carry_batch().idle
    with carried_migration.stores.legacy.begin() as connection:
        create_tenants(connection, ("latecomer",))
    with opened(carried_migration.app.settings) as later:
        assert later.uncaptured_tenants() == ["latecomer"]
        prepare_stores(carried_migration.app, later, id_index=True, reason="a tenant appeared")
        assert later.uncaptured_tenants() == []
    carried_migration.prompt("latecomer", project=2)
    assert worker.carry_batch().upserted == 1
    assert [row[0] for row in new_rows(carried_migration).values()] == ["latecomer/project-2/incident-summary"]
