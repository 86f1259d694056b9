"""Tenants are found as they are, and a database that is not ready is refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from adapters.prompts import invented
from adapters.prompts.discover import Problem, require_tenants, tenants
from adapters.prompts.dispatch_tables import tenant_schema
from harness.errors import StoreUnavailable

Sql = Callable[[str], None]
ONE = "dispatch_organization_default"


@pytest.fixture
def sql(legacy_engine: Engine) -> Sql:
    """Runs a statement on a Dispatch database of two tenants."""
    invented.create(legacy_engine, 1, organizations=2, projects=1, odd=False)

    def execute(statement: str) -> None:
        with legacy_engine.begin() as connection:
            connection.execute(text(statement))

    return execute


def problems(engine: Engine) -> set[tuple[str | None, Problem]]:
    return {(tenant.slug, complaint.problem) for tenant in tenants(engine) for complaint in tenant.problems}


def test_a_sound_database_has_its_tenants_and_no_problem(legacy_engine: Engine, sql: Sql) -> None:
    """Slugs in order, each with its schema."""
    assert [(tenant.slug, tenant.schema) for tenant in tenants(legacy_engine)] == [
        ("default", ONE),
        ("harbour_watch", "dispatch_organization_harbour_watch"),
    ]
    assert problems(legacy_engine) == set()
    assert require_tenants(legacy_engine) == ["default", "harbour_watch"]


@pytest.mark.parametrize("statement", ["SELECT 1", "CREATE SCHEMA dispatch_core"])
def test_another_database_is_refused(legacy_engine: Engine, statement: str) -> None:
    """Without dispatch_core.organization it is no Dispatch database."""
    with legacy_engine.begin() as connection:
        connection.execute(text(statement))
    with pytest.raises(StoreUnavailable, match=r"not a Dispatch database: .* dispatch_core\.organization"):
        require_tenants(legacy_engine)


def test_a_database_without_organizations_is_refused(legacy_engine: Engine) -> None:
    """There is nothing to migrate then."""
    invented.create(legacy_engine, 1, organizations=0)
    assert tenants(legacy_engine) == []
    with pytest.raises(StoreUnavailable, match="no organization"):
        require_tenants(legacy_engine)


@pytest.mark.parametrize(
    ("statement", "problem", "said"),
    [
        (f"DROP SCHEMA {ONE} CASCADE", Problem.NO_SCHEMA, f"organization 'default' has no schema {ONE}"),
        (f"DROP TABLE {ONE}.prompt", Problem.NO_PROMPT_TABLE, f"organization 'default' has no table {ONE}.prompt"),
        (
            f"ALTER TABLE {ONE}.prompt RENAME TO p; CREATE VIEW {ONE}.prompt AS SELECT * FROM {ONE}.p",
            Problem.NO_PROMPT_TABLE,
            "has no table",
        ),
        (
            f"ALTER TABLE {ONE}.prompt DROP COLUMN genai_system_message, ALTER created_at TYPE timestamptz",
            Problem.WRONG_COLUMNS,
            "genai_system_message is missing, created_at is timestamp with time zone",
        ),
        (f"ALTER TABLE {ONE}.prompt ALTER genai_type TYPE bigint", Problem.WRONG_COLUMNS, "genai_type is bigint"),
        ("UPDATE dispatch_core.organization SET slug = 'a/b' WHERE id = 1", Problem.UNFIT_SLUG, "no scope can be"),
    ],
)
def test_a_tenant_that_is_not_ready_is_refused_by_name(
    legacy_engine: Engine, sql: Sql, statement: str, problem: Problem, said: str
) -> None:
    """The message says which organization, and what it lacks; the other tenant is none the worse."""
    for part in statement.split(";"):
        sql(part)
    assert problem in {complaint for _, complaint in problems(legacy_engine)}
    assert [tenant.slug for tenant in tenants(legacy_engine) if tenant.usable] == ["harbour_watch"]
    with pytest.raises(StoreUnavailable, match="legacy is not ready: ") as caught:
        require_tenants(legacy_engine)
    assert said in str(caught.value)


def test_what_does_not_hinder_is_reported_and_let_pass(legacy_engine: Engine, sql: Sql) -> None:
    """Two organizations of one slug are one tenant; without a slug there is none; a stray schema belongs to nobody."""
    sql("INSERT INTO dispatch_core.organization (name, slug) VALUES ('Default again', 'default'), ('Nameless', NULL)")
    sql("CREATE SCHEMA dispatch_organization_gone")
    sql(f"DROP TABLE {ONE}.project CASCADE")
    assert problems(legacy_engine) == {
        ("default", Problem.DUPLICATE_SLUG),
        ("default", Problem.NO_PROJECT_TABLE),
        (None, Problem.NO_SLUG),
        (None, Problem.STRAY_SCHEMA),
    }
    assert require_tenants(legacy_engine) == ["default", "harbour_watch"]


@pytest.mark.parametrize("slug", ["s" * 60, "ö" * 30, "机" * 21])
def test_a_long_slugs_schema_is_found_as_the_server_cut_it(legacy_engine: Engine, sql: Sql, slug: str) -> None:
    """PostgreSQL cuts identifiers at 63 bytes, between characters."""
    sql(f'CREATE SCHEMA "dispatch_organization_{slug}"')
    sql(f"UPDATE dispatch_core.organization SET slug = '{slug}' WHERE id = 2")
    found = {tenant.slug: tenant for tenant in tenants(legacy_engine)}[slug]
    assert found.schema == tenant_schema(slug)
    assert not found.has(Problem.NO_SCHEMA)
    assert found.has(Problem.NO_PROMPT_TABLE)


def test_two_slugs_that_are_cut_to_one_schema_are_refused(legacy_engine: Engine, sql: Sql) -> None:
    """Otherwise each row of that schema would be migrated twice, under two organizations."""
    sql("UPDATE dispatch_core.organization SET slug = repeat('s', 50) || id")
    assert {problem for _, problem in problems(legacy_engine)} >= {Problem.SHARED_SCHEMA}
    with pytest.raises(StoreUnavailable, match="shares the schema"):
        require_tenants(legacy_engine)
