"""Connections, and what the driver's errors become."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import psycopg
import pytest
from fix_postgres import POOL, Databases, Server, until
from psycopg_pool import PoolTimeout
from sqlalchemy import Engine, make_url, text

from adapters.postgres.errors import speaking_for, translate
from adapters.postgres.pool import check_server, close_on_sigterm, open_engine
from harness.errors import (
    CannotHold,
    ConfigError,
    Conflict,
    CrossfadeError,
    InvalidRecord,
    StoreContended,
    StoreTimeout,
    StoreUnavailable,
)
from harness.routing import Store

SECRET = "s3cr3t-v4lue"  # noqa: S105 - invented here, to be looked for in messages


def ask(engine: Engine, query: str) -> object:
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar()


@pytest.fixture
def sessions(databases: Databases) -> Callable[[], int]:
    """How many sessions of the application "counted" there are in the new database."""

    def count() -> int:
        with psycopg.connect(databases.new_url) as watcher:
            query = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name = 'counted' AND datname = current_database()"
            )
            row = watcher.execute(query).fetchone()
            assert row is not None
            return int(row[0])

    return count


@pytest.fixture
def counted(databases: Databases) -> Iterator[Engine]:
    """An engine of two places."""
    settings = replace(POOL, max_connections=2, connect_seconds=0.5)
    engine = open_engine(databases.new_url, Store.NEW, settings, application="counted")
    yield engine
    engine.dispose()


def test_a_session_speaks_utc_iso_and_utf8_and_has_a_time_limit(new_engine: Engine) -> None:
    """Every connection has the settings that reading and writing stamps and texts rely on."""
    shown = {
        name: ask(new_engine, f"SHOW {name}")
        for name in ("timezone", "datestyle", "client_encoding", "application_name", "statement_timeout")
    }
    assert shown == {
        "timezone": "UTC",
        "datestyle": "ISO, YMD",
        "client_encoding": "UTF8",
        "application_name": "crossfade-test",
        "statement_timeout": "30s",
    }


def test_bulk_work_can_turn_the_time_limit_off(databases: Databases) -> None:
    """statement_seconds=0 stands in for the settings' limit."""
    engine = open_engine(databases.new_url, Store.NEW, POOL, statement_seconds=0)
    assert ask(engine, "SHOW statement_timeout") == "0"
    engine.dispose()


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg", "postgres"])
def test_every_usual_spelling_of_the_address_is_understood(databases: Databases, driver: str) -> None:
    """Addresses may name the driver, as SQLAlchemy's do, or not, as libpq's do."""
    url = make_url(databases.new_url).set(drivername=driver).render_as_string(hide_password=False)
    engine = open_engine(url, Store.NEW, POOL)
    assert ask(engine, "SELECT 1") == 1
    engine.dispose()


def test_no_more_connections_than_allowed(counted: Engine, sessions: Callable[[], int]) -> None:
    """With all places taken the next caller is refused after connect_seconds, and served again once one is free."""
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(counted.connect()).execute(text("SELECT 1"))
        with pytest.raises(StoreUnavailable, match="no connection became free") as caught, speaking_for(Store.NEW):
            counted.connect()
        assert isinstance(caught.value.__cause__, PoolTimeout)
        assert sessions() == 2
    assert ask(counted, "SELECT 1") == 1


def test_connections_are_kept_and_reused(counted: Engine) -> None:
    """Two callers one after the other are served by the same session."""
    assert ask(counted, "SELECT pg_backend_pid()") == ask(counted, "SELECT pg_backend_pid()")


def test_idle_connections_are_closed(databases: Databases, sessions: Callable[[], int]) -> None:
    """A connection that nobody uses for idle_seconds is closed."""
    settings = replace(POOL, idle_seconds=0.05)
    engine = open_engine(databases.new_url, Store.NEW, settings, application="counted")
    assert ask(engine, "SELECT 1") == 1
    until(lambda: sessions() == 0)
    engine.dispose()


def test_what_was_not_committed_is_rolled_back_when_a_connection_returns(counted: Engine) -> None:
    """The next user of a connection finds no transaction of the one before."""
    with counted.begin() as connection:
        connection.execute(text("CREATE TABLE t (n int)"))
    with counted.connect() as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))
    assert ask(counted, "SELECT count(*) FROM t") == 0


def test_a_broken_connection_leaves_its_place_to_another(counted: Engine) -> None:
    """More connections may break, one after the other, than there are places."""
    for _ in range(5):
        with pytest.raises(StoreUnavailable), speaking_for(Store.NEW):
            ask(counted, "SELECT pg_terminate_backend(pg_backend_pid())")
        assert ask(counted, "SELECT 1") == 1


def test_connections_that_died_while_idle_are_not_given_out(
    counted: Engine, databases: Databases, sessions: Callable[[], int]
) -> None:
    """A server that ended all idle sessions is met with new connections; no caller sees an error."""
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(counted.connect()).execute(text("SELECT 1"))
    with psycopg.connect(databases.new_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'counted'")
    until(lambda: sessions() == 0)
    assert ask(counted, "SELECT 1") == 1


def test_handlers_of_notices_do_not_pile_up(counted: Engine) -> None:
    """A connection that is checked out a hundred times hears each notice once."""
    for _ in range(100):
        ask(counted, "SELECT 1")
    with counted.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        assert len(driver._notice_handlers) == 1


def test_dispose_closes_everything(counted: Engine, sessions: Callable[[], int]) -> None:
    """After dispose() no session is left, and asking again says that the connections are closed."""
    ask(counted, "SELECT 1")
    counted.dispose()
    until(lambda: sessions() == 0)
    with pytest.raises(StoreUnavailable, match="are closed"), speaking_for(Store.NEW):
        ask(counted, "SELECT 1")


def test_sigterm_closes_and_then_does_what_it_did_before(counted: Engine) -> None:
    """The handler that was there is called after the engines are closed."""
    before: list[int] = []
    original = signal.signal(signal.SIGTERM, lambda number, frame: before.append(number))
    try:
        close_on_sigterm(counted)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, original)
    assert before == [signal.SIGTERM]
    with pytest.raises(StoreUnavailable, match="are closed"), speaking_for(Store.NEW):
        ask(counted, "SELECT 1")


def test_sigterm_still_ends_the_process(databases: Databases, sessions: Callable[[], int]) -> None:
    """A process without a handler of its own dies of SIGTERM as it would have, and its sessions end."""
    program = f"""
import signal
from sqlalchemy import text
from adapters.postgres.pool import close_on_sigterm, open_engine
from harness.settings import PoolSettings
from harness.routing import Store
engine = open_engine({databases.new_url!r}, Store.NEW, PoolSettings(), application="counted")
with engine.connect() as connection:
    connection.execute(text("SELECT 1"))
close_on_sigterm(engine)
print("ready", flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
    until(lambda: sessions() == 0)


# --- The server ---------------------------------------------------------------------------------------------------


def test_the_version_is_reported(new_engine: Engine) -> None:
    """A server that we can work with answers with its major version."""
    assert check_server(new_engine, Store.NEW) == int(str(ask(new_engine, "SHOW server_version_num"))) // 10_000


def test_another_encoding_is_refused(server: Server) -> None:
    """A database that is not UTF8 is named with its encoding."""
    url = server.url(f"{server.prefix}_ascii")
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        options = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        admin.execute(f"CREATE DATABASE {server.prefix}_ascii {options}".encode())
    engine = open_engine(url, Store.LEGACY, POOL)
    try:
        with pytest.raises(StoreUnavailable, match=r"legacy.*SQL_ASCII.*UTF8"):
            check_server(engine, Store.LEGACY)
    finally:
        engine.dispose()
        server.drop(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"postgresql://u:{SECRET}@127.0.0.1:1/d", r"legacy \(database d on 127.0.0.1:1\): nothing listens there"),
        (f"postgresql://u:{SECRET}@no-such-host.invalid/d", "legacy: the host's name is unknown"),
    ],
)
def test_an_unreachable_server_says_why_and_keeps_the_password(url: str, said: str) -> None:
    """What is wrong with the address is said at once, with the variable to look at and without the password."""
    engine = open_engine(url, Store.LEGACY, POOL)
    try:
        with pytest.raises(StoreUnavailable, match=said) as caught:
            check_server(engine, Store.LEGACY)
    finally:
        engine.dispose()
    assert "CROSSFADE_LEGACY_URL" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)


def test_a_server_that_does_not_answer_is_told_from_a_pool_that_is_exhausted() -> None:
    """As one that is stopped, or a port of something else: it accepts the connection, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"postgresql://u:{SECRET}@127.0.0.1:{mute.getsockname()[1]}/d"
        engine = open_engine(url, Store.LEGACY, replace(POOL, connect_seconds=0.5))
        for _ in range(2):  # a second caller meets the attempt of the first, still under way
            with pytest.raises(StoreUnavailable, match=r"legacy.*no answer in time") as caught:
                check_server(engine, Store.LEGACY)
            assert SECRET not in str(caught.value)
        engine.dispose()


def test_an_unknown_database_is_named(server: Server) -> None:
    """A database that is not there is told from a server that is not there."""
    engine = open_engine(server.url("no_such_database"), Store.NEW, POOL)
    with pytest.raises(StoreUnavailable, match=r"no_such_database.*the database does not exist.*CROSSFADE_NEW_URL"):
        check_server(engine, Store.NEW)
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "",
        SECRET,
        f"postgresql://u:{SECRET}@host:port/d",
        f"mysql://u:{SECRET}@host/d",
        f"postgresql://u:{SECRET}@host/d?no_such_option=1",
        f"postgresql://u:{SECRET}@[::1/d",
    ],
)
def test_an_unusable_address_is_a_configuration_error(url: str) -> None:
    """An address that cannot work is refused before anything is connected, without quoting it."""
    with pytest.raises(ConfigError, match=r"CROSSFADE_NEW_URL") as caught:
        open_engine(url, Store.NEW, POOL)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


# --- Errors -------------------------------------------------------------------------------------------------------

TABLES = f"""
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE t (
    id int PRIMARY KEY,
    name varchar(5) NOT NULL,
    parent int REFERENCES parent,
    CONSTRAINT name_not_x CHECK (name <> 'x')
);
INSERT INTO t VALUES (1, 'one', NULL);
CREATE TABLE texts (value text UNIQUE);
INSERT INTO texts VALUES ('{SECRET}');
"""


@pytest.fixture
def tables(new_engine: Engine) -> Engine:
    with new_engine.begin() as connection:
        connection.exec_driver_sql(TABLES)
    return new_engine


@pytest.mark.parametrize(
    ("statement", "expected", "said"),
    [
        (f"INSERT INTO texts VALUES ('{SECRET}')", Conflict, "texts_value_key"),
        ("INSERT INTO t VALUES (2, 'x', NULL)", InvalidRecord, "name_not_x"),
        (f"INSERT INTO t VALUES (2, '{SECRET}', NULL)", InvalidRecord, "22001"),
        ("INSERT INTO t VALUES (2, NULL, NULL)", InvalidRecord, "name must not be NULL"),
        (f"INSERT INTO t SELECT id, name, '{SECRET}' || value FROM t, texts", CrossfadeError, "42804"),
        (f"SELECT CAST('{SECRET}' AS uuid)", InvalidRecord, "22P02"),
        ("INSERT INTO t VALUES (2, 'two', 7)", CannotHold, "t_parent_fkey"),
        ("SELECT * FROM no_such_table", StoreUnavailable, "no_such_table"),
        ("SELECT * FROM no_such_schema.t", StoreUnavailable, "no_such_schema"),
        ("SELECT no_such_column FROM t", StoreUnavailable, "no_such_column"),
        ("SET LOCAL statement_timeout = 1; SELECT pg_sleep(60)", StoreTimeout, "time limit"),
        ("DO $$ BEGIN RAISE EXCEPTION 'hands off' USING ERRCODE = '42501'; END $$", StoreUnavailable, "right"),
        ("DO $$ BEGIN RAISE EXCEPTION 'dead' USING ERRCODE = '40P01'; END $$", StoreContended, "try again"),
        ("DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$", StoreUnavailable, "full"),
    ],
)
def test_errors_are_ours_and_quote_no_value(
    tables: Engine, statement: str, expected: type[CrossfadeError], said: str
) -> None:
    """Each SQLSTATE has its meaning; the message names objects, never what a row holds."""
    with pytest.raises(CrossfadeError, match=said) as caught, speaking_for(Store.NEW), tables.begin() as connection:
        connection.exec_driver_sql(statement)
    assert type(caught.value) is expected
    assert str(caught.value).startswith("new")
    assert SECRET not in str(caught.value)
    assert isinstance(caught.value.__cause__, psycopg.Error)


@pytest.mark.parametrize("value", [f"{SECRET}\0", f"{SECRET}\ud800"])
def test_texts_that_postgresql_cannot_hold_are_invalid_records(tables: Engine, value: str) -> None:
    """NUL and lone surrogates are refused by the driver already, and mean the same as the server's refusal."""
    with pytest.raises(InvalidRecord) as caught, speaking_for(Store.NEW), tables.begin() as connection:
        connection.execute(text("INSERT INTO texts VALUES (:value)"), {"value": value})
    assert SECRET not in str(caught.value)


def test_errors_that_are_ours_pass_unchanged() -> None:
    """translate() of our own error is the error."""
    error = Conflict("as it was")
    assert translate(Store.NEW, error) is error
