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

from sqlalchemy import ColumnElement, Connection

from adapters.postgres.batch import Batch, Giver, StaleParts, Taker, sort_out
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.held_back import let_go
from adapters.postgres.ledger.rejections import reject
from adapters.postgres.notes import Choice, Note, Notes, Rows
from adapters.postgres.present import PresentRows
from adapters.postgres.scope_locks import Manner, StandAside
from adapters.postgres.settling import Settling, Unfit, unfit_of
from adapters.postgres.taking import Applied
from adapters.postgres.trip import Trip, together
from adapters.postgres.whole_parts import WholeParts
from harness.catchup import Carried
from harness.errors import CrossfadeError, Refused, RepositoryError, StoreContended, StoreTimeout
from harness.failpoints import passing
from harness.ports import Clock
from harness.routing import Store
from harness.settings import CatchupSettings
from harness.statistics import Apply

_WHOLE_SCOPES = 50_000  # notes of some scopes that are tried together, at most
_PAUSE = 0.005
_STRIDES = 4  # batches among which workers that meet at one look for another


class StateCarrier:
    """Carries one store's state over to the other. Any number of them, in any number of processes, share the queue.

    ``ends`` answers the two stores as they are now; it is asked again when a part appears that was not there yet.
    """

    def __init__(
        self, ends: Callable[[], tuple[Giver, Taker]], settings: CatchupSettings, clock: Clock = time.monotonic
    ) -> None:
        self._ends, self._settings, self._clock = ends, settings, clock
        self._meet()
        self._pause = Event()  # never set; a pause that a signal can interrupt
        self._gone: set[str] = set()  # parts that notes name and the giver no longer has
        self.precedence = False  # whoever uses this carrier has sent all others aside, in both databases
        self.lock_seconds: float | None = None  # how long a batch waits for a lock that others hold; None: for ever
        self._skipped = 0  # notes that other workers seem to be at
        self._left_alone: dict[str, float] = {}  # rejected scopes, the empty text for none, and until when
        self._ahead: list[Note] = []  # what comes next, read in the trip that settled the last batch
        self.applies: Counter[Apply] = Counter()  # since the beginning; any thread may read it

    def _meet(self) -> None:
        """Know both stores' parts as they are now."""
        giver, taker = self._giver, self._taker = self._ends()
        self._new = giver.engine if giver.store is Store.NEW else taker.engine  # where the ledger is
        self._notes = Notes(giver.store, giver.engine)
        self._parts = {part.name: part for part in self._giver.parts()}
        self._present = PresentRows(giver.store, giver.engine, lambda: self._parts)
        self._settling = Settling(giver, taker, self._notes, self._present)
        self._whole = WholeParts(giver, taker, self._notes, self._new)

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

    def has_place_for(self, scope: str | None) -> bool:
        """Whether the taker could hold records of the scope; those of others stay where they are."""
        with suppress(StaleParts):  # of a part that has appeared since
            return scope is not None and self._taker.part_of(scope) is not None
        return True

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
            batch = self._sort_out(taking, notes)
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

    def noted_in(self, key: Hashable) -> Collection[Store]:
        """The store that gives, if something is noted for the key there."""
        return frozenset() if self.is_settled(None, key) else {self._giver.store}

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
            return self._whole.expand(whole_parts, self._parts, precedence=self.precedence)
        try:
            return self._carry_together(notes, carried, looking_ahead=looking_ahead)
        except StoreContended:
            return Carried(busy=len(notes))  # a deadlock with some other writer: the next round tries again
        except RepositoryError as error:
            return self._carry_apart(notes, error, carried)

    def _carry_apart(self, notes: Sequence[Note], refusal: RepositoryError, carried: set[str] | None) -> Carried:
        """Carry over what can be of notes that were refused together.

        One scope's refusal must not hold up the others: it is in one half of them, and so on.
        """
        scopes = sorted({note.scope or "" for note in notes})
        try:
            if (whole := self._whole_scopes(scopes, notes)) is not None:
                return self._carry_together(whole, carried)
        except StoreContended:
            return Carried(busy=len(notes))
        except RepositoryError as later:
            refusal = later
        if len(scopes) == 1:
            return self._rejected(scopes[0] or None, refusal)
        half = scopes[len(scopes) // 2]
        parts = ([note for note in notes if ((note.scope or "") < half) is first] for first in (True, False))
        return sum((self._carry_notes(part, carried) for part in parts), Carried())

    def _whole_scopes(self, scopes: Collection[str], notes: Sequence[Note]) -> Sequence[Note] | None:
        """All that is noted of the scopes (the empty text: of none), if it is more.

        A batch may end between two notes of one act (disable one, enable the other), or begin there, where another
        worker has those before it.
        """
        whole = self._of_known_parts(self._notes.of_scopes(scopes, _WHOLE_SCOPES))
        return whole if len(whole) > len(notes) and not any(note.of_whole_part for note in whole) else None

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
                batch = self._sort_out(taking, notes)
                if not batch.notes:
                    return Carried(busy=len(notes))
                with together(taking) as trip:
                    applied, unfit, let = self._apply(trip, batch)
                    plain = not unfit and not batch.turned and applied.overtaken is None
                    if plain:  # as nearly always: the last trip takes the commit along
                        passing("catchup.before_commit")
                        trip.commit()
                if not plain:
                    if applied.overtaken is not None and applied.overtaken():
                        raise StoreContended(f"{self._taker.store}: rows went while they were moved; try again")
                    self._settling.note_rest(taking, batch, unfit, self._parts.values())
                    passing("catchup.before_commit")
        except StandAside:
            return Carried(aside=True)
        except StaleParts:
            self._meet()
            return Carried(busy=len(notes))
        passing("catchup.after_commit")
        left = len(notes) - len(batch.notes)
        ask_ahead = self._ask_ahead if looking_ahead and not left else None
        let, self._ahead = self._settling.settle(
            batch, unfit, let, self._parts.values(), ask_ahead, lock_seconds=self.lock_seconds
        )
        passing("catchup.after_forget")
        self.applies[Apply.CARRIED] += len(batch.scopes) - let()
        if carried is not None:
            carried |= batch.keys
        return Carried(len(batch.notes), applied.upserts(), applied.deletes(), len(unfit), 0, left)

    def _sort_out(self, taking: Connection, notes: Sequence[Note]) -> Batch:
        manner = Manner(self.precedence, self.lock_seconds)
        return sort_out(taking, notes, self._taker, self._present, manner)

    def _apply(self, trip: Trip, batch: Batch) -> tuple[Applied, Unfit, Callable[[], int]]:
        """Do in the taker what the batch asks for; what was unfit, and how many scopes had been refused before.

        The ledger is in new: there it is kept up to date with the rows, on the way back with the notes.
        """
        applied = Applied()
        if batch.keys:
            applied = self._taker.tables.make_equal(trip, batch.keys, batch.rows, batch.found)
        unfit = unfit_of(batch, applied)
        if self._taker.store is not Store.NEW:
            return applied, unfit, int
        # Of debt, all: what is as legacy has it, legacy can hold.
        fit = batch.keys - {str(row["key"]) for row in unfit}
        return applied, unfit, let_go(trip, batch.keys, fit, batch.scopes)

    def _ask_ahead(self, trip: Trip) -> Callable[[], list[Note]]:
        most = self._settings.batch_notes
        return self._notes.ask_oldest(trip, most, alone=self._left_alone, gone=self._gone)

    def _rejected(self, scope: str | None, error: RepositoryError) -> Carried:
        self._left_alone[scope or ""] = self._clock() + self._settings.retry_seconds
        with speaking_for(Store.NEW), self._new.begin() as connection:
            first = reject(connection, scope, f"{type(error).__name__}: {error}")
        self.applies[Apply.REJECTED] += first
        return Carried(rejected=1)
