"""Assess: everything that will not fit is named and counted, and nothing is written."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Literal

import pytest
from command import crossfade, document
from fix_postgres import Databases, Server, engine_for, until
from fix_stores import create_tenants, migration_between
from rich.console import Console
from sqlalchemy import Engine, create_engine, func, make_url, select, text

from adapters.prompts.assessment.assess import BLOCKS, DECIDE, NOTE, Assessment, Finding, assess
from adapters.prompts.assessment.findings import Code
from adapters.prompts.canonical import REASONS, Reading
from adapters.prompts.discover import Problem
from adapters.prompts.dispatch import canonical_select
from adapters.prompts.dispatch_tables import tenant_tables
from adapters.prompts.invented import Invented, create
from adapters.prompts.prompt_manager import metadata
from harness.cli.assess import show
from harness.config import load
from harness.errors import ConfigError, StoreUnavailable
from harness.routing import Store
from harness.settings import (
    BackfillSettings,
    LegacySettings,
    MigrationSettings,
    Settings,
)

ONE = "dispatch_organization_default"
TWO = "dispatch_organization_harbour_watch"


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.fixture
def made(legacy_engine: Engine) -> Invented:
    """Two invented tenants, odd rows included."""
    return create(legacy_engine, 1, organizations=2, projects=3)


def find(found: Assessment, code: str) -> Finding:
    [finding] = [finding for finding in found.findings if finding.code == code]
    return finding


def codes(found: Assessment) -> set[str]:
    return {finding.code for finding in found.findings}


def test_an_untouched_database_is_counted(legacy_engine: Engine, new_engine: Engine, made: Invented) -> None:
    """Rows, sizes and every oddity that was put there, each with examples by tenant and id."""
    found = assess(legacy_engine, new_engine, Settings())
    assert sum(tenant.rows for tenant in found.tenants) == made.rows
    assert sum(tenant.enabled for tenant in found.tenants) == made.enabled
    assert [tenant.projects for tenant in found.tenants] == [4, 3]
    first = found.tenants[0]
    assert first.longest_content == 12_000
    assert first.bytes > 22_000
    assert first.table_bytes > 0
    assert first.reasons == made.quarantined
    assert first.unknown_types == {0: 1, -5: 1, 99: 1}
    for reason, number in made.quarantined.items():
        finding = find(found, reason)
        assert (finding.severity, finding.count, len(finding.examples)) == (DECIDE, number, number)
        assert all(example.startswith("default/") for example in finding.examples)
    assert find(found, Code.UNKNOWN_TYPES).count == 3
    assert find(found, Code.ONE_STAMP_NULL).count == 2
    assert find(found, Code.BOTH_STAMPS_NULL).count == 2
    assert find(found, Code.SYSTEM_MESSAGE).count == sum(tenant.with_system_message for tenant in found.tenants)
    assert find(found, Code.SEVERAL_ENABLED).count == sum(tenant.crowded_projects for tenant in found.tenants)
    assert find(found, Code.NO_PROMPTS_TABLE).severity is NOTE
    assert not found.blocked


def test_examples_name_the_rows(legacy_engine: Engine, made: Invented) -> None:
    """The ids of an example are those of the rows that are meant."""
    found = assess(legacy_engine, None, Settings())
    with legacy_engine.connect() as connection:
        empty = connection.execute(text(f"SELECT id FROM {ONE}.prompt WHERE genai_prompt = ''")).scalar_one()
    assert find(found, "empty_content").examples == (f"default/{empty}",)


def test_tenants_numbered_alike_are_counted(legacy_engine: Engine, made: Invented) -> None:
    """Those whose ids come from the same range; new's ids, made of tenant and id, do not mind."""
    assert find(assess(legacy_engine, None, Settings()), Code.IDS_REPEAT).count == 2
    run(legacy_engine, f"UPDATE {TWO}.prompt SET id = id + 1000")
    assert Code.IDS_REPEAT not in codes(assess(legacy_engine, None, Settings()))


def test_nothing_is_written(legacy_engine: Engine, new_engine: Engine, made: Invented) -> None:
    """Neither schema nor row, on either side: not even where the database forbids nothing."""

    def state(engine: Engine) -> list[tuple[object, ...]]:
        query = "SELECT relname, relnamespace::regnamespace::text, xmin::text FROM pg_class ORDER BY 1, 2"
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    before = state(legacy_engine), state(new_engine)
    assess(legacy_engine, new_engine, Settings())
    assert (state(legacy_engine), state(new_engine)) == before


def test_the_whole_is_one_json_document_without_texts(
    legacy_engine: Engine, new_engine: Engine, made: Invented
) -> None:
    """Machines can read it, and no prompt's words are in it."""
    dumped = json.dumps(assess(legacy_engine, new_engine, Settings()).as_json())
    with legacy_engine.connect() as connection:
        words = connection.execute(text(f"SELECT DISTINCT genai_system_message FROM {ONE}.prompt")).scalars()
        assert not [each for each in words if each and json.dumps(each)[1:-1] in dumped]
    assert json.loads(dumped)["blocked"] is False


@pytest.mark.parametrize(
    ("migration", "policy"),
    [
        (MigrationSettings(), "type"),
        (MigrationSettings("project", "newest"), "project"),
        (MigrationSettings("project", "undecided"), "type"),
    ],
)
def test_the_settings_to_copy_are_settings(
    legacy_engine: Engine, made: Invented, tmp_path: Path, migration: MigrationSettings, policy: str
) -> None:
    """crossfade.toml takes them as they are; an undecided policy that would hold prompts back is not repeated."""
    path = tmp_path / "crossfade.toml"
    path.write_text(assess(legacy_engine, None, Settings(migration=migration)).settings_to_copy)
    loaded = load(path, {})
    assert loaded.migration.scope_policy == policy
    assert loaded.legacy.url == loaded.new.url == ""


def test_both_policies_are_weighed(legacy_engine: Engine, made: Invented) -> None:
    """Under "type" all enabled prompts fit; under "project" one of each project, or none while nobody decides."""
    by_type = assess(legacy_engine, None, Settings())
    crowded = sum(tenant.crowded_rows for tenant in by_type.tenants)
    projects = sum(tenant.crowded_projects for tenant in by_type.tenants)
    assert "enabled_conflict" not in codes(by_type)
    wanted: dict[Literal["undecided", "newest", "oldest"], int] = {
        "undecided": crowded,
        "newest": crowded - projects,
        "oldest": crowded - projects,
    }
    for keep, number in wanted.items():
        by_project = assess(legacy_engine, None, Settings(migration=MigrationSettings("project", keep)))
        # Odd rows of the crowded project may have a reason of their own, which comes first.
        assert find(by_project, "enabled_conflict").count == number
        assert find(by_project, "enabled_conflict").severity is DECIDE


def test_two_enabled_of_a_type_block(legacy_engine: Engine, made: Invented) -> None:
    """Dispatch's constraint forbids them; where it is missing, the new store's would fail later."""
    run(
        legacy_engine,
        f"ALTER TABLE {TWO}.prompt DROP CONSTRAINT uq_prompt_type_project_enabled",
        f"INSERT INTO {TWO}.prompt (genai_type, genai_prompt, enabled, project_id)"
        f" SELECT genai_type, 'again', true, project_id FROM {TWO}.prompt WHERE enabled LIMIT 2",
    )
    found = find(assess(legacy_engine, None, Settings()), Code.TYPE_CONFLICTS)
    assert (found.severity, found.count, found.examples) == (BLOCKS, 2, ("harbour_watch",))


def test_stamps_and_scopes_that_do_not_fit_are_counted(legacy_engine: Engine, made: Invented) -> None:
    """Infinite stamps are a reason like any other, and break nothing."""
    run(
        legacy_engine,
        f"UPDATE {TWO}.prompt SET created_at = 'infinity' WHERE id <= 2",
        f"UPDATE {TWO}.prompt SET updated_at = '294276-12-31 23:59:59' WHERE id = 3",
    )
    found = assess(legacy_engine, None, Settings(legacy=LegacySettings(time_zone="America/New_York")))
    assert find(found, "stamp_out_of_range").count == 3
    assert find(found, "stamp_out_of_range").examples == ("harbour_watch/1", "harbour_watch/2", "harbour_watch/3")


@pytest.mark.parametrize(
    ("statements", "code", "severity"),
    [
        ([f"DROP TABLE {ONE}.prompt"], Problem.NO_PROMPT_TABLE, BLOCKS),
        ([f"ALTER TABLE {ONE}.prompt DROP COLUMN enabled"], Problem.WRONG_COLUMNS, BLOCKS),
        ([f"DROP TABLE {ONE}.project CASCADE"], Problem.NO_PROJECT_TABLE, DECIDE),
        (["CREATE SCHEMA dispatch_organization_gone"], Problem.STRAY_SCHEMA, NOTE),
        (["INSERT INTO dispatch_core.organization (slug) VALUES ('default')"], Problem.DUPLICATE_SLUG, NOTE),
        (["INSERT INTO dispatch_core.organization (slug) VALUES (NULL)"], Problem.NO_SLUG, NOTE),
        (["DELETE FROM dispatch_core.organization"], Code.NO_TENANT, BLOCKS),
    ],
)
def test_tenants_that_are_not_ready_are_findings(
    legacy_engine: Engine, made: Invented, statements: list[str], code: str, severity: str
) -> None:
    """Not errors: assess shows all that is wrong at once, and counts the tenants that can be counted."""
    run(legacy_engine, *statements)
    found = assess(legacy_engine, None, Settings())
    assert find(found, code).severity == severity
    assert found.blocked == (severity == BLOCKS)
    assert found.recommendation.startswith("Not yet") == found.blocked


def test_another_database_is_an_error(legacy_engine: Engine) -> None:
    """Where nothing is Dispatch's there is nothing to assess."""
    with pytest.raises(StoreUnavailable, match="not a Dispatch database"):
        assess(legacy_engine, None, Settings())


def test_a_session_zone_that_differs_is_shown_and_recommended(
    databases: Databases, legacy_engine: Engine, made: Invented, tmp_path: Path
) -> None:
    """What Dispatch's sessions default to is what its stamps are written in; other names of one zone are none."""
    name = make_url(databases.legacy_url).database
    run(legacy_engine, f"ALTER DATABASE \"{name}\" SET TimeZone = 'Etc/GMT'")
    with engine_for(databases.legacy_url, Store.LEGACY) as fresh:
        assert Code.TIME_ZONE not in codes(assess(fresh, None, Settings()))
        run(fresh, f"ALTER DATABASE \"{name}\" SET TimeZone = 'Europe/Berlin'")
    with engine_for(databases.legacy_url, Store.LEGACY) as fresh:
        found = assess(fresh, None, Settings())
        assert find(found, Code.TIME_ZONE).severity is DECIDE
        assert find(found, Code.TIME_ZONE).examples == ("Europe/Berlin",)
        (tmp_path / "c.toml").write_text(found.settings_to_copy)
        told = load(tmp_path / "c.toml", {})
        assert told.legacy.time_zone == "Europe/Berlin"
        assert Code.TIME_ZONE not in codes(assess(fresh, None, told))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "Europe", "../etc/passwd", "x" * 300])
def test_a_zone_that_is_none_is_a_settings_error(legacy_engine: Engine, made: Invented, zone: str) -> None:
    """Before anything is counted with it."""
    with pytest.raises(ConfigError, match=r"legacy\.time_zone names no time zone"):
        assess(legacy_engine, None, Settings(legacy=LegacySettings(time_zone=zone)))


def test_one_database_for_both_stores_blocks(databases: Databases, legacy_engine: Engine, made: Invented) -> None:
    """Each store has a schema of Crossfade's own; in one database they would be one."""
    with engine_for(databases.legacy_url, Store.NEW) as same:
        assert find(assess(legacy_engine, same, Settings()), Code.SAME_DATABASE).severity is BLOCKS


class TestNew:
    """What stands in new already."""

    def test_prompt_managers_own_table_is_adopted(
        self, legacy_engine: Engine, new_engine: Engine, made: Invented
    ) -> None:
        """With or without the added column; rows of no scope of legacy are new-only, others call for a look."""
        metadata.create_all(new_engine)
        run(new_engine, "ALTER TABLE prompts DROP COLUMN system_message")
        insert = "INSERT INTO prompts (name, content, type, project_id) VALUES ('n', 'c', 'custom', '{}')"
        run(new_engine, *(insert.format(scope) for scope in ("project-123", "default/project-1", "x/project-1/type-7")))
        found = assess(legacy_engine, new_engine, Settings())
        assert find(found, Code.PROMPTS_TABLE).count == 3
        assert find(found, Code.NEW_ONLY).count == 3
        assert Code.ROWS_IN_NEW not in codes(found)
        run(new_engine, insert.format("default/project-1/type-7"))
        found = assess(legacy_engine, new_engine, Settings())
        assert find(found, Code.NEW_ONLY).count == 3
        assert find(found, Code.ROWS_IN_NEW).severity is DECIDE
        assert not found.blocked

    @pytest.mark.parametrize(
        ("statement", "said"),
        [
            ("ALTER TABLE prompts DROP COLUMN version", "version is missing"),
            ("ALTER TABLE prompts ALTER created_at TYPE timestamp", "created_at is timestamp without time zone"),
            ("ALTER TABLE prompts ALTER name TYPE varchar(100)", "name is character varying(100)"),
            ("ALTER TABLE prompts ALTER system_message TYPE varchar", "system_message is character varying"),
            ("ALTER TABLE prompts ADD COLUMN tone text NOT NULL", "tone must be given"),
            ("ALTER TABLE prompts RENAME TO p; CREATE VIEW prompts AS SELECT * FROM p", "it is no table"),
        ],
    )
    def test_another_table_of_that_name_blocks(
        self, legacy_engine: Engine, new_engine: Engine, made: Invented, statement: str, said: str
    ) -> None:
        """It is not adopted, and what is wrong with it is said."""
        metadata.create_all(new_engine)
        run(new_engine, *statement.split(";"))
        finding = find(assess(legacy_engine, new_engine, Settings()), Code.UNFIT_PROMPTS_TABLE)
        assert finding.severity is BLOCKS
        assert said in finding.text

    def test_a_column_with_a_default_is_no_hindrance(
        self, legacy_engine: Engine, new_engine: Engine, made: Invented
    ) -> None:
        """Columns of Prompt Manager's later versions may be there."""
        metadata.create_all(new_engine)
        run(new_engine, "ALTER TABLE prompts ADD COLUMN tone text NOT NULL DEFAULT 'calm', ADD COLUMN author text")
        assert not assess(legacy_engine, new_engine, Settings()).blocked


@pytest.fixture
def role(server: Server, databases: Databases) -> Iterator[str]:
    """A database role that has the right to connect, and no other."""
    name = f"{server.prefix}_clerk"
    engine = create_engine(make_url(server.admin_url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'clerk'"))
    yield name
    for url in (databases.legacy_url, databases.new_url):
        owner = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        with owner.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {name} CASCADE"))
        owner.dispose()
    with engine.begin() as connection:
        connection.execute(text(f"DROP ROLE {name}"))
    engine.dispose()


class TestRights:
    """Rights that are missing are findings, found without trying."""

    def as_clerk(self, url: str, role: str) -> str:
        address = make_url(url).set(username=role, password="clerk")  # noqa: S106 - of a role that lives for one test
        return address.render_as_string(hide_password=False)

    def assessed(self, databases: Databases, role: str) -> list[Finding]:
        with (
            engine_for(self.as_clerk(databases.legacy_url, role), Store.LEGACY) as legacy,
            engine_for(self.as_clerk(databases.new_url, role), Store.NEW) as new,
        ):
            return [each for each in assess(legacy, new, Settings()).findings if each.code == Code.RIGHTS]

    def test_a_reader_of_dispatch_lacks_what_prepare_needs(
        self, databases: Databases, legacy_engine: Engine, new_engine: Engine, made: Invented, role: str
    ) -> None:
        """Each missing right once, with what to grant; tenants that cannot be read are not counted."""
        metadata.create_all(new_engine)
        run(
            legacy_engine,
            f"GRANT USAGE ON SCHEMA dispatch_core, {ONE} TO {role}",
            f"GRANT SELECT ON dispatch_core.organization, {ONE}.prompt TO {role}",
        )
        told = [(each.severity, each.count, each.text) for each in self.assessed(databases, role)]
        assert [(severity, number) for severity, number, _ in told] == [
            (BLOCKS, 1),  # CREATE in legacy
            (BLOCKS, 1),  # SELECT on the other tenant
            (BLOCKS, 2),  # TRIGGER
            (BLOCKS, 1),  # CREATE in new
            (BLOCKS, 1),  # ownership of prompts
            (DECIDE, 2),  # ownership of legacy's tables
        ]
        for _, _, sentence in told:
            assert "grant" in sentence or "make it a member" in sentence

    def test_with_all_rights_nothing_is_missing(
        self, databases: Databases, legacy_engine: Engine, new_engine: Engine, made: Invented, role: str
    ) -> None:
        """A role that may create schemas and owns the tables needs no more."""
        for engine, url in ((legacy_engine, databases.legacy_url), (new_engine, databases.new_url)):
            run(engine, f'GRANT CREATE ON DATABASE "{make_url(url).database}" TO {role}')
        run(new_engine, f"GRANT CREATE ON SCHEMA public TO {role}")
        run(legacy_engine, f"GRANT USAGE ON SCHEMA dispatch_core, {ONE}, {TWO} TO {role}")
        run(legacy_engine, f"GRANT SELECT ON dispatch_core.organization TO {role}")
        run(legacy_engine, *(f"ALTER TABLE {schema}.prompt OWNER TO {role}" for schema in (ONE, TWO)))
        assert self.assessed(databases, role) == []

    def test_an_organization_table_that_may_not_be_read_is_one_clear_error(
        self, databases: Databases, legacy_engine: Engine, made: Invented, role: str
    ) -> None:
        """Without it there are no tenants to speak of."""
        with (
            engine_for(self.as_clerk(databases.legacy_url, role), Store.LEGACY) as legacy,
            pytest.raises(StoreUnavailable, match="a right is missing"),
        ):
            assess(legacy, None, Settings())


def test_a_server_that_takes_no_writes_blocks(
    databases: Databases, legacy_engine: Engine, new_engine: Engine, made: Invented
) -> None:
    """A standby, or a database set to read only, cannot be prepared."""
    run(
        legacy_engine,
        f'ALTER DATABASE "{make_url(databases.legacy_url).database}" SET default_transaction_read_only = on',
    )
    with engine_for(databases.legacy_url, Store.LEGACY) as fresh:
        assert find(assess(fresh, new_engine, Settings()), Code.READ_ONLY).severity is BLOCKS


def test_codes_are_a_closed_set(legacy_engine: Engine, new_engine: Engine, made: Invented) -> None:
    """Each finding's is a Code, a tenant's Problem or a Reason, so that machines can rely on them."""
    run(legacy_engine, "CREATE SCHEMA dispatch_organization_gone")
    found = codes(assess(legacy_engine, new_engine, Settings()))
    assert len(found) > 9
    assert found <= {*Code, *Problem, *REASONS}


ROWS = 100_000
WIDE = "dispatch_organization_wide"
# Of every hundred rows: three too long, two empty, one of no project, four of unknown types, one without a stamp, two
# without both, one infinite stamp. Each project has ten rows, of five types, each enabled once and disabled once.
FILL = f"""
    INSERT INTO {WIDE}.prompt
        (genai_type, genai_prompt, genai_system_message, enabled, created_at, updated_at, project_id)
    SELECT CASE WHEN n % 100 >= 96 THEN 100 + n % 50 ELSE 1 + n % 5 END,
        CASE n % 100 WHEN 3 THEN '' WHEN 4 THEN '' WHEN 5 THEN repeat('x', 10001) WHEN 6 THEN repeat('x', 10001)
            WHEN 7 THEN repeat('€', 10001) ELSE repeat(md5(n::text), 8 + n % 5) END,
        CASE WHEN n % 2 = 0 THEN 'Be kind to number ' || n END,
        n / 5 % 2 = 0,
        CASE WHEN n % 100 IN (11, 12, 13) THEN NULL ELSE timestamp '2024-01-01' + n * interval '1 second' END,
        CASE WHEN n % 100 IN (12, 13) THEN NULL WHEN n % 100 = 14 THEN 'infinity'
            ELSE timestamp '2024-01-02' + n * interval '1 second' END,
        CASE WHEN n % 100 = 15 THEN NULL ELSE 1 + n / 10 END
    FROM generate_series(0, {ROWS - 1}) AS n
"""


@pytest.fixture(scope="module")
def template(server: Server) -> Iterator[str]:
    """The name of a database to copy."""
    with server.database("wide_template") as url:
        with engine_for(url, Store.LEGACY) as engine:
            with engine.begin() as connection:
                create_tenants(connection, ("wide", "bare"), projects=ROWS // 10)
                connection.execute(text(FILL))
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"VACUUM ANALYZE {WIDE}.prompt"))
        yield make_url(url).database or ""


class TestAtScale:
    """A hundred thousand rows are counted where they are."""

    @pytest.fixture
    def databases(self, server: Server, template: str) -> Iterator[Databases]:
        with ExitStack() as stack:
            yield Databases(stack, server, {Store.LEGACY: template})

    @pytest.fixture
    def wide(self, databases: Databases) -> Iterator[Engine]:
        with engine_for(databases.legacy_url, Store.LEGACY) as engine:
            yield engine

    def test_counts_are_right(self, wide: Engine) -> None:
        """Every count is that of the rows that were made, and examples are rows of which it is true."""
        found = assess(wide, None, Settings())
        [bare, tenant] = found.tenants
        assert (bare.rows, bare.first_id, bare.fit_rows, bare.projects) == (0, None, 0, 0)
        hundreds = ROWS // 100
        assert (tenant.rows, tenant.enabled, tenant.projects) == (ROWS, ROWS // 2, ROWS // 10)
        assert tenant.reasons == {
            "no_project": hundreds,
            "empty_content": 2 * hundreds,
            "content_too_long": 3 * hundreds,
            "stamp_out_of_range": hundreds,
        }
        assert tenant.fit_rows == 93 * hundreds
        assert tenant.odd == {
            Code.UNKNOWN_TYPES: 4 * hundreds,
            Code.ONE_STAMP_NULL: hundreds,
            Code.BOTH_STAMPS_NULL: 2 * hundreds,
        }
        assert tenant.unknown_types == dict.fromkeys((146, 147, 148, 149), hundreds)
        assert (tenant.with_system_message, tenant.longest_content) == (ROWS // 2, 10_001)
        assert (tenant.first_id, tenant.last_id) == (1, ROWS)
        # Rows n, numbered from 1: the first three of each kind are within the first three hundred.
        assert tenant.examples["no_project"] == (16, 116, 216)
        assert tenant.examples["empty_content"] == (4, 5, 104)
        assert tenant.examples[Code.BOTH_STAMPS_NULL] == (13, 14, 113)

    def test_types_without_a_name_are_listed_only_so_far(self, wide: Engine) -> None:
        """Where every row has a type of its own, the most frequent ones are named, and all are counted."""
        run(wide, f"UPDATE {WIDE}.prompt SET genai_type = 1000 + id WHERE id <= 5000")
        found = assess(wide, None, Settings())
        [_, tenant] = found.tenants
        assert len(tenant.unknown_types) == 20
        assert find(found, Code.UNKNOWN_TYPES).count == 4 * (ROWS - 5000) // 100 + 5000
        assert "of others" in find(found, Code.UNKNOWN_TYPES).text

    def test_rows_are_read_once(self, databases: Databases, wide: Engine) -> None:
        """One pass reads the table's rows; places are counted in the unique index; the sample reads its few by id."""

        def reads() -> tuple[int, int]:
            with wide.connect() as connection:
                told = "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_user_tables WHERE schemaname = :schema"
                statement = text(f"{told} AND relname = 'prompt'")
                [row] = connection.execute(statement, {"schema": WIDE})
                return row[0], row[1]

        before = reads()
        with engine_for(databases.legacy_url, Store.LEGACY) as engine:
            found = assess(engine, None, Settings())
        # A session tells at its end, if not before, what it has read.
        until(lambda: reads()[0] > before[0])
        scanned, fetched = (after - then for after, then in zip(reads(), before, strict=True))
        assert scanned == ROWS
        assert 0 < found.estimate.sampled <= 4 * 5000
        # Each sampled row is fetched to be copied, and to be digested.
        assert fetched <= 2 * found.estimate.sampled

    @pytest.mark.parametrize("keep", ["undecided", "newest", "oldest"])
    def test_conflicts_are_those_of_the_canonical_select(
        self, wide: Engine, keep: Literal["undecided", "newest", "oldest"]
    ) -> None:
        """Ranked all at once they are as many as each row, asked for its rivals, would say."""
        run(wide, f"DELETE FROM {WIDE}.prompt WHERE id > 1000")
        migration = MigrationSettings("project", keep)
        [_, tenant] = assess(wide, None, Settings(migration=migration)).tenants
        reading = Reading("UTC", "project", keep)
        rows = canonical_select("wide", tenant_tables("wide")[1], reading, with_sidecar=False).subquery()
        with wide.connect() as connection:
            told = connection.execute(select(rows.c.reason, func.count()).group_by(rows.c.reason))
            reasons = {row[0]: row[1] for row in told}
        assert tenant.fit_rows == reasons.pop(None)
        assert tenant.reasons == reasons

    def test_large_tables_want_an_index_under_policy_project(self, wide: Engine) -> None:
        """Asking each enabled row for its rivals without one is a scan for each; with it nothing is to be said."""
        settings = Settings(migration=MigrationSettings("project", "newest"))
        assert find(assess(wide, None, settings), Code.PROJECT_INDEX).examples == (WIDE,)
        run(wide, f"CREATE INDEX ON {WIDE}.prompt (project_id) WHERE enabled")
        assert Code.PROJECT_INDEX not in codes(assess(wide, None, settings))

    def test_growth_is_what_a_backfill_adds(self, databases: Databases, wide: Engine) -> None:
        """Table, indexes, log and legacy's index end up within the ranges that were told before."""
        with migration_between(databases) as migration:
            expected = assess(wide, migration.stores.new, Settings()).estimate.growth
            migration.prepare()
            [[start]] = migration.new_sql("SELECT pg_current_wal_insert_lsn()")
            migration.backfill()
            [grown] = migration.new_sql(
                "SELECT pg_table_size('prompts') AS table, pg_indexes_size('prompts') AS indexes,"
                " pg_wal_lsn_diff(pg_current_wal_insert_lsn(), cast(:start AS pg_lsn)) AS wal",
                start=start,
            )
            [[index]] = migration.sql(f"SELECT pg_relation_size('{WIDE}.crossfade_key')")
        assert expected.table.low <= grown.table <= expected.table.high
        assert expected.indexes.low <= grown.indexes <= expected.indexes.high
        assert expected.wal.low <= grown.wal <= expected.wal.high
        assert expected.legacy_index.low <= index <= expected.legacy_index.high
        assert expected.disk >= grown.table + grown.indexes + grown.wal

    def test_times_follow_from_what_was_measured(self, wide: Engine) -> None:
        """Twice as slow a clock, twice as long a copy; a throttle is a lower bound; an empty legacy takes no time."""
        ticks = itertools.count()
        found = assess(wide, None, Settings(), clock=lambda: next(ticks)).estimate
        slower = assess(wide, None, Settings(), clock=lambda: 2 * next(ticks)).estimate
        assert 0 < found.read.low <= found.read.high
        assert 0 < found.copy.low <= found.copy.high
        assert 0 < found.verify.low <= found.verify.high
        assert slower.copy == found.copy * 2
        assert slower.verify == found.verify * 2
        throttled = Settings(backfill=BackfillSettings(rows_per_second=1))
        assert assess(wide, None, throttled).estimate.copy.low >= ROWS
        run(wide, f"TRUNCATE {WIDE}.prompt")
        nothing = assess(wide, None, Settings()).estimate
        assert (nothing.copy.high, nothing.verify.high, nothing.growth.disk) == (0, 0, 0)

    def test_the_estimate_is_shown_and_in_the_json(self, databases: Databases, wide: Engine) -> None:
        """People see ranges in units, machines numbers in seconds and bytes."""
        with migration_between(databases) as migration:
            found = assess(wide, migration.stores.new, Settings())
            ran = crossfade(migration.app.settings, "assess", "--json")
        assert ran.returncode == 0, ran.stderr
        done = document(ran)["estimate"]
        assert done["rows"] == ROWS
        assert done["growth"].keys() == asdict(found.estimate.growth).keys()
        assert done["growth"]["table"] == asdict(found.estimate.growth.table)
        assert 0 < done["copy"]["low"] <= done["copy"]["high"]
        said = StringIO()
        show(Console(file=said, width=200), found)
        assert f"100,000 rows; estimated from {found.estimate.sampled:,} that were read and timed" in said.getvalue()
        assert " MB" in said.getvalue()
