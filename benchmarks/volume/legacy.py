"""A Dispatch-shaped database of any size, written by the server itself; and the oddest of what it can hold.

Every value follows from the seed and the row's number, by arithmetic alone: the same on every server and version.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from adapters.prompts import invented
from adapters.prompts.canonical import LEGACY_TYPES
from adapters.prompts.discover import organization
from adapters.prompts.dispatch_tables import tenant_schema

ROWS_TO_A_PROJECT = 2 * len(LEGACY_TYPES)  # one enabled and one disabled of each type
BATCH_PROJECTS = 20_000  # projects filled by one statement
# Rows and indexes of both stores, one more copy to measure against, and the write-ahead log; measured, rounded up.
BYTES_ON_DISK_PER_ROW = 4_000

_OPENINGS = (
    "Read the timeline below and tell what happened in plain words.",
    "You are given the notes of an incident review.",
    "Here follow messages from the responders' channel.",
    "Look at the alert and at the runbook beside it.",
)
_REQUESTS = (
    "Name the service that failed first, and say how you know.",
    "List what was done, in the order in which it was done, with the times.",
    "Say which customers noticed anything, and for how long.",
    "Keep what is known apart from what is guessed.",
    "Mark risky steps with ⚠️ and finished ones with ✅; no more than one of each to a line.",
    "Antworte auf Deutsch, wenn die Notizen deutsch sind: Störung, Ausfall, Größe.",
    "End with the questions that are still open, and who could answer them.",
    "Quote log lines exactly as they stand: `level=error code=503 path=\\\\shared\\x`.",
)
_SYSTEM_MESSAGES = (
    "You help the people who are on call. Be calm and brief.",
    "You write for readers who were asleep when it happened.\nNever invent a number.",
    "You are careful: what the notes do not say, you do not say. 🧭",
)

# A number of its own for each row (Lehmer's generator, as MINSTD parametrises it), of which its texts are drawn.
_FILL = """
INSERT INTO {prompt} (genai_type, genai_prompt, genai_system_message, enabled, created_at, updated_at, project_id)
SELECT genai_type,
       openings[1 + drawn %% {openings}] || ' ' || requests[1 + drawn / 7 %% {requests}] || ' '
       || requests[1 + drawn / 61 %% {requests}] || E'\\n' || requests[1 + drawn / 509 %% {requests}] || ' '
       || CASE WHEN drawn / 4099 %% 2 = 0 THEN requests[1 + drawn / 8209 %% {requests}] ELSE '' END
       || ' This is number ' || project || '.' || genai_type || CASE WHEN enabled THEN '.' ELSE ', kept aside.' END,
       messages[1 + drawn / 32771 %% {every_message}],
       enabled,
       created_at,
       created_at + (3 + drawn %% 7) * INTERVAL '1 microsecond',
       project
FROM (SELECT project, genai_type, enabled,
             (project::bigint * {per_project} + genai_type * 2 + enabled::int + %(seed)s) %% 2147483646 + 1 AS number
      FROM generate_series(%(first)s::int, %(last)s::int) AS project,
           unnest(%(types)s::int[]) AS genai_type, (VALUES (true), (false)) AS both_ways (enabled)
      OFFSET 0) AS numbered,
     LATERAL (SELECT number * 48271 %% 2147483647 AS drawn OFFSET 0) AS lots,
     LATERAL (SELECT TIMESTAMP '2019-03-01' + project * INTERVAL '4 seconds'
                     + drawn * 40 * INTERVAL '1 microsecond' AS created_at OFFSET 0) AS stamps,
     (SELECT %(openings)s::text[] AS openings, %(requests)s::text[] AS requests, %(messages)s::text[] AS messages
      OFFSET 0) AS said
"""


@dataclass(frozen=True, slots=True)
class Volume:
    """How many prompts, rounded up to whole projects, in how many organizations."""

    rows: int
    organizations: int = 2
    seed: int = 1

    @property
    def slugs(self) -> tuple[str, ...]:
        return invented.ORGANIZATIONS[: self.organizations]

    @property
    def projects(self) -> int:
        """Projects of each organization."""
        return -(-self.rows // (ROWS_TO_A_PROJECT * self.organizations))

    @property
    def prompts(self) -> int:
        """How many rows there are in fact."""
        return self.projects * self.organizations * ROWS_TO_A_PROJECT


def fill(engine: Engine, url: str, volume: Volume) -> None:
    """Make organizations, projects and prompts in an empty database, then its statistics; each row as Dispatch would.

    Constraints come off while it is filled and are put back, checked, at the end.
    """
    invented.create(engine, volume.seed, organizations=volume.organizations, projects=0, odd=False)
    with psycopg.connect(url, autocommit=True) as connection:
        for number, slug in enumerate(volume.slugs):
            _fill_tenant(connection, slug, volume, number)
        connection.execute("VACUUM (ANALYZE)")


def _fill_tenant(connection: psycopg.Connection[Any], slug: str, volume: Volume, number: int) -> None:
    project, prompt = table(slug, "project"), table(slug, "prompt")
    owner = sql.SQL("SELECT min(id) FROM {} WHERE slug = %s").format(
        sql.Identifier(organization.schema or "", "organization")
    )
    connection.execute(
        sql.SQL(
            "INSERT INTO {} (name, organization_id) SELECT 'Team ' || n, ({}) FROM generate_series(1, %s) AS n"
        ).format(project, owner),
        [slug, volume.projects],
    )
    statement = sql.SQL(_FILL).format(
        prompt=prompt,
        openings=sql.Literal(len(_OPENINGS)),
        requests=sql.Literal(len(_REQUESTS)),
        every_message=sql.Literal(len(_SYSTEM_MESSAGES) + 1),  # one more than there are: NULL
        per_project=sql.Literal(ROWS_TO_A_PROJECT),
    )
    given = {
        "seed": volume.seed * 7919 + number * 104_729,
        "types": [known.number for known in LEGACY_TYPES],
        "openings": list(_OPENINGS),
        "requests": list(_REQUESTS),
        "messages": list(_SYSTEM_MESSAGES),
    }
    with without_constraints(connection, prompt):
        for first in range(1, volume.projects + 1, BATCH_PROJECTS):
            last = min(first + BATCH_PROJECTS - 1, volume.projects)
            connection.execute(statement, given | {"first": first, "last": last})


def table(slug: str, name: str) -> sql.Identifier:
    """A table of a tenant."""
    return sql.Identifier(tenant_schema(slug), name)


@contextmanager
def without_constraints(connection: psycopg.Connection[Any], named: sql.Identifier) -> Iterator[None]:
    """Take a table's keys off and put them back, checked, at the end: an index is built faster than it is grown."""
    found = connection.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = %s::regclass AND contype IN ('p', 'u', 'f') ORDER BY contype = 'f', conname",
        [named.as_string(connection)],
    ).fetchall()
    for name, _ in found:
        connection.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(named, sql.Identifier(name)))
    yield
    for name, definition in found:
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} ").format(named, sql.Identifier(name))
        connection.execute(add + sql.SQL(definition))


def disk_needed(rows: int) -> int:
    """Bytes that so many prompts need on disk while they are measured."""
    return rows * BYTES_ON_DISK_PER_ROW
