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
    Connection,
    Engine,
    Row,
    and_,
    or_,
    select,
    text,
)

from adapters.postgres.apply import Destination, apply, set_applying
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.quarantine import hold, release
from adapters.postgres.ledger.rejections import accept, reject
from adapters.postgres.notes import Note, Notes
from adapters.postgres.part import REASON, Part
from adapters.postgres.present import PresentRows
from adapters.postgres.schema import dirty, quarantine
from adapters.postgres.scope_locks import lock_scopes, stand_beside_backfill
from harness.catchup import Carried
from harness.config import CatchupSettings
from harness.errors import CrossfadeError, RepositoryError, StoreContended, StoreTimeout
from harness.failpoints import passing
from harness.ports import Clock
from harness.routing import Store

_WHOLE_SCOPE = 50_000  # notes of one scope that are tried together, at most
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
        self._present = PresentRows(legacy, lambda: self._parts)
        self._pause = Event()  # never set; a pause that a signal can interrupt
        self._gone: set[str] = set()  # parts that notes name and legacy no longer has
        self._left_alone: dict[str | None, float] = {}  # rejected scopes, and until when

    # The queue as commands see it

    def carry_batch(self) -> Carried:
        """Carry over one batch of notes; scopes that were rejected lately are left alone for a while."""
        now = self._clock()
        self._left_alone = {scope: until for scope, until in self._left_alone.items() if until > now}
        return self._carry_notes(self._notes.oldest(self._settings.batch_notes, self._not_alone(self._left_alone)))

    def _not_alone(self, alone: Collection[str | None]) -> Any:
        """The condition of not being noted for one of the scopes, nor for a part that is gone."""
        named = [scope for scope in alone if scope is not None]
        others = dirty.c.scope.notin_(named)
        kept = others if None in alone else or_(dirty.c.scope.is_(None), others)
        return and_(kept, dirty.c.part.notin_(list(self._gone)))

    def notes_left(self) -> int:
        return self._notes.left()

    # The queue as the router sees it

    def carry(self, scopes: Collection[str], keys: Collection[Hashable], timeout: float = 30.0) -> None:
        """Carry over all that is noted now for the scopes and keys, waiting for workers that have them in hand.

        Raises StoreUnavailable, StoreTimeout after ``timeout`` seconds, or the refusal of a scope that new does not
        accept.
        """
        until, refused = self._clock() + timeout, set[str | None]()
        wanted = self._notes.noted_now(scopes, keys)
        while notes := self._notes.oldest(self._settings.batch_notes, and_(wanted, self._not_alone(refused))):
            done = self._carry_notes(notes)
            if done.rejected:
                refused |= self._left_alone.keys()  # they must not hold up the others
            if self._clock() > until:
                raise StoreTimeout(
                    f"carrying over {len(notes)} notes took longer than {timeout:.0f} s; it goes on later"
                )
            if not done.notes:
                self._pause.wait(_PAUSE)  # another worker has them in hand, for milliseconds
        if refused:
            raise CrossfadeError(f"new refused {len(refused)} scopes; see crossfade status for the reasons")

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
        except StoreContended:
            return Carried(busy=len(notes))  # a deadlock with some other writer: the next round tries again
        except RepositoryError as error:
            scopes = {note.scope for note in notes}
            if len(scopes) == 1:
                return self._retried_whole(scopes.pop(), notes, error)
            # One scope's refusal must not hold up the others: each for itself.
            done = Carried()
            for scope in scopes:
                done += self._carry_notes([note for note in notes if note.scope == scope])
            return done

    def _retried_whole(self, scope: str | None, notes: Sequence[Note], error: RepositoryError) -> Carried:
        """A batch may end between two notes of one act (disable one, enable the other): try all of the scope's."""
        same = dirty.c.scope.is_(None) if scope is None else dirty.c.scope == scope
        whole = self._of_known_parts(self._notes.oldest(_WHOLE_SCOPE, same))
        if len(whole) > len(notes) and not any(note.of_whole_part for note in whole):
            try:
                return self._carry_together(whole)
            except RepositoryError as later:
                error = later
        return self._rejected(scope, error)

    def _of_known_parts(self, notes: Sequence[Note]) -> Sequence[Note]:
        """The notes without those of a part that is not, or no longer, one of legacy's."""
        if unknown := {note.part for note in notes} - self._parts.keys():
            self._parts = {part.name: part for part in self._find_parts()}
            self._gone |= unknown - self._parts.keys()
        return [note for note in notes if note.part in self._parts]

    def _carry_together(self, notes: Sequence[Note]) -> Carried:
        passing("catchup.before_apply")
        with speaking_for(Store.NEW), self._new.begin() as shadow:
            set_applying(shadow)
            if not stand_beside_backfill(shadow):
                return Carried(aside=True)
            locked = lock_scopes(shadow, {note.scope for note in notes})
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
            rows = self._present.of(notes)
            keys = _keys(notes, rows)
            there = self._destination.scopes_of(shadow, keys)
            scopes = {row.scope_ for row in rows} | set(there.values())
            if scopes <= locked:
                return notes, keys, rows
            locked |= lock_scopes(shadow, scopes - locked)
            if scopes <= locked:
                continue
            # Someone else has a scope that a record moved to or from: leave what touches it for a later round.
            out = {str(row.key_) for row in rows if row.scope_ not in locked}
            out |= {key for key, scope in there.items() if scope not in locked}
            local_out = {(row.part_, row.local) for row in rows if str(row.key_) in out}
            notes = [n for n in notes if n.key is not None and n.key not in out and (n.part, n.local) not in local_out]
        return [], set(), []

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
        """Replace notes of whole parts (TRUNCATE) by a note of every record that new has, or holds, of them.

        Batches and chunks are kept out meanwhile: one that had read legacy before the TRUNCATE would otherwise bring
        back, after this has looked, what is gone.
        """
        names = {note.part for note in notes}
        with speaking_for(Store.NEW), self._new.begin() as shadow:
            shadow.execute(text("LOCK TABLE crossfade.standing IN SHARE ROW EXCLUSIVE MODE"))
            found = _quarantined_of(shadow, names)
            for name in names:
                part = self._parts[name]
                for key, scope in self._destination.keys_of_part(shadow, name):
                    if part.where_scope(scope) is not None:  # the others are new-only, and none of legacy's
                        found.append({"part": name, "scope": scope, "key": key, "local": None})
            self._notes.settle(notes, found)
        return Carried(notes=len(notes))

    def _rejected(self, scope: str | None, error: RepositoryError) -> Carried:
        self._left_alone[scope] = self._clock() + self._settings.retry_seconds
        with speaking_for(Store.NEW), self._new.begin() as connection:
            reject(connection, scope, f"{type(error).__name__}: {error}")
        return Carried(rejected=1)


def _keys(notes: Iterable[Note], rows: Iterable[Row[Any]]) -> set[str]:
    """Keys under which the records were noted, and those that the authority has them under now."""
    return {note.key for note in notes if note.key is not None} | {str(row.key_) for row in rows}


def _quarantined_of(connection: Connection, parts: Collection[str]) -> list[dict[str, str | None]]:
    """A note for each of the parts' quarantined records."""
    chosen = select(quarantine.c.part, quarantine.c.scope, quarantine.c.key, quarantine.c.local)
    rows = connection.execute(chosen.where(quarantine.c.part.in_(sorted(parts))))
    return [dict(row._mapping) for row in rows]
