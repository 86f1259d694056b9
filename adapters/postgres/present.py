"""The present rows of the store with authority, for what was noted there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, Select, Text, any_, cast, literal, select

from adapters.postgres.errors import speaking_for
from adapters.postgres.notes import Note
from adapters.postgres.part import Part, texts
from adapters.postgres.pool import asking
from adapters.postgres.prepared import Prepared, PreparedByShape
from harness.routing import Store


class PresentRows:
    """Reads a store's rows as they are now. ``parts`` answers the parts known at the time, by name."""

    def __init__(self, store: Store, engine: Engine, parts: Callable[[], Mapping[str, Part]]) -> None:
        self._store, self._asking, self._find_parts = store, asking(engine), parts
        self._prepared = PreparedByShape()

    @property
    def _parts(self) -> Mapping[str, Part]:
        return self._find_parts()

    def of(self, notes: Iterable[Note]) -> list[Row[Any]]:
        """The present rows for the notes, each with ``key_``, ``scope_`` and ``part_``."""
        notes = list(notes)
        rows: list[Row[Any]] = []
        with speaking_for(self._store), self._asking.connect() as connection:
            for name in {note.part for note in notes}:
                of_part = [note for note in notes if note.part == name]
                part = self._parts[name]
                wholes = sorted({note.scope for note in of_part if note.scope is not None and self.widens(note)})
                if wholes and part.where_scopes is not None:
                    rows.extend(self._by_scopes(part).execute(connection, scopes=wholes))
                elif wholes:
                    for condition in filter(_is_there, map(part.where_scope, wholes)):
                        rows.extend(connection.execute(_named(part, condition)))
                seen = {row.local for row in rows if row.part_ == name}
                local = {note.local for note in of_part if note.local is not None} - seen
                if local:
                    rows.extend(self._by_local(part).execute(connection, local=sorted(local)))
            # A record whose row is gone may live on in another one (deleted here, saved anew there).
            found = {str(row.key_) for row in rows}
            if gone := sorted({note.key for note in notes if note.key is not None} - found):
                for part in self._parts.values():
                    rows.extend(self._by_key(part).execute(connection, keys=gone))
        return list({(row.part_, row.local): row for row in rows}.values())

    def widens(self, note: Note) -> bool:
        """Whether the note stands for its whole scope."""
        return note.key is None or self._parts[note.part].whole_scopes

    def samples(self, among: Callable[[ColumnElement[str]], ColumnElement[bool]]) -> list[Note]:
        """A note of some record of each part in one of the scopes ``among`` chooses, if there is one.

        Of no number, for nobody has written them.
        """
        found = []
        with speaking_for(self._store), self._asking.connect() as connection:
            for part in self._parts.values():
                rows = _named(part, among(part.scope_of(part.table.c))).limit(1)
                for row in connection.execute(rows):
                    found.append(Note(0, part.name, row.scope_, str(row.key_), row.local))
        return found

    def _by_key(self, part: Part) -> Prepared:
        def build() -> Select[Any]:
            rows = _named(part, part.where_key(texts("keys"))).subquery()
            return select(rows).where(cast(rows.c.key_, Text) == any_(texts("keys")))

        return self._prepared.get(("key", part.name), build)

    def _by_scopes(self, part: Part) -> Prepared:
        assert part.where_scopes is not None  # noqa: S101 - the caller has looked; for the type checker
        condition = part.where_scopes(texts("scopes"))
        return self._prepared.get(("scopes", part.name), lambda: _named(part, condition))

    def _by_local(self, part: Part) -> Prepared:
        return self._prepared.get(part.name, lambda: _named(part, part.where_local(texts("local"))))


def _is_there(condition: ColumnElement[bool] | None) -> bool:
    return condition is not None


def _named(part: Part, condition: ColumnElement[bool] | None) -> Select[Any]:
    """The part's rows that fulfil the condition, each with ``key_``, ``scope_`` and ``part_``."""
    assert condition is not None  # noqa: S101 - filtered before; for the type checker
    rows = part.carried_where(condition).subquery()
    key, scope = rows.c[part.key].label("key_"), rows.c[part.scope].label("scope_")
    return select(rows, key, scope, literal(part.name, Text).label("part_"))
