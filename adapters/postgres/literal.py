"""SQLAlchemy statements as complete SQL text, for the few places that take no parameters: COPY and function bodies."""

from __future__ import annotations

from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg


def literal_sql(statement: ClauseElement) -> str:
    """The statement with its values rendered, and quoted, by SQLAlchemy's own literal processors."""
    # A style of parameters without percent signs to double, unlike the driver's own.
    dialect = PGDialect_psycopg(paramstyle="named")  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
    return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
