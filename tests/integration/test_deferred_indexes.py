"""Indexes that wait for the copy: what is dropped comes back just as it was, whatever happens in between."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest
from command import crossfade, document
from fix_postgres import until
from fix_stores import Migration
from sqlalchemy import text

from adapters.postgres.deferred_indexes import DeferredIndexes
from adapters.postgres.migrations import downgrade
from adapters.prompts.prompt_manager import prompts
from harness.cli.standing import status_of
from harness.cli.uninstall import remove
from harness.errors import Refused
from harness.phases import Phase
from harness.records import Verdict
from harness.settings import BackfillSettings

PUT_OFF = [
    "idx_prompts_created_at",
    "idx_prompts_enabled",
    "idx_prompts_name",
    "idx_prompts_organization_id",
    "idx_prompts_project_enabled",
    "idx_prompts_project_id",
    "idx_prompts_type",
]

ODD = '"Odd %s name; ""x"""'
FILL = "INSERT INTO prompts (name, content, type) SELECT 'a' || n, 'x', 'custom' FROM generate_series(1, 1000) n"


def structure(migration: Migration) -> dict[str, Any]:
    """Every index and constraint of prompts: definition, owner, place, comment, and whether it is in force."""
    indexes = migration.new_sql(
        "SELECT i.relname, pg_get_indexdef(i.oid), pg_get_userbyid(i.relowner), i.reltablespace::bigint,"
        " i.reloptions::text, obj_description(i.oid, 'pg_class'), x.indisvalid, x.indisready, x.indislive,"
        " x.indisclustered, x.indisreplident, x.indisunique"
        " FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = to_regclass('prompts')"
    )
    constraints = migration.new_sql(
        "SELECT conname, pg_get_constraintdef(oid), convalidated, obj_description(oid, 'pg_constraint')"
        " FROM pg_constraint WHERE conrelid = to_regclass('prompts')"
    )
    return {row[0]: tuple(row) for row in [*indexes, *constraints]}


@pytest.fixture
def rich(prepared_migration: Migration) -> Migration:
    """A prompts table with indexes of its owner's beside ours: odd names, comments, options, expressions."""
    for statement in (
        "CREATE SCHEMA extra",
        "CREATE FUNCTION extra.folded(said text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(said)'",
        f"CREATE INDEX {ODD} ON prompts (extra.folded(name), (length(content) % 7))"
        " INCLUDE (version) WITH (fillfactor = 70) WHERE name LIKE '%a%'",
        f"COMMENT ON INDEX {ODD} IS 'it''s {{odd}} %s'",
        "CREATE INDEX brin_created ON prompts USING brin (created_at) WITH (pages_per_range = 8)",
        "CREATE UNIQUE INDEX ours_alone ON prompts (name, created_at, id)",
        "CREATE INDEX clustered ON prompts (updated_at)",
        "ALTER TABLE prompts CLUSTER ON clustered",
        "CREATE INDEX counted ON prompts ((version + 1))",
        "ALTER INDEX counted ALTER COLUMN 1 SET STATISTICS 500",
        "COMMENT ON INDEX idx_prompts_name IS 'by name'",
        "COMMENT ON CONSTRAINT prompts_type_valid ON prompts IS 'seven types'",
    ):
        prepared_migration.new_sql(statement)
    return prepared_migration


def put_off(migration: Migration) -> list[str]:
    return migration.stores.indexes.put_off("ann", "a test")


def build(migration: Migration) -> list[str]:
    return migration.stores.indexes.build(threading.Event(), go_on=lambda stop: not stop.is_set(), told=lambda _: None)


def test_what_is_put_off_comes_back_just_as_it_was(rich: Migration) -> None:
    """Names, definitions, options, comments and owners are equal before and after; rules never leave."""
    before = structure(rich)
    waiting = put_off(rich)
    assert waiting == sorted([*PUT_OFF, 'Odd %s name; "x"', "brin_created"])
    assert structure(rich) == {name: found for name, found in before.items() if name not in waiting}
    assert rich.stores.indexes.missing() == waiting
    rich.behind(FILL)
    assert build(rich) == []
    assert structure(rich) == before
    assert rich.new_sql("SELECT count(*) FROM crossfade.deferred_index")[0][0] == 0


def test_each_index_stands_or_is_on_the_list(rich: Migration) -> None:
    """One that is built leaves the list with its own commit; those that were not begun when work was stopped stay."""
    put_off(rich)
    begun: list[int] = []

    def twice(stop: threading.Event) -> bool:
        begun.append(1)
        return len(begun) <= 2

    single = DeferredIndexes(rich.stores.new, prompts, BackfillSettings(index_workers=1))
    waiting = single.missing()
    left = single.build(threading.Event(), go_on=twice, told=lambda _: None)
    assert left == waiting[2:]
    assert structure(rich).keys().isdisjoint(left)
    assert structure(rich).keys() >= set(waiting[:2])
    assert build(rich) == []


def test_invalid_leftovers_and_strangers(rich: Migration) -> None:
    """An invalid index of the name is replaced, an equal one kept, another one of the name refused."""
    before = structure(rich)
    put_off(rich)
    rich.new_sql("CREATE INDEX idx_prompts_name ON prompts (name)")
    rich.new_sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass('idx_prompts_name')")
    rich.new_sql("CREATE INDEX idx_prompts_type ON prompts (type)")
    rich.new_sql("CREATE INDEX idx_prompts_enabled ON prompts (version)")
    with pytest.raises(Refused, match="another index of the name idx_prompts_enabled"):
        build(rich)
    rich.new_sql("DROP INDEX idx_prompts_enabled")
    assert build(rich) == []
    assert structure(rich) == before


def test_a_row_that_does_not_fit_an_index_is_told_of(rich: Migration) -> None:
    """What an index cannot hold ends in a refusal that names it; once the row is mended the rest is built."""
    before = structure(rich)
    rich.new_sql("CREATE INDEX whole ON prompts (content)")
    put_off(rich)
    rich.behind(
        "INSERT INTO prompts (name, content, type)"
        " SELECT 'x', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300) n), 'custom'"
    )
    with pytest.raises(Refused, match="index whole cannot be built"):
        build(rich)
    rich.behind("DELETE FROM prompts")
    assert build(rich) == []
    rich.new_sql("DROP INDEX whole")
    assert structure(rich) == before


def test_only_an_empty_table_that_nobody_uses(prepared_migration: Migration) -> None:
    """Rows, notes of somebody's writes, a share of the reads, a lock that is held: each is refused, nothing changed."""
    migration = prepared_migration
    before = structure(migration)
    migration.behind(FILL)
    with pytest.raises(Refused, match="is not empty"):
        put_off(migration)
    migration.behind("DELETE FROM prompts")
    migration.new_sql("INSERT INTO crossfade.dirty (part, key) VALUES ('', 'x')")
    with pytest.raises(Refused, match="others use prompts already"):
        put_off(migration)
    migration.new_sql("DELETE FROM crossfade.dirty")
    migration.new_sql("UPDATE crossfade.route SET reads_percent = 1")
    with pytest.raises(Refused, match="others use prompts already"):
        put_off(migration)
    migration.new_sql("UPDATE crossfade.route SET reads_percent = 0")
    assert structure(migration) == before
    assert migration.stores.indexes.missing() == []


def test_a_writer_under_way_is_not_overlooked(prepared_migration: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """An uncommitted row keeps the table's lock: the indexes stay, and nothing is written down."""
    migration = prepared_migration
    monkeypatch.setattr("adapters.postgres.triggers.LOCK_ATTEMPTS", 2)
    monkeypatch.setattr("adapters.postgres.triggers.LOCK_TIMEOUT", "50ms")
    with migration.stores.new.connect() as writer:
        writer.execute(text("SELECT set_config('crossfade.applying', 'on', true)"))
        writer.execute(text(FILL))
        with pytest.raises(Refused, match="lock of prompts"):
            put_off(migration)
        writer.rollback()
    assert migration.stores.indexes.missing() == []


def test_stop_cancels_what_is_being_built(rich: Migration) -> None:
    """A build that would take for ever ends soon after stop is set; its index stays on the list."""
    rich.new_sql("DROP INDEX brin_created")
    rich.new_sql(
        "CREATE FUNCTION extra.slow(said text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS"
        " 'BEGIN PERFORM pg_sleep(60); RETURN said; END'"
    )
    rich.new_sql("CREATE INDEX slowly ON prompts (extra.slow(name))")
    put_off(rich)
    rich.behind(FILL)
    stop = threading.Event()
    found: list[list[str]] = []
    indexes = rich.stores.indexes
    building = threading.Thread(
        target=lambda: found.append(indexes.build(stop, go_on=lambda stop: not stop.is_set(), told=lambda _: None))
    )
    building.start()
    until(lambda: indexes.missing() == ["slowly"])
    stop.set()
    building.join(30)
    assert found == [["slowly"]]


def test_the_phase_waits_for_them(rich: Migration) -> None:
    """BACKFILLED is refused while one is missing, whoever asks; status names them, and what to do."""
    put_off(rich)
    with pytest.raises(Refused, match="indexes are not built yet"):
        rich.stores.phases.advance(Phase.BACKFILLED, "ann", "too early")
    told = status_of(rich.stores)
    assert set(PUT_OFF) <= set(told["missing_indexes"])
    assert told["next"].startswith("crossfade backfill: indexes")
    build(rich)
    assert status_of(rich.stores)["missing_indexes"] == []
    assert rich.stores.phases.advance(Phase.BACKFILLED, "ann", "now").phase is Phase.BACKFILLED


def test_giving_up_builds_them_first(rich: Migration) -> None:
    """uninstall leaves every index as it was, though the copy was given up; the schema's way down refuses to forget."""
    before = structure(rich)
    put_off(rich)
    with pytest.raises(Refused, match="not built yet"):
        downgrade(rich.stores.new, "new", "0004")
    remove(rich.app, rich.stores, "given up", accept_loss=False)
    del before["crossfade_holdable"]  # the guard's own trigger
    assert structure(rich) == before
    assert rich.stores.phase is Phase.IDLE


# --- The whole command --------------------------------------------------------------------------------------------


def fill_legacy(migration: Migration, rows: int = 300) -> None:
    migration.sql(
        "INSERT INTO dispatch_organization_acme.prompt (id, genai_type, genai_prompt, enabled, project_id)"
        " SELECT n, 1000 + n / 2, 'text ' || n, n % 2 = 0, 1 FROM generate_series(1, :rows) n",
        rows=rows,
    )


def assert_complete(migration: Migration, before: dict[str, Any]) -> None:
    assert structure(migration) == before
    assert migration.stores.phase is Phase.BACKFILLED
    assert migration.drain() == 0
    found = migration.verify()
    assert (found.verdict, found.compared) == (Verdict.PASS, 300)


@pytest.mark.parametrize(
    "point",
    [
        *("indexes.recorded=kill", "indexes.put_off=kill", "backfill.after_commit=kill@2"),
        *("indexes.before_commit=kill", "indexes.built=kill@3", "indexes.built=kill@7"),
    ],
)
def test_killed_anywhere_the_next_run_finishes(prepared_migration: Migration, point: str) -> None:
    """kill -9 between the steps, then the plain command: every row is there, every index is as it was."""
    migration = prepared_migration
    before = structure(migration)
    fill_legacy(migration)
    settings = migration.app.settings
    arguments = ("backfill", "--chunk-rows", "40", "--defer-indexes")
    killed = crossfade(settings, *arguments, CROSSFADE_FAILPOINTS=point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert migration.stores.phase is Phase.PREPARED
    present, waiting = set(structure(migration)), set(migration.stores.indexes.missing())
    assert present | waiting == before.keys()
    assert present.isdisjoint(waiting)
    done = crossfade(settings, *arguments[:3], "--json")
    assert done.returncode == 0, done.stderr
    assert document(done)["missing_indexes"] == []
    assert_complete(migration, before)


def test_with_the_option_again_it_goes_on(prepared_migration: Migration) -> None:
    """Whoever gives the option a second time, rows being there by now, is not refused: the indexes wait already."""
    migration = prepared_migration
    before = structure(migration)
    fill_legacy(migration)
    arguments = ("backfill", "--chunk-rows", "40", "--defer-indexes")
    killed = crossfade(migration.app.settings, *arguments, CROSSFADE_FAILPOINTS="backfill.after_commit=kill@2")
    assert killed.returncode == -signal.SIGKILL
    assert crossfade(migration.app.settings, *arguments).returncode == 0
    assert_complete(migration, before)
    done = crossfade(migration.app.settings, *arguments)
    assert done.returncode == 4
    assert "is not empty" in done.stderr


def test_rows_that_change_hands_meet_the_rule_all_the_same(prepared_migration: Migration) -> None:
    """The flag of a scope changes between two chunks while indexes are put off: no two enabled prompts arrive."""
    migration = prepared_migration
    first, second = migration.prompt(enabled=True), migration.prompt(enabled=False)
    put_off(migration)
    plan, copier = migration.stores.chunk_plan, migration.stores.copier
    [part] = [name for name in plan.parts() if name == "acme"]
    for chunk in plan.chunks(part, lambda: 1):
        copier.copy(chunk)
        migration.sql(
            "UPDATE dispatch_organization_acme.prompt SET enabled = (id = :second) WHERE id IN (:first, :second)",
            first=first,
            second=second,
        )
    assert migration.backfill()["finished"]
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS
    assert migration.new_sql("SELECT count(*) FROM prompts WHERE enabled")[0][0] == 1
