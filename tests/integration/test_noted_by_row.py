"""What stays in legacy is noted by its row alone: whoever asks about a record, or carries it, finds the note."""

from __future__ import annotations

from uuid import uuid4

import pytest
from fix_stores import Migration, create_tenants

from adapters.postgres.notes import Note
from adapters.prompts.dispatch_rows import legacy_id
from adapters.prompts.migration import opened
from harness.records import Verdict
from harness.routing import Store

TABLE = "dispatch_organization_acme.prompt"
SCOPE = "acme/project-1/incident-summary"


@pytest.fixture
def two(carried_migration: Migration) -> tuple[Migration, dict[str, str]]:
    """Two rows that are equal in both stores: one has a name of its own in the sidecar. Their keys."""
    own = str(uuid4())
    named = carried_migration.prompt(project=1)
    derived = carried_migration.prompt(project=2)
    entry = "INSERT INTO crossfade.sidecar (organization, legacy_id, id) VALUES ('acme', :number, :id)"
    carried_migration.sql(entry, number=named, id=own)
    assert carried_migration.drain() == 0
    return carried_migration, {"named": own, "derived": str(legacy_id("acme", derived))}


@pytest.mark.parametrize("which", ["named", "derived"])
def test_a_record_is_settled_only_once_its_row_s_note_is(two: tuple[Migration, dict[str, str]], which: str) -> None:
    """Asked by key: a note of its row counts, one of another row does not; carrying by key settles just that one."""
    migration, keys = two
    carrier, project = migration.stores.new_carrier(), {"named": 1, "derived": 2}[which]
    [other] = keys.keys() - {which}
    migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'again' WHERE project_id = :project", project=project)
    assert [note[2] for note in migration.notes()] == [None]
    assert not carrier.is_settled(None, keys[which])
    assert carrier.is_settled(None, keys[other])
    migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'again'")
    carrier.carry((), [keys[which]])
    assert carrier.is_settled(None, keys[which])
    assert not carrier.is_settled(None, keys[other])
    carried = migration.new_sql("SELECT content FROM prompts WHERE id = :id", id=keys[which])
    assert [tuple(row) for row in carried] == [("again",)]


@pytest.mark.parametrize("which", ["named", "derived"])
def test_verify_knows_what_is_under_way(two: tuple[Migration, dict[str, str]], which: str) -> None:
    """A record that differs because its row's change is still on its way is no mismatch; any other is."""
    migration, keys = two
    project = {"named": 1, "derived": 2}[which]
    migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'again' WHERE project_id = :project", project=project)
    assert migration.stores.queue.noted(set(keys.values()), ()) == {keys[which]}
    assert migration.verify().verdict is not Verdict.FAIL
    [other] = keys.keys() - {which}
    migration.behind("UPDATE prompts SET content = 'by a fault' WHERE id = :id", id=keys[other])
    found = migration.verify()
    assert (found.verdict, found.different) == (Verdict.FAIL, 1)


def test_a_row_that_goes_after_its_note_takes_its_record_along(two: tuple[Migration, dict[str, str]]) -> None:
    """The note of the row tells nothing any more; the one of its going names the key, of the sidecar's entry too."""
    migration, keys = two
    migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'again'")
    migration.sql(f"DELETE FROM {TABLE}")
    assert not migration.stores.carrier.is_settled(None, keys["named"])
    assert migration.drain() == 0
    assert migration.new_sql("SELECT id FROM prompts") == []
    assert migration.verify().verdict is Verdict.PASS


def test_a_number_that_is_used_again_is_another_record(two: tuple[Migration, dict[str, str]]) -> None:
    """Deleted with its sidecar's entry, and inserted again under its number: the old record goes, the new one comes."""
    migration, keys = two
    [(number,)] = migration.sql("SELECT legacy_id FROM crossfade.sidecar")
    migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'again' WHERE id = :number", number=number)
    migration.sql(f"DELETE FROM {TABLE} WHERE id = :number", number=number)
    migration.prompt(project=1, id=number)
    carrier = migration.stores.new_carrier()
    assert not carrier.is_settled(None, keys["named"])
    assert not carrier.is_settled(None, str(legacy_id("acme", number)))
    assert migration.drain() == 0
    there = {str(row[0]) for row in migration.new_sql("SELECT id FROM prompts")}
    assert there == {str(legacy_id("acme", number)), keys["derived"]}
    assert migration.verify().verdict is Verdict.PASS


def test_a_rogue_row_is_known_by_its_key(two: tuple[Migration, dict[str, str]]) -> None:
    """Written in legacy though new has authority (mode record): what new holds comes back, a row of its own goes."""
    migration, keys = two
    migration.route(100)
    for run in (migration.sql, migration.new_sql):
        run("UPDATE crossfade.route SET guard = 'record'")
    migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'rogue' WHERE project_id = 1")
    migration.prompt(project=3)
    assert migration.drain() == 0
    assert migration.sql(f"SELECT project_id, genai_prompt FROM {TABLE} ORDER BY 1") == [
        (1, "What happened, and to whom?"),
        (2, "What happened, and to whom?"),
    ]
    assert migration.stores.carrier.is_settled(None, keys["named"])
    assert migration.verify().verdict is Verdict.PASS


def test_a_row_without_a_project_is_not_taken_for_its_whole_part(carried_migration: Migration) -> None:
    """Its note has neither scope nor key, and stands for one record all the same."""
    number = carried_migration.prompt(project=None)
    assert carried_migration.notes() == [("acme", None, None, str(number))]
    assert carried_migration.stores.queue.noted({str(uuid4())}, ()) == frozenset()
    done = carried_migration.stores.carrier_from(Store.LEGACY).carry_batch()
    assert (done.notes, done.quarantined) == (1, 1)
    assert not Note(1, "acme", None, None, "7").of_whole_part
    assert Note(1, "acme", None, None, None).of_whole_part


def test_a_tenant_that_appeared_since_is_met(carried_migration: Migration) -> None:
    """A process that began before the tenant was there finds its records' notes, and takes none for another's."""
    carrier = carried_migration.stores.carrier_from(Store.LEGACY)
    other = str(uuid4())
    assert carrier.is_settled(None, other)
    with carried_migration.stores.legacy.begin() as connection:
        create_tenants(connection, ("latecomer",))
    settings = carried_migration.app.settings
    with opened(settings, bulk=True, application="crossfade-test") as stores:
        later = Migration(carried_migration.app, stores)
        later.prepare()
        key = str(legacy_id("latecomer", later.prompt("latecomer")))
    assert not carrier.is_settled(None, key)
    assert carrier.is_settled(None, other)
    carrier.carry((), [key])
    assert carrier.is_settled(None, key)
    assert carried_migration.new_sql("SELECT id FROM prompts WHERE id = :id", id=key) != []


def test_a_tenant_that_is_gone_holds_up_no_other_s_records(two: tuple[Migration, dict[str, str]]) -> None:
    """Dropped with rows that were noted: their notes stand for nobody's record, however long they lie there."""
    migration, keys = two
    migration.prompt("umbra", project=1)
    migration.sql("DROP SCHEMA dispatch_organization_umbra CASCADE")
    migration.sql("DELETE FROM dispatch_core.organization WHERE slug = 'umbra'")
    with opened(migration.app.settings, bulk=True, application="crossfade-test") as stores:
        carrier = stores.carrier_from(Store.LEGACY)
        assert carrier.is_settled(None, keys["named"])
        migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'again'")
        carrier.carry((), list(keys.values()), timeout=10)
        assert all(carrier.is_settled(None, key) for key in keys.values())
    assert [note[0] for note in migration.notes()] == ["umbra"]
