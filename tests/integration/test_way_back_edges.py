"""BatchCarrier new's state back to legacy while legacy changes underneath it."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from command import crossfade, document
from fix_postgres import until
from fix_stores import Migration
from sqlalchemy import text
from test_moving import SCOPE, TABLE, prompt, ramp, settled, verified

from adapters.postgres.batch import Batch
from adapters.postgres.batch_carrier import BatchCarrier
from adapters.postgres.ledger.debt import owed
from adapters.postgres.trip import Trip
from adapters.prompts.canonical import DebtReason
from adapters.prompts.prompt import Prompt
from harness.catchup import Carried
from harness.cli.rollback import roll_back
from harness.errors import Refused
from harness.routing import Store

__all__ = ["verified"]  # the fixture

DELETE_PROJECT = "DELETE FROM dispatch_organization_acme.project WHERE id = {}"


def moved_in_new(migration: Migration) -> Prompt:
    """A record that has left project 1 for project 2 in new, which has authority; not yet carried back."""
    repository = migration.stores.new_repository
    before = repository.find_enabled_by_project(SCOPE.format(1))
    assert before is not None
    return repository.update(replace(before, project_id=SCOPE.format(2), enabled=False))


# --- Projects that are deleted in legacy --------------------------------------------------------------------------


def test_a_row_that_goes_between_look_and_write_is_made_anew(
    verified: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the batch is committed and no note is settled, as the row that was to move has gone meanwhile."""
    stores = verified.stores
    ramp(verified, 100.0)
    moved = moved_in_new(verified)
    back, apply = stores.carrier_from(Store.NEW), BatchCarrier._apply
    noted = back.notes_left()

    def overtaken(self: BatchCarrier, trip: Trip, batch: Batch) -> object:
        verified.sql(DELETE_PROJECT.format(1))
        return apply(self, trip, batch)

    with monkeypatch.context() as patch:
        patch.setattr(BatchCarrier, "_apply", overtaken)
        assert back.carry_batch() == Carried(busy=noted)
    assert back.notes_left() == noted
    while not back.carry_batch().idle:
        pass
    assert stores.legacy_repository.find_by_id(moved.id) == moved
    settled(verified)


def test_a_row_that_goes_while_the_write_waits_for_it_is_made_anew(verified: Migration) -> None:
    """The statement has seen it, and finds it gone when whoever deleted its project commits."""
    stores = verified.stores
    ramp(verified, 100.0)
    moved = moved_in_new(verified)
    back = stores.carrier_from(Store.NEW)
    noted = back.notes_left()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with stores.legacy.connect() as deleting, ThreadPoolExecutor(1) as pool:
        deleting.execute(text(DELETE_PROJECT.format(1)))
        carrying = pool.submit(back.carry_batch)
        until(lambda: verified.sql(waiting) == [(1,)])
        deleting.commit()
        assert carrying.result() == Carried(busy=noted)
    settled(verified)
    assert stores.legacy_repository.find_by_id(moved.id) == moved


def test_a_cascade_brings_back_what_new_has_in_another_scope(verified: Migration) -> None:
    """Even if nothing is noted of it in new any more: the cascade's own note asks for it."""
    stores = verified.stores
    ramp(verified, 100.0)
    moved = moved_in_new(verified)
    verified.new_sql("DELETE FROM crossfade.dirty")
    verified.sql(DELETE_PROJECT.format(1))
    settled(verified)
    assert stores.legacy_repository.find_by_id(moved.id) == stores.new_repository.find_by_id(moved.id) == moved


# --- Numbers that are taken ---------------------------------------------------------------------------------------


def test_a_sequence_that_is_behind_is_moved_past_what_stands(verified: Migration) -> None:
    """Rows were made with numbers above it: new records find free ones at once, and so does Dispatch's next row."""
    stores = verified.stores
    made = f"INSERT INTO {TABLE} (id, genai_type, genai_prompt, enabled, project_id)"
    verified.sql(f"{made} SELECT n, 1, 'restored', true, n - 6 FROM generate_series(7, 12) n WHERE n <> 10")
    verified.sql(f"{made} VALUES (2000000000, 1, 'far out', false, 1)")
    ramp(verified, 100.0)
    born = [stores.new_repository.save(prompt(project, enabled=False)) for project in range(1, 5)]
    settled(verified)
    taken = {number for (number,) in verified.sql(f"SELECT id FROM {TABLE} WHERE genai_type = 2 AND NOT enabled")}
    assert taken == {10, 13, 14, 15}
    assert all(stores.legacy_repository.find_by_id(one.id) == one for one in born)
    roll_back(verified.app, stores, "a test")
    verified.prompt(project=5, genai_type=2, enabled=False)
    assert verified.sql(f"SELECT id FROM {TABLE} WHERE project_id = 5 AND NOT enabled") == [(16,)]


def test_a_number_that_is_kept_for_a_record_is_nobody_elses(verified: Migration) -> None:
    """The sequence has yet to come to the number of a row that legacy could not hold any more."""
    stores = verified.stores
    verified.sql(f"UPDATE {TABLE} SET id = 7 WHERE id = 1")
    settled(verified)
    verified.new_sql("UPDATE crossfade.route SET rollback_safe = false")
    ramp(verified, 100.0)
    kept = stores.new_repository.find_enabled_by_project(SCOPE.format(1))
    assert kept is not None
    away = stores.new_repository.update(replace(kept, project_id=SCOPE.format(77)))
    assert verified.drain() == 0
    stores.new_repository.save(prompt(2, enabled=False))
    assert verified.drain() == 0
    stores.new_repository.update(replace(away, project_id=SCOPE.format(1)))
    settled(verified)
    assert verified.sql(f"SELECT id FROM {TABLE} WHERE project_id = 1") == [(7,)]


# --- Rollback debt that is mended in legacy -----------------------------------------------------------------------


@pytest.fixture
def lacking(verified: Migration) -> Prompt:
    """A record of new, which has authority, that is owed: legacy lacks its project."""
    verified.new_sql("UPDATE crossfade.route SET rollback_safe = false")
    ramp(verified, 100.0)
    born = verified.stores.new_repository.save(prompt(77))
    assert verified.drain() == 0
    assert [debt.reason for debt in owed(verified.stores.new)] == [DebtReason.NO_PROJECT]
    return born


def make_project(migration: Migration, number: int) -> None:
    migration.sql(
        f"INSERT INTO dispatch_organization_acme.project (id, name, organization_id) VALUES ({number}, 'made', 1)"
    )


def test_catchup_carries_what_lacked_a_project_once_that_is_made(verified: Migration, lacking: Prompt) -> None:
    """Nothing is noted of it by anybody; while the project is not there it is not noted either, and never twice."""
    stores = verified.stores
    assert stores.note_mended() == 0
    make_project(verified, 77)
    assert (stores.note_mended(), stores.note_mended()) == (1, 0)
    verified.new_sql("DELETE FROM crossfade.dirty")
    done = crossfade(verified.app.settings, "catchup", "--json")
    assert (done.returncode, document(done)["carried"]) == (0, 1)
    assert owed(stores.new) == []
    assert stores.legacy_repository.find_by_id(lacking.id) == lacking
    settled(verified)


def test_a_rollback_carries_what_lacked_a_project_by_itself(verified: Migration, lacking: Prompt) -> None:
    """It is refused as long as the project is not there, and needs no catch-up to see that it is."""
    stores = verified.stores
    with pytest.raises(Refused, match="legacy cannot hold 1 record of"):
        roll_back(verified.app, stores, "a test")
    make_project(verified, 77)
    roll_back(verified.app, stores, "a test")
    assert stores.legacy_repository.find_by_id(lacking.id) == lacking
    settled(verified)


# --- Rows that went without authority -----------------------------------------------------------------------------


def test_a_row_deleted_without_authority_returns_under_its_number(verified: Migration) -> None:
    """Rows of new's and of legacy's own making; and the sidecar says of them what it said before."""
    stores = verified.stores
    ramp(verified, 100.0)
    stores.new_repository.save(prompt(1, enabled=False))
    settled(verified)
    rows, entries = f"SELECT * FROM {TABLE} ORDER BY id", "SELECT * FROM crossfade.sidecar"
    before = verified.sql(rows), verified.sql(entries)
    assert (len(before[0]), len(before[1])) == (7, 1)
    for execute in (verified.sql, verified.new_sql):
        execute("UPDATE crossfade.route SET guard = 'record'")
    verified.sql(f"DELETE FROM {TABLE} WHERE project_id < 3")
    settled(verified)
    assert (verified.sql(rows), verified.sql(entries)) == before


def test_a_number_that_somebody_took_meanwhile_is_not_kept(verified: Migration) -> None:
    """A row was made by hand under the number of one that new has yet to give back; neither is new's."""
    ramp(verified, 100.0)
    born = verified.stores.new_repository.save(prompt(1, enabled=False))
    settled(verified)
    for execute in (verified.sql, verified.new_sql):
        execute("UPDATE crossfade.route SET guard = 'record'")
    verified.sql(f"DELETE FROM {TABLE} WHERE id = 7")
    verified.sql(
        f"INSERT INTO {TABLE} (id, genai_type, genai_prompt, enabled, project_id) VALUES (7, 2, 'rogue', false, 3)"
    )
    settled(verified)
    assert verified.sql(f"SELECT id FROM {TABLE} WHERE id > 6") == [(8,)]
    assert verified.stores.legacy_repository.find_by_id(born.id) == born


def test_what_a_cascade_brings_back_keeps_its_number(verified: Migration) -> None:
    """The row went with its project; its record lives on in another scope of new's."""
    ramp(verified, 100.0)
    moved = moved_in_new(verified)
    verified.sql(DELETE_PROJECT.format(1))
    assert verified.stores.carrier_from(Store.LEGACY).carry_batch().notes
    settled(verified)
    assert verified.sql(f"SELECT id FROM {TABLE} WHERE project_id = 2 AND NOT enabled") == [(1,)]
    assert verified.stores.legacy_repository.find_by_id(moved.id) == moved


def test_killed_after_a_number_was_kept_it_goes_on(verified: Migration) -> None:
    """kill -9 when the number of a record that returns is durable and nothing else is: the next run carries it back."""
    ramp(verified, 100.0)
    moved = moved_in_new(verified)
    verified.sql(DELETE_PROJECT.format(1))
    settings = verified.app.settings
    killed = crossfade(settings, "catchup", CROSSFADE_FAILPOINTS="catchup.number_kept=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert verified.sql(f"SELECT id FROM {TABLE} WHERE project_id = 2 AND NOT enabled") == []
    done = crossfade(settings, "catchup")
    assert done.returncode == 0, done.stderr
    settled(verified)
    assert verified.sql(f"SELECT id FROM {TABLE} WHERE project_id = 2 AND NOT enabled") == [(1,)]
    assert verified.stores.legacy_repository.find_by_id(moved.id) == moved
