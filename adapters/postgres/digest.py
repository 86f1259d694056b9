"""Digests of canonical rows, computed in the database: what verify compares before it reads any row.

A row's digest is the md5 over its columns, each as its length in bytes, a colon and its text, or a minus sign for
NULL: so NULL is no string, and no two rows run together alike. Nothing is trimmed, folded or rounded. A bucket's
digest adds up both halves of its rows' digests, so the order in which a server reads them does not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Engine,
    Select,
    Text,
    and_,
    any_,
    cast,
    collate,
    func,
    literal_column,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import BIT

from adapters.postgres.errors import speaking_for
from adapters.postgres.part import REASON, VERSION, Part, texts, these
from adapters.postgres.prepared import PreparedByShape
from adapters.postgres.schema import debt, dirty, quarantine
from harness.routing import Store
from harness.verify import Digest, Record

_BUCKET_DIGITS = 3  # 4,096 buckets
_FETCH = 2_000


class TableSide:
    """One store's representable rows, for verify. ``within`` narrows it to the rows that are the migration's."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        parts: Sequence[Part],
        columns: Sequence[str],
        within: ColumnElement[bool] | None = None,
    ) -> None:
        self.columns = tuple(columns)
        self._engine, self._store, self._parts, self._within = engine, store, parts, within
        self._prepared = PreparedByShape()

    def digests(self) -> Mapping[str, Digest]:
        rows = self._digested().subquery("digested")
        halves = (_half(rows.c.digest, 1), _half(rows.c.digest, 17))
        summed = [cast(func.sum(half), Text) for half in halves]
        statement = select(rows.c.bucket, func.count(), *summed).group_by(rows.c.bucket)
        with speaking_for(self._store), self._engine.connect() as connection:
            connection.execute(_no_timeout())
            return {row[0]: Digest(int(row[1]), f"{row[2]}/{row[3]}") for row in connection.execute(statement)}

    def rows_in(self, buckets: Collection[str]) -> Iterator[tuple[str, str]]:
        rows = self._digested().subquery("digested")
        statement = select(rows.c.key, rows.c.digest).where(rows.c.bucket.in_(sorted(buckets)))
        statement = statement.order_by(collate(rows.c.key, "C"))  # bytes: the same order on every server
        with speaking_for(self._store), self._engine.connect() as connection:
            connection.execute(_no_timeout())
            for row in connection.execution_options(yield_per=_FETCH).execute(statement):
                yield row[0], row[1]

    def records(self, keys: Collection[str]) -> Mapping[str, Record]:
        if not keys:
            return {}
        found: dict[str, Record] = {}
        with speaking_for(self._store), self._engine.connect() as connection:
            for part in self._parts:
                statement = self._prepared.get(part.name, partial(self._recorded, part))
                answer: Sequence[Any] = statement.execute(connection, keys=sorted(keys)).all()
                found |= {row[0]: Record(row[1], tuple(row[3:]), row[2]) for row in answer}
        return found

    def _recorded(self, part: Part) -> Select[Any]:
        rows = part.by_keys(texts("keys")).subquery()
        values = [cast(rows.c[name], Text) for name in self.columns]
        key, scope = cast(rows.c[part.key], Text).label("key_"), rows.c[part.scope].label("scope_")
        chosen: list[ColumnElement[Any]] = [key, scope, rows.c[VERSION], *values]
        return select(*chosen).where(rows.c[REASON].is_(None))

    def unfit(self) -> frozenset[tuple[str, str | None, str]]:
        """Key, scope and reason of the rows that cannot be represented on the other side."""
        selects = []
        for part in self._parts:
            rows = part.canonical.subquery()
            chosen = select(cast(rows.c[part.key], Text), cast(rows.c[part.scope], Text), rows.c[REASON])
            selects.append(chosen.where(rows.c[REASON].isnot(None)))
        with speaking_for(self._store), self._engine.connect() as connection:
            return frozenset((row[0], row[1], row[2]) for row in connection.execute(union_all(*selects)))

    def _digested(self) -> Any:
        selects = []
        for part in self._parts:
            canonical = part.canonical if self._within is None else part.canonical.where(self._within)
            rows = canonical.subquery("canonical")
            key = cast(rows.c[part.key], Text)
            digest = func.md5(func.concat(*(_encoded(cast(rows.c[name], Text)) for name in self.columns)))
            bucket = func.substr(func.md5(key), 1, _BUCKET_DIGITS)
            chosen = select(key.label("key"), bucket.label("bucket"), digest.label("digest"))
            selects.append(chosen.where(rows.c[REASON].is_(None)))
        return union_all(*selects)


class Queues:
    """What both dirty queues, quarantine and rollback debt say of rows under verification."""

    def __init__(self, legacy: Engine, side: TableSide, new: Engine, new_only: ColumnElement[bool], table: Any) -> None:
        self._legacy, self._side, self._new = legacy, side, new
        self._new_only, self._table = new_only, table

    def noted(self, keys: Collection[str], scopes: Collection[str | None]) -> frozenset[str]:
        named = [scope for scope in scopes if scope is not None]
        whole = and_(dirty.c.key.is_(None), or_(dirty.c.scope.is_(None), dirty.c.scope.in_(named)))
        found: set[str] = set()
        for store, engine in ((Store.LEGACY, self._legacy), (Store.NEW, self._new)):
            with speaking_for(store), engine.connect() as connection:
                if connection.execute(select(dirty.c.seq).where(whole).limit(1)).first() is not None:
                    return frozenset(keys)
                statement = select(dirty.c.key).where(dirty.c.key == any_(these(keys)))
                found |= set(connection.execute(statement).scalars())
        return frozenset(found)

    def owed(self, keys: Collection[str]) -> frozenset[str]:
        chosen = select(debt.c.key).where(debt.c.key == any_(these(keys)), debt.c.row.is_(None))
        with speaking_for(Store.NEW), self._new.connect() as connection:
            return frozenset(connection.execute(chosen).scalars())

    def quarantine(self) -> tuple[int, frozenset[str]]:
        unfit = self._side.unfit()
        chosen = select(quarantine.c.key, quarantine.c.scope, quarantine.c.reason)
        with speaking_for(Store.NEW), self._new.connect() as connection:
            held = frozenset((row[0], row[1], row[2]) for row in connection.execute(chosen))
        odd = frozenset(key for key, _, _ in unfit ^ held)
        return len(held), odd - self.noted(odd, ()) if odd else odd

    def places(self, keys: Collection[str]) -> dict[str, tuple[str, str]]:
        """Part and local key of those of the keys that are in quarantine."""
        chosen = select(quarantine.c.key, quarantine.c.part, quarantine.c.local)
        with speaking_for(Store.NEW), self._new.connect() as connection:
            rows = connection.execute(chosen.where(quarantine.c.key == any_(these(keys))))
            return {row[0]: (row[1], row[2]) for row in rows}

    def new_only(self) -> int:
        with speaking_for(Store.NEW), self._new.connect() as connection:
            return connection.execute(select(func.count()).select_from(self._table).where(self._new_only)).scalar_one()


def _encoded(value: ColumnElement[str]) -> ColumnElement[str]:
    length = cast(func.octet_length(value), Text)
    return func.coalesce(length + ":" + value, "-")


def _half(digest: ColumnElement[str], start: int) -> Any:
    """Eight bytes of a digest as a number that can be summed."""
    bits = literal_column("'x'", Text) + func.substr(digest, start, 16)
    return cast(cast(bits, BIT(64)), BigInteger)


def _no_timeout() -> Any:
    return select(func.set_config("statement_timeout", "0", True))
