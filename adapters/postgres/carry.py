"""Carrying state over, scope by scope: the SQL side of catch-up, and of the router's nudge (``batch_carrier``)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import AbstractContextManager, suppress
from threading import Event

from sqlalchemy import ColumnElement

from adapters.postgres.batch import Giver, StaleParts, Taker
from adapters.postgres.batch_carrier import BatchCarrier
from adapters.postgres.notes import Choice, Note, Rows
from adapters.postgres.scope_locks import Manner
from adapters.postgres.trip import Trip
from harness.catchup import Carried
from harness.errors import CrossfadeError, Refused, StoreTimeout
from harness.ports import Clock
from harness.routing import Store
from harness.settings import CatchupSettings
from harness.statistics import Apply

_PAUSE = 0.005
_STRIDES = 4  # batches among which workers that meet at one look for another


class StateCarrier:
    """Carries one store's state over to the other. Any number of them, in any number of processes, share the queue.

    ``ends`` answers the two stores as they are now; it is asked again when a part appears that was not there yet.
    """

    def __init__(
        self, ends: Callable[[], tuple[Giver, Taker]], settings: CatchupSettings, clock: Clock = time.monotonic
    ) -> None:
        self._settings, self._clock = settings, clock
        self._batches = BatchCarrier(ends, settings, clock)
        self._pause = Event()  # never set; a pause that a signal can interrupt
        self._skipped = 0  # notes that other workers seem to be at

    @property
    def applies(self) -> Counter[Apply]:
        """What came of scopes since the beginning; any thread may read it."""
        return self._batches.applies

    def carry_in(self, manner: Manner) -> None:
        """How batches are carried from now on."""
        self._batches.manner = manner

    # The queue as commands see it

    def carry_batch(self) -> Carried:
        """Carry over one batch of notes; scopes that were rejected lately are left alone for a while."""
        most, skipped = self._settings.batch_notes, self._skipped
        notes = self._batches.next(skipped)
        done = self._batches.carry(notes, looking_ahead=not skipped) if notes else Carried()
        # Another worker has these in hand: begin further on next time, and at the front again once there is no more.
        self._skipped = (self._skipped + most) % (_STRIDES * most) if done.busy > done.notes else 0
        return done if notes or not skipped else Carried(busy=1)  # there may be some at the front

    def notes_left(self) -> int:
        return self._batches.notes.left()

    def tidy(self) -> None:
        """Clear away what settled notes left behind in the queue."""
        self._batches.notes.tidy()

    def noted(self, choice: Choice) -> int:
        """How many notes there are of a choice."""
        return len(self._batches.notes.chosen(choice))

    def trip(self) -> AbstractContextManager[Trip]:
        """A trip to the giver that nothing is written in."""
        return self._batches.notes.trip()

    def has_place_for(self, scope: str | None) -> bool:
        """Whether the taker could hold records of the scope; those of others stay where they are."""
        with suppress(StaleParts):  # of a part that has appeared since
            return scope is not None and self._batches.taker.part_of(scope) is not None
        return True

    def carry_chosen(self, choice: Choice, carried: set[str] | None = None) -> Carried:
        """Carry over one batch of a choice; ``carried`` receives the keys."""
        return self._batches.carry(self._batches.notes.chosen(choice), carried)

    def drain_chosen(self, choice: Choice, until: float) -> frozenset[str]:
        """Carry over every note of a choice; the keys that were carried.

        Raises StoreTimeout when the clock passes ``until``, and Refused for a scope that is not accepted, and for notes
        of a part that is not there any more.
        """
        carried: set[str] = set()
        while notes := self._batches.notes.chosen(choice):
            done = self._batches.carry(notes, carried)
            if done.rejected:
                raise Refused(f"{self._batches.taker.store} refused a scope; see crossfade status for the reasons")
            if self._clock() > until:
                raise StoreTimeout(
                    f"{self._batches.giver.store}: {len(notes)} notes or more could not be carried over in time"
                )
            if not done.notes:
                self._refuse_gone(notes)
                self._pause.wait(_PAUSE)
        return frozenset(carried)

    def rehearse(self, among: Callable[[ColumnElement[str]], ColumnElement[bool]]) -> frozenset[str]:
        """Do for a record of some scope ``among`` chooses what a batch does, and roll it back; the keys.

        So that nothing is done for the first time, and slowly, while writers wait for it. What the taker refuses is not
        looked into: a record alone may meet a rival that goes when all of its scope is carried.
        """
        notes = self._batches.present.samples(among)
        self._batches.rehearse(notes)
        return frozenset(note.key for note in notes if note.key is not None)

    # The queue as the router sees it

    def carry(self, scopes: Collection[str], keys: Collection[Hashable], timeout: float = 30.0) -> None:
        """Carry over all that is noted now for the scopes and keys, waiting for workers that have them in hand.

        Raises StoreUnavailable, StoreTimeout after ``timeout`` seconds, or the refusal of a scope that is not accepted.
        Refused for notes of a part that is not there any more.
        """
        until, refused, most = self._clock() + timeout, set[str](), self._settings.batch_notes
        latest = self._batches.notes.latest()
        if keys:
            self._batches.met_strangers()
        rows = self._batches.present.rows(keys, self._batches.gone)
        while latest and (notes := self._batches.notes.named(scopes, keys, rows, latest, most, alone=refused)):
            done = self._batches.carry(notes)
            if done.rejected:
                # They must not hold up the others.
                refused |= self._batches.left_alone & {note.scope or "" for note in notes}
            if self._clock() > until:
                raise StoreTimeout(
                    f"carrying over {len(notes)} notes took longer than {timeout:.0f} s; it goes on later"
                )
            if not done.notes:
                self._refuse_gone(notes)
                self._pause.wait(_PAUSE)  # another worker has them in hand, for milliseconds
        if refused:
            raise CrossfadeError(
                f"{self._batches.taker.store} refused {len(refused)} scopes; see crossfade status for the reasons"
            )

    def is_settled(self, scope: str | None, key: Hashable | None) -> bool:
        """Whether nothing is noted for the scope, or, without one, the key, or, without both, anything."""
        if scope is not None or key is None:
            return not self._batches.notes.any_for(scope, key, Rows())
        if not self._batches.notes.any_for(None, key, self._batches.present.rows([key], self._batches.gone)):
            return True
        # What is noted in a part that is not known may be of any record: look which part that is, and ask again.
        return self._batches.met_strangers() and not self._batches.notes.any_for(
            None, key, self._batches.present.rows([key], self._batches.gone)
        )

    def noted_in(self, key: Hashable) -> Collection[Store]:
        """The store that gives, if something is noted for the key there."""
        return frozenset() if self.is_settled(None, key) else {self._batches.giver.store}

    def _refuse_gone(self, notes: Sequence[Note]) -> None:
        """What is noted of a part that has gone is never carried: whoever waits for that is told."""
        parts, store = {note.part for note in notes}, self._batches.giver.store
        if parts <= self._batches.gone:
            raise Refused(
                f"{len(notes)} notes of {store} are of {', '.join(sorted(parts))}, which is not there any more. If it "
                f"was dropped for good, delete the rows of this part from crossfade.dirty in {store}"
            )
