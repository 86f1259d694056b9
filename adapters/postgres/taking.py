"""What carrying asks of the store that takes: to say where records stand, and to make them equal to what is given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection

from adapters.postgres.trip import Trip


@dataclass(frozen=True, slots=True)
class Applied:
    """What is being changed. ``unfit``: why the store cannot hold a record, where only it could find that.

    ``upserts`` and ``deletes`` count records, and may be asked once the trip is over. ``overtaken``, where there is
    anything to be asked: whether rows that were to move have gone since they were looked at; then nothing of it may be
    committed.
    """

    unfit: Mapping[str, str] = field(default_factory=dict)
    upserts: Callable[[], int] = int
    deletes: Callable[[], int] = int
    overtaken: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The scope in which each of some records stands in a store, by canonical key; ``places`` is the store's own.

    ``steady``: those that stay as they are whatever becomes of others in their scopes, where the store can tell.
    """

    scopes: Mapping[str, str | None] = field(default_factory=dict)
    places: Any = None
    steady: Collection[str] = frozenset()


class Taking(Protocol):
    """A store's records as state is carried to them. Every method works in the caller's transaction.

    A method takes a number of statements that does not grow with the number of records.
    """

    def look(self, trip: Trip, keys: Collection[str], scopes: Collection[str]) -> Callable[[], Found]:
        """Where the records stand here now, and what else there is to know of the scopes before anything is written
        there; to be called when there is time to wait for it.

        May tell of other records in the scopes, too. Of these not all that there is to know of one that moves.
        """
        ...

    def keys_of_part(self, connection: Connection, part: str) -> list[tuple[str, str]]:
        """Key and scope of every record with a scope that came from the other store's part."""
        ...

    def make_equal(self, trip: Trip, keys: Collection[str], rows: Sequence[Any], found: Found) -> Applied:
        """Make the records equal to ``rows``; those of ``keys`` without one are deleted.

        A row with a ``reason`` counts as none. Equal records are left untouched. ``found``: what ``look`` found, in the
        same transaction and under the locks of their scopes, for these records and perhaps others.
        """
        ...
