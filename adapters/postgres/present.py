"""The authority's present rows for what was noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, Select, Text, any_, cast, literal, select

from adapters.postgres.errors import speaking_for
from adapters.postgres.notes import Note
from adapters.postgres.part import Part, texts
from adapters.postgres.prepared import Prepared, PreparedByShape
from harness.routing import Store


class PresentRows:
    """Reads legacy's rows as they are now. ``parts`` answers the parts known at the time, by name."""

    def __init__(self, legacy: Engine, parts: Callable[[], Mapping[str, Part]]) -> None:
        self._legacy, self._find_parts = legacy, parts
        self._prepared = PreparedByShape()

    @property
    def _parts(self) -> Mapping[str, Part]:
        return self._find_parts()

    def of(self, notes: Iterable[Note]) -> list[Row[Any]]:
        """The authority's present rows for the notes, each with ``key_``, ``scope_`` and ``part_``."""
        rows: list[Row[Any]] = []
        with speaking_for(Store.LEGACY), self._legacy.connect() as authority:
            for name in {note.part for note in notes}:
                of_part = [note for note in notes if note.part == name]
                if local := sorted({note.local for note in of_part if note.local is not None}):
                    rows.extend(self._by_local(self._parts[name]).execute(authority, local=local))
                wholes = {note.scope for note in of_part if note.key is None and note.scope is not None}
                for scope in sorted(wholes):
                    condition = self._parts[name].where_scope(scope)
                    if condition is not None:
                        rows.extend(authority.execute(_named(self._parts[name], condition)))
            # A record whose row is gone may live on in another one (deleted here, saved anew there).
            found = {str(row.key_) for row in rows}
            if gone := sorted({note.key for note in notes if note.key is not None} - found):
                for part in self._parts.values():
                    rows.extend(self._by_key(part).execute(authority, keys=gone))
        return list({(row.part_, row.local): row for row in rows}.values())

    def _by_key(self, part: Part) -> Prepared:
        def build() -> Select[Any]:
            rows = _named(part, part.where_key(texts("keys"))).subquery()
            return select(rows).where(cast(rows.c.key_, Text) == any_(texts("keys")))

        return self._prepared.get(("key", part.name), build)

    def _by_local(self, part: Part) -> Prepared:
        return self._prepared.get(part.name, lambda: _named(part, part.where_local(texts("local"))))


def _named(part: Part, condition: ColumnElement[bool]) -> Select[Any]:
    """The part's rows that fulfil the condition, each with ``key_``, ``scope_`` and ``part_``."""
    rows = part.carried_where(condition).subquery()
    key, scope = rows.c[part.key].label("key_"), rows.c[part.scope].label("scope_")
    return select(rows, key, scope, literal(part.name, Text).label("part_"))
