"""The present rows of the store with authority, for what was noted there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Select,
    Text,
    and_,
    any_,
    cast,
    literal,
    select,
    text,
    true,
    union_all,
)

from adapters.postgres.errors import speaking_for
from adapters.postgres.notes import Note, Rows
from adapters.postgres.part import REASON, Part, texts
from adapters.postgres.pool import asking
from adapters.postgres.prepared import Prepared, PreparedByShape
from adapters.postgres.trip import LOOKING_UP, Answer, Trip, together
from harness.routing import Store

_MOST_LEARNT = 100_000


class PresentRows:
    """Reads a store's rows as they are now. ``parts`` answers the parts known at the time, by name."""

    def __init__(self, store: Store, engine: Engine, parts: Callable[[], Mapping[str, Part]]) -> None:
        self._store, self._asking, self._find_parts = store, asking(engine), parts
        self._prepared = PreparedByShape()
        self._learnt: dict[
            tuple[str, str], str
        ] = {}  # keys of rows by part and local key, where they are not as guessed

    @property
    def _parts(self) -> Mapping[str, Part]:
        return self._find_parts()

    def of(self, notes: Iterable[Note]) -> list[Any]:
        """The present rows for the notes, each with ``key_``, ``scope_`` and ``part_``: all texts."""
        by_part: dict[str, list[Note]] = defaultdict(list)
        for note in notes:
            by_part[note.part].append(note)
        named = {name: {note.local for note in noted if note.local is not None} for name, noted in by_part.items()}
        with speaking_for(self._store), self._asking.connect() as connection:
            rows = [row for name, noted in by_part.items() for row in self._by_each_scope(connection, name, noted)]
            with together(connection) as trip:
                trip.ask(_ONE_BY_ONE if any(self._parts[name].whole_scopes for name in by_part) else _LOOKING_UP)
                asked = [self._of_part(trip, self._parts[name], noted, named[name]) for name, noted in by_part.items()]
                # A record whose row went may live on in another one (deleted here, saved anew there).
                keys = {note.key for noted in by_part.values() for note in noted if note.key is not None}
                asked += self._elsewhere(trip, keys, named)
                rows.extend(row for answer in asked for row in answer.rows)
        self._learn(rows)
        return list({(row.part_, row.local): row for row in rows}.values())

    def keyed(self, notes: Iterable[Note]) -> list[Note]:
        """The notes, those of records with their keys; without those whose row went: another note says which it was."""
        notes = list(notes)
        by_row = [note for note in notes if note.key is None and note.local is not None]
        rows = self.of(by_row) if by_row else []
        keys = {(row.part_, row.local): row.key_ for row in rows}
        named = (note._replace(key=note.key or keys.get((note.part, str(note.local)))) for note in notes)
        return [note for note in named if note.key is not None or not note.of_record]

    def guesses(self, notes: Iterable[Note]) -> set[str]:
        """The keys of the notes' records: those that they say, or those that their rows had or must have had.

        A row may be another record's by now.
        """
        parts, learnt, found = self._parts, self._learnt, set[str]()
        for note in notes:
            key = note.key
            if key is None and note.local is not None:
                guessed = parts[note.part].guessed
                key = learnt.get((note.part, note.local)) or (None if guessed is None else guessed(note.local))
            if key is not None:
                found.add(key)
        return found

    def _learn(self, rows: Iterable[Any]) -> None:
        """Keep the rows' keys, where they are not those that would be guessed."""
        parts, learnt = self._parts, self._learnt
        for row in rows:
            guessed = parts[row.part_].guessed
            if guessed is None:
                continue
            if row.key_ == guessed(row.local):
                if learnt:
                    learnt.pop((row.part_, row.local), None)
                continue
            if len(learnt) >= _MOST_LEARNT:
                learnt.clear()
            learnt[(row.part_, row.local)] = row.key_

    @property
    def by_row(self) -> bool:
        """Whether anything is noted by its row alone in this store."""
        return any(part.staying is not None for part in self._parts.values())

    def rows(self, keys: Collection[Hashable], gone: Collection[str]) -> Rows:
        """Where the rows of the records are now; ``gone`` are parts that are not there any more."""
        known = frozenset(self._parts).union(gone)
        if not keys or not self.by_row:
            return Rows(known=known)
        with speaking_for(self._store), self._asking.connect() as connection, together(connection) as trip:
            trip.ask(_LOOKING_UP)
            found = trip.ask_named(self._by_key(), keys=sorted(map(str, keys))).rows
        return Rows(frozenset((row.part_, row.local) for row in found), known)

    def _of_part(self, trip: Trip, part: Part, notes: Iterable[Note], local: Collection[str]) -> Answer:
        """The part's rows that the notes name, and those of their scopes, if these can be told in one condition."""
        if part.where_scopes is not None and (wholes := self._wholes(notes)):
            return trip.ask_named(self._by_scopes(part), scopes=wholes, local=sorted(local))
        return trip.ask_named(self._by_local(part), local=sorted(local))

    def _by_each_scope(self, connection: Connection, name: str, notes: Iterable[Note]) -> Iterator[Any]:
        """The rows of the notes' scopes, where one condition cannot tell them."""
        part = self._parts[name]
        for scope in self._wholes(notes) if part.where_scopes is None else ():
            condition = part.where_scope(scope)
            if condition is not None:
                yield from connection.execute(_named(part, condition))

    def _wholes(self, notes: Iterable[Note]) -> list[str]:
        return sorted({note.scope for note in notes if note.scope is not None and self.widens(note)})

    def _elsewhere(self, trip: Trip, keys: Collection[str], named: Mapping[str, Collection[str]]) -> list[Answer]:
        """The rows of the keys in any part; ``named`` are the rows that have been looked for, by part."""
        # Where the record's key is the table's own, one look tells both.
        told = [named.get(part.name, ()) if part.where_key is part.where_local else () for part in self._parts.values()]
        if all(set(keys) <= set(each) for each in told):
            return []
        return [trip.ask_named(self._by_key(), keys=sorted(keys))]

    def widens(self, note: Note) -> bool:
        """Whether the note stands for its whole scope."""
        return not note.of_record or self._parts[note.part].whole_scopes

    def beside(self, notes: Iterable[Note], rows: Iterable[Any]) -> list[Any]:
        """Those of the rows that no note stands for: they were read because of another one of their scope.

        One that the other store can hold, and has where it is, is there as it should be: whatever changes it is noted.
        """
        records, scopes = set[str](), set[str | None]()
        for note in notes:
            if note.of_record:
                records.update(filter(None, (note.key, note.local)))
            else:
                scopes.add(note.scope)
        return [
            row
            for row in rows
            if not (row.key_ in records or row.local in records or row.scope_ in scopes)
            and getattr(row, REASON) is None
        ]

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
        """The rows of the scopes, and the others with one of the local keys: each by an index of its own."""
        assert part.where_scopes is not None  # noqa: S101 - the caller has looked; for the type checker
        scopes = part.where_scopes(texts("scopes"))

        def build() -> Executable:
            others = and_(part.where_local(texts("local")), scopes.isnot(true()))
            return union_all(*(select(_named(part, each).subquery()) for each in (scopes, others)))

        return self._prepared.get(("scopes", part.name), build)

    def _by_local(self, part: Part) -> Prepared:
        return self._prepared.get(part.name, lambda: _named(part, part.where_local(texts("local"))))


_LOOKING_UP = Prepared(text(f"SELECT {LOOKING_UP}"))
# Between two vacuums a scope that is written to often leaves rows behind that are long gone. A scan of the index alone
# marks those that it meets, for all who come later; one that makes a bitmap meets them all again each time.
_ONE_BY_ONE = Prepared(text(f"SELECT {LOOKING_UP}, set_config('enable_bitmapscan', 'off', true)"))


def _named(part: Part, condition: ColumnElement[bool]) -> Select[Any]:
    """The part's rows that fulfil the condition, each with ``key_`` (text), ``scope_`` and ``part_``."""
    rows = part.carried_where(condition).subquery()
    key, scope = cast(rows.c[part.key], Text).label("key_"), rows.c[part.scope].label("scope_")
    return select(rows, key, scope, literal(part.name, Text).label("part_"))
