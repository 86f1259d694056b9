"""What a batch that was carried leaves to be done: notes settled, and held what the other store cannot hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable

from sqlalchemy import ARRAY, Connection, Text, func, insert, literal, select

from adapters.postgres.batch import Batch, Giver, Taker
from adapters.postgres.errors import speaking_for
from adapters.postgres.guarding import NO_PLACE
from adapters.postgres.ledger import debt, quarantine
from adapters.postgres.ledger.held_back import let_go
from adapters.postgres.notes import Note, Notes, forget
from adapters.postgres.part import REASON, Part, these
from adapters.postgres.present import PresentRows
from adapters.postgres.schema import dirty
from adapters.postgres.scope_locks import milliseconds
from adapters.postgres.taking import Applied
from adapters.postgres.trip import Trip, together
from harness.failpoints import passing
from harness.routing import Store

Unfit = list[dict[str, str | None]]


class Settling:
    """Of one direction. The ledger is in new: to there it is kept up to date with the rows, on the way back with the
    notes.
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

    def settle(
        self,
        batch: Batch,
        unfit: Unfit,
        let: Callable[[], int],
        parts: Iterable[Part],
        ask_ahead: Callable[[Trip], Callable[[], list[Note]]] | None,
        *,
        lock_seconds: float | None,
    ) -> tuple[Callable[[], int], list[Note]]:
        """Settle the notes; of new's, hold what legacy cannot, and let go of the rest.

        How many scopes had been refused before, and the notes that ``ask_ahead`` found, which are to be carried next.
        ``lock_seconds``: how long it waits for a record that somebody else has locked; None, for ever.
        """
        back = self._giver.store is Store.NEW
        # The others are new-only, and nobody's debt.
        owed = [row for row in unfit if row["reason"] != NO_PLACE] if back else []
        with speaking_for(self._giver.store), self._notes.settling(whole=bool(owed)) as giving:
            if owed and lock_seconds is not None:
                giving.execute(select(func.set_config("lock_timeout", milliseconds(lock_seconds), True)))
            there = _held_as_debt(giving, owed, parts)
            with together(giving) as trip:
                if back:
                    let = let_go(trip, batch.keys - there, (), batch.scopes)
                forgotten = forget(trip, batch.notes)
                ahead = list if ask_ahead is None else ask_ahead(trip)
        # Where some had gone already another worker is about: what it has in hand is not to be taken up twice.
        return let, ahead() if forgotten() else []

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


def _held_as_debt(giving: Connection, owed: Unfit, parts: Iterable[Part]) -> frozenset[str]:
    """Hold of new's records what legacy cannot; those of them that are still there."""
    there = _still_there(giving, [str(row["key"]) for row in owed], parts)
    debt.hold(giving, [row for row in owed if row["key"] in there])
    return there


def _still_there(giving: Connection, keys: Collection[str], parts: Iterable[Part]) -> frozenset[str]:
    """Those of the records that the giver still has; none of them goes before the transaction ends."""
    found: set[str] = set()
    for part in parts if keys else ():
        own = select(part.local).where(part.where_local(these(keys)))
        found |= set(giving.execute(own.with_for_update(read=True, key_share=True)).scalars())
    return frozenset(found)
