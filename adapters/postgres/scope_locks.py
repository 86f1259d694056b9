"""Locks that keep workers out of each other's scopes, and out of the way of a backfill chunk."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError

from adapters.postgres.errors import translate
from harness.routing import Store

_LOCK_CLASS = 0x43F0  # advisory locks of scopes: this number, and a bucket of the scope's hash
_LOCK_BUCKETS = 1024  # a power of two; a server's lock table has room for some 6,400 locks, shared with everybody


def lock_scopes(connection: Connection, scopes: Collection[str | None]) -> set[str | None]:
    """Those of the scopes whose lock could be had at once; it lasts until the transaction ends."""
    names = sorted(scope or "" for scope in scopes)
    statement = text(
        "SELECT scope FROM unnest(cast(:scopes AS text[])) AS scope"
        " WHERE pg_try_advisory_xact_lock(:class, hashtext(scope) & :buckets)"
    )
    found = connection.execute(
        statement, {"scopes": names, "class": _LOCK_CLASS, "buckets": _LOCK_BUCKETS - 1}
    ).scalars()
    return {scope or None for scope in found}


def stand_beside_backfill(connection: Connection) -> bool:
    """Whether no chunk is being copied; none will be until the transaction ends."""
    try:
        with connection.begin_nested():
            connection.execute(text("LOCK TABLE crossfade.standing IN ROW EXCLUSIVE MODE NOWAIT"))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":  # lock_not_available
            return False
        raise translate(Store.NEW, error) from error
    except DBAPIError as error:
        raise translate(Store.NEW, error) from error
    return True
