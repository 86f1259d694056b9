"""Connections to a store: a SQLAlchemy engine over psycopg's own pool.

SQLAlchemy's pools cannot close idle connections, psycopg's can; so the engine has no pool of its own and takes every
connection from psycopg's (https://www.psycopg.org/psycopg3/docs/advanced/pool.html, "Integration with SQLAlchemy").
"""

from __future__ import annotations

import math
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError

from adapters.postgres.errors import SETTING, speaking_for
from harness.errors import ConfigError, StoreUnavailable
from harness.routing import Store
from harness.settings import PoolSettings

OLDEST, NEWEST = 12, 18
_DRIVERS = {"postgresql", "postgresql+psycopg", "postgres"}
_SILENCE_MS = 30_000  # a peer that acknowledges nothing for so long is dead
_CLOSE_SECONDS = 5.0
# Bulk work waits for its turn. The latter came with PostgreSQL 17.
_UNLIMITED = (
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('lock_timeout', 'transaction_timeout')"
)
_RECENT_SECONDS = 1.0  # psycopg's pool makes its second attempt after about so long


def open_engine(
    url: str,
    store: Store,
    settings: PoolSettings,
    *,
    application: str = "crossfade",
    statement_seconds: float | None = None,
) -> Engine:
    """An engine for the store; nothing is connected yet, and ``dispose()`` closes it for good.

    ``statement_seconds`` stands in for the settings' (0 for bulk work without a limit). Sessions speak UTC and ISO.
    A store that refuses connections is known within milliseconds, as the driver's own error; a connection that does
    not become free within ``connect_seconds`` raises psycopg_pool's PoolTimeout (``errors.translate`` knows both).
    Raises ConfigError, without the URL, for one that cannot be used.
    """
    parsed, arguments = _arguments(url, store, settings, application)
    limit = settings.statement_seconds if statement_seconds is None else statement_seconds
    attempts = _Attempts()
    pool = ConnectionPool(
        "",
        connection_class=_pooled(attempts),
        kwargs=arguments,
        configure=_session(limit),
        min_size=0,
        max_size=settings.max_connections,
        max_idle=settings.idle_seconds,
        timeout=settings.connect_seconds,
        reconnect_timeout=settings.connect_seconds,
        close_returns=True,
        open=True,
        name=f"{application}-{store}",
    )
    engine = create_engine(
        parsed,
        creator=_taking(pool, attempts, settings),
        poolclass=NullPool,
        hide_parameters=True,
        use_native_hstore=False,
    )
    event.listen(engine, "engine_disposed", lambda _: pool.close())
    return engine


def _arguments(url: str, store: Store, settings: PoolSettings, application: str) -> tuple[URL, dict[str, Any]]:
    """The URL as SQLAlchemy and as libpq want it."""
    if not url:
        raise ConfigError(f"where {store}'s database is was not said; set {SETTING[store]}")
    broken = f"{SETTING[store]} is not a usable address; it reads postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(broken) from None  # the error quotes parts of the URL, a password perhaps
    if parsed.drivername not in _DRIVERS:
        raise ConfigError(f"{SETTING[store]} names {parsed.drivername}; Crossfade speaks postgresql only")
    parsed = parsed.set(drivername="postgresql+psycopg")
    _, given = parsed.get_dialect()().create_connect_args(parsed)
    arguments = {
        "application_name": application,
        "connect_timeout": math.ceil(settings.connect_seconds),
        "client_encoding": "utf8",
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 4,
        "tcp_user_timeout": _SILENCE_MS,
        **given,
    }
    try:
        make_conninfo("", **arguments)
    except psycopg.Error:
        raise ConfigError(f"{broken}. Options after ? must be libpq's; found {sorted(parsed.query)}") from None
    return parsed, arguments


def _session(limit: float) -> Callable[[psycopg.Connection[Any]], None]:
    """Settings of each new session. Sent as a statement: connection poolers refuse them in the startup packet.

    Bulk work (no limit) has its statements planned anew each time: a plan that fits one record and a thousand alike
    fits neither, and made catch-up several times slower.

    Three defaults of a role or a database would break promises. Whoever waits for a lock reads what was committed
    meanwhile, which REPEATABLE READ does not show; the order of commits in two databases is worth nothing if a crash of
    one server can take its commit back; and rows that a policy hides from us would be taken for rows that are gone, so
    PostgreSQL is asked to fail instead of hiding any.
    """
    plans = "auto" if limit else "force_custom_plan"

    def configure(connection: psycopg.Connection[Any]) -> None:
        connection.autocommit = True
        connection.execute(
            "SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO, YMD', false),"
            " set_config('statement_timeout', %s, false), set_config('plan_cache_mode', %s, false),"
            " set_config('default_transaction_isolation', 'read committed', false),"
            " set_config('row_security', 'off', false),"
            " set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'),"
            " false)",
            (str(math.ceil(limit * 1000)), plans),
        )
        if not limit:
            connection.execute(_UNLIMITED)
        connection.autocommit = False

    return configure


class _Attempts:
    """What became of the latest attempt to connect. The pool connects in threads of its own and keeps no error."""

    def __init__(self) -> None:
        self._latest: tuple[float, psycopg.Error | None] = (-math.inf, None)
        self._pending: dict[int, float] = {}  # when the attempts began that have not ended, by thread

    @contextmanager
    def under_way(self) -> Iterator[None]:
        self._pending[threading.get_ident()] = time.monotonic()
        try:
            yield
        finally:
            del self._pending[threading.get_ident()]

    def note(self, error: psycopg.Error | None) -> None:
        self._latest = (time.monotonic(), error)

    def pending_since(self, moment: float) -> bool:
        """Whether an attempt has been under way since then: the server does not answer it."""
        return any(began <= moment for began in list(self._pending.values()))

    def failed_since(self, moment: float) -> psycopg.Error | None:
        at, error = self._latest
        return error if at >= moment else None


class _Pooled(psycopg.Connection[Any]):
    """A connection that goes back to its pool when SQLAlchemy closes it, broken or not.

    psycopg's own close() returns a working connection only: a broken one would be counted as in use for ever, and
    the pool run dry after as many failures as it has places.
    """

    def close(self) -> None:
        pool: Any = getattr(self, "_pool", None)
        if pool is None or not self.closed:
            super().close()
            return
        pool.putconn(self)
        self._pool = None  # a second close() must not return it twice

    def add_notice_handler(self, callback: Callable[[Any], None]) -> None:
        """Add the handler once: SQLAlchemy adds its own again at every checkout."""
        if callback not in self._notice_handlers:
            super().add_notice_handler(callback)


def _pooled(attempts: _Attempts) -> type[_Pooled]:
    class Noted(_Pooled):
        @classmethod
        def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
            try:
                with attempts.under_way():
                    connection = super().connect(conninfo, **kwargs)
            except psycopg.Error as error:
                attempts.note(error)
                raise
            attempts.note(None)
            return connection

    return Noted


def _taking(
    pool: ConnectionPool[Any], attempts: _Attempts, settings: PoolSettings
) -> Callable[[], psycopg.Connection[Any]]:
    """How the engine gets a connection: a living one, or the reason why there is none, soon."""

    def take() -> psycopg.Connection[Any]:
        # Each round discards one connection that died while idle, so there are no more rounds than places.
        for _ in range(settings.max_connections):
            connection = _wait(pool, attempts, settings.connect_seconds)
            if not _spoke_while_idle(connection):
                return connection
            connection.pgconn.finish()
            connection.close()
        return _wait(pool, attempts, settings.connect_seconds)

    return take


def _wait(pool: ConnectionPool[Any], attempts: _Attempts, seconds: float) -> psycopg.Connection[Any]:
    """Wait in growing slices, so that a failed attempt to connect is noticed long before the time is over."""
    began, patience = time.monotonic(), 0.01
    while True:
        left = began + seconds - time.monotonic()
        try:
            connection: psycopg.Connection[Any] = pool.getconn(min(patience, left))
        except PoolTimeout:
            if error := attempts.failed_since(began - _RECENT_SECONDS):
                raise type(error)(*error.args, pgconn=error.pgconn) from error
            if left <= patience:
                if attempts.pending_since(began + seconds / 2):
                    raise psycopg.errors.ConnectionTimeout("connection timeout expired") from None
                raise
            patience *= 2
        else:
            return connection


def _spoke_while_idle(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server sent something nobody asked for: in nearly all cases, that it has gone.

    A look at the socket, not a question to the server, so that it costs microseconds.
    """
    look = select.poll()
    look.register(connection.fileno(), select.POLLIN)
    return bool(look.poll(0))


def discard(connection: Connection, failed: BaseException | None = None) -> None:
    """End the session: a connection that is no more than invalidated goes back to psycopg's pool, open."""
    if connection.invalidated:  # it was found dead, and is gone already
        return
    driver = connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection):
        driver.pgconn.finish()
    connection.invalidate(failed)


def asking(engine: Engine) -> Engine:
    """The same connections for statements that are a transaction each: two trips to the server fewer for every one."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def check_server(engine: Engine, store: Store) -> int:
    """The server's major version. Raises StoreUnavailable if it cannot be reached or is none we can work with."""
    with speaking_for(store), engine.connect() as connection:
        query = "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding')"
        version, encoding = connection.execute(text(query)).one()
    if not OLDEST <= version <= NEWEST:
        raise StoreUnavailable(f"{store} is PostgreSQL {version}; Crossfade works with {OLDEST} to {NEWEST}")
    if encoding != "UTF8":
        raise StoreUnavailable(f"{store}'s database is encoded as {encoding}; Crossfade works with UTF8 only")
    return int(version)


def close_on_sigterm(*engines: Engine) -> None:
    """Close the engines when the process is told to end, then do what was done at SIGTERM before.

    For the main thread only, as all signal handlers.
    """
    before = signal.getsignal(signal.SIGTERM)

    def dispose() -> None:
        for engine in engines:
            engine.dispose()

    def close(number: int, frame: FrameType | None) -> None:
        # In a thread, and not for ever: the handler may have interrupted a holder of the pool's own lock.
        closing = threading.Thread(target=dispose, name="crossfade-close", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if callable(before):
            before(number, frame)
        elif before is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(signal.SIGTERM, close)
