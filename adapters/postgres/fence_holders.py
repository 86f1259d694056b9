"""Who writes to a store for so long that a fence would wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event

from sqlalchemy import Connection, Engine, text

from adapters.postgres.errors import speaking_for
from adapters.postgres.guarding import FENCE
from harness.routing import Store

_LOOK_SECONDS = 1.0
_HOLDERS = text(
    """
    SELECT coalesce(l.pid, 0) AS pid, l.virtualtransaction AS transaction, coalesce(a.usename, '') AS role,
           coalesce(a.application_name, CASE WHEN l.pid IS NULL THEN 'a prepared transaction' END, '') AS application,
           CASE WHEN l.pid IS NULL THEN :seconds ELSE extract(epoch FROM clock_timestamp() - a.xact_start) END AS age
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.classid = :class AND l.objid = :object
    ORDER BY a.xact_start
    """
)


@dataclass(frozen=True, slots=True)
class Holder:
    """A transaction that writes to the store. ``seconds``: its age; None if that is not for us to see."""

    pid: int
    application: str
    role: str
    seconds: float | None

    def __str__(self) -> str:
        age = "for how long is visible to pg_read_all_stats" if self.seconds is None else f"{self.seconds:.0f} s"
        return f"{self.application or self.role or 'an unnamed session'} (pid {self.pid}, {age})"


def fence_holders(engine: Engine, store: Store, seconds: float) -> list[Holder]:
    """Transactions older than so many seconds that a fence would wait for, the oldest first.

    Of other roles' sessions a user without ``pg_read_all_stats`` sees that they hold the fence, but not since when:
    those count that hold it still, in the same transaction, a second later (or so many seconds, if that is less).
    """
    with speaking_for(store), engine.connect() as connection:
        found = _look(connection, seconds)
        hidden = {transaction for transaction, holder in found if holder.seconds is None}
        old = [holder for _, holder in found if holder.seconds is not None and holder.seconds >= seconds]
        if hidden:
            Event().wait(min(seconds, _LOOK_SECONDS))
            again = dict(_look(connection, seconds))
            old += [again[transaction] for transaction in hidden & again.keys()]
    return old


def _look(connection: Connection, seconds: float) -> list[tuple[tuple[int, str], Holder]]:
    values = {"class": FENCE[0], "object": FENCE[1], "seconds": seconds}
    rows = connection.execute(_HOLDERS, values).all()
    return [
        (
            (row.pid, row.transaction),
            Holder(row.pid, row.application, row.role, None if row.age is None else float(row.age)),
        )
        for row in rows
    ]
