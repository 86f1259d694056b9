"""The dirty queue as catch-up reads it: notes of what changed in one store and is not yet carried over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Select,
    Text,
    and_,
    any_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
)

from adapters.postgres.errors import speaking_for
from adapters.postgres.literal import literal_sql
from adapters.postgres.part import texts
from adapters.postgres.pool import asking
from adapters.postgres.prepared import Prepared, PreparedByShape, parameter
from adapters.postgres.schema import dirty
from adapters.postgres.trip import Trip, together
from harness.routing import Store


class Note(NamedTuple):
    """One note. Of a record it names the key, or the local key of a row that was there, or both. With neither it stands
    for its whole scope, and without a scope for its whole part.

    ``cascade``: the record went because its owner did, whoever has authority over it.
    """

    seq: int
    part: str
    scope: str | None
    key: str | None
    local: str | None
    cascade: bool = False

    @property
    def of_record(self) -> bool:
        return self.key is not None or self.local is not None

    @property
    def of_whole_part(self) -> bool:
        return self.scope is None and not self.of_record


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of some records are now, as part and local key: of those parts that are ``known``.

    Known are parts that are gone, too: no record has a row there.
    """

    places: frozenset[tuple[str, str]] = frozenset()
    known: frozenset[str] = frozenset()


OF_RECORD = or_(dirty.c.key.isnot(None), dirty.c.local.isnot(None))
OF_WHOLE_PART = and_(dirty.c.scope.is_(None), ~OF_RECORD)
BY_ROW = and_(dirty.c.key.is_(None), dirty.c.local.isnot(None))  # of a record, whose key the row tells


@dataclass(frozen=True, slots=True)
class Choice:
    """The oldest ``most`` notes that fulfil a condition on ``dirty``, as text: to be asked for again and again."""

    text: str
    most: int

    @classmethod
    def of(cls, condition: ColumnElement[bool], most: int) -> Choice:
        return cls(literal_sql(_columns().where(condition).limit(most)), most)

    def numbered(self, values: Mapping[str, Any]) -> tuple[str, None]:
        """As a statement without parameters."""
        return self.text, None

    def ask(self, trip: Trip) -> Callable[[], list[Note]]:
        """Ask for the notes; to be called when there is time to wait for them."""
        answer = trip.ask(self)
        return lambda: [Note._make(row) for row in answer.rows]


class Notes:
    """One store's dirty queue. Any number of workers read it; nothing is locked here."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store, self._engine, self._asking = store, engine, asking(engine)
        self._prepared = PreparedByShape()

    def oldest(self, most: int, skipped: int = 0, *, alone: Collection[str], gone: Collection[str]) -> list[Note]:
        """The oldest notes after so many skipped ones.

        Without those of scopes left ``alone`` (the empty text: of no scope) and of parts that are ``gone``.
        """
        with self.trip() as trip:
            return self.ask_oldest(trip, most, skipped, alone=alone, gone=gone)()

    def ask_oldest(
        self, trip: Trip, most: int, skipped: int = 0, *, alone: Collection[str], gone: Collection[str]
    ) -> Callable[[], list[Note]]:
        """Ask for them in a trip to the store; to be called when there is time to wait for them."""

        def build() -> Select[Any]:
            spared = func.coalesce(dirty.c.scope, "") != func.all(texts("alone"))
            kept = and_(spared, dirty.c.part != func.all(texts("gone")))
            return _notes(kept).offset(parameter("skipped", BigInteger))

        values = {"skipped": skipped, "alone": sorted(alone), "gone": sorted(gone)}
        answer = trip.ask(self._prepared.get("oldest", build), most=most, **values)
        return lambda: [Note._make(row) for row in answer.rows]

    def named(
        self,
        scopes: Collection[str],
        keys: Collection[Hashable],
        rows: Rows,
        upto: int,
        most: int,
        *,
        alone: Collection[str],
    ) -> list[Note]:
        """The oldest notes for one of the scopes or keys that were written as number ``upto`` or earlier.

        ``rows``: of the records with these keys. What is noted of rows of unknown parts is answered too.
        """

        def build() -> Select[Any]:
            of_keys = or_(dirty.c.key == any_(texts("keys")), _of_rows())
            named = or_(dirty.c.scope == any_(texts("scopes")), *([of_keys] if keys else []))
            spared = func.coalesce(dirty.c.scope, "") != func.all(texts("alone"))
            return _notes(and_(named, spared, dirty.c.seq <= parameter("upto", BigInteger)))

        values = {"scopes": sorted(scopes), "alone": sorted(alone), "upto": upto}
        if keys:
            values |= {"keys": [str(key) for key in keys], **_values(rows)}
        statement = self._prepared.get(("named", bool(keys)), build)
        with self.trip() as trip:
            return [Note._make(row) for row in trip.ask(statement, most=most, **values).rows]

    def chosen(self, choice: Choice) -> list[Note]:
        """The oldest notes of a choice."""
        with self.trip() as trip:
            return choice.ask(trip)()

    def of_scopes(self, scopes: Collection[str], most: int) -> list[Note]:
        """The oldest notes of the scopes; the empty text: of none."""
        # By the index of the scopes: the queue may be long.
        named = dirty.c.scope.in_(list(filter(None, scopes)))
        return self.chosen(Choice.of(named if all(scopes) else or_(named, dirty.c.scope.is_(None)), most))

    @contextmanager
    def trip(self) -> Iterator[Trip]:
        """A trip to the store that nothing is written in."""
        with speaking_for(self._store), self._asking.connect() as connection, together(connection) as trip:
            yield trip

    def latest(self) -> int:
        """The greatest number of a note now, 0 if there is none."""
        with speaking_for(self._store), self._asking.connect() as connection:
            return int(connection.execute(select(func.coalesce(func.max(dirty.c.seq), 0))).scalar_one())

    def left(self) -> int:
        """How many there are."""
        with speaking_for(self._store), self._asking.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(dirty)).scalar_one())

    def tidy(self) -> None:
        """Clear away what settled notes left behind: readers would walk over it, for up to a minute, again and again.

        Holds up nobody; does nothing while somebody else is at it.
        """
        with speaking_for(self._store), self._asking.connect() as connection:
            connection.exec_driver_sql(f"VACUUM (TRUNCATE false, SKIP_LOCKED) {dirty.schema}.{dirty.name}")

    def any_for(self, scope: str | None, key: Hashable | None, rows: Rows) -> bool:
        """Whether anything is noted for the scope, or, without one, for the key, or, without both, at all.

        ``rows``: of the record with the key. What is noted of rows of unknown parts may be of it.
        """

        def build() -> Select[Any]:
            chosen = select(dirty.c.seq)
            if scope is not None:
                chosen = chosen.where(or_(dirty.c.scope == parameter("scope", Text), OF_WHOLE_PART))
            elif key is not None:
                chosen = chosen.where(or_(dirty.c.key == parameter("key", Text), ~OF_RECORD, _of_rows()))
            return select(exists(chosen))

        values: dict[str, Any] = {}
        if scope is not None:
            values = {"scope": scope}
        elif key is not None:
            values = {"key": str(key), **_values(rows)}
        statement = self._prepared.get(("any", *values), build)
        with self.trip() as trip:
            return bool(trip.ask(statement, **values).rows[0][0])

    def strange(self, known: Collection[str]) -> frozenset[str]:
        """The parts whose rows something is noted of, without the ``known`` ones."""

        def build() -> Select[Any]:
            return select(dirty.c.part).where(BY_ROW, dirty.c.part != func.all(texts("known"))).distinct()

        with self.trip() as trip:
            answer = trip.ask(self._prepared.get("strange", build), known=sorted(known))
            return frozenset(row[0] for row in answer.rows)

    def settling(self, *, whole: bool) -> AbstractContextManager[Connection]:
        """A connection to settle notes on; in a transaction that is to be ended, or of its own for each trip."""
        return (self._engine if whole else self._asking).begin()

    def settle(
        self,
        read: Sequence[Note],
        instead: Sequence[dict[str, str | None]] = (),
    ) -> None:
        """Delete exactly the notes that were read, in one transaction with writing those that come instead."""
        with speaking_for(self._store), self.settling(whole=bool(instead)) as connection:
            if instead:
                connection.execute(insert(dirty), list(instead))
            with together(connection) as trip:
                forget(trip, read)


def forget(trip: Trip, read: Sequence[Note]) -> Callable[[], bool]:
    """Delete exactly the notes that were read; what is returned tells whether all of them were still there.

    The commit is not waited for until it is on disk, and need not be: a crash that loses it brings the notes back, and
    what they stand for is carried over again. Whatever must not come before it (authority moves) has a commit of its
    own in this database, which takes this one along. https://www.postgresql.org/docs/current/wal-async-commit.html
    """
    answer = trip.ask(_FORGET, numbers=[note.seq for note in read])
    return lambda: answer.count == len(read)


def _of_rows() -> ColumnElement[bool]:
    places = func.unnest(texts("parts"), texts("locals")).table_valued("part", "local", name="places")
    places = places.render_derived(name="places")
    here = tuple_(dirty.c.part, dirty.c.local).in_(select(places.c.part, places.c.local))
    return and_(BY_ROW, or_(here, dirty.c.part != func.all(texts("known"))))


def _values(rows: Rows) -> dict[str, list[str]]:
    places = sorted(rows.places)
    parts, local = [part for part, _ in places], [local for _, local in places]
    return {"parts": parts, "locals": local, "known": sorted(rows.known)}


def _columns() -> Select[Any]:
    chosen = dirty.c.seq, dirty.c.part, dirty.c.scope, dirty.c.key, dirty.c.local, dirty.c.cascade
    return select(*chosen).order_by(dirty.c.seq)


def _notes(condition: ColumnElement[bool]) -> Select[Any]:
    return _columns().where(condition).limit(parameter("most", BigInteger))


_AT_EASE = select(func.set_config("synchronous_commit", "off", True)).scalar_subquery() == "off"
_FORGET = Prepared(delete(dirty).where(dirty.c.seq == any_(parameter("numbers", ARRAY(BigInteger))), _AT_EASE))
