"""What a review broke in moving authority: each was an acknowledged write lost, or two stores accepting one scope."""

from __future__ import annotations

from dataclasses import replace

import pytest
from command import crossfade, document
from fix_stores import Migration, create_tenants
from test_moving import SCOPE, cut_over, prompt, ramp, settled, verified

from adapters.prompts.migration import opened
from harness.cli.authority import begin
from harness.cli.complete import let_go
from harness.cli.planning import losing, plan
from harness.cli.prepare import prepare_stores
from harness.cli.rollback import roll_back
from harness.cli.uninstall import remove
from harness.errors import IllegalPhase, NoAuthority, Refused
from harness.failpoints import FailpointRaised, arm
from harness.moving import Stand
from harness.phases import Phase
from harness.routing import Route, Store

__all__ = ["verified"]  # the fixture


def stand(writes: float, **pins: Store) -> Stand:
    return Stand(writes, 0.0, 100.0, Phase.RAMPING, {name.replace("_", "/"): store for name, store in pins.items()})


@pytest.mark.parametrize(
    ("before", "after", "loser"),
    [
        (stand(0, a_1=Store.NEW, a_0=Store.LEGACY), stand(0), Store.NEW),
        (stand(100, a_1=Store.LEGACY, a_2=Store.NEW), stand(100), Store.LEGACY),
        (stand(0, a=Store.LEGACY), stand(0), Store.LEGACY),  # nothing moves: either may begin
        (stand(50, a=Store.NEW), stand(0), Store.NEW),
        (stand(10), stand(20), Store.LEGACY),
        (stand(10), stand(10), None),
    ],
)
def test_an_act_knows_who_loses(before: Stand, after: Stand, loser: Store | None) -> None:
    """By what authority was and will be, pin by pin; not by which pin comes first."""
    assert losing(before, after, "salt") is loser


def test_an_act_does_not_go_both_ways() -> None:
    """A pin to each store, set at once, would need both stores to lose."""
    with pytest.raises(Refused, match="both directions"):
        losing(stand(0, a_1=Store.NEW), stand(0, a_2=Store.NEW), "salt")


def test_a_record_that_left_a_project_survives_its_deletion(verified: Migration) -> None:
    """Moved to another scope in new and not yet carried over: the cascade in legacy takes its old place only."""
    stores = verified.stores
    ramp(verified, 100.0)
    before = stores.new_repository.find_enabled_by_project(SCOPE.format(1))
    assert before is not None
    stores.new_repository.update(replace(before, project_id=SCOPE.format(2), enabled=False))
    verified.sql("DELETE FROM dispatch_organization_acme.project WHERE id = 1")
    settled(verified)
    found = stores.new_repository.find_by_id(before.id)
    assert found is not None
    assert found.project_id == SCOPE.format(2)


@pytest.mark.parametrize("project", [1, 2])
def test_a_cascade_is_carried_once(verified: Migration, project: int) -> None:
    """Its worker dies before it has forgotten the note; what is saved under the id since then stays."""
    stores = verified.stores
    ramp(verified, 100.0)
    before = stores.new_repository.find_enabled_by_project(SCOPE.format(1))
    assert before is not None
    verified.sql("DELETE FROM dispatch_organization_acme.project WHERE id = 1")
    arm("catchup.after_commit=raise")
    with pytest.raises(FailpointRaised):
        verified.drain()
    assert stores.new_repository.find_by_id(before.id) is None
    saved = stores.new_repository.save(prompt(project, enabled=False, id=before.id))
    verified.drain()
    assert stores.new_repository.find_by_id(before.id) == saved


def late_tenant(migration: Migration) -> None:
    with migration.stores.legacy.begin() as connection:
        create_tenants(connection, ("late",))
    migration.prompt("late", 1, enabled=True)


def prepare_again(migration: Migration) -> None:
    with opened(migration.app.settings, bulk=True) as stores:
        prepare_stores(migration.app, stores, id_index=True, reason="a test")


def test_a_tenant_that_is_not_copied_cannot_move(verified: Migration) -> None:
    """Prepared and not backfilled, a tenant stands in the way of every move, and status says what to do."""
    settings = verified.app.settings
    late_tenant(verified)
    prepare_again(verified)
    for command in (("ramp", "100"), ("ramp", "--pin", "late=new", "--despite", "copied")):
        done = crossfade(settings, *command)
        assert (done.returncode, "crossfade backfill" in done.stderr) == (4, True), done.stderr
    assert document(crossfade(settings, "status", "--json"))["uncopied_tenants"] == ["late"]
    assert crossfade(settings, "backfill").returncode == 0
    done = crossfade(settings, "ramp", "100")
    assert (done.returncode, "older than the last copy" in done.stderr) == (4, True), done.stderr


def test_a_worker_learns_of_a_tenant_before_it_judges_its_records(verified: Migration) -> None:
    """One that was started before the tenant appeared carries its writes back like any other."""
    old = verified.stores.new_carrier()
    late_tenant(verified)
    prepare_again(verified)
    settings = verified.app.settings
    for command in (("backfill",), ("verify",), ("ramp", "--pin", "late=new")):
        assert crossfade(settings, *command).returncode == 0
    verified.new_sql("UPDATE prompts SET content = 'kept' WHERE organization_id = 'late'")
    for _ in range(4):  # it looks again, finds the tenant, and begins anew
        old.carry_batch()
    assert verified.new_sql("SELECT * FROM crossfade.debt") == []
    assert verified.sql("SELECT genai_prompt FROM dispatch_organization_late.prompt")[0][0] == "kept"


def test_uninstall_looks_again_under_the_lock(verified: Migration) -> None:
    """Another operator moved authority while the question stood open: refused, with every guard in its place."""
    ramp(verified, 100.0)
    with pytest.raises(IllegalPhase):
        remove(verified.app, verified.stores, "a test", accept_loss=False)
    with pytest.raises(NoAuthority):
        verified.stores.legacy_repository.save(prompt(1, enabled=False))
    assert verified.new_sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'crossfade%'")[0][0] > 0


def test_prepare_waits_for_a_pending_act(verified: Migration) -> None:
    """The guard's mode does not change in the middle of a move."""
    stores = verified.stores
    begin(stores, plan(stores, "ramp", lambda now: replace(now, writes_percent=50.0, phase=Phase.RAMPING)), "")
    with pytest.raises(Refused, match="resume"):
        prepare_again(verified)


def test_the_gainers_own_notes_are_turned_around_before_the_fence(verified: Migration) -> None:
    """A project deleted in legacy while new has authority: the rollback carries it over and does not block itself."""
    ramp(verified, 100.0)
    verified.sql("DELETE FROM dispatch_organization_acme.project WHERE id = 1")
    roll_back(verified.app, verified.stores, "a test")
    settled(verified)
    assert verified.new_sql("SELECT count(*) FROM prompts")[0][0] == 5


def test_commands_after_the_end(verified: Migration) -> None:
    """Complete and uninstalled: status and report still tell, everything else is refused by phase."""
    stores = verified.stores
    ramp(verified, 100.0)
    settled(verified)
    cut_over(verified)
    let_go(verified.app, stores, "a test")
    settings = verified.app.settings
    assert crossfade(settings, "uninstall", "--yes").returncode == 0
    assert document(crossfade(settings, "status", "--json"))["phase"] == "COMPLETE"
    for command in (("ramp", "10"), ("rollback",), ("cutover", "--yes")):
        done = crossfade(settings, *command)
        assert (done.returncode, "COMPLETE" in done.stderr) == (4, True), done.stderr


def test_a_pin_that_names_nothing_moves_nothing(verified: Migration) -> None:
    """Route and plan agree: a pin of an unknown group changes no scope's authority."""
    before = verified.stores.routes.view().route
    assert isinstance(before, Route)
    done = crossfade(verified.app.settings, "ramp", "--pin", "acme/project-1=new")
    assert (done.returncode, "neither" in done.stderr) == (2, True), done.stderr
    assert verified.stores.routes.view().route == before
