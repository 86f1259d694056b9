"""The table of phases: the legal edges, and that all others are refused."""

from __future__ import annotations

from itertools import product

import pytest

from harness.errors import IllegalPhase
from harness.phases import EDGES, NEXT_STEP, Phase, at_least, check_edge, leads_to, path

LEGAL = {
    (Phase.IDLE, Phase.PREPARED),
    (Phase.PREPARED, Phase.BACKFILLED),
    (Phase.BACKFILLED, Phase.SHADOWING),
    (Phase.SHADOWING, Phase.RAMPING),
    (Phase.RAMPING, Phase.CUT_OVER),
    (Phase.RAMPING, Phase.ROLLED_BACK),
    (Phase.CUT_OVER, Phase.ROLLED_BACK),
    (Phase.CUT_OVER, Phase.COMPLETE),
    (Phase.ROLLED_BACK, Phase.RAMPING),
    (Phase.PREPARED, Phase.IDLE),
    (Phase.BACKFILLED, Phase.IDLE),
    (Phase.SHADOWING, Phase.IDLE),
    (Phase.ROLLED_BACK, Phase.IDLE),
}


@pytest.mark.parametrize("edge", sorted(LEGAL))
def test_legal_edges_are_taken(edge: tuple[Phase, Phase]) -> None:
    """Each edge of the table may be walked, and says why it exists."""
    check_edge(*edge)
    assert EDGES[edge[0]][edge[1]]


@pytest.mark.parametrize("edge", sorted(set(product(Phase, Phase)) - LEGAL))
def test_all_other_edges_are_refused_by_name(edge: tuple[Phase, Phase]) -> None:
    """Every other edge is refused, naming both phases and what to do next."""
    with pytest.raises(IllegalPhase) as refused:
        check_edge(*edge)
    assert edge[0] in str(refused.value)
    assert edge[1] in str(refused.value)
    assert NEXT_STEP[edge[0]] in str(refused.value)


def test_a_path_is_the_edges_that_lead_there() -> None:
    """The parallel run may be passed on the way to a ramp; everything else is one edge, or refused from where it is."""
    assert path(Phase.BACKFILLED, Phase.RAMPING) == (Phase.SHADOWING, Phase.RAMPING)
    assert path(Phase.CUT_OVER, Phase.CUT_OVER) == ()
    assert path(Phase.CUT_OVER, Phase.ROLLED_BACK) == (Phase.ROLLED_BACK,)
    assert leads_to(Phase.BACKFILLED, Phase.IDLE)
    assert not leads_to(Phase.COMPLETE, Phase.RAMPING)
    with pytest.raises(IllegalPhase, match="BACKFILLED"):
        path(Phase.BACKFILLED, Phase.CUT_OVER)


def test_rolled_back_counts_as_ramping() -> None:
    """After a rollback all that a ramp needs is still in place, and nothing that a cutover brought."""
    assert at_least(Phase.ROLLED_BACK, Phase.BACKFILLED)
    assert at_least(Phase.ROLLED_BACK, Phase.RAMPING)
    assert not at_least(Phase.ROLLED_BACK, Phase.CUT_OVER)
    assert not at_least(Phase.IDLE, Phase.PREPARED)
