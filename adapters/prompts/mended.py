"""Rollback debt that legacy could hold by now: its project has been made there, and nothing notes that by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import Engine, any_, insert, literal, select, union_all

from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.debt import owed
from adapters.postgres.part import these
from adapters.postgres.pool import asking
from adapters.postgres.schema import dirty
from adapters.prompts.canonical import DebtReason, LegacyScope, parse_scope
from adapters.prompts.discover import require_tenants
from adapters.prompts.dispatch_tables import tenant_tables
from harness.records import Debt
from harness.routing import Store


def note_mended(legacy: Engine, new: Engine, part: str) -> int:
    """Note in new, in whose ``part`` they are, the debts that lack a project which legacy has; how many there were.

    Without those of which something is noted. Scope policy ``type`` only.
    """
    found = {debt.key: debt.scope for debt in mended(legacy, owed(asking(new)))}
    if not found:
        return 0
    with speaking_for(Store.NEW), new.begin() as connection:
        noted = set(connection.execute(select(dirty.c.key).where(dirty.c.key == any_(these(found)))).scalars())
        notes = [{"part": part, "scope": scope, "key": key} for key, scope in found.items() if key not in noted]
        if notes:
            connection.execute(insert(dirty), notes)
    return len(notes)


def mended(legacy: Engine, debts: Iterable[Debt]) -> list[Debt]:
    """Those of the debts that lack a project which legacy has."""
    places = {
        debt: parse_scope(debt.scope or "", with_type=True) for debt in debts if debt.reason == DebtReason.NO_PROJECT
    }
    there = _projects(legacy, filter(None, places.values()))
    return [debt for debt, place in places.items() if place and (place.organization, place.project) in there]


def _projects(legacy: Engine, places: Iterable[LegacyScope]) -> set[tuple[str, int]]:
    """Those of the places' projects that exist, each with its tenant."""
    asked: dict[str, set[int]] = defaultdict(set)
    for place in places:
        asked[place.organization].add(place.project)
    if not asked:
        return set()
    selects = []
    for name in asked.keys() & set(require_tenants(legacy)):
        project, _ = tenant_tables(name)
        selects.append(select(literal(name), project.c.id).where(project.c.id.in_(asked[name])))
    with speaking_for(Store.LEGACY), asking(legacy).connect() as connection:
        return {(name, number) for name, number in connection.execute(union_all(*selects))} if selects else set()
