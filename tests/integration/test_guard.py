"""The guard: no store accepts a write to a scope without authority over it, whoever writes and however."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from fix_postgres import Databases, until
from fix_stores import Migration, create_tenants, migration_between
from psycopg import errors
from sqlalchemy import Connection, Engine, text

from adapters.postgres.errors import speaking_for
from adapters.postgres.guard import (
    attach_guard,
    guard_mode,
    is_guarded,
    set_guard_mode,
)
from adapters.postgres.guarding import FENCE
from adapters.prompts.prompt_manager import giving_part
from harness.cli.backfill import backfill_stores
from harness.cli.prepare import prepare_stores
from harness.errors import CannotHold, NoAuthority, Refused
from harness.routing import Store
from harness.settings import GuardSettings, MigrationSettings

TABLE = "dispatch_organization_acme.prompt"
SCOPE = "acme/project-1/incident-summary"
OTHER = "acme/project-2/incident-summary"
INSERT = (
    "INSERT INTO prompts (name, content, type, project_id, organization_id, enabled)"
    " VALUES ('own', 'x', 'custom', :scope, :organization, :enabled)"
)
LEGACY_INSERT = f"INSERT INTO {TABLE} (genai_type, genai_prompt, enabled, project_id) VALUES (2, 'secret', true, 1)"


@pytest.fixture
def moved(prepared_migration: Migration) -> Migration:
    """One prompt in each of two scopes, in both stores; the first scope's authority is new's, all others legacy's."""
    prepared_migration.prompt(project=1)
    prepared_migration.prompt(project=2)
    for scope in (SCOPE, OTHER):
        prepared_migration.behind(INSERT, scope=scope, organization="acme", enabled=False)
    prepared_migration.route(0, **{SCOPE: "new"})
    return prepared_migration


def insert_new(migration: Migration, scope: str | None, organization: str = "acme", *, enabled: bool = True) -> None:
    with speaking_for(Store.NEW):
        migration.new_sql(INSERT, scope=scope, organization=organization, enabled=enabled)


def legacy_sql(migration: Migration, statement: str) -> list[Any]:
    with speaking_for(Store.LEGACY):
        return migration.sql(statement)


def new_sql(migration: Migration, statement: str) -> list[Any]:
    with speaking_for(Store.NEW):
        return migration.new_sql(statement)


@pytest.mark.parametrize(
    "statement",
    [
        LEGACY_INSERT,
        f"UPDATE {TABLE} SET genai_prompt = 'y'",
        f"DELETE FROM {TABLE} WHERE project_id = 1",
        f"TRUNCATE {TABLE}",
        "TRUNCATE dispatch_organization_acme.project CASCADE",
    ],
)
def test_legacy_refuses_what_lives_in_new(moved: Migration, statement: str) -> None:
    """Each kind of write to a scope that has moved is refused as NoAuthority, and nothing of the statement stays."""
    before = moved.sql(f"SELECT * FROM {TABLE}")
    with pytest.raises(NoAuthority, match="new has authority over"):
        legacy_sql(moved, statement)
    assert moved.sql(f"SELECT * FROM {TABLE}") == before


@pytest.mark.parametrize(
    "statement",
    [
        INSERT.replace(":scope", f"'{OTHER}'").replace(":organization", "'acme'").replace(":enabled", "true"),
        "UPDATE prompts SET content = 'y'",
        f"DELETE FROM prompts WHERE project_id = '{OTHER}'",
        "TRUNCATE prompts",
    ],
)
def test_new_refuses_what_lives_in_legacy(moved: Migration, statement: str) -> None:
    """The same on the other side: new refuses writes to scopes that are still legacy's."""
    before = moved.new_sql("SELECT * FROM prompts")
    with pytest.raises(NoAuthority, match="legacy has authority over"):
        new_sql(moved, statement)
    assert moved.new_sql("SELECT * FROM prompts") == before


def test_scopes_with_authority_are_written_as_before(moved: Migration) -> None:
    """Each store takes every kind of write to the scopes that are its own."""
    moved.sql(f"INSERT INTO {TABLE} (genai_type, genai_prompt, enabled, project_id) VALUES (3, 'x', true, 1)")
    moved.sql(f"UPDATE {TABLE} SET genai_prompt = 'y' WHERE project_id = 2")
    moved.sql(f"DELETE FROM {TABLE} WHERE project_id = 2")
    insert_new(moved, SCOPE)
    moved.new_sql("UPDATE prompts SET content = 'y' WHERE project_id = :scope", scope=SCOPE)
    assert len(moved.new_sql("DELETE FROM prompts WHERE project_id = :scope RETURNING id", scope=SCOPE)) == 2


def test_percent_decides_where_nothing_is_pinned(moved: Migration) -> None:
    """At 100 % legacy refuses every write with a project and takes those without; at 0 % it is the other way round."""
    moved.route(100)
    with pytest.raises(NoAuthority):
        legacy_sql(moved, LEGACY_INSERT)
    assert moved.prompt(project=None) > 0
    moved.new_sql("TRUNCATE prompts")
    moved.route(0)
    moved.sql(f"TRUNCATE {TABLE}")
    with pytest.raises(NoAuthority):
        insert_new(moved, SCOPE)


def test_refusal_says_where_the_scope_lives_and_not_what_was_written(moved: Migration) -> None:
    """SQLSTATE XF001, the scope and the store in the message, a hint, and no value of the row anywhere."""
    with moved.stores.legacy.connect() as connection, pytest.raises(Exception, match="secret") as caught:
        connection.execute(text(LEGACY_INSERT))
    error = caught.value.orig  # type: ignore[attr-defined] # SQLAlchemy's own holds the statement; the server's must not
    assert (error.sqlstate, SCOPE in error.diag.message_primary) == ("XF001", True)
    said = [error.diag.message_primary, error.diag.message_hint, error.diag.message_detail or "", error.diag.context]
    assert "new has authority" in said[0]
    assert "crossfade status" in said[1]
    assert "secret" not in " ".join(said)


def test_change_of_scope_needs_authority_over_both(moved: Migration) -> None:
    """A row may neither leave a scope that lives elsewhere, nor come into one."""
    for statement in (
        f"UPDATE {TABLE} SET project_id = 3 WHERE project_id = 1",
        f"UPDATE {TABLE} SET project_id = 1 WHERE project_id = 2",
    ):
        with pytest.raises(NoAuthority, match=SCOPE):
            legacy_sql(moved, statement)
    moved.sql(f"UPDATE {TABLE} SET project_id = 3 WHERE project_id = 2")


def test_cascade_passes_and_is_noted_as_one(moved: Migration) -> None:
    """A project deleted in Dispatch takes its prompts along wherever they live; a plain delete is no cascade."""
    moved.sql("DELETE FROM crossfade.dirty")
    moved.sql("DELETE FROM dispatch_organization_acme.project WHERE id = 1")
    moved.sql(f"DELETE FROM {TABLE} WHERE project_id = 2")
    assert moved.sql(f"SELECT * FROM {TABLE}") == []
    noted = moved.sql("SELECT scope, cascade FROM crossfade.dirty ORDER BY seq")
    assert [tuple(row) for row in noted] == [(SCOPE, True), (OTHER, False)]


def test_mode_record_notes_both_scopes(moved: Migration) -> None:
    """A row that a rogue write takes from one scope to another is noted in both, and filed under the refusing one."""
    moved.sql("UPDATE crossfade.route SET guard = 'record'")
    moved.sql(f"DELETE FROM {TABLE} WHERE project_id = 1")
    moved.sql("TRUNCATE crossfade.dirty, crossfade.rogue")
    moved.sql(f"UPDATE {TABLE} SET project_id = 1 WHERE project_id = 2")
    assert {scope for _, scope, *_ in moved.notes()} == {SCOPE, OTHER}
    assert moved.sql("SELECT scope FROM crossfade.rogue") == [(SCOPE,)]


def test_mode_record_keeps_what_it_lets_through(moved: Migration) -> None:
    """In mode record a rogue write passes and is filed with scope, row before and after, role and application."""
    moved.sql("UPDATE crossfade.route SET guard = 'record'")
    moved.sql(LEGACY_INSERT)
    moved.sql(f"UPDATE {TABLE} SET genai_prompt = 'after', genai_type = 3 WHERE project_id = 1 AND NOT enabled")
    moved.sql(f"DELETE FROM {TABLE} WHERE genai_prompt = 'secret'")
    moved.sql(f"TRUNCATE {TABLE}")
    rows = moved.sql(
        "SELECT part, operation, scope, before->>'genai_prompt', after->>'genai_prompt', application,"
        " role = session_user FROM crossfade.rogue ORDER BY id"
    )
    assert [tuple(row) for row in rows] == [
        ("acme", "INSERT", SCOPE, None, "secret", "crossfade-test", True),
        ("acme", "UPDATE", SCOPE, "What happened, and to whom?", "after", "crossfade-test", True),
        ("acme", "DELETE", SCOPE, "secret", None, "crossfade-test", True),
        ("acme", "TRUNCATE", None, None, None, "crossfade-test", True),
    ]


def test_mode_off_lets_pass_and_keeps_nothing(moved: Migration) -> None:
    """In mode off everything passes and nothing is filed; the mode is read and changed by our own functions."""
    for store in Store:
        with moved.stores.engine(store).begin() as connection:
            assert guard_mode(connection, store) == "enforce"
            set_guard_mode(connection, "off")
            assert guard_mode(connection, store) == "off"
    moved.sql(LEGACY_INSERT)
    moved.sql(f"TRUNCATE {TABLE}")
    insert_new(moved, OTHER)
    moved.new_sql("TRUNCATE prompts")
    assert moved.sql("SELECT * FROM crossfade.rogue") == moved.new_sql("SELECT * FROM crossfade.rogue") == []


def test_sessions_that_carry_state_pass(moved: Migration) -> None:
    """Where crossfade.applying is set the guard stands aside, and only for that transaction."""
    moved.behind("UPDATE prompts SET content = 'carried'")
    with pytest.raises(NoAuthority):
        new_sql(moved, "UPDATE prompts SET content = 'not carried'")


def test_replica_sessions_are_guarded(moved: Migration) -> None:
    """session_replication_role = replica switches ordinary triggers off, but not the guard."""
    with moved.stores.legacy.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        with pytest.raises(Exception, match="new has authority"):
            connection.execute(text(LEGACY_INSERT))
        connection.rollback()


@pytest.mark.parametrize("store", Store)
def test_role_with_rights_on_the_table_alone_is_guarded_and_served(moved: Migration, store: Store) -> None:
    """The systems' own roles need no grant on anything of ours, be they refused, recorded or let through."""
    engine = moved.stores.legacy if store is Store.LEGACY else moved.stores.new
    schema, table = ("dispatch_organization_acme", TABLE) if store is Store.LEGACY else ("public", "public.prompts")
    column, own = (
        ("project_id = 2", "project_id = 1")
        if store is Store.LEGACY
        else (
            f"project_id = '{SCOPE}'",
            f"project_id = '{OTHER}'",
        )
    )
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE crossfade_plain_writer NOLOGIN"))
        connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO crossfade_plain_writer"))
        connection.execute(text(f"GRANT SELECT, UPDATE ON {table} TO crossfade_plain_writer"))
        connection.execute(text("SET LOCAL ROLE crossfade_plain_writer"))
        assert connection.execute(text(f"UPDATE {table} SET enabled = true WHERE {column}")).rowcount == 1
        connection.execute(text("SAVEPOINT refused"))
        with pytest.raises(Exception, match="has authority over it now"):
            connection.execute(text(f"UPDATE {table} SET enabled = true WHERE {own}"))
        connection.execute(text("ROLLBACK TO SAVEPOINT refused"))
        connection.execute(text("RESET ROLE"))
        connection.execute(text("UPDATE crossfade.route SET guard = 'record'"))
        connection.execute(text("SET LOCAL ROLE crossfade_plain_writer"))
        assert connection.execute(text(f"UPDATE {table} SET enabled = true WHERE {own}")).rowcount == 1
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        connection.execute(text("RESET ROLE"))
        assert connection.execute(text("SELECT count(*) FROM crossfade.rogue")).scalar_one() == 1
        connection.rollback()


# What only new can hold


def test_new_only_rows_are_nobodys_while_legacy_has_all(prepared_migration: Migration) -> None:
    """Before anything moves, the new system writes its own scopes, and those without a scope, as it likes."""
    insert_new(prepared_migration, "project-123")
    insert_new(prepared_migration, None)
    prepared_migration.new_sql("UPDATE prompts SET project_id = 'project-124' WHERE project_id IS NOT NULL")
    assert len(prepared_migration.new_sql("DELETE FROM prompts RETURNING id")) == 2


@pytest.mark.parametrize(
    ("scope", "organization", "reason"),
    [("project-123", "acme", "no_place"), (None, "acme", "no_place"), (SCOPE, "umbra", "organization_differs")],
)
def test_rollback_safe_refuses_what_legacy_could_not_hold(
    moved: Migration, scope: str | None, organization: str, reason: str
) -> None:
    """From the first scope that moves, a record that legacy could not hold is refused at commit, with the reason."""
    with pytest.raises(CannotHold, match=rf"legacy could not hold it \({reason}\).*rollback_safe"):
        insert_new(moved, scope, organization)
    moved.new_sql("UPDATE crossfade.route SET rollback_safe = false")
    insert_new(moved, scope, organization)


def test_second_disabled_is_refused_however_it_comes_about(moved: Migration) -> None:
    """Legacy holds one disabled prompt of a scope: a second one is refused, inserted, disabled or moved there."""
    with pytest.raises(CannotHold, match="second_disabled"):
        insert_new(moved, SCOPE, enabled=False)
    insert_new(moved, SCOPE, enabled=True)
    with pytest.raises(CannotHold, match="second_disabled"):
        new_sql(moved, "UPDATE prompts SET enabled = false, created_at = 'epoch' WHERE enabled")


def test_only_what_stands_at_commit_counts(moved: Migration) -> None:
    """Two prompts may change places in one transaction, in either order, though for a moment both are disabled."""
    insert_new(moved, SCOPE, enabled=True)
    with speaking_for(Store.NEW), moved.stores.new.begin() as connection:
        raised = connection.execute(text("UPDATE prompts SET enabled = false WHERE enabled RETURNING id")).scalar_one()
        lower = text("UPDATE prompts SET enabled = true WHERE project_id = :scope AND id <> :id")
        assert connection.execute(lower, {"scope": SCOPE, "id": raised}).rowcount == 1
    with speaking_for(Store.NEW), moved.stores.new.begin() as connection:
        made = text(INSERT + " RETURNING id")
        values = {"scope": SCOPE, "organization": "acme", "enabled": False}
        number = connection.execute(made, values).scalar_one()
        connection.execute(text("DELETE FROM prompts WHERE id = :id"), {"id": number})


def test_record_that_is_unholdable_already_may_be_edited(moved: Migration) -> None:
    """An update that leaves a record as unholdable as it was passes: it makes no new debt."""
    moved.behind(INSERT, scope=SCOPE, organization="acme", enabled=False)
    edited = new_sql(moved, f"UPDATE prompts SET content = 'edited' WHERE project_id = '{SCOPE}' RETURNING id")
    assert len(edited) == 2


def test_two_transactions_cannot_both_add_the_only_disabled_one(moved: Migration) -> None:
    """Two that each insert a disabled prompt into one scope do not overlook each other: the later one is refused."""
    moved.new_sql("DELETE FROM prompts WHERE project_id = :scope", scope=SCOPE)
    ends: list[object] = []
    values = {"scope": SCOPE, "organization": "acme", "enabled": False}
    with moved.stores.new.connect() as first, moved.stores.new.connect() as second:
        first.execute(text(INSERT), values)
        second.execute(text(INSERT), values)
        first.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))  # checked, and not committed yet
        later = threading.Thread(target=lambda: ends.append(ended(second)))
        later.start()
        until(lambda: waiting_for_advisory_lock(moved.stores.new))
        first.commit()
        later.join()
    assert "second_disabled" in str(ends[0])


# Moving authority under writers


def ended(connection: Connection) -> object:
    """What became of the commit: None, or the error."""
    try:
        connection.commit()
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        return error
    return None


def waiting_for_advisory_lock(engine: Engine, sessions: int = 1) -> bool:
    asked = text(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with engine.connect() as connection:
        return int(connection.execute(asked).scalar_one()) >= sessions


@contextmanager
def session(migration: Migration) -> Iterator[psycopg.Connection[Any]]:
    """A plain connection to legacy, as any program has one."""
    with psycopg.connect(migration.app.settings.legacy.url) as connection:
        yield connection


MOVE = f"""UPDATE crossfade.route SET epoch = epoch + 1, pins = '{{"{SCOPE}": "new"}}'"""
FENCED = f"SELECT pg_advisory_xact_lock({FENCE[0]}, {FENCE[1]})"


def test_fence_waits_for_writers_that_were_let_through(prepared_migration: Migration) -> None:
    """Who takes the fence gets it only when the transaction that wrote before has ended."""
    taken = threading.Event()

    def fence() -> None:
        with session(prepared_migration) as operator:
            operator.execute(FENCED)
            taken.set()

    with session(prepared_migration) as writer:
        writer.execute(LEGACY_INSERT)
        operator = threading.Thread(target=fence)
        operator.start()
        until(lambda: waiting_for_advisory_lock(prepared_migration.stores.legacy))
        assert not taken.is_set()
        writer.commit()
        operator.join()
    assert taken.is_set()


def test_writer_that_waited_at_the_fence_meets_the_new_route(prepared_migration: Migration) -> None:
    """A write that began before authority moved, and was held at the fence, is refused when it goes on."""
    caught: list[BaseException] = []

    def write() -> None:
        with session(prepared_migration) as writer, pytest.raises(psycopg.Error) as refused:
            writer.execute(LEGACY_INSERT)
        caught.append(refused.value)

    with session(prepared_migration) as operator:
        operator.execute(FENCED)
        writer = threading.Thread(target=write)
        writer.start()
        until(lambda: waiting_for_advisory_lock(prepared_migration.stores.legacy))
        operator.execute(MOVE)
        operator.commit()
        writer.join()
    assert getattr(caught[0], "sqlstate", None) == "XF001"


def test_row_that_waits_at_the_fence_holds_up_nobody_for_good(prepared_migration: Migration) -> None:
    """A writer that holds a row and waits at the fence, for an operator that waits for the row's next writer: the
    operator gives up in its time, nothing has changed, and both writes are made.
    """
    prepared_migration.prompt(project=1)
    prepared_migration.prompt(project=2)
    legacy, ends = prepared_migration.stores.legacy, list[int]()

    def write(project: int) -> None:
        with session(prepared_migration) as writer:
            update = f"UPDATE {TABLE} SET genai_prompt = genai_prompt || '!' WHERE project_id = %s"
            ends.append(writer.execute(update, (project,)).rowcount)

    with session(prepared_migration) as operator, session(prepared_migration) as first:
        first.execute(f"UPDATE {TABLE} SET genai_prompt = genai_prompt || '!' WHERE project_id = 1")
        held = threading.Thread(target=write, args=(2,))
        again = threading.Thread(
            target=lambda: first.execute(f"UPDATE {TABLE} SET genai_prompt = genai_prompt || '!' WHERE project_id = 2")
        )
        operator.execute("SET LOCAL lock_timeout = '600ms'")
        fencing = threading.Thread(target=lambda: ends.append(-1) if refused(operator, FENCED) else None)
        fencing.start()
        until(lambda: waiting_for_advisory_lock(legacy))
        held.start()
        until(lambda: waiting_for_advisory_lock(legacy, 2))
        again.start()
        for thread in (fencing, held, again):
            thread.join()
        first.commit()
    assert sorted(ends) == [-1, 1]
    found = prepared_migration.sql(f"SELECT project_id, right(genai_prompt, 2) FROM {TABLE} ORDER BY project_id")
    assert [(project, text.count("!")) for project, text in found] == [(1, 1), (2, 2)]


def refused(operator: psycopg.Connection[Any], statement: Any) -> bool:
    """Whether a lock was not to be had in time."""
    try:
        operator.execute(statement)
    except errors.LockNotAvailable:
        operator.rollback()
        return True
    return False


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_old_snapshot_never_passes(prepared_migration: Migration, level: str) -> None:
    """A writer whose snapshot is older than the move gets a serialization failure, not the old route."""
    with session(prepared_migration) as writer:
        writer.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        writer.execute("SELECT 1 FROM dispatch_core.organization")
        prepared_migration.sql(MOVE.replace(":", r"\:"))
        with pytest.raises(errors.SerializationFailure):
            writer.execute(LEGACY_INSERT)


def test_repeatable_read_holds_the_route_it_was_let_through_by(prepared_migration: Migration) -> None:
    """A writer of REPEATABLE READ writes under the present route, and the fence waits for it like for any other."""
    with session(prepared_migration) as writer, session(prepared_migration) as operator:
        writer.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        writer.execute(LEGACY_INSERT)
        operator.execute("SET LOCAL lock_timeout = '10ms'")
        with pytest.raises(errors.LockNotAvailable):
            operator.execute(FENCED)
        operator.rollback()
        writer.commit()
        operator.execute(FENCED)


# Attaching


def test_attaching_again_changes_nothing(prepared_migration: Migration) -> None:
    """Prepare leaves every part guarded, in both stores; attaching again finds that and does nothing."""
    stores = prepared_migration.stores
    parts = stores.mapping.parts
    assert all(is_guarded(stores.legacy, Store.LEGACY, part) for part in parts)
    new = giving_part([part.name for part in parts], stores.reading)
    assert is_guarded(stores.new, Store.NEW, new)
    assert attach_guard(stores.legacy, Store.LEGACY, parts[0]) is False
    assert attach_guard(stores.new, Store.NEW, new, loading=True) is False


def test_backfilled_table_asks_its_guard_in_the_call(prepared_migration: Migration) -> None:
    """While new is filled its triggers have a WHEN clause, which spares each row a call; afterwards none has."""
    asked = "SELECT count(*) FROM pg_trigger WHERE tgname ~ 'crossfade' AND tgqual IS NOT NULL"
    assert prepared_migration.new_sql(asked)[0][0] > 0
    backfill_stores(prepared_migration.app, prepared_migration.stores)
    assert prepared_migration.new_sql(asked) == [(0,)]
    assert prepared_migration.sql(asked) == [(0,)]


def test_trigger_that_would_fire_after_the_guard_is_refused(migration: Migration) -> None:
    """What the guard has checked and noted must be what is written: a later trigger could change the row's scope."""
    migration.sql(
        """
        CREATE FUNCTION public.elsewhere() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
        CREATE TRIGGER zzz BEFORE UPDATE ON dispatch_organization_acme.prompt
        FOR EACH ROW EXECUTE FUNCTION public.elsewhere()
        """
    )
    with pytest.raises(Refused, match=r"zzz on .* would fire after the guard"):
        prepare_stores(migration.app, migration.stores, id_index=False, reason="a test")
    migration.sql("ALTER TRIGGER zzz ON dispatch_organization_acme.prompt RENAME TO aaa")
    prepare_stores(migration.app, migration.stores, id_index=False, reason="a test")
    migration.sql("ALTER TRIGGER aaa ON dispatch_organization_acme.prompt RENAME TO zzz")
    assert migration.stores.uncaptured_tenants() == ["acme"]


@pytest.mark.parametrize("trigger", ["zz_crossfade_guard", "zz_crossfade_guard_truncate"])
def test_guard_that_lacks_a_trigger_is_none(prepared_migration: Migration, trigger: str) -> None:
    """A trigger that was dropped or switched off is noticed, and the next prepare puts it back."""
    stores = prepared_migration.stores
    part = stores.mapping.parts[0]
    prepared_migration.sql(f"ALTER TABLE {TABLE} DISABLE TRIGGER {trigger}")
    assert not is_guarded(stores.legacy, Store.LEGACY, part)
    prepared_migration.prepare()
    assert is_guarded(stores.legacy, Store.LEGACY, part)
    prepared_migration.sql(f"DROP TRIGGER {trigger} ON {TABLE}")
    assert not is_guarded(stores.legacy, Store.LEGACY, part)


def test_trigger_of_an_earlier_version_is_taken_down(prepared_migration: Migration) -> None:
    """The fence's own trigger, which stood here once, makes a guard another one, until the next prepare drops it."""
    stores, part = prepared_migration.stores, prepared_migration.stores.mapping.parts[0]
    function = "CREATE FUNCTION crossfade.fence() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    prepared_migration.sql(function)
    prepared_migration.sql(
        f"CREATE TRIGGER crossfade_fence BEFORE UPDATE ON {TABLE} EXECUTE FUNCTION crossfade.fence()"
    )
    prepared_migration.sql(f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER crossfade_fence")
    assert not is_guarded(stores.legacy, Store.LEGACY, part)
    prepared_migration.prepare()
    assert is_guarded(stores.legacy, Store.LEGACY, part)
    assert prepared_migration.sql("SELECT count(*) FROM pg_trigger WHERE tgname = 'crossfade_fence'") == [(0,)]


def test_without_a_route_nothing_is_accepted(prepared_migration: Migration) -> None:
    """A guard that finds no route does not guess: it refuses and says what to do."""
    prepared_migration.sql("DELETE FROM crossfade.route")
    with pytest.raises(NoAuthority, match="crossfade prepare"):
        legacy_sql(prepared_migration, LEGACY_INSERT)


@pytest.mark.parametrize("slug", ["o'brien", "percent%s", 'quo"te', "{brace}", "x" * 60])
def test_odd_slugs_are_guarded(databases: Databases, slug: str) -> None:
    """A tenant whose name needs quoting, or is cut by the server, is guarded like any other, in both stores."""
    with migration_between(databases) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection, (slug,))
        migration.prepare()
        migration.route(0, **{f"{slug}/project-1/incident-summary": "new"})
        table = migration.stores.mapping.parts[0].table
        values = {"genai_type": 2, "genai_prompt": "x", "enabled": True}
        with speaking_for(Store.LEGACY), migration.stores.legacy.begin() as connection:
            connection.execute(table.insert().values(project_id=2, **values))
        with pytest.raises(NoAuthority), speaking_for(Store.LEGACY), migration.stores.legacy.begin() as connection:
            connection.execute(table.insert().values(project_id=1, **values))
        insert_new(migration, f"{slug}/project-1/incident-summary", slug)
        with pytest.raises(NoAuthority):
            insert_new(migration, f"{slug}/project-2/incident-summary", slug)


def test_table_in_a_schema_of_its_own_is_guarded(databases: Databases) -> None:
    """Where the new system keeps its table in another schema of its search path, the guard finds it there."""
    with migration_between(databases) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        migration.prepare()
        migration.new_sql('CREATE SCHEMA "Own place"')
        migration.new_sql('ALTER TABLE prompts SET SCHEMA "Own place"')
        stores = migration.stores
        database = stores.new.url.database
        migration.new_sql(f'ALTER DATABASE "{database}" SET search_path = "Own place", public')
        stores.new.dispose()
    with migration_between(databases) as migration:
        migration.prepare()
        migration.route(100)
        insert_new(migration, SCOPE, enabled=False)
        with pytest.raises(CannotHold, match="second_disabled"):
            insert_new(migration, SCOPE, enabled=False)


def test_settings_reach_both_routes(databases: Databases) -> None:
    """guard.mode and migration.rollback_safe are written by prepare, each time it runs."""
    changed = {"guard": GuardSettings(mode="record"), "migration": MigrationSettings(rollback_safe=False)}
    expected = {"record": changed, "enforce": {}}
    for mode, sections in expected.items():
        with migration_between(databases, **sections) as migration:
            with migration.stores.legacy.begin() as connection:
                if mode == "record":
                    create_tenants(connection)
            migration.prepare()
            assert migration.sql("SELECT guard FROM crossfade.route")[0][0] == mode
            [row] = migration.new_sql("SELECT guard, rollback_safe FROM crossfade.route")
            assert tuple(row) == (mode, mode == "enforce")
