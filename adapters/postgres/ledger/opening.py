"""The way into the ledger: every book opens it here, so that a ledger that is missing is explained once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection, Engine, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from adapters.postgres.errors import driver_error, speaking_for
from adapters.postgres.ledger.tables import phase, route
from harness.errors import NotPrepared
from harness.phases import Phase
from harness.routing import Store

_NOT_PREPARED = "new: the ledger is not there; run crossfade prepare"
_MISSING = {"42P01", "3F000", "42703"}


@contextmanager
def ledger(engine: Engine) -> Iterator[Connection]:
    """One transaction on the ledger, committed when the block ends well.

    Raises Refused when the ledger is missing, StoreUnavailable when the new database cannot be reached.
    """
    with speaking_for(Store.NEW):
        try:
            with engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            inner = driver_error(error)
            if isinstance(inner, psycopg.Error) and inner.sqlstate in _MISSING:
                raise not_prepared() from inner
            raise


def not_prepared() -> NotPrepared:
    return NotPrepared(_NOT_PREPARED)


def open_ledger(engine: Engine, *, actor: str, salt: str) -> None:
    """Begin the migration at IDLE with all authority at legacy; what has begun already stays as it is.

    ``salt`` decides which scopes move first; a fresh random text for each migration.
    """
    first_phase = {"phase": Phase.IDLE.value, "epoch": 0, "actor": actor, "reason": "prepared", "since": func.now()}
    with ledger(engine) as connection:
        connection.execute(insert(phase).values(first_phase).on_conflict_do_nothing())
        connection.execute(insert(route).values(epoch=0, salt=salt).on_conflict_do_nothing())
