"""kill -9 between every two durable steps of a move: the next command finishes or undoes it, and nothing is lost."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress

import pytest
from command import crossfade, document
from fix_stores import Migration

from harness.cli.authority import recover
from harness.cli.shares import ramp_shares
from harness.cli.standing import status_of
from harness.errors import NoAuthority
from harness.phases import Phase
from harness.records import Verdict
from harness.routing import Store

TABLE = "dispatch_organization_acme.prompt"
SCOPE = "acme/project-{}/incident-summary"
BEFORE = ("move.journalled", "move.fenced", "move.drained", "move.written")
AFTER = ("move.lost", "move.gained", "move.finished")


@pytest.fixture(params=[Store.LEGACY, Store.NEW], ids=["there", "back"])
def loser(request: pytest.FixtureRequest) -> Store:
    store: Store = request.param
    return store


@pytest.fixture
def moving(carried_migration: Migration, loser: Store) -> Migration:
    """A migration from which authority is about to leave the loser, with a change that is not carried over yet."""
    migration = carried_migration
    for project in range(1, 7):
        migration.prompt(project=project, enabled=True)
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS
    if loser is Store.NEW:
        ramp_shares(migration.app, migration.stores, None, 100.0, "a test")
        migration.new_sql("UPDATE prompts SET content = 'changed' WHERE project_id = :scope", scope=SCOPE.format(1))
    else:
        migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'changed' WHERE project_id = 1")
    return migration


def command_of(loser: Store) -> tuple[str, ...]:
    return ("ramp", "--writes", "100") if loser is Store.LEGACY else ("rollback",)


def kill_at(migration: Migration, loser: Store, point: str) -> None:
    done = crossfade(migration.app.settings, *command_of(loser), CROSSFADE_FAILPOINTS=f"{point}=kill")
    assert done.returncode == -signal.SIGKILL, done.stderr


def assert_with(migration: Migration, store: Store) -> None:
    """The store has all authority, in both routes and by both guards; what was changed is on both sides."""
    assert status_of(migration.stores)["unfinished"] is None
    share = 100 if store is Store.NEW else 0
    for sql in (migration.sql, migration.new_sql):
        assert sql("SELECT writes_percent, pins FROM crossfade.route")[0] == (share, {})
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS
    for repository in (migration.stores.legacy_repository, migration.stores.new_repository):
        found = repository.find_enabled_by_project(SCOPE.format(1))
        assert found is not None
        assert found.content == "changed"


@pytest.mark.parametrize("point", BEFORE + AFTER)
def test_resume_finishes_or_undoes(moving: Migration, loser: Store, point: str) -> None:
    """Before authority was lost the act is undone, afterwards it is finished; status names it until then."""
    kill_at(moving, loser, point)
    unfinished = status_of(moving.stores)["unfinished"]
    assert (unfinished is None) == (point == "move.finished")
    became = recover(moving.app, moving.stores)
    expected = None if point == "move.finished" else "undone" if point in BEFORE else "finished"
    assert (became and became["became"]) == expected
    assert_with(moving, loser if point in BEFORE else loser.other)
    if loser is Store.NEW:
        assert moving.stores.phase is (Phase.RAMPING if point in BEFORE else Phase.ROLLED_BACK)


def test_the_same_command_goes_on(moving: Migration, loser: Store) -> None:
    """Given again, the command tidies up after its predecessor, and ends where it was to end."""
    kill_at(moving, loser, "move.lost")
    done = crossfade(moving.app.settings, *command_of(loser))
    assert done.returncode == 0, done.stderr
    assert_with(moving, loser.other)


def test_what_has_to_wait_for_it_names_resume(moving: Migration, loser: Store) -> None:
    """Whoever goes on to the next step is told of the one that is half done, and not to begin it anew."""
    kill_at(moving, loser, "move.gained")
    done = crossfade(moving.app.settings, "complete", "--dry-run")
    assert (done.returncode, "crossfade resume" in done.stderr) == (4, True), done.stderr


@pytest.mark.parametrize("point", ["recover.judged", "recover.gained"])
def test_recovery_can_be_killed_too(moving: Migration, loser: Store, point: str) -> None:
    """A recovery that dies half-way is itself recovered."""
    kill_at(moving, loser, "move.lost")
    settings = moving.app.settings
    assert crossfade(settings, "resume", CROSSFADE_FAILPOINTS=f"{point}=kill").returncode == -signal.SIGKILL
    recover(moving.app, moving.stores)
    assert_with(moving, loser.other)


def test_between_the_commits_nobody_writes(moving: Migration, loser: Store) -> None:
    """Half done, both stores refuse the moving scopes; a router's writer waits, and is served once it is finished."""
    kill_at(moving, loser, "move.lost")
    answers: list[object] = []
    with moving.stores.router() as router:
        before = router.repository.find_enabled_by_project(SCOPE.format(2))
        assert before is not None

        def write() -> None:
            while not answers:
                with suppress(NoAuthority):  # a machine so busy that resuming takes longer than the router's patience
                    answers.append(router.repository.update(before.with_content("patience")))

        writing = threading.Thread(target=write)
        writing.start()
        done = crossfade(moving.app.settings, "resume", "--json")
        assert (done.returncode, document(done)["became"]) == (0, "finished"), done.stderr
        writing.join()
    assert len(answers) == 1
    assert moving.drain() == 0
    found = moving.stores.legacy_repository.find_enabled_by_project(SCOPE.format(2))
    assert found is not None
    assert found.content == "patience"


@pytest.mark.parametrize("restored", list(Store))
def test_a_restored_store_follows_the_newer_route(moving: Migration, restored: Store) -> None:
    """By an older route a store might accept what the other one accepts too; resume gives it the newer one."""
    before = moving.stores.stand().writes_percent
    ramp_shares(moving.app, moving.stores, None, 50.0, "a test")
    newer = moving.stores.stand().writes_percent
    sql = moving.sql if restored is Store.LEGACY else moving.new_sql
    sql("UPDATE crossfade.route SET epoch = epoch - 1, writes_percent = :share", share=before)
    assert status_of(moving.stores)["routes_differ"]
    recover(moving.app, moving.stores)
    assert not moving.stores.routes_differ()
    assert moving.stores.stand().writes_percent == newer


@pytest.mark.parametrize("point", ["complete.phase_moved", "complete.new_free"])
def test_complete_is_finished_by_running_it_again(carried_migration: Migration, point: str) -> None:
    """kill -9 past the point of no return: the same command removes what is left of us in new."""
    migration, settings = carried_migration, carried_migration.app.settings
    migration.prompt(project=1, enabled=True)
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS
    ramp_shares(migration.app, migration.stores, None, 100.0, "a test")
    migration.stores.phases.advance(Phase.CUT_OVER, "a test", "")
    killed = crossfade(settings, "complete", "--yes", CROSSFADE_FAILPOINTS=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert migration.stores.phase is Phase.COMPLETE
    done = crossfade(settings, "complete", "--yes")
    assert done.returncode == 0, done.stderr
    assert migration.new_sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'crossfade%'")[0][0] == 0


def test_uninstall_is_finished_by_running_it_again(carried_migration: Migration) -> None:
    """kill -9 after the ledger was closed: the same command takes the rest out of legacy."""
    settings = carried_migration.app.settings
    killed = crossfade(settings, "uninstall", "--yes", CROSSFADE_FAILPOINTS="uninstall.ledger_closed=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert carried_migration.stores.phase is Phase.IDLE
    done = crossfade(settings, "uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert carried_migration.sql("SELECT to_regnamespace('crossfade') IS NULL")[0][0]
