"""What of a batch of notes may be carried, and what must happen to the rest.

Decided inside the transaction that writes, under its locks: whose authority a scope is under cannot change there
until that transaction ends. So a worker that read its notes long ago does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine

from adapters.postgres.ledger.cascades import carried_cascades
from adapters.postgres.notes import Note
from adapters.postgres.part import Part
from adapters.postgres.present import PresentRows
from adapters.postgres.scope_locks import Manner, beginning, lock_scopes
from adapters.postgres.taking import Found, Taking
from adapters.postgres.trip import together
from harness.errors import Conflict
from harness.routing import Store

_LOOKS = 4

Place = tuple[str, str | None]  # scope and key


class StaleParts(Exception):
    """A part has appeared of which this worker knows nothing: it must look again before it carries anything."""


@dataclass(frozen=True, slots=True)
class Giver:
    """The store whose notes are carried. ``parts`` answers its parts as they are now."""

    store: Store
    engine: Engine
    parts: Callable[[], Sequence[Part]]


@dataclass(frozen=True, slots=True)
class Taker:
    """The store that state is carried to.

    ``part_of`` names its part that holds a scope, None if it has no place. Raises StaleParts for a part that has
    appeared since.
    """

    store: Store
    engine: Engine
    tables: Taking
    part_of: Callable[[str], str | None]


@dataclass(slots=True)
class Batch:
    """Notes that can be settled now, and what has to be done for it in the taking store.

    ``keys`` are made equal to ``rows``. ``turned`` are not this direction's: the other store has authority over them,
    and is asked to carry its state back. ``found`` tells where the records stand there.
    """

    notes: list[Note] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    rows: list[Any] = field(default_factory=list)
    turned: set[Place] = field(default_factory=set)
    found: Found = field(default_factory=Found)

    @property
    def scopes(self) -> set[str | None]:
        return {note.scope for note in self.notes}


def sort_out(
    taking: Connection, notes: Sequence[Note], taker: Taker, present: PresentRows, manner: Manner | None = None
) -> Batch:
    """Begin to carry, and find the batch that can be carried with the locks to be had now; empty if there are none.

    What a cascade took is deleted in the scope it was taken from, once: a record that is saved there afterwards stays.
    Raises Conflict for a key under which both stores hold a record of their own, and StandAside.
    """
    asked = present.guesses(notes)
    scopes = {note.scope for note in notes if note.scope is not None}
    with beginning(taking, manner or Manner()) as trip:
        authority = _placed(lock_scopes(trip, {note.scope for note in notes})(), taker)
        look = taker.tables.look(trip, asked, scopes)
        mine = [note for note in notes if note.scope in authority]
        rows = present.of(_ours(mine, authority, taker.store))  # meanwhile the taker looks
        found = look()
    for _ in range(_LOOKS):
        keys, named = _keys(_ours(mine, authority, taker.store), rows), {row.scope_ for row in rows} - {None}
        # What no note names and yet was read with its scope: enough is known of it if it stands where it stood.
        asked |= {row.key_ for row in rows if found.scopes.get(row.key_, ...) == row.scope_}
        with together(taking) as trip:
            if not (keys <= asked and named <= scopes):
                found = taker.tables.look(trip, keys, named)()
            there = {key: scope for key, scope in found.scopes.items() if key in keys}
            touched = {row.scope_ for row in rows} | set(there.values())
            missing = touched - authority.keys()
            if missing:
                authority |= _placed(lock_scopes(trip, missing)(), taker)
        if not missing:
            done = carried_cascades(taking, [note.seq for note in mine if note.cascade])
            turned = [note for note in mine if authority[note.scope] is taker.store and not note.cascade]
            places = {(note.scope, note.key) for note in present.keyed(turned) if note.scope is not None}
            batch = Batch(mine, turned=places, found=found)
            at_rest = {row.key_ for row in present.beside(mine, rows) if there.get(row.key_, ...) == row.scope_}
            keys -= at_rest.intersection(found.steady)
            return _decided(batch, keys, rows, there, authority, taker.store, done)
        if not touched <= authority.keys():
            mine = _without(mine, rows, there, authority, present)
        # Once more: only what is read under the lock may be written, and all is asked under more locks from now on.
        asked, found, rows = set(), Found(), present.of(_ours(mine, authority, taker.store))
    return Batch()


def _ours(notes: Iterable[Note], authority: Mapping[str | None, Store], taking: Store) -> list[Note]:
    """Those of the notes that this direction carries: the giver's store has authority, or a cascade took the record."""
    return [note for note in notes if authority[note.scope] is taking.other or note.cascade]


def _placed(locked: dict[str | None, Store], taker: Taker) -> dict[str | None, Store]:
    # A record without a scope, or of one that the taker has no place for, is as its own store has it.
    homeless = [scope for scope in locked if scope is None or taker.part_of(scope) is None]
    return locked | dict.fromkeys(homeless, taker.store.other)


def _keys(notes: Iterable[Note], rows: Iterable[Any]) -> set[str]:
    """Keys under which the records were noted, and those that the giving store has them under now."""
    return {note.key for note in notes if note.key is not None} | {row.key_ for row in rows}


def _without(
    notes: list[Note],
    rows: Sequence[Any],
    there: Mapping[str, str | None],
    locked: Collection[str | None],
    present: PresentRows,
) -> list[Note]:
    """Someone else has a scope that a record moved to or from: leave what touches it for a later round."""
    out = {row.key_ for row in rows if row.scope_ not in locked}
    out |= {key for key, scope in there.items() if scope not in locked}
    local = {(row.part_, row.local) for row in rows if row.key_ in out}
    scopes = {row.scope_ for row in rows if row.key_ in out}
    return [
        note
        for note in notes
        if note.key not in out
        and (note.part, note.local) not in local
        and not (present.widens(note) and note.scope in scopes)
    ]


def _decided(
    batch: Batch,
    keys: Collection[str],
    rows: Sequence[Any],
    there: Mapping[str, str | None],
    authority: Mapping[str | None, Store],
    taking: Store,
    done: Collection[int],
) -> Batch:
    """``batch``, of which the turned notes are known, with what is to be written."""
    by_key = {row.key_: row for row in rows}
    cascaded = {(note.scope, note.key) for note in batch.notes if note.cascade and note.seq not in done}
    for key in keys:
        row = by_key.get(key)
        standing = there.get(key)
        theirs = standing is not None and authority[standing] is taking
        if row is not None and authority[row.scope_] is taking:
            batch.turned.add((row.scope_, key))  # not written under authority: the other store's state goes back
        elif not theirs or (row is None and (standing, key) in cascaded):
            batch.keys.add(key)
            if row is not None:
                batch.rows.append(row)
        elif standing is not None and (row is None or row.scope_ is None):
            batch.turned.add((standing, key))  # gone here from another scope than the taker has it in
        elif row is not None:
            raise Conflict(
                f"{taking} has a record of its own in scope {standing} under the id that {taking.other} uses in "
                f"scope {row.scope_}; delete one of them"
            )
    return batch
