"""What a rollback leaves behind is kept for good, and uninstall takes out of legacy what is ours and nothing else."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest
from command import crossfade, document
from fix_postgres import until
from fix_stores import Migration
from sqlalchemy import text
from test_moving import TABLE, cut_over, prompt, ramp, settled, verified

from adapters.postgres import triggers
from adapters.postgres.ledger.locks import command_lock
from adapters.prompts.prompt import Prompt
from harness.cli.complete import let_go, obstacles_of
from harness.cli.quarantine import accept_rows
from harness.cli.repair import plan_repair
from harness.cli.rollback import roll_back
from harness.cli.standing import status_of
from harness.cli.uninstall import losses_of, remove
from harness.errors import IllegalPhase, Refused

__all__ = ["verified"]

KEPT = "SELECT key, row->>'content' FROM crossfade.left_behind ORDER BY id"
TRIGGERS = "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgname ~ 'crossfade' ORDER BY 1, 2"
INDEXES = "SELECT schemaname, indexname FROM pg_indexes WHERE indexname ~ '^crossfade_' ORDER BY 1, 2"
WAITING = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def owe(migration: Migration) -> Prompt:
    """Let new hold a record that legacy cannot: the second disabled one of its scope."""
    stores = migration.stores
    migration.new_sql("UPDATE crossfade.route SET rollback_safe = false")
    ramp(migration, 100.0)
    both = [stores.new_repository.save(prompt(1, enabled=False)) for _ in range(2)]
    assert migration.drain() == 0
    [owed] = [each for each in both if stores.legacy_repository.find_by_id(each.id) is None]
    return owed


@pytest.fixture
def left_behind(verified: Migration) -> tuple[Migration, Prompt]:
    """Rolled back, and a record was left behind."""
    owed = owe(verified)
    roll_back(verified.app, verified.stores, "a test", accept_debt=True)
    settled(verified)
    return verified, owed


# --- What was left behind -----------------------------------------------------------------------------------------


def test_what_was_left_behind_is_debt_again_when_it_is_saved_again(left_behind: tuple[Migration, Prompt]) -> None:
    """It is counted, a plain rollback is refused with the record in place, and each time's row is kept."""
    migration, owed = left_behind
    stores = migration.stores
    ramp(migration, 100.0)
    again = stores.new_repository.save(owed.with_content("Say it once more."))
    assert migration.drain() == 0
    assert status_of(stores)["rollback_debt"] == 1
    with pytest.raises(Refused, match="accept-debt"):
        roll_back(migration.app, stores, "a test")
    assert stores.new_repository.find_by_id(owed.id) == again
    assert migration.new_sql(KEPT) == [(str(owed.id), owed.content)]
    roll_back(migration.app, stores, "a test", accept_debt=True)
    settled(migration)
    assert migration.new_sql(KEPT) == [(str(owed.id), owed.content), (str(owed.id), "Say it once more.")]
    assert status_of(stores)["rollback_debt"] == 0


def test_uninstall_keeps_what_was_left_behind(left_behind: tuple[Migration, Prompt]) -> None:
    """Its row stays in the ledger, which is in new, when the migration is given up, and when it begins again."""
    migration, owed = left_behind
    for [id] in migration.sql("SELECT id FROM crossfade.sidecar"):
        migration.stores.legacy_repository.delete(id)
    assert migration.drain() == 0
    assert losses_of(migration.stores) == []
    assert crossfade(migration.app.settings, "uninstall", "--yes").returncode == 0
    assert migration.new_sql(KEPT) == [(str(owed.id), owed.content)]
    migration.prepare()
    migration.backfill()
    settled(migration)
    assert migration.new_sql(KEPT) == [(str(owed.id), owed.content)]


def test_a_row_that_was_disabled_to_make_room_is_a_loss(verified: Migration) -> None:
    """Only the ledger's quarantine knows that it was enabled, and uninstall empties that: it is named first."""
    stores = verified.stores
    row = verified.prompt(project=6, genai_type=1, genai_prompt="", enabled=True)
    assert verified.drain() == 0
    [[key]] = verified.new_sql("SELECT key FROM crossfade.quarantine")
    accept_rows(stores, [key], "an essay")
    assert losses_of(stores) == []
    ramp(verified, 100.0)
    place = replace(prompt(6), project_id="acme/project-6/tag-recommendation", name="Tag Recommendation")
    stores.new_repository.save(place)
    assert verified.drain() == 0
    stores.new_repository.delete(place.id)
    assert verified.drain() == 0
    roll_back(verified.app, stores, "a test")
    assert verified.sql(f"SELECT enabled FROM {TABLE} WHERE id = :id", id=row) == [(False,)]
    done = crossfade(verified.app.settings, "uninstall", "--yes")
    assert (done.returncode, "1 rows of legacy which were left behind were enabled" in done.stderr) == (4, True)
    assert key in done.stderr
    assert crossfade(verified.app.settings, "uninstall", "--yes", "--accept-loss").returncode == 0


# --- What uninstall takes away ------------------------------------------------------------------------------------


def test_uninstall_drops_nothing_that_was_written_after_it_had_looked(verified: Migration) -> None:
    """A writer that had not committed by then is waited for, and what only the sidecar knows of it is a loss."""
    stores = verified.stores
    phase = stores.phase
    before = verified.sql(TRIGGERS), verified.new_sql(TRIGGERS)
    with stores.legacy.connect() as writer, ThreadPoolExecutor(1) as pool:
        insert = f"INSERT INTO {TABLE} (genai_type, genai_prompt, enabled, project_id) VALUES (2, 'x', false, 1)"
        number = writer.execute(text(f"{insert} RETURNING id")).scalar_one()
        removal = pool.submit(remove, verified.app, stores, "a test", accept_loss=False)
        until(lambda: verified.sql(WAITING) != [])
        beside = "INSERT INTO crossfade.sidecar (organization, legacy_id, id, name) VALUES ('acme', :n, :id, 'Own')"
        writer.execute(text(beside), {"n": number, "id": uuid4()})
        writer.commit()
        with pytest.raises(Refused, match="of 1 prompts"):
            removal.result()
    assert stores.phase is phase
    assert (verified.sql(TRIGGERS), verified.new_sql(TRIGGERS)) == before
    assert verified.sql("SELECT name FROM crossfade.sidecar") == [("Own",)]
    settled(verified)


def test_uninstall_that_cannot_have_a_lock_says_so(verified: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the lock and who may hold it, and nothing has changed."""
    monkeypatch.setattr(triggers, "LOCK_TIMEOUT", "10ms")
    stores = verified.stores
    phase = stores.phase
    with stores.legacy.connect() as writer:
        writer.execute(text(f"UPDATE {TABLE} SET genai_prompt = 'slow' WHERE project_id = 1"))
        with pytest.raises(Refused, match=r"lock of the tables .*pg_stat_activity"):
            remove(verified.app, stores, "a test", accept_loss=False)
        writer.rollback()
    assert stores.phase is phase
    settled(verified)


def test_uninstall_leaves_other_peoples_indexes(verified: Migration) -> None:
    """An index is not ours for its name: of those, only the ones on tenants' prompts go."""
    verified.sql("CREATE TABLE public.things (id int)")
    verified.sql("CREATE INDEX crossfade_own ON public.things (id)")
    verified.sql("CREATE INDEX crossfade_identity ON public.things ((id + 1))")
    verified.sql(f"CREATE INDEX crossfade_of_theirs ON {TABLE} (project_id)")
    # A tenant that is no organization any more has its index still.
    verified.sql("DELETE FROM dispatch_core.organization WHERE slug = 'umbra'")
    ours = verified.sql(INDEXES)
    assert len(ours) == 5
    assert crossfade(verified.app.settings, "uninstall", "--yes").returncode == 0
    left = [("dispatch_organization_acme", "crossfade_of_theirs")]
    assert verified.sql(INDEXES) == [*left, ("public", "crossfade_identity"), ("public", "crossfade_own")]


def test_uninstall_twice_says_that_nothing_is_left(verified: Migration) -> None:
    """So it does before prepare, and ends well; rogue is refused by the phase instead of missing a table."""
    settings = verified.app.settings
    assert crossfade(settings, "uninstall", "--yes").returncode == 0
    for arguments in (("uninstall", "--yes", "--json"), ("uninstall", "--dry-run", "--json"), ("uninstall", "--json")):
        done = crossfade(settings, *arguments)
        assert (done.returncode, document(done)["changed"]) == (0, False), done.stderr
        assert "nothing of Crossfade is in legacy" in done.stderr
    done = crossfade(settings, "rogue")
    assert (done.returncode, "crossfade prepare" in done.stderr) == (4, True), done.stderr


def test_uninstall_before_prepare_finds_nothing(migration: Migration) -> None:
    """Where no ledger is there is nothing to take away, and nobody is told to prepare."""
    done = crossfade(migration.app.settings, "uninstall", "--yes")
    assert (done.returncode, "nothing of Crossfade" in done.stderr) == (0, True), done.stderr


@pytest.mark.parametrize("point", ["uninstall.ledger_closed", "uninstall.legacy_left"])
def test_uninstall_that_dies_is_seen_and_finished(verified: Migration, point: str) -> None:
    """kill -9 before legacy has let go of it, or when nothing of ours is there any more: status says so, and run again
    it frees both, and ends well.
    """
    settings = verified.app.settings
    killed = crossfade(settings, "uninstall", "--yes", CROSSFADE_FAILPOINTS=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert verified.new_sql(TRIGGERS) != []
    found = document(crossfade(settings, "status", "--json"))
    assert (found["phase"], found["half_left"], "crossfade uninstall" in found["next"]) == ("IDLE", True, True)
    done = crossfade(settings, "uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert verified.new_sql(TRIGGERS) == []
    found = document(crossfade(settings, "status", "--json"))
    assert (found["half_left"], found["next"]) == (False, "crossfade prepare")


def test_uninstall_waits_for_prepare(migration: Migration) -> None:
    """And status, which finds legacy prepared and the phase at IDLE meanwhile, does not say that it was cut short."""
    settings = migration.app.settings
    killed = crossfade(settings, "prepare", CROSSFADE_FAILPOINTS="prepare.capture_attached=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with command_lock(migration.stores.new, "prepare"):
        assert document(crossfade(settings, "status", "--json"))["half_left"] is False
        done = crossfade(settings, "uninstall", "--yes")
        assert (done.returncode, "another crossfade prepare is running" in done.stderr) == (6, True), done.stderr
    assert document(crossfade(settings, "status", "--json"))["half_left"] is True


@pytest.mark.parametrize("name", ["backfill", "verify", "repair", "authority"])
def test_uninstall_goes_beside_no_command_that_uses_what_is_to_go(verified: Migration, name: str) -> None:
    """A chunk that is being copied and it would wait for each other in two databases, legacy's tables locked."""
    with command_lock(verified.stores.new, name):
        done = crossfade(verified.app.settings, "uninstall", "--yes", "--accept-loss")
    assert (done.returncode, f"another crossfade {name} is running" in done.stderr) == (6, True), done.stderr


def test_uninstall_does_not_wait_for_the_ledger_with_legacys_tables_in_hand(verified: Migration) -> None:
    """A backfill's worker elsewhere, whose command has died, has its chunk still: it gives up, with nothing changed."""
    with verified.stores.new.begin() as worker:
        worker.execute(text("SELECT FROM crossfade.checkpoint FOR UPDATE"))
        done = crossfade(verified.app.settings, "uninstall", "--yes", "--accept-loss")
    assert (done.returncode, "lock was not to be had" in done.stderr) == (5, True), done.stderr
    assert status_of(verified.stores)["phase"] == "BACKFILLED"
    assert crossfade(verified.app.settings, "uninstall", "--yes", "--accept-loss").returncode == 0


def test_a_dry_run_ends_as_the_act_would(verified: Migration) -> None:
    """Of uninstall, while something would be lost, and of what takes from new what legacy cannot hold."""
    settings = verified.app.settings
    beside = "INSERT INTO crossfade.sidecar (organization, legacy_id, id, name) VALUES ('acme', 4711, :id, 'Own')"
    verified.sql(beside, id=uuid4())
    done = crossfade(settings, "uninstall", "--dry-run", "--json")
    assert (done.returncode, len(document(done)["losses"])) == (4, 1), done.stderr
    assert crossfade(settings, "uninstall", "--dry-run", "--accept-loss").returncode == 0
    owing = owe(verified)
    done = crossfade(settings, "rollback", "--dry-run", "--json")
    assert (done.returncode, [*document(done)["obstacles"]]) == (4, ["debt"]), done.stderr
    assert crossfade(settings, "rollback", "--dry-run", "--accept-debt").returncode == 0
    told = document(crossfade(settings, "status", "--json"))["owed"]
    assert [(each["key"], each["reason"]) for each in told] == [(str(owing.id), "second_disabled")]


def test_where_new_was_made_anew_prepare_comes_first(verified: Migration) -> None:
    """Legacy is prepared for a ledger that is gone: nothing says what may be lost until there is one again."""
    settings = verified.app.settings
    verified.new_sql("DROP SCHEMA crossfade CASCADE")
    verified.new_sql("DROP TABLE prompts CASCADE")
    found = document(crossfade(settings, "status", "--json"))
    assert (found["half_left"], found["next"]) == (False, "crossfade prepare")
    done = crossfade(settings, "uninstall", "--yes")
    assert (done.returncode, "crossfade prepare" in done.stderr) == (4, True), done.stderr
    for words in (("prepare",), ("uninstall", "--yes", "--accept-loss")):
        done = crossfade(settings, *words)
        assert done.returncode == 0, done.stderr


def test_a_store_without_a_route_is_named(verified: Migration) -> None:
    """Its guard refuses every write; prepare writes the route anew."""
    settings = verified.app.settings
    verified.sql("DELETE FROM crossfade.route")
    for words in (("status",), ("ramp", "10")):
        done = crossfade(settings, *words)
        assert (done.returncode, "legacy does not know its authority" in done.stderr) == (4, True), done.stderr
    assert crossfade(settings, "prepare").returncode == 0
    assert crossfade(settings, "status").returncode == 0


def test_prepare_that_dies_is_seen(migration: Migration) -> None:
    """Before the phase says that anything is prepared."""
    settings = migration.app.settings
    killed = crossfade(settings, "prepare", CROSSFADE_FAILPOINTS="prepare.legacy_upgraded=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    found = document(crossfade(settings, "status", "--json"))
    assert (found["half_left"], "crossfade prepare" in found["next"]) == (True, True)
    done = crossfade(settings, "uninstall", "--yes", CROSSFADE_DEBUG="1")
    assert done.returncode == 0, done.stderr
    assert document(crossfade(settings, "status", "--json"))["half_left"] is False


# --- After complete -----------------------------------------------------------------------------------------------


@pytest.fixture
def completed(verified: Migration) -> Migration:
    """Legacy was let go of."""
    cut_over_and_settled(verified)
    let_go(verified.app, verified.stores, "a test")
    return verified


def test_legacy_may_be_dismantled_before_it_is_left(completed: Migration) -> None:
    """A tenant's schema is dropped once nobody needs its data: what is left of us goes all the same."""
    completed.sql("DROP SCHEMA dispatch_organization_umbra CASCADE")
    done = crossfade(completed.app.settings, "uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert completed.sql("SELECT to_regnamespace('crossfade') IS NULL") == [(True,)]


def test_what_is_noted_by_a_writer_that_was_late_is_nobodys_any_more(verified: Migration) -> None:
    """Its transaction was open when legacy was let go of, and is committed after it."""
    cut_over_and_settled(verified)
    with verified.stores.legacy.begin() as late:
        late.execute(text(f"INSERT INTO {TABLE} (genai_type, genai_prompt, enabled) VALUES (2, 'late', true)"))
        let_go(verified.app, verified.stores, "a test")
    assert status_of(verified.stores)["half_complete"] is False
    assert crossfade(verified.app.settings, "uninstall", "--yes").returncode == 0


def test_rogue_after_the_end_shows_new_alone(completed: Migration) -> None:
    """Complete and uninstalled, new's rogue writes can still be looked at; uninstall again finds nothing."""
    settings = completed.app.settings
    for _ in range(2):
        assert crossfade(settings, "uninstall", "--yes").returncode == 0
    done = crossfade(settings, "rogue", "--json")
    assert (done.returncode, document(done)["total"]) == (0, {"new": 0}), done.stderr


def test_repair_is_refused_after_complete(completed: Migration) -> None:
    """Nobody carries new's later records back: legacy stays as it was when it was let go of."""
    before = completed.sql(f"SELECT * FROM {TABLE} ORDER BY id")
    completed.stores.new_repository.save(prompt(2, enabled=False))
    for arguments in (("repair", "--yes"), ("repair", "--dry-run")):
        done = crossfade(completed.app.settings, *arguments)
        assert (done.returncode, "COMPLETE" in done.stderr) == (4, True), done.stderr
    with pytest.raises(IllegalPhase, match="repair"):
        plan_repair(completed.app, completed.stores)
    assert completed.sql(f"SELECT * FROM {TABLE} ORDER BY id") == before


@pytest.mark.parametrize("point", ["complete.phase_moved", "complete.new_free"])
def test_complete_that_died_is_seen_and_finished(verified: Migration, point: str) -> None:
    """status says that it is half done, in new or in legacy, uninstall waits for it, and once more finishes it."""
    settings, stores = verified.app.settings, verified.stores
    cut_over_and_settled(verified)
    words = ("complete", "--yes", "--reason", "a test", "--json")
    assert crossfade(settings, *words, CROSSFADE_FAILPOINTS=f"{point}=kill").returncode == -signal.SIGKILL
    assert (status_of(stores)["half_complete"], "crossfade complete" in status_of(stores)["next"]) == (True, True)
    waits = crossfade(settings, "uninstall", "--yes")
    assert (waits.returncode, "half done" in waits.stderr) == (4, True)
    assert document(crossfade(settings, *words))["changed"] is True
    assert status_of(stores)["half_complete"] is False
    assert document(crossfade(settings, *words))["changed"] is False
    assert verified.new_sql(TRIGGERS) == []


def test_complete_wants_guards_that_enforce_and_no_rogue_writes(verified: Migration) -> None:
    """Legacy is to go on refusing writes, and what it took without authority is to be looked at before."""
    cut_over_and_settled(verified)
    for sql in (verified.sql, verified.new_sql):
        sql("UPDATE crossfade.route SET guard = 'record'")
    verified.sql(f"UPDATE {TABLE} SET genai_prompt = 'unseen' WHERE project_id = 1")
    refused = crossfade(verified.app.settings, "complete", "--yes", "--despite", "guard", "--json")
    assert (refused.returncode, "does not enforce" in refused.stderr) == (4, True)
    assert {"guard", "rogue"} <= obstacles_of(verified.stores).keys()


def cut_over_and_settled(migration: Migration) -> None:
    ramp(migration, 100.0)
    settled(migration)
    cut_over(migration)
    settled(migration)
