"""Carrying notes of one store's state over to the other: a batch, whatever becomes of it. One class, both ways.

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

from collections import Counter
from collections.abc import Callable, Collection, Sequence, Set
from contextlib import suppress

from sqlalchemy import Connection

from adapters.postgres.batch import Batch, Giver, StaleParts, Taker, sort_out
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.held_back import let_go
from adapters.postgres.ledger.rejections import reject
from adapters.postgres.notes import Note, Notes
from adapters.postgres.present import PresentRows
from adapters.postgres.scope_locks import Manner, StandAside
from adapters.postgres.settling import Settling, Unfit, unfit_of
from adapters.postgres.taking import Applied
from adapters.postgres.trip import Trip, together
from adapters.postgres.whole_parts import WholeParts
from harness.catchup import Carried
from harness.errors import RepositoryError, StoreContended, StoreUnavailable
from harness.failpoints import passing
from harness.pauses import PutOff
from harness.ports import Clock
from harness.routing import Store
from harness.settings import CatchupSettings
from harness.statistics import Apply

_WHOLE_SCOPES = 50_000  # notes of some scopes that are tried together, at most


class BatchCarrier:
    """Carries the notes that it is given. ``ends``: see ``StateCarrier``."""

    def __init__(self, ends: Callable[[], tuple[Giver, Taker]], settings: CatchupSettings, clock: Clock) -> None:
        self._ends, self._settings = ends, settings
        self._meet()
        self._gone = PutOff(clock, settings.retry_seconds)  # parts that notes name and the giver does not have
        self.manner = Manner()
        self._left_alone = PutOff(clock, settings.retry_seconds)  # rejected scopes, the empty text for none
        self._parted = False  # whether others had some of the last batch in hand, which may be what the rest lacked
        self._ahead: list[Note] = []  # what comes next, read in the trip that settled the last batch
        self.applies: Counter[Apply] = Counter()  # since the beginning; any thread may read it

    @property
    def left_alone(self) -> Set[str]:
        """Scopes that were rejected lately, the empty text for none."""
        return self._left_alone.names

    @property
    def gone(self) -> Set[str]:
        """Parts that notes name and that the giver did not have when that was looked at, which is not long ago."""
        return self._gone.names

    def _meet(self) -> None:
        """Know both stores' parts as they are now."""
        giver, taker = self._ends()
        self._parts = {part.name: part for part in giver.parts()}
        self.giver, self.taker = giver, taker
        self._new = giver.engine if giver.store is Store.NEW else taker.engine  # where the ledger is
        self.notes = Notes(giver.store, giver.engine)
        self.present = PresentRows(giver.store, giver.engine, lambda: self._parts)
        self._settling = Settling(giver, taker, self.notes, self.present)
        self._whole = WholeParts(giver, taker, self.notes, self._new)

    def next(self, skipped: int) -> Sequence[Note]:
        """The notes to carry next, after so many that others seem to be at; none of scopes rejected lately."""
        notes, self._ahead = self._ahead, []
        most = self._settings.batch_notes
        return notes or self.notes.oldest(most, skipped, alone=self.left_alone, gone=self.gone)

    def carry(self, notes: Sequence[Note], carried: set[str] | None = None, *, looking_ahead: bool = False) -> Carried:
        """Carry over what can be of the notes; ``carried`` receives the keys.

        ``looking_ahead``: when they are settled, read what comes next (``next``).
        """
        notes = self._of_known_parts(notes)
        if not notes:
            return Carried()
        if whole_parts := [note for note in notes if note.of_whole_part]:
            return self._whole.expand(whole_parts, self._parts, precedence=self.manner.precedence)
        try:
            return self._carry_together(notes, carried, looking_ahead=looking_ahead)
        except StoreContended:
            return Carried(busy=len(notes))  # a deadlock with some other writer: the next round tries again
        except StoreUnavailable:
            self._meet()  # it may be a part that has gone, which nothing would name any more
            raise
        except RepositoryError as error:
            return self._carry_apart(notes, error, carried)

    def rehearse(self, notes: Sequence[Note]) -> None:
        """Do for the notes what a batch does, and roll it back; what the taker refuses is not looked into."""
        refused = suppress(StandAside, StaleParts, RepositoryError)
        with refused, speaking_for(self.taker.store), self.taker.engine.connect() as taking:
            batch = self._sort_out(taking, notes)
            with together(taking) as trip:
                self._apply(trip, batch)
            taking.rollback()
        self.notes.settle([])

    def met_strangers(self) -> bool:
        """Know the parts that something is noted of, or that they are gone; whether there was any to be met."""
        strange = self.notes.strange(self.gone | self._parts.keys()) if self.present.by_row else frozenset()
        self._know(strange)
        return bool(strange)

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
        if len(scopes) == 1 and self._parted:
            return Carried(busy=len(notes))
        if len(scopes) == 1:
            return self._rejected(scopes[0] or None, refusal)
        half = scopes[len(scopes) // 2]
        parts = ([note for note in notes if ((note.scope or "") < half) is first] for first in (True, False))
        return sum((self.carry(part, carried) for part in parts), Carried())

    def _whole_scopes(self, scopes: Collection[str], notes: Sequence[Note]) -> Sequence[Note] | None:
        """All that is noted of the scopes (the empty text: of none), if it is more.

        A batch may end between two notes of one act (disable one, enable the other), or begin there, where another
        worker has those before it.
        """
        whole = self._of_known_parts(self.notes.of_scopes(scopes, _WHOLE_SCOPES))
        return whole if len(whole) > len(notes) and not any(note.of_whole_part for note in whole) else None

    def _of_known_parts(self, notes: Sequence[Note]) -> Sequence[Note]:
        """The notes without those of a part that is not, or no longer, one of the giver's."""
        self._know({note.part for note in notes} - self._parts.keys())
        return [note for note in notes if note.part in self._parts]

    def _know(self, unknown: Collection[str]) -> None:
        """Look for the parts: they are the giver's by now, or not any more."""
        if unknown:
            self._parts = {part.name: part for part in self.giver.parts()}
            self._gone.add(set(unknown) - self._parts.keys())

    def _carry_together(
        self, notes: Sequence[Note], carried: set[str] | None = None, *, looking_ahead: bool = False
    ) -> Carried:
        passing("catchup.before_apply")
        self._parted = False  # what refuses before that is known is not what others have in hand
        try:
            with speaking_for(self.taker.store), self.taker.engine.begin() as taking:
                batch = self._sort_out(taking, notes)
                self._parted = len(batch.notes) < len(notes)
                if not batch.notes:
                    return Carried(busy=len(notes))
                with together(taking) as trip:
                    applied, unfit, let = self._apply(trip, batch)
                    plain = not unfit and not batch.turned and applied.overtaken is None
                    if plain:  # as nearly always: the last trip takes the commit along
                        let = self._owe(batch, unfit, let)
                        passing("catchup.before_commit")
                        trip.commit()
                if not plain:
                    if applied.overtaken is not None and applied.overtaken():
                        raise StoreContended(f"{self.taker.store}: rows went while they were moved; try again")
                    self._settling.note_rest(taking, batch, unfit, self._parts.values())
                    let = self._owe(batch, unfit, let)
                    passing("catchup.before_commit")
        except StandAside:
            return Carried(aside=True)
        except StaleParts:
            self._meet()
            return Carried(busy=len(notes))
        passing("catchup.after_commit")
        left = len(notes) - len(batch.notes)
        ask_ahead = self._ask_ahead if looking_ahead and not left else None
        self._ahead = self._settling.settle(batch, ask_ahead)
        passing("catchup.after_forget")
        self.applies[Apply.CARRIED] += len(batch.scopes) - let()
        if carried is not None:
            carried |= batch.keys
        turned = min(len(batch.turned), len(batch.notes))
        return Carried(len(batch.notes), applied.upserts(), applied.deletes(), len(unfit), busy=left, turned=turned)

    def _sort_out(self, taking: Connection, notes: Sequence[Note]) -> Batch:
        return sort_out(taking, notes, self.taker, self.present, self.manner)

    def _apply(self, trip: Trip, batch: Batch) -> tuple[Applied, Unfit, Callable[[], int]]:
        """Do in the taker what the batch asks for; what was unfit, and how many scopes had been refused before.

        The ledger is in new: there it is kept up to date with the rows, on the way back by ``_owe``.
        """
        applied = Applied()
        if batch.keys:
            applied = self.taker.tables.make_equal(trip, batch.keys, batch.rows, batch.found)
        unfit = unfit_of(batch, applied)
        if self.taker.store is not Store.NEW:
            return applied, unfit, int
        # Of debt, all: what is as legacy has it, legacy can hold.
        fit = batch.keys - {str(row["key"]) for row in unfit}
        return applied, unfit, let_go(trip, batch.keys, fit, batch.scopes)

    def _owe(self, batch: Batch, unfit: Unfit, let: Callable[[], int]) -> Callable[[], int]:
        if self.taker.store is Store.NEW:
            return let
        let = self._settling.owe(batch, unfit)
        passing("catchup.owed")
        return let

    def _ask_ahead(self, trip: Trip) -> Callable[[], list[Note]]:
        most = self._settings.batch_notes
        return self.notes.ask_oldest(trip, most, alone=self.left_alone, gone=self.gone)

    def _rejected(self, scope: str | None, error: RepositoryError) -> Carried:
        self._left_alone.add([scope or ""])
        with speaking_for(Store.NEW), self._new.begin() as connection:
            first = reject(connection, scope, f"{type(error).__name__}: {error}")
        self.applies[Apply.REJECTED] += first
        return Carried(rejected=1)
