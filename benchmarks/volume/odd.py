"""The oddest rows that Dispatch's tables can hold at volume, written by the server, each into projects of its own.

Every function returns the ids of the prompts that it added. Ids that it does not name come from the table's sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import psycopg
from psycopg import sql

from benchmarks.volume.legacy import table

Connection = psycopg.Connection[Any]

# What timestamp can hold beyond the years 1 to 9999, and a NULL beside each.
FAR_STAMPS = ("infinity", "-infinity", "294276-12-31 23:59:59.999999", "4713-01-01 00:00:00 BC", "10000-01-01", None)


def huge_texts(
    connection: Connection,
    slug: str,
    *,
    rows: int = 1,
    megabytes: int = 50,
    column: Literal["genai_prompt", "genai_system_message"] = "genai_system_message",
) -> list[int]:
    """Prompts with a text of so many million bytes: a system message, which new can hold, or a prompt, which not."""
    other = "genai_system_message" if column == "genai_prompt" else "genai_prompt"
    statement = sql.SQL(
        "INSERT INTO {} (genai_type, {}, {}, enabled, created_at, updated_at, project_id)"
        " SELECT 1, repeat('Größe, 10 B! ', %(times)s), 'A short one.', true, {}, {}, project"
        " FROM unnest(%(projects)s::int[]) AS project RETURNING id"
    ).format(table(slug, "prompt"), sql.Identifier(column), sql.Identifier(other), _NOON, _NOON)
    # The text repeated has 15 bytes.
    given = {"times": -(-megabytes * 1_000_000 // 15), "projects": projects(connection, slug, rows)}
    return _ids(connection.execute(statement, given))


def crowd(connection: Connection, slug: str, rows: int) -> list[int]:
    """One project of so many prompts, all but the first disabled, each of a type of its own (Dispatch checks no type).

    Under scope policy ``project`` that is one scope. Under ``type`` legacy has none of more than two rows.
    """
    statement = sql.SQL(
        "INSERT INTO {} (genai_type, genai_prompt, enabled, created_at, updated_at, project_id)"
        " SELECT 100 + n, 'Say what happened to number ' || n || '.', n = 1, {}, {}, %(project)s"
        " FROM generate_series(1, %(rows)s::int) AS n RETURNING id"
    ).format(table(slug, "prompt"), _NOON, _NOON)
    [project] = projects(connection, slug, 1)
    return _ids(connection.execute(statement, {"project": project, "rows": rows}))


def holes(
    connection: Connection, slug: str, *, rows: int = 10, beginnings: Sequence[int] = (1_000_000_000, 2_000_000_000)
) -> list[int]:
    """So many prompts from each of these ids on, with nothing between; the sequence stays where it is."""
    statement = sql.SQL(
        "INSERT INTO {} (id, genai_type, genai_prompt, enabled, created_at, updated_at, project_id)"
        " SELECT %(first)s + n, 1, 'Far from the others.', true, {}, {}, (%(projects)s::int[])[n + 1]"
        " FROM generate_series(0, %(rows)s - 1) AS n RETURNING id"
    ).format(table(slug, "prompt"), _NOON, _NOON)
    found: list[int] = []
    for first in beginnings:
        given = {"first": first, "rows": rows, "projects": projects(connection, slug, rows)}
        found += _ids(connection.execute(statement, given))
    return found


def far_stamps(connection: Connection, slug: str, stamps: Sequence[str | None] = FAR_STAMPS) -> list[int]:
    """A prompt with each pair of these stamps as created_at and updated_at."""
    statement = sql.SQL(
        "INSERT INTO {} (genai_type, genai_prompt, enabled, created_at, updated_at, project_id)"
        " SELECT 1, 'Out of time.', true, c::timestamp, u::timestamp,"
        " (%(projects)s::int[])[row_number() OVER (ORDER BY m, n)]"
        " FROM unnest(%(stamps)s::text[]) WITH ORDINALITY AS created (c, m),"
        " unnest(%(stamps)s::text[]) WITH ORDINALITY AS updated (u, n) ORDER BY m, n RETURNING id"
    ).format(table(slug, "prompt"))
    given = {"stamps": list(stamps), "projects": projects(connection, slug, len(stamps) ** 2)}
    return _ids(connection.execute(statement, given))


def crowded_scope(connection: Connection, scope: str, rows: int) -> None:
    """So many disabled prompts of one scope in new, as its own applications may write them."""
    statement = (
        "INSERT INTO prompts (name, content, type, project_id, organization_id)"
        " SELECT 'Draft ' || n, 'Say what happened to number ' || n || '.', 'custom', %(scope)s::text,"
        " split_part(%(scope)s::text, '/', 1) FROM generate_series(1, %(rows)s::int) AS n"
    )
    connection.execute(statement, {"scope": scope, "rows": rows})


def projects(connection: Connection, slug: str, number: int) -> list[int]:
    """So many new projects; their ids."""
    statement = sql.SQL("INSERT INTO {} (name) SELECT 'Attic' FROM generate_series(1, %s) RETURNING id")
    return _ids(connection.execute(statement.format(table(slug, "project")), [number]))


def _ids(found: psycopg.Cursor[Any]) -> list[int]:
    return sorted(row[0] for row in found.fetchall())


_NOON = sql.SQL("TIMESTAMP '2024-02-29 12:00'")
