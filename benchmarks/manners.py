"""How a writer writes one prompt by plain psycopg, in either store: in the barest way there is, or as a service does.

``bare`` is one statement that is a transaction of its own. Beside it nothing costs anything, so our triggers weigh
most. ``service`` sends what the store's own service sends. Dispatch, as recorded: it loads the prompt, writes it,
commits, and loads it again for its answer; before it creates one it looks for the project, and for one of the type that
is enabled. Prompt Manager, by its document: it loads the prompt, and writes all of its columns in a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from adapters.prompts.dispatch_tables import tenant_schema

Connection = psycopg.Connection[Any]
Values = Mapping[str, object]  # scope, organization, project, type, text
Write = Callable[[Connection, str, str, Values], int]  # place, and insert, update or delete; how many rows that was

# By a unique index, as by a primary key: in both stores one enabled prompt stands in a scope.
_LEGACY: dict[str, LiteralString] = {
    "find": "SELECT * FROM {prompt} WHERE project_id = %(project)s AND genai_type = %(type)s AND enabled LIMIT 1",
    "insert": "INSERT INTO {prompt} (genai_type, genai_prompt, enabled, created_at, updated_at, project_id)"
    " VALUES (%(type)s, %(text)s, true, now(), now(), %(project)s)",
    "update": "UPDATE {prompt} SET genai_prompt = %(text)s, updated_at = now()"
    " WHERE project_id = %(project)s AND genai_type = %(type)s AND enabled",
    "delete": "DELETE FROM {prompt} WHERE project_id = %(project)s AND genai_type = %(type)s AND enabled",
    "find project": "SELECT * FROM {project} WHERE id = %(project)s",
    "find by id": "SELECT * FROM {prompt} WHERE id = %(id)s",
    "insert as a service": "INSERT INTO {prompt} (genai_type, genai_prompt, genai_system_message, enabled, created_at,"
    " updated_at, project_id) VALUES (%(type)s, %(text)s, NULL, true, %(now)s, %(now)s, %(project)s) RETURNING id",
    "update as a service": "UPDATE {prompt} SET genai_prompt = %(text)s, updated_at = %(now)s WHERE id = %(id)s",
    "delete as a service": "DELETE FROM {prompt} WHERE id = %(id)s",
}
_NEW: dict[str, LiteralString] = {
    "find": "SELECT * FROM prompts WHERE project_id = %(scope)s AND enabled",
    "insert": "INSERT INTO prompts (name, content, type, project_id, organization_id, enabled)"
    " VALUES ('Benchmark', %(text)s, 'custom', %(scope)s, %(organization)s, true)",
    "update": "UPDATE prompts SET content = %(text)s WHERE project_id = %(scope)s AND enabled",
    "delete": "DELETE FROM prompts WHERE project_id = %(scope)s AND enabled",
    "insert as a service": "INSERT INTO prompts (id, name, description, content, type, project_id, organization_id,"
    " enabled, version, created_at, updated_at) VALUES (%(id)s, %(name)s, %(description)s, %(content)s, %(type)s,"
    " %(project_id)s, %(organization_id)s, %(enabled)s, %(version)s, %(now)s, %(now)s) RETURNING *",
    "update as a service": "UPDATE prompts SET (name, description, content, type, project_id, organization_id, enabled,"
    " version, updated_at) = (%(name)s, %(description)s, %(content)s, %(type)s, %(project_id)s, %(organization_id)s,"
    " %(enabled)s, %(version)s, %(now)s) WHERE id = %(id)s RETURNING *",
    "delete as a service": "DELETE FROM prompts WHERE id = %(id)s",
}


def present(connection: Connection, place: str, values: Values) -> str | None:
    """The text that the store holds in the scope, if any."""
    row = _run(connection, place, "find", values).fetchone()
    return None if row is None else str(row["content" if _is_new(place) else "genai_prompt"])


def bare(connection: Connection, place: str, verb: str, values: Values) -> int:
    return _run(connection, place, verb, values).rowcount


def service(connection: Connection, place: str, verb: str, values: Values) -> int:
    write = _prompt_manager if _is_new(place) else _dispatch
    return write(connection, place, verb, {**values, "now": datetime.now(UTC)})


def _dispatch(connection: Connection, place: str, verb: str, values: Values) -> int:
    with connection.transaction():
        if verb == "insert":
            _run(connection, place, "find project", values)
        row = _run(connection, place, "find", values).fetchone()
        written = _run(connection, place, f"{verb} as a service", {**values, "id": row and row["id"]})
        if verb == "insert":
            row = written.fetchone()
    if verb != "delete":
        with connection.transaction():
            _run(connection, place, "find by id", {**values, "id": row and row["id"]})
    return written.rowcount


def _prompt_manager(connection: Connection, place: str, verb: str, values: Values) -> int:
    prompt: Values
    if verb == "insert":
        prompt = {
            "id": uuid4(),
            "name": "Benchmark",
            "description": None,
            "type": "custom",
            "project_id": values["scope"],
            "organization_id": values["organization"],
            "enabled": True,
            "version": 1,
        }
    else:
        found = _run(connection, place, "find", values).fetchone()
        if found is None:
            return 0
        prompt = {**found, "version": found["version"] + 1}
    with connection.transaction():
        changed = {**prompt, "content": values["text"], "now": values["now"]}
        return _run(connection, place, f"{verb} as a service", changed).rowcount


def _run(connection: Connection, place: str, name: str, values: Values) -> psycopg.Cursor[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(_statement(_is_new(place), name, str(values.get("organization"))), values)


@cache
def _statement(in_new: bool, name: str, organization: str) -> bytes:
    if in_new:
        return sql.SQL(_NEW[name]).as_bytes(None)
    prompt, project = (sql.Identifier(tenant_schema(organization), table) for table in ("prompt", "project"))
    return sql.SQL(_LEGACY[name]).format(prompt=prompt, project=project).as_bytes(None)


def _is_new(place: str) -> bool:
    return place.endswith("new")


MANNERS: Mapping[str, Write] = {"bare": bare, "service": service}
