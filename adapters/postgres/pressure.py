"""How far a server's replicas are behind: what bulk work must not make worse.

A replica that is connected tells how late it replays (``pg_stat_replication``); one that is not, or a logical
subscriber, is known by its slot alone, and only in bytes. A session without the rights of ``pg_monitor`` sees that
there are replicas and nothing of how they are: then that is said, and nobody is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from adapters.postgres.errors import driver_error, speaking_for
from harness.routing import Store
from harness.throttle import Lag

# A server that is a replica itself has no position of its own to write at. Some hosted ones have no such functions.
_WRITTEN = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END"
_REPLICAS = text(
    f"""
    SELECT coalesce(nullif(application_name, ''), 'a replica') AS name, state IS NULL AS hidden,
           coalesce(extract(epoch FROM replay_lag), 0)::float8 AS seconds,
           coalesce(greatest(pg_wal_lsn_diff({_WRITTEN}, replay_lsn), 0), 0)::bigint AS bytes
    FROM pg_stat_replication
    WHERE state IS NULL OR state IN ('streaming', 'catchup')
    """  # noqa: S608 - constants alone
)
_SLOTS = text(
    f"""
    SELECT 'slot ' || slot_name AS name, false AS hidden, 0::float8 AS seconds,
           coalesce(greatest(pg_wal_lsn_diff({_WRITTEN}, coalesce(confirmed_flush_lsn, restart_lsn)), 0), 0)::bigint
    FROM pg_replication_slots
    WHERE NOT temporary
    """  # noqa: S608 - constants alone
)
_NOT_TOLD = {"42501", "0A000", "42883", "42P01", "55000"}  # no right, not there, or not on this kind of server


class ReplicaPressure:
    """Fulfils ``harness.throttle.Pressure`` for one store's server. Needs no right; knows more with ``pg_monitor``.

    A base backup that is being taken counts as no replica. ``with_slots``: whether bytes that slots keep back count.
    """

    def __init__(self, engine: Engine, store: Store, *, with_slots: bool = True) -> None:
        self._engine, self._store, self._with_slots = engine, store, with_slots

    def lags(self) -> Sequence[Lag]:
        """One for each replica. Raises StoreUnavailable."""
        with speaking_for(self._store), self._engine.connect() as connection:
            try:
                rows = [*connection.execute(_REPLICAS), *(connection.execute(_SLOTS) if self._with_slots else ())]
            except DBAPIError as error:
                inner = driver_error(error)
                if not isinstance(inner, psycopg.Error) or inner.sqlstate not in _NOT_TOLD:
                    raise
                return (
                    Lag(note=f"{self._store} does not tell how far its replicas are behind; nobody waits for them"),
                )
        if any(hidden for _, hidden, _, _ in rows):
            return (
                Lag(
                    note=f"{self._store} has replicas, but our user may not see how far they are behind, so nobody "
                    "waits for them; grant it pg_monitor"
                ),
            )
        return [Lag(seconds, size, f"{name} of {self._store}") for name, _, seconds, size in rows]
