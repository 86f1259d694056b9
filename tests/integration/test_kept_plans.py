"""The plans that a worker keeps: made when tables held little, they must do when these hold much, and much has gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from fix_stores import Migration
from sqlalchemy import Engine

from adapters.prompts.migration import Stores, opened
from harness.routing import Store

SESSIONS = 4  # more than a worker uses at once
ROUNDS = 8  # the driver prepares a statement that it sends for the sixth time


def kept_plans(engine: Engine) -> dict[str, list[str]]:
    """The plans of the statements prepared in any of the sessions that the engine has had, by their texts."""
    found = {}
    with ExitStack() as stack:
        for connection in [stack.enter_context(engine.connect()) for _ in range(SESSIONS)]:
            for setting in ("plan_cache_mode = force_generic_plan", "enable_seqscan = off"):
                connection.exec_driver_sql(f"SET LOCAL {setting}")
            kept = "SELECT name, statement, cardinality(parameter_types) FROM pg_prepared_statements"
            for name, statement, parameters in connection.exec_driver_sql(kept).all():
                if not statement.startswith("LOCK"):
                    values = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
                    lines = connection.exec_driver_sql(f'EXPLAIN EXECUTE "{name}"{values}')
                    found[statement] = [line[0].strip() for line in lines]
    return found


@pytest.fixture
def worker(carried_migration: Migration) -> Iterator[Stores]:
    """The stores of a worker that carried one scope's rows back, as they were made and went, again and again."""
    migration = carried_migration
    migration.route(100)
    with opened(migration.app.settings, bulk=True, application="crossfade-test") as stores:
        carrier = stores.carrier_from(Store.NEW)
        for _ in range(ROUNDS):
            migration.new_sql(
                "INSERT INTO prompts (name, content, type, project_id, organization_id, enabled)"
                " SELECT 'One of many', 'x', 'custom', 'acme/project-' || p || '/incident-summary', 'acme', true"
                " FROM generate_series(1, 3) p"
            )
            assert carrier.carry_batch().upserted == 3
            migration.new_sql("DELETE FROM prompts")
            assert carrier.carry_batch().deleted == 3
            migration.sql("ANALYZE crossfade.sidecar")  # empty again
        yield stores


def test_no_plan_goes_through_all_of_the_sidecar(worker: Stores) -> None:
    """Made while it is empty, one that joins it to a batch would read all of it for every record of the batch."""
    plans = kept_plans(worker.engine(Store.LEGACY))
    asked = {text: lines for text, lines in plans.items() if "sidecar" in text}
    assert len(asked) >= 3, list(plans)
    for text, lines in asked.items():
        assert not [line for line in lines if line.startswith("Join Filter")], text
        scans = [n for n, line in enumerate(lines) if " on sidecar" in line and "Scan" in line]
        assert all(lines[n + 1].startswith(("Index Cond", "Recheck Cond")) for n in scans), lines


def test_rows_of_a_scope_that_have_gone_are_met_once(worker: Stores) -> None:
    """A bitmap meets them each time, until they are vacuumed away."""
    plans = kept_plans(worker.engine(Store.NEW))
    [lines] = [lines for text, lines in plans.items() if "$2" in text and "FROM prompts" in text and "UNION" in text]
    assert any("Index Scan using idx_prompts_project_id" in line for line in lines)
    assert not [line for line in lines if "Bitmap" in line]
