"""The dirty queue as catch-up reads it: notes of what changed in legacy and is not yet carried over."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Engine, and_, any_, delete, exists, func, insert, literal, or_, select

from adapters.postgres.errors import speaking_for
from adapters.postgres.schema import dirty
from harness.routing import Store


@dataclass(frozen=True, slots=True)
class Note:
    """One note. Without a key it stands for its whole scope, without either for its whole part."""

    seq: int
    part: str
    scope: str | None
    key: str | None
    local: str | None

    @property
    def of_whole_part(self) -> bool:
        return self.scope is None and self.key is None


class Notes:
    """Legacy's dirty queue. Any number of workers read it; nothing is locked here."""

    def __init__(self, legacy: Engine) -> None:
        self._legacy = legacy

    def oldest(self, most: int, condition: Any = None) -> list[Note]:
        """The oldest notes, those that fulfil a condition on ``dirty`` if one is given."""
        statement = select(dirty.c.seq, dirty.c.part, dirty.c.scope, dirty.c.key, dirty.c.local)
        if condition is not None:
            statement = statement.where(condition)
        with speaking_for(Store.LEGACY), self._legacy.connect() as connection:
            return [Note(*row) for row in connection.execute(statement.order_by(dirty.c.seq).limit(most))]

    def left(self) -> int:
        """How many there are."""
        with speaking_for(Store.LEGACY), self._legacy.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(dirty)).scalar_one())

    def noted_now(self, scopes: Collection[str], keys: Collection[Hashable]) -> Any:
        """The condition of being noted for one of the scopes or keys, and not later than now."""
        named = or_(dirty.c.scope.in_(list(scopes)), dirty.c.key.in_([str(key) for key in keys]))
        with speaking_for(Store.LEGACY), self._legacy.connect() as connection:
            latest = connection.execute(select(func.coalesce(func.max(dirty.c.seq), 0))).scalar_one()
        return and_(named, dirty.c.seq <= latest)

    def any_for(self, scope: str | None, key: Hashable | None) -> bool:
        """Whether anything is noted for the scope, or, without one, for the key, or, without both, at all."""
        statement = select(dirty.c.seq)
        if scope is not None:
            whole_part = and_(dirty.c.scope.is_(None), dirty.c.key.is_(None))
            statement = statement.where(or_(dirty.c.scope == scope, whole_part))
        elif key is not None:
            statement = statement.where(or_(dirty.c.key == str(key), dirty.c.key.is_(None)))
        with speaking_for(Store.LEGACY), self._legacy.connect() as connection:
            return bool(connection.execute(select(exists(statement))).scalar_one())

    def settle(self, read: Sequence[Note], instead: Sequence[dict[str, str | None]] = ()) -> None:
        """Delete exactly the notes that were read, in one transaction with those that come in their place."""
        numbers = literal([note.seq for note in read], ARRAY(BigInteger))
        with speaking_for(Store.LEGACY), self._legacy.begin() as connection:
            if instead:
                connection.execute(insert(dirty), list(instead))
            connection.execute(delete(dirty).where(dirty.c.seq == any_(numbers)))
