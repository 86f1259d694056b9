"""The automatic ramp over real stores: a fault is met by a retreat that nobody had to ask for."""

from __future__ import annotations

import itertools
import json
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import crossfade
from fix_postgres import Databases, until
from fix_stores import Migration, create_tenants, migration_between

from adapters.postgres.ledger.audit import AuditBook
from adapters.postgres.ledger.courses import CourseBook
from adapters.postgres.ledger.locks import is_locked
from harness.autoramp import State
from harness.cli.autoramp import LOCK, ramp_by_itself, steer
from harness.cli.shares import ramp_shares
from harness.deciding import GateSettings, RampSettings
from harness.errors import CommandLocked, MismatchFound, Refused
from harness.records import Verdict
from harness.settings import ShadowSettings

PROJECTS = range(1, 7)
SCOPE = "acme/project-{}/incident-summary"
GATES = ("mismatches", "errors", "rejections", "dirty", "rogue")


@contextmanager
def ready_under(databases: Databases, gates: GateSettings, names: tuple[str, ...] = GATES) -> Iterator[Migration]:
    """Six prompts, copied and verified; a plan of three steps that takes as long as its evidence does."""
    ramp = RampSettings(reads=(10.0, 100.0), writes=(100.0,), step_seconds=0.0, look_seconds=0.05, gates=names)
    with migration_between(
        databases, ramp=ramp, gates=gates, shadow=ShadowSettings(queue=5000, roll_up_seconds=0.1, look_seconds=0.02)
    ) as made:
        with made.stores.legacy.begin() as connection:
            create_tenants(connection)
        made.prepare()
        for project in PROJECTS:
            made.prompt(project=project, enabled=True)
        made.backfill()
        assert made.drain() == 0
        assert made.verify().verdict is Verdict.PASS
        yield made


@pytest.fixture
def ready(databases: Databases) -> Iterator[Migration]:
    gates = GateSettings(min_comparisons=200, max_mismatch_rate=0.02, max_error_rate=0.05, max_rejected_rate=0.5)
    with ready_under(databases, gates) as made:
        yield made


@contextmanager
def traffic(
    migration: Migration,
    projects: Callable[[], Iterable[int]] = lambda: PROJECTS,
    begun: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    """Reads of these projects' prompts, round by round, through a router of its own, for as long as the block runs.

    Not before it has ``begun``.
    """
    over = threading.Event()

    def read() -> None:
        until(begun)
        with migration.stores.router() as router:
            while not over.wait(0.001):
                for project in projects():
                    router.repository.find_enabled_by_project(SCOPE.format(project))

    reading = threading.Thread(target=read)
    reading.start()
    try:
        yield
    finally:
        over.set()
        reading.join()


def course(migration: Migration) -> State:
    found = CourseBook(migration.stores.new).course()
    assert found is not None
    return found.state


def test_it_goes_up_by_itself(ready: Migration) -> None:
    """From nothing to all reads and writes, each step in the ledger with the evidence on which it was taken."""
    with traffic(ready):
        done = ramp_by_itself(ready.app, ready.stores, "a test")
    assert (done["state"], done["reads_percent"], done["writes_percent"]) == ("done", 100.0, 100.0)
    route = ready.stores.routes.view().route
    assert (route.reads_percent, route.writes_percent) == (100.0, 100.0)
    steps = [each for each in AuditBook(ready.stores.new).entries(100) if each.action == "auto advance begun"]
    assert len(steps) == 3
    for step in steps:
        [judged] = [gate for gate in step.detail["gates"] if gate["name"] == "mismatches"]
        assert judged["figures"]["n"] >= 200


def test_a_seeded_mismatch_is_answered_with_a_retreat(ready: Migration) -> None:
    """One record of six differs from the first step on: reads go back to legacy without a person, and exit code 3."""
    ready.behind("UPDATE prompts SET content = 'changed by nobody' WHERE project_id = :scope", scope=SCOPE.format(3))
    with traffic(ready), pytest.raises(MismatchFound, match="mismatches"):
        ramp_by_itself(ready.app, ready.stores, "a test")
    assert course(ready) is State.RETREATED
    assert ready.stores.routes.view().route.reads_percent == 0.0


@pytest.mark.slow
def test_half_a_percent_at_a_tenth_of_the_reads(databases: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    """One answer in two hundred differs, the default limit is one in a thousand: the ramp that stands at 10 % of the
    reads goes back without a person, and says after how long and how many operations.
    """
    rounds = itertools.count(1)

    def projects() -> Iterator[int]:
        yield from PROJECTS[:-1]
        if next(rounds) % 40 == 0:  # of rounds of five calls
            yield PROJECTS[-1]

    with ready_under(databases, GateSettings(), ("mismatches", "errors", "verified")) as migration:
        app, stores = migration.app, migration.stores
        ramp_shares(app, stores, 10.0, None, "a first step, by hand")
        migration.behind("UPDATE prompts SET content = 'edited' WHERE project_id = :scope", scope=SCOPE.format(6))
        given_up = threading.Timer(300, app.stop.set)  # so that it ends even if it never retreats
        given_up.start()
        told: list[str] = []
        # Nothing is asked before the step that is judged, and compared after it has begun.
        under_way = traffic(migration, projects, lambda: CourseBook(stores.new).course() is not None)
        with under_way, pytest.raises(MismatchFound, match="mismatches"):
            ramp_by_itself(app, stores, "a test", told.append)
        given_up.cancel()
        assert re.match(
            r"retreated to reads 0 %, writes 0 %, after [\d.,]+ s and [\d,]+ operations at reads 10 %, writes 0 %: "
            r"mismatches: \d+ confirmed mismatches in ",
            told[-1],
        )
        with capsys.disabled():
            print(f"\n{told[-1]}")
        [decided] = [each for each in AuditBook(stores.new).entries() if each.action == "auto retreat decided"]
        figures = {gate["name"]: gate["figures"] for gate in decided.detail["gates"]}["mismatches"]
        assert 0.002 < figures["observed"] < 0.01
        assert figures["n"] <= decided.detail["operations"]
        assert decided.detail["seconds"] > 0
        assert stores.routes.view().route.reads_percent == 0.0


def test_paused_it_still_retreats(ready: Migration) -> None:
    """A pause keeps it from going up, and not from going back: reads return to legacy while somebody is at lunch."""
    ramp_shares(ready.app, ready.stores, 10.0, None, "a first step, by hand")
    steer(ready.stores, "pause", "lunch")
    ready.behind("UPDATE prompts SET content = 'changed by nobody' WHERE project_id = :scope", scope=SCOPE.format(3))
    with traffic(ready), pytest.raises(MismatchFound, match="mismatches"):
        ramp_by_itself(ready.app, ready.stores, "a test")
    assert ready.stores.routes.view().route.reads_percent == 0.0


def test_only_one_at_a_time(ready: Migration) -> None:
    """A second one is told who runs, and a stop by hand ends the first."""
    running = threading.Thread(target=lambda: ramp_by_itself(ready.app, ready.stores, "a test"))
    running.start()
    until(lambda: CourseBook(ready.stores.new).course() is not None)
    with pytest.raises(CommandLocked, match="autoramp"):
        ramp_by_itself(ready.app, ready.stores, "another one")
    assert steer(ready.stores, "pause", "lunch")["paused"]
    stopped = steer(ready.stores, "stop", "enough")
    assert (stopped["state"], stopped["paused"]) == ("stopped", False)  # the next one does not find itself held
    running.join()
    assert course(ready) is State.STOPPED
    with pytest.raises(Refused, match="no automatic ramp"):
        steer(ready.stores, "stop", "")


@pytest.mark.parametrize("point", ["autoramp.intended", "autoramp.moved", "autoramp.noted"])
def test_killed_and_given_again(ready: Migration, point: str, tmp_path: Path) -> None:
    """kill -9 between its steps: given again it ends where it would have ended."""
    file = tmp_path / "crossfade.toml"
    file.write_text(
        "[ramp]\nreads = [10, 100]\nwrites = [100]\nstep_seconds = 0\nlook_seconds = 0.05\n"
        f"gates = {json.dumps(GATES)}\n[gates]\nmin_comparisons = 200\nmax_mismatch_rate = 0.02\n"
        "max_error_rate = 0.05\nmax_rejected_rate = 0.5\n"
    )
    command = ("ramp", "--auto", "--config", str(file))
    with traffic(ready):
        killed = crossfade(ready.app.settings, *command, CROSSFADE_FAILPOINTS=f"{point}=kill")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        until(lambda: not is_locked(ready.stores.new, LOCK))  # the server may take a moment to miss it
        done = ramp_by_itself(ready.app, ready.stores, "again")
    assert (done["state"], done["writes_percent"]) == ("done", 100.0)
    assert ready.drain() == 0
    assert ready.verify().verdict is Verdict.PASS
