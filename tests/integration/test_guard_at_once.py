"""What the guard lets pass at once, it would let pass after a closer look too, and what it notes is the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
from fix_stores import Migration
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from adapters.postgres.guard import attach_guard
from adapters.postgres.guarding import NO_AUTHORITY
from harness.routing import Store

FILED = """
    SELECT part, operation, scope, before->>'id', after->>'id', before->>'project_id', after->>'project_id'
    FROM crossfade.rogue ORDER BY id
"""
COMMITTED = "READ COMMITTED"
TABLE = "dispatch_organization_acme.prompt"
HERE, THERE = "acme/project-1/incident-summary", "acme/project-2/incident-summary"
ROW = "WHERE id = 900"
RECORD = "WHERE id = '00000000-0000-4000-8000-000000000900'"

LEGACY = {
    "nothing": f"UPDATE {TABLE} SET enabled = enabled {ROW}",
    "content": f"UPDATE {TABLE} SET genai_prompt = 'other' {ROW}",
    "scope": f"UPDATE {TABLE} SET project_id = 2 {ROW}",
    "type": f"UPDATE {TABLE} SET genai_type = 99 {ROW}",
    "key": f"UPDATE {TABLE} SET id = 901 {ROW}",
    "both": f"UPDATE {TABLE} SET id = 901, project_id = 2 {ROW}",
    "out of all scopes": f"UPDATE {TABLE} SET project_id = NULL {ROW}",
    "several": f"UPDATE {TABLE} SET project_id = 2, enabled = (id = 900)",
    "insert": f"INSERT INTO {TABLE} (id, genai_type, genai_prompt, enabled, project_id) VALUES (902, -7, 'x', true, 1)",
    "insert without scope": f"INSERT INTO {TABLE} (id, genai_type, genai_prompt, enabled) VALUES (902, 2, 'x', true)",
    "delete": f"DELETE FROM {TABLE} {ROW}",
    "cascade": "DELETE FROM dispatch_organization_acme.project WHERE id = 1",
    "truncate": f"TRUNCATE {TABLE}",
}
INSERT = "INSERT INTO prompts (id, name, content, type, organization_id, enabled, project_id)"
NEW = {
    "nothing": f"UPDATE prompts SET enabled = enabled {RECORD}",
    "content": f"UPDATE prompts SET content = 'other' {RECORD}",
    "scope": f"UPDATE prompts SET project_id = '{THERE}' {RECORD}",
    "key": f"UPDATE prompts SET id = '00000000-0000-4000-8000-000000000901' {RECORD}",
    "both": f"UPDATE prompts SET id = '00000000-0000-4000-8000-000000000901', project_id = '{THERE}' {RECORD}",
    "out of all scopes": f"UPDATE prompts SET project_id = NULL {RECORD}",
    "insert": f"{INSERT} VALUES ('00000000-0000-4000-8000-000000000902', 'n', 'c', 'custom', 'acme', true, '{THERE}')",
    "insert without scope": f"{INSERT}"
    " VALUES ('00000000-0000-4000-8000-000000000902', 'n', 'c', 'custom', 'acme', true, NULL)",
    "delete": f"DELETE FROM prompts {RECORD}",
    "truncate": "TRUNCATE prompts",
}
ROUTES: list[tuple[float, dict[str, str]]] = [
    (0, {}),
    (0, {HERE: "new"}),
    (0, {"acme": "new", THERE: "legacy"}),
    (37.5, {}),
    (37.5, {THERE: "new"}),
    (100, {}),
    (100, {HERE: "legacy"}),
    (100, {"somebody else": "legacy"}),
]


@pytest.fixture
def standing(prepared_migration: Migration) -> Migration:
    """One row of the same scope in each store, of known keys; legacy's has an entry in the sidecar."""
    prepared_migration.sql(
        f"INSERT INTO {TABLE} (id, genai_type, genai_prompt, enabled, project_id) VALUES (900, 2, 'x', true, 1)"
    )
    prepared_migration.sql(
        "INSERT INTO crossfade.sidecar (organization, legacy_id, id)"
        " VALUES ('acme', 900, '00000000-0000-4000-8000-000000000900')"
    )
    values = f"VALUES ('00000000-0000-4000-8000-000000000900', 'n', 'c', 'custom', 'acme', true, '{HERE}')"
    prepared_migration.behind(f"{INSERT} {values}")
    return prepared_migration


def test_decides_and_notes_as_a_closer_look_does(standing: Migration) -> None:
    """Whatever the write, mode and route: it is refused, noted and filed alike at each isolation level.

    Only READ COMMITTED has the short way. READ UNCOMMITTED is the same to PostgreSQL, and goes the long one.
    """
    seen = set()
    for engine, statements in ((standing.stores.legacy, LEGACY), (standing.stores.new, NEW)):
        for (percent, pins), mode, (name, statement) in product(
            ROUTES, ("enforce", "record", "off"), statements.items()
        ):
            found = {
                level: outcome(engine, level, percent, pins, mode, statement)
                for level in (COMMITTED, "READ UNCOMMITTED", "REPEATABLE READ")
            }
            short = found[COMMITTED]
            assert all(each == short for each in found.values()), (name, percent, pins, mode, found)
            assert short.refused is None or short.refused[0] == NO_AUTHORITY
            seen.add((engine, short.refused is None, bool(short.notes), bool(short.rogues)))
    # On each side some were refused, some noted, and some filed too: the comparison has seen all there is.
    for engine in (standing.stores.legacy, standing.stores.new):
        assert {(engine, False, False, False), (engine, True, True, False), (engine, True, True, True)} <= seen


def test_scope_need_not_be_said_by_columns(standing: Migration) -> None:
    """A part that does not say on which columns its scope depends is guarded and noted just the same."""
    stores = standing.stores
    parts = [(stores.legacy, Store.LEGACY, stores.mapping.parts[0], LEGACY)]
    parts.append((stores.new, Store.NEW, stores.giving_part, NEW))
    for engine, store, part, statements in parts:
        share = 0 if store is Store.LEGACY else 100
        named = {name: outcome(engine, COMMITTED, share, {}, "enforce", each) for name, each in statements.items()}
        assert attach_guard(engine, store, replace(part, scope_by=None))
        unnamed = {name: outcome(engine, COMMITTED, share, {}, "enforce", each) for name, each in statements.items()}
        assert unnamed == named
        assert [scope for _, scope, *_ in unnamed["content"].notes] == [HERE]
        assert {scope for _, scope, *_ in unnamed["scope"].notes} == {HERE, THERE}


@dataclass(frozen=True)
class Outcome:
    """What the writer was told, if it was refused; what was noted and what was filed."""

    refused: tuple[str, str] | None
    notes: list[Any]
    rogues: list[Any]


def outcome(engine: Engine, level: str, percent: float, pins: dict[str, str], mode: str, statement: str) -> Outcome:
    """What becomes of the statement in a transaction of its own, which is rolled back, under a route of its own."""
    with engine.connect().execution_options(isolation_level=level) as connection:
        connection.execute(
            text("UPDATE crossfade.route SET writes_percent = :percent, pins = cast(:pins AS jsonb), guard = :mode"),
            {"percent": percent, "pins": json.dumps(pins), "mode": mode},
        )
        connection.execute(text("DELETE FROM crossfade.dirty"))
        refused = refusal(connection, statement)
        notes = connection.execute(text("SELECT part, scope, key, local, cascade FROM crossfade.dirty ORDER BY seq"))
        rogues = connection.execute(text(FILED))
        found = Outcome(refused, [tuple(row) for row in notes], [tuple(row) for row in rogues])
        connection.rollback()
    return found


def refusal(connection: Connection, statement: str) -> tuple[str, str] | None:
    """The state and the words with which the statement is refused, undone then; None if it was let through."""
    try:
        with connection.begin_nested():
            connection.execute(text(statement))
    except DBAPIError as error:
        told: Any = error.orig
        return told.sqlstate, told.diag.message_primary
    return None
