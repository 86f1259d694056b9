"""Which tenants a Dispatch database has, and what is wrong with them. Reads the catalog only; writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Engine, Integer, MetaData, String, Table, exists, select, text

from adapters.postgres.errors import speaking_for
from adapters.prompts.dispatch_tables import CORE_SCHEMA, TENANT_PREFIX, tenant_schema, tenant_tables
from harness.errors import StoreUnavailable
from harness.routing import Store

OWN_PROJECT = "crossfade run "  # the projects that a parallel run adds for its own writes are named so

organization = Table(
    "organization",
    MetaData(schema=CORE_SCHEMA),
    Column("id", Integer, primary_key=True),
    Column("name", String, unique=True),
    Column("slug", String),
    Column("default", Boolean),
    Column("description", String),
)


class Problem(StrEnum):
    """What is wrong with a tenant."""

    NO_SLUG = "no_slug"
    UNFIT_SLUG = "unfit_slug"
    DUPLICATE_SLUG = "duplicate_slug"
    SHARED_SCHEMA = "shared_schema"
    NO_SCHEMA = "no_schema"
    NO_PROMPT_TABLE = "no_prompt_table"
    NO_PROJECT_TABLE = "no_project_table"
    WRONG_COLUMNS = "wrong_columns"
    STRAY_SCHEMA = "stray_schema"


BLOCKING = frozenset(
    {
        Problem.UNFIT_SLUG,
        Problem.SHARED_SCHEMA,
        Problem.NO_SCHEMA,
        Problem.NO_PROMPT_TABLE,
        Problem.WRONG_COLUMNS,
    }
)

_TEXTS = frozenset({"character varying", "text"})
_INTEGERS = frozenset({"integer", "smallint"})
_STAMPS = frozenset({"timestamp without time zone"})  # a zoned one would be converted the other way round
PROMPT_COLUMNS: Mapping[str, frozenset[str]] = {
    "id": _INTEGERS,
    "genai_type": _INTEGERS,
    "genai_prompt": _TEXTS,
    "genai_system_message": _TEXTS,
    "enabled": frozenset({"boolean"}),
    "created_at": _STAMPS,
    "updated_at": _STAMPS,
    "project_id": _INTEGERS,
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """One problem with the sentence that explains it."""

    problem: Problem
    text: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization and its schema. ``slug`` is None where the organization has none, or the schema is a stray."""

    slug: str | None
    schema: str | None
    problems: tuple[Complaint, ...] = ()

    def has(self, problem: Problem) -> bool:
        return any(complaint.problem is problem for complaint in self.problems)

    @property
    def usable(self) -> bool:
        """Whether its prompts can be read."""
        return self.slug is not None and not any(complaint.problem in BLOCKING for complaint in self.problems)


def tenants(engine: Engine) -> list[Tenant]:
    """Every organization once, by slug, then organizations without a slug, then stray schemas.

    Raises StoreUnavailable if this is no Dispatch database at all.
    """
    with speaking_for(Store.LEGACY), engine.connect() as connection:
        return tenants_of(connection)


def tenants_of(connection: Connection) -> list[Tenant]:
    """``tenants``, within a transaction under way."""
    slugs = _slugs(connection)
    columns = _columns(connection)
    schemas = _schemas(connection)
    named = Counter(slug for slug in slugs if slug is not None)
    shared = Counter(tenant_schema(slug) for slug in named)
    found = [_tenant(slug, times, shared, schemas, columns) for slug, times in sorted(named.items())]
    found += [
        Tenant(None, None, (Complaint(Problem.NO_SLUG, "an organization has no slug, hence no tenant schema"),))
        for _ in range(slugs.count(None))
    ]
    found += [
        Tenant(
            None, schema, (Complaint(Problem.STRAY_SCHEMA, f"the schema {schema} belongs to no organization's slug"),)
        )
        for schema in sorted(schemas - set(shared))
    ]
    return found


def require_tenants(engine: Engine) -> list[str]:
    """The slugs of all tenants, fit to be migrated. Raises StoreUnavailable, with one message, if any is not."""
    found = tenants(engine)
    complaints = [complaint for tenant in found for complaint in tenant.problems if complaint.problem in BLOCKING]
    if complaints:
        reasons = "; ".join(complaint.text for complaint in complaints)
        raise StoreUnavailable(f"legacy is not ready: {reasons}. Repair it in Dispatch; crossfade assess lists all")
    slugs = [tenant.slug for tenant in found if tenant.slug is not None]
    if not slugs:
        raise StoreUnavailable(
            "legacy has no organization with a slug, so there are no prompts to migrate; "
            "check the database's name in CROSSFADE_LEGACY_URL"
        )
    return slugs


def _slugs(connection: Connection) -> list[str | None]:
    if connection.execute(text("SELECT to_regclass(:name)"), {"name": organization.fullname}).scalar() is None:
        raise StoreUnavailable(
            f"legacy is not a Dispatch database: it has no table {organization.fullname}; "
            "check the database's name in CROSSFADE_LEGACY_URL"
        )
    return list(connection.execute(select(organization.c.slug).order_by(organization.c.id)).scalars())


def _schemas(connection: Connection) -> set[str]:
    query = text("SELECT nspname FROM pg_catalog.pg_namespace WHERE starts_with(nspname::text, :prefix)")
    return set(connection.execute(query, {"prefix": TENANT_PREFIX}).scalars())


def _columns(connection: Connection) -> dict[tuple[str, str], dict[str, str]]:
    """By schema and table: each column's type, without its length."""
    query = text(
        """
        SELECT n.nspname, c.relname, a.attname, a.atttypid::regtype::text AS type
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE starts_with(n.nspname::text, :prefix) AND c.relname IN ('prompt', 'project') AND c.relkind IN ('r', 'p')
        """
    )
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in connection.execute(query, {"prefix": TENANT_PREFIX}):
        found.setdefault((row.nspname, row.relname), {})[row.attname] = row.type
    return found


def _tenant(
    slug: str,
    times: int,
    shared: Counter[str],
    schemas: set[str],
    columns: Mapping[tuple[str, str], dict[str, str]],
) -> Tenant:
    schema = tenant_schema(slug)
    who = f"organization {slug!r}"
    problems: list[tuple[Problem, str]] = []
    if not slug or "/" in slug:
        problems.append((Problem.UNFIT_SLUG, f"{who} has a slug that no scope can be named after (empty or with a /)"))
    if times > 1:
        problems.append((Problem.DUPLICATE_SLUG, f"{times} organizations have the slug {slug!r}; they are one tenant"))
    if shared[schema] > 1:
        problems.append((Problem.SHARED_SCHEMA, f"{who} shares the schema {schema} with another (long names are cut)"))
    if schema not in schemas:
        problems.append((Problem.NO_SCHEMA, f"{who} has no schema {schema}"))
    else:
        problems += _table_problems(who, schema, columns)
    return Tenant(slug, schema, tuple(Complaint(*problem) for problem in problems))


def _table_problems(
    who: str, schema: str, columns: Mapping[tuple[str, str], dict[str, str]]
) -> list[tuple[Problem, str]]:
    problems: list[tuple[Problem, str]] = []
    if (schema, "project") not in columns:
        problems.append((Problem.NO_PROJECT_TABLE, f"{who} has no table {schema}.project"))
    prompt: Any = columns.get((schema, "prompt"))
    if prompt is None:
        return [*problems, (Problem.NO_PROMPT_TABLE, f"{who} has no table {schema}.prompt")]
    wrong = [
        f"{name} is {prompt[name]}" if name in prompt else f"{name} is missing"
        for name, fit in PROMPT_COLUMNS.items()
        if prompt.get(name) not in fit
    ]
    if wrong:
        problems.append((Problem.WRONG_COLUMNS, f"{who}: {schema}.prompt is not Dispatch's: {', '.join(wrong)}"))
    return problems


def has_project(connection: Connection, organization: str, number: int) -> bool:
    """Whether the tenant has the project."""
    project, _ = tenant_tables(organization)
    return bool(connection.execute(select(exists().where(project.c.id == number))).scalar_one())
