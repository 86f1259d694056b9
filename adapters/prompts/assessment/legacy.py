"""What legacy is like: its tenants, and our rights on their tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from adapters.prompts.assessment.findings import BLOCKS, DECIDE, EXAMPLES, NOTE, Code, Finding, Severity, TenantCounts
from adapters.prompts.canonical import Reading
from adapters.prompts.discover import Problem, tenants_of
from adapters.prompts.dispatch_tables import TENANT_PREFIX, tenant_schema
from harness.words import counted

_SEVERITY: dict[Problem, Severity] = {
    Problem.UNFIT_SLUG: BLOCKS,
    Problem.SHARED_SCHEMA: BLOCKS,
    Problem.NO_SCHEMA: BLOCKS,
    Problem.NO_PROMPT_TABLE: BLOCKS,
    Problem.WRONG_COLUMNS: BLOCKS,
    Problem.NO_SLUG: NOTE,
    Problem.DUPLICATE_SLUG: NOTE,
    Problem.NO_PROJECT_TABLE: DECIDE,
    Problem.STRAY_SCHEMA: NOTE,
}
_MANY = 20_000  # rows; below it a scan for each of them does no harm


def tenant_findings(connection: Connection) -> Iterator[Finding]:
    """The tenants' problems, and having none at all."""
    found = tenants_of(connection)
    for tenant in found:
        for complaint in tenant.problems:
            yield Finding(complaint.problem, _SEVERITY[complaint.problem], 1, complaint.text)
    if not any(tenant.slug is not None for tenant in found):
        told = "legacy has no organization with a slug, so there is nothing to migrate; check CROSSFADE_LEGACY_URL"
        yield Finding(Code.NO_TENANT, BLOCKS, 1, told)


def readable_tenants(connection: Connection) -> list[str]:
    """The slugs of tenants whose prompts can be counted."""
    readable = {row.schema for row in _rights(connection) if row.may_read}
    return [str(tenant.slug) for tenant in tenants_of(connection) if tenant.usable and tenant.schema in readable]


def legacy_findings(connection: Connection) -> Iterator[Finding]:
    """Rights that are missing on the tenants' tables."""
    tables = _rights(connection)
    for right, severity, told in (
        ("may_read", BLOCKS, "our user may not read {}; grant it USAGE on the schema and SELECT on the table"),
        ("may_trigger", BLOCKS, "our user may not attach capture to {}; grant it TRIGGER there"),
        (
            "owns",
            DECIDE,
            "our user is not among the owners of {}, so it cannot put the index on computed ids there; make it a "
            "member of the owner, or use crossfade prepare --no-id-index",
        ),
    ):
        if lacking := [f"{table.schema}.prompt" for table in tables if not getattr(table, right)]:
            meaning = told.format(counted(len(lacking), "prompt table"))
            yield Finding(Code.RIGHTS, severity, len(lacking), meaning, tuple(lacking[:EXAMPLES]))


def _rights(connection: Connection) -> list[Row[Any]]:
    query = text(
        """
        SELECT n.nspname AS schema,
            has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS may_read,
            has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'TRIGGER') AS may_trigger,
            pg_has_role(c.relowner, 'USAGE') AS owns
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = 'prompt' AND c.relkind IN ('r', 'p') AND starts_with(n.nspname::text, :prefix)
        ORDER BY n.nspname
        """
    )
    return list(connection.execute(query, {"prefix": TENANT_PREFIX}))


def index_findings(connection: Connection, tenants: Sequence[TenantCounts], reading: Reading) -> Iterator[Finding]:
    """Large tables without an index by project, under the policy that asks every enabled prompt for its rivals."""
    if reading.by_type:
        return
    query = text(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid"
        " WHERE i.indrelid = to_regclass(format('%I.%I', cast(:schema AS text), 'prompt')) AND i.indisvalid"
        " AND a.attname = 'project_id' AND i.indkey[0] = a.attnum)"
    )
    schemas = [tenant_schema(tenant.tenant) for tenant in tenants if tenant.rows > _MANY]
    if lacking := [name for name in schemas if not connection.execute(query, {"schema": name}).scalar_one()]:
        told = (
            f"{counted(len(lacking), 'large prompt table')} without an index on project_id, by which scope_policy = "
            '"project" looks for the other enabled prompts of each one: copy and verify would take far longer than '
            "estimated; CREATE INDEX CONCURRENTLY one there for the time of the migration"
        )
        yield Finding(Code.PROJECT_INDEX, DECIDE, len(lacking), told, tuple(lacking[:EXAMPLES]))
