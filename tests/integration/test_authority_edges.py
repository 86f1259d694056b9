"""Rare circumstances in which authority would end up where nobody said, or a command would not say what happened."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner
from command import crossfade
from fix_postgres import Databases, until
from fix_stores import Migration, create_tenants, migration_between
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from test_busy_scopes import SCOPE, TABLE, meanwhile, ramp, settled, verified
from test_moving import STATISTICAL

from adapters.postgres.errors import speaking_for
from adapters.postgres.fence import RouteFences, _Fence
from adapters.postgres.fence_holders import fence_holders
from harness.cli.authority import recover
from harness.cli.main import main
from harness.cli.shares import ramp_shares
from harness.errors import NoAuthority, StoreTimeout, StoreUnavailable
from harness.failpoints import FailpointRaised, arm
from harness.phases import Phase
from harness.records import Verdict
from harness.routing import Store

__all__ = ["verified"]


def test_busy_scope_with_the_name_of_a_group_takes_nobody_along(
    verified: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's own scope may be called as an organization is. Written to while it moves, it is carried over inside
    the fence: a pin of its name would have given the whole organization away, undrained.
    """
    for sql in (verified.sql, verified.new_sql):
        sql("UPDATE crossfade.route SET salt = 'salt'")
    verified.new_sql(
        "INSERT INTO prompts (name, content, type, project_id, organization_id, enabled)"
        " VALUES ('own', 'x', 'custom', 'acme', 'acme', true)"
    )
    verified.drain()
    ramp(verified, 36.14)  # by this salt the bucket of acme is 3613, that of project 1's scope 4043
    assert verified.stores.routes.view().route.authority(SCOPE.format(1)) is Store.LEGACY

    def write(number: int) -> None:
        if number == 1:
            verified.new_sql("UPDATE prompts SET content = 'mine' WHERE project_id = 'acme'")
            verified.sql(f"UPDATE {TABLE} SET genai_prompt = 'acknowledged' WHERE project_id = 1")

    with meanwhile(monkeypatch, write):
        ramp(verified, 0.0)
    stand = verified.stores.stand()
    assert (stand.writes_percent, stand.pins) == (0.0, {})
    settled(verified)
    assert verified.sql(f"SELECT genai_prompt FROM {TABLE} WHERE project_id = 1") == [("acknowledged",)]


def _restore_new(migration: Migration) -> None:
    """New as it was in a backup made now; what the ledger says of acts since then is forgotten."""
    [(epoch,)] = migration.new_sql("SELECT epoch FROM crossfade.route")
    [(act,)] = migration.new_sql("SELECT coalesce(max(id), 0) FROM crossfade.journal")
    ramp(migration, 50.0)
    ramp(migration, 0.0)
    settled(migration)
    migration.new_sql("UPDATE crossfade.route SET epoch = :epoch", epoch=epoch)
    migration.new_sql("DELETE FROM crossfade.journal WHERE id > :act", act=act)


def test_after_a_restore_no_epoch_is_given_out_twice(verified: Migration) -> None:
    """New is restored from a backup, with the same shares as now: acts go on, and never do both stores accept."""
    ramp_shares(verified.app, verified.stores, 1.0, None, "a test")
    _restore_new(verified)
    assert verified.stores.routes_differ()
    ramp_shares(verified.app, verified.stores, 2.0, None, "a test")
    assert not verified.stores.routes_differ()
    ramp(verified, 100.0)
    with pytest.raises(NoAuthority), speaking_for(Store.LEGACY):
        verified.sql(f"UPDATE {TABLE} SET genai_prompt = 'both' WHERE project_id = 1")
    verified.new_sql("UPDATE prompts SET content = 'one' WHERE project_id = :scope", scope=SCOPE.format(1))
    settled(verified)


def test_resume_brings_a_restored_ledger_up_to_date(verified: Migration) -> None:
    """After a restore of new, resume says what it did, and ramp and rollback work again."""
    ramp_shares(verified.app, verified.stores, 1.0, None, "a test")
    _restore_new(verified)
    resumed = crossfade(verified.stores.settings, "resume")
    assert (resumed.returncode, "new had an older route than legacy" in resumed.stderr) == (0, True), resumed.stderr
    for share in ("60", "0"):
        ramped = crossfade(verified.stores.settings, "ramp", "--writes", share, "--reason", "a test")
        assert ramped.returncode == 0, ramped.stderr
    settled(verified)


def test_pending_act_of_a_restored_ledger_is_undone_and_routes_are_aligned(verified: Migration) -> None:
    """The restored journal has an act pending that happened long ago, and others since: legacy's route is taken."""
    ramp(verified, 20.0)
    [(epoch,)] = verified.new_sql("SELECT epoch FROM crossfade.route")
    ramp(verified, 70.0)
    settled(verified)
    verified.new_sql("UPDATE crossfade.route SET epoch = :epoch, writes_percent = 0", epoch=epoch - 1)
    verified.new_sql("DELETE FROM crossfade.journal WHERE id > 1")
    verified.new_sql("UPDATE crossfade.journal SET state = 'pending', ended_at = NULL")
    recover(verified.app, verified.stores)
    assert not verified.stores.routes_differ()
    assert verified.stores.stand().writes_percent == 70.0


@pytest.mark.parametrize("store", Store)
def test_update_to_no_key_is_refused_as_ever(verified: Migration, store: Store) -> None:
    """SET id = NULL is no deletion: PostgreSQL's own rule speaks, and the sidecar keeps what it says."""
    ramp(verified, 100.0)
    verified.new_sql("UPDATE prompts SET name = 'mine' WHERE project_id = :scope", scope=SCOPE.format(1))
    if store is Store.LEGACY:
        ramp(verified, 0.0)
    verified.drain()
    statement, engine = {
        Store.LEGACY: (f"UPDATE {TABLE} SET id = NULL WHERE project_id = 1", verified.stores.legacy),
        Store.NEW: (f"UPDATE prompts SET id = NULL WHERE project_id = '{SCOPE.format(1)}'", verified.stores.new),
    }[store]
    with pytest.raises(IntegrityError, match="null value"), engine.begin() as connection:
        connection.execute(text(statement))
    assert verified.sql("SELECT name FROM crossfade.sidecar") == [("mine",)]
    settled(verified)


def test_row_that_somebody_has_locked_in_the_gainer_is_named_as_such(verified: Migration) -> None:
    """A row's lock in the store that gains authority: each attempt ends in its time, and the message is of a lock."""
    done: list[Any] = []

    def ramped() -> None:
        done.append(crossfade(settings, "ramp", "--writes", "100", "--reason", "a test"))

    settings = verified.stores.settings
    with verified.stores.new.connect() as holder:
        scope = SCOPE.format(1)
        holder.execute(text("SELECT FROM prompts WHERE project_id = :scope FOR UPDATE"), {"scope": scope})
        verified.sql(f"UPDATE {TABLE} SET genai_prompt = 'later' WHERE project_id = 1")
        ramping = threading.Thread(target=ramped)
        ramping.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        until(lambda: verified.new_sql(waiting) != [(0,)] or bool(done))
        verified.sql(f"UPDATE {TABLE} SET genai_prompt = 'later still' WHERE project_id = 1")
        until(lambda: verified.new_sql(waiting) == [(0,)] or bool(done))  # the attempt has been given up
        holder.rollback()
    ramping.join()
    assert (done[0].returncode, "a lock was not to be had in time" in done[0].stderr) == (0, True), done[0].stderr
    settled(verified)


def test_rows_left_behind_stay_so_when_a_cutover_is_finished_later(
    verified: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cutover --accept that a lost answer leaves half done: what was accepted is still so when resume finishes it."""
    verified.sql(f"INSERT INTO {TABLE} (genai_type, genai_prompt, enabled, project_id) VALUES (3, '', true, 1)")
    settled(verified)
    ramp(verified, 10.0)
    [(key,)] = verified.new_sql("SELECT key FROM crossfade.quarantine")
    lose = _Fence.lose

    def lost(fence: _Fence) -> None:
        lose(fence)
        raise StoreUnavailable("legacy: the answer was lost")

    def away(*_: object, **__: object) -> bool:
        raise StoreUnavailable("legacy is away")

    with monkeypatch.context() as patched:
        patched.setattr(_Fence, "lose", lost)
        patched.setattr(RouteFences, "happened", away)
        overruled = [word for gate in STATISTICAL for word in ("--despite", gate)]
        half = invoked(verified, "cutover", "--accept", key, "--yes", "--reason", "a test", *overruled)
    assert half == 5
    assert crossfade(verified.stores.settings, "resume").returncode == 0
    assert verified.stores.stand().phase is Phase.CUT_OVER
    assert verified.new_sql("SELECT accepted IS NOT NULL FROM crossfade.quarantine") == [(True,)]


def invoked(migration: Migration, *words: str) -> int:
    """The exit code of the command, run in this process, where it can be patched."""
    settings = migration.stores.settings
    environment = {"CROSSFADE_LEGACY_URL": settings.legacy.url, "CROSSFADE_NEW_URL": settings.new.url}
    return CliRunner().invoke(main, list(words), env=environment).exit_code


def test_hidden_rows_are_an_error_and_not_taken_for_gone(verified: Migration) -> None:
    """A role that row-level security binds is told of a right that is missing; nothing is carried over half blind."""
    verified.sql("DROP ROLE IF EXISTS crossfade_bound")
    verified.sql("CREATE ROLE crossfade_bound LOGIN")
    verified.sql("GRANT crossfade_bound TO current_user")
    verified.sql("GRANT USAGE ON SCHEMA dispatch_organization_acme TO crossfade_bound")
    verified.sql(f"GRANT SELECT ON {TABLE} TO crossfade_bound")
    verified.sql(f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY")
    verified.sql(f"CREATE POLICY hiding ON {TABLE} USING (project_id <> 1)")
    try:
        with verified.stores.legacy.connect() as connection:
            connection.execute(text("SET LOCAL ROLE crossfade_bound"))
            with pytest.raises(StoreUnavailable, match="a right is missing"), speaking_for(Store.LEGACY):
                connection.execute(text(f"SELECT count(*) FROM {TABLE}"))
            connection.rollback()
    finally:
        verified.sql("DROP OWNED BY crossfade_bound")
        verified.sql("DROP ROLE crossfade_bound")


def test_slug_with_a_percent_sign_is_verified(databases: Databases) -> None:
    """Whole-set verification reads the tenant's table, however it is called."""
    with migration_between(databases) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection, ("50% off",))
        migration.prepare()
        table = migration.stores.mapping.parts[0].table
        with migration.stores.legacy.begin() as connection:
            connection.execute(table.insert().values(genai_type=2, genai_prompt="x", enabled=True, project_id=1))
        migration.backfill()
        assert migration.verify().verdict is Verdict.PASS


def test_plain_session_is_held_by_nobody_that_froze(verified: Migration) -> None:
    """An idle transaction that the server ends counts as a time that ran out, not as a store that is away."""
    with psycopg.connect(verified.stores.settings.legacy.url) as connection:
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = '10ms'")
        until(lambda: _ended(connection))


def _ended(connection: psycopg.Connection[Any]) -> bool:
    try:
        with speaking_for(Store.LEGACY):
            connection.execute("SELECT pg_sleep(0)")
    except StoreTimeout:
        return True
    return False


def test_holder_that_is_not_for_us_to_see_is_named_all_the_same(verified: Migration) -> None:
    """Without pg_read_all_stats a session of another role shows no age: a transaction that stays is told by its pid."""
    name = f"crossfade_blind_{uuid4().hex[:8]}"
    verified.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'blind'")
    url = verified.stores.legacy.url.set(username=name, password="blind")  # noqa: S106 - of a role that lives for one test
    blind = create_engine(url)
    try:
        with psycopg.connect(verified.stores.settings.legacy.url) as writer:
            writer.execute(f"UPDATE {TABLE} SET enabled = true WHERE project_id = 1")
            [holder] = fence_holders(blind, Store.LEGACY, 0.1)
            assert (holder.pid, holder.seconds) == (writer.info.backend_pid, None)
            assert "pg_read_all_stats" in str(holder)
            writer.rollback()
        assert fence_holders(blind, Store.LEGACY, 0.1) == []
    finally:
        blind.dispose()
        verified.sql(f"DROP ROLE {name}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--pin", "acme=new", "--pin", "globex=new"), "give one --pin"),
        (("--pin", "acme/project-999/incident-summary=new"), "a project in legacy"),
        (("--unpin", "acmee"), "is not pinned"),
        (("10", "--despite", "long_transaction"), "nothing is called that; there are"),
    ],
)
def test_ramp_does_nothing_by_a_misspelt_name(verified: Migration, words: tuple[str, ...], said: str) -> None:
    """Exit code 2, and neither route nor phase are other than before."""
    before = verified.stores.stand()
    ramped = crossfade(verified.stores.settings, "ramp", *words, "--reason", "a test")
    assert (ramped.returncode, said in " ".join(ramped.stderr.split())) == (2, True), ramped.stderr
    assert verified.stores.stand() == before


def test_repair_does_not_call_unsettled_rows_equal(verified: Migration, tmp_path: Path) -> None:
    """Nobody carries over, and a row is on its way: repair has nothing to do, says why, and ends with 3."""
    verified.sql(f"UPDATE {TABLE} SET genai_prompt = 'on its way' WHERE project_id = 1")
    file = tmp_path / "crossfade.toml"
    file.write_text("[verify]\npatience_seconds = 0.1\n")
    done = crossfade(verified.stores.settings, "repair", "--dry-run", "--json", "--config", str(file))
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (3, "inconclusive")
    assert "could not be settled" in done.stderr
    settled(verified)


def test_dry_run_says_what_would_be_finished_first(verified: Migration) -> None:
    """While an act is half done a plan is of what stands now, and says so."""
    arm("move.journalled=raise")
    with pytest.raises(FailpointRaised):
        ramp(verified, 50.0)
    arm("")
    planned = crossfade(verified.stores.settings, "ramp", "70", "--dry-run")
    assert "is half done, and would be finished or undone first" in " ".join(planned.stderr.split())
    recover(verified.app, verified.stores)
