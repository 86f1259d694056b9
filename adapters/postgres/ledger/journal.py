"""The journal: every act that moves authority, from its intention on. At most one is pending."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, update

from adapters.postgres.ledger.audit import write
from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.phases import read_phase, step_to
from adapters.postgres.ledger.route import read_route
from adapters.postgres.ledger.tables import journal, route
from harness.errors import Overtaken, Refused
from harness.moving import Act, Stand
from harness.phases import Phase, leads_to
from harness.routing import Store


class JournalBook:
    """Fulfils ``harness.moving.Journal``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(
        self,
        command: str,
        *,
        loser: Store,
        before: Stand,
        after: Stand,
        epoch: int,
        actor: str,
        reason: str,
        left_behind: frozenset[str] = frozenset(),
    ) -> Act:
        """Note the intention. Raises Overtaken if anything has changed since ``before``, Refused while another act is
        pending.
        """
        values = {
            "command": command,
            "actor": actor,
            "reason": reason,
            "loser": loser.value,
            "before": _dump(before),
            "after": _dump(after) | {"epoch": epoch, "left_behind": sorted(left_behind)},
        }
        with ledger(self._engine) as connection:
            _check(connection, before, epoch - 1)
            number = connection.execute(insert(journal).values(values).returning(journal.c.id)).scalar_one()
        return Act(int(number), command, actor, reason, loser, before, after, epoch, left_behind)

    def change_shares(self, command: str, *, before: Stand, after: Stand, epoch: int, actor: str, reason: str) -> None:
        """Change phase and shares where no authority moves, in one transaction. ``epoch`` is the one afterwards.

        Raises Overtaken if anything has changed since ``before``, Refused while an act is pending.
        """
        with ledger(self._engine) as connection:
            _check(connection, before, epoch - 1)
            shares = {"reads_percent": after.reads_percent, "shadow_percent": after.shadow_percent}
            connection.execute(update(route).values(**shares, epoch=epoch))
            step_to(connection, after.phase, actor, reason)
            detail = {
                name: {"from": getattr(before, name), "to": share}
                for name, share in shares.items()
                if getattr(before, name) != share
            }
            if detail:
                write(connection, actor, command, reason, detail)

    def pending(self) -> Act | None:
        """The act that is neither done nor undone."""
        with ledger(self._engine) as connection:
            return _pending(connection)

    def acts(self, limit: int = 100) -> list[tuple[Act, str]]:
        """The newest acts with their states, newest first."""
        with ledger(self._engine) as connection:
            rows = connection.execute(select(journal).order_by(journal.c.id.desc()).limit(limit)).all()
        return [(_act(row), str(row.state)) for row in rows]

    def last(self) -> tuple[str, float] | None:
        """The newest act that was carried out: its command, and its seconds from the intention to the end."""
        took = func.extract("epoch", journal.c.ended_at - journal.c.began_at)
        done = select(journal.c.command, took).where(journal.c.state == "done").order_by(journal.c.id.desc()).limit(1)
        with ledger(self._engine) as connection:
            row = connection.execute(done).one_or_none()
        return None if row is None else (str(row[0]), max(0.0, float(row[1])))

    def finish(self, act: Act) -> None:
        with ledger(self._engine) as connection:
            if not _end(connection, act, "done"):
                return
            # Authority has moved, whatever the phase is: one that others have led elsewhere stays as it is.
            if leads_to(read_phase(connection, lock=True).phase, act.after.phase):
                step_to(connection, act.after.phase, act.actor, act.reason)
            write(connection, act.actor, act.command, act.reason, {"from": _dump(act.before), "to": _dump(act.after)})

    def undo(self, act: Act) -> None:
        with ledger(self._engine) as connection:
            undo(connection, act)


def read_stand(engine: Engine) -> Stand:
    """Route and phase as they are now, of one moment."""
    with ledger(engine) as connection:
        return _stand(connection)[0]


def lock_pending(connection: Connection, number: int) -> None:
    """Lock the act until the transaction ends. Raises Refused if somebody has finished or undone it."""
    chosen = select(journal.c.state).where(journal.c.id == number).with_for_update()
    state = connection.execute(chosen).scalar_one_or_none()
    if state != "pending":
        raise Refused(
            f"the act was {state or 'removed'} by somebody else meanwhile; look at crossfade status and decide again"
        )


def _stand(connection: Connection, *, lock: bool = False) -> tuple[Stand, int]:
    present = read_route(connection, lock=lock)
    automatic = connection.execute(select(route.c.automatic)).scalar_one()
    came_to = read_phase(connection, lock=lock).phase
    shares = present.writes_percent, present.reads_percent, present.shadow_percent
    return Stand(*shares, came_to, dict(present.pins), frozenset(automatic)), present.epoch


def _check(connection: Connection, before: Stand, epoch: int) -> None:
    """Overtaken unless all is still as it was when the act was planned; Refused while another one is pending.

    The command's lock is not enough: its connection may have been lost, and another command come in between.
    """
    present, present_epoch = _stand(connection, lock=True)
    if (other := _pending(connection)) is not None:
        raise Refused(f"{other.command} is not finished; run crossfade resume first")
    if (present, present_epoch) != (before, epoch):
        raise Overtaken("somebody else has changed the route or the phase meanwhile; look at crossfade status")


def undo(connection: Connection, act: Act) -> None:
    """Say that the act did not happen, within a transaction; nothing to do where it is no longer pending."""
    if _end(connection, act, "undone"):
        write(connection, act.actor, f"{act.command} undone", act.reason, {"to": _dump(act.after)})


def _pending(connection: Connection) -> Act | None:
    row = connection.execute(select(journal).where(journal.c.state == "pending")).one_or_none()
    return None if row is None else _act(row)


def _end(connection: Connection, act: Act, state: str) -> bool:
    ended = update(journal).where(journal.c.id == act.id, journal.c.state == "pending")
    return connection.execute(ended.values(state=state, ended_at=func.clock_timestamp())).rowcount == 1


def _dump(stand: Stand) -> dict[str, Any]:
    return {
        "writes_percent": stand.writes_percent,
        "reads_percent": stand.reads_percent,
        "shadow_percent": stand.shadow_percent,
        "phase": stand.phase.value,
        "pins": {name: store.value for name, store in stand.pins.items()},
        "automatic": sorted(stand.automatic),
    }


def _load(body: Mapping[str, Any]) -> Stand:
    return Stand(
        body["writes_percent"],
        body["reads_percent"],
        body["shadow_percent"],
        Phase(body["phase"]),
        {name: Store(store) for name, store in body["pins"].items()},
        frozenset(body["automatic"]),
    )


def _act(row: Any) -> Act:
    before, after = _load(row.before), _load(row.after)
    said = row.after
    return Act(
        row.id,
        row.command,
        row.actor,
        row.reason,
        Store(row.loser),
        before,
        after,
        said["epoch"],
        frozenset(said["left_behind"]),
    )
