"""Moving authority between real stores: both ways, with what is written meanwhile, and refused where it must be."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from command import crossfade, document
from fix_stores import Migration, create_tenants
from sqlalchemy import text

from adapters.postgres.ledger.locks import command_lock
from adapters.postgres.ledger.quarantine import held
from adapters.prompts.prompt import Prompt, PromptFilter, PromptType
from harness.cli.authority import LOCK, act_on, begin
from harness.cli.autoramp import ramp_by_itself
from harness.cli.complete import let_go, obstacles_of
from harness.cli.cutover import to_new
from harness.cli.planning import plan
from harness.cli.quarantine import accept_rows
from harness.cli.repair import carry_out as carry_out_repair
from harness.cli.repair import plan_repair
from harness.cli.rollback import roll_back
from harness.cli.shares import ramp_shares
from harness.cli.standing import status_of
from harness.errors import CannotHold, CommandLocked, IllegalPhase, NoAuthority, Refused, StoreUnavailable
from harness.moving import Act, Drained, Unfinished
from harness.phases import Phase
from harness.records import Verdict
from harness.routing import Store
from harness.settings import Settings

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
SCOPE = "acme/project-{}/incident-summary"
TABLE = "dispatch_organization_acme.prompt"
STATISTICAL = ("coverage", "mismatches", "latency", "errors", "slow", "applies")  # no parallel run has been made here


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


def ramp(migration: Migration, writes: float) -> None:
    ramp_shares(migration.app, migration.stores, None, writes, "a test")


def cut_over(migration: Migration) -> None:
    act_on(
        migration.app,
        migration.stores,
        "cutover",
        to_new,
        reason="a test",
        dry_run=False,
        gated=True,
        despite=STATISTICAL,
    )


def settled(migration: Migration) -> None:
    """Everything is carried over, and both stores are equal."""
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS


@pytest.fixture
def verified(carried_migration: Migration) -> Migration:
    """Six projects of acme, a prompt in each, copied and verified."""
    for project in range(1, 7):
        carried_migration.prompt(project=project, enabled=True)
    settled(carried_migration)
    return carried_migration


@pytest.fixture
def held_open(verified: Migration) -> Iterator[Migration]:
    """A transaction of somebody who wrote to legacy and does not end it."""
    with verified.stores.legacy.connect() as connection:
        connection.execute(text("SET application_name = 'the slow one'"))
        connection.execute(text(f"UPDATE {TABLE} SET genai_prompt = 'slow' WHERE project_id = 1"))
        yield verified
        connection.rollback()


# --- There and back -----------------------------------------------------------------------------------------------


def test_a_swap_that_is_on_its_way_holds_up_no_move(verified: Migration) -> None:
    """The enabled prompt of each scope is another one now: alone, as in the rehearsal, it would meet its forerunner."""
    verified.sql(f"DELETE FROM {TABLE}")
    for project in range(1, 7):
        verified.prompt(project=project, enabled=True)
    ramp(verified, 100.0)
    settled(verified)


def test_there_and_back_with_the_writes_of_both(verified: Migration) -> None:
    """Writes of legacy, of new after a ramp, and of legacy after a rollback: none is lost, both stores are equal."""
    stores = verified.stores
    stays = stores.legacy_repository.save(prompt(1, enabled=False))
    ramp(verified, 100.0)
    assert stores.new_repository.find_by_id(stays.id) == stays
    with pytest.raises(NoAuthority, match="acme/project-2/incident-summary"):
        stores.legacy_repository.save(prompt(2, enabled=False))
    born = stores.new_repository.save(prompt(2, enabled=False))
    edited = stores.new_repository.update(stays.with_content("Say who fixed it."))
    settled(verified)
    cut_over(verified)
    assert stores.stand().phase is Phase.CUT_OVER
    with pytest.raises(IllegalPhase, match="CUT_OVER"):
        ramp_by_itself(verified.app, stores, "there is nothing left to ramp")
    roll_back(verified.app, stores, "a test")
    assert stores.stand().phase is Phase.ROLLED_BACK
    assert stores.legacy_repository.find_by_id(born.id) == born
    assert stores.legacy_repository.find_by_id(stays.id) == edited
    with pytest.raises(NoAuthority):
        stores.new_repository.save(prompt(3, enabled=False))
    stores.legacy_repository.delete(born.id)
    settled(verified)
    assert stores.new_repository.find_by_id(born.id) is None


def test_a_share_moves_its_scopes_and_no_others(verified: Migration) -> None:
    """At any share each scope is accepted by one store, the one that the formula names, and refused by the other."""
    stores = verified.stores
    for share in (30.0, 70.0, 20.0):
        ramp(verified, share)
        route = stores.routes.view().route
        for project in range(1, 7):
            repositories = {Store.LEGACY: stores.legacy_repository, Store.NEW: stores.new_repository}
            authority = route.authority(SCOPE.format(project))
            made = repositories[authority].save(prompt(project, enabled=False))
            with pytest.raises(NoAuthority):
                repositories[authority.other].delete(made.id) if verified.drain() == 0 else None
            repositories[authority].delete(made.id)
        settled(verified)


def test_pins_decide_over_the_percent(verified: Migration) -> None:
    """An organization and a scope are moved, and moved back, on their own; the scope's pin counts for more."""
    settings = verified.app.settings
    done = crossfade(settings, "ramp", "--pin", "acme=new", "--json")
    assert done.returncode == 0, done.stderr
    assert document(done)["scopes"] == 6
    done = crossfade(settings, "ramp", "--pin", f"{SCOPE.format(1)}=legacy", "--json")
    assert (done.returncode, document(done)["scopes"]) == (0, 1)
    verified.stores.legacy_repository.save(prompt(1, enabled=False))
    verified.stores.new_repository.save(prompt(2, enabled=False))
    with pytest.raises(NoAuthority):
        verified.stores.legacy_repository.save(prompt(3, enabled=False))
    assert crossfade(settings, "ramp", "--unpin", "acme").returncode == 0
    verified.stores.legacy_repository.save(prompt(3, enabled=False))
    settled(verified)


def test_scopes_in_quarantine_stay_with_legacy(verified: Migration) -> None:
    """Whatever the percent says; they move with the next ramp after they were mended."""
    stores = verified.stores
    verified.sql(f"UPDATE {TABLE} SET genai_prompt = repeat('x', 10001) WHERE project_id = 4")
    settled(verified)
    ramp(verified, 60.0)
    ramp(verified, 100.0)
    route = stores.routes.view().route
    assert [p for p in range(1, 7) if route.authority(SCOPE.format(p)) is Store.LEGACY] == [4]
    verified.sql(f"UPDATE {TABLE} SET genai_prompt = 'shorter' WHERE project_id = 4")
    settled(verified)
    ramp(verified, 99.0)
    ramp(verified, 100.0)
    assert stores.routes.view().route.sole_authority is Store.NEW


def test_a_row_in_quarantine_can_be_left_behind_by_name(verified: Migration) -> None:
    """Accepted, it no longer stands in the way of a cutover; its scope is new's afterwards, and read from there."""
    stores = verified.stores
    verified.sql(f"UPDATE {TABLE} SET genai_prompt = repeat('x', 10001) WHERE project_id = 4")
    settled(verified)
    ramp(verified, 100.0)
    with pytest.raises(Refused, match="quarantine"):
        cut_over(verified)
    (row,) = held(stores.new)
    accept_rows(stores, [row.key], "an essay, not a prompt")
    cut_over(verified)
    assert stores.routes.view().route.sole_authority is Store.NEW
    with stores.router() as router:
        saved = router.repository.save(prompt(4))
        assert router.repository.find_by_id(saved.id) == saved
        assert router.repository.find_enabled_by_project(SCOPE.format(4)) == saved
    assert obstacles_of(stores).keys() <= {"on_the_way", "verified"}


def test_a_project_deleted_in_dispatch_is_gone_in_new(verified: Migration) -> None:
    """A cascade passes the guard although new has authority, and is carried over; other deletes are refused."""
    ramp(verified, 100.0)
    with pytest.raises(NoAuthority):
        verified.stores.legacy_repository.delete(verified.stores.new_repository.find_all(PromptFilter()).items[0].id)
    verified.sql("DELETE FROM dispatch_organization_acme.project WHERE id = 2")
    settled(verified)
    assert verified.stores.new_repository.find_enabled_by_project(SCOPE.format(2)) is None
    assert verified.new_sql("SELECT count(*) FROM prompts")[0][0] == 5


# --- Debt ---------------------------------------------------------------------------------------------------------


def test_what_legacy_could_not_hold_is_refused(verified: Migration) -> None:
    """rollback_safe: a second disabled prompt, and a scope of new's own, are refused once new has authority."""
    new = verified.stores.new_repository
    ramp(verified, 100.0)
    new.save(prompt(1, enabled=False))
    with pytest.raises(CannotHold, match="rollback_safe"):
        new.save(prompt(1, enabled=False))
    with pytest.raises(CannotHold, match="no_place"):
        new.save(replace(prompt(1), project_id="project-9", organization_id=None))
    settled(verified)


def test_debt_stands_in_the_way_of_a_rollback_until_it_is_accepted(verified: Migration) -> None:
    """Without rollback_safe it is counted; a rollback leaves it behind only if told so, and keeps its row."""
    stores, new = verified.stores, verified.stores.new_repository
    verified.new_sql("UPDATE crossfade.route SET rollback_safe = false")
    ramp(verified, 100.0)
    first = new.save(prompt(1, enabled=False))
    second = new.save(prompt(1, enabled=False))
    assert verified.drain() == 0
    assert verified.verify().verdict is Verdict.PASS
    assert status_of(stores)["rollback_debt"] == 1
    owed = {id for id in (first.id, second.id) if stores.legacy_repository.find_by_id(id) is None}
    with pytest.raises(Refused, match="accept-debt"):
        roll_back(verified.app, stores, "a test")
    assert (stores.phase, stores.journal.pending()) == (Phase.RAMPING, None)
    roll_back(verified.app, stores, "a test", accept_debt=True)
    rows = verified.new_sql("SELECT key, row->>'content' FROM crossfade.left_behind")
    assert [tuple(row) for row in rows] == [(str(key), "Say what broke.") for key in owed]
    assert status_of(stores)["rollback_debt"] == 0
    settled(verified)


# --- Refusals, with nothing changed -------------------------------------------------------------------------------


def test_a_dry_run_tells_and_changes_nothing(verified: Migration) -> None:
    """The plan names the scopes, the loser and what stands in the way; route, phase and journal stay as they were."""
    before = verified.stores.stand()
    done = crossfade(verified.app.settings, "ramp", "100", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    told = document(done)
    assert (told["scopes"], told["records"], told["loser"], told["changed"]) == (6, 6, "legacy", False)
    assert verified.stores.stand() == before
    assert verified.stores.journal.acts() == []
    done = crossfade(verified.app.settings, "cutover", "--dry-run", "--json")
    assert done.returncode == 4  # not even ramping


def test_a_fence_that_cannot_be_had(held_open: Migration, tmp_path: Path) -> None:
    """A transaction that stays open: exit 4 after a bounded time, it is named, and nothing has changed."""
    before = held_open.stores.stand()
    settings = held_open.app.settings
    patience = tmp_path / "crossfade.toml"
    patience.write_text("[move]\nattempts = 2\nfence_seconds = 0.2\n")
    done = crossfade(settings, "ramp", "100", "--despite", "long_transactions", "--config", str(patience))
    assert done.returncode == 4, done.stderr
    assert "could not be held back" in done.stderr
    assert "legacy: a fence waited in vain for the slow one (pid " in done.stderr
    assert held_open.stores.stand() == before
    assert status_of(held_open.stores)["unfinished"] is None
    held_open.prompt(project=2, enabled=False)  # writers go on


def test_a_move_waits_for_a_transaction_that_ends(verified: Migration) -> None:
    """Attempts are made again: once the transaction has ended, its write is carried over and the scopes move."""
    with verified.stores.legacy.connect() as slow:
        slow.execute(text(f"UPDATE {TABLE} SET genai_prompt = 'in time' WHERE project_id = 2"))
        moving = threading.Thread(target=ramp, args=(verified, 100.0))
        moving.start()
        while verified.stores.journal.pending() is None:
            assert moving.is_alive()
        slow.commit()
        moving.join()
    assert verified.stores.routes.view().route.writes_percent == 100.0
    found = verified.stores.new_repository.find_enabled_by_project(SCOPE.format(2))
    assert found is not None
    assert found.content == "in time"


def test_two_operators_at_once(verified: Migration) -> None:
    """The second one is told who is at it, ends with 6, and changes nothing."""
    with command_lock(verified.stores.new, LOCK):
        done = crossfade(verified.app.settings, "ramp", "50")
        assert (done.returncode, "another crossfade" in done.stderr) == (6, True)
        with pytest.raises(CommandLocked):
            ramp(verified, 50.0)
    assert verified.stores.routes.view().route.writes_percent == 0.0


@pytest.mark.parametrize(
    ("command", "phase"), [("cutover", "SHADOWING"), ("rollback", "BACKFILLED"), ("complete", "RAMPING")]
)
def test_a_command_in_the_wrong_phase(verified: Migration, command: str, phase: str) -> None:
    """Refused by name with 4, with nothing changed."""
    for step in (Phase.SHADOWING, Phase.RAMPING):
        if verified.stores.phase.value != phase:
            verified.stores.phases.advance(step, "a test", "")
    assert verified.stores.phase.value == phase
    before = verified.stores.stand()
    more = ["--yes"] if command != "rollback" else []
    done = crossfade(verified.app.settings, command, *more)
    assert (done.returncode, phase in done.stderr) == (4, True), done.stderr
    assert verified.stores.stand() == before


def test_a_ramp_needs_a_verification_and_an_enforcing_guard(carried_migration: Migration) -> None:
    """Nothing moves on no evidence, nor where the guard would let writes of both stores pass."""
    with pytest.raises(Refused, match="verif"):
        ramp(carried_migration, 10.0)
    settled(carried_migration)
    carried_migration.sql("UPDATE crossfade.route SET guard = 'record'")
    with pytest.raises(Refused, match="guard"):
        ramp(carried_migration, 10.0)


def test_a_difference_found_inside_the_fence_stops_the_move(verified: Migration) -> None:
    """What was just carried over is compared; a difference ends the act, with nothing changed."""
    verified.sql(f"UPDATE {TABLE} SET genai_prompt = 'changed' WHERE project_id = 1")
    verified.behind(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.content := 'spoilt'; RETURN NEW; END $$"
    )
    verified.behind("CREATE TRIGGER spoil BEFORE UPDATE ON prompts FOR EACH ROW EXECUTE FUNCTION spoil()")
    done = crossfade(verified.app.settings, "ramp", "100", "--json")
    assert (done.returncode, "differ" in done.stderr) == (3, True), done.stderr
    assert verified.stores.routes.view().route.writes_percent == 0.0
    assert verified.stores.journal.pending() is None


class Away:
    """A journal in a store that has just gone."""

    def finish(self, act: Act) -> None:
        raise StoreUnavailable("new: nothing listens there")

    def undo(self, act: Act) -> None:
        raise AssertionError(f"{act.command} was not undone")


def test_that_authority_has_moved_is_said_although_the_journal_is_away(verified: Migration) -> None:
    """Both routes are written when new dies: what follows is told, and resume does the rest."""
    stores = verified.stores
    wanted = plan(stores, "ramp", lambda now: replace(now, writes_percent=100.0, phase=Phase.RAMPING))
    act = begin(stores, wanted, "a test")
    mover = replace(stores.mover(act, verified.app.stop, verified.app.say), journal=Away())
    with pytest.raises(Unfinished, match=r"authority has moved.*crossfade resume"):
        mover.move(act)
    assert stores.fences.happened(act, else_undo=False)
    assert crossfade(verified.app.settings, "resume").returncode == 0
    assert (stores.stand().writes_percent, stores.phase) == (100.0, Phase.RAMPING)


# --- Repair, complete ---------------------------------------------------------------------------------------------


def test_repair_goes_towards_the_store_with_authority(verified: Migration) -> None:
    """A fault in legacy, once new has authority, is mended in legacy; what new says stays."""
    stores = verified.stores
    ramp(verified, 100.0)
    with stores.legacy.begin() as connection:
        connection.execute(text("SET LOCAL crossfade.applying = 'on'"))
        connection.execute(text(f"UPDATE {TABLE} SET genai_prompt = 'rotten' WHERE project_id = 1"))
        connection.execute(text(f"DELETE FROM {TABLE} WHERE project_id = 2"))
    found = plan_repair(verified.app, stores)
    assert {each.act for each in found} == {"overwrite in legacy with what new has", "add to legacy what new has"}
    done = carry_out_repair(verified.app, stores, found, "a test")
    assert done["verdict"] == "pass"
    assert verified.sql(f"SELECT count(*) FROM {TABLE} WHERE genai_prompt = 'rotten'")[0][0] == 0


@pytest.mark.parametrize("point", ["repair.audited", "repair.new_noted", "repair.noted"])
def test_repair_that_died_is_done_by_running_it_again(verified: Migration, point: str) -> None:
    """kill -9 between any two of its steps, with faults in both stores: none of them is mended the wrong way."""
    scope = SCOPE.format(1)
    done = crossfade(verified.app.settings, "ramp", "--pin", f"{scope}=new")
    assert done.returncode == 0, done.stderr
    with verified.stores.legacy.begin() as connection:
        connection.execute(text("SET LOCAL crossfade.applying = 'on'"))
        connection.execute(text(f"UPDATE {TABLE} SET genai_prompt = 'rotten' WHERE project_id = 1"))
    verified.behind("UPDATE prompts SET content = 'rotten' WHERE project_id = :scope", scope=SCOPE.format(2))
    killed = crossfade(verified.app.settings, "repair", "--yes", CROSSFADE_FAILPOINTS=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert crossfade(verified.app.settings, "catchup").returncode == 0  # repair judges nothing that is on its way
    done = crossfade(verified.app.settings, "repair", "--yes", "--json")
    assert (done.returncode, document(done)["verdict"]) == (0, "pass"), done.stderr
    assert verified.sql(f"SELECT count(*) FROM {TABLE} WHERE genai_prompt = 'rotten'") == [(0,)]
    assert verified.new_sql("SELECT count(*) FROM prompts WHERE content = 'rotten'") == [(0,)]


def test_repair_does_not_go_the_other_way_when_authority_has_moved(verified: Migration) -> None:
    """Its question stood open while somebody rolled back: what it said it would overwrite with is not overwritten."""
    stores = verified.stores
    ramp(verified, 100.0)
    cut_over(verified)
    with stores.legacy.begin() as connection:
        connection.execute(text("SET LOCAL crossfade.applying = 'on'"))
        connection.execute(text(f"UPDATE {TABLE} SET genai_prompt = 'rotten' WHERE project_id = 1"))
    found = plan_repair(verified.app, stores)
    assert {each.act for each in found} == {"overwrite in legacy with what new has"}
    roll_back(verified.app, stores, "a test")
    with pytest.raises(Refused, match="has moved from new to legacy since"):
        carry_out_repair(verified.app, stores, found, "a test")
    assert verified.new_sql("SELECT count(*) FROM prompts WHERE content = 'rotten'") == [(0,)]
    assert verified.drain() == 0
    assert verified.new_sql("SELECT count(*) FROM prompts WHERE content = 'rotten'") == [(0,)]


@pytest.mark.parametrize("way", [("ramp", "0"), ("rollback",)])
def test_nothing_keeps_new_serving_what_is_wrong(verified: Migration, way: tuple[str, ...]) -> None:
    """A failed verification, a tenant that nothing carries over, and a pin that says what the percent says anyway: the
    way back moves no scope, and asks for none of that.
    """
    settings = verified.app.settings
    for words in (("ramp", "--reads", "50"), ("ramp", "--pin", f"{SCOPE.format(1)}=legacy")):
        assert crossfade(settings, *words).returncode == 0
    verified.behind("UPDATE prompts SET content = 'rotten' WHERE project_id = :scope", scope=SCOPE.format(2))
    assert crossfade(settings, "verify").returncode == 3
    with verified.stores.legacy.begin() as connection:
        create_tenants(connection, ("fresh",))
    done = crossfade(settings, *way, "--json")
    assert done.returncode == 0, done.stderr
    assert (document(done)["reads_percent"], document(done)["scopes"]) == (0.0, 0)


def test_rogue_writes_are_kept_and_healed(verified: Migration) -> None:
    """Guard mode record: the write passes, is filed with its rows and counted, and the authority's state comes back."""
    ramp(verified, 100.0)
    for sql in (verified.sql, verified.new_sql):
        sql("UPDATE crossfade.route SET guard = 'record'")
    before = verified.stores.new_repository.find_enabled_by_project(SCOPE.format(1))
    verified.sql(f"UPDATE {TABLE} SET genai_prompt = 'rogue' WHERE project_id = 1")
    verified.sql(f"DELETE FROM {TABLE} WHERE project_id = 2")
    assert status_of(verified.stores)["rogue_writes"] == 2
    few = document(crossfade(verified.app.settings, "rogue", "--limit", "1", "--json"))
    assert (len(few["writes"]), sum(few["total"].values())) == (1, 2)
    told = document(crossfade(verified.app.settings, "rogue", "--all", "--limit", "1", "--show-values", "--json"))
    assert [each["operation"] for each in told["writes"]] == ["DELETE", "UPDATE"]
    assert told["writes"][1]["after"]["genai_prompt"] == "rogue"
    settled(verified)
    assert verified.stores.new_repository.find_enabled_by_project(SCOPE.format(1)) == before
    assert verified.sql(f"SELECT count(*) FROM {TABLE} WHERE genai_prompt = 'rogue'")[0][0] == 0


def test_complete_lets_go_of_legacy(verified: Migration) -> None:
    """Afterwards new is free of us, legacy refuses writes, and only uninstall is left, which leaves no trace."""
    stores = verified.stores
    ramp(verified, 100.0)
    settled(verified)
    cut_over(verified)
    assert obstacles_of(stores) == {}
    assert let_go(verified.app, stores, "a test") is Phase.COMPLETE
    for _ in range(2):
        verified.new_sql(
            "INSERT INTO prompts (name, content, type, project_id) VALUES ('n', 'c', 'custom', :scope)",
            scope=SCOPE.format(1),
        )
    assert verified.new_sql("SELECT count(*) FROM crossfade.dirty")[0][0] == 0
    with pytest.raises(NoAuthority):
        stores.legacy_repository.save(prompt(2, enabled=False))
    with pytest.raises(IllegalPhase):
        plan(stores, "rollback", lambda now: to_new(now))
    settings: Settings = verified.app.settings
    done = crossfade(settings, "uninstall", "--yes", "--json")
    assert (done.returncode, document(done)["phase"]) == (0, "COMPLETE"), done.stderr
    assert verified.sql("SELECT to_regnamespace('crossfade') IS NULL")[0][0]
    assert verified.sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'crossfade%'")[0][0] == 0
    verified.prompt(project=3, enabled=False)  # Dispatch is as it was before


def test_complete_waits_for_pins_to_legacy(verified: Migration) -> None:
    """What legacy would still accept after a cutover nobody would carry over any more; no --despite passes over it."""
    ramp(verified, 100.0)
    settled(verified)
    cut_over(verified)
    settings = verified.app.settings
    assert crossfade(settings, "ramp", "--pin", "acme=legacy").returncode == 0
    assert "authority" in obstacles_of(verified.stores)
    done = crossfade(settings, "complete", "--yes", "--despite", "authority")
    assert (done.returncode, "--unpin" in done.stderr) == (4, True), done.stderr
    assert verified.stores.phase is Phase.CUT_OVER


def test_uninstall_refuses_while_something_would_be_lost(verified: Migration) -> None:
    """While new has authority, and while only the sidecar knows a prompt's id; given up, one can begin again."""
    settings, stores = verified.app.settings, verified.stores
    ramp(verified, 100.0)
    done = crossfade(settings, "uninstall", "--yes")
    assert (done.returncode, "RAMPING" in done.stderr) == (4, True), done.stderr
    born = stores.new_repository.save(prompt(1, enabled=False))
    roll_back(verified.app, stores, "a test")
    done = crossfade(settings, "uninstall", "--yes")
    assert (done.returncode, "1 prompts" in done.stderr) == (4, True), done.stderr
    stores.legacy_repository.delete(born.id)
    assert verified.drain() == 0
    assert crossfade(settings, "uninstall", "--yes").returncode == 0
    assert stores.phase is Phase.IDLE
    verified.prepare()
    verified.backfill()
    settled(verified)


def test_a_plan_that_was_overtaken_is_refused(verified: Migration) -> None:
    """Made before somebody else changed the route, it is not begun: it could never be finished."""
    stores = verified.stores
    ramp(verified, 10.0)
    stale = plan(stores, "ramp", lambda now: replace(now, writes_percent=50.0))
    ramp(verified, 20.0)
    with pytest.raises(Refused, match="meanwhile"):
        begin(stores, stale, "a test")
    assert stores.journal.pending() is None


def test_a_store_that_dies_during_the_fence(verified: Migration) -> None:
    """Every connection of ours is cut while the fence stands: 5, and the state is the one before."""
    stores = verified.stores
    act = begin(stores, plan(stores, "ramp", lambda now: replace(now, writes_percent=100.0, phase=Phase.RAMPING)), "")

    def cut(_: Act, __: float) -> Drained:
        for sql in (verified.sql, verified.new_sql):
            sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
        return Drained(act.after)

    mover = replace(stores.mover(act, threading.Event(), lambda _: None), drain=cut)
    with pytest.raises(StoreUnavailable):
        mover.move(act)
    assert (stores.journal.pending(), stores.routes.view().route.writes_percent) == (None, 0.0)
    verified.prompt(project=1, enabled=False)  # and the fence has gone with it


def test_a_pool_of_eight_is_enough_for_every_command(verified: Migration, tmp_path: Path) -> None:
    """As the settings say of pool.max_connections."""
    small = tmp_path / "crossfade.toml"
    small.write_text("[pool]\nmax_connections = 8\n")
    commands = (
        *(("prepare",), ("backfill",), ("catchup",), ("verify",), ("ramp", "50"), ("repair", "--yes"), ("status",)),
        *(("report",), ("rollback",), ("uninstall", "--yes", "--accept-loss")),
    )
    for words in commands:
        done = crossfade(verified.app.settings, *words, "--config", str(small))
        assert done.returncode == 0, f"{words}: {done.stderr}"
