"""Carrying state over, scope by scope: the SQL side of catch-up, and of the router's nudge. One class, both ways.

Why no interleaving of workers, writers, moves of authority and crashes loses a change:

1. A worker locks scopes in the database it writes to, in the very transaction that writes. If that connection dies,
   lock and writes go together; no worker can write what it read under a lock it no longer holds.
2. It reads the authority's rows after it has the lock. Whoever had the lock before it has committed, and whoever
   gets it next reads later; so what is written never goes back in time.
3. It changes a record only while it holds both the scope in which the record stands here and the one in which the
   authority has it, so a record that moves between scopes is never in two hands.
4. It holds the fence of the database it writes to, shared, and asks that database's route who has authority. A store
   gains authority only under its own fence, exclusively: so nothing is written over what it has accepted since.
5. It deletes exactly the notes it read, by their numbers, after its commit. A note that became visible later,
   whatever its number (transactions commit in another order than they begin), stays for the next round. A crash
   between the two commits repeats a round, which changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import AbstractContextManager, suppress
from threading import Event
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select

from adapters.postgres.batch import Batch, Giver, StaleParts, Taker, sort_out
from adapters.postgres.errors import speaking_for
from adapters.postgres.guard import NO_PLACE
from adapters.postgres.ledger import debt, quarantine
from adapters.postgres.ledger.held_back import let_go
from adapters.postgres.ledger.rejections import reject
from adapters.postgres.notes import Choice, Note, Notes, Rows, forget
from adapters.postgres.part import REASON, these
from adapters.postgres.present import PresentRows
from adapters.postgres.schema import debt as debts
from adapters.postgres.schema import dirty
from adapters.postgres.schema import quarantine as quarantined
from adapters.postgres.scope_locks import StandAside, send_workers_aside
from adapters.postgres.taking import Applied
from adapters.postgres.trip import Trip, together
from harness.catchup import Carried
from harness.config import CatchupSettings
from harness.errors import CrossfadeError, Refused, RepositoryError, StoreContended, StoreTimeout
from harness.failpoints import passing
from harness.ports import Clock
from harness.routing import Store
from harness.statistics import Apply

_WHOLE_SCOPE = 50_000  # notes of one scope that are tried together, at most
_PAUSE = 0.005
_STRIDES = 4  # batches among which workers that meet at one look for another

_Unfit = list[dict[str, str | None]]


class StateCarrier:
    """Carries one store's state over to the other. Any number of them, in any number of processes, share the queue.

    ``ends`` answers the two stores as they are now; it is asked again when a part appears that was not there yet.
    """

    def __init__(
        self, ends: Callable[[], tuple[Giver, Taker]], settings: CatchupSettings, clock: Clock = time.monotonic
    ) -> None:
        self._ends, self._settings, self._clock = ends, settings, clock
        self._meet()
        giver, taker = self._giver, self._taker
        self._new = giver.engine if giver.store is Store.NEW else taker.engine  # where the ledger is
        self._notes = Notes(giver.store, giver.engine)
        self._pause = Event()  # never set; a pause that a signal can interrupt
        self._gone: set[str] = set()  # parts that notes name and the giver no longer has
        self.precedence = False  # whoever uses this carrier has sent all others aside, in both databases
        self._skipped = 0  # notes that other workers seem to be at
        self._left_alone: dict[str, float] = {}  # rejected scopes, the empty text for none, and until when
        self._ahead: list[Note] = []  # what comes next, read in the trip that settled the last batch
        self.applies: Counter[Apply] = Counter()  # since the beginning; any thread may read it

    def _meet(self) -> None:
        """Know both stores' parts as they are now."""
        self._giver, self._taker = self._ends()
        self._parts = {part.name: part for part in self._giver.parts()}
        self._present = PresentRows(self._giver.store, self._giver.engine, lambda: self._parts)

    # The queue as commands see it

    def carry_batch(self) -> Carried:
        """Carry over one batch of notes; scopes that were rejected lately are left alone for a while."""
        now = self._clock()
        self._left_alone = {scope: until for scope, until in self._left_alone.items() if until > now}
        most, skipped = self._settings.batch_notes, self._skipped
        notes, self._ahead = self._ahead, []
        if not notes:
            notes = self._notes.oldest(most, skipped, alone=self._left_alone, gone=self._gone)
        done = self._carry_notes(notes, looking_ahead=not skipped) if notes else Carried()
        # Another worker has these in hand: begin further on next time, and at the front again once there is no more.
        self._skipped = (self._skipped + most) % (_STRIDES * most) if done.busy > done.notes else 0
        return done if notes or not skipped else Carried(busy=1)  # there may be some at the front

    def notes_left(self) -> int:
        return self._notes.left()

    def tidy(self) -> None:
        """Clear away what settled notes left behind in the queue."""
        self._notes.tidy()

    def noted(self, choice: Choice) -> int:
        """How many notes there are of a choice."""
        return len(self._notes.chosen(choice))

    def trip(self) -> AbstractContextManager[Trip]:
        """A trip to the giver that nothing is written in."""
        return self._notes.trip()

    def carry_chosen(self, choice: Choice, carried: set[str] | None = None) -> Carried:
        """Carry over one batch of a choice; ``carried`` receives the keys."""
        return self._carry_notes(self._notes.chosen(choice), carried)

    def drain_chosen(self, choice: Choice, until: float) -> frozenset[str]:
        """Carry over every note of a choice; the keys that were carried.

        Raises StoreTimeout when the clock passes ``until``, and Refused for a scope that is not accepted.
        """
        carried: set[str] = set()
        while notes := self._notes.chosen(choice):
            done = self._carry_notes(notes, carried)
            if done.rejected:
                raise Refused(f"{self._taker.store} refused a scope; see crossfade status for the reasons")
            if self._clock() > until:
                raise StoreTimeout(f"{self._giver.store}: {len(notes)} notes or more could not be carried over in time")
            if not done.notes:
                self._pause.wait(_PAUSE)
        return frozenset(carried)

    def rehearse(self, among: Callable[[ColumnElement[str]], ColumnElement[bool]]) -> frozenset[str]:
        """Do for a record of some scope ``among`` chooses what a batch does, and roll it back; the keys.

        So that nothing is done for the first time, and slowly, while writers wait for it. What the taker refuses is not
        looked into: a record alone may meet a rival that goes when all of its scope is carried.
        """
        notes = self._present.samples(among)
        refused = suppress(StandAside, StaleParts, RepositoryError)
        with refused, speaking_for(self._taker.store), self._taker.engine.connect() as taking:
            batch = sort_out(taking, notes, self._taker, self._present, precedence=self.precedence)
            with together(taking) as trip:
                self._apply(trip, batch)
            taking.rollback()
        self._notes.settle([])
        return frozenset(note.key for note in notes if note.key is not None)

    # The queue as the router sees it

    def carry(self, scopes: Collection[str], keys: Collection[Hashable], timeout: float = 30.0) -> None:
        """Carry over all that is noted now for the scopes and keys, waiting for workers that have them in hand.

        Raises StoreUnavailable, StoreTimeout after ``timeout`` seconds, or the refusal of a scope that is not accepted.
        """
        until, refused, most = self._clock() + timeout, set[str](), self._settings.batch_notes
        latest = self._notes.latest()
        if keys:
            self._met_strangers()
        rows = self._present.rows(keys, self._gone)
        while latest and (notes := self._notes.named(scopes, keys, rows, latest, most, alone=refused)):
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
            raise CrossfadeError(
                f"{self._taker.store} refused {len(refused)} scopes; see crossfade status for the reasons"
            )

    def is_settled(self, scope: str | None, key: Hashable | None) -> bool:
        """Whether nothing is noted for the scope, or, without one, the key, or, without both, anything."""
        if scope is not None or key is None:
            return not self._notes.any_for(scope, key, Rows())
        if not self._notes.any_for(None, key, self._present.rows([key], self._gone)):
            return True
        # What is noted in a part that is not known may be of any record: look which part that is, and ask again.
        return self._met_strangers() and not self._notes.any_for(None, key, self._present.rows([key], self._gone))

    def _met_strangers(self) -> bool:
        """Know the parts that something is noted of, or that they are gone; whether there was any to be met."""
        strange = self._notes.strange(self._gone.union(self._parts)) if self._present.by_row else frozenset()
        self._know(strange)
        return bool(strange)

    # One batch

    def _carry_notes(
        self, notes: Sequence[Note], carried: set[str] | None = None, *, looking_ahead: bool = False
    ) -> Carried:
        """Carry over what can be of the notes; ``carried`` receives the keys.

        ``looking_ahead``: when they are settled, read what comes next.
        """
        notes = self._of_known_parts(notes)
        if not notes:
            return Carried()
        if whole_parts := [note for note in notes if note.of_whole_part]:
            return self._expand(whole_parts)
        try:
            return self._carry_together(notes, carried, looking_ahead=looking_ahead)
        except StoreContended:
            return Carried(busy=len(notes))  # a deadlock with some other writer: the next round tries again
        except RepositoryError as error:
            scopes = {note.scope for note in notes}
            if len(scopes) == 1:
                return self._retried_whole(scopes.pop(), notes, error)
            # One scope's refusal must not hold up the others: each for itself.
            done = Carried()
            for scope in scopes:
                done += self._carry_notes([note for note in notes if note.scope == scope], carried)
            return done

    def _retried_whole(self, scope: str | None, notes: Sequence[Note], error: RepositoryError) -> Carried:
        """A batch may end between two notes of one act (disable one, enable the other): try all of the scope's."""
        same = dirty.c.scope.is_(None) if scope is None else dirty.c.scope == scope
        whole = self._of_known_parts(self._notes.chosen(Choice.of(same, _WHOLE_SCOPE)))
        if len(whole) > len(notes) and not any(note.of_whole_part for note in whole):
            try:
                return self._carry_together(whole)
            except RepositoryError as later:
                error = later
        return self._rejected(scope, error)

    def _of_known_parts(self, notes: Sequence[Note]) -> Sequence[Note]:
        """The notes without those of a part that is not, or no longer, one of the giver's."""
        self._know({note.part for note in notes} - self._parts.keys())
        return [note for note in notes if note.part in self._parts]

    def _know(self, unknown: Collection[str]) -> None:
        """Look for the parts: they are the giver's by now, or not any more."""
        if unknown:
            self._parts = {part.name: part for part in self._giver.parts()}
            self._gone |= set(unknown) - self._parts.keys()

    def _carry_together(
        self, notes: Sequence[Note], carried: set[str] | None = None, *, looking_ahead: bool = False
    ) -> Carried:
        passing("catchup.before_apply")
        try:
            with speaking_for(self._taker.store), self._taker.engine.begin() as taking:
                batch = sort_out(taking, notes, self._taker, self._present, precedence=self.precedence)
                if not batch.notes:
                    return Carried(busy=len(notes))
                with together(taking) as trip:
                    applied, unfit, let = self._apply(trip, batch)
                    plain = not unfit and not batch.turned
                    if plain:  # as nearly always: the last trip takes the commit along
                        passing("catchup.before_commit")
                        trip.commit()
                if not plain:
                    self._note_rest(taking, batch, unfit)
                    passing("catchup.before_commit")
        except StandAside:
            return Carried(aside=True)
        except StaleParts:
            self._meet()
            return Carried(busy=len(notes))
        passing("catchup.after_commit")
        left = len(notes) - len(batch.notes)
        let = self._settle(batch, unfit, let, looking_ahead=looking_ahead and not left)
        passing("catchup.after_forget")
        self.applies[Apply.CARRIED] += len(batch.scopes) - let()
        if carried is not None:
            carried |= batch.keys
        return Carried(len(batch.notes), applied.upserts(), applied.deletes(), len(unfit), 0, left)

    def _apply(self, trip: Trip, batch: Batch) -> tuple[Applied, _Unfit, Callable[[], int]]:
        """Do in the taker what the batch asks for; what was unfit, and how many scopes had been refused before.

        The ledger is in new: there it is kept up to date with the rows, on the way back with the notes.
        """
        applied = Applied()
        if batch.keys:
            applied = self._taker.tables.make_equal(trip, batch.keys, batch.rows, batch.found)
        unfit = _unfit(batch, applied)
        if self._taker.store is not Store.NEW:
            return applied, unfit, int
        # Of debt, all: what is as legacy has it, legacy can hold.
        fit = batch.keys - {str(row["key"]) for row in unfit}
        return applied, unfit, let_go(trip, batch.keys, fit, batch.scopes)

    def _note_rest(self, taking: Connection, batch: Batch, unfit: _Unfit) -> None:
        """Hold what new cannot, and ask the taker to carry back what it has authority over."""
        if self._taker.store is Store.NEW:
            quarantine.hold(taking, unfit)
        if batch.turned:
            notes = [
                {"part": self._taker.part_of(scope), "scope": scope, "key": key, "local": None}
                for scope, key in batch.turned
            ]
            taking.execute(insert(dirty), notes)

    def _settle(self, batch: Batch, unfit: _Unfit, let: Callable[[], int], *, looking_ahead: bool) -> Callable[[], int]:
        """Settle the notes; of new's, hold what legacy cannot, and let go of the rest. How many scopes had been refused
        before.
        """
        back = self._giver.store is Store.NEW
        # The others are new-only, and nobody's debt.
        owed = [row for row in unfit if row["reason"] != NO_PLACE] if back else []
        with speaking_for(self._giver.store), self._notes.settling(whole=bool(owed)) as giving:
            there = self._held_as_debt(giving, owed)
            with together(giving) as trip:
                if back:
                    let = let_go(trip, batch.keys - there, (), batch.scopes)
                forgotten = forget(trip, batch.notes)
                ahead = self._ask_ahead(trip) if looking_ahead else list
        # Where some had gone already another worker is about: what it has in hand is not to be taken up twice.
        self._ahead = ahead() if forgotten() else []
        return let

    def _ask_ahead(self, trip: Trip) -> Callable[[], list[Note]]:
        most = self._settings.batch_notes
        return self._notes.ask_oldest(trip, most, alone=self._left_alone, gone=self._gone)

    def _held_as_debt(self, giving: Connection, owed: _Unfit) -> frozenset[str]:
        """Hold of new's records what legacy cannot; those of them that are still there."""
        there = self._still_there(giving, [str(row["key"]) for row in owed])
        debt.hold(giving, [row for row in owed if row["key"] in there])
        return there

    def _still_there(self, giving: Connection, keys: Collection[str]) -> frozenset[str]:
        """Those of the records that the giver still has; none of them goes before the transaction ends."""
        found: set[str] = set()
        for part in self._parts.values() if keys else ():
            own = select(part.local).where(part.where_local(these(keys)))
            found |= set(giving.execute(own.with_for_update(read=True, key_share=True)).scalars())
        return frozenset(found)

    def _expand(self, notes: Sequence[Note]) -> Carried:
        """Replace notes of whole parts (TRUNCATE) by a note of every record that the taker has, or holds, of them.

        Batches and chunks are kept out meanwhile: one that had read the giver before the TRUNCATE would otherwise
        bring back, after this has looked, what is gone.
        """
        names = {note.part for note in notes}
        with speaking_for(self._taker.store), self._taker.engine.begin() as taking:
            if not self.precedence:
                send_workers_aside(taking)
            found = self._held_of(names)
            for name in names:
                part = self._parts[name]
                for key, scope in self._taker.tables.keys_of_part(taking, name):
                    if part.where_scope(scope) is not None:  # the others are new-only, and none of legacy's
                        found.append({"part": name, "scope": scope, "key": key, "local": None})
            self._notes.settle(notes, found)
        return Carried(notes=len(notes))

    def _held_of(self, parts: Collection[str]) -> list[dict[str, str | None]]:
        """A note for each of the parts' records that the ledger holds back."""
        if self._giver.store is Store.NEW:
            rows: Any = select(debts.c.key, debts.c.scope).where(debts.c.row.is_(None))
            chosen = [(part, scope, key, None) for key, scope in self._asked(rows) for part in parts]
        else:
            held = quarantined.c
            rows = select(held.part, held.scope, held.key, held.local).where(held.part.in_(sorted(parts)))
            chosen = [tuple(row) for row in self._asked(rows)]
        return [dict(zip(("part", "scope", "key", "local"), row, strict=True)) for row in chosen]

    def _asked(self, statement: Any) -> Sequence[Any]:
        with speaking_for(Store.NEW), self._new.connect() as connection:
            return connection.execute(statement).all()

    def _rejected(self, scope: str | None, error: RepositoryError) -> Carried:
        self._left_alone[scope or ""] = self._clock() + self._settings.retry_seconds
        with speaking_for(Store.NEW), self._new.begin() as connection:
            first = reject(connection, scope, f"{type(error).__name__}: {error}")
        self.applies[Apply.REJECTED] += first
        return Carried(rejected=1)


def _unfit(batch: Batch, applied: Applied) -> _Unfit:
    """What could not be represented on the other side, and why."""
    found: _Unfit = []
    for row in batch.rows:
        key = row.key_
        reason = getattr(row, REASON) or applied.unfit.get(key)
        if reason is not None:
            found.append(
                {"key": key, "part": row.part_, "local": row.local, "scope": row.scope_, "reason": str(reason)}
            )
    return found
