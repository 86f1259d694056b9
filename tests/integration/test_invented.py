"""The invented Dispatch database and the writer that acts as Dispatch."""

from __future__ import annotations

from collections import Counter

import pytest
from fix_postgres import Databases, engine_for
from sqlalchemy import Engine, Row, text

from adapters.prompts.canonical import Reading
from adapters.prompts.discover import OWN_PROJECT, require_tenants
from adapters.prompts.dispatch import canonical_select
from adapters.prompts.dispatch_tables import tenant_schema, tenant_tables
from adapters.prompts.invented import create
from adapters.prompts.invented_writer import LegacyWriter
from harness.routing import Store


def dump(engine: Engine, *columns: str) -> dict[str, list[Row[tuple[object, ...]]]]:
    """All prompts of all tenants, by slug, in the order of their ids."""
    chosen = ", ".join(columns or ("id", "genai_type", "genai_prompt", "genai_system_message", "enabled", "project_id"))
    with engine.connect() as connection:
        return {
            slug: list(connection.execute(text(f"SELECT {chosen} FROM {tenant_schema(slug)}.prompt ORDER BY id")))
            for slug in require_tenants(engine)
        }


def test_the_summary_counts_what_is_there(legacy_engine: Engine) -> None:
    """Rows, enabled ones, and each reason for quarantine, as the canonical SELECT finds them."""
    made = create(legacy_engine, 5, organizations=3, projects=4)
    rows = [row for of_tenant in dump(legacy_engine).values() for row in of_tenant]
    assert len(rows) == made.rows
    assert sum(row.enabled for row in rows) == made.enabled
    reasons: Counter[str] = Counter()
    with legacy_engine.connect() as connection:
        for slug in made.organizations:
            chosen = canonical_select(slug, tenant_tables(slug)[1], Reading(), with_sidecar=False)
            reasons.update(row.reason for row in connection.execute(chosen) if row.reason)
        projects = sum(
            connection.execute(text(f"SELECT count(*) FROM {tenant_schema(slug)}.project")).scalar_one()
            for slug in made.organizations
        )
    assert reasons == made.quarantined
    assert reasons == {"no_project": 2, "empty_content": 1, "content_too_long": 1}
    assert made.representable == made.rows - 4
    assert projects == made.projects


def test_every_oddity_is_there(legacy_engine: Engine) -> None:
    """What Dispatch lets in and nobody expects, each at least once."""
    create(legacy_engine, 5, organizations=1)
    rows = dump(legacy_engine, "genai_type", "char_length(genai_prompt) AS long", "genai_system_message AS system",
                "created_at", "updated_at", "project_id")["default"]  # fmt: skip
    assert {0, -5, 99} <= {row.genai_type for row in rows}
    assert {0, 10_000, 12_000} <= {row.long for row in rows}
    assert {None, ""} <= {row.system for row in rows}
    assert {(True, True), (True, False), (False, True)} <= {
        (row.created_at is None, row.updated_at is None) for row in rows
    }
    assert [row for row in rows if row.project_id is None]
    assert {1, 2, 3, 4, 5} <= {row.genai_type for row in rows}


def test_texts_and_stamps_are_of_many_kinds(legacy_engine: Engine) -> None:
    """Letters of several scripts, unusual white space, lengths and years that differ; created before updated."""
    create(legacy_engine, 5, odd=False)
    rows = [
        row
        for of_tenant in dump(legacy_engine, "genai_prompt", "created_at", "updated_at").values()
        for row in of_tenant
    ]
    whole = "".join(row.genai_prompt for row in rows)
    assert all(mark in whole for mark in ("\u00a0", "\t", "\n", "\u0301", "👩🏽‍🚒", "用", "%", "\\", "'"))
    assert {row.created_at.year for row in rows} == {2023, 2024, 2025}
    assert all(0 < (row.updated_at - row.created_at).microseconds < 10 for row in rows)
    assert min(len(row.genai_prompt) for row in rows) < 200 < 1_500 < max(len(row.genai_prompt) for row in rows)


def test_the_seed_decides_everything(databases: Databases, legacy_engine: Engine) -> None:
    """One seed makes the same rows in another database, and the writer does the same acts on them."""
    create(legacy_engine, 9, organizations=2, projects=2)
    writer = LegacyWriter(legacy_engine, 4)
    acts = [writer.step() for _ in range(60)]
    with engine_for(databases.new_url, Store.LEGACY) as other:
        create(other, 9, organizations=2, projects=2)
        again = LegacyWriter(other, 4)
        assert [again.step() for _ in range(60)] == acts
        assert dump(other) == dump(legacy_engine)


def test_column_order_differs_from_tenant_to_tenant(legacy_engine: Engine) -> None:
    """As in Dispatch: whoever copies by position is found out."""
    create(legacy_engine, 1, organizations=2, projects=1)
    orders = []
    with legacy_engine.connect() as connection:
        for slug in require_tenants(legacy_engine):
            orders.append(list(connection.execute(text(f"SELECT * FROM {tenant_schema(slug)}.prompt")).keys()))
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_uniqueness_speaks_at_commit(legacy_engine: Engine) -> None:
    """The rule of type, project and enabled is deferred, as Dispatch's is."""
    create(legacy_engine, 1, organizations=1, projects=1)
    with legacy_engine.connect() as connection:
        rule = "SELECT condeferrable, condeferred FROM pg_constraint WHERE conname = 'uq_prompt_type_project_enabled'"
        assert connection.execute(text(rule)).one() == (True, True)


def test_the_writer_does_each_act_and_keeps_to_dispatchs_rules(legacy_engine: Engine) -> None:
    """Every act comes up, some are rejected at commit, and what stays obeys the rule of one per type and state."""
    create(legacy_engine, 2, organizations=2, projects=3)
    writer = LegacyWriter(legacy_engine, 8)
    acts = Counter(writer.step() for _ in range(500))
    assert acts.keys() >= {
        "insert",
        "insert rejected",
        "update",
        "update rejected",
        "swap",
        "delete",
        "lengthen",
        "shorten",
        "add project",
        "delete project",
    }
    for rows in dump(legacy_engine).values():
        places = [(row.genai_type, row.project_id, row.enabled) for row in rows if row.project_id is not None]
        assert len(places) == len(set(places))


def test_the_writer_finds_something_to_do_in_an_empty_tenant(legacy_engine: Engine) -> None:
    """Without rows it inserts; without projects it adds one."""
    create(legacy_engine, 2, organizations=1, projects=0, odd=False)
    writer = LegacyWriter(legacy_engine, 8)
    assert writer.step() in {"add project"}
    assert "insert" in {writer.step() for _ in range(20)}


@pytest.mark.parametrize("seed", range(3))
def test_the_writer_leaves_a_parallel_runs_own_project_alone(legacy_engine: Engine, seed: int) -> None:
    """Otherwise a run's writes would fail for reasons that are none of its own."""
    create(legacy_engine, 2, organizations=1, projects=0, odd=False)
    with legacy_engine.begin() as connection:
        insert = f"INSERT INTO {tenant_schema('default')}.project (name) VALUES ('{OWN_PROJECT}x') RETURNING id"
        own = connection.execute(text(insert)).scalar_one()
    writer = LegacyWriter(legacy_engine, seed)
    for _ in range(60):
        writer.step()
    assert own not in {row.project_id for row in dump(legacy_engine)["default"]}
    with legacy_engine.connect() as connection:
        found = connection.execute(text(f"SELECT id FROM {tenant_schema('default')}.project WHERE id = {own}"))
        assert found.scalar_one() == own
