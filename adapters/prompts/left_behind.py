"""Rows that were left behind in legacy, where new's prompts need their place.

A row that new cannot hold stays in legacy when its scope moves. Dispatch allows one enabled and one disabled prompt of
a type and project, so the row may stand in the place of one that new has made since. New's enabled prompt comes first,
for it is what the scope's callers are to get: the row that was left behind is disabled. A second disabled one has no
place, and is rollback debt. Nothing that was left behind is ever deleted for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from sqlalchemy import (
    ARRAY,
    Executable,
    Integer,
    Table,
    Text,
    any_,
    cast,
    false,
    func,
    select,
    tuple_,
    update,
)

from adapters.postgres.part import REASON, Part
from adapters.postgres.prepared import PreparedByShape, parameter
from adapters.postgres.trip import Trip
from adapters.prompts.canonical import LegacyScope


@dataclass(frozen=True, slots=True)
class Wanted:
    """A prompt of new that is to stand in a place of legacy."""

    key: str
    place: LegacyScope
    enabled: bool


@dataclass(frozen=True, slots=True)
class Left:
    """A row of legacy that was left behind, and where it stands."""

    key: str
    place: LegacyScope
    number: int
    enabled: bool


class LeftBehind:
    """Legacy's unrepresentable rows in scopes that the other store has authority over. Scope policy ``type`` only."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts
        self._prepared = PreparedByShape()

    def ask(self, trip: Trip, organization: str, places: Collection[LegacyScope]) -> Callable[[], list[Left]]:
        """Which rows were left behind in a tenant's places; to be called when there is time to wait for it."""
        statement = self._prepared.get(("standing", organization), partial(_unfit, self._parts[organization]))
        asked = sorted((each.type, each.project) for each in places if each.type is not None)
        answer = trip.ask(statement, types=[type_ for type_, _ in asked], projects=[project for _, project in asked])
        return lambda: [
            Left(key, LegacyScope(organization, project, genai_type), number, enabled)
            for key, number, genai_type, project, enabled in answer.rows
        ]

    def make_room(self, trip: Trip, wanted: Iterable[Wanted], left: Iterable[Left]) -> frozenset[str]:
        """Disable the rows that stand where an enabled prompt is to be; the keys for which there is no place.

        The prompts of a scope must be given together. ``left``: what was left behind in their scopes, and in others.
        """
        places: dict[LegacyScope, list[Wanted]] = defaultdict(list)
        for each in wanted:
            places[each.place].append(each)
        given = {each.key for each in chain.from_iterable(places.values())}
        found: dict[LegacyScope, dict[bool, int]] = defaultdict(dict)
        for row in left:
            if row.place in places and row.key not in given:  # else it is about to be overwritten
                found[row.place][row.enabled] = row.number
        homeless: set[str] = set()
        lowered: dict[str, list[int]] = defaultdict(list)
        for place, standing in found.items():
            there, taken = places[place], standing.get(False)
            if True in standing and any(each.enabled for each in there):
                if taken is not None:  # both places are taken by rows that were left behind
                    homeless |= {each.key for each in there if each.enabled}
                else:
                    taken = standing[True]
                    lowered[place.organization].append(taken)
            if taken is not None:
                homeless |= {each.key for each in there if not each.enabled}
        for organization, numbers in lowered.items():
            table = self._parts[organization].table
            statement = self._prepared.get(("lower", organization), partial(_lowering, table))
            trip.ask(statement, numbers=sorted(numbers))
        return frozenset(homeless)


def _unfit(part: Part) -> Executable:
    own: Any = part.table.c
    asked = func.unnest(parameter("types", ARRAY(Integer)), parameter("projects", ARRAY(Integer)))
    places = asked.table_valued("type", "project", name="asked").render_derived(name="asked")
    chosen = own.genai_type.label("own_type"), own.project_id.label("own_project"), own.id.label("number")
    within = tuple_(own.genai_type, own.project_id).in_(select(places.c.type, places.c.project))
    rows = part.of_few.where(within).add_columns(*chosen).subquery()
    columns = cast(rows.c.id, Text), rows.c.number, rows.c.own_type, rows.c.own_project, rows.c.enabled
    return select(*columns).where(rows.c[REASON].isnot(None))


def _lowering(table: Table) -> Executable:
    chosen = table.c.id == any_(parameter("numbers", ARRAY(Integer)))
    return update(table).where(chosen).values(enabled=false())
