"""Carrying state over, scope by scope: the SQL side of catch-up, and of the router's nudge.

Why no interleaving of workers, writers and crashes loses a change:

1. A worker locks scopes in the database it writes to, in the very transaction that writes. If that connection dies,
   lock and writes go together; no worker can write what it read under a lock it no longer holds.
2. It reads the authority's rows after it has the lock. Whoever had the lock before it has committed, and whoever
   gets it next reads later; so what is written never goes back in time.
3. It changes a record only while it holds both the scope in which the record stands here and the one in which the
   authority has it, so a record that moves between scopes is never in two hands.
4. It deletes exactly the notes it read, by their numbers, after its commit. A note that became visible later,
   whatever its number (transactions commit in another order than they begin), stays for the next round. A crash
   between the two commits repeats a round, which changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from threading import Event
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    Text,
    and_,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, OperationalError

from adapters.postgres.apply import Destination, apply, set_applying
from adapters.postgres.errors import speaking_for, translate
from adapters.postgres.ledger.quarantine import hold, release
from adapters.postgres.ledger.rejections import accept, reject
from adapters.postgres.notes import Note, Notes
from adapters.postgres.part import REASON, Part, texts
from adapters.postgres.prepared import Prepared, PreparedByShape
from adapters.postgres.schema import dirty
from harness.catchup import Carried
from harness.config import CatchupSettings
from harness.errors import CrossfadeError, RepositoryError, StoreTimeout
from harness.failpoints import passing
from harness.ports import Clock
from harness.routing import Store

_LOCK_CLASS = 0x43F0  # advisory locks of scopes: this number, and a hash of the scope
_LOOKS = 4
_PAUSE = 0.005


class StateCarrier:
    """Carries legacy's state over to new. Any number of them, in any number of processes, share the queue.

    ``parts`` answers legacy's parts as they are now; it is asked again when a note names one that was not there yet.
    """

    def __init__(
        self,
        legacy: Engine,
        parts: Callable[[], Sequence[Part]],
        new: Engine,
        destination: Destination,
        settings: CatchupSettings,
        clock: Clock = time.monotonic,
    ) -> None:
        self._legacy, self._new, self._destination = legacy, new, destination
        self._find_parts, self._parts = parts, {part.name: part for part in parts()}
        self._notes = Notes(legacy)
        self._settings, self._clock = settings, clock
        self._prepared = PreparedByShape()
        self._pause = Event()  # never set; a pause that a signal can interrupt
        self._left_alone: dict[str | None, float] = {}  # rejected scopes, and until when

    # The queue as commands see it

    def carry_batch(self) -> Carried:
        """Carry over one batch of notes; scopes that were rejected lately are left alone for a while."""
        now = self._clock()
        self._left_alone = {scope: until for scope, until in self._left_alone.items() if until > now}
        alone = [scope for scope in self._left_alone if scope is not None]
        condition = or_(dirty.c.scope.is_(None), dirty.c.scope.notin_(alone)) if alone else None
        if None in self._left_alone:
            condition = and_(dirty.c.scope.isnot(None), dirty.c.scope.notin_(alone))
        return self._carry_notes(self._notes.oldest(self._settings.batch_notes, condition))

    def notes_left(self) -> int:
        return self._notes.left()

    # The queue as the router sees it

    def carry(self, scopes: Collection[str], keys: Collection[Hashable], timeout: float = 30.0) -> None:
        """Carry over all that is noted now for the scopes and keys, waiting for workers that have them in hand.

        Raises StoreUnavailable, StoreTimeout after ``timeout`` seconds, or the refusal of a scope that new does not
        accept.
        """
        until = self._clock() + timeout
        wanted = self._notes.noted_now(scopes, keys)
        while notes := self._notes.oldest(self._settings.batch_notes, wanted):
            done = self._carry_notes(notes)
            if done.rejected:
                raise CrossfadeError(f"new refused {done.rejected} of the scopes; see crossfade status for the reasons")
            if self._clock() > until:
                raise StoreTimeout(
                    f"carrying over {len(notes)} notes took longer than {timeout:.0f} s; it goes on later"
                )
            if not done.notes:
                self._pause.wait(_PAUSE)  # another worker has them in hand, for milliseconds

    def is_settled(self, scope: str | None, key: Hashable | None) -> bool:
        """Whether nothing is noted for the scope, or, without one, the key, or, without both, anything."""
        return not self._notes.any_for(scope, key)

    # One batch

    def _carry_notes(self, notes: Sequence[Note]) -> Carried:
        notes = self._of_known_parts(notes)
        if not notes:
            return Carried()
        if whole_parts := [note for note in notes if note.of_whole_part]:
            return self._expand(whole_parts)
        try:
            return self._carry_together(notes)
        except RepositoryError as error:
            scopes = {note.scope for note in notes}
            if len(scopes) == 1:
                return self._rejected(scopes.pop(), error)
            # One scope's refusal must not hold up the others: each for itself.
            done = Carried()
            for scope in scopes:
                done += self._carry_notes([note for note in notes if note.scope == scope])
            return done

    def _of_known_parts(self, notes: Sequence[Note]) -> Sequence[Note]:
        """The notes without those of a part that is not, or no longer, one of legacy's."""
        if any(note.part not in self._parts for note in notes):
            self._parts = {part.name: part for part in self._find_parts()}
        return [note for note in notes if note.part in self._parts]

    def _carry_together(self, notes: Sequence[Note]) -> Carried:
        passing("catchup.before_apply")
        with speaking_for(Store.NEW), self._new.begin() as shadow:
            set_applying(shadow)
            if not _stand_beside_backfill(shadow):
                return Carried(aside=True)
            locked = _lock(shadow, {note.scope for note in notes})
            mine = [note for note in notes if note.scope in locked]
            mine, keys, rows = self._gather(shadow, mine, locked)
            if not mine:
                return Carried(busy=len(notes))
            upserted, deleted = apply(shadow, self._destination, keys, rows)
            quarantined = self._settle_quarantine(shadow, keys, rows)
            accept(shadow, {note.scope for note in mine})
            passing("catchup.before_commit")
        passing("catchup.after_commit")
        self._notes.settle(mine)
        passing("catchup.after_forget")
        return Carried(len(mine), upserted, deleted, quarantined, 0, len(notes) - len(mine))

    def _gather(
        self, shadow: Connection, notes: list[Note], locked: set[str | None]
    ) -> tuple[list[Note], set[str], list[Row[Any]]]:
        """The notes that can be carried with the locks to be had, their keys, and the authority's rows for them.

        Adds to ``locked`` the scopes that records have moved to or from, and reads again after each lock it gets.
        """
        for _ in range(_LOOKS):
            rows = self._read(notes)
            there = self._destination.scopes_of(shadow, _keys(notes, rows))
            wholes = {note.scope for note in notes if note.key is None and note.scope is not None}
            if wholes:
                there |= self._destination.keys_in(shadow, wholes)
            scopes = {row.scope_ for row in rows} | set(there.values())
            if scopes <= locked:
                return notes, _keys(notes, rows) | set(there), rows
            locked |= _lock(shadow, scopes - locked)
            if scopes <= locked:
                continue
            # Someone else has a scope that a record moved to or from: leave what touches it for a later round.
            out = {str(row.key_) for row in rows if row.scope_ not in locked}
            out |= {key for key, scope in there.items() if scope not in locked}
            local_out = {(row.part_, row.local) for row in rows if str(row.key_) in out}
            notes = [n for n in notes if n.key is not None and n.key not in out and (n.part, n.local) not in local_out]
        return [], set(), []

    def _read(self, notes: Iterable[Note]) -> list[Row[Any]]:
        """The authority's present rows for the notes, each with ``key_``, ``scope_`` and ``part_``."""
        rows: list[Row[Any]] = []
        with speaking_for(Store.LEGACY), self._legacy.connect() as authority:
            for name in {note.part for note in notes}:
                of_part = [note for note in notes if note.part == name]
                if local := sorted({note.local for note in of_part if note.local is not None}):
                    rows.extend(self._by_local(self._parts[name]).execute(authority, local=local))
                wholes = {note.scope for note in of_part if note.key is None and note.scope is not None}
                for scope in sorted(wholes):
                    condition = self._parts[name].where_scope(scope)
                    if condition is not None:
                        rows.extend(authority.execute(_named(self._parts[name], condition)))
        return rows

    def _by_local(self, part: Part) -> Prepared:
        return self._prepared.get(part.name, lambda: _named(part, part.where_local(texts("local"))))

    def _settle_quarantine(self, shadow: Connection, keys: set[str], rows: Sequence[Row[Any]]) -> int:
        unfit = [row for row in rows if getattr(row, REASON) is not None]
        release(shadow, keys - {str(row.key_) for row in unfit})
        hold(
            shadow,
            [
                {
                    "key": str(row.key_),
                    "part": row.part_,
                    "local": row.local,
                    "scope": row.scope_,
                    "reason": getattr(row, REASON),
                }
                for row in unfit
            ],
        )
        return len(unfit)

    def _expand(self, notes: Sequence[Note]) -> Carried:
        """Replace notes of whole parts (TRUNCATE) by notes of every scope that new has of them."""
        with speaking_for(Store.NEW), self._new.connect() as shadow:
            found = [
                {"part": name, "scope": scope, "key": None, "local": None}
                for name in {note.part for note in notes}
                for scope in self._destination.scopes_of_part(shadow, name)
            ]
            found += _quarantined_alone(shadow, {note.part for note in notes})
        self._notes.settle(notes, found)
        return Carried(notes=len(notes))

    def _rejected(self, scope: str | None, error: RepositoryError) -> Carried:
        self._left_alone[scope] = self._clock() + self._settings.retry_seconds
        with speaking_for(Store.NEW), self._new.begin() as connection:
            reject(connection, scope, f"{type(error).__name__}: {error}")
        return Carried(rejected=1)


def _named(part: Part, condition: ColumnElement[bool]) -> Select[Any]:
    """The part's rows that fulfil the condition, each with ``key_``, ``scope_`` and ``part_``."""
    rows = part.carried_where(condition).subquery()
    key, scope = rows.c[part.key].label("key_"), rows.c[part.scope].label("scope_")
    return select(rows, key, scope, literal(part.name, Text).label("part_"))


def _keys(notes: Iterable[Note], rows: Iterable[Row[Any]]) -> set[str]:
    """Keys under which the records were noted, and those that the authority has them under now."""
    return {note.key for note in notes if note.key is not None} | {str(row.key_) for row in rows}


def _lock(connection: Connection, scopes: Collection[str | None]) -> set[str | None]:
    """Those of the scopes whose lock could be had at once; it lasts until the transaction ends."""
    names = sorted(scope or "" for scope in scopes)
    statement = text(
        "SELECT scope FROM unnest(cast(:scopes AS text[])) AS scope"
        " WHERE pg_try_advisory_xact_lock(:class, hashtext(scope))"
    )
    found = connection.execute(statement, {"scopes": names, "class": _LOCK_CLASS}).scalars()
    return {scope or None for scope in found}


def _stand_beside_backfill(connection: Connection) -> bool:
    """Whether no chunk is being copied; none will be until the transaction ends."""
    try:
        with connection.begin_nested():
            connection.execute(text("LOCK TABLE crossfade.standing IN ROW EXCLUSIVE MODE NOWAIT"))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":  # lock_not_available
            return False
        raise translate(Store.NEW, error) from error
    except DBAPIError as error:
        raise translate(Store.NEW, error) from error
    return True


def _quarantined_alone(connection: Connection, parts: Collection[str]) -> list[dict[str, str | None]]:
    """Notes for the parts' quarantined records that have no scope."""
    statement = text(
        "SELECT part, key, local FROM crossfade.quarantine WHERE scope IS NULL AND part = ANY(cast(:parts AS text[]))"
    )
    rows = connection.execute(statement, {"parts": sorted(parts)})
    return [{"part": row.part, "scope": None, "key": row.key, "local": row.local} for row in rows]
