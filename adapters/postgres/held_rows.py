"""Rows in quarantine as legacy has them, column by column and as text: whatever a value is, it can be shown.

Texts of any size may be among them, so they are cut, or left out, in the database.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Select, String, Text, cast, func, select

from adapters.postgres.errors import speaking_for
from adapters.postgres.part import Part, these
from harness.records import Quarantined
from harness.routing import Store

IMAGE = 200  # characters of a value that an image of a row keeps; of a longer one it keeps the length


@dataclass(frozen=True, slots=True)
class Field:
    """One column's value. ``characters`` counts all of it, None for NULL; ``text`` may be cut.

    ``worded``: the column holds text, which may be anybody's.
    """

    name: str
    worded: bool
    characters: int | None
    text: str | None


class HeldRows:
    """Legacy's rows for entries of the quarantine."""

    def __init__(self, engine: Engine, parts: Iterable[Part]) -> None:
        self._engine, self._parts = engine, {part.name: part for part in parts}

    def fields(self, entries: Sequence[Quarantined], most: int) -> dict[str, tuple[Field, ...]]:
        """The rows' columns by canonical key, each cut after so many characters. A row that is gone is left out."""
        with speaking_for(Store.LEGACY), self._engine.connect() as connection:
            return dict(self._read(connection, entries, most))

    def whole(self, entries: Sequence[Quarantined]) -> Iterator[tuple[str, tuple[Field, ...]]]:
        """The same, uncut, one row at a time: none is held in memory longer than the caller holds it."""
        with speaking_for(Store.LEGACY), self._engine.connect() as connection:
            yield from self._read(connection.execution_options(yield_per=1), entries, None)

    def images(self, entries: Sequence[Quarantined]) -> dict[str, Mapping[str, Any] | None]:
        """What the ledger keeps of each row, None of one that is gone."""
        found = self.fields(entries, IMAGE)
        return {each.key: image(found[each.key]) if each.key in found else None for each in entries}

    def _read(
        self, connection: Connection, entries: Sequence[Quarantined], most: int | None
    ) -> Iterator[tuple[str, tuple[Field, ...]]]:
        keys: dict[str, dict[str, str]] = defaultdict(dict)
        for each in entries:
            keys[each.part][each.local] = each.key
        for name, by_local in keys.items():
            if (part := self._parts.get(name)) is None:  # a tenant that is gone
                continue
            worded = {c.name: isinstance(c.type, String) for c in part.table.c if not c.system}
            for local, *values in connection.execute(_columns(part, by_local, most)):
                pairs = zip(worded, values[::2], values[1::2], strict=True)
                yield by_local[local], tuple(Field(column, worded[column], size, text) for column, size, text in pairs)


def image(fields: Iterable[Field]) -> dict[str, Any]:
    """The row as JSON, short enough to be kept."""
    return {
        each.name: each.text if each.characters is None or each.characters <= IMAGE else {"characters": each.characters}
        for each in fields
    }


def _columns(part: Part, locals_: Iterable[str], most: int | None) -> Select[Any]:
    chosen: list[Any] = [part.local]
    for column in part.table.c:
        if not column.system:
            value = cast(column, Text)
            chosen += [func.char_length(value), value if most is None else func.left(value, most)]
    return select(*chosen).where(part.where_local(these(locals_)))
