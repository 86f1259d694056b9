"""Rows that were left behind in legacy, where new's prompts need their place.

A row that new cannot hold stays in legacy when its scope moves. Dispatch allows one enabled and one disabled prompt of
a type and project, so the row may stand in the place of one that new has made since. New's enabled prompt comes first,
for it is what the scope's callers are to get: the row that was left behind is disabled. A second disabled one has no
place, and is rollback debt. Nothing that was left behind is ever deleted for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain

from sqlalchemy import (
    ARRAY,
    Executable,
    Integer,
    Table,
    any_,
    false,
    update,
)

from adapters.postgres.part import Part
from adapters.postgres.prepared import PreparedByShape, parameter
from adapters.postgres.trip import Trip
from adapters.prompts.room import Standing


@dataclass(frozen=True, slots=True)
class Wanted:
    """A prompt of new that is to stand in a scope in legacy."""

    key: str
    scope: str
    enabled: bool


class LeftBehind:
    """Legacy's unrepresentable rows in scopes that the other store has authority over. Scope policy ``type`` only."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts
        self._prepared = PreparedByShape()

    def make_room(self, trip: Trip, wanted: Iterable[Wanted], standing: Iterable[Standing]) -> frozenset[str]:
        """Disable the rows that stand where an enabled prompt is to be; the keys for which there is no place.

        The prompts of a scope must be given together. ``standing``: what stands in their scopes, and in others.
        """
        left = [row for row in standing if row.unfit]
        if not left:  # as nearly always
            return frozenset()
        scopes: dict[str, list[Wanted]] = defaultdict(list)
        for each in wanted:
            scopes[each.scope].append(each)
        given = {each.key for each in chain.from_iterable(scopes.values())}
        found: dict[tuple[str, str], dict[bool, int]] = defaultdict(dict)
        for row in left:
            if row.scope in scopes and row.key not in given:  # else it is about to be overwritten
                found[row.organization, row.scope][row.enabled] = row.number
        homeless: set[str] = set()
        lowered: dict[str, list[int]] = defaultdict(list)
        for (organization, scope), numbers in found.items():
            there, taken = scopes[scope], numbers.get(False)
            if True in numbers and any(each.enabled for each in there):
                if taken is not None:  # both places are taken by rows that were left behind
                    homeless |= {each.key for each in there if each.enabled}
                else:
                    taken = numbers[True]
                    lowered[organization].append(taken)
            if taken is not None:
                homeless |= {each.key for each in there if not each.enabled}
        for organization, disabled in lowered.items():
            table = self._parts[organization].table
            statement = self._prepared.get(("lower", organization), partial(_lowering, table))
            trip.ask(statement, numbers=sorted(disabled))
        return frozenset(homeless)


def _lowering(table: Table) -> Executable:
    chosen = table.c.id == any_(parameter("numbers", ARRAY(Integer)))
    return update(table).where(chosen).values(enabled=false())
