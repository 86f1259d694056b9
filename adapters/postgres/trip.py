"""Statements that travel to the server together, in one round trip (libpq's pipeline mode).

A worker that asks and waits a dozen times for each batch spends most of its time being woken up, and so does the
server. https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol

import psycopg
from psycopg.pq.abc import PGconn
from psycopg.rows import BaseRowFactory, namedtuple_row, tuple_row
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from adapters.postgres.errors import STALE_PLAN
from adapters.postgres.pool import discard

LOOKING_UP = ", ".join(
    f"set_config('{name}', '{value}', true)"
    for name, value in (
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_material", "off"),
        ("jit", "off"),
    )
)
"""Until the transaction ends, statements are planned once and look rows up in indexes, whatever tables held then."""


class Statement(Protocol):
    """What can be asked (``Prepared``)."""

    def numbered(self, values: Mapping[str, Any]) -> tuple[str, Sequence[Any] | None]:
        """The text, with its parameters as $1 and so on, and their values."""
        ...


class Answer:
    """What a statement has to say. To look at it ends the trip, if that is still under way."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor
        self._rows: Sequence[Any] | None = None

    @property
    def rows(self) -> Sequence[Any]:
        if self._rows is None:
            self._rows = self._cursor.fetchall()
        return self._rows

    @property
    def count(self) -> int:
        """How many rows the statement wrote, or answers."""
        return self._cursor.rowcount


class Trip:
    """``ask`` sends statements off without waiting. One that fails takes those after it along."""

    def __init__(self, connection: Connection, driver: psycopg.Connection[Any], stack: ExitStack) -> None:
        self._connection, self._driver, self._stack = connection, driver, stack
        self._begun = not psycopg.Pipeline.is_supported()

    def ask(self, statement: Statement, **values: Any) -> Answer:
        """Send the statement off. Its rows are tuples of what the driver makes of PostgreSQL's types."""
        return self._send(statement, tuple_row, values)

    def ask_named(self, statement: Statement, **values: Any) -> Answer:
        """The same, and the rows are named tuples."""
        return self._send(statement, namedtuple_row, values)

    def _send(self, statement: Statement, row_factory: BaseRowFactory[Any], values: Mapping[str, Any]) -> Answer:
        if not self._begun:  # only now: a trip without a statement is none
            self._stack.enter_context(self._driver.pipeline())
            self._begun = True
        cursor = psycopg.RawCursor(self._driver, row_factory=row_factory)
        answer = Answer(cursor.execute(*statement.numbered(values)))
        _push(self._driver.pgconn)
        return answer

    def commit(self) -> None:
        """End the connection's transaction; the trip with it."""
        self._connection.commit()


def _push(pgconn: PGconn) -> None:
    """Wait until all of what was asked has left, and there is room for what ends the trip.

    psycopg looks after the beginning of it only, then waits for an answer; a server that waits for the rest of a long
    statement has none. https://www.postgresql.org/docs/current/libpq-async.html (PQflush)
    """
    look = select.poll()
    look.register(pgconn.socket, select.POLLIN | select.POLLOUT)
    while True:
        unsent = pgconn.flush()
        [(_, ready)] = look.poll()
        if ready & ~select.POLLOUT:  # what has been answered must be read, or the server waits for that; or it has gone
            pgconn.consume_input()
        if not unsent and ready & select.POLLOUT:
            return


@contextmanager
def together(connection: Connection) -> Iterator[Trip]:
    """A trip on a connection, in whose transaction it takes part; it ends with the block, or when an answer is read.

    Nothing else may use the connection meanwhile. Raises what SQLAlchemy would raise for the first statement that
    failed.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - this package's engines have no other driver
    if not connection.in_transaction():
        connection.begin()
    failed: psycopg.Error | DBAPIError | None = None
    try:
        with ExitStack() as stack:
            try:
                yield Trip(connection, driver, stack)
            except (psycopg.Error, DBAPIError) as error:
                failed = error  # kept to be raised when the trip is over, which fails too, for the rest of it
    except psycopg.Error as error:
        failed = failed or error
    if failed is None:
        return
    stale = isinstance(failed, psycopg.Error) and failed.sqlstate == STALE_PLAN
    if driver.closed or stale or driver.pgconn.pipeline_status:
        # Another connection plans its statements anew, and one that was cut off in a trip never comes out of it.
        discard(connection, failed)
    elif not connection.in_transaction():  # SQLAlchemy takes a commit that never came about for one that failed
        with suppress(psycopg.Error):  # if it has died now, whoever uses it next is told
            driver.rollback()
    if isinstance(failed, DBAPIError):
        raise failed
    raise DBAPIError.instance(
        None, None, failed, psycopg.Error, hide_parameters=True, dialect=connection.dialect
    ) from failed
