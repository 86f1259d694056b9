"""SQLAlchemy statements as complete SQL text, for the few places that take no parameters: COPY and function bodies."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg


def literal_sql(statement: ClauseElement, schema: str | None = None) -> str:
    """The statement with its values rendered, and quoted, by SQLAlchemy's own literal processors.

    ``schema`` is written before tables that name none, for text that is to run under another search path.
    """
    # A style of parameters without percent signs to double, unlike the driver's own.
    dialect = PGDialect_psycopg(paramstyle="named")  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
    qualified: Any = {"schema_translate_map": {None: schema}, "render_schema_translate": True} if schema else {}
    return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}, **qualified))
