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
from harness.routing import Store


def note_mended(legacy: Engine, new: Engine, part: str) -> int:
    """Note in new, in whose ``part`` they are, the debts that lack a project which legacy has; how many there were.

    Without those of which something is noted. Scope policy ``type`` only.
    """
    lacking = [debt for debt in owed(asking(new)) if debt.reason == DebtReason.NO_PROJECT]
    places = {debt.key: parse_scope(debt.scope or "", with_type=True) for debt in lacking}
    there = _projects(legacy, filter(None, places.values()))
    mended = {key for key, place in places.items() if place and (place.organization, place.project) in there}
    if not mended:
        return 0
    with speaking_for(Store.NEW), new.begin() as connection:
        mended -= set(connection.execute(select(dirty.c.key).where(dirty.c.key == any_(these(mended)))).scalars())
        notes = [{"part": part, "scope": debt.scope, "key": debt.key} for debt in lacking if debt.key in mended]
        if notes:
            connection.execute(insert(dirty), notes)
    return len(notes)


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
