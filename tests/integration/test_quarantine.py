"""Quarantine as a workflow: what is held is looked at, mended and retried, or accepted and left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result
from fix_stores import Migration
from sqlalchemy import text

from adapters.postgres.held_rows import HeldRows
from adapters.postgres.ledger.audit import AuditBook
from adapters.postgres.ledger.quarantine import accept, by_reason, held, take_back
from adapters.prompts.dispatch_rows import legacy_id
from adapters.prompts.prompt import Prompt, PromptType
from harness.cli.authority import act_on
from harness.cli.cutover import to_new
from harness.cli.main import main
from harness.cli.quarantine import accept_rows
from harness.cli.retrying import retry_rows
from harness.cli.rollback import roll_back
from harness.cli.shares import ramp_shares
from harness.cli.standing import status_of
from harness.errors import Refused
from harness.gates import GATES
from harness.records import Verdict
from harness.routing import Store

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
TABLE = "dispatch_organization_acme.prompt"
SCOPE = "acme/project-{}/incident-summary"
SECRET = "the recipe that nobody may see"  # noqa: S105 - a prompt's text
OTHERS = tuple(name for name in GATES if name != "quarantine")  # no parallel run is made in these tests


@pytest.fixture
def holding(carried_migration: Migration) -> Migration:
    """Four rows: too long, empty, of no project, and one that new can hold."""
    migration = carried_migration
    migration.prompt(project=1, genai_prompt=SECRET + "x" * 10_000, enabled=True)
    migration.prompt(project=2, genai_prompt="", enabled=True)
    migration.prompt(project=None, genai_prompt=SECRET)
    migration.prompt(project=3, enabled=True)
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS
    return migration


def key(number: int) -> str:
    return str(legacy_id("acme", number))


def invoke(migration: Migration, *arguments: str, columns: int = 80) -> Result:
    """Run the command in this process, as ann."""
    settings = migration.app.settings
    given = {"CROSSFADE_LEGACY_URL": settings.legacy.url, "CROSSFADE_NEW_URL": settings.new.url}
    return CliRunner().invoke(main, arguments, env=given | {"CROSSFADE_ACTOR": "ann", "COLUMNS": str(columns)})


def run(migration: Migration, *arguments: str) -> dict[str, Any]:
    done = invoke(migration, "quarantine", *arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(migration: Migration, *arguments: str) -> str:
    done = invoke(migration, "quarantine", *arguments)
    assert done.exit_code == 4, done.output
    return done.stderr


def accepted(migration: Migration) -> dict[str, str | None]:
    return {row.key: row.accepted for row in held(migration.stores.new)}


# --- Looking ------------------------------------------------------------------------------------------------------


def test_list_names_reason_place_and_who_accepted(holding: Migration) -> None:
    """Each row with its key, why, where it is in legacy, its scope, since when; narrowed down where asked."""
    run(holding, "accept", key(2), "--reason", "never used")
    found = run(holding, "list")
    assert (found["total"], found["accepted"]) == (3, 1)
    assert found["by_reason"] == {"content_too_long": 1, "empty_content": 1, "no_project": 1}
    rows = {row["key"]: row for row in found["rows"]}
    assert rows.keys() == {key(1), key(2), key(3)}
    long, empty, homeless = (rows[key(n)] for n in (1, 2, 3))
    assert (long["reason"], long["part"], long["local"], long["scope"]) == (
        *("content_too_long", "acme", "1"),
        SCOPE.format(1),
    )
    assert (empty["accepted"], empty["accepted_by"], long["accepted"]) == ("never used", "ann", None)
    assert homeless["scope"] is None
    assert [row["key"] for row in run(holding, "list", "--open")["rows"]] == [key(1), key(3)]
    assert [row["key"] for row in run(holding, "list", "--reason", "no_project")["rows"]] == [key(3)]
    assert len(run(holding, "list", "--limit", "1")["rows"]) == 1
    told = invoke(holding, "quarantine", "list", columns=200).stdout
    assert all(key(n) in told for n in (1, 2, 3))
    assert "by ann: never used" in told


def test_show_keeps_texts_to_itself(holding: Migration) -> None:
    """Texts by their length unless they are asked for; numbers and flags as they are; a row that is gone is told of."""
    found = run(holding, "show", key(3))
    assert SECRET not in json.dumps(found)
    assert found["row"]["genai_prompt"] == {"characters": len(SECRET)}
    assert (found["row"]["id"], found["row"]["enabled"], found["row"]["project_id"]) == ("3", "false", None)
    assert run(holding, "show", key(3), "--show-values")["row"]["genai_prompt"] == SECRET
    cut = run(holding, "show", key(1), "--show-values")["row"]["genai_prompt"]
    assert (cut["characters"], len(cut["begins"])) == (len(SECRET) + 10_000, 2_000)
    shown = invoke(holding, "quarantine", "show", key(1)).stdout
    assert "‹10,030 characters›" in shown
    assert SECRET not in shown
    holding.sql(f"DELETE FROM {TABLE} WHERE id = 1")
    assert run(holding, "show", key(1))["there"] is False
    assert "not in quarantine" in refused(holding, "show", str(uuid4()))


def test_export_writes_all_of_it_or_nothing(holding: Migration, tmp_path: Path) -> None:
    """One document in each line, whole texts only if asked for; what goes wrong leaves the old file as it was."""
    file = tmp_path / "held.jsonl"
    assert run(holding, "export", str(file))["rows"] == 3
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["key"] for line in lines} == {key(n) for n in (1, 2, 3)}
    assert SECRET not in file.read_text()
    assert run(holding, "export", str(file), "--show-values", "--reason", "content_too_long")["rows"] == 1
    [line] = [json.loads(line) for line in file.read_text().splitlines()]
    assert line["row"]["genai_prompt"] == SECRET + "x" * 10_000
    assert file.stat().st_mode & 0o077 == 0
    before = file.read_text()
    holding.sql("ALTER TABLE dispatch_organization_acme.prompt RENAME TO away")
    done = invoke(holding, "quarantine", "export", str(file))
    assert done.exit_code == 5
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["held.jsonl"]
    done = invoke(holding, "quarantine", "export", str(tmp_path / "absent" / "x.jsonl"))
    assert done.exit_code == 2


def test_a_stamp_that_python_cannot_hold_is_shown(carried_migration: Migration) -> None:
    """Every column is read as text, so an infinite stamp is no harder than another."""
    migration = carried_migration
    migration.sql(
        f"INSERT INTO {TABLE} (genai_type, genai_prompt, enabled, created_at, project_id)"
        " VALUES (2, 'x', true, 'infinity', 1)"
    )
    assert migration.drain() == 0
    [entry] = held(migration.stores.new)
    fields = HeldRows(migration.stores.legacy, migration.stores.mapping.parts).fields([entry], 100)[entry.key]
    assert {each.name: each.text for each in fields}["created_at"] == "infinity"


# --- Mending ------------------------------------------------------------------------------------------------------


def test_retry_says_what_became_of_each(holding: Migration) -> None:
    """Mended: carried over. Gone: gone. As it was: still in quarantine. Refused by new: why. Accepted: left alone."""
    run(holding, "accept", key(2), "--reason", "never used")
    holding.prompt(project=4, genai_prompt="", enabled=True)
    holding.prompt(project=5, genai_prompt="", enabled=True)
    assert holding.drain() == 0
    holding.sql(f"UPDATE {TABLE} SET genai_prompt = 'shorter' WHERE id = 1")
    holding.sql(f"DELETE FROM {TABLE} WHERE id = 5")
    rival = "INSERT INTO prompts (name, content, type, project_id, enabled) VALUES ('r', 'r', 'custom', :scope, true)"
    holding.behind(rival, scope=SCOPE.format(5))
    holding.sql(f"UPDATE {TABLE} SET genai_prompt = 'mended' WHERE id = 6")
    found = run(holding, "retry", *(key(n) for n in (1, 2, 3, 5, 6)))
    became = {row["key"]: row["became"] for row in found["rows"]}
    assert became[key(6)].startswith("refused: Conflict: new: the uniqueness rule")
    del became[key(6)]
    assert became == {
        key(1): "carried over",
        key(2): "accepted: never used",
        key(3): "in quarantine: no_project",
        key(5): "gone",
    }
    assert holding.new_sql("SELECT content FROM prompts WHERE id = :id", id=key(1))[0][0] == "shorter"
    assert "not in quarantine" in refused(holding, "retry", key(1))
    assert run(holding, "retry", "--all")["became"] == {"in quarantine": 1, "refused": 1}
    assert accepted(holding)[key(2)] == "never used"


def test_retry_wants_to_be_told_what(holding: Migration) -> None:
    """Keys or --all, and not both."""
    for arguments in ((), (key(1), "--all")):
        assert invoke(holding, "quarantine", "retry", *arguments).exit_code == 2


def test_retry_works_while_others_do(holding: Migration) -> None:
    """A catch-up worker at the same time takes nothing away: each row is carried once, and told of."""
    for number in range(10, 210):
        holding.sql(
            f"INSERT INTO {TABLE} (id, genai_type, genai_prompt, enabled, project_id) VALUES (:n, :n, '', false, 1)",
            n=number,
        )
    assert holding.drain() == 0
    holding.sql(f"UPDATE {TABLE} SET genai_prompt = 'mended' WHERE id BETWEEN 10 AND 109")
    found = retry_rows(holding.app, holding.stores, None)
    assert found["became"] == {"carried over": 100, "in quarantine": 103}
    assert found["finished"]


# --- Accepting ----------------------------------------------------------------------------------------------------


def test_accepting_is_audited_and_can_be_taken_back(holding: Migration) -> None:
    """Actor, time and reason are kept; a second acceptance changes nothing; gates and status count what is left."""
    assert run(holding, "accept", key(1), key(2), "--reason", "essays")["undecided"] == 1
    assert run(holding, "accept", key(1), "--reason", "again")["changed"] == []
    assert accepted(holding) == {key(1): "essays", key(2): "essays", key(3): None}
    [entry] = [each for each in AuditBook(holding.stores.new).entries() if each.action == "quarantine accepted"]
    assert (entry.actor, entry.reason, entry.detail["keys"]) == ("ann", "essays", sorted([key(1), key(2)]))
    assert status_of(holding.stores)["quarantined_undecided"] == 1
    image = next(row.image for row in held(holding.stores.new) if row.key == key(1))
    assert image is not None
    assert image["genai_prompt"] == {"characters": len(SECRET) + 10_000}
    assert image["enabled"] == "true"
    assert run(holding, "accept", key(1), "--take-back", "--reason", "a mistake")["undecided"] == 2
    assert accepted(holding)[key(1)] is None
    assert "not in quarantine" in refused(holding, "accept", key(3), str(uuid4()), "--reason", "x")
    assert accepted(holding)[key(3)] is None
    for missing in (("accept", key(1)), ("accept", key(1), "--reason", " "), ("accept", "--reason", "x")):
        assert invoke(holding, "quarantine", *missing).exit_code == 2


def test_a_write_takes_the_acceptance_back(holding: Migration) -> None:
    """Whoever accepted said it of another text: the row wants a decision again, and the audit says why."""
    accept_rows(holding.stores, [key(1), key(2)], "essays")
    holding.sql(f"UPDATE {TABLE} SET genai_prompt = genai_prompt || 'more' WHERE id = 1")
    assert holding.drain() == 0
    assert accepted(holding) == {key(1): None, key(2): "essays", key(3): None}
    [entry] = [each for each in AuditBook(holding.stores.new).entries() if "taken back" in each.action]
    assert entry.detail["keys"] == [key(1)]


def test_an_acceptance_does_not_outrun_a_write(holding: Migration) -> None:
    """A row that was changed before it was accepted, and whose change is carried afterwards, is not accepted."""
    holding.sql(f"UPDATE {TABLE} SET genai_prompt = genai_prompt || 'more' WHERE id = 1")
    accept_rows(holding.stores, [key(1)], "essays")
    assert holding.drain() == 0
    assert accepted(holding)[key(1)] is None


def test_an_acceptance_of_a_refused_cutover_is_taken_back(holding: Migration) -> None:
    """The option of cutover accepts for that act alone; what was accepted before stays so."""
    ramp_shares(holding.app, holding.stores, None, 50.0, "a test")
    accept_rows(holding.stores, [key(1)], "an essay")
    arguments = ("cutover", "--yes", "--accept", key(1), "--accept", key(2), "--reason", "x")
    done = invoke(holding, *arguments)
    assert done.exit_code == 4  # no parallel run was made, and a third row is undecided
    assert accepted(holding) == {key(1): "an essay", key(2): None, key(3): None}


def test_the_gate_knows_what_was_accepted(holding: Migration) -> None:
    """With every row accepted nothing of the quarantine stands in the way; the scopes move, the rows stay."""
    accept_rows(holding.stores, [key(1), key(2)], "essays")
    with pytest.raises(Refused, match="quarantine: 1 row in quarantine: no_project"):
        cut_over(holding)
    accept_rows(holding.stores, [key(3)], "nobody's")
    cut_over(holding)
    assert holding.stores.routes.view().route.sole_authority is Store.NEW
    assert by_reason(holding.stores.new, accepted=False).total() == 0


def test_accepting_knows_no_row_that_is_gone(holding: Migration) -> None:
    """A row that has gone meanwhile is accepted without an image; catch-up lets go of it."""
    holding.sql(f"DELETE FROM {TABLE} WHERE id = 1")
    assert accept_rows(holding.stores, [key(1)], "x") == {key(1)}
    assert held(holding.stores.new)[0].image is None
    assert holding.drain() == 0
    with pytest.raises(Refused, match="not in quarantine"):
        accept(holding.stores.new, [key(1)], lambda rows: {}, actor="ann", reason="x")
    with pytest.raises(Refused, match="not in quarantine"):
        take_back(holding.stores.new, [key(1)], actor="ann", reason="x")


# --- Left behind, and the way back --------------------------------------------------------------------------------


def prompt(project: int, *, enabled: bool = True, id: UUID | None = None) -> Prompt:
    return Prompt(
        id or uuid4(),
        "Summary",
        "Say what broke.",
        PromptType.SUMMARIZATION,
        NOON,
        NOON,
        project_id=SCOPE.format(project),
        organization_id="acme",
        enabled=enabled,
    )


def cut_over(migration: Migration) -> None:
    if migration.stores.routes.view().route.writes_percent == 0:
        ramp_shares(migration.app, migration.stores, None, 1.0, "a test")
    act_on(
        migration.app,
        migration.stores,
        "cutover",
        to_new,
        reason="a test",
        dry_run=False,
        gated=True,
        despite=OTHERS,
    )


@pytest.fixture
def left_behind(carried_migration: Migration) -> Migration:
    """All authority is new's; three rows were left behind: one enabled, one disabled, and one of each in a scope."""
    migration = carried_migration
    migration.prompt(project=1, genai_prompt="", enabled=True)
    migration.prompt(project=2, genai_prompt="", enabled=False)
    migration.prompt(project=3, genai_prompt="", enabled=True)
    migration.prompt(project=3, genai_prompt="", enabled=False)
    migration.prompt(project=4, enabled=True)
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS
    accept_rows(migration.stores, [key(n) for n in (1, 2, 3, 4)], "essays")
    cut_over(migration)
    return migration


def legacy_rows(migration: Migration, project: int) -> dict[int, bool]:
    rows = migration.sql(f"SELECT id, enabled FROM {TABLE} WHERE project_id = :project", project=project)
    return {row[0]: row[1] for row in rows}


def settled(migration: Migration) -> None:
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS


def test_a_row_left_behind_gives_way_to_new_s_enabled_prompt(left_behind: Migration) -> None:
    """It is disabled in legacy, its text stays, its former state is in the ledger; rollback is not held up."""
    new = left_behind.stores.new_repository
    saved = new.save(prompt(1))
    settled(left_behind)
    assert status_of(left_behind.stores)["rejected"] == []
    assert status_of(left_behind.stores)["rollback_debt"] == 0
    roll_back(left_behind.app, left_behind.stores, "a test")
    rows = legacy_rows(left_behind, 1)
    assert rows.pop(1) is False
    assert list(rows.values()) == [True]
    assert left_behind.stores.legacy_repository.find_enabled_by_project(SCOPE.format(1)) == saved
    found = run(left_behind, "show", key(1))
    assert found["changed_since_accepted"] == ["enabled"]
    assert found["accepted"] == "essays"
    settled(left_behind)


def test_a_disabled_prompt_without_a_place_is_debt(left_behind: Migration) -> None:
    """A row that was left behind keeps legacy's only disabled place; new's disabled prompt is counted, not forced."""
    new = left_behind.stores.new_repository
    enabled, disabled = new.save(prompt(2)), new.save(prompt(2, enabled=False))
    settled(left_behind)
    assert legacy_rows(left_behind, 2)[2] is False
    assert status_of(left_behind.stores)["rollback_debt"] == 1
    [debt] = left_behind.new_sql("SELECT key, reason FROM crossfade.debt")
    assert tuple(debt) == (str(disabled.id), "place_taken")
    with pytest.raises(Refused, match="accept-debt"):
        roll_back(left_behind.app, left_behind.stores, "a test")
    new.delete(disabled.id)
    settled(left_behind)
    assert status_of(left_behind.stores)["rollback_debt"] == 0
    roll_back(left_behind.app, left_behind.stores, "a test")
    assert left_behind.stores.legacy_repository.find_by_id(enabled.id) == enabled


def test_both_places_wanted_by_new(left_behind: Migration) -> None:
    """The enabled prompt gets its place, the row left behind the disabled one, and new's disabled prompt is debt."""
    new = left_behind.stores.new_repository
    first = new.save(prompt(1, enabled=False))
    settled(left_behind)
    assert legacy_rows(left_behind, 1)[1] is True  # nobody has wanted its place so far
    assert left_behind.stores.legacy_repository.find_by_id(first.id) == first
    second = new.save(prompt(1))
    settled(left_behind)
    assert left_behind.stores.legacy_repository.find_enabled_by_project(SCOPE.format(1)) == second
    assert left_behind.stores.legacy_repository.find_by_id(first.id) is None
    assert status_of(left_behind.stores)["rollback_debt"] == 1
    new.delete(second.id)
    new.update(replace(first, enabled=True))
    settled(left_behind)
    assert status_of(left_behind.stores)["rollback_debt"] == 0
    back = left_behind.stores.legacy_repository.find_by_id(first.id)
    assert back is not None
    assert back.enabled


def test_both_places_taken_by_rows_left_behind(left_behind: Migration) -> None:
    """Then even an enabled prompt has no place in legacy: it is debt, and the rows stay as they are."""
    left_behind.stores.new_repository.save(prompt(3))
    settled(left_behind)
    assert legacy_rows(left_behind, 3) == {3: True, 4: False}
    assert status_of(left_behind.stores)["rollback_debt"] == 1


def test_other_scopes_and_organizations_are_not_touched(left_behind: Migration) -> None:
    """Room is made where it is wanted, and only there."""
    before = legacy_rows(left_behind, 1) | legacy_rows(left_behind, 2) | legacy_rows(left_behind, 3)
    new = left_behind.stores.new_repository
    for project in (4, 5, 6):
        new.save(prompt(project, enabled=project != 4))
    new.save(replace(prompt(1), project_id="umbra/project-1/incident-summary", organization_id="umbra"))
    settled(left_behind)
    assert legacy_rows(left_behind, 1) | legacy_rows(left_behind, 2) | legacy_rows(left_behind, 3) == before


def test_the_row_itself_may_be_written_anew(left_behind: Migration) -> None:
    """Who saves a prompt under the id of a row that was left behind mends that very row."""
    saved = left_behind.stores.new_repository.save(prompt(1, id=UUID(key(1))))
    assert left_behind.drain() == 0
    assert left_behind.stores.legacy_repository.find_by_id(saved.id) == saved
    assert legacy_rows(left_behind, 1) == {1: True}


def test_values_are_bound(holding: Migration) -> None:
    """A key that is no key is looked for as it is, and found nowhere."""
    odd = "'; DROP TABLE prompts; --"
    assert "not in quarantine" in refused(holding, "show", odd)
    with holding.stores.new.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM prompts")).scalar_one() == 1
