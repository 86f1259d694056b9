"""What any of the two servers is like, and whether it will do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from adapters.postgres.pool import NEWEST, OLDEST
from adapters.prompts.assessment.findings import BLOCKS, DECIDE, Code, Finding
from harness.errors import ConfigError
from harness.routing import Store


@dataclass(frozen=True, slots=True)
class Server:
    """``database`` tells one database of one running server from all others; ``log_bytes``: its max_wal_size."""

    version: int
    encoding: str
    writable: bool
    may_create_schema: bool
    database: tuple[Any, ...]
    log_bytes: int


def look_at_server(connection: Connection) -> Server:
    query = text(
        """
        SELECT current_setting('server_version_num')::int / 10000 AS version,
            current_setting('server_encoding') AS encoding,
            NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off' AS writable,
            CASE WHEN to_regnamespace('crossfade') IS NULL
                THEN has_database_privilege(current_database(), 'CREATE')
                ELSE has_schema_privilege('crossfade', 'CREATE')
            END AS may_create_schema,
            pg_postmaster_start_time() AS started,
            pg_size_bytes(current_setting('max_wal_size')) AS log_bytes,
            (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) AS number
        """
    )
    row = connection.execute(query).one()
    database = row.started, row.number
    return Server(row.version, row.encoding, row.writable, row.may_create_schema, database, row.log_bytes)


def server_findings(server: Server, store: Store) -> Iterator[Finding]:
    if not OLDEST <= server.version <= NEWEST:
        told = f"{store} is PostgreSQL {server.version}; Crossfade works with {OLDEST} to {NEWEST}"
        yield Finding(Code.VERSION, BLOCKS, 1, told)
    if server.encoding != "UTF8":
        told = f"{store}'s database is encoded as {server.encoding}; Crossfade works with UTF8 only"
        yield Finding(Code.ENCODING, BLOCKS, 1, told)
    if not server.writable:
        told = f"{store} takes no writes (a standby, or default_transaction_read_only is on); name a server that does"
        yield Finding(Code.READ_ONLY, BLOCKS, 1, told)
    if not server.may_create_schema:
        told = f"our user may not create what Crossfade keeps in the schema crossfade in {store}; grant it CREATE on "
        yield Finding(Code.RIGHTS, BLOCKS, 1, told + "the database, or on the schema if it is there")


def zone_findings(connection: Connection, configured: str) -> Iterator[Finding]:
    """Whether sessions of legacy default to clocks other than the configured zone's. At most one finding.

    Its examples are the zones. Dispatch leaves the conversion of stamps to its sessions' TimeZone.
    """
    if not _is_zone(connection, configured):
        raise ConfigError(f"legacy.time_zone names no time zone that legacy's server knows: {configured!r}")
    query = text(
        """
        SELECT DISTINCT zone FROM (
            SELECT reset_val AS zone FROM pg_catalog.pg_settings WHERE name = 'TimeZone'
            UNION ALL
            SELECT substr(entry, strpos(entry, '=') + 1)
            FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) entry
            WHERE lower(split_part(entry, '=', 1)) = 'timezone' AND s.setdatabase IN
                (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
        ) AS zones ORDER BY zone
        """
    )
    others = [zone for zone in connection.execute(query).scalars() if not _same_clocks(connection, zone, configured)]
    if others:
        told = (
            f"sessions of legacy default to the time zone {' or '.join(others)}, and its stamps are read as "
            f"{configured}; set legacy.time_zone to the zone of the sessions that Dispatch itself opens"
        )
        yield Finding(Code.TIME_ZONE, DECIDE, len(others), told, tuple(others))


def _is_zone(connection: Connection, zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):  # KeyError: not found; OSError: a directory of zones
        return False
    known = text("SELECT EXISTS (SELECT FROM pg_catalog.pg_timezone_names WHERE lower(name) = lower(:zone))")
    return bool(connection.execute(known, {"zone": zone}).scalar_one())


def _same_clocks(connection: Connection, one: str, other: str) -> bool:
    """Whether both zones' clocks agree every week of twenty years, as Etc/UTC's and GMT's do."""
    same = text(
        "SELECT bool_and(timezone(:one, t) = timezone(:other, t)) FROM generate_series("
        "timestamp '2010-01-01 12:00', timestamp '2030-01-01 12:00', interval '7 days') t"
    )
    return bool(connection.execute(same, {"one": one, "other": other}).scalar_one())
