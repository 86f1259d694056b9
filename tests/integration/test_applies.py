"""What came of changes carried over is counted, once each, and reaches the gate through the ledger."""

from __future__ import annotations

from command import crossfade
from fix_stores import Migration

from adapters.postgres.ledger.statistics import StatisticsBook
from adapters.prompts.prompt import PromptFilter
from harness.cli.gathering import gather
from harness.deciding import GateSettings
from harness.gates import evaluate
from harness.records import Verdict
from harness.statistics import Apply

TABLE = "dispatch_organization_acme.prompt"
SCOPE = "acme/project-1/incident-summary"
SQUATTER = (
    "INSERT INTO prompts (id, name, content, type, project_id, organization_id, enabled) "
    f"VALUES (gen_random_uuid(), 'squatter', 'x', 'custom', '{SCOPE}', 'acme', true)"
)


def test_a_refused_change_counts_once(carried_migration: Migration) -> None:
    """However often it is tried, and though it arrives in the end; what arrives at once counts as carried."""
    carried_migration.behind(SQUATTER)
    carried_migration.prompt(project=1, enabled=True)
    carried_migration.prompt(project=2, enabled=True)
    first, second = carried_migration.stores.new_carrier(), carried_migration.stores.new_carrier()
    for _ in range(3):
        first.carry_batch()
        second.carry_batch()
    assert carried_migration.new_sql("SELECT scope, attempts > 1 FROM crossfade.rejection") == [(SCOPE, True)]
    carried_migration.behind("DELETE FROM prompts WHERE name = 'squatter'")
    third = carried_migration.stores.new_carrier()
    third.carry_batch()
    assert carried_migration.new_sql("SELECT * FROM crossfade.rejection") == []
    whole = first.applies() + second.applies() + third.applies()
    assert whole == {Apply.CARRIED: 1, Apply.REJECTED: 1}


def test_the_way_back_is_counted_too(carried_migration: Migration) -> None:
    """A change of new, carried to legacy, is one that the other store accepted."""
    carried_migration.prompt(project=1, enabled=True)
    assert carried_migration.drain() == 0
    carried_migration.route(writes_percent=100)
    repository = carried_migration.stores.new_repository
    (row,) = repository.find_all(PromptFilter()).items
    repository.update(row.with_content("Written to new."))
    carrier = carried_migration.stores.new_carrier()
    carrier.carry_batch()
    assert carried_migration.sql(f"SELECT genai_prompt FROM {TABLE}") == [("Written to new.",)]
    assert carrier.applies() == {Apply.CARRIED: 1}


def test_the_command_hands_its_counts_on(carried_migration: Migration) -> None:
    """After crossfade catchup the ledger has them, and gate and report judge by them."""
    for project in (1, 2, 3):
        carried_migration.prompt(project=project, enabled=True)
    done = crossfade(carried_migration.app.settings, "catchup", "--json")
    assert done.returncode == 0, done.stderr
    assert StatisticsBook(carried_migration.stores.new).total().applies == {Apply.CARRIED: 3}
    (gate,) = evaluate(gather(carried_migration.stores), GateSettings(), only={"applies"})
    assert (gate.verdict, gate.figures["hits"], gate.figures["n"]) == (Verdict.INCONCLUSIVE, 0, 3)


def test_the_router_hands_its_counts_on(carried_migration: Migration) -> None:
    """What a router's own carrier brought over stands in the ledger with the rest that the process counted."""
    carried_migration.prompt(project=1, enabled=True)
    assert carried_migration.drain() == 0
    with carried_migration.stores.router() as router:
        (row,) = router.repository.find_all(PromptFilter()).items
        router.repository.update(row.with_content("Written through the router."))
        assert router.settle(20)
    assert StatisticsBook(carried_migration.stores.new).total().applies == {Apply.CARRIED: 1}
