"""Workers that are late, that hold what others want, and whose stores change under them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from command import crossfade
from fix_postgres import until
from fix_stores import Migration
from sqlalchemy import func, select, text

from adapters.postgres import batch_carrier
from adapters.postgres.both_ways import BothWays
from adapters.postgres.ledger.debt import owed
from adapters.prompts.dispatch_rows import legacy_id
from adapters.prompts.migration import opened
from adapters.prompts.prompt import Prompt, PromptType
from harness.catchup import Carried, follow
from harness.errors import CrossfadeError, Refused
from harness.failpoints import passing
from harness.records import Verdict
from harness.routing import Store

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
TABLE = "dispatch_organization_acme.prompt"
ONE, TWO = (f"acme/project-{number}/incident-summary" for number in (1, 2))
NOWHERE = "acme/project-99/incident-summary"  # there is no such project: new may hold it, legacy cannot


def prompt(scope: str, *, enabled: bool = True) -> Prompt:
    return Prompt(
        uuid4(),
        "Summary",
        "Say what broke.",
        PromptType.SUMMARIZATION,
        NOON,
        NOON,
        project_id=scope,
        organization_id="acme",
        enabled=enabled,
    )


@pytest.fixture
def moved(carried_migration: Migration) -> Migration:
    """New has authority, and may hold what legacy cannot."""
    carried_migration.new_sql("UPDATE crossfade.route SET rollback_safe = false")
    carried_migration.route(100.0)
    return carried_migration


@contextmanager
def followed(worker: BothWays, said: list[str]) -> Iterator[None]:
    """A follower at work; fails if it has ended by itself. ``said``: what it said of stores that are away."""
    stop, ended = threading.Event(), list[BaseException | None]()

    def run() -> None:
        try:
            follow(worker, stop=stop, pause=0.02, unavailable=lambda error: said.append(str(error)))
        except BaseException as error:  # noqa: BLE001 - the test fails with it
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert ended == [], ended


# --- Late with what is owed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(ONE, NOWHERE), (NOWHERE, ONE)])
def test_a_late_worker_says_nothing_of_a_record_that_another_has_carried_since(
    moved: Migration, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    """One has committed in legacy and stands still; another carries the record's next state. Debt is what that says."""
    saved = moved.stores.new_repository.save(prompt(before))
    late = list[str]()

    def stands_still(name: str) -> None:
        passing(name)
        if name == "catchup.after_commit" and not late:
            late.append(name)
            moved.new_sql("UPDATE prompts SET project_id = :scope WHERE id = :id", scope=after, id=saved.id)
            with opened(moved.app.settings, bulk=True) as others:
                assert others.carrier_from(Store.NEW).carry_batch().notes

    monkeypatch.setattr(batch_carrier, "passing", stands_still)
    assert moved.stores.carrier_from(Store.NEW).carry_batch().notes
    assert late
    assert [debt.key for debt in owed(moved.stores.new)] == ([str(saved.id)] if after == NOWHERE else [])
    assert (moved.stores.legacy_repository.find_by_id(saved.id) is None) is (after == NOWHERE)
    assert moved.drain() == 0
    assert [debt.key for debt in owed(moved.stores.new)] == ([str(saved.id)] if after == NOWHERE else [])


def test_a_record_that_goes_while_it_is_found_to_be_owed_is_owed_no_more(
    moved: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read and is deleted before the debt is written: the note of that lets go of it."""
    saved, gone = moved.stores.new_repository.save(prompt(NOWHERE)), list[UUID]()
    apply = batch_carrier.BatchCarrier._owe

    def owes(self: batch_carrier.BatchCarrier, *given: object) -> object:
        if not gone:
            gone.append(saved.id)
            moved.stores.new_repository.delete(saved.id)
        return apply(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(batch_carrier.BatchCarrier, "_owe", owes)
    assert moved.drain() == 0
    assert gone
    assert owed(moved.stores.new) == []


@pytest.mark.parametrize("scope", [ONE, NOWHERE])
def test_killed_between_debt_and_legacy_it_decides_anew(moved: Migration, scope: str) -> None:
    """kill -9 when the debt is durable and legacy's rows are not; meanwhile the record goes where the other case is."""
    new = moved.stores.new_repository
    saved = new.save(prompt(scope))
    killed = crossfade(moved.app.settings, "catchup", CROSSFADE_FAILPOINTS="catchup.owed=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert moved.stores.legacy_repository.find_by_id(saved.id) is None
    other = NOWHERE if scope == ONE else ONE
    moved.new_sql("UPDATE prompts SET project_id = :scope", scope=other)
    assert crossfade(moved.app.settings, "catchup").returncode == 0
    assert [debt.key for debt in owed(moved.stores.new)] == ([str(saved.id)] if other == NOWHERE else [])
    assert (moved.stores.legacy_repository.find_by_id(saved.id) is None) is (other == NOWHERE)


# --- Scopes that others have in hand -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [Store.LEGACY, Store.NEW])
def test_a_scope_that_another_has_in_hand_is_no_refusal(carried_migration: Migration, way: Store) -> None:
    """One record leaves a scope and another takes its place; where the first one goes somebody else is at work."""
    if way is Store.NEW:
        carried_migration.route(100.0)
        leaving, coming = (
            carried_migration.stores.new_repository.save(prompt(ONE, enabled=each)).id for each in (True, False)
        )
        assert carried_migration.drain() == 0
        carried_migration.new_sql("UPDATE prompts SET project_id = :scope WHERE id = :id", scope=TWO, id=leaving)
        carried_migration.new_sql("UPDATE prompts SET enabled = true WHERE id = :id", id=coming)
    else:
        first, second = (carried_migration.prompt(project=1, enabled=each) for each in (True, False))
        assert carried_migration.drain() == 0
        carried_migration.sql(f"UPDATE {TABLE} SET project_id = 2 WHERE id = :id", id=first)
        carried_migration.sql(f"UPDATE {TABLE} SET enabled = true WHERE id = :id", id=second)
    stores = carried_migration.stores
    carrier, taker = stores.carrier_from(way), stores.new if way is Store.LEGACY else stores.legacy
    with taker.begin() as other:
        lock = func.pg_advisory_xact_lock(17392, func.hashtext(TWO).op("&")(1023))
        other.execute(select(lock))
        done = carrier.carry_batch()
    assert (done.notes, done.rejected) == (0, 0)
    assert done.busy
    assert carried_migration.new_sql("SELECT FROM crossfade.rejection") == []
    assert carried_migration.drain() == 0
    assert carried_migration.verify().verdict is Verdict.PASS


def test_a_conflict_is_a_refusal_whatever_others_had_in_hand_before(carried_migration: Migration) -> None:
    """Both stores have a record of their own under one id, which is found out while the batch is sorted out."""
    number = carried_migration.prompt(project=1)
    assert carried_migration.drain() == 0
    stores = carried_migration.stores
    carrier = stores.carrier_from(Store.LEGACY)
    carried_migration.prompt(project=2, genai_type=3)
    carried_migration.prompt(project=2, genai_type=4)
    with stores.new.begin() as other:
        scope = "acme/project-2/signal-analysis"
        other.execute(select(func.pg_advisory_xact_lock(17392, func.hashtext(scope).op("&")(1023))))
        assert carrier.carry_batch().busy
    assert carried_migration.drain() == 0
    carried_migration.route(0.0, **{"acme/project-3/incident-summary": "new"})
    elsewhere = "UPDATE prompts SET project_id = 'acme/project-3/incident-summary' WHERE id = :id"
    carried_migration.behind(elsewhere, id=legacy_id("acme", number))
    carried_migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'again' WHERE id = :id", id=number)
    assert carrier.carry_batch().rejected == 1


def test_what_both_stores_hand_back_is_told_apart_from_what_is_carried(carried_migration: Migration) -> None:
    """Routes that each think the other store has the scope, as after a restored backup: no batch gets on."""
    stores = carried_migration.stores
    carried_migration.prompt(project=1)
    carried_migration.new_sql("UPDATE crossfade.route SET writes_percent = 100")
    for store in (Store.LEGACY, Store.NEW, Store.LEGACY):
        done = stores.carrier_from(store).carry_batch()
        assert (done.notes, done.turned, done.gets_on) == (1, 1, False)
    carried_migration.new_sql("UPDATE crossfade.route SET writes_percent = 0")
    assert carried_migration.drain() == 0
    assert carried_migration.verify().verdict is Verdict.PASS


def test_a_refusal_is_told_of_those_who_asked_for_the_scope(carried_migration: Migration) -> None:
    """A scope that was refused a while ago, and carried since, is no refusal of the next call."""
    squat = "INSERT INTO prompts (name, content, type, project_id, enabled) VALUES ('x', 'x', 'custom', :scope, true)"
    carried_migration.behind(squat, scope=ONE)
    carrier = carried_migration.stores.carrier_from(Store.LEGACY)
    carried_migration.prompt(project=1, enabled=True)
    with pytest.raises(CrossfadeError, match="refused 1 scopes"):
        carrier.carry([ONE], (), timeout=10)
    carried_migration.behind("DELETE FROM prompts")
    carrier.carry([ONE], (), timeout=10)
    carried_migration.behind(squat, scope=TWO)
    carried_migration.prompt(project=2, enabled=True)
    carried_migration.prompt(project=1, genai_type=3, enabled=True)
    with pytest.raises(CrossfadeError, match="refused 1 scopes"):
        carrier.carry([ONE, TWO, "acme/project-1/signal-analysis"], (), timeout=10)
    assert {scope for _, scope, _, _ in carried_migration.notes()} == {TWO}


# --- Stores that change under a follower ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", [Store.LEGACY, Store.NEW])
def test_a_follower_goes_on_when_a_tenant_is_dropped(carried_migration: Migration, way: Store) -> None:
    """It has read from the tenant's table before, and looks for it once more; then it knows that it has gone."""
    carried_migration.prompt()
    carried_migration.prompt("umbra")
    if way is Store.NEW:
        carried_migration.route(100.0)
    with opened(carried_migration.app.settings, bulk=True) as stores:
        worker = stores.new_carrier()
        while not worker.carry_batch().idle:
            pass
        if way is Store.NEW:
            carried_migration.stores.new_repository.save(prompt(TWO))
            while not worker.carry_batch().idle:
                pass
        carried_migration.sql("DROP SCHEMA dispatch_organization_umbra CASCADE")
        carried_migration.sql("DELETE FROM dispatch_core.organization WHERE slug = 'umbra'")
        if way is Store.NEW:
            carried_migration.stores.new_repository.save(prompt("acme/project-3/incident-summary"))
        else:
            carried_migration.sql(f"DELETE FROM {TABLE}")
        with followed(worker, []):
            until(lambda: worker.notes_left() == 0)


@pytest.mark.parametrize("command", [("ramp", "50"), ("ramp", "100")])
def test_what_is_noted_of_a_dropped_tenant_is_named_where_a_move_waits_for_it(
    carried_migration: Migration, command: tuple[str, ...]
) -> None:
    """Nobody can carry it: no move waits for that, and none goes on as if it had been."""
    carried_migration.prompt()
    carried_migration.prompt("umbra")
    assert carried_migration.drain() == 0
    assert carried_migration.verify().verdict is Verdict.PASS
    carried_migration.sql("TRUNCATE dispatch_organization_umbra.prompt")
    carried_migration.sql("DROP SCHEMA dispatch_organization_umbra CASCADE")
    carried_migration.sql("DELETE FROM dispatch_core.organization WHERE slug = 'umbra'")
    told = "are of umbra, which is not there any more"
    done = crossfade(carried_migration.app.settings, *command)
    assert (done.returncode, told in done.stderr) == (4, True), done.stderr
    carried_migration.sql("DELETE FROM crossfade.dirty WHERE part = 'umbra'")
    done = crossfade(carried_migration.app.settings, *command)
    assert done.returncode == 0, done.stderr


def test_a_router_does_not_wait_for_what_is_noted_of_a_dropped_tenant(carried_migration: Migration) -> None:
    number = carried_migration.prompt("umbra")
    carried_migration.sql("DROP SCHEMA dispatch_organization_umbra CASCADE")
    carried_migration.sql("DELETE FROM dispatch_core.organization WHERE slug = 'umbra'")
    with (
        opened(carried_migration.app.settings, bulk=True) as stores,
        pytest.raises(Refused, match="are of umbra, which is not there any more"),
    ):
        stores.carrier.carry(["umbra/project-1/incident-summary"], [str(legacy_id("umbra", number))], timeout=60)


def test_a_tenant_that_comes_back_is_carried_again(carried_migration: Migration) -> None:
    """It had no slug for a moment, so its notes were of nobody; who has seen that does not stay blind to them."""
    carried_migration.prompt("umbra")
    carried_migration.sql("UPDATE dispatch_core.organization SET slug = NULL WHERE slug = 'umbra'")
    with opened(carried_migration.app.settings, bulk=True) as stores:
        worker = stores.new_carrier()
        assert worker.carry_batch() == Carried()
        carried_migration.sql("UPDATE dispatch_core.organization SET slug = 'umbra' WHERE slug IS NULL")
        with followed(worker, []):
            until(lambda: worker.is_settled(None, str(legacy_id("umbra", 1))) and worker.notes_left() == 0)


@pytest.mark.parametrize("state", ["23001", "23000", "45000", "ABCDE"])
def test_what_a_trigger_says_in_its_own_words_is_a_refusal(carried_migration: Migration, state: str) -> None:
    """Of one scope, which holds up no other; and no follower ends of it."""
    carried_migration.new_sql(
        "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.project_id = '{ONE}' THEN RAISE 'not this' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$"
    )
    carried_migration.new_sql("CREATE TRIGGER no AFTER INSERT ON prompts FOR EACH ROW EXECUTE FUNCTION public.no()")
    carried_migration.prompt(project=1)
    carried_migration.prompt(project=2)
    said: list[str] = []
    with opened(carried_migration.app.settings, bulk=True) as stores, followed(stores.new_carrier(), said):
        until(lambda: bool(carried_migration.new_sql("SELECT FROM prompts")))
        until(lambda: carried_migration.new_sql("SELECT scope FROM crossfade.rejection") == [(ONE,)])
    assert said == []
    [(reason,)] = carried_migration.new_sql("SELECT error FROM crossfade.rejection")
    assert state in reason
    assert "not this" not in reason


@pytest.mark.parametrize(
    "change", ["content TYPE varchar(20000)", "description TYPE varchar(900)", "version TYPE bigint"]
)
def test_a_column_that_changes_its_type_ends_no_follower(carried_migration: Migration, change: str) -> None:
    """Statements that were planned for the column as it was are planned anew."""
    carried_migration.route(100.0)
    with opened(carried_migration.app.settings, bulk=True) as stores:
        worker = stores.new_carrier()
        carried_migration.stores.new_repository.save(prompt(ONE))
        for number in range(10):  # often enough for its statements to be kept prepared
            carried_migration.new_sql("UPDATE prompts SET content = :text", text=str(number))
            while not worker.carry_batch().idle:
                pass
        with carried_migration.stores.new.begin() as connection:
            connection.execute(text(f"ALTER TABLE prompts ALTER COLUMN {change}"))
            connection.execute(text("UPDATE prompts SET content = 'last'"))
        said: list[str] = []
        with followed(worker, said):
            until(lambda: worker.notes_left() == 0)
    assert said == []
    assert carried_migration.sql(f"SELECT genai_prompt FROM {TABLE}") == [("last",)]
