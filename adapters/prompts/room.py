"""What stands in legacy where prompts are to stand: projects that exist, and the rows there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, Executable, Integer, Text, any_, cast, func, null, select, tuple_, union_all

from adapters.postgres.part import REASON, Part
from adapters.postgres.prepared import PreparedByShape, parameter
from adapters.postgres.trip import Trip
from adapters.prompts.canonical import LegacyScope
from adapters.prompts.dispatch_tables import tenant_tables


class Standing(NamedTuple):
    """A row of legacy. ``unfit``: new cannot hold it, so it was left behind if the other store has its scope."""

    key: str
    organization: str
    number: int
    scope: str
    enabled: bool
    unfit: bool


@dataclass(frozen=True, slots=True)
class Room:
    """``projects``: those that exist, each with its tenant. One that goes after this look ends as its foreign key's
    error.
    """

    projects: set[tuple[str, int]] = field(default_factory=set)
    rows: list[Standing] = field(default_factory=list)


class Rooms:
    """One statement for each tenant of which there are places. Scope policy ``type`` only."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts
        self._prepared = PreparedByShape()

    def ask(self, trip: Trip, places: Iterable[LegacyScope]) -> Callable[[], Room]:
        """What there is in the places; to be called when there is time to wait for it."""
        by_tenant: dict[str, set[tuple[int, int]]] = defaultdict(set)
        for place in places:
            if place.organization in self._parts and place.type is not None:
                by_tenant[place.organization].add((place.type, place.project))
        answers = {}
        for organization, asked in by_tenant.items():
            statement = self._prepared.get(organization, partial(_looking, self._parts[organization]))
            types, projects = map(list, zip(*sorted(asked), strict=True))
            answers[organization] = trip.ask(statement, types=types, projects=projects)
        return lambda: _room({organization: answer.rows for organization, answer in answers.items()})


def _room(found: Mapping[str, Iterable[Any]]) -> Room:
    room = Room()
    for organization, rows in found.items():
        for key, number, *described in rows:
            if key is None:
                room.projects.add((organization, number))
            else:
                room.rows.append(Standing(key, organization, number, *described))
    return room


def _looking(part: Part) -> Executable:
    """The rows in the places, and, without a key, the places' projects that exist."""
    own: Any = part.table.c
    project, _ = tenant_tables(part.name)
    types, projects = parameter("types", ARRAY(Integer)), parameter("projects", ARRAY(Integer))
    asked = func.unnest(types, projects).table_valued("type", "project", name="asked").render_derived(name="asked")
    within = tuple_(own.genai_type, own.project_id).in_(select(asked.c.type, asked.c.project))
    rows = part.of_few.where(within).add_columns(own.id.label("number")).subquery()
    found = select(cast(rows.c.id, Text), rows.c.number, rows.c.project_id, rows.c.enabled, rows.c[REASON].isnot(None))
    there = select(null(), project.c.id, null(), null(), null()).where(project.c.id == any_(projects))
    return union_all(found, there)
