"""Statements that travel together: what they answer, and what becomes of the others when one fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import psycopg
import pytest
from fix_postgres import Server, engine_for
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError

from adapters.postgres.errors import speaking_for
from adapters.postgres.prepared import Prepared, parameter
from adapters.postgres.trip import together
from harness.errors import StoreUnavailable
from harness.routing import Store

TABLE = Table(
    "shelf",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("word", Text),
    UniqueConstraint("word", deferrable=True, initially="DEFERRED"),
)
ADD = Prepared(
    insert(TABLE).values(number=parameter("number", Integer), word=parameter("word", Text)).returning(TABLE.c.number)
)
ALL = Prepared(select(TABLE.c.number, TABLE.c.word).order_by(TABLE.c.number))


@pytest.fixture
def engine(server: Server) -> Iterator[Engine]:
    with server.database("trip") as url, engine_for(url, Store.NEW) as engine:
        TABLE.metadata.create_all(engine)
        yield engine


@pytest.fixture(autouse=True)
def _silence(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The driver has a mind of its own of errors that come together, and must not put it on standard error."""
    # What its pool says of connections that are lost, commands do without (quiet_driver).
    with caplog.at_level(logging.DEBUG, "psycopg"), caplog.at_level(logging.ERROR, "psycopg.pool"):
        yield
        told = [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING]
    assert not told


def shelf(engine: Engine) -> list[tuple[int, str]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(TABLE.c.number, TABLE.c.word).order_by("number"))]


def put(
    connection: Connection, *rows: tuple[int, str], look: bool = False, end: Callable[[], None] = lambda: None
) -> None:
    """Put rows on the shelf in one trip, perhaps look at the last answer, and commit."""
    with together(connection) as trip:
        answers = [trip.ask(ADD, number=number, word=word) for number, word in rows]
        if look:
            assert answers[-1].rows
        end()
        trip.commit()


def test_each_statement_has_its_own_answer(engine: Engine) -> None:
    """Whenever it is looked at, inside the trip or afterwards."""
    with engine.begin() as connection:
        with together(connection) as trip:
            first, second = (trip.ask(ADD, number=number, word=word) for number, word in ((1, "a"), (2, "b")))
            seen = trip.ask_named(ALL)
            assert [row.word for row in seen.rows] == ["a", "b"]
            third = trip.ask(ADD, number=3, word="c")
        assert (first.count, second.count, third.count, len(seen.rows)) == (1, 1, 1, 2)
    assert shelf(engine) == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.parametrize("word", ["short", "x" * 30_000_000])
def test_however_long_a_statement_it_arrives(engine: Engine, word: str) -> None:
    """Far more than the connection holds at once, in both directions at the same time."""
    echo = Prepared(select(func.repeat(parameter("word", Text), 2)))
    with engine.connect() as connection:
        connection.execute(text("ALTER TABLE shelf DROP CONSTRAINT shelf_word_key"))
        with together(connection) as trip:
            twice = [trip.ask(echo, word=word) for _ in range(2)]
            trip.ask(ADD, number=1, word=word)
            trip.commit()
        assert [len(each.rows[0][0]) for each in twice] == [2 * len(word)] * 2
    assert shelf(engine) == [(1, word)]


def test_a_trip_may_take_the_commit_along(engine: Engine) -> None:
    with engine.connect() as connection, together(connection) as trip:
        trip.ask(ADD, number=1, word="a")
        trip.commit()
    assert shelf(engine) == [(1, "a")]


def test_without_a_commit_nothing_stays(engine: Engine) -> None:
    with engine.connect() as connection, together(connection) as trip:
        trip.ask(ADD, number=1, word="a")
    assert shelf(engine) == []


@pytest.mark.parametrize("look", [False, True])
def test_the_first_failure_is_told_and_takes_the_others_along(engine: Engine, *, look: bool) -> None:
    with engine.connect() as connection:
        with pytest.raises(IntegrityError, match="shelf_pkey"):
            put(connection, (1, "a"), (1, "b"), (2, "c"), look=look)
        connection.rollback()
        put(connection, (3, "d"))  # the connection is as good as before
    assert shelf(engine) == [(3, "d")]


def test_a_commit_that_is_refused_is_told(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(IntegrityError, match="shelf_word_key"):
        put(connection, (1, "same"), (2, "same"))
    assert shelf(engine) == []


def test_what_the_block_itself_raises_passes(engine: Engine) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with engine.connect() as connection, pytest.raises(ZeroDivisionError):
        put(connection, (1, "a"), end=fail)
    assert shelf(engine) == []


@pytest.mark.parametrize("look", [False, True])
def test_a_server_that_goes_away_is_unavailable(engine: Engine, *, look: bool) -> None:
    """And the next trip finds a living connection."""
    with engine.connect() as connection:
        pid = connection.execute(select(func.pg_backend_pid())).scalar_one()
        with engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(StoreUnavailable), speaking_for(Store.NEW):
            put(connection, (1, "a"), look=look)
    with engine.connect() as connection:
        put(connection, (2, "b"))
    assert shelf(engine) == [(2, "b")]


def test_a_connection_that_never_comes_out_of_its_trip_is_given_to_nobody(engine: Engine) -> None:
    """As happens now and then to one whose server goes down in the middle, and surely if the driver does not know of a
    statement that is under way, and is slow enough to be answered when all else has been.
    """

    def get_lost() -> None:
        with engine.connect() as connection, together(connection) as trip:
            trip.ask(ALL)
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            driver.pgconn.send_query_params(b"SELECT pg_sleep(0.3)", None)

    for number in range(3):
        with pytest.raises(StoreUnavailable), speaking_for(Store.NEW):
            get_lost()
        with engine.connect() as connection:
            put(connection, (number, str(number)))
    assert len(shelf(engine)) == 3
