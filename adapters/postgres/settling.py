"""What a batch that was carried leaves to be done: notes settled, and held what the other store cannot hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from sqlalchemy import ARRAY, Connection, Text, insert, literal

from adapters.postgres.batch import Batch, Giver, Taker
from adapters.postgres.errors import speaking_for
from adapters.postgres.guarding import NO_PLACE
from adapters.postgres.ledger import debt, quarantine
from adapters.postgres.ledger.held_back import let_go
from adapters.postgres.notes import Note, Notes, forget
from adapters.postgres.part import REASON, Part
from adapters.postgres.present import PresentRows
from adapters.postgres.schema import dirty
from adapters.postgres.taking import Applied
from adapters.postgres.trip import Trip, together
from harness.failpoints import passing
from harness.routing import Store

Unfit = list[dict[str, str | None]]


class Settling:
    """Of one direction. The ledger is in new: to there it is kept up to date with the rows, on the way back before
    them, in a transaction of its own.
    """

    def __init__(self, giver: Giver, taker: Taker, notes: Notes, present: PresentRows) -> None:
        self._giver, self._taker, self._notes, self._present = giver, taker, notes, present

    def note_rest(self, taking: Connection, batch: Batch, unfit: Unfit, parts: Iterable[Part]) -> None:
        """Hold what new cannot, and ask the taker to carry back what it has authority over.

        Where a record's row is gone from the giver's ``parts``, its local key is kept there for the return: before
        anybody else can see that it is to return.
        """
        if self._taker.store is Store.NEW:
            quarantine.hold(taking, unfit)
        if batch.turned:
            self._keep_local_keys(batch, parts)
            notes = [
                {"part": self._taker.part_of(scope), "scope": scope, "key": key, "local": None}
                for scope, key in batch.turned
            ]
            taking.execute(insert(dirty), notes)

    def owe(self, batch: Batch, unfit: Unfit) -> Callable[[], int]:
        """Of new's records, hold what legacy cannot, and let go of the rest; how many scopes had been refused before.

        Under the locks of the taker that the batch was carried with, and before that ends: whoever carries one of the
        records next, decides next. A record that has gone meanwhile is let go of with the note of that.
        """
        # The others are new-only, and nobody's debt.
        owed = [row for row in unfit if row["reason"] != NO_PLACE]
        with speaking_for(self._giver.store), self._notes.settling(whole=bool(owed)) as giving:
            debt.hold(giving, owed)
            with together(giving) as trip:
                return let_go(trip, batch.keys - {str(row["key"]) for row in owed}, (), batch.scopes)

    def settle(self, batch: Batch, ask_ahead: Callable[[Trip], Callable[[], list[Note]]] | None) -> list[Note]:
        """Settle the notes; those that ``ask_ahead`` found, which are to be carried next."""
        with speaking_for(self._giver.store), self._notes.settling(whole=False) as giving, together(giving) as trip:
            forgotten = forget(trip, batch.notes)
            ahead = list if ask_ahead is None else ask_ahead(trip)
        # Where some had gone already another worker is about: what it has in hand is not to be taken up twice.
        return ahead() if forgotten() else []

    def _keep_local_keys(self, batch: Batch, parts: Iterable[Part]) -> None:
        keep = {part.name: part.keep for part in parts if part.keep is not None}
        turned = {key for _, key in batch.turned}
        gone = [note for note in batch.notes if note.part in keep and note.local is not None and note.key in turned]
        if not gone:  # as nearly always
            return
        standing = {row.key_ for row in self._present.of(gone)}
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for note in gone:
            if note.key not in standing:
                found[note.part][str(note.key)] = str(note.local)
        with speaking_for(self._giver.store), self._notes.settling(whole=False) as giving:
            for name, local in found.items():
                giving.execute(keep[name](literal([*local.values()], ARRAY(Text)), literal([*local], ARRAY(Text))))
        passing("catchup.number_kept")


def unfit_of(batch: Batch, applied: Applied) -> Unfit:
    """What could not be represented on the other side, and why."""
    found: Unfit = []
    for row in batch.rows:
        key = row.key_
        reason = getattr(row, REASON) or applied.unfit.get(key)
        if reason is not None:
            found.append(
                {"key": key, "part": row.part_, "local": row.local, "scope": row.scope_, "reason": str(reason)}
            )
    return found
