"""The schema's revisions: equal to the metadata, adopting what is there, and leaving no trace on the way down."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from fix_postgres import Databases, Server, engine_for
from sqlalchemy import Engine, MetaData, inspect, make_url, select, text
from sqlalchemy.schema import CreateSchema

from adapters.postgres.ledger.tables import adoption, ledger_metadata
from adapters.postgres.migrations import current, downgrade, upgrade
from adapters.postgres.schema import capture_metadata, legacy_metadata
from adapters.prompts.dispatch_tables import sidecar_metadata, tenant_tables
from adapters.prompts.prompt_manager import metadata as prompts_metadata
from harness.errors import InvalidRecord, StoreUnavailable
from harness.routing import Store

LEGACY = (sidecar_metadata, capture_metadata, legacy_metadata)
NEW = (prompts_metadata, ledger_metadata, capture_metadata)

# As the document describes it; the text of Prompt Manager's own migration is not public.
FUNCTION = """
CREATE FUNCTION update_updated_at_column() RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at = CURRENT_TIMESTAMP;
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;
"""
TRIGGER = """
CREATE TRIGGER update_prompts_updated_at BEFORE UPDATE ON prompts
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
"""
BARE = """
CREATE TABLE prompts (
    id UUID PRIMARY KEY DEFAULT md5(random()::text)::uuid,
    name VARCHAR(255) NOT NULL,
    description TEXT,
    content TEXT NOT NULL,
    type VARCHAR(50) NOT NULL,
    project_id VARCHAR(255),
    organization_id VARCHAR(255),
    enabled BOOLEAN NOT NULL DEFAULT false,
    version INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP
);
"""
RULES = """
ALTER TABLE prompts
    ADD CONSTRAINT prompts_name_length CHECK (length(name) BETWEEN 1 AND 255),
    ADD CONSTRAINT prompts_content_length CHECK (length(content) BETWEEN 1 AND 10000),
    ADD CONSTRAINT prompts_type_valid CHECK (type IN ('question-answering', 'summarization', 'entity-extraction',
        'text-generation', 'translation', 'classification', 'custom')),
    ADD CONSTRAINT prompts_version_positive CHECK (version >= 1);
CREATE INDEX idx_prompts_name ON prompts(name);
CREATE INDEX idx_prompts_project_id ON prompts(project_id);
CREATE INDEX idx_prompts_organization_id ON prompts(organization_id);
CREATE INDEX idx_prompts_type ON prompts(type);
CREATE INDEX idx_prompts_enabled ON prompts(enabled);
CREATE INDEX idx_prompts_created_at ON prompts(created_at DESC);
CREATE INDEX idx_prompts_project_enabled ON prompts(project_id, enabled) WHERE enabled = true;
CREATE UNIQUE INDEX idx_prompts_project_enabled_unique ON prompts(project_id)
    WHERE enabled = true AND project_id IS NOT NULL;
"""
OWN_WHEN = TRIGGER.replace("ROW EXECUTE", "ROW WHEN ((OLD.* IS DISTINCT FROM NEW.*)) EXECUTE")
FOUND = {
    "whole": BARE + RULES + FUNCTION + TRIGGER,
    "bare": BARE,
    "half": BARE + "CREATE INDEX idx_prompts_type ON prompts(type);" + FUNCTION,
    "with a condition": BARE + RULES + FUNCTION + OWN_WHEN,
    "with a system message": BARE + "ALTER TABLE prompts ADD COLUMN system_message text;" + FUNCTION + TRIGGER,
    "with more columns": BARE + "ALTER TABLE prompts ADD COLUMN tags text[], ADD COLUMN n int NOT NULL DEFAULT 0;",
    "with a shared function": FUNCTION
    + "CREATE TABLE other (updated_at timestamptz);"
    + TRIGGER.replace("prompts", "other")
    + BARE,
}
ROWS = """
INSERT INTO prompts (name, content, type, project_id, enabled)
SELECT 'n' || i, 'content', 'custom', 'project-' || i, mod(i, 2) = 0 FROM generate_series(1, 10) AS i
"""

CATALOG = """
SELECT 'column', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
       a.attidentity::text, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname IN ('public', 'crossfade')
UNION ALL
SELECT 'constraint', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid), '', '', '', ''
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('public', 'crossfade')
UNION ALL
SELECT 'index', schemaname, tablename, indexname, indexdef, '', '', '', '' FROM pg_indexes
WHERE schemaname IN ('public', 'crossfade')
UNION ALL
SELECT 'table', n.nspname, c.relname, '', c.reloptions::text, obj_description(c.oid, 'pg_class'), '', '', ''
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname IN ('public', 'crossfade')
"""

DEFINITION = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'update_prompts_updated_at'"
RANDOM_LINES = ("\\restrict ", "\\unrestrict ")

Dump = Callable[[str], str]


def run(engine: Engine, script: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(script)


def ask(engine: Engine, query: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar()


def tool(server: Server, name: str) -> str:
    """A client program: of the embedded server, or the one on PATH."""
    found = server.embedded.bin_path / name if server.embedded else shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} on PATH")
    return str(found)


@pytest.fixture
def dump(server: Server) -> Dump:
    """Everything pg_dump says of a database, without the random words that newer ones put around it."""

    def dumped(url: str) -> str:
        result = subprocess.run([tool(server, "pg_dump"), url], capture_output=True, text=True, check=True)
        return "".join(line for line in result.stdout.splitlines(True) if not line.startswith(RANDOM_LINES))

    return dumped


def catalog(engine: Engine) -> set[tuple[Any, ...]]:
    with engine.connect() as connection:
        rows = {tuple(row) for row in connection.exec_driver_sql(CATALOG.replace("%", "%%"))}
    return {row for row in rows if row[2] != "alembic_version"}


# --- Equal to the metadata ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "metadata"), [("legacy", LEGACY), ("new", NEW)])
def test_the_revisions_make_what_the_metadata_says(prepared: Databases, which: str, metadata: list[MetaData]) -> None:
    """Alembic finds no difference between a migrated database and the metadata."""
    url = prepared.legacy_url if which == "legacy" else prepared.new_url
    options = {
        "include_schemas": True,
        "version_table_schema": "crossfade",
        "compare_server_default": True,
        "target_metadata": metadata,
    }
    with engine_for(url, Store(which)) as engine, engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []  # type: ignore[arg-type] # several work, too


@pytest.mark.parametrize(("which", "metadata"), [("legacy", LEGACY), ("new", NEW)])
def test_the_catalogs_are_equal_too(
    prepared: Databases, databases: Databases, which: str, metadata: list[MetaData]
) -> None:
    """CHECKs, indexes, defaults, storage parameters and comments are those that the metadata would make."""
    migrated, plain = ((urls.legacy_url if which == "legacy" else urls.new_url) for urls in (prepared, databases))
    with engine_for(migrated, Store(which)) as ours, engine_for(plain, Store(which)) as other:
        with other.begin() as connection:
            connection.execute(CreateSchema("crossfade"))
            for each in metadata:
                each.create_all(connection)
        made, meant = catalog(ours), catalog(other)
        if other.dialect.server_version_info < (13,):  # type: ignore[operator]
            made, meant = ({row for row in rows if row[2:4] != ("prompts", "id")} for rows in (made, meant))
        assert made == meant


# --- Up and down --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["legacy", "new"])
def test_down_removes_every_trace(databases: Databases, dump: Dump, which: Any) -> None:
    """After up and down an empty database is as it was; a second down, and a second up, change nothing."""
    url = databases.legacy_url if which == "legacy" else databases.new_url
    with engine_for(url, Store(which)) as engine:
        before = dump(url)
        assert current(engine, which) is None
        upgrade(engine, which)
        after = dump(url)
        upgrade(engine, which)
        assert dump(url) == after
        assert current(engine, which) == {"legacy": "0005", "new": "0012"}[which]
        downgrade(engine, which)
        assert current(engine, which) is None
        downgrade(engine, which)
        assert dump(url) == before


def test_each_step_down_undoes_its_step_up(new_engine: Engine, databases: Databases, dump: Dump) -> None:
    """Every revision's way down leads to what the revision before had made."""
    seen = [dump(databases.new_url)]
    revisions = [f"{number:04}" for number in range(1, 8)]
    for revision in revisions:
        upgrade(new_engine, "new", revision)
        seen.append(dump(databases.new_url))
    for revision, before in zip(["base", *revisions[:-1]][::-1], seen[-2::-1], strict=True):
        downgrade(new_engine, "new", revision)
        assert dump(databases.new_url) == before


def test_rows_that_were_left_behind_are_kept_apart_from_debt(
    new_engine: Engine, databases: Databases, dump: Dump
) -> None:
    """0012 moves each row that an earlier rollback has kept, leaves what is owed where it is, and can be undone."""
    upgrade(new_engine, "new", "0011")
    before = dump(databases.new_url)
    run(new_engine, "INSERT INTO crossfade.debt VALUES ('kept', 's', 'r', now(), '{\"content\": \"c\"}')")
    run(new_engine, "INSERT INTO crossfade.debt VALUES ('open', 's', 'r', now(), NULL)")
    upgrade(new_engine, "new", "0012")
    assert ask(new_engine, "SELECT string_agg(key, ',') FROM crossfade.debt") == "open"
    assert ask(new_engine, "SELECT string_agg(key || (row->>'content'), ',') FROM crossfade.left_behind") == "keptc"
    again = (
        "INSERT INTO crossfade.left_behind (key, scope, reason, row) VALUES ('{}', 's', 'r', '{{\"content\": \"d\"}}')"
    )
    run(new_engine, again.format("kept"))
    run(new_engine, again.format("open"))
    downgrade(new_engine, "new", "0011")
    debt = "SELECT string_agg(key || coalesce(row->>'content', ''), ',' ORDER BY key COLLATE \"C\") FROM crossfade.debt"
    assert ask(new_engine, debt) == "keptd,kept #1c,open,open #3d"
    upgrade(new_engine, "new", "0012")
    kept = "SELECT string_agg(key || (row->>'content'), ',' ORDER BY key, row) FROM crossfade.left_behind"
    assert ask(new_engine, kept) == "keptc,keptd,opend"
    downgrade(new_engine, "new", "0011")
    run(new_engine, "DELETE FROM crossfade.debt")
    assert dump(databases.new_url) == before


@pytest.mark.parametrize("found", FOUND)
def test_a_table_that_is_there_is_adopted_and_given_back(
    new_engine: Engine, databases: Databases, dump: Dump, found: str
) -> None:
    """What is missing is added, what is there is kept, and the way down leaves structure and rows byte for byte."""
    run(new_engine, FOUND[found] + ROWS)
    before = dump(databases.new_url)
    upgrade(new_engine, "new")
    indexes = {index["name"] for index in inspect(new_engine).get_indexes("prompts")}
    assert {index.name for index in prompts_metadata.tables["prompts"].indexes} <= indexes
    checks = {check["name"] for check in inspect(new_engine).get_check_constraints("prompts")}
    assert {"prompts_name_length", "prompts_content_length", "prompts_type_valid", "prompts_version_positive"} <= checks
    assert ask(new_engine, "SELECT count(*) FROM prompts WHERE system_message IS NULL") == 10
    with new_engine.connect() as connection:
        noted = dict(connection.execute(select(adoption.c.object, adoption.c.origin)).all())
    assert noted["table prompts"] == "adopted"
    downgrade(new_engine, "new")
    assert dump(databases.new_url) == before


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("CREATE TABLE prompts (id int PRIMARY KEY, title text)", "name is missing"),
        (BARE.replace("id UUID PRIMARY KEY", "id UUID NOT NULL"), "id is not the primary key"),
        (
            BARE.replace("VARCHAR(50)", "TEXT"),
            r"type is text NOT NULL instead of character varying\(50\) NOT NULL",
        ),
        (BARE.replace("TEXT NOT NULL", "TEXT"), "content is text instead of text NOT NULL"),
        (
            BARE.replace("description TEXT,", "description TEXT, tenant int NOT NULL,"),
            "tenant is unknown and must not be NULL",
        ),
        (BARE + "ALTER TABLE prompts ADD COLUMN system_message jsonb;", "system_message of its own, jsonb"),
    ],
)
def test_a_table_of_another_shape_is_refused(
    new_engine: Engine, databases: Databases, dump: Dump, table: str, said: str
) -> None:
    """Each column that does not fit is named, and nothing is changed."""
    run(new_engine, table)
    before = dump(databases.new_url)
    with pytest.raises(StoreUnavailable, match=said):
        upgrade(new_engine, "new")
    assert dump(databases.new_url) == before
    assert current(new_engine, "new") is None


def test_rows_that_break_a_documented_rule_stop_the_way_up(
    new_engine: Engine, databases: Databases, dump: Dump
) -> None:
    """A rule that cannot be added because rows violate it leaves the database as it was."""
    run(new_engine, BARE + "INSERT INTO prompts (name, content, type) VALUES ('n', '', 'custom')")
    before = dump(databases.new_url)
    with pytest.raises(InvalidRecord, match="prompts_content_length"):
        upgrade(new_engine, "new")
    assert dump(databases.new_url) == before


def test_a_table_of_ours_with_rows_stays_as_documented(new_engine: Engine) -> None:
    """A table that we made and others filled outlives us, with its rules, indexes and trigger; it can be adopted."""
    upgrade(new_engine, "new", "0001")
    run(new_engine, ROWS)
    documented = {row for row in catalog(new_engine) if row[1] == "public"}
    trigger = ask(new_engine, DEFINITION)
    upgrade(new_engine, "new")
    downgrade(new_engine, "new")
    assert not inspect(new_engine).has_schema("crossfade")
    assert {row for row in catalog(new_engine) if row[1] == "public"} == documented
    assert ask(new_engine, DEFINITION) == trigger
    assert ask(new_engine, "SELECT count(*) FROM prompts") == 10
    upgrade(new_engine, "new")
    assert ask(new_engine, "SELECT origin FROM crossfade.adoption WHERE object = 'table prompts'") == "adopted"


def test_carrying_over_keeps_updated_at(prepared_new: Engine) -> None:
    """A plain update is stamped, one in a session that carries state over keeps its stamp."""
    run(prepared_new, ROWS)
    stamp = "TIMESTAMPTZ '2001-02-03 04:05:06+00'"
    run(prepared_new, f"UPDATE prompts SET updated_at = {stamp}")
    assert ask(prepared_new, f"SELECT count(*) FROM prompts WHERE updated_at = {stamp}") == 0
    run(prepared_new, f"SET LOCAL crossfade.applying = 'on'; UPDATE prompts SET updated_at = {stamp}")
    assert ask(prepared_new, f"SELECT count(*) FROM prompts WHERE updated_at = {stamp}") == 10
    run(prepared_new, f"UPDATE prompts SET updated_at = {stamp}")
    assert ask(prepared_new, f"SELECT count(*) FROM prompts WHERE updated_at = {stamp}") == 0


def test_a_condition_of_the_triggers_own_still_counts(new_engine: Engine) -> None:
    """An adopted trigger fires where both its own condition and ours allow it."""
    run(new_engine, FOUND["with a condition"] + ROWS)
    run(new_engine, "UPDATE prompts SET updated_at = updated_at - INTERVAL '1 day', version = 2")
    upgrade(new_engine, "new")
    stamp = ask(new_engine, "SELECT max(updated_at) FROM prompts")
    run(new_engine, "UPDATE prompts SET version = 2")
    assert ask(new_engine, "SELECT max(updated_at) FROM prompts") == stamp
    run(new_engine, "UPDATE prompts SET version = 3")
    assert ask(new_engine, "SELECT min(updated_at) FROM prompts") > stamp


# --- Legacy -------------------------------------------------------------------------------------------------------


def test_dispatch_is_left_as_it_was(legacy_engine: Engine, databases: Databases, dump: Dump) -> None:
    """Up, our triggers and an index on a tenant's table, and down: pg_dump cannot tell that we were there."""
    metadata = MetaData()
    tenant_tables("acme", metadata)
    with legacy_engine.begin() as connection:
        connection.execute(CreateSchema("dispatch_organization_acme"))
        metadata.create_all(connection)
        connection.exec_driver_sql(
            "SET LOCAL search_path = dispatch_organization_acme; INSERT INTO project (name) VALUES ('p');"
            "INSERT INTO prompt SELECT i, i, 'text', NULL, true, now(), now(), 1 FROM generate_series(1, 5) AS i"
        )
    before = dump(databases.legacy_url)
    upgrade(legacy_engine, "legacy")
    run(
        legacy_engine,
        """
        CREATE FUNCTION crossfade.capture_prompt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER crossfade_capture_insert AFTER INSERT ON dispatch_organization_acme.prompt
            FOR EACH STATEMENT EXECUTE FUNCTION crossfade.capture_prompt();
        CREATE INDEX crossfade_key ON dispatch_organization_acme.prompt (md5(id::text));
        CREATE INDEX crossfade_identity ON dispatch_organization_acme.prompt (md5(id::text));
        INSERT INTO crossfade.sidecar (organization, legacy_id, id)
            VALUES ('acme', 1, '00000000-0000-0000-0000-000000000001');
        INSERT INTO crossfade.dirty (part) VALUES ('acme');
        """,
    )
    assert dump(databases.legacy_url) != before
    downgrade(legacy_engine, "legacy")
    assert dump(databases.legacy_url) == before


@pytest.mark.real
def test_the_real_legacy_database_is_left_as_it_was(
    legacy_engine: Engine, databases: Databases, dump: Dump, server: Server, recordings: Path
) -> None:
    """On the recorded schema and data, up and down leave no difference."""
    for name in ("schema.sql", "base.sql"):
        arguments = [tool(server, "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-f", str(recordings / name)]
        subprocess.run([*arguments, databases.legacy_url], check=True, stdout=subprocess.DEVNULL)
    before = dump(databases.legacy_url)
    upgrade(legacy_engine, "legacy")
    assert dump(databases.legacy_url) != before
    downgrade(legacy_engine, "legacy")
    assert dump(databases.legacy_url) == before


# --- Around them --------------------------------------------------------------------------------------------------


def test_two_upgrades_at_once_make_one(databases: Databases, new_engine: Engine) -> None:
    """Of several processes that start together, one migrates, and all succeed."""
    program = f"""
from adapters.postgres.migrations import upgrade
from adapters.postgres.pool import open_engine
from harness.settings import PoolSettings
from harness.routing import Store
engine = open_engine({databases.new_url!r}, Store.NEW, PoolSettings())
engine.connect().close()
print("ready", flush=True)
input()
upgrade(engine, "new")
engine.dispose()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", program], **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert current(new_engine, "new") == "0012"


def test_a_revision_from_the_future_is_explained(prepared_new: Engine) -> None:
    """A schema that a newer Crossfade made is left alone, and the message says what to use."""
    run(prepared_new, "UPDATE crossfade.alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="does not know"):
        upgrade(prepared_new, "new")


def test_a_role_without_rights_is_told_what_is_missing(databases: Databases, server: Server) -> None:
    """A user who may not create a schema hears so, and nothing is left behind."""
    role = f"{server.prefix}_poor"
    with engine_for(databases.new_url, Store.NEW) as admin:
        run(admin, f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
        url = make_url(databases.new_url).set(username=role, password=role).render_as_string(hide_password=False)
        try:
            with engine_for(url, Store.NEW) as engine, pytest.raises(StoreUnavailable, match="right is missing"):
                upgrade(engine, "new")
        finally:
            run(admin, f"DROP ROLE {role}")
        assert not inspect(admin).has_schema("crossfade")


@pytest.mark.parametrize("which", ["legacy", "new"])
def test_developers_can_use_alembics_own_command(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, which: Any
) -> None:
    """The sections of alembic.ini reach the database that the settings name."""
    url = databases.legacy_url if which == "legacy" else databases.new_url
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"CROSSFADE_{which.upper()}_URL", url)
    file = Path(__file__).resolve().parents[2] / "alembic.ini"
    command.upgrade(Config(str(file), ini_section=f"alembic:{which}"), "head")
    with engine_for(url, Store(which)) as engine:
        assert current(engine, which) is not None
