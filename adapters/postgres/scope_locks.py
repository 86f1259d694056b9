"""Locks that keep workers out of each other's scopes, out of the way of backfill chunks, and clear of a fence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Text, column, func, literal_column, select, text
from sqlalchemy.exc import DBAPIError

from adapters.postgres.authority import ROUTE, authority_now
from adapters.postgres.errors import driver_error
from adapters.postgres.guarding import FENCE
from adapters.postgres.part import texts
from adapters.postgres.prepared import Prepared, parameter
from adapters.postgres.trip import LOOKING_UP, Trip, together
from harness.routing import Store

_LOCK_CLASS = 0x43F0  # advisory locks of scopes: this number, and a bucket of the scope's hash
_LOCK_BUCKETS = 1024  # a power of two; a server's lock table has room for some 6,400 locks, shared with everybody

_JOIN = Prepared(text("LOCK TABLE crossfade.standing IN ROW EXCLUSIVE MODE NOWAIT"))
_BEGIN = Prepared(
    text(
        "SELECT set_config('crossfade.applying', 'on', true),"
        f" pg_advisory_xact_lock_shared({FENCE[0]}, {FENCE[1]}), {LOOKING_UP}"
    )
)


_WAIT_BRIEFLY = Prepared(select(func.set_config("lock_timeout", parameter("limit", Text), True)))


def milliseconds(seconds: float) -> str:
    """As PostgreSQL's settings want it, and never the zero that stands for no limit."""
    return str(max(1, round(seconds * 1000)))


class StandAside(Exception):
    """A chunk is being copied, a whole part expanded, or authority about to move: come back later."""


def send_workers_aside(connection: Connection) -> None:
    """Wait for the batches and chunks that are being written to this database, and let none begin.

    Until the transaction ends; only who has precedence goes on carrying.
    """
    connection.exec_driver_sql("LOCK TABLE crossfade.standing IN SHARE ROW EXCLUSIVE MODE")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a transaction carries. ``precedence``: the caller has sent workers aside. ``lock_seconds``: how long it waits
    for any lock; without, for ever.
    """

    precedence: bool = False
    lock_seconds: float | None = None


@contextmanager
def beginning(connection: Connection, manner: Manner) -> Iterator[Trip]:
    """The first trip of a transaction that carries state to this database.

    Triggers of ours stand aside until it ends, and until then no authority moves to or from this store. Raises
    StandAside while workers have been sent aside, unless it was the caller who did that.
    """
    try:
        with together(connection) as trip:
            if manner.lock_seconds is not None:
                trip.ask(_WAIT_BRIEFLY, limit=milliseconds(manner.lock_seconds))
            if not manner.precedence:  # the table first: where a chunk is being copied, nothing else is waited for
                trip.ask(_JOIN)
            trip.ask(_BEGIN)
            yield trip
    except DBAPIError as error:
        if getattr(driver_error(error), "sqlstate", None) == "55P03":  # lock_not_available
            raise StandAside from error
        raise


def lock_scopes(trip: Trip, scopes: Collection[str | None]) -> Callable[[], dict[str | None, Store]]:
    """Those of the scopes whose lock could be had at once, until the transaction ends, and who has their authority.

    As this database's copy of the route says, which cannot change meanwhile (``beginning``).
    """
    answer = trip.ask(_LOCK, scopes=sorted(scope or "" for scope in scopes))
    return lambda: {scope or None: Store(authority) for scope, authority in answer.rows}


def _locking() -> Prepared:
    class_: ColumnElement[int] = literal_column(str(_LOCK_CLASS))
    buckets: ColumnElement[int] = literal_column(str(_LOCK_BUCKETS - 1))
    scope = func.unnest(texts("scopes")).table_valued(column("scope", Text), name="given").render_derived(name="given")
    held = func.pg_try_advisory_xact_lock(class_, func.hashtext(scope.c.scope).op("&")(buckets))
    decided = authority_now(func.nullif(scope.c.scope, literal_column("''", Text)))
    return Prepared(select(scope.c.scope, decided).select_from(scope, ROUTE).where(held))


_LOCK = _locking()
