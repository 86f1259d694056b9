"""What legacy holds: tenants, rights, and one count over each tenant's prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Connection, Integer, Row, Subquery, and_, func, select, text, type_coerce
from sqlalchemy.dialects.postgresql import aggregate_order_by

from adapters.prompts.assessment.findings import BLOCKS, DECIDE, EXAMPLES, NOTE, Code, Finding, Severity, TenantCounts
from adapters.prompts.canonical import BY_NUMBER, REASONS, Reading
from adapters.prompts.discover import Problem, tenants_of
from adapters.prompts.dispatch import TENANT_PREFIX, canonical_select, tenant_tables
from adapters.prompts.workload import has_sidecar
from harness.evidence import counted

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


def count_tenant(connection: Connection, slug: str, reading: Reading) -> TenantCounts:
    """Count a tenant's prompts in one pass over their canonical reading."""
    _, prompt = tenant_tables(slug)
    own = prompt.c
    canonical = canonical_select(slug, prompt, reading, with_sidecar=has_sidecar(connection)).add_columns(
        own.id.label("local"),
        own.genai_type.label("local_type"),
        own.project_id.label("local_project"),
        own.created_at.label("local_created"),
        own.updated_at.label("local_updated"),
    )
    rows = canonical.subquery("rows")
    odd = _odd(rows)
    row = connection.execute(select(*_totals(rows), *_counted(rows, odd))).one()._mapping
    counts = {str(name): int(row[f"count {name}"]) for name in odd}
    crowds = connection.execute(_crowds(rows)).one()
    size = text("SELECT pg_total_relation_size(to_regclass(format('%I.%I', cast(:schema AS text), 'prompt')))")
    return TenantCounts(
        tenant=slug,
        **{name: int(row[name]) for name in _TOTALS},
        table_bytes=connection.execute(size, {"schema": prompt.schema}).scalar_one(),
        crowded_projects=crowds.projects,
        crowded_rows=int(crowds.rows),
        type_conflicts=int(connection.execute(_type_conflicts(rows)).scalar_one()),
        reasons={name: number for name, number in counts.items() if name in REASONS and number},
        odd={name: number for name, number in counts.items() if name not in REASONS and number},
        unknown_types={row[0]: row[1] for row in connection.execute(_unknown(rows))},
        examples={name: tuple(row[f"some {name}"]) for name, number in counts.items() if number},
    )


_TOTALS = (
    "rows",
    "enabled",
    "projects",
    "bytes",
    "with_system_message",
    "longest_content",
    "longest_system_message",
)


def _totals(rows: Subquery) -> list[ColumnElement[Any]]:
    content, message = rows.c.content, rows.c.system_message
    totals = (
        func.count(),
        func.count().filter(rows.c.enabled),
        func.count(rows.c.local_project.distinct()),
        func.coalesce(func.sum(func.octet_length(content) + func.coalesce(func.octet_length(message), 0)), 0),
        func.count(message),
        func.coalesce(func.max(func.char_length(content)), 0),
        func.coalesce(func.max(func.char_length(message)), 0),
    )
    return [total.label(name) for name, total in zip(_TOTALS, totals, strict=True)]


def _odd(rows: Subquery) -> dict[str, ColumnElement[bool]]:
    created, updated = rows.c.local_created.is_(None), rows.c.local_updated.is_(None)
    return {
        **{reason: rows.c.reason == reason for reason in REASONS},
        Code.UNKNOWN_TYPES: _is_unknown(rows),
        Code.ONE_STAMP_NULL: created != updated,
        Code.BOTH_STAMPS_NULL: and_(created, updated),
    }


def _counted(rows: Subquery, odd: dict[str, ColumnElement[bool]]) -> Iterator[ColumnElement[Any]]:
    for name, condition in odd.items():
        yield func.count().filter(condition).label(f"count {name}")
        ids = func.array_agg(aggregate_order_by(rows.c.local, rows.c.local)).filter(condition)
        yield type_coerce(ids, ARRAY(Integer))[1:EXAMPLES].label(f"some {name}")


def _is_unknown(rows: Subquery) -> ColumnElement[bool]:
    return rows.c.local_type.notin_(list(BY_NUMBER))


def _unknown(rows: Subquery) -> Any:
    times = func.count()
    return select(rows.c.local_type, times).where(_is_unknown(rows)).group_by(rows.c.local_type).order_by(times.desc())


def _crowds(rows: Subquery) -> Any:
    """Projects with more than one enabled prompt, and these prompts: in each other's way under policy ``project``."""
    several = select(func.count().label("enabled")).where(rows.c.enabled, rows.c.local_project.is_not(None))
    crowds = several.group_by(rows.c.local_project).having(func.count() > 1).subquery()
    return select(
        func.count().label("projects"), func.coalesce(func.sum(crowds.c.enabled), 0).label("rows")
    ).select_from(crowds)


def _type_conflicts(rows: Subquery) -> Any:
    """Enabled prompts beyond the first of their type and project. Dispatch's own constraint forbids them."""
    several = select((func.count() - 1).label("beyond")).where(rows.c.enabled, rows.c.local_project.is_not(None))
    places = several.group_by(rows.c.local_project, rows.c.local_type).having(func.count() > 1).subquery()
    return select(func.coalesce(func.sum(places.c.beyond), 0))
