"""A Dispatch-shaped database full of invented prompts, for the demo and the tests.

Everything here follows from a seed. No text of any real system is in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from psycopg import sql
from sqlalchemy import (
    Connection,
    Engine,
    MetaData,
    Table,
    insert,
)
from sqlalchemy.schema import CreateSchema

from adapters.prompts.canonical import LEGACY_TYPES, Reason
from adapters.prompts.discover import organization
from adapters.prompts.dispatch_tables import CORE_SCHEMA, tenant_tables
from adapters.prompts.vocabulary import invent_system_message, invent_text, text_of_length

_BEGINNING = datetime(2023, 3, 1)  # as Dispatch keeps stamps: without a zone
_SPAN = timedelta(days=730)

ORGANIZATIONS = ("default", "harbour_watch", "night_shift", "orchard", "tidewater", "lantern")
PLACES = ("Payments", "Checkout", "Search", "Warehouse", "Identity", "Edge", "Mail", "Billing", "Mobile", "Data")


@dataclass(frozen=True, slots=True)
class Invented:
    """What ``create`` put there. ``quarantined`` counts by reason, ``odd`` by what is odd about a row."""

    organizations: tuple[str, ...]
    projects: int
    rows: int
    enabled: int
    quarantined: Mapping[str, int] = field(default_factory=dict)
    odd: Mapping[str, int] = field(default_factory=dict)

    @property
    def representable(self) -> int:
        return self.rows - sum(self.quarantined.values())


def create(engine: Engine, seed: int, *, organizations: int = 3, projects: int = 6, odd: bool = True) -> Invented:
    """Fill an empty database with organizations, projects for each, and their prompts; all or nothing.

    With ``odd`` the first organization gets one more project, whose rows are what Dispatch lets in and nobody expects.
    """
    random = Random(seed)  # noqa: S311 - repeatable data, no secret
    names = tuple(ORGANIZATIONS[n] if n < len(ORGANIZATIONS) else f"tenant_{n + 1}" for n in range(organizations))
    rows: list[dict[str, Any]] = []
    oddities: Counter[str] = Counter()
    quarantined: Counter[str] = Counter()
    with engine.begin() as connection:
        _create_core(connection, names)
        for number, slug in enumerate(names, 1):
            prompt = _create_tenant(connection, slug, reordered=number % 2 == 0)
            of_tenant = [row for project in range(1, projects + 1) for row in _prompts(random, project)]
            _add_projects(connection, slug, number, _project_names(random, projects))
            if odd and number == 1:
                _add_projects(connection, slug, number, ["Attic"])
                for what, reason, row in _odd_rows(random, projects + 1):
                    of_tenant.append(row)
                    oddities[what] += 1
                    quarantined.update([reason] if reason else [])
            if of_tenant:
                connection.execute(insert(prompt), of_tenant)
            rows += of_tenant
    enabled = sum(row["enabled"] for row in rows)
    total = projects * organizations + (1 if odd and organizations else 0)
    return Invented(names, total, len(rows), enabled, dict(quarantined), dict(oddities))


def _create_core(connection: Connection, slugs: tuple[str, ...]) -> None:
    connection.execute(CreateSchema(CORE_SCHEMA))
    organization.create(connection)
    rows = [{"name": slug.replace("_", " ").title(), "slug": slug, "default": slug == "default"} for slug in slugs]
    if rows:
        connection.execute(insert(organization), rows)


def _create_tenant(connection: Connection, slug: str, *, reordered: bool) -> Table:
    """The tenant's tables. Column order differs from tenant to tenant, as it does after Dispatch's own migrations."""
    metadata = MetaData()
    _, prompt = tenant_tables(slug, metadata)
    connection.execute(CreateSchema(str(prompt.schema)))
    metadata.create_all(connection)
    if reordered:
        again = sql.SQL(
            "ALTER TABLE {} DROP COLUMN genai_system_message, ADD COLUMN genai_system_message character varying"
        ).format(sql.Identifier(str(prompt.schema), prompt.name))
        connection.exec_driver_sql(again.as_string(None))
    return prompt


def _add_projects(connection: Connection, slug: str, owner: int, names: list[str]) -> None:
    project, _ = tenant_tables(slug)
    if names:
        connection.execute(insert(project), [{"name": name, "organization_id": owner} for name in names])


def _project_names(random: Random, count: int) -> list[str]:
    return [f"{random.choice(PLACES)} {number}" for number in range(1, count + 1)]


def _prompts(random: Random, project: int) -> Iterator[dict[str, Any]]:
    """For each type an enabled prompt, most of the time, and a disabled one, half of the time."""
    for known in LEGACY_TYPES:
        for enabled, share in ((True, 0.9), (False, 0.5)):
            if random.random() < share:
                yield _row(random, project, known.number, enabled)


def _row(random: Random, project: int | None, genai_type: int, enabled: bool, **other: Any) -> dict[str, Any]:
    created = _BEGINNING + timedelta(microseconds=random.randrange(int(_SPAN.total_seconds() * 1_000_000)))
    row = {
        "genai_type": genai_type,
        "genai_prompt": invent_text(random),
        "genai_system_message": invent_system_message(random),
        "enabled": enabled,
        "created_at": created,
        "updated_at": created + timedelta(microseconds=random.randint(3, 9)),
        "project_id": project,
    }
    return row | other


def _odd_rows(random: Random, project: int) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    """What is odd, why the row cannot be represented (None if it can), and the row."""

    def row(genai_type: int, enabled: bool, of: int | None = project, **other: Any) -> dict[str, Any]:
        return _row(random, of, genai_type, enabled, **other)

    no_project = Reason.NO_PROJECT
    yield "no project", no_project, row(1, True, None)
    yield "no project", no_project, row(1, True, None, created_at=None, updated_at=None)  # NULL escapes uniqueness
    yield "unknown type 0", None, row(0, False)
    yield "unknown type -5", None, row(-5, False)
    yield "unknown type 99", None, row(99, True)
    yield "empty prompt", Reason.EMPTY_CONTENT, row(1, False, genai_prompt="")
    yield "12,000 characters", Reason.CONTENT_TOO_LONG, row(2, False, genai_prompt=text_of_length(random, 12_000))
    yield "10,000 characters", None, row(3, True, genai_prompt=text_of_length(random, 10_000))
    yield "no created_at", None, row(4, True, created_at=None)
    yield "no updated_at", None, row(4, False, updated_at=None)
    yield "no stamps", None, row(5, True, created_at=None, updated_at=None)
    yield "no system message", None, row(5, False, genai_system_message=None)
    yield "empty system message", None, row(1, True, genai_system_message="")
