"""Statements compiled once.

SQLAlchemy keeps compiled statements too, but finds them by walking the whole expression, on every execution. The
canonical SELECT is a large expression, and callers would pay milliseconds for it on every read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Connection, CursorResult, Executable, bindparam
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from adapters.postgres.arrays import array_text


def parameter(name: str, type_: Any = None) -> ColumnElement[Any]:
    """A parameter that ``Prepared.execute`` gives a value by this name."""
    return bindparam(name, required=False, type_=type_)  # or compiling would ask for the value already


class Prepared:
    """A statement as the driver wants it. Values are bound by the names of its bindparams.

    Rows hold what the driver makes of PostgreSQL's types: UUID, datetime, list and so on.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement

    @cached_property
    def _named(self) -> tuple[str, dict[str, Any]]:
        """The text and what is bound in it; made when first needed, for many a statement never is."""
        compiled = self._compile("pyformat")
        return str(compiled), {name: value for name, value in compiled.params.items() if value is not None}

    @cached_property
    def _numbered(self) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        """The text, the names of its parameters in their order, and what is bound in it."""
        compiled = self._compile("numeric_dollar")
        return str(compiled), tuple(compiled.positiontup or ()), compiled.params

    def _compile(self, paramstyle: str) -> Any:
        return self._statement.compile(  # type: ignore[attr-defined] # every executable of Core has it
            dialect=PGDialect_psycopg(paramstyle=paramstyle),  # type: ignore[no-untyped-call] # untyped there
            compile_kwargs={"render_postcompile": True},
        )

    def execute(self, connection: Connection, **values: Any) -> CursorResult[Any]:
        text, fixed = self._named
        given = {name: _given(value) for name, value in values.items()}
        return connection.exec_driver_sql(text, {**fixed, **given} or None)

    def numbered(self, values: Mapping[str, Any]) -> tuple[str, Sequence[Any] | None]:
        """The text, with its parameters numbered ($1), and their values: what the driver need not read through."""
        text, names, fixed = self._numbered
        return text, [_given(values[name]) if name in values else fixed[name] for name in names] or None


def _given(value: Any) -> Any:
    """A value as the driver is to have it: every array has a cast in the statement's text, so text will do."""
    written = array_text(value) if isinstance(value, list) else None
    return value if written is None else written


class PreparedByShape:
    """Statements by shape: built and compiled when a shape is first met. Shapes come from a small closed set."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Prepared] = {}

    def get(self, shape: Hashable, build: Callable[[], Executable]) -> Prepared:
        found = self._known.get(shape)
        if found is None:
            found = self._known[shape] = Prepared(build())  # two threads may both build it; they build the same
        return found
