"""Where the migration is."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, func, select, update

from adapters.postgres.ledger.audit import write
from adapters.postgres.ledger.opening import ledger, not_prepared
from adapters.postgres.ledger.tables import deferred_index, phase
from harness.errors import Refused
from harness.phases import Phase, check_edge, path
from harness.records import PhaseState


class PhaseBook:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def present(self) -> PhaseState:
        """The phase now. Raises Refused before ``crossfade prepare``."""
        with ledger(self._engine) as connection:
            return read_phase(connection)

    def advance(self, to: Phase, actor: str, reason: str, *, expected_epoch: int | None = None) -> PhaseState:
        """Move to the phase, with its audit entry, in one transaction; where it is that phase already, do nothing.

        Raises IllegalPhase for an edge that does not exist, and Refused when ``expected_epoch`` is not the present
        one: somebody moved first.
        """
        with ledger(self._engine) as connection:
            # The row is locked before it is judged: of two that come at once, the second judges what the first left.
            present = read_phase(connection, lock=True)
            if present.phase is to:
                return present
            if expected_epoch is not None and present.epoch != expected_epoch:
                raise Refused(
                    f"the migration moved to {present.phase} meanwhile (epoch {present.epoch}, not {expected_epoch}); "
                    "look at crossfade status and decide again"
                )
            step(connection, present.phase, to, actor, reason)
            return read_phase(connection)


def step(connection: Connection, present: Phase, to: Phase, actor: str, reason: str) -> None:
    """Take one edge, with its audit entry. Raises IllegalPhase for one that does not exist."""
    check_edge(present, to)
    if to is Phase.BACKFILLED and (waiting := connection.execute(select(deferred_index.c.name)).scalars().all()):
        raise Refused(
            f"new: {len(waiting)} indexes are not built yet ({', '.join(sorted(waiting)[:3])}); run crossfade "
            "backfill, which builds them"
        )
    moved = {"phase": to.value, "epoch": phase.c.epoch + 1, "actor": actor, "reason": reason}
    connection.execute(update(phase).values(moved | {"since": func.now()}))
    write(connection, actor, "phase", reason, {"from": present.value, "to": to.value})


def step_to(connection: Connection, to: Phase, actor: str, reason: str) -> None:
    """Come to the phase by the edges that lead there, within a transaction; nothing to do where it is that already."""
    present = read_phase(connection, lock=True).phase
    for following in path(present, to):
        step(connection, present, following, actor, reason)
        present = following


def read_phase(connection: Connection, *, lock: bool = False) -> PhaseState:
    """The phase, its row locked until the transaction ends if wanted. Raises NotPrepared without one."""
    chosen = select(phase.c.phase, phase.c.epoch, phase.c.since, phase.c.actor, phase.c.reason)
    row = connection.execute(chosen.with_for_update() if lock else chosen).one_or_none()
    if row is None:
        raise not_prepared()
    return PhaseState(Phase(row.phase), row.epoch, row.since, row.actor, row.reason)
