"""Prepare and ramp, killed anywhere, are finished by running them again; and prepare twice changes nothing more."""

from __future__ import annotations

import signal
from uuid import uuid4

import pytest
from command import crossfade, document
from fix_stores import Migration, create_tenants
from picture import picture
from sqlalchemy import select, text

from adapters.postgres import triggers
from adapters.postgres.errors import speaking_for
from adapters.postgres.guarding import FENCE
from adapters.postgres.literal import literal_sql
from adapters.postgres.part import these
from adapters.prompts.canonical import Reading
from adapters.prompts.dispatch_part import tenant_part
from adapters.prompts.migration import opened
from harness.cli.prepare import prepare_stores
from harness.errors import NoAuthority, Refused
from harness.routing import Store

LATE = "dispatch_organization_late.prompt"


@pytest.mark.parametrize("point", ["prepare.legacy_upgraded", "prepare.index_built", "prepare.capture_attached"])
def test_killed_anywhere_it_is_finished_by_running_it_again(migration: Migration, point: str) -> None:
    """kill -9 between two steps of prepare, then the same command: prepared, and every write is noted once."""
    settings = migration.app.settings
    killed = crossfade(settings, "prepare", CROSSFADE_FAILPOINTS=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = crossfade(settings, "prepare", "--json", "--reason", "again")
    assert done.returncode == 0, done.stderr
    assert document(done)["phase"] == "PREPARED"
    migration.prompt()
    assert len(migration.notes()) == 1


def test_running_it_again_changes_nothing(prepared_migration: Migration) -> None:
    """A second prepare finds everything in place: no relation, trigger, function or row is another afterwards."""
    settings = prepared_migration.app.settings
    schemas = ("crossfade", "public", "dispatch_organization_acme", "dispatch_organization_umbra")
    before = [picture(url, *schemas) for url in (settings.legacy.url, settings.new.url)]
    assert crossfade(settings, "prepare").returncode == 0
    assert [picture(url, *schemas) for url in (settings.legacy.url, settings.new.url)] == before


def indexes(migration: Migration) -> list[tuple[str, bool]]:
    """Our indexes on acme's prompts, and whether each is whole."""
    rows = migration.sql(
        "SELECT indexrelid::regclass::text, indisvalid FROM pg_index"
        " WHERE indrelid = 'dispatch_organization_acme.prompt'::regclass AND indexrelid::regclass::text ~ 'crossfade'"
    )
    return [(str(row[0]).partition(".")[2], row[1]) for row in rows]


@pytest.mark.parametrize("left", ["CREATE INDEX crossfade_identity ON {} (md5(id::text))", None])
def test_indexes_of_before_and_broken_ones_give_way(prepared_migration: Migration, left: str | None) -> None:
    """The index that knew whole ids is dropped once its successor stands; one that a crash left invalid is repeated."""
    table = "dispatch_organization_acme.prompt"
    if left is None:
        prepared_migration.sql(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text ~ 'acme.crossfade_key'"
        )
        assert indexes(prepared_migration) == [("crossfade_key", False)]
    else:
        prepared_migration.sql("DROP INDEX dispatch_organization_acme.crossfade_key")
        prepared_migration.sql(left.format(table))
        assert indexes(prepared_migration) == [("crossfade_identity", True)]
    prepare_again(prepared_migration)
    assert indexes(prepared_migration) == [("crossfade_key", True)]


def test_killed_between_two_indexes_it_drops_the_old_one_next_time(prepared_migration: Migration) -> None:
    """kill -9 when the new index stands beside the one of before: the next prepare leaves the new one alone."""
    prepared_migration.sql("DROP INDEX dispatch_organization_acme.crossfade_key")
    prepared_migration.sql("CREATE INDEX crossfade_identity ON dispatch_organization_acme.prompt (md5(id::text))")
    settings = prepared_migration.app.settings
    killed = crossfade(settings, "prepare", CROSSFADE_FAILPOINTS="prepare.index_built=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(indexes(prepared_migration)) == [("crossfade_identity", True), ("crossfade_key", True)]
    assert crossfade(settings, "prepare").returncode == 0
    assert indexes(prepared_migration) == [("crossfade_key", True)]


def test_records_are_looked_up_by_the_index(prepared_migration: Migration) -> None:
    """What is asked by canonical id needs no look at the whole table."""
    part = tenant_part("acme", Reading())
    wanted = select(part.local).where(part.where_key(these([str(uuid4())])))
    plan = f"EXPLAIN {literal_sql(wanted)}"
    with prepared_migration.stores.legacy.begin() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        said = " ".join(row[0] for row in connection.exec_driver_sql(plan))
    assert "crossfade_key" in said
    assert "Seq Scan" not in said


def late_tenant(migration: Migration) -> None:
    """A tenant that Dispatch made when the migration was long under way."""
    with migration.stores.legacy.begin() as connection:
        create_tenants(connection, ("late",))


def pins(migration: Migration) -> list[tuple[int, dict[str, str]]]:
    """Epoch and pins of legacy's route, then of new's."""
    chosen = "SELECT epoch, pins FROM crossfade.route"
    return [(row[0], row[1]) for store in (migration.sql, migration.new_sql) for row in store(chosen)]


def prepare_again(migration: Migration) -> None:
    with opened(migration.app.settings, bulk=True) as stores:
        prepare_stores(migration.app, stores, id_index=True, reason="a late tenant")


def test_both_routes_say_the_same(prepared_migration: Migration) -> None:
    """Legacy's copy of the route has new's salt, epoch, percent, pins and mode from the beginning."""
    chosen = "SELECT epoch, writes_percent, salt, guard, pins FROM crossfade.route"
    assert prepared_migration.sql(chosen) == prepared_migration.new_sql(chosen)


def test_tenant_that_comes_late_stays_with_legacy(prepared_migration: Migration) -> None:
    """Once writes have moved, a new tenant is pinned in both routes, so that what it holds lives where it is."""
    prepared_migration.route(100)
    late_tenant(prepared_migration)
    prepared_migration.prompt("late", project=1)
    prepare_again(prepared_migration)
    (epoch, there), (same_epoch, here) = pins(prepared_migration)
    assert there == here == {"late": "legacy"}
    assert epoch == same_epoch
    prepared_migration.prompt("late", project=2)
    with pytest.raises(NoAuthority), speaking_for(Store.LEGACY):
        prepared_migration.prompt("acme", project=2)
    prepare_again(prepared_migration)
    assert pins(prepared_migration)[0] == (epoch, there)


def test_no_pin_while_legacy_has_all(prepared_migration: Migration) -> None:
    """Before any authority has moved a late tenant is one like the others."""
    late_tenant(prepared_migration)
    prepare_again(prepared_migration)
    assert [pinned for _, pinned in pins(prepared_migration)] == [{}, {}]


def test_crash_between_the_two_pins_is_finished_by_running_it_again(prepared_migration: Migration) -> None:
    """With new's pin alone, new takes nothing of the tenant and legacy is not guarded: the next run adds the other."""
    prepared_migration.route(50)
    late_tenant(prepared_migration)
    prepared_migration.new_sql("""UPDATE crossfade.route SET epoch = epoch + 1, pins = '{"late": "legacy"}'""")
    prepare_again(prepared_migration)
    legacy, new = pins(prepared_migration)
    assert legacy == new
    assert legacy[1] == {"late": "legacy"}


def test_late_tenant_waits_for_an_unfinished_act(prepared_migration: Migration) -> None:
    """While an act that moves authority is half done nothing is pinned, and nothing of the tenant is guarded."""
    prepared_migration.route(50)
    late_tenant(prepared_migration)
    prepared_migration.new_sql(
        "INSERT INTO crossfade.journal (command, actor, reason, loser, before, after)"
        " SELECT 'ramp', 'a', '', 'legacy', stand, stand || '{\"epoch\": 9, \"left_behind\": []}'"
        " FROM (SELECT jsonb_build_object('writes_percent', 50, 'reads_percent', 0, 'shadow_percent', 100,"
        " 'phase', 'RAMPING', 'pins', '{}'::jsonb, 'automatic', '[]'::jsonb) AS stand) AS given"
    )
    with pytest.raises(Refused, match="crossfade resume"):
        prepare_again(prepared_migration)
    assert [pinned for _, pinned in pins(prepared_migration)] == [{}, {}]
    assert (
        prepared_migration.sql("SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass(:t) AND NOT tgisinternal", t=LATE)
        == []
    )


def test_a_fence_that_is_not_to_be_had_changes_nothing(
    prepared_migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that does not end: prepare gives up after its attempts, and says whose transactions to end."""
    monkeypatch.setattr(triggers, "LOCK_TIMEOUT", "10ms")
    prepared_migration.route(50)
    late_tenant(prepared_migration)
    with prepared_migration.stores.new.connect() as writer:
        writer.execute(text("SELECT pg_advisory_xact_lock_shared(:class, :key)"), {"class": FENCE[0], "key": FENCE[1]})
        with pytest.raises(Refused, match=r"new: the fence was .*pg_stat_activity"):
            prepare_again(prepared_migration)
    assert [pinned for _, pinned in pins(prepared_migration)] == [{}, {}]


def test_prepare_after_the_end_is_refused(prepared_migration: Migration) -> None:
    """When legacy was let go of, nothing is attached to it again."""
    prepared_migration.new_sql("UPDATE crossfade.phase SET phase = 'COMPLETE'")
    with pytest.raises(Refused, match="complete"):
        prepare_again(prepared_migration)
