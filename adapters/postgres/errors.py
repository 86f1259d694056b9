"""What a PostgreSQL store's errors mean to us.

Nothing that a row may hold gets into a message: no DETAIL, no statement, no parameters, and the server's own first
line only where it names objects instead of values. The driver's error stays as ``__cause__``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as CheckoutTimeout

from harness.errors import (
    CannotHold,
    ConfigError,
    Conflict,
    CrossfadeError,
    InvalidRecord,
    NoAuthority,
    StoreContended,
    StoreTimeout,
    StoreUnavailable,
)
from harness.routing import Store

# Where the stores' addresses come from: a settings file, or the environment.
SETTING = {Store.LEGACY: "legacy.url (CROSSFADE_LEGACY_URL)", Store.NEW: "new.url (CROSSFADE_NEW_URL)"}

STALE_PLAN = "0A000"  # a prepared statement's columns have changed their types, or what the server cannot do at all
_ABSENT = {"3F000": "schema", "42P01": "table", "42703": "column", "42883": "function"}

# What libpq says of a connection that did not come about, and what to do. It has no SQLSTATE for these.
_CONNECTING = (
    (r"password authentication failed|no password supplied", "wrong credentials", "check the user and password in {}"),
    (r'role "[^"]*" does not exist', "wrong credentials", "check the user in {}"),
    (r'database "[^"]*" does not exist', "the database does not exist", "check the database's name in {}"),
    (r"no pg_hba\.conf entry", "the server's pg_hba.conf does not let us in", "allow this host and user there"),
    (r"too many (clients|connections)|remaining connection slots", "it has no connection left", "lower its load"),
    (r"starting up|shutting down|recovery mode", "it is starting or stopping", "wait and try again"),
    (r"Connection refused|No such file or directory", "nothing listens there", "check host and port in {}"),
    (r"could not translate host name|resolve host", "the host's name is unknown", "check the host in {}"),
    (r"timeout expired|timed out", "no answer in time", "check host, port and the network in between"),
)


def translate(store: Store, error: Exception) -> CrossfadeError:
    """Our error for one of SQLAlchemy's or psycopg's; errors that are ours already come back as they are."""
    driver = driver_error(error)
    if isinstance(driver, CrossfadeError):
        return driver
    if isinstance(driver, UnicodeEncodeError):
        return InvalidRecord(f"{store}: a text holds characters that UTF-8 cannot express; remove them")
    if isinstance(driver, PoolTimeout | TooManyRequests | CheckoutTimeout):
        return StoreUnavailable(
            f"{store}: no connection became free in time; raise pool.max_connections or look for slow statements"
        )
    if isinstance(driver, PoolClosed):
        return StoreUnavailable(f"{store}: the connections are closed, because this process is ending")
    if not isinstance(driver, psycopg.Error):
        return CrossfadeError(f"{store}: unexpected {type(driver).__name__} of the database library; please report it")
    return _by_state(store, driver) if driver.sqlstate else _by_class(store, driver)


def driver_error(error: Exception) -> Exception:
    """The driver's own error inside SQLAlchemy's, or the error itself."""
    inner = error.orig if isinstance(error, DBAPIError) else None
    return inner if isinstance(inner, Exception) else error


@contextmanager
def speaking_for(store: Store) -> Iterator[None]:
    """Raise the database library's errors in the block as ours, on behalf of the store."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error, UnicodeEncodeError) as error:
        raise translate(store, error) from driver_error(error)


def _by_state(store: Store, error: psycopg.Error) -> CrossfadeError:
    state, said = error.sqlstate or "", error.diag.message_primary or "no message"
    rule = f" {error.diag.constraint_name}" if error.diag.constraint_name else ""
    if state == "XF001":  # our guard's own words, which name no more than the scope and the stores
        return NoAuthority(said)
    if state == "XF002":
        return CannotHold(said)
    if state in {"23505", "23P01"}:
        return Conflict(f"{store}: the uniqueness rule{rule} forbids this record; another one stands in its place")
    if state == "23514":
        return InvalidRecord(f"{store}: the rule{rule} does not accept this record; change its values")
    if state == "23502":
        return InvalidRecord(f"{store}: {error.diag.column_name or 'a column'} must not be NULL; give it a value")
    if state == "23503":
        return CannotHold(f"{store}: the record refers to what is not there{f' (rule{rule})' if rule else ''}")
    if state == "22023" and "time zone" in said:  # the only one that we ever name
        return ConfigError(
            f"legacy.time_zone names no time zone that {store}'s server knows; give an IANA name, as in Europe/Berlin"
        )
    if state.startswith("23"):
        return InvalidRecord(f"{store}: the rule{rule} does not accept this record (SQLSTATE {state}); change it")
    if state.startswith("22"):  # here the server's own line quotes the value
        return InvalidRecord(f"{store}: a value does not fit its column (SQLSTATE {state}); change it")
    if state[:2] in {"P0", "54"}:  # a trigger's own error, whose words may quote the row, or a limit of an index
        return InvalidRecord(
            f"{store}: a trigger or an index refuses this record (SQLSTATE {state}); see its server's log"
        )
    if state == "25006":  # after a failover, the server that was demoted
        return StoreUnavailable(
            f"{store} takes no writes now ({said}); see whether {SETTING[store]} leads to a replica, or whether "
            "default_transaction_read_only is on there"
        )
    if state == "55P03":
        return StoreTimeout(
            f"{store}: a lock was not to be had in time; see who holds it (pg_stat_activity, pg_locks), and try again"
        )
    if state in {"57014", "25P03", "25P04"}:
        return StoreTimeout(f"{store}: gave up after the time limit; try again, or raise pool.statement_seconds")
    if state in _ABSENT:
        return StoreUnavailable(
            f"{store} is not what was expected: a {_ABSENT[state]} is missing ({said}). "
            "Run crossfade assess to see what is there, crossfade prepare to add what is ours"
        )
    if state == "42501":
        return StoreUnavailable(f"{store}: a right is missing ({said}); grant it to the user in {SETTING[store]}")
    if state == STALE_PLAN and error.diag.source_function == "RevalidateCachedQuery":  # whatever language it speaks
        return StoreContended(f"{store}: a column's type has changed ({said}); try again")
    if state in {"40001", "40P01"}:
        return StoreContended(f"{store}: the transaction gave way to another one ({said}); try again")
    if state[:2] in {"08", "28", "3D", "53", "57"} or isinstance(error, psycopg.OperationalError):
        return _unreachable(store, error, said)
    if not _is_known(state):
        return InvalidRecord(f"{store}: a trigger refuses this record (SQLSTATE {state}); see its server's log")
    return CrossfadeError(f"{store}: unexpected SQLSTATE {state}; see its server's log, and please report it")


def _is_known(state: str) -> bool:
    """Whether it is one of PostgreSQL's own, and no invention of a trigger's."""
    try:
        psycopg.errors.lookup(state)
    except KeyError:
        return False
    return True


def _by_class(store: Store, error: psycopg.Error) -> CrossfadeError:
    if isinstance(error, psycopg.DataError):
        return InvalidRecord(f"{store}: a value is one that PostgreSQL cannot hold (a NUL in a text?); change it")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return _unreachable(store, error, str(error))
    return CrossfadeError(f"{store}: unexpected {type(error).__name__} of the driver; please report it")


def _unreachable(store: Store, error: psycopg.Error, said: str) -> StoreUnavailable:
    for pattern, what, todo in _CONNECTING:
        if re.search(pattern, said):
            return StoreUnavailable(f"{store}{_address(error)}: {what}; {todo.format(SETTING[store])}")
    reason = said.splitlines()[0].strip() if said else type(error).__name__
    return StoreUnavailable(f"{store}{_address(error)} is unavailable ({reason}); see whether its server runs")


def _address(error: psycopg.Error) -> str:
    """Where a connection was tried, as `` (database D on H:P)``; empty for errors of a standing connection."""
    tried = error.pgconn
    if tried is None:
        return ""
    host, port, database = ((part or b"").decode(errors="replace") for part in (tried.host, tried.port, tried.db))
    return f" (database {database or '?'} on {host or 'localhost'}:{port or '5432'})"
