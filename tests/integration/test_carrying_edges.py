"""Carrying over where it is easiest to get wrong: TRUNCATE, records that live on elsewhere, refusals, cut batches."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from fix_postgres import Databases
from fix_stores import Migration, create_tenants, migration_between
from sqlalchemy import text

from adapters.postgres.taking import Applied
from adapters.postgres.trip import Trip
from adapters.prompts.dispatch_rows import legacy_id
from adapters.prompts.dispatch_taking import DispatchTaking
from adapters.prompts.prompt import Prompt, PromptType
from harness.cli.shares import ramp_shares
from harness.errors import CrossfadeError
from harness.records import Verdict
from harness.routing import Store
from harness.settings import CatchupSettings, MigrationSettings

TABLE = "dispatch_organization_acme.prompt"
SQUATTER = (
    "INSERT INTO prompts (name, content, type, project_id, organization_id, enabled)"
    " VALUES ('squatter', 'x', 'custom', :scope, 'acme', true)"
)


def assert_equal(migration: Migration) -> None:
    assert migration.drain() == 0
    found = migration.verify()
    assert (found.verdict, found.missing, found.extra, found.different, found.unaccounted) == (Verdict.PASS, 0, 0, 0, 0)


def prompt(scope: str, **changes: object) -> Prompt:
    now = datetime(2025, 4, 1, tzinfo=UTC)
    made = Prompt(
        id=uuid4(),
        name="Incident Summary",
        content="What happened?",
        type=PromptType.SUMMARIZATION,
        created_at=now,
        updated_at=now,
        project_id=scope,
        organization_id=scope.partition("/")[0],
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def contents(migration: Migration) -> list[str]:
    return sorted(row[0] for row in migration.new_sql("SELECT content FROM prompts"))


def test_truncate_leaves_the_new_systems_own_rows(carried_migration: Migration) -> None:
    """A TRUNCATE in legacy deletes what came from there, and nothing that the new system made for itself."""
    carried_migration.prompt()
    carried_migration.new_sql(
        "INSERT INTO prompts (name, content, type, project_id, organization_id)"
        " VALUES ('own', 'own', 'custom', 'project-123', 'acme')"
    )
    assert_equal(carried_migration)
    carried_migration.sql(f"TRUNCATE {TABLE}")
    assert_equal(carried_migration)
    assert contents(carried_migration) == ["own"]


def test_truncate_takes_quarantine_and_sidecar_along(carried_migration: Migration) -> None:
    """After TRUNCATE no quarantine entry stays, and a row that gets an old number gets nothing of its old identity."""
    carried_migration.stores.legacy_repository.save(
        prompt("acme/project-1/incident-summary", name="An old name", version=7)
    )
    carried_migration.prompt(project=2, genai_prompt="z" * 10_001)
    assert_equal(carried_migration)
    carried_migration.sql(f"TRUNCATE {TABLE} RESTART IDENTITY")
    carried_migration.prompt(project=3)
    assert_equal(carried_migration)
    assert carried_migration.new_sql("SELECT * FROM crossfade.quarantine") == []
    [row] = carried_migration.new_sql("SELECT name, version FROM prompts")
    assert tuple(row) == ("Incident Summary", 1)


def test_truncate_waits_for_batches_under_way(carried_migration: Migration) -> None:
    """A TRUNCATE is settled only when no batch is under way that has read legacy before it."""
    carried_migration.prompt()
    assert_equal(carried_migration)
    carried_migration.sql(f"TRUNCATE {TABLE}")
    with carried_migration.stores.new.begin() as batch:
        batch.execute(text("LOCK TABLE crossfade.standing IN ROW EXCLUSIVE MODE"))
        worker = threading.Thread(target=carried_migration.stores.new_carrier().carry_batch)
        worker.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'crossfade.standing'::regclass"
        while carried_migration.new_sql(waiting)[0][0] == 0:
            assert worker.is_alive()
        assert carried_migration.notes() == [("acme", None, None, None)]
    worker.join()
    assert_equal(carried_migration)


def test_record_that_lives_on_in_another_tenant_is_kept(carried_migration: Migration) -> None:
    """Deleted in one tenant and saved anew in another, with the first note carried last: the record is there."""
    repository = carried_migration.stores.legacy_repository
    made = repository.save(prompt("acme/project-1/incident-summary", enabled=True))
    assert_equal(carried_migration)
    carried_migration.behind("DELETE FROM prompts")
    carried_migration.behind(SQUATTER, scope="acme/project-1/incident-summary")
    repository.update(made)
    assert carried_migration.drain() == 1  # refused: the scope's note stays
    repository.delete(made.id)
    repository.save(replace(made, project_id="umbra/project-1/incident-summary", organization_id="umbra"))
    carried_migration.drain()
    carried_migration.behind("DELETE FROM prompts WHERE name = 'squatter'")
    assert_equal(carried_migration)
    assert carried_migration.stores.new_repository.find_by_id(made.id) is not None


def test_records_whose_ids_begin_alike_are_told_apart(carried_migration: Migration) -> None:
    """Two rows share what legacy's index knows of an id: each is found, carried, taken over and deleted by itself."""
    alike = {2429: 1, 12814: 2}  # numbers and projects
    ids = {number: legacy_id("acme", number) for number in alike}
    assert len({str(each)[:8] for each in ids.values()}) == 1
    for number, project in alike.items():
        carried_migration.prompt(id=number, project=project, genai_prompt=f"text {number}")
    assert_equal(carried_migration)
    legacy = carried_migration.stores.legacy_repository
    for number, each in ids.items():
        found = legacy.find_by_id(each)
        assert found is not None
        assert found.content == f"text {number}"
    carried_migration.route(100)
    carried_migration.new_sql("UPDATE prompts SET content = 'changed' WHERE id = :id", id=ids[2429])
    assert_equal(carried_migration)
    texts = carried_migration.sql(f"SELECT genai_prompt FROM {TABLE} ORDER BY id")
    assert [row[0] for row in texts] == ["changed", "text 12814"]
    carried_migration.new_sql("DELETE FROM prompts WHERE id = :id", id=ids[12814])
    assert_equal(carried_migration)
    assert carried_migration.sql(f"SELECT id FROM {TABLE}") == [(2429,)]
    assert legacy.find_by_id(ids[12814]) is None


def test_policy_project_keeps_the_new_systems_own_rows(databases: Databases) -> None:
    """A change in a project carries its prompts, and takes nothing away that legacy never had; deletes arrive."""
    with migration_between(databases, migration=MigrationSettings(scope_policy="project")) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        migration.prepare()
        migration.backfill()
        migration.prompt(project=1, genai_type=1)
        migration.prompt(project=1, genai_type=2, genai_prompt="z" * 10_001)
        assert migration.drain() == 0
        migration.behind(
            "INSERT INTO prompts (name, content, type, project_id, organization_id)"
            " VALUES ('draft', 'a draft of their own', 'custom', 'acme/project-1', 'acme')"
        )
        migration.sql(f"UPDATE {TABLE} SET enabled = true WHERE genai_type = 1")
        assert migration.drain() == 0
        assert "a draft of their own" in contents(migration)
        migration.sql(f"DELETE FROM {TABLE}")
        assert migration.drain() == 0
        assert contents(migration) == ["a draft of their own"]
        assert migration.new_sql("SELECT * FROM crossfade.quarantine") == []


def test_one_refused_scope_with_many_notes_blocks_no_other(databases: Databases) -> None:
    """More notes of a refused scope than a batch holds: all others arrive, for commands and for the router's nudge."""
    with migration_between(databases, catchup=CatchupSettings(batch_notes=5)) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        migration.prepare()
        migration.backfill()
        migration.behind(SQUATTER, scope="acme/project-1/incident-summary")
        migration.prompt(project=1, enabled=True)
        for _ in range(12):
            migration.sql(f"UPDATE {TABLE} SET genai_prompt = genai_prompt || '.'")
        migration.prompt(project=2, enabled=True, genai_prompt="second")
        assert migration.drain() == 13
        assert contents(migration) == ["second", "x"]
        migration.prompt(project=3, enabled=True, genai_prompt="third")
        scopes = [f"acme/project-{n}/incident-summary" for n in (1, 3)]
        with pytest.raises(CrossfadeError, match="refused 1 scope"):
            migration.stores.new_carrier().carry(scopes, [])
        assert contents(migration) == ["second", "third", "x"]


def test_swap_cut_in_two_by_the_batch_arrives(databases: Databases) -> None:
    """One statement disables A and enables B, the batch ends between their notes: both arrive, nothing is refused."""
    with migration_between(databases, catchup=CatchupSettings(batch_notes=1)) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        migration.prepare()
        migration.backfill()
        migration.prompt(enabled=True, genai_prompt="a")
        migration.prompt(enabled=False, genai_prompt="b")
        assert migration.drain() == 0
        migration.sql(f"UPDATE {TABLE} SET enabled = NOT enabled")
        assert_equal(migration)
        enabled = migration.new_sql("SELECT content FROM prompts WHERE enabled")
        assert [row[0] for row in enabled] == ["b"]


def test_a_record_that_came_from_another_tenant_is_carried_with_its_new_neighbour(databases: Databases) -> None:
    """On the way back a batch of one note reads the whole scope, and finds there what stands elsewhere in legacy."""
    with migration_between(databases, catchup=CatchupSettings(batch_notes=1)) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        migration.prepare()
        migration.backfill()
        migration.verify()
        here, elsewhere = "acme/project-1/incident-summary", "umbra/project-1/incident-summary"
        ramp_shares(migration.app, migration.stores, None, 100, "a test")
        neighbour, wanderer = prompt(here, enabled=True), prompt(elsewhere, enabled=False)
        for each in (neighbour, wanderer):
            migration.stores.new_repository.save(each)
        assert migration.drain() == 0
        entry = "SELECT organization FROM crossfade.sidecar WHERE id = :id"
        assert migration.sql(entry, id=wanderer.id) == [("umbra",)]
        migration.new_sql("UPDATE prompts SET content = 'again' WHERE id = :id", id=neighbour.id)
        migration.new_sql(
            "UPDATE prompts SET project_id = :scope, organization_id = 'acme' WHERE id = :id",
            scope=here,
            id=wanderer.id,
        )
        assert migration.stores.carrier_from(Store.NEW).carry_batch().notes == 1
        assert migration.sql(entry, id=wanderer.id) == [("acme",)]
        assert migration.sql("SELECT count(*) FROM dispatch_organization_umbra.prompt") == [(0,)]
        assert_equal(migration)


def test_refusal_of_a_trigger_is_told_without_its_words(carried_migration: Migration) -> None:
    """A trigger of the new system's own refuses one record: the others arrive, and the row's text is in no message."""
    carried_migration.new_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.content LIKE '%card%' THEN RAISE EXCEPTION 'refused: %', NEW.content; END IF; RETURN NEW; END $$"
    )
    carried_migration.new_sql("CREATE TRIGGER refuse BEFORE INSERT ON prompts FOR EACH ROW EXECUTE FUNCTION refuse()")
    carried_migration.prompt(project=1, genai_prompt="the card 4711")
    carried_migration.prompt(project=2, genai_prompt="harmless")
    assert carried_migration.drain() == 1
    assert contents(carried_migration) == ["harmless"]
    [rejected] = carried_migration.new_sql("SELECT error FROM crossfade.rejection")
    assert "4711" not in rejected[0]


def test_repair_settles_quarantine_that_is_wrong(carried_migration: Migration) -> None:
    """A lost, a stale and a misread quarantine entry each fail the verification, and repair mends them."""
    from harness.cli.repair import carry_out, plan_repair

    carried_migration.prompt(project=1, genai_prompt="")
    carried_migration.prompt(project=2, genai_prompt="z" * 10_001)
    carried_migration.prompt(project=3)
    assert_equal(carried_migration)
    carried_migration.new_sql("DELETE FROM crossfade.quarantine WHERE reason = 'empty_content'")
    carried_migration.new_sql("UPDATE crossfade.quarantine SET scope = 'acme/project-3/incident-summary'")
    carried_migration.new_sql(
        "INSERT INTO crossfade.quarantine (key, part, local, scope, reason)"
        " SELECT id::text, 'acme', '999', project_id, 'empty_content' FROM prompts"
    )
    assert carried_migration.verify().unaccounted == 3
    plan = plan_repair(carried_migration.app, carried_migration.stores)
    assert [each.difference.kind.value for each in plan] == ["misplaced"] * 3
    done = carry_out(carried_migration.app, carried_migration.stores, plan, "a test")
    assert (done["verdict"], done["left"]) == ("pass", 0)
    assert_equal(carried_migration)


@pytest.mark.parametrize(
    "scope", ["acme/project-1/type-2", "acme/project-9999999999/incident-summary", "acme/project-01/incident-summary"]
)
def test_scopes_that_only_look_like_legacys_are_new_only(carried_migration: Migration, scope: str) -> None:
    """A scope that legacy has no place for is the new system's own, however alike it looks."""
    carried_migration.new_sql(
        "INSERT INTO prompts (name, content, type, project_id, organization_id)"
        " VALUES ('own', 'x', 'custom', :s, 'acme')",
        s=scope,
    )
    found = carried_migration.verify()
    assert (found.verdict, found.extra, found.new_only) == (Verdict.PASS, 0, 1)


def test_what_was_written_is_read_though_it_ends_in_quarantine(carried_migration: Migration) -> None:
    """At 100 % of the reads a write that new cannot hold is still read by who made it, before and after it settled."""
    assert carried_migration.verify().verdict is Verdict.PASS
    from harness.cli.shares import ramp_shares

    ramp_shares(carried_migration.app, carried_migration.stores, 100.0, None, "a test")
    with carried_migration.stores.router() as router:
        prompts = router.repository
        made = prompts.save(prompt("acme/project-1/incident-summary", enabled=True))
        assert router.settle(30)
        prompts.update(replace(made, content="z" * 10_001))
        for _ in range(2):
            found = prompts.find_enabled_by_project("acme/project-1/incident-summary")
            assert found is not None
            assert len(found.content) == 10_001
            by_id = prompts.find_by_id(made.id)
            assert by_id is not None
            assert router.settle(30)


def test_scope_that_a_record_left_is_read_without_it(carried_migration: Migration) -> None:
    """While a move to another scope is on its way, the scope that was left no longer shows the record."""
    assert carried_migration.verify().verdict is Verdict.PASS
    from harness.cli.shares import ramp_shares

    ramp_shares(carried_migration.app, carried_migration.stores, 100.0, None, "a test")
    with carried_migration.stores.router() as router:
        prompts = router.repository
        made = prompts.save(prompt("acme/project-1/incident-summary", enabled=True))
        assert router.settle(30)
        with carried_migration.stores.new.begin() as chunk:
            chunk.execute(text("LOCK TABLE crossfade.standing IN SHARE MODE"))  # catch-up stands aside
            prompts.update(replace(made, project_id="acme/project-2/incident-summary"))
            assert prompts.find_enabled_by_project("acme/project-1/incident-summary") is None
            assert prompts.find_enabled_by_project("acme/project-2/incident-summary") is not None
        assert router.settle(30)
        assert prompts.find_enabled_by_project("acme/project-1/incident-summary") is None
    assert_equal(carried_migration)


def test_a_neighbour_that_stands_as_it_should_is_not_written_again(
    carried_migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the way back whole scopes are read; what is written is what was noted."""
    carried_migration.route(100)
    scope = "acme/project-1/incident-summary"
    new = carried_migration.stores.new_repository
    changed, neighbour = new.save(prompt(scope, enabled=True)), new.save(prompt(scope, enabled=False))
    given = list[set[str]]()
    make_equal = DispatchTaking.make_equal

    def seen(self: DispatchTaking, trip: Trip, keys: set[str], *rest: Any) -> Applied:
        given.append(set(keys))
        return make_equal(self, trip, keys, *rest)

    monkeypatch.setattr(DispatchTaking, "make_equal", seen)
    assert carried_migration.drain() == 0
    assert given == [{str(changed.id), str(neighbour.id)}]
    new.update(replace(changed, content="Changed."))
    assert_equal(carried_migration)
    assert given[1:] == [{str(changed.id)}]


def test_a_tenant_that_is_gone_leaves_no_entries(carried_migration: Migration) -> None:
    """What new deletes of a tenant that legacy has dropped meanwhile is forgotten there, too."""
    carried_migration.route(100)
    new = carried_migration.stores.new_repository
    stays, goes = (new.save(prompt(f"{tenant}/project-1/incident-summary")) for tenant in ("acme", "umbra"))
    assert carried_migration.drain() == 0
    entries = "SELECT id FROM crossfade.sidecar ORDER BY organization"
    assert [row[0] for row in carried_migration.sql(entries)] == [stays.id, goes.id]
    carried_migration.sql("DROP SCHEMA dispatch_organization_umbra CASCADE")
    carried_migration.sql("DELETE FROM dispatch_core.organization WHERE slug = 'umbra'")
    carried_migration.new_sql("DELETE FROM prompts WHERE id = :id", id=goes.id)
    assert carried_migration.drain() == 0
    assert [row[0] for row in carried_migration.sql(entries)] == [stays.id]
