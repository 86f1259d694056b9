"""Lists as PostgreSQL reads arrays, in its text format (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO).

psycopg does this too, for any type and depth, with two regular expressions and several calls for every element: more
than half of a catch-up worker's time (docs/adr/0029).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import DataError


def array_text(values: Sequence[Any]) -> str | None:
    """The array as text, for a parameter with a cast; None if only the driver knows the elements' type.

    Elements are texts, integers, booleans, UUIDs or datetimes, all of one type, or None. Raises DataError, as the
    driver does, for a text with a NUL.
    """
    kinds = set(map(type, values))
    some = type(None) in kinds
    kinds.discard(type(None))
    if not kinds:
        return "{" + ",".join(["NULL"] * len(values)) + "}"
    write = _WRITERS.get(kinds.pop())
    if write is None or kinds:
        return None
    if write is _text and not some:
        return _texts(values)
    if some:
        return "{" + ",".join(["NULL" if value is None else write(value) for value in values]) + "}"
    return "{" + ",".join(map(write, values)) + "}"


def _text(value: str) -> str:
    return _quoted(value, 0)


def _texts(values: Sequence[str]) -> str:
    """All of them at once, divided by what no text may hold: a fifth of the time that they take one by one."""
    return "{" + _quoted("\0".join(values), len(values) - 1).replace("\0", '","') + "}"


def _quoted(value: str, divided: int) -> str:
    if value.count("\0") != divided:
        raise DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _boolean(value: bool) -> str:
    return "t" if value else "f"


def _uuid(value: UUID) -> str:
    return value.hex


def _moment(value: datetime) -> str:
    return f'"{value}"'


_WRITERS: Mapping[type, Callable[[Any], str]] = {
    str: _text,
    int: str,
    bool: _boolean,
    UUID: _uuid,
    datetime: _moment,
}
