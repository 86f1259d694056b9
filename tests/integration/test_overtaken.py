"""Plans that are overtaken: somebody changes the phase or the route between a command's plan and its act."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fix_stores import Migration
from test_moving import verified

from harness.cli.authority import carry_out
from harness.cli.planning import plan
from harness.cli.shares import Wish
from harness.errors import Overtaken, Refused
from harness.moving import Stand
from harness.phases import Phase

__all__ = ["verified"]  # the fixture

SHARES = pytest.mark.parametrize("shares", [(10.0, None), (None, 10.0)], ids=["reads", "writes"])


def ramp(
    migration: Migration, shares: tuple[float | None, float | None], meanwhile: Callable[[int], object]
) -> list[Phase]:
    """Ramp while ``meanwhile`` is called after each plan was begun, with its number; the phases of all plans."""
    seen: list[Phase] = []

    def wish(now: Stand) -> Stand:
        seen.append(now.phase)
        meanwhile(len(seen))
        return Wish(*shares)(now)

    carry_out(migration.app, migration.stores, lambda: plan(migration.stores, "ramp", wish), "a test")
    return seen


@SHARES
def test_a_phase_that_moves_in_between_is_planned_for_anew(
    verified: Migration, shares: tuple[float | None, float | None]
) -> None:
    """The first parallel run makes it SHADOWING just then: the command sees that, plans again, and succeeds."""
    stores = verified.stores

    def begin_a_run(number: int) -> None:
        if number == 1:
            stores.phases.advance(Phase.SHADOWING, "somebody", "a parallel run")

    assert stores.phase is Phase.BACKFILLED
    assert ramp(verified, shares, begin_a_run) == [Phase.BACKFILLED, Phase.SHADOWING]
    route = stores.routes.view().route
    assert (stores.phase, route.reads_percent, route.writes_percent) == (
        Phase.RAMPING,
        *(share or 0.0 for share in shares),
    )
    assert stores.journal.pending() is None


def test_obstacles_are_judged_again(verified: Migration) -> None:
    """What came in between and forbids the act is not overlooked by the second plan."""
    stores = verified.stores

    def spoil(number: int) -> None:
        if number == 1:
            stores.phases.advance(Phase.SHADOWING, "somebody", "a parallel run")
            verified.behind("UPDATE prompts SET content = 'edited'")
            assert verified.verify().verdict == "fail"

    with pytest.raises(Refused, match="verified"):
        ramp(verified, (10.0, None), spoil)
    assert stores.routes.view().route.reads_percent == 0.0


@SHARES
def test_a_stand_that_never_stands_still_is_refused(
    verified: Migration, shares: tuple[float | None, float | None]
) -> None:
    """Overtaken every time, it gives up after a few plans, with nothing changed."""
    tries: list[int] = []

    def change(number: int) -> None:
        tries.append(number)
        verified.new_sql("UPDATE crossfade.route SET epoch = epoch + 1")

    with pytest.raises(Overtaken, match="meanwhile"):
        ramp(verified, shares, change)
    assert len(tries) == 5
    assert (verified.stores.phase, verified.stores.journal.pending()) == (Phase.BACKFILLED, None)
    assert verified.stores.routes.view().route.reads_percent == 0.0
