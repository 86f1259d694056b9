"""The dirty queue as catch-up reads it: notes of what changed in one store and is not yet carried over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Engine,
    Select,
    and_,
    any_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
)

from adapters.postgres.errors import speaking_for
from adapters.postgres.literal import literal_sql
from adapters.postgres.part import texts
from adapters.postgres.pool import asking
from adapters.postgres.prepared import Prepared, PreparedByShape, parameter
from adapters.postgres.schema import dirty
from adapters.postgres.trip import Trip, together
from harness.routing import Store


@dataclass(frozen=True, slots=True)
class Note:
    """One note. Without a key it stands for its whole scope, without either for its whole part.

    ``cascade``: the record went because its owner did, whoever has authority over it.
    """

    seq: int
    part: str
    scope: str | None
    key: str | None
    local: str | None
    cascade: bool = False

    @property
    def of_whole_part(self) -> bool:
        return self.scope is None and self.key is None


@dataclass(frozen=True, slots=True)
class Choice:
    """The oldest ``most`` notes that fulfil a condition on ``dirty``, as text: to be asked for again and again."""

    text: str
    most: int

    @classmethod
    def of(cls, condition: ColumnElement[bool], most: int) -> Choice:
        return cls(literal_sql(_columns().where(condition).limit(most)), most)

    def bound(self, values: Mapping[str, Any]) -> tuple[str, None]:
        """As a statement without parameters: the text, for the driver."""
        return self.text, None

    def ask(self, trip: Trip) -> Callable[[], list[Note]]:
        """Ask for the notes; to be called when there is time to wait for them."""
        answer = trip.ask(self)
        return lambda: [_note(row) for row in answer.rows]


class Notes:
    """One store's dirty queue. Any number of workers read it; nothing is locked here."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store, self._engine, self._asking = store, engine, asking(engine)
        self._prepared = PreparedByShape()

    def oldest(self, most: int, skipped: int = 0, *, alone: Collection[str], gone: Collection[str]) -> list[Note]:
        """The oldest notes after so many skipped ones.

        Without those of scopes left ``alone`` (the empty text: of no scope) and of parts that are ``gone``.
        """

        def build() -> Select[Any]:
            spared = func.coalesce(dirty.c.scope, "") != func.all(texts("alone"))
            kept = and_(spared, dirty.c.part != func.all(texts("gone")))
            return _notes(kept).offset(parameter("skipped", BigInteger))

        values = {"skipped": skipped, "alone": sorted(alone), "gone": sorted(gone)}
        return self._read("oldest", build, most=most, **values)

    def named(
        self, scopes: Collection[str], keys: Collection[Hashable], upto: int, most: int, *, alone: Collection[str]
    ) -> list[Note]:
        """The oldest notes for one of the scopes or keys that were written as number ``upto`` or earlier."""

        def build() -> Select[Any]:
            named = or_(dirty.c.scope == any_(texts("scopes")), dirty.c.key == any_(texts("keys")))
            spared = func.coalesce(dirty.c.scope, "") != func.all(texts("alone"))
            return _notes(and_(named, spared, dirty.c.seq <= parameter("upto", BigInteger)))

        values = {"scopes": sorted(scopes), "keys": [str(key) for key in keys], "alone": sorted(alone)}
        return self._read("named", build, upto=upto, most=most, **values)

    def chosen(self, choice: Choice) -> list[Note]:
        """The oldest notes of a choice."""
        with self.trip() as trip:
            return choice.ask(trip)()

    @contextmanager
    def trip(self) -> Iterator[Trip]:
        """A trip to the store that nothing is written in."""
        with speaking_for(self._store), self._asking.connect() as connection, together(connection) as trip:
            yield trip

    def _read(self, shape: str, build: Callable[[], Select[Any]], **values: Any) -> list[Note]:
        statement = self._prepared.get(shape, build)
        with self.trip() as trip:
            return [_note(row) for row in trip.ask(statement, **values).rows]

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

    def any_for(self, scope: str | None, key: Hashable | None) -> bool:
        """Whether anything is noted for the scope, or, without one, for the key, or, without both, at all."""
        statement = select(dirty.c.seq)
        if scope is not None:
            whole_part = and_(dirty.c.scope.is_(None), dirty.c.key.is_(None))
            statement = statement.where(or_(dirty.c.scope == scope, whole_part))
        elif key is not None:
            statement = statement.where(or_(dirty.c.key == str(key), dirty.c.key.is_(None)))
        with speaking_for(self._store), self._asking.connect() as connection:
            return bool(connection.execute(select(exists(statement))).scalar_one())

    def settle(
        self,
        read: Sequence[Note],
        instead: Sequence[dict[str, str | None]] = (),
    ) -> None:
        """Delete exactly the notes that were read, in one transaction with writing those that come instead."""
        with speaking_for(self._store), (self._engine if instead else self._asking).begin() as connection:
            if instead:
                connection.execute(insert(dirty), list(instead))
            with together(connection) as trip:
                forget(trip, read)


def forget(trip: Trip, read: Sequence[Note]) -> None:
    """Delete exactly the notes that were read."""
    trip.ask(_FORGET, numbers=[note.seq for note in read])


def _note(row: Any) -> Note:
    return Note(*row)


def _columns() -> Select[Any]:
    chosen = dirty.c.seq, dirty.c.part, dirty.c.scope, dirty.c.key, dirty.c.local, dirty.c.cascade
    return select(*chosen).order_by(dirty.c.seq)


def _notes(condition: ColumnElement[bool]) -> Select[Any]:
    return _columns().where(condition).limit(parameter("most", BigInteger))


_FORGET = Prepared(delete(dirty).where(dirty.c.seq == any_(parameter("numbers", ARRAY(BigInteger)))))
