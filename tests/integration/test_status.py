"""Status: where the migration stands, from before it began."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from fix_postgres import Databases
from fix_stores import Migration, create_tenants, migration_between
from picture import picture
from rich.console import Console

from harness.cli.gathering import gather
from harness.cli.standing import status_of
from harness.cli.status import show
from harness.deciding import GateSettings
from harness.gates import GATES, evaluate
from harness.phases import NEXT_STEP, Phase
from harness.promql import PrometheusSettings

KEYS = {
    *("phase", "epoch", "reads_percent", "writes_percent", "dirty", "lag_seconds"),
    *("quarantined", "mismatches_confirmed", "next"),
    *("rogue_writes", "new_only", "rollback_debt", "unfinished", "gates", "verdict"),
}


def status(migration: Migration) -> dict[str, Any]:
    """The document, which has the promised keys whatever it says."""
    found = status_of(migration.stores)
    assert set(found) >= KEYS
    for name in ("dirty", "lag_seconds"):
        assert set(found[name]) == {"legacy", "new"}
    if not (found["uncaptured_tenants"] or found["uncopied_tenants"] or found["rejected"]):
        assert found["next"] == NEXT_STEP[Phase(found["phase"])]
    return found


def test_before_anything_is_prepared(migration: Migration) -> None:
    """Status works on two databases that Crossfade never saw, and leaves nothing in them."""
    settings = migration.app.settings
    before = picture(settings.legacy.url), picture(settings.new.url)
    found = status(migration)
    assert (found["phase"], found["epoch"], found["reads_percent"]) == ("IDLE", 0, 0)
    assert (picture(settings.legacy.url), picture(settings.new.url)) == before


def test_the_same_keys_before_and_after(migration: Migration) -> None:
    """Scripts find every key in every phase."""
    before = status(migration)
    migration.prepare()
    assert set(status(migration)) == set(before)


def test_phase_and_route(carried_migration: Migration) -> None:
    """Phase, shares and epoch are those of the ledger."""
    assert status(carried_migration)["phase"] == "BACKFILLED"
    route = carried_migration.stores.routes.change(reads_percent=12.5, shadow_percent=50, actor="a", reason="b")
    found = status(carried_migration)
    assert (found["reads_percent"], found["writes_percent"], found["shadow_percent"]) == (12.5, 0, 50)
    assert found["epoch"] == route.epoch


def test_what_is_on_its_way(carried_migration: Migration) -> None:
    """Notes are counted and the oldest one's age is the lag; drained, both are 0."""
    for project in (1, 2, 3):
        carried_migration.prompt(project=project)
    carried_migration.sql("UPDATE crossfade.dirty SET noted_at = noted_at - interval '1 hour' WHERE seq = 1")
    found = status(carried_migration)
    assert found["dirty"] == {"legacy": 3, "new": 0}
    assert found["lag_seconds"]["legacy"] >= 3600
    assert found["lag_seconds"]["new"] == 0
    assert carried_migration.drain() == 0
    found = status(carried_migration)
    assert (found["dirty"]["legacy"], found["lag_seconds"]["legacy"]) == (0, 0)


def test_what_is_held_and_why(carried_migration: Migration) -> None:
    """Quarantined rows are counted by reason, refused scopes named with the rule that refused them."""
    carried_migration.prompt(project=None)
    carried_migration.prompt(project=2, genai_prompt="")
    carried_migration.behind(
        "INSERT INTO prompts (name, content, type, project_id, enabled)"
        " VALUES ('squatter', 'x', 'custom', 'acme/project-1/incident-summary', true)"
    )
    carried_migration.prompt(project=1, enabled=True)
    assert carried_migration.drain() == 1
    found = status(carried_migration)
    assert found["quarantined"] == 2
    assert found["quarantined_by_reason"] == {"no_project": 1, "empty_content": 1}
    [rejected] = found["rejected"]
    assert rejected["scope"] == "acme/project-1/incident-summary"
    assert "idx_prompts_project_enabled_unique" in rejected["error"]
    assert found["next"].startswith("mend what is refused")  # before the phase's own next step


@pytest.mark.parametrize("prepared_again", [False, True])
def test_a_tenant_that_appeared_meanwhile(carried_migration: Migration, prepared_again: bool) -> None:
    """A tenant that nothing captures yet is named until prepare has run again."""
    with carried_migration.stores.legacy.begin() as connection:
        create_tenants(connection, ("zenith",))
    # What a command opened afterwards sees: the tenants of its own time.
    carried_migration.stores.__dict__.pop("mapping", None)
    if prepared_again:
        carried_migration.prepare()
    found = status(carried_migration)
    assert found["uncaptured_tenants"] == ([] if prepared_again else ["zenith"])
    assert found["next"].startswith("crossfade prepare") is not prepared_again


def test_the_last_verification(carried_migration: Migration) -> None:
    """The verdict that a ramp will be judged by is shown with its time."""
    assert status(carried_migration)["last_verification"] is None
    found = carried_migration.verify()
    assert status(carried_migration)["last_verification"] == {"at": found.at.isoformat(), "verdict": "pass"}


def test_the_gates_are_those_of_the_report(carried_migration: Migration) -> None:
    """Once prepared, each gate is listed with verdict and evidence; before, there is none, and so no verdict."""
    carried_migration.verify()
    found = status(carried_migration)
    judged = evaluate(gather(carried_migration.stores), carried_migration.stores.settings.gates)
    assert [(gate["name"], gate["verdict"]) for gate in found["gates"]] == [
        (gate.name, gate.verdict.value) for gate in judged
    ]
    assert all(gate["evidence"] for gate in found["gates"])
    assert found["verdict"] == "inconclusive"
    out = Console(file=StringIO(), width=200)
    show(out, found)
    text = out.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, as was just said
    assert "no answers were compared" in text
    assert "rehearsal" in text


def test_before_prepare_no_gate_is_judged(migration: Migration) -> None:
    """An empty list, and nothing that could be taken for a pass."""
    found = status(migration)
    assert (found["gates"], found["verdict"]) == ([], "inconclusive")


def test_a_prometheus_that_is_away_is_no_error(databases: Databases) -> None:
    """Its gate is inconclusive and says why; status goes on."""
    asked = PrometheusSettings(name="mine", query="vector(1)", max=1.0, timeout_seconds=1.0)
    gates = GateSettings(prometheus_url="http://127.0.0.1:1", prometheus=(asked,))
    with migration_between(databases, gates=gates) as away:
        with away.stores.legacy.begin() as connection:
            create_tenants(connection)
        away.prepare()
        found = status_of(away.stores)["gates"]
    assert [gate["name"] for gate in found] == [*GATES, "prometheus:mine"]
    assert found[-1]["verdict"] == "inconclusive"
    assert "cannot be reached" in found[-1]["evidence"]
