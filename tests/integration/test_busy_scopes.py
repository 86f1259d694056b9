"""Scopes that are written to while a ramp moves authority: they stay, and follow in a move of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from fix_stores import Migration

from adapters.postgres.crossing import Crossing
from adapters.postgres.ledger.rejections import rejections
from adapters.prompts.migration import Stores
from harness.cli.authority import carry_out, recover
from harness.cli.planning import plan
from harness.cli.rollback import roll_back
from harness.cli.shares import Wish, ramp_shares
from harness.errors import MismatchFound, Refused
from harness.failpoints import FailpointRaised, arm
from harness.moving import Act, Mover
from harness.records import Verdict
from harness.routing import Store

SCOPE = "acme/project-{}/incident-summary"
TABLE = "dispatch_organization_acme.prompt"

Between = Callable[[int], object]
"""What happens between the last look and the fence of a move; the number of the move, from 1."""


@pytest.fixture
def verified(carried_migration: Migration) -> Migration:
    """Six projects of acme, a prompt in each, copied and verified."""
    for project in range(1, 7):
        carried_migration.prompt(project=project, enabled=True)
    assert carried_migration.drain() == 0
    assert carried_migration.verify().verdict is Verdict.PASS
    return carried_migration


@contextmanager
def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Between) -> Iterator[None]:
    """Within the block every mover does this before it raises the fence."""
    real, numbers = Stores.mover, iter(range(1, 100))

    def mover(stores: Stores, moved: Act, stop: Event, told: Callable[[str], None], *, spare: int = 0) -> Mover:
        made = real(stores, moved, stop, told, spare=spare)

        def settle(settled: Act, until: float) -> None:
            made.settle(settled, until)
            act(next(numbers))

        return replace(made, settle=settle)

    with monkeypatch.context() as patched:
        patched.setattr(Stores, "mover", mover)
        yield


def ramp(migration: Migration, writes: float) -> None:
    ramp_shares(migration.app, migration.stores, None, writes, "a test")


def writing(migration: Migration, *projects: int, moves: int = 1, store: Store = Store.LEGACY) -> Between:
    """Somebody writes to the projects before each of the first moves."""

    def act(number: int) -> None:
        for project in projects if number <= moves else ():
            if store is Store.LEGACY:
                migration.sql(f"UPDATE {TABLE} SET genai_prompt = 'move {number}' WHERE project_id = {project}")
            else:
                migration.new_sql(
                    f"UPDATE prompts SET content = 'move {number}' WHERE project_id = '{SCOPE.format(project)}'"
                )

    return act


def acts(migration: Migration) -> list[tuple[Any, ...]]:
    return migration.new_sql("SELECT command, state, reason FROM crossfade.journal ORDER BY id")


def stays(migration: Migration) -> dict[str, Store]:
    stand = migration.stores.stand()
    assert stand.automatic == stand.pins.keys()
    return dict(stand.pins)


def settled(migration: Migration) -> None:
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS


def test_what_is_written_to_follows(verified: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up and down: the write is not carried over inside the fence, its scope moves second, and no pin stays."""
    with meanwhile(monkeypatch, writing(verified, 2, 3)):
        ramp(verified, 100.0)
    assert [(command, state) for command, state, _ in acts(verified)] == [("ramp", "done")] * 2
    assert [reason for *_, reason in acts(verified)] == ["a test", "a test (scopes that were being written to)"]
    assert (stays(verified), verified.stores.stand().writes_percent) == ({}, 100.0)
    assert verified.new_sql("SELECT count(*) FROM prompts WHERE content = 'move 1'") == [(2,)]
    with meanwhile(monkeypatch, writing(verified, 4, store=Store.NEW)):
        ramp(verified, 0.0)
    assert (len(acts(verified)), stays(verified), verified.stores.stand().writes_percent) == (4, {}, 0.0)
    assert verified.sql(f"SELECT count(*) FROM {TABLE} WHERE genai_prompt = 'move 1' AND project_id = 4") == [(1,)]
    settled(verified)


def test_who_writes_all_the_time_is_moved_in_the_end(verified: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each move's scopes half may stay; the last one carries over inside its fence."""
    with meanwhile(monkeypatch, writing(verified, 1, 2, 3, moves=99)):
        ramp(verified, 100.0)
    assert stays(verified) == {}
    assert len(acts(verified)) == 2
    assert verified.new_sql("SELECT count(*) FROM prompts WHERE content = 'move 2'") == [(3,)]
    settled(verified)


@pytest.mark.parametrize("share", [100.0, 0.0])
def test_one_that_cannot_follow_stays(verified: Migration, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """The others have moved, which is what the command was asked for; the same command takes it along later."""
    store = Store.LEGACY if share else Store.NEW
    ramp(verified, 100.0 - share)

    def act(number: int) -> None:
        writing(verified, 5, store=store)(number)
        if number == 2:
            raise Refused("a test says no")

    with meanwhile(monkeypatch, act):
        ramp(verified, share)
    assert (stays(verified), verified.stores.stand().writes_percent) == ({SCOPE.format(5): store}, share)
    settled(verified)
    ramp(verified, share)
    assert stays(verified) == {}
    settled(verified)


@pytest.mark.parametrize(
    "point", ["move.fenced", "move.drained", "move.written", "move.lost", "move.gained", "move.finished"]
)
def test_a_crash_while_scopes_stay(verified: Migration, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Wherever the command dies, what is finished leaves both routes alike, and a later ramp takes the scope along."""
    arm(f"{point}=raise")
    with meanwhile(monkeypatch, writing(verified, 5)), pytest.raises(FailpointRaised):
        ramp(verified, 100.0)
    arm("")
    recover(verified.app, verified.stores)
    assert not verified.stores.routes_differ()
    happened = verified.stores.stand().writes_percent == 100.0
    assert happened == (point in {"move.lost", "move.gained", "move.finished"})
    assert stays(verified) == ({SCOPE.format(5): Store.LEGACY} if happened else {})
    settled(verified)
    ramp(verified, 100.0)
    assert (stays(verified), verified.stores.stand().writes_percent) == ({}, 100.0)
    settled(verified)


def test_a_record_that_differs_for_no_reason_stops_all(verified: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unequal without a note is no write on its way: it is compared inside the fence, and nothing moves."""
    real = Crossing._unequal

    def look(crossing: Crossing, keys: Collection[str]) -> Any:
        verified.behind("UPDATE prompts SET version = 7 WHERE content = 'late'")
        return real(crossing, keys)

    monkeypatch.setattr(Crossing, "_unequal", look)
    monkeypatch.setattr(Crossing, "approach", lambda *_: verified.sql(f"UPDATE {TABLE} SET genai_prompt = 'late'"))
    with pytest.raises(MismatchFound, match="nothing has changed"):
        ramp(verified, 100.0)
    assert (stays(verified), verified.stores.stand().writes_percent) == ({}, 0.0)


def test_a_truncate_is_carried_over_inside(verified: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note of a whole part names no scope that could stay."""
    with meanwhile(monkeypatch, lambda _: verified.sql(f"TRUNCATE {TABLE}")):
        ramp(verified, 100.0)
    assert (len(acts(verified)), stays(verified)) == (1, {})
    assert verified.new_sql("SELECT count(*) FROM prompts") == [(0,)]


def test_too_many_do_not_stay(verified: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pin is read by every write, so there is a limit: beyond it, all is carried over inside the fence."""
    monkeypatch.setattr("adapters.postgres.crossing._MOST_BUSY", 1)
    with meanwhile(monkeypatch, writing(verified, 1, 2)):
        ramp(verified, 100.0)
    assert (len(acts(verified)), stays(verified)) == (1, {})
    settled(verified)


def test_a_pinned_scope_does_not_stay(verified: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names a scope means it: what is written to it is carried over inside the fence."""
    with meanwhile(monkeypatch, writing(verified, 2)):
        wish = Wish(None, 50.0, None, (SCOPE.format(2), Store.NEW))
        carry_out(verified.app, verified.stores, lambda: plan(verified.stores, "ramp", wish), "a test")
    assert verified.stores.stand().pins == {SCOPE.format(2): Store.NEW}
    assert verified.stores.stand().automatic == frozenset()
    settled(verified)


def test_the_end_of_a_phase_leaves_nobody(verified: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback moves all scopes at once, busy or not."""
    ramp(verified, 100.0)
    verified.new_sql("UPDATE crossfade.phase SET phase = 'CUT_OVER'")
    with meanwhile(monkeypatch, writing(verified, 1, store=Store.NEW)):
        roll_back(verified.app, verified.stores, "a test")
    assert (len(acts(verified)), verified.stores.stand().pins) == (2, {})
    assert verified.sql(f"SELECT count(*) FROM {TABLE} WHERE genai_prompt = 'move 1'") == [(1,)]


def test_a_scope_that_is_refused_holds_up_nobody(verified: Migration) -> None:
    """New has a prompt of its own where legacy's should go: that scope stays, the others move, and it is told why."""
    verified.behind("UPDATE prompts SET enabled = false WHERE project_id = :scope", scope=SCOPE.format(3))
    verified.behind(
        "INSERT INTO prompts (name, content, type, project_id, organization_id, enabled)"
        " VALUES ('Rival', 'mine', 'custom', :scope, 'acme', true)",
        scope=SCOPE.format(3),
    )
    verified.sql(f"UPDATE {TABLE} SET genai_prompt = 'late' WHERE project_id IN (3, 4)")
    ramp(verified, 100.0)
    assert (stays(verified), verified.stores.stand().writes_percent) == ({SCOPE.format(3): Store.LEGACY}, 100.0)
    assert verified.new_sql("SELECT project_id FROM prompts WHERE content = 'late'") == [(SCOPE.format(4),)]
    assert rejections(verified.stores.new)[0].scope == SCOPE.format(3)
    verified.behind("DELETE FROM prompts WHERE name = 'Rival'")
    ramp(verified, 100.0)
    assert stays(verified) == {}
    settled(verified)


def test_a_pin_that_is_gone_is_not_missed(verified: Migration) -> None:
    """A route that was aligned after a restore may name as automatic what has no pin; a ramp goes on."""
    verified.new_sql(f"UPDATE crossfade.route SET automatic = '[\"{SCOPE.format(9)}\"]'")
    ramp(verified, 100.0)
    assert verified.stores.stand().writes_percent == 100.0
    assert verified.stores.stand().pins == {}
