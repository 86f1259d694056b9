"""Notes of whole parts (TRUNCATE), which are replaced by notes of records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, select

from adapters.postgres.batch import Giver, Taker
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.tables import debt, quarantine
from adapters.postgres.notes import Note, Notes
from adapters.postgres.part import Part
from adapters.postgres.scope_locks import send_workers_aside
from harness.catchup import Carried
from harness.routing import Store


class WholeParts:
    """Of one direction. ``new``: where the ledger is."""

    def __init__(self, giver: Giver, taker: Taker, notes: Notes, new: Engine) -> None:
        self._giver, self._taker, self._notes, self._new = giver, taker, notes, new

    def expand(self, notes: Sequence[Note], parts: Mapping[str, Part], *, precedence: bool) -> Carried:
        """Replace notes of whole parts by a note of every record that the taker has, or holds, of them.

        Batches and chunks are kept out meanwhile: one that had read the giver before the TRUNCATE would otherwise
        bring back, after this has looked, what is gone. ``precedence``: the caller has done that already.
        """
        names = {note.part for note in notes}
        with speaking_for(self._taker.store), self._taker.engine.begin() as taking:
            if not precedence:
                send_workers_aside(taking)
            found = self._held_of(names)
            for name in names:
                for key, scope in self._taker.tables.keys_of_part(taking, name):
                    if parts[name].where_scope(scope) is not None:  # the others are new-only, and none of legacy's
                        found.append({"part": name, "scope": scope, "key": key, "local": None})
            self._notes.settle(notes, found)
        return Carried(notes=len(notes))

    def _held_of(self, parts: Collection[str]) -> list[dict[str, str | None]]:
        """A note for each of the parts' records that the ledger holds back."""
        if self._giver.store is Store.NEW:
            rows: Any = select(debt.c.key, debt.c.scope)
            chosen = [(part, scope, key, None) for key, scope in self._asked(rows) for part in parts]
        else:
            held = quarantine.c
            rows = select(held.part, held.scope, held.key, held.local).where(held.part.in_(sorted(parts)))
            chosen = [tuple(row) for row in self._asked(rows)]
        return [dict(zip(("part", "scope", "key", "local"), row, strict=True)) for row in chosen]

    def _asked(self, statement: Any) -> Sequence[Any]:
        with speaking_for(Store.NEW), self._new.connect() as connection:
            return connection.execute(statement).all()
