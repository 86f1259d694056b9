"""The witness: triggers of the test's own that write down each write a store accepts, in the writer's transaction.

They hold against the product what it does not know of: a row is there if, and only if, the write was committed.
Sessions that carry state over are no writers and leave no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

import psycopg
from psycopg import sql

from adapters.prompts.canonical import LEGACY_TYPES
from adapters.prompts.dispatch_tables import tenant_schema
from chaos.checker import Held, Witnessed
from harness.routing import Store

_TABLE = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.witness (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    epoch bigint NOT NULL,
    scopes text[] NOT NULL,
    before text,
    after text,
    client text NOT NULL DEFAULT current_setting('application_name')
);
"""

# After the guard (BEFORE) has let the row pass, under the row's own lock: so numbers follow the order of commits.
_FUNCTION = """
CREATE FUNCTION chaos.witness() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    places text[] := '{{}}';
    was text;
    became text;
BEGIN
    IF current_setting('crossfade.applying', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        was := {old_text};
        places := ARRAY[{old_scope}];
    END IF;
    IF TG_OP <> 'DELETE' THEN
        became := {new_text};
        IF places <> ARRAY[{new_scope}] THEN
            places := array_append(places, {new_scope});
        END IF;
    END IF;
    INSERT INTO chaos.witness (epoch, scopes, before, after)
    VALUES ((SELECT epoch FROM crossfade.route), places, was, became);
    RETURN NULL;
END
$$;
"""


def legacy_scope(row: LiteralString) -> sql.Composable:
    """The scope of a row of a prompt table, the organization being the trigger's argument."""
    slugs = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(known.number), sql.Literal(known.slug)) for known in LEGACY_TYPES
    )
    scope = "TG_ARGV[0] || '/project-' || {row}.project_id || '/' || CASE {row}.genai_type {slugs} END"
    return sql.SQL(scope).format(row=sql.SQL(row), slugs=slugs)


def install_in_legacy(connection: psycopg.Connection, tenants: Sequence[str]) -> None:
    function = sql.SQL(_FUNCTION).format(
        old_text=sql.SQL("OLD.genai_prompt"),
        new_text=sql.SQL("NEW.genai_prompt"),
        old_scope=legacy_scope("OLD"),
        new_scope=legacy_scope("NEW"),
    )
    connection.execute(_TABLE)
    connection.execute(function)
    for tenant in tenants:
        _attach(connection, sql.Identifier(tenant_schema(tenant), "prompt"), tenant)


def install_in_new(connection: psycopg.Connection) -> None:
    function = sql.SQL(_FUNCTION).format(
        old_text=sql.SQL("OLD.content"),
        new_text=sql.SQL("NEW.content"),
        old_scope=sql.SQL("OLD.project_id::text"),
        new_scope=sql.SQL("NEW.project_id::text"),
    )
    connection.execute(_TABLE)
    connection.execute(function)
    _attach(connection, sql.Identifier("prompts"), "")


def _attach(connection: psycopg.Connection, table: sql.Identifier, organization: str) -> None:
    trigger = "CREATE TRIGGER chaos_witness AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION {}({})"
    function = sql.Identifier("chaos", "witness")
    connection.execute(sql.SQL(trigger).format(table, function, sql.Literal(organization)))


def witnessed(connection: psycopg.Connection, store: Store) -> list[Witnessed]:
    rows = connection.execute("SELECT number, epoch, scopes, before, after, client FROM chaos.witness ORDER BY number")
    return [
        Witnessed(store, number, epoch, tuple(scopes), before, after, client)
        for number, epoch, scopes, before, after, client in rows
    ]


def held_in_legacy(connection: psycopg.Connection, tenants: Sequence[str]) -> list[Held]:
    """All rows of legacy, by the witness's own reading of it."""
    slugs = {known.number: known.slug for known in LEGACY_TYPES}
    found = []
    for tenant in tenants:
        table = sql.Identifier(tenant_schema(tenant), "prompt")
        rows = connection.execute(sql.SQL("SELECT project_id, genai_type, genai_prompt FROM {}").format(table))
        found += [Held(f"{tenant}/project-{project}/{slugs[kind]}", text) for project, kind, text in rows]
    return found


def held_in_new(connection: psycopg.Connection) -> list[Held]:
    return [Held(scope, text) for scope, text in connection.execute("SELECT project_id, content FROM prompts")]
