"""What carrying asks of the store that takes: to say where records stand, and to make them equal to what is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection, Row


@dataclass(frozen=True, slots=True)
class Applied:
    """What was changed, in records. ``unfit``: why the store cannot hold a record, where only it could find that."""

    upserted: int
    deleted: int
    unfit: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """The scope in which each of some records stands in a store, by canonical key; ``places`` is the store's own."""

    scopes: Mapping[str, str | None] = field(default_factory=dict)
    places: Any = None


class Taking(Protocol):
    """A store's records as state is carried to them. Every method works in the caller's transaction.

    A method takes a number of statements that does not grow with the number of records.
    """

    def find(self, connection: Connection, keys: Collection[str]) -> Standing:
        """Where the records stand here now."""
        ...

    def keys_of_part(self, connection: Connection, part: str) -> list[tuple[str, str]]:
        """Key and scope of every record with a scope that came from the other store's part."""
        ...

    def make_equal(
        self, connection: Connection, keys: Collection[str], rows: Sequence[Row[Any]], found: Standing
    ) -> Applied:
        """Make the records equal to ``rows``, as ``PresentRows`` reads them; those of ``keys`` without one are deleted.

        A row with a ``reason`` counts as none. Equal records are left untouched. ``found``: where these records, and
        perhaps others, stand; looked up in the same transaction, under the locks of their scopes.
        """
        ...
