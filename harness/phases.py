"""The phases of a migration and the legal edges between them."""

from __future__ import annotations

from enum import StrEnum

from harness.errors import IllegalPhase


class Phase(StrEnum):
    IDLE = "IDLE"
    PREPARED = "PREPARED"
    BACKFILLED = "BACKFILLED"
    SHADOWING = "SHADOWING"
    RAMPING = "RAMPING"
    CUT_OVER = "CUT_OVER"
    ROLLED_BACK = "ROLLED_BACK"
    COMPLETE = "COMPLETE"


EDGES: dict[Phase, dict[Phase, str]] = {
    Phase.IDLE: {
        Phase.PREPARED: "prepare: schemas, sidecar and capture are in place; nothing has been copied",
    },
    Phase.PREPARED: {
        Phase.BACKFILLED: "backfill: every chunk has its checkpoint; what changed since is in the dirty queue",
        Phase.IDLE: "uninstall: given up; legacy is as it was found",
    },
    Phase.BACKFILLED: {
        Phase.SHADOWING: "run or ramp: answers of both stores are compared, legacy serves",
        Phase.IDLE: "uninstall: given up; legacy is as it was found, what was copied stays in new",
    },
    Phase.SHADOWING: {
        Phase.RAMPING: "ramp above 0: new serves a share",
        Phase.IDLE: "uninstall: given up; legacy is as it was found, what was copied stays in new",
    },
    Phase.RAMPING: {
        Phase.CUT_OVER: "cutover: authority over every scope is with new",
        Phase.ROLLED_BACK: "rollback: authority and reads return to legacy",
    },
    Phase.CUT_OVER: {
        Phase.ROLLED_BACK: "rollback: legacy takes over with every write made since",
        Phase.COMPLETE: "complete: legacy is let go of; the only point of no return",
    },
    Phase.ROLLED_BACK: {
        Phase.RAMPING: "ramp: another attempt, both stores still carried over",
        Phase.IDLE: "uninstall: given up; legacy is as it was found, what was carried over stays in new",
    },
    Phase.COMPLETE: {},
}

NEXT_STEP: dict[Phase, str] = {
    Phase.IDLE: "crossfade prepare",
    Phase.PREPARED: "crossfade backfill",
    Phase.BACKFILLED: "crossfade catchup, then crossfade verify",
    Phase.SHADOWING: "crossfade run, crossfade verify, then crossfade ramp 1",
    Phase.RAMPING: "crossfade ramp N, crossfade report, then crossfade cutover",
    Phase.CUT_OVER: "crossfade verify, then crossfade complete; or crossfade rollback",
    Phase.ROLLED_BACK: "crossfade ramp N; or crossfade uninstall, to give up",
    Phase.COMPLETE: "crossfade uninstall, once nobody needs legacy's data any more, unless that has been",
}


def check_edge(present: Phase, wanted: Phase) -> None:
    """Raise IllegalPhase, naming both phases and the next step, unless the edge is legal."""
    if wanted not in EDGES[present]:
        raise IllegalPhase(
            f"the migration is {present}; it cannot become {wanted} from there. Next: {NEXT_STEP[present]}"
        )


def path(present: Phase, wanted: Phase) -> tuple[Phase, ...]:
    """The phases to go through, the wanted one last. Raises IllegalPhase where no way leads there.

    Phases before the parallel run may be passed in one go; all others are one edge apart.
    """
    if present is wanted:
        return ()
    if present is Phase.BACKFILLED and wanted not in EDGES[present] and wanted in EDGES[Phase.SHADOWING]:
        return (Phase.SHADOWING, wanted)
    check_edge(present, wanted)
    return (wanted,)


def leads_to(present: Phase, wanted: Phase) -> bool:
    """Whether ``path`` finds a way."""
    try:
        path(present, wanted)
    except IllegalPhase:
        return False
    return True


def at_least(present: Phase, needed: Phase) -> bool:
    """Whether the migration has come as far as ``needed`` (ROLLED_BACK counts as RAMPING)."""
    order = [
        Phase.IDLE,
        Phase.PREPARED,
        Phase.BACKFILLED,
        Phase.SHADOWING,
        Phase.RAMPING,
        Phase.CUT_OVER,
        Phase.COMPLETE,
    ]
    place = Phase.RAMPING if present is Phase.ROLLED_BACK else present
    return order.index(place) >= order.index(needed)
