"""crossfade baseline on real stores: what differs by itself is learned, before and after prepare, under writers too."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from threading import Event
from typing import Any
from uuid import UUID

import pytest
from command import crossfade, document
from fix_postgres import until
from fix_stores import Migration
from picture import picture
from sqlalchemy import Text, cast, func

from adapters.postgres.ledger.baselines import BaselineBook
from adapters.postgres.stillness import visible_transactions
from adapters.prompts.canonical import COLUMNS
from adapters.prompts.contract import PromptRepository
from adapters.prompts.mappings import DispatchMapping
from adapters.prompts.repository import Rows, SqlPromptRepository
from adapters.prompts.workload import PromptCalls, default_mix, discover_keys
from harness.baseline import Baseline, judge, propose
from harness.errors import ConfigError
from harness.noise import Patience, Twice
from harness.router import Router
from harness.routing import Store
from harness.settings import RuleSettings, ShadowSettings
from harness.statistics import Result
from harness.workload import Workload

ACME = "dispatch_organization_acme"
PLAIN = ("--seconds", "2", "--rate", "100", "--pause", "0.002")


def fill(migration: Migration) -> None:
    for tenant in ("acme", "umbra"):
        migration.sql(
            f"INSERT INTO dispatch_organization_{tenant}.prompt"
            " (genai_type, genai_prompt, enabled, created_at, updated_at, project_id)"
            " SELECT t, 'text ' || t || p, (t + p) % 3 > 0, timestamp '2024-05-05 10:00' + p * interval '1 minute',"
            " timestamp '2024-05-06 10:00' + t * interval '1 minute', p"
            " FROM generate_series(1, 6) p, generate_series(1, 4) t"
        )


@pytest.fixture
def filled(carried_migration: Migration) -> Migration:
    """Forty-eight prompts of two tenants, in both stores."""
    fill(carried_migration)
    assert carried_migration.drain() == 0
    return carried_migration


def taken(migration: Migration, *arguments: str, config: Path | None = None) -> dict[str, Any]:
    given = () if config is None else ("--config", str(config))
    done = crossfade(migration.app.settings, "baseline", "--json", *PLAIN, *arguments, *given)
    assert done.returncode == 0, done.stderr
    return document(done)


def noise_of(found: dict[str, Any]) -> set[str]:
    return {each["field"] for each in found["fields"] if each["finding"] == "noise"}


def test_before_prepare_noise_is_learned_and_nothing_written(migration: Migration, tmp_path: Path) -> None:
    """On an untouched database the one field that differs by itself is found; the pasted proposal then covers it."""
    fill(migration)
    # What reads a stamp finds this function first: those of updated_at come out differently each time.
    migration.sql("CREATE SCHEMA odd")
    migration.sql(
        "CREATE FUNCTION odd.timezone(text, timestamp) RETURNS timestamptz LANGUAGE sql AS"
        " $$ SELECT pg_catalog.timezone($1, $2)"
        " + CASE WHEN $2 > timestamp '2024-05-06' THEN random() ELSE 0 END * interval '1 second' $$"
    )
    [name] = migration.sql("SELECT format('%I', current_database())")
    migration.sql(f"ALTER DATABASE {name[0]} SET search_path = odd, pg_catalog, public")
    settings = migration.app.settings
    before = picture(settings.legacy.url), picture(settings.new.url)
    found = taken(migration)
    assert noise_of(found) == {"updated_at"}
    assert (found["kept"], found["uncovered"]) == (False, found["noise"])
    assert found["compared"] > 0
    assert "text 11" not in json.dumps(found)
    config = tmp_path / "crossfade.toml"
    config.write_text(found["toml"])
    covered = taken(migration, config=config)
    assert noise_of(covered) == {"updated_at"}
    assert (covered["uncovered"], covered["proposals"], covered["toml"]) == (0, [], "")
    assert {rule["finding"] for rule in covered["rules"]} == {"noise"}
    assert (picture(settings.legacy.url), picture(settings.new.url)) == before


def test_a_store_without_noise_is_told_so_and_kept(filled: Migration) -> None:
    """A clean store proposes nothing, and the ledger keeps the result with its reason, of either store."""
    found = taken(filled, "--reason", "before the parallel run")
    assert (found["noise"], found["proposals"], found["failed"], found["kept"]) == (0, [], 0, True)
    assert found["compared"] > 0
    kept = BaselineBook(filled.stores.new).latest()
    assert kept is not None
    assert (kept.compared, kept.noise, kept.store) == (found["compared"], (), Store.LEGACY)
    [entry] = filled.new_sql("SELECT reason FROM crossfade.audit WHERE action = 'noise baseline'")
    assert entry.reason == "before the parallel run"
    assert BaselineBook(filled.stores.new).latest(Store.NEW) is None
    assert taken(filled, "--store", "new")["noise"] == 0
    assert BaselineBook(filled.stores.new).latest(Store.NEW) is not None


def test_people_read_a_table_and_a_text_to_paste(filled: Migration, tmp_path: Path) -> None:
    """Without --json a rule that nothing needed is told, and mistakes in rules end with 2, named."""
    config = tmp_path / "crossfade.toml"
    rule = "[[compare.rules]]\nname = 'old'\nfield = 'content'\naction = 'ignore'\nreason = 'of the test'\n"
    config.write_text(rule)
    done = crossfade(filled.app.settings, "baseline", *PLAIN, "--limit", "0.5", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert "rule old: not needed for noise" in done.stdout
    assert "no field differed by itself" in done.stdout
    config.write_text(rule + "operation = 'find_nothing'\n")
    done = crossfade(filled.app.settings, "baseline", *PLAIN, "--config", str(config))
    assert done.returncode == ConfigError.exit_code == 2
    assert "find_nothing" in done.stderr
    assert crossfade(filled.app.settings, "baseline", "--mix", "save=1").returncode == 2


class UnsteadyMapping(DispatchMapping):
    """Legacy as it would be if each read made the description up from the time of day."""

    def _unsteady(self, rows: Rows) -> Rows:
        found = rows.statement.subquery("steady")
        made_up = cast(func.clock_timestamp(), Text).label("description")
        columns = [made_up if name == "description" else found.c[name] for name in COLUMNS]
        return Rows(("unsteady", rows.shape), found.select().with_only_columns(*columns), rows.values)

    def all_rows(self) -> Rows:
        return self._unsteady(super().all_rows())

    def in_scope(self, scope: str) -> Rows:
        return self._unsteady(super().in_scope(scope))

    def by_id(self, id: UUID) -> Rows:
        return self._unsteady(super().by_id(id))


def unsteady(migration: Migration) -> SqlPromptRepository:
    stores = migration.stores
    return SqlPromptRepository(stores.legacy, UnsteadyMapping(("acme", "umbra"), stores.reading))


def workload(migration: Migration, seconds: float) -> Workload:
    keys = discover_keys(migration.stores.legacy, migration.stores.reading, Random(1))
    return Workload(PromptCalls(keys), default_mix(), 100.0, seconds)


def learned(
    migration: Migration,
    repository: SqlPromptRepository,
    rules: tuple[RuleSettings, ...] = (),
    wait: Callable[[float], object] = lambda seconds: None,
) -> tuple[Baseline, tuple[RuleSettings, ...]]:
    twice = Twice(
        PromptRepository,
        (repository, repository),
        mark=partial(visible_transactions, migration.stores.legacy, Store.LEGACY),
        rules=rules,
        patience=Patience(0.002, 5, 0.01),
        random=Random(1).random,
        wait=wait,
    )
    workload(migration, 1.5).run(twice.repository, random=Random(2), clock=time.monotonic, stop=Event())
    found = judge(twice.counts, rules, at=migration.stores.phases.present().since, store=Store.LEGACY, seconds=1.5,
                  limit=0.01, alpha=0.05)  # fmt: skip
    return found, propose(twice.counts, rules, Store.LEGACY)


def test_a_learned_rule_makes_a_real_run_quiet_and_hides_nothing_else(filled: Migration) -> None:
    """Under the learned rule a router ignores that field by the rule's name; another field still is a mismatch."""
    repository = unsteady(filled)
    found, rules = learned(filled, repository)
    assert {each.field for each in found.noise} == {"description"}
    assert {rule.field for rule in rules} == {"description"}
    [edited] = filled.behind(
        "UPDATE prompts SET content = 'edited' WHERE id = (SELECT min(id::text)::uuid FROM prompts) RETURNING id"
    )
    stores = filled.stores
    with Router[PromptRepository](
        PromptRepository,
        legacy=repository,
        new=stores.new_repository,
        routes=stores.routes,
        carrier=stores.new_carrier(),
        rules=rules,
        settings=ShadowSettings(look_seconds=0.01),
        key_of=UUID,
    ) as router:
        keys = [row.id for row in filled.new_sql("SELECT id FROM prompts WHERE id <> :id", id=edited.id)]
        for key in keys:
            router.repository.find_by_id(key)
        assert router.settle(10)
        quiet = router.statistics()
        assert quiet.results() == {Result.IGNORED: len(keys)}
        assert quiet.rules == {("find_by_id", _about(rules, "find_by_id")): len(keys)}
        router.repository.find_by_id(edited.id)
        assert router.settle(10)
        found_out = router.statistics()
    assert found_out.results() == {Result.IGNORED: len(keys), Result.MISMATCHED: 1}
    assert found_out.fields == {("find_by_id", "content"): 1}


def _about(rules: tuple[RuleSettings, ...], operation: str) -> str:
    [name] = [rule.name for rule in rules if rule.operation in {"*", operation}]
    return name


def test_what_writers_do_meanwhile_is_no_noise(filled: Migration) -> None:
    """Every third pause sees a write: its pair differs in passing, and no field is called noisy."""
    number = itertools.count()

    def write(_seconds: float) -> None:
        if (n := next(number)) % 3 == 0:
            filled.sql(f"UPDATE {ACME}.prompt SET genai_prompt = 'version {n}', updated_at = now()")

    found, rules = learned(filled, filled.stores.legacy_repository, wait=write)
    assert (found.noise, rules) == ((), ())
    assert found.transient > 0


def test_a_mark_shows_what_was_written(filled: Migration) -> None:
    """Marks repeat themselves while nothing is written, and change with a committed write."""
    engine = filled.stores.legacy
    until(lambda: visible_transactions(engine, Store.LEGACY) == visible_transactions(engine, Store.LEGACY))
    before = visible_transactions(engine, Store.LEGACY)
    filled.sql(f"UPDATE {ACME}.prompt SET enabled = enabled")
    assert visible_transactions(engine, Store.LEGACY) != before
