"""What a parallel run asks for, and where it writes."""

from __future__ import annotations

import threading
from collections import Counter
from random import Random

import pytest
from fix_stores import Migration
from sqlalchemy import Engine, text

from adapters.prompts.canonical import Reading
from adapters.prompts.discover import OWN_PROJECT
from adapters.prompts.dispatch_tables import tenant_schema
from adapters.prompts.invented import create
from adapters.prompts.workload import (
    READ_MIX,
    WRITE_MIX,
    OwnScopes,
    PromptCalls,
    default_mix,
    discover_keys,
    tenant_for_writes,
    with_writes,
)
from harness.errors import ConfigError, Conflict, NotFound, RepositoryError, StoreUnavailable
from harness.workload import Mix

READING = Reading()


def leftovers(migration: Migration, tenant: str = "acme") -> list[str]:
    rows = migration.sql(f"SELECT name FROM {tenant_schema(tenant)}.project ORDER BY id")
    return [row.name for row in rows if row.name.startswith(OWN_PROJECT)]


def write(own: OwnScopes, migration: Migration, times: int, seed: int = 1) -> Counter[str]:
    """Writes drawn from the mix; counts what became of them."""
    calls = PromptCalls(discover_keys(migration.stores.legacy, READING, Random(1)), own)
    random, done = Random(seed), Counter[str]()
    names = default_mix(1).drawing(random)
    for _ in range(times):
        name = next(names)
        try:
            calls.call(name, migration.stores.legacy_repository, random)
        except RepositoryError as error:
            name = type(error).__name__
        done[name] += 1
    return done


@pytest.fixture
def populated(carried_migration: Migration) -> Migration:
    carried_migration.prompt()
    return carried_migration


class TestKeys:
    def test_keys_are_of_all_tenants_and_all_exist(self, legacy_engine: Engine) -> None:
        """Every representable prompt of a small database, by the names that the canonical SELECT gives it."""
        made = create(legacy_engine, 3, organizations=3, projects=2)
        keys = discover_keys(legacy_engine, READING, Random(1))
        assert len(keys) == made.representable
        assert {key.organization for key in keys} == set(made.organizations)
        assert all(key.scope.startswith(f"{key.organization}/project-") for key in keys)

    def test_a_large_table_is_sampled_all_over(self, legacy_engine: Engine) -> None:
        """No more than asked for, no key twice, and from both ends of the ids."""
        create(legacy_engine, 3, organizations=1, projects=0, odd=False)
        with legacy_engine.begin() as connection:
            schema = tenant_schema("default")
            connection.execute(text(f"INSERT INTO {schema}.project (name) VALUES ('p')"))
            connection.execute(
                text(
                    f"INSERT INTO {schema}.prompt (genai_type, genai_prompt, enabled, project_id)"
                    " SELECT n, 'x', true, 1 FROM generate_series(100, 20099) n"
                )
            )
        keys = discover_keys(legacy_engine, READING, Random(1), limit=1000)
        assert 500 <= len(keys) <= 1000
        assert len({key.id for key in keys}) == len(keys)
        numbers = [int(key.scope.rpartition("-")[2]) for key in keys]
        assert min(numbers) < 5_000 < 15_000 < max(numbers)

    def test_no_key_is_a_settings_error(self) -> None:
        """There is nothing to ask for in an empty database."""
        with pytest.raises(ConfigError, match="no prompt"):
            PromptCalls([])


class TestReads:
    def test_every_read_asks_for_what_exists(self, populated: Migration) -> None:
        """Both repositories are asked in the mix's proportions, and find what they are asked for."""
        keys = discover_keys(populated.stores.legacy, READING, Random(1))
        calls = PromptCalls(keys)
        repository = populated.stores.legacy_repository
        assert set(calls.operations()) == set(READ_MIX)
        [key] = keys
        assert repository.find_by_id(key.id)
        assert repository.find_by_name(key.name, key.scope)
        random = Random(2)
        for name in [*READ_MIX] * 20:
            calls.call(name, repository, random)

    def test_keys_follow_the_sidecar(self, populated: Migration) -> None:
        """A prompt born under another id and name is asked for by those."""
        with OwnScopes(populated.stores.legacy, "acme", READING) as own:
            write(own, populated, 20)
            in_sidecar = populated.sql("SELECT id FROM crossfade.sidecar")
            keys = discover_keys(populated.stores.legacy, READING, Random(1))
        made = {key for key in keys if key.scope in own.scopes}
        repository_ids = {row.id for row in in_sidecar}
        assert {key.id for key in made} == repository_ids
        assert repository_ids


def project_of(own: OwnScopes) -> str:
    return own.scopes[0].rpartition("/")[0]


class TestOwnScopes:
    def test_writes_stay_in_scopes_of_their_own_and_vanish(self, populated: Migration) -> None:
        """Saves, updates and deletes succeed, mistakes are refused as to anybody, and nothing is left at the end."""
        before = populated.sql(f"SELECT * FROM {tenant_schema('acme')}.prompt")
        with OwnScopes(populated.stores.legacy, "acme", READING) as own:
            done = write(own, populated, 200)
            assert len(own.scopes) == 5
            made = populated.sql(
                f"SELECT DISTINCT project_id FROM {tenant_schema('acme')}.prompt WHERE project_id <> 1"
            )
            assert [f"acme/project-{row.project_id}" for row in made] == [project_of(own)]
            assert len(leftovers(populated)) == 1
        assert min(done[name] for name in WRITE_MIX) > 10
        assert done[Conflict.__name__]
        assert populated.sql(f"SELECT * FROM {tenant_schema('acme')}.prompt") == before
        assert populated.sql("SELECT * FROM crossfade.sidecar") == []
        assert leftovers(populated) == []

    def test_what_is_removed_is_carried_over_too(self, populated: Migration) -> None:
        """After the last catch-up nothing of the run is in new either."""
        with OwnScopes(populated.stores.legacy, "acme", READING) as own:
            write(own, populated, 60)
            assert populated.drain() == 0
            assert populated.new_sql("SELECT 1 FROM prompts WHERE project_id = ANY(:scopes)", scopes=own.scopes)
        assert populated.drain() == 0
        assert len(populated.new_sql("SELECT id FROM prompts")) == 1
        assert populated.verify().verdict == "pass"

    def test_it_is_removed_after_an_error_too(self, populated: Migration) -> None:
        """Whatever ends the run."""

        def fail() -> None:
            with OwnScopes(populated.stores.legacy, "acme", READING) as own:
                write(own, populated, 5)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert leftovers(populated) == []

    def test_what_a_killed_run_left_goes_with_the_next_run(self, populated: Migration) -> None:
        """A project whose run lives no more is removed on entry, with its prompts; one whose run lives stays."""
        legacy = populated.stores.legacy
        doomed = OwnScopes(legacy, "acme", READING)
        doomed.__enter__()
        with OwnScopes(legacy, "acme", READING) as alive:
            assert len(leftovers(populated)) == 2
            for own in (doomed, alive):
                own.save(populated.stores.legacy_repository, Random(1))
            # What the server does when a process dies: its sessions end. The older lock is the doomed run's.
            populated.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid())"
                " ORDER BY backend_start LIMIT 1"
            )
            with OwnScopes(legacy, "acme", READING) as third:
                assert len(leftovers(populated)) == 2
                rows = populated.sql(f"SELECT DISTINCT project_id FROM {tenant_schema('acme')}.prompt")
                present = {f"acme/project-{row.project_id}" for row in rows}
                assert project_of(doomed) not in present
                assert project_of(alive) in present
                assert third.scopes != alive.scopes
        assert leftovers(populated) == []

    def test_a_persons_project_of_a_like_name_is_left_alone(self, populated: Migration) -> None:
        """Only names of the exact form are taken for a run's."""
        populated.sql(f"INSERT INTO {tenant_schema('acme')}.project (name) VALUES ('crossfade run 1'), (NULL)")
        with OwnScopes(populated.stores.legacy, "acme", READING):
            pass
        assert leftovers_or_null(populated) == ["crossfade run 1", None]

    def test_threads_share_it(self, populated: Migration) -> None:
        """Four threads write at once; none meets an error that is no refusal."""
        failures: list[BaseException] = []

        def work(seed: int) -> None:
            try:
                write(own, populated, 30, seed)
            except BaseException as error:  # noqa: BLE001 - handed to the main thread
                failures.append(error)

        with OwnScopes(populated.stores.legacy, "acme", READING) as own:
            threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert failures == []
        assert leftovers(populated) == []

    def test_an_update_without_a_prompt_is_a_mistake_like_any(self, populated: Migration) -> None:
        """Nothing to update or delete yet: not found, as an application would hear."""
        with OwnScopes(populated.stores.legacy, "acme", READING) as own:
            for act in (own.update, own.delete):
                with pytest.raises(NotFound):
                    act(populated.stores.legacy_repository, Random(1))

    def test_policy_project_has_no_place_for_writes(self, legacy_engine: Engine) -> None:
        """There a scope does not say which type a prompt has."""
        with pytest.raises(ConfigError, match="scope_policy"):
            OwnScopes(legacy_engine, "acme", Reading(scope_policy="project"))

    def test_the_tenant_for_writes_has_both_tables(self, legacy_engine: Engine) -> None:
        """The first tenant that can take a project; without one, writes are refused."""
        create(legacy_engine, 1, organizations=2, projects=1)
        with legacy_engine.begin() as connection:
            connection.execute(text(f"DROP TABLE {tenant_schema('default')}.project CASCADE"))
        assert tenant_for_writes(legacy_engine) == "harbour_watch"
        with legacy_engine.begin() as connection:
            connection.execute(text(f"DROP TABLE {tenant_schema('harbour_watch')}.project CASCADE"))
        with pytest.raises(StoreUnavailable, match="--write-ratio"):
            tenant_for_writes(legacy_engine)


def leftovers_or_null(migration: Migration) -> list[str | None]:
    rows = migration.sql(f"SELECT name FROM {tenant_schema('acme')}.project WHERE id > 6 ORDER BY id")
    return [row.name for row in rows]


class TestMix:
    def test_by_default_nothing_writes(self) -> None:
        """Reads only, the hot read first."""
        assert default_mix().weights == READ_MIX
        assert READ_MIX["find_enabled_by_project"] == 70

    def test_the_ratio_is_the_share_of_writes(self) -> None:
        """Reads and writes each keep their proportions."""
        weights = default_mix(0.2).weights
        assert sum(weights[name] for name in WRITE_MIX) == pytest.approx(0.2)
        assert sum(weights[name] for name in READ_MIX) == pytest.approx(0.8)
        assert weights["update"] / weights["save"] == pytest.approx(5 / 3)

    def test_a_mix_that_names_writes_keeps_them(self) -> None:
        """What the user said is not said again in other words."""
        mix = Mix({"find_all": 1, "save": 1})
        assert with_writes(mix, 0.2) is mix

    @pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
    def test_an_unfit_ratio_is_refused(self, ratio: float) -> None:
        """A ratio is from 0 to 1."""
        with pytest.raises(ConfigError):
            default_mix(ratio)
