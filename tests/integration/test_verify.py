"""Verify finds every difference, invents none, and never calls a pass what it did not compare."""

from __future__ import annotations

import pytest
from command import crossfade, document
from fix_stores import Migration

from harness.errors import StoreUnavailable
from harness.records import Kind, Verdict

TABLE = "dispatch_organization_acme.prompt"
SCOPE = "acme/project-1/incident-summary"


@pytest.fixture
def filled(carried_migration: Migration) -> Migration:
    for tenant in ("acme", "umbra"):
        for project in (1, 2, 3):
            for genai_type in (1, 2, 99):
                carried_migration.prompt(tenant, project, genai_type, enabled=True, genai_system_message="Be kind.")
    carried_migration.prompt(genai_prompt="", project=6)
    assert carried_migration.drain() == 0
    return carried_migration


def test_equal_stores_pass(filled: Migration) -> None:
    """All rows are compared, the quarantined one is listed, and the verdict is a pass."""
    found = filled.verify()
    assert (found.verdict, found.compared, found.quarantined) == (Verdict.PASS, 18, 1)


CORRUPTIONS = {
    "content": "content = content || ' '",
    "content case": "content = upper(content)",
    "system_message to NULL": "system_message = NULL",
    "system_message to empty": "system_message = ''",
    "name": "name = 'Incident summary'",
    "description": "description = ''",
    "type": "type = 'custom'",
    "project_id": "project_id = 'acme/project-5/incident-summary'",
    "organization_id": "organization_id = 'umbra'",
    "enabled": "enabled = false",
    "version": "version = 2",
    "created_at": "created_at = created_at + interval '1 microsecond'",
    "updated_at": "updated_at = updated_at AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin'",
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_one_changed_value_is_found(filled: Migration, corruption: str) -> None:
    """A change of one value in one row is reported once, as that field of that row."""
    filled.behind(f"UPDATE prompts SET {CORRUPTIONS[corruption]} WHERE project_id = '{SCOPE}'")
    found = filled.verify()
    assert (found.verdict, found.missing, found.extra, found.different) == (Verdict.FAIL, 0, 0, 1)
    [difference] = found.examples
    assert (difference.kind, difference.scope) == (Kind.DIFFERENT, SCOPE)
    assert [each.field for each in difference.fields] == [corruption.split()[0]]


def test_lost_and_surplus_rows_are_found(filled: Migration) -> None:
    """A row that one side lacks is missing or extra; swapped contents are two different rows."""
    filled.behind(f"DELETE FROM prompts WHERE project_id = '{SCOPE}'")
    filled.behind(
        "INSERT INTO prompts (name, content, type, project_id, organization_id)"
        " VALUES ('zombie', 'x', 'custom', 'acme/project-2/type-99', 'acme')"
    )
    found = filled.verify()
    assert (found.verdict, found.missing, found.extra, found.different) == (Verdict.FAIL, 1, 1, 0)


def test_foreign_rows_of_new_are_counted_apart(filled: Migration) -> None:
    """Rows that the new system made for itself are no difference: counted as new-only."""
    filled.new_sql(
        "INSERT INTO prompts (name, content, type, project_id) VALUES ('own', 'x', 'custom', 'project-123'),"
        " ('own', 'x', 'custom', NULL), ('own', 'x', 'custom', 'elsewhere/project-1/incident-summary')"
    )
    for _ in range(2):  # the second time it is known that there are some, and they are told apart at once
        found = filled.verify()
        assert (found.verdict, found.extra, found.new_only) == (Verdict.PASS, 0, 3)


def test_rows_under_way_are_not_differences(filled: Migration) -> None:
    """A change that is noted and not yet carried over is no difference, and no pass: inconclusive."""
    filled.sql(f"UPDATE {TABLE} SET genai_prompt = 'newer' WHERE project_id = 1")
    found = filled.verify()
    assert (found.verdict, found.different, found.unsettled) == (Verdict.INCONCLUSIVE, 0, 3)
    assert filled.drain() == 0
    assert filled.verify().verdict is Verdict.PASS


def test_lost_quarantine_entry_is_found(filled: Migration) -> None:
    """An unrepresentable row that no entry accounts for fails the verification, as does an entry without a row."""
    filled.new_sql("DELETE FROM crossfade.quarantine")
    found = filled.verify()
    assert (found.verdict, found.unaccounted) == (Verdict.FAIL, 1)


def test_error_is_no_pass(filled: Migration) -> None:
    """A store that cannot be read raises; there is no verdict, and none is kept."""
    filled.new_sql("ALTER TABLE prompts RENAME TO prompts_gone")
    with pytest.raises(StoreUnavailable):
        filled.verify()
    assert filled.new_sql("SELECT count(*) FROM crossfade.verification")[0][0] == 0


def test_command_ends_with_0_or_3(filled: Migration) -> None:
    """The command's exit code says pass or not, its JSON has the promised keys, and texts are not shown unasked."""
    settings = filled.app.settings
    done = crossfade(settings, "verify", "--json")
    assert done.returncode == 0, done.stderr
    keys = {"compared", "missing", "extra", "different", "transient", "quarantined", "verdict", "seconds"}
    assert keys <= document(done).keys()
    filled.behind("UPDATE prompts SET content = 'secretly changed' WHERE project_id = :scope", scope=SCOPE)
    done = crossfade(settings, "verify", "--json", "--patience", "0")
    assert (done.returncode, document(done)["different"]) == (3, 1)
    assert "secretly changed" not in done.stdout + done.stderr
    shown = crossfade(settings, "verify", "--patience", "0", "--show-values")
    assert "secretly" in shown.stdout


def test_repair_mends_towards_authority(filled: Migration) -> None:
    """Repair says what it will do, does it, and verification passes; without --yes nobody to ask is a refusal."""
    settings = filled.app.settings
    filled.behind("UPDATE prompts SET content = 'changed behind our back' WHERE project_id = :scope", scope=SCOPE)
    filled.behind("DELETE FROM prompts WHERE project_id = 'acme/project-3/type-99'")
    filled.behind(
        "INSERT INTO prompts (name, content, type, project_id, organization_id)"
        " VALUES ('zombie', 'x', 'custom', 'umbra/project-5/type-99', 'umbra')"
    )
    planned = crossfade(settings, "repair", "--dry-run", "--json")
    assert document(planned) == {
        "planned": {"missing": 1, "different": 1, "extra": 1},
        "changed": False,
        "verdict": "fail",
    }
    assert filled.verify().verdict is Verdict.FAIL
    assert crossfade(settings, "repair").returncode == 4
    done = crossfade(settings, "repair", "--yes", "--json", "--reason", "a test")
    assert done.returncode == 0, done.stderr
    assert document(done)["verdict"] == "pass"
    assert filled.verify().verdict is Verdict.PASS
