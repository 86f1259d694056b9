"""The present rows of the store with authority, for what was noted there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Row,
    Select,
    Text,
    any_,
    cast,
    literal,
    or_,
    select,
    union_all,
)

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
        """The present rows for the notes, each with ``key_``, ``scope_`` and ``part_``: all texts."""
        by_part: dict[str, list[Note]] = defaultdict(list)
        for note in notes:
            by_part[note.part].append(note)
        rows: list[Row[Any]] = []
        named: dict[str, set[str]] = {}
        with speaking_for(self._store), self._asking.connect() as connection:
            for name, noted in by_part.items():
                named[name] = {note.local for note in noted if note.local is not None}
                rows.extend(self._of_part(connection, self._parts[name], noted, named[name]))
            # A record whose row is gone may live on in another one (deleted here, saved anew there).
            found = {row.key_ for row in rows}
            if gone := {note.key for noted in by_part.values() for note in noted if note.key is not None} - found:
                rows.extend(self._elsewhere(connection, gone, named))
        return list({(row.part_, row.local): row for row in rows}.values())

    def _of_part(
        self, connection: Connection, part: Part, notes: Iterable[Note], local: Collection[str]
    ) -> list[Row[Any]]:
        """The part's rows that the notes name, alone or by their scopes."""
        wholes = sorted({note.scope for note in notes if note.scope is not None and self.widens(note)})
        if wholes and part.where_scopes is not None:
            return list(self._by_scopes(part).execute(connection, scopes=wholes, local=sorted(local)))
        rows: list[Row[Any]] = []
        for condition in filter(_is_there, map(part.where_scope, wholes)):
            rows.extend(connection.execute(_named(part, condition)))
        if alone := set(local).difference(row.local for row in rows):
            rows.extend(self._by_local(part).execute(connection, local=sorted(alone)))
        return rows

    def _elsewhere(
        self, connection: Connection, keys: Collection[str], named: Mapping[str, Collection[str]]
    ) -> list[Row[Any]]:
        """The rows of the keys in any part; ``named`` are the rows that have been looked for, by part."""
        # Where the record's key is the table's own, one look tells both.
        told = [named.get(part.name, ()) if part.where_key is part.where_local else () for part in self._parts.values()]
        if all(set(keys) <= set(each) for each in told):
            return []
        return list(self._by_key().execute(connection, keys=sorted(keys)))

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
                    found.append(Note(0, part.name, row.scope_, row.key_, row.local))
        return found

    def _by_key(self) -> Prepared:
        def build() -> Executable:
            arms = []
            for part in self._parts.values():
                rows = _named(part, part.where_key(texts("keys"))).subquery()
                arms.append(select(rows).where(rows.c.key_ == any_(texts("keys"))))
            return union_all(*arms)

        return self._prepared.get(("key", *self._parts), build)

    def _by_scopes(self, part: Part) -> Prepared:
        """The rows of the scopes, and those with one of the local keys."""
        assert part.where_scopes is not None  # noqa: S101 - the caller has looked; for the type checker
        either = or_(part.where_scopes(texts("scopes")), part.where_local(texts("local")))
        return self._prepared.get(("scopes", part.name), lambda: _named(part, either))

    def _by_local(self, part: Part) -> Prepared:
        return self._prepared.get(part.name, lambda: _named(part, part.where_local(texts("local"))))


def _is_there(condition: ColumnElement[bool] | None) -> bool:
    return condition is not None


def _named(part: Part, condition: ColumnElement[bool] | None) -> Select[Any]:
    """The part's rows that fulfil the condition, each with ``key_`` (text), ``scope_`` and ``part_``."""
    assert condition is not None  # noqa: S101 - filtered before; for the type checker
    rows = part.carried_where(condition).subquery()
    key, scope = cast(rows.c[part.key], Text).label("key_"), rows.c[part.scope].label("scope_")
    return select(rows, key, scope, literal(part.name, Text).label("part_"))
