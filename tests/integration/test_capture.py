"""Capture notes every change, whoever makes it, and nobody's writes suffer for it."""

from __future__ import annotations

import pytest
from fix_postgres import Databases
from fix_stores import Migration, create_tenants, migration_between
from sqlalchemy import text

from adapters.postgres.guard import attach_guard, is_guarded
from adapters.prompts.dispatch_rows import legacy_id
from harness.routing import Store
from harness.settings import MigrationSettings

TABLE = "dispatch_organization_acme.prompt"


def forget(migration: Migration) -> None:
    migration.sql("DELETE FROM crossfade.dirty")


def test_each_kind_of_write_is_noted(prepared_migration: Migration) -> None:
    """Insert, update and delete by plain SQL each leave a note of scope and row; the last one names the key, too."""
    number = prepared_migration.prompt(project=3, genai_type=4)
    scope = "acme/project-3/conversation-summary"
    assert prepared_migration.notes() == [("acme", scope, None, str(number))]
    prepared_migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'x'")
    prepared_migration.sql(f"DELETE FROM {TABLE}")
    *_, updated, deleted = prepared_migration.notes()
    assert updated == ("acme", scope, None, str(number))
    assert deleted == ("acme", scope, str(legacy_id("acme", number)), str(number))


def test_scope_change_notes_both_scopes(prepared_migration: Migration) -> None:
    """A row that moves to another scope is noted in the one it leaves and the one it enters, each time by its key."""
    number = prepared_migration.prompt(project=1, genai_type=1)
    forget(prepared_migration)
    prepared_migration.sql(f"UPDATE {TABLE} SET project_id = 2, genai_type = 99")
    scopes = ("acme/project-1/tag-recommendation", "acme/project-2/type-99")
    key = str(legacy_id("acme", number))
    assert set(prepared_migration.notes()) == {("acme", scope, key, str(number)) for scope in scopes}


def test_cascade_is_noted(prepared_migration: Migration) -> None:
    """Prompts that go with their project are noted, though no statement ever named them."""
    for number in (1, 2, 3):
        prepared_migration.prompt(project=5, genai_type=number)
    forget(prepared_migration)
    prepared_migration.sql("DELETE FROM dispatch_organization_acme.project WHERE id = 5")
    assert len(prepared_migration.notes()) == 3


def test_only_the_owners_going_is_a_cascade(prepared_migration: Migration) -> None:
    """A note says whether the record went because its project did; a delete by name, an update, a move do not."""
    prepared_migration.prompt(project=5, genai_type=1)
    prepared_migration.prompt(project=5, genai_type=2)
    prepared_migration.prompt(project=None, genai_type=3)
    forget(prepared_migration)
    prepared_migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'x'")
    prepared_migration.sql(f"DELETE FROM {TABLE} WHERE genai_type <> 2")
    assert prepared_migration.sql("SELECT DISTINCT cascade FROM crossfade.dirty") == [(False,)]
    forget(prepared_migration)
    prepared_migration.sql("DELETE FROM dispatch_organization_acme.project WHERE id = 5")
    assert prepared_migration.sql("SELECT key, cascade FROM crossfade.dirty") == [(str(legacy_id("acme", 2)), True)]


def test_new_is_captured_too(prepared_migration: Migration) -> None:
    """Writes to prompts are noted in new, each record under its key; carried ones are not."""
    insert = (
        "INSERT INTO prompts (name, content, type, project_id, organization_id, enabled)"
        " VALUES ('own', 'x', 'custom', :scope, 'acme', :enabled)"
    )
    scope, other = "acme/project-1/incident-summary", "acme/project-2/incident-summary"
    prepared_migration.behind(insert, scope=other, enabled=True)
    assert prepared_migration.new_sql("SELECT * FROM crossfade.dirty") == []
    prepared_migration.route(100)
    [made] = prepared_migration.new_sql(insert + " RETURNING id::text", scope=scope, enabled=True)
    noted = "SELECT part, scope, key, local, cascade FROM crossfade.dirty ORDER BY key"
    assert [tuple(row) for row in prepared_migration.new_sql(noted)] == [("", scope, made[0], made[0], False)]
    prepared_migration.new_sql("DELETE FROM crossfade.dirty")
    prepared_migration.new_sql(
        "UPDATE prompts SET project_id = 'acme/project-3/type-99' WHERE project_id = :s", s=scope
    )
    scopes = {row[1] for row in prepared_migration.new_sql(noted)}
    assert scopes == {scope, "acme/project-3/type-99"}
    prepared_migration.new_sql("DELETE FROM crossfade.dirty")
    prepared_migration.new_sql("TRUNCATE prompts")
    assert [tuple(row) for row in prepared_migration.new_sql(noted)] == [("", None, None, None, False)]


def test_truncate_is_noted_for_the_part(prepared_migration: Migration) -> None:
    """TRUNCATE leaves one note that stands for the whole part."""
    prepared_migration.prompt()
    forget(prepared_migration)
    prepared_migration.sql(f"TRUNCATE {TABLE}")
    assert prepared_migration.notes() == [("acme", None, None, None)]


def test_rolled_back_write_leaves_no_note(prepared_migration: Migration) -> None:
    """Note and write are one transaction: neither stays without the other."""
    with prepared_migration.stores.legacy.connect() as connection:
        connection.execute(text(f"INSERT INTO {TABLE} (genai_type, genai_prompt, enabled) VALUES (1, 'x', true)"))
        connection.rollback()
    assert prepared_migration.notes() == []


def test_carried_writes_are_not_noted(prepared_migration: Migration) -> None:
    """A session that carries state over leaves no note, so nothing echoes."""
    with prepared_migration.stores.legacy.begin() as connection:
        connection.execute(text("SELECT set_config('crossfade.applying', 'on', true)"))
        connection.execute(text(f"INSERT INTO {TABLE} (genai_type, genai_prompt, enabled) VALUES (1, 'x', true)"))
    assert prepared_migration.notes() == []


def test_role_with_rights_on_the_table_alone_writes_as_before(prepared_migration: Migration) -> None:
    """Dispatch's own database role needs no grant on anything of ours."""
    prepared_migration.prompt()
    forget(prepared_migration)
    with prepared_migration.stores.legacy.begin() as connection:
        connection.execute(text("CREATE ROLE crossfade_plain_writer NOLOGIN"))
        try:
            connection.execute(text("GRANT USAGE ON SCHEMA dispatch_organization_acme TO crossfade_plain_writer"))
            connection.execute(text(f"GRANT SELECT, UPDATE ON {TABLE} TO crossfade_plain_writer"))
            connection.execute(text("SET LOCAL ROLE crossfade_plain_writer"))
            connection.execute(text(f"UPDATE {TABLE} SET genai_prompt = 'by a plain role'"))
            connection.execute(text("RESET ROLE"))
            assert connection.execute(text("SELECT count(*) FROM crossfade.dirty")).scalar_one() == 1
        finally:
            connection.rollback()


def test_note_names_the_sidecars_id(prepared_migration: Migration) -> None:
    """A row that the sidecar names and that goes is noted under that name, and the sidecar's entry goes with it."""
    number = prepared_migration.prompt()
    own = "5b0f5d2e-8c1f-4ad0-9d6a-0d8a9b1c2d3e"
    prepared_migration.sql(
        "INSERT INTO crossfade.sidecar (organization, legacy_id, id) VALUES ('acme', :n, :id)", n=number, id=own
    )
    forget(prepared_migration)
    prepared_migration.sql(f"UPDATE {TABLE} SET enabled = true")
    prepared_migration.sql(f"DELETE FROM {TABLE}")
    assert [key for _, _, key, _ in prepared_migration.notes()] == [None, own]
    assert prepared_migration.sql("SELECT * FROM crossfade.sidecar") == []


def test_attaching_again_changes_nothing(prepared_migration: Migration) -> None:
    """Prepare may be run again: capture that is in place is left alone, and works once, not twice."""
    part = prepared_migration.stores.mapping.parts[0]
    assert is_guarded(prepared_migration.stores.legacy, Store.LEGACY, part)
    assert attach_guard(prepared_migration.stores.legacy, Store.LEGACY, part) is False
    prepared_migration.prepare()
    prepared_migration.prompt()
    assert len(prepared_migration.notes()) == 1


def test_policy_project_notes_whole_scopes(databases: Databases) -> None:
    """Where one row decides over its siblings' fate, a row's note stands for its scope: no second note is written."""
    with migration_between(databases, migration=MigrationSettings(scope_policy="project")) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        migration.prepare()
        migration.prompt(project=2, genai_type=1)
        migration.prompt(project=2, genai_type=2)
        lonely = migration.prompt(project=None, genai_type=1)
        forget(migration)
        migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'all at once'")
        notes = migration.notes()
    assert set(notes) == {
        ("acme", "acme/project-2", None, "1"),
        ("acme", "acme/project-2", None, "2"),
        ("acme", None, None, str(lonely)),
    }


@pytest.mark.parametrize("slug", ["o'brien", "percent%s", 'quo"te', "x" * 60])
def test_odd_slugs_are_captured(databases: Databases, slug: str) -> None:
    """A tenant whose name needs quoting, or is cut by the server, is captured like any other."""
    with migration_between(databases) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection, (slug,))
        migration.prepare()
        assert migration.stores.uncaptured_tenants() == []
        table = migration.stores.mapping.parts[0].table
        with migration.stores.legacy.begin() as connection:
            connection.execute(table.insert().values(genai_type=1, genai_prompt="x", enabled=True, project_id=1))
            connection.execute(table.delete())
        written, deleted = migration.notes()
    scope = f"{slug}/project-1/tag-recommendation"
    assert written == (slug, scope, None, "1")
    assert deleted == (slug, scope, str(legacy_id(slug, 1)), "1")
