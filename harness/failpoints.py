"""Named points at which a test lets the process die, between two steps that are each durable.

``CROSSFADE_FAILPOINTS="backfill.before_commit=kill@3,catchup.applied=raise"`` kills the process with SIGKILL at
the third passage of the first point, and raises at the first passage of the second. Unset (as in production), a
passage costs one look-up in an empty dictionary.
"""

from __future__ import annotations

import os
import signal

NAMES = frozenset(
    {
        "backfill.before_commit",  # a chunk is applied, nothing of it is durable
        "backfill.after_commit",  # a chunk and its checkpoint are durable, the next has not begun
        "indexes.recorded",  # indexes are written down and about to be dropped, nothing of it is durable
        "indexes.put_off",  # they are written down and dropped, both durable
        "indexes.before_commit",  # one is built, not durable
        "indexes.built",  # one is built and durable, others may be missing
        "catchup.before_apply",  # notes and rows are read, nothing is applied
        "catchup.number_kept",  # a record that returns has its number kept in legacy, nothing else is durable
        "catchup.owed",  # rollback debt is durable in new, what legacy can hold is not yet in legacy
        "catchup.before_commit",  # rows are applied, not durable
        "catchup.after_commit",  # rows are durable, their notes not yet deleted
        "catchup.after_forget",  # notes are deleted
        "prepare.legacy_upgraded",  # legacy's schema is prepared, new's is not
        "move.journalled",  # the intention is in the journal, nothing else has happened
        "move.fenced",  # the loser's writers are held back
        "move.drained",  # nothing is noted for the moving scopes any more
        "move.written",  # both routes are written, neither is durable
        "move.lost",  # the loser's route is durable, the gainer's is not: nobody may write
        "move.gained",  # both routes are durable, phase and journal are not
        "move.finished",  # all of it is durable
        "autoramp.intended",  # where the automatic ramp goes is noted, nothing has moved
        "autoramp.moved",  # the route has moved, the automatic ramp's course does not say so
        "autoramp.noted",  # the course says so
        "recover.judged",  # it is known whether the act happened, nothing has been done about it
        "recover.gained",  # the gainer has the loser's route, the journal is still open
        "repair.audited",  # the ledger says that rows are repaired, nothing is noted
        "repair.new_noted",  # rows of new's scopes are noted, those of legacy's are not
        "repair.noted",  # all rows are noted, nothing is carried over
        "complete.phase_moved",  # the migration is complete, nothing of ours has been removed
        "complete.new_free",  # new's triggers are gone, legacy's are not
        "uninstall.ledger_closed",  # the ledger is back at IDLE, legacy still has all of ours
        "uninstall.legacy_left",  # nothing of ours is in legacy any more, new has its triggers
        "verify.segment_kept",  # one segment's sums are durable, others are not
        "prepare.index_built",  # a tenant's index is in place, the one of before not yet dropped
        "prepare.capture_attached",  # triggers are in place, the phase has not moved
    }
)


class FailpointRaised(Exception):
    """Raised by a point armed with ``raise``; never by a point that is not armed."""


class _Armed:
    __slots__ = ("action", "passages_left")

    def __init__(self, action: str, passages_left: int) -> None:
        self.action, self.passages_left = action, passages_left


def _parse(text: str) -> dict[str, _Armed]:
    armed: dict[str, _Armed] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, action = part.partition("=")
        action, _, nth = action.partition("@")
        if name not in NAMES or action not in {"kill", "raise"} or not (nth or "1").isdigit():
            raise ValueError(f"CROSSFADE_FAILPOINTS: {part!r} is not NAME=kill|raise[@N]; names: {sorted(NAMES)}")
        armed[name] = _Armed(action, int(nth or 1))
    return armed


_armed = _parse(os.environ.get("CROSSFADE_FAILPOINTS", ""))


def arm(text: str) -> None:
    """Replace what is armed in this process; an empty text disarms all."""
    _armed.clear()
    _armed.update(_parse(text))


def passing(name: str) -> None:
    """Die or raise here if the point is armed and this is the passage asked for."""
    point = _armed.get(name)
    if point is None:
        return
    point.passages_left -= 1
    if point.passages_left > 0:
        return
    if point.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    del _armed[name]
    raise FailpointRaised(name)
