"""Faults that a review found, each shown to be there before it was mended."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner
from copying import TABLE, fill, waits
from fix_postgres import Databases, until
from fix_stores import Migration, create_tenants, migration_between
from sqlalchemy import Engine, event, func, make_url, select, text

from adapters.postgres.errors import speaking_for
from adapters.postgres.guarding import FENCE
from adapters.postgres.held_rows import HeldRows
from adapters.postgres.ledger.audit import AuditBook
from adapters.postgres.ledger.baselines import BaselineBook
from adapters.postgres.ledger.courses import CourseBook
from adapters.postgres.ledger.locks import command_lock, is_locked
from adapters.postgres.ledger.running_total import RunningTotal
from adapters.postgres.ledger.statistics import MinuteRollUp, StatisticsBook
from adapters.postgres.ledger.verifying import VerifyingBook
from adapters.postgres.pool import open_engine
from adapters.prompts.dispatch_rows import legacy_id
from adapters.prompts.migration import opened
from harness.autoramp import Course, State, Step, begun, plan_of
from harness.catchup import Carried
from harness.cli.app import confirmed
from harness.cli.authority import begin
from harness.cli.autoramp import StoresHelm, steer
from harness.cli.catchup import _work
from harness.cli.gathering import _way_back, gather
from harness.cli.main import main
from harness.cli.metrics import exported, standing_of
from harness.cli.planning import plan
from harness.cli.quarantine import accept_rows
from harness.cli.run import keep_totals
from harness.cli.shares import Wish, ramp_shares
from harness.cli.verify import verify_stores
from harness.cli.watch import _keys, watch
from harness.cli.watching import Watching
from harness.errors import ConfigError, CrossfadeError, MismatchFound, Refused, StoreTimeout, StoreUnavailable
from harness.gates import GATES, evaluate
from harness.looking import Looker, Mark, Record
from harness.pulse import Pulse, tally, window_of
from harness.records import Kind, Quarantined, Verdict
from harness.routing import Store
from harness.settings import (
    LegacySettings,
    MoveSettings,
    PoolSettings,
    VerifySettings,
)
from harness.statistics import Apply, Result, Statistics
from harness.watched import _OLD
from reports.activity import over_time
from reports.report import build


def key(number: int) -> str:
    return str(legacy_id("acme", number))


def there(migration: Migration, number: int) -> bool:
    return bool(migration.new_sql("SELECT 1 FROM prompts WHERE id = cast(:id AS uuid)", id=key(number)))


def set_for_database(url: str, setting: str, value: str) -> None:
    """As an administrator does: for every session of the database that begins from now on."""
    engine = open_engine(url, Store.NEW, PoolSettings())
    name = make_url(url).database
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE \"{name}\" SET {setting} = '{value}'")
    engine.dispose()


# --- Backfill and authority ---------------------------------------------------------------------------------------


def test_backfill_does_not_bring_back_what_new_has_deleted(carried_migration: Migration) -> None:
    """A chunk copies no row of a scope that new has authority over: new may have deleted it since."""
    migration = carried_migration
    number = migration.prompt(enabled=True)
    assert migration.drain() == 0
    migration.route(100.0)
    migration.new_sql("DELETE FROM prompts WHERE id = cast(:id AS uuid)", id=key(number))
    done = migration.backfill()
    assert (done["copied"], done["already_there"], done["deferred"]) == (0, 0, 1)
    assert not there(migration, number)
    assert migration.drain() == 0
    assert not there(migration, number)
    assert migration.sql(f"SELECT count(*) FROM {TABLE}") == [(0,)]


def test_backfill_copies_what_legacy_has_authority_over(carried_migration: Migration) -> None:
    """While writes have moved in part, rows of scopes that stayed are copied, enabled ones too, and counted apart."""
    migration = carried_migration
    numbers = [migration.prompt(project=project, enabled=True) for project in (1, 2)]
    migration.sql("DELETE FROM crossfade.dirty")  # so that nothing but the copy can bring them
    migration.route(100.0, **{"acme/project-2/incident-summary": "legacy"})
    done = migration.backfill()
    assert (done["copied"], done["deferred"]) == (1, 1)
    assert [there(migration, number) for number in numbers] == [False, True]


def test_backfill_is_over_once_the_migration_is_complete(carried_migration: Migration) -> None:
    """After complete legacy is nobody's truth, and nothing of it is copied any more."""
    migration = carried_migration
    number = migration.prompt(enabled=True)
    assert migration.drain() == 0
    migration.new_sql("UPDATE crossfade.phase SET phase = 'COMPLETE'")
    migration.route(100.0)
    with pytest.raises(Refused, match="COMPLETE"):
        migration.backfill()
    assert there(migration, number)


# --- Settings of the role or of the database ----------------------------------------------------------------------


@pytest.fixture
def stubborn(databases: Databases) -> Databases:
    """Databases whose administrator prefers REPEATABLE READ, and commits that do not wait for the disk."""
    for url in (databases.legacy_url, databases.new_url):
        set_for_database(url, "default_transaction_isolation", "repeatable read")
        set_for_database(url, "synchronous_commit", "off")
    return databases


def test_recovery_sees_what_was_committed_while_it_waited(stubborn: Databases) -> None:
    """Who waits for the loser's fence reads its route as it is afterwards, whatever isolation the database prefers.

    By a snapshot from before it would call an act undone that has happened: nobody could write its scopes any more.
    """
    with migration_between(stubborn) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        migration.prepare()
        migration.backfill()
        wanted = replace(plan(migration.stores, "ramp", Wish(None, 100.0)), obstacles={})
        act = begin(migration.stores, wanted, "a test")
        became: list[bool] = []
        with migration.stores.legacy.connect() as operator:  # who holds the fence, and is about to commit the route
            operator.execute(select(func.pg_advisory_xact_lock(*FENCE)))
            moved = text("UPDATE crossfade.route SET epoch = :epoch, writes_percent = 100")
            operator.execute(moved, {"epoch": act.epoch})
            recovery = threading.Thread(
                target=lambda: became.append(migration.stores.fences.happened(act, else_undo=True))
            )
            recovery.start()
            until(lambda: _waiting(migration.stores.legacy))
            operator.commit()
        recovery.join(30)
        assert became == [True]
        assert migration.stores.journal.pending() is not None


def _waiting(engine: Engine) -> bool:
    with engine.connect() as connection:
        asked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return bool(connection.execute(text(asked)).scalar_one())


@pytest.mark.parametrize(
    ("setting", "is_to_be"), [("transaction_isolation", "read committed"), ("synchronous_commit", "on")]
)
def test_our_sessions_do_not_inherit_what_breaks_a_promise(stubborn: Databases, setting: str, is_to_be: str) -> None:
    """READ COMMITTED, for what is decided under a lock is read after it; and commits that no crash takes back."""
    for store, url in ((Store.LEGACY, stubborn.legacy_url), (Store.NEW, stubborn.new_url)):
        engine = open_engine(url, store, PoolSettings())
        with engine.connect() as connection:
            assert connection.execute(text(f"SHOW {setting}")).scalar_one() == is_to_be
        engine.dispose()


def test_a_stricter_commit_stays(databases: Databases) -> None:
    """Whoever waits for replicas at each commit does so for ours as well."""
    set_for_database(databases.new_url, "synchronous_commit", "remote_write")
    engine = open_engine(databases.new_url, Store.NEW, PoolSettings())
    with engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "remote_write"
    engine.dispose()


def test_a_commands_lock_outlasts_an_idle_limit(prepared: Databases) -> None:
    """A server that ends idle sessions does not free the lock of a command that is at work."""
    set_for_database(prepared.new_url, "idle_session_timeout", "200ms")
    engine = open_engine(prepared.new_url, Store.NEW, PoolSettings())
    with command_lock(engine, "verify"):
        with engine.connect() as other:
            [mine] = other.execute(text("SELECT pid FROM pg_locks WHERE locktype = 'advisory'")).scalars()
            for_long = "clock_timestamp() - state_change > interval '1 second'"
            asked = text(f"SELECT {for_long} FROM pg_stat_activity WHERE pid = :pid")
            until(lambda: other.execute(asked, {"pid": mine}).scalar() is not False)
        assert is_locked(engine, "verify")
    engine.dispose()


def test_bulk_work_waits_for_its_turn_whatever_the_databases_limits(databases: Databases) -> None:
    """A chunk that waits for a batch of catch-up waits on, though the database would end a wait for a lock at once."""
    for url in (databases.legacy_url, databases.new_url):
        set_for_database(url, "lock_timeout", "50ms")
    with migration_between(databases) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        migration.prompt(enabled=True)
        migration.prepare()
        done: list[dict[str, object]] = []
        copying = threading.Thread(target=lambda: done.append(migration.backfill()))
        with migration.stores.new.begin() as batch:
            batch.execute(text("LOCK TABLE crossfade.standing IN ROW EXCLUSIVE MODE"))
            copying.start()
            until(lambda: not copying.is_alive() or _waits_for_long(migration))
        copying.join(30)
        assert [each["copied"] for each in done] == [1]


def _waits_for_long(migration: Migration) -> bool:
    longer = "clock_timestamp() - query_start > interval '300 ms' AND wait_event_type = 'Lock'"
    return bool(migration.new_sql(f"SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND {longer}"))


# --- Statistics ---------------------------------------------------------------------------------------------------


class Book(StatisticsBook):
    """A ledger whose clock is moved by hand. ``lost``: so often it commits, and dies before it can say so."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.now, self.lost = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC), 0

    def moment(self) -> tuple[int, datetime]:
        return super().moment()[0], self.now

    def roll_up(self, process: UUID, minute: datetime, counted: Statistics) -> int:
        epoch = super().roll_up(process, minute, counted)
        if self.lost:
            self.lost -= 1
            raise CrossfadeError("the answer was lost")
        return epoch


def matched(n: int) -> Statistics:
    found = Statistics()
    found.comparisons["find_by_id", Result.MATCHED] = n
    return found


def total(book: StatisticsBook, since: datetime | None = None) -> int:
    return book.total(since).results()[Result.MATCHED]


def test_a_roll_up_whose_answer_was_lost_counts_once(prepared_new: Engine) -> None:
    """Tried again in the next minute, with what came meanwhile, an increment that is durable already is not doubled."""
    book = Book(prepared_new)
    roll_up = MinuteRollUp(book, uuid4())
    roll_up(matched(100))
    book.lost = 2
    for _ in range(2):
        with pytest.raises(CrossfadeError):
            roll_up(matched(10))
        book.now += timedelta(minutes=1)
    roll_up(matched(10 + 5))
    assert total(book) == 115
    roll_up(matched(1))
    assert total(book) == 116


def test_what_was_counted_before_a_step_is_none_of_its_evidence(prepared_new: Engine) -> None:
    """An increment that began before the route changed belongs to the time before, though a new minute has begun."""
    book = Book(prepared_new)
    roll_up = MinuteRollUp(book, uuid4())
    book.now += timedelta(seconds=28)  # 12:00:58
    roll_up(matched(1))
    with prepared_new.begin() as connection:
        connection.execute(text("UPDATE crossfade.route SET epoch = epoch + 1"))
    since = book.now + timedelta(seconds=1)
    book.now += timedelta(seconds=4)  # 12:01:02, of which a second before the step
    roll_up(matched(1_000))
    assert total(book, since) == 0
    book.now += timedelta(seconds=5)
    roll_up(matched(7))
    assert total(book, since) == 7
    assert total(book) == 1_008


def test_a_process_that_begins_before_a_step_begins_its_count_there(prepared_new: Engine) -> None:
    """The first increment reaches back to the process's beginning, and bears that moment by the ledger's clock."""
    book = Book(prepared_new)
    clock = [100.0]
    roll_up = MinuteRollUp(book, uuid4(), lambda: clock[0])
    since = book.now + timedelta(seconds=20)
    book.now += timedelta(seconds=32)  # 12:01:02
    clock[0] += 32
    roll_up(matched(50))
    assert (total(book, since), total(book)) == (0, 50)


# --- Verify -------------------------------------------------------------------------------------------------------


def test_sums_of_another_reading_are_not_gone_on_with(databases: Databases) -> None:
    """What was kept of an interrupted verification says nothing once legacy's stamps are read in another zone."""
    pieces = VerifySettings(patience_seconds=0, segment_mb=1, workers=1)
    with migration_between(databases, verify=pieces) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        fill(migration, rows=30)
        migration.prepare()
        migration.backfill()
        book, stop = VerifyingBook(migration.stores.new), migration.app.stop

        def after_all(done: int, total: int) -> None:
            if done == total:
                stop.set()

        with pytest.raises(CrossfadeError, match="--resume goes on"):
            verify_stores(migration.app, migration.stores, checkpoints=book, progress=after_all)
        stop.clear()
        assert len(list(book.kept())) > 1
        legacy = LegacySettings(url=databases.legacy_url, time_zone="Europe/Berlin")
        with migration_between(databases, verify=pieces) as other:
            settings = replace(other.app.settings, legacy=legacy)
            stores = replace(other.stores, settings=settings)
            found = verify_stores(other.app, stores, checkpoints=book, resume=True)
        assert found.snapshots == 1
        assert found.verdict is Verdict.FAIL


def test_more_workers_than_connections_are_refused_at_once(databases: Databases) -> None:
    """A pool that cannot serve the workers is a mistake in the settings, not a store that is away after a while."""
    sections = {"verify": VerifySettings(workers=8), "pool": PoolSettings(max_connections=10)}
    with migration_between(databases, **sections) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection)
        migration.prepare()
        migration.backfill()
        with pytest.raises(ConfigError, match=r"raise that to 11, or use 7 workers"):
            migration.verify()


@dataclass
class Restless:
    """Legacy and quarantine say something else of a row at every look."""

    looks: int = 0
    steady: frozenset[str] = frozenset()

    def misplaced(self, keys: Collection[str]) -> Mapping[str, str | None]:
        self.looks += 1
        return {each: "still" if each in self.steady else f"scope {self.looks}" for each in keys}

    def noted(self, keys: Collection[str], scopes: Collection[str | None]) -> frozenset[str]:
        return frozenset()

    def owed(self, keys: Collection[str]) -> frozenset[str]:
        return frozenset()


@dataclass
class Nothing:
    columns: tuple[str, ...] = ()

    def marks(self, keys: Collection[str]) -> Mapping[str, Mark]:
        return {}

    def records(self, keys: Collection[str]) -> Mapping[str, Record]:
        return {}


def test_a_quarantine_that_never_stands_still_is_unsettled() -> None:
    """Entries that change between all looks are no confirmed difference; one that stands still among them is."""
    queue = Restless(steady=frozenset({"b"}))
    looker = Looker(Nothing(), Nothing(), queue, 5, until=0.0, clock=lambda: 1.0, stop=Event())
    looker.look_at_quarantine(["a", "b"])
    assert looker.findings.kinds == {Kind.MISPLACED: 1}
    assert [each.key for each in looker.findings.examples] == ["b"]
    assert looker.findings.unsettled == 1


# --- Quarantine ---------------------------------------------------------------------------------------------------


def test_an_acceptance_is_not_of_a_row_that_changed_while_it_was_given(
    carried_migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that is carried over between the look at the row and the acceptance takes the acceptance back."""
    migration = carried_migration
    number = migration.prompt(genai_prompt="w" * 10_001)
    assert migration.drain() == 0
    look, others = HeldRows.images, list[threading.Thread]()

    def write_and_carry() -> None:
        migration.sql(f"UPDATE {TABLE} SET genai_prompt = genai_prompt || 'more' WHERE id = :id", id=number)
        migration.drain()

    def looked(self: HeldRows, entries: Sequence[Quarantined]) -> dict[str, Mapping[str, Any] | None]:
        found = look(self, entries)
        others.append(threading.Thread(target=write_and_carry))
        others[0].start()
        until(lambda: not others[0].is_alive() or waits(migration) > 0)
        return found

    monkeypatch.setattr(HeldRows, "images", looked)
    accept_rows(migration.stores, [key(number)], "an essay")
    others[0].join(30)
    assert migration.new_sql("SELECT accepted FROM crossfade.quarantine") == [(None,)]


# --- Errors -------------------------------------------------------------------------------------------------------


def test_a_demoted_server_is_waited_for(prepared: Databases) -> None:
    """After a failover the old server takes no writes: the store is unavailable, which followers wait out."""
    set_for_database(prepared.new_url, "default_transaction_read_only", "on")
    engine = open_engine(prepared.new_url, Store.NEW, PoolSettings())
    with pytest.raises(StoreUnavailable, match="takes no writes now"):
        StatisticsBook(engine).roll_up(uuid4(), datetime.now(UTC), matched(1))
    engine.dispose()


def test_a_limit_of_transactions_is_a_timeout(databases: Databases) -> None:
    """What transaction_timeout ends (PostgreSQL 17) is late, and no fault of ours that wants a report."""
    engine = open_engine(databases.new_url, Store.NEW, PoolSettings())
    ended = "DO $$ BEGIN RAISE EXCEPTION 'late' USING ERRCODE = '25P04'; END $$"
    with pytest.raises(StoreTimeout), speaking_for(Store.NEW), engine.begin() as connection:
        connection.exec_driver_sql(ended)
    engine.dispose()


# --- Live page ----------------------------------------------------------------------------------------------------


def test_a_watch_that_began_before_prepare_sees_what_came_after(migration: Migration) -> None:
    """What was said of two databases without a migration is not what is said of the migration that began since."""
    watching = Watching(migration.stores)
    watching.look()
    assert watching.document()["phase"] == "IDLE"
    migration.prepare()
    migration.prompt(project=None)
    migration.backfill()
    watching.look()
    watching.judge()
    found = watching.document()
    assert (found["phase"], found["quarantined"]) == ("BACKFILLED", 1)
    assert [gate["name"] for gate in found["gates"]] == list(GATES)


def test_a_slow_pace_shows_nothing_older_than_a_quick_one(
    prepared_migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However rarely it is shown, it is looked at often enough that nothing calls itself old, and curves go on."""
    paces: list[float] = []
    looking = Watching.looking

    @contextmanager
    def noted(watching: Watching, seconds: float) -> Iterator[None]:
        paces.append(seconds)
        prepared_migration.app.stop.set()
        with looking(watching, seconds):
            yield

    monkeypatch.setattr(Watching, "looking", noted)
    watch(prepared_migration.app, 3600.0)
    [pace] = paces
    pulse, now = Pulse(window_of(5.0), 0.0, 0.0), 0.0
    for _ in range(60):
        pulse.take(now := now + pace, tally(Statistics()), 0.1)
    assert pulse.history()["lag_seconds"][-5:] == [0.1] * 5
    assert pace < _OLD


def test_counts_are_followed_by_the_ledgers_clock(prepared_new: Engine) -> None:
    """Minutes are the ledger's: whoever looks from a machine whose clock is ahead misses none that still grows."""
    book, process = Book(prepared_new), uuid4()
    running = RunningTotal(book)
    minute = book.now.replace(second=0)
    book.roll_up(process, minute, matched(100))
    assert running.total().results()[Result.MATCHED] == 100
    book.roll_up(process, minute, matched(150))
    assert running.total().results()[Result.MATCHED] == 150


def test_an_old_minute_that_was_corrected_is_noticed_within_the_hour(prepared_new: Engine) -> None:
    """A process that was idle adds to its last row when the route changes: whoever follows the counts finds it."""
    book, now = Book(prepared_new), [Book(prepared_new).now]
    roll_up, running = MinuteRollUp(book, uuid4()), RunningTotal(book, lambda: now[0])
    roll_up(matched(1))
    book.now = now[0] = now[0] + timedelta(minutes=10)
    assert running.total().results()[Result.MATCHED] == 1
    with prepared_new.begin() as connection:
        connection.execute(text("UPDATE crossfade.route SET epoch = epoch + 1"))
    roll_up(matched(1_000))
    assert total(book) == 1_001
    now[0] += timedelta(hours=1)
    assert running.total().results()[Result.MATCHED] == 1_001
    assert running.total().results()[Result.MATCHED] == 1_001


@pytest.mark.parametrize("stdin", [None, "/dev/null"])
def test_a_watch_without_keys_waits_for_a_signal(
    prepared_migration: Migration, monkeypatch: pytest.MonkeyPatch, stdin: str | None
) -> None:
    """Standard input that is closed is no terminal, and no error."""
    with open(stdin) if stdin else nullcontext() as given:  # noqa: PTH123 - as a shell opens it
        monkeypatch.setattr("sys.stdin", given)
        with _keys(prepared_migration.app) as ended:
            assert not ended(0.0)
            prepared_migration.app.stop.set()
            assert ended(60.0)
        with pytest.raises(Refused, match="--yes"):
            confirmed(replace(prepared_migration.app, json=False), "Really?", yes=False)


# --- Evidence -----------------------------------------------------------------------------------------------------


def test_the_whole_is_the_sum_of_its_minutes(carried_migration: Migration) -> None:
    """What is counted while the evidence is read is in the whole and in its minute, or in neither."""
    stores = carried_migration.stores
    book, process = StatisticsBook(stores.new), uuid4()
    book.roll_up(process, book.moment()[1], matched(10))
    fetched = 0

    @event.listens_for(stores.new, "after_cursor_execute")
    def count_on(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal fetched
        if "FROM crossfade.statistics" in statement:
            fetched += 1
            if fetched == 1:
                book.roll_up(uuid4(), book.moment()[1], matched(5))

    try:
        found = gather(stores)
    finally:
        event.remove(stores.new, "after_cursor_execute", count_on)
    assert fetched
    by_minute = sum(counted.results()[Result.MATCHED] for _, counted in found.by_minute)
    assert found.statistics.results()[Result.MATCHED] == by_minute == 10


def test_months_are_read_in_stretches(carried_migration: Migration) -> None:
    """However long the history, a report holds some hundred stretches of it: equally long, and nothing is lost."""
    book, process = StatisticsBook(carried_migration.stores.new), uuid4()
    begin = (book.moment()[1] + timedelta(minutes=1)).replace(second=0, microsecond=0)
    for n in range(0, 50 * 37, 37):
        book.roll_up(process, begin + timedelta(minutes=n), matched(n + 1))
    minutes, found = book.by_stretch(None, 10)
    assert minutes == 256
    assert [(at - begin) // timedelta(minutes=256) for at, _ in found] == list(range(len(found))) == list(range(8))
    assert [counted.results()[Result.MATCHED] for _, counted in found] == [
        sum(n + 1 for n in range(0, 50 * 37, 37) if n // 256 == place) for place in range(8)
    ]
    evidence = replace(gather(carried_migration.stores), by_minute=tuple(found), minutes=minutes)
    told = over_time(evidence)
    assert told["minutes_per_point"] == 256
    assert sum(point["compared"] for point in told["points"]) == evidence.statistics.results()[Result.MATCHED]
    assert {datetime.fromisoformat(point["at"]) for point in told["points"]} >= {at for at, _ in found}
    assert book.by_stretch(begin + timedelta(days=9), 10) == (1, [])


def test_an_automatic_ramp_that_tries_for_hours_hides_no_repair(carried_migration: Migration) -> None:
    """Evidence counts from the last repair on, however many steps an automatic ramp has begun and taken back since."""
    migration = carried_migration
    migration.prompt(enabled=True)
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS
    AuditBook(migration.stores.new).add("ann", "repair", "a test")
    assert gather(migration.stores).verification is None
    migration.new_sql(
        "INSERT INTO crossfade.audit (actor, action, reason)"
        " SELECT 'ann', CASE n % 2 WHEN 0 THEN 'auto advance begun' ELSE 'auto taken back' END, ''"
        " FROM generate_series(1, 10001) n"
    )
    assert gather(migration.stores).verification is None
    assert gather(migration.stores).audit[0].action.startswith("auto ")


def test_what_takes_too_long_to_count_costs_no_report(prepared_migration: Migration) -> None:
    """Where counting what a rollback would move meets the limit of statements, the report says that it was not."""
    hurried = replace(prepared_migration.app.settings, pool=PoolSettings(statement_seconds=0.2))
    with opened(hurried) as stores, prepared_migration.stores.new.begin() as holding:
        assert _way_back(stores) is not None
        holding.exec_driver_sql("LOCK TABLE prompts IN ACCESS EXCLUSIVE MODE")
        assert _way_back(stores) is None


def test_what_is_listed_in_part_is_counted_whole(carried_migration: Migration) -> None:
    """More scopes refused, acts and runs than a report lists: beside the lists stands how many there are."""
    carried_migration.new_sql(
        "INSERT INTO crossfade.rejection (scope, error)"
        " SELECT 'acme/project-' || n, 'refused' FROM generate_series(1, 250) n"
    )
    before = len(AuditBook(carried_migration.stores.new).entries(1000))
    carried_migration.new_sql(
        "INSERT INTO crossfade.audit (actor, action, reason) SELECT 'ann', 'noted', '' FROM generate_series(1, 250)"
    )
    carried_migration.verify()
    for _ in range(25):
        keep_totals(carried_migration.stores, {"seconds": 1.0})
    evidence = gather(carried_migration.stores)
    made = build(evidence, evaluate(evidence, carried_migration.app.settings.gates)).model
    assert (made["rejections"]["total"], made["timeline"]["total"]) == (250, before + 250)
    assert (made["runs"]["total"], made["verification"]["earlier_total"]) == (25, 0)
    [gate] = [each for each in made["gates"] if each["name"] == "rejections"]
    assert gate["evidence"].startswith("250 scopes could not be carried over: ")
    assert gate["evidence"].endswith(" and 244 more")
    assert (
        standing_of(carried_migration.stores, RunningTotal(StatisticsBook(carried_migration.stores.new))).rejected
        == 250
    )


# --- Automatic ramp -----------------------------------------------------------------------------------------------


def test_a_stop_that_meets_a_step_is_obeyed(prepared_migration: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the ramp notes something between the stop's look and its word: it is stopped all the same."""
    stores, running = prepared_migration.stores, CourseBook(prepared_migration.stores.new)
    plan_ = (Step(0.0, 0.0), Step(10.0, 0.0))
    running.begin(begun(plan_, plan_[0], "ann", datetime.now(UTC)), "a test")
    seen, met = CourseBook.course, [False]

    def course(book: CourseBook) -> Course | None:
        found = seen(book)
        if book is not running and not met[0]:
            met[0] = True
            now = seen(running)
            assert now is not None
            running.keep(replace(now, towards=1), "advance begun")
        return found

    monkeypatch.setattr(CourseBook, "course", course)
    monkeypatch.setenv("CROSSFADE_ACTOR", "bob")
    assert steer(stores, "stop", "enough")["state"] == "stopped"
    [stopped] = [each for each in AuditBook(stores.new).entries() if each.action == "auto stopped"]
    assert (stopped.actor, stopped.reason) == ("bob", "enough")
    now = running.course()
    assert now is not None
    assert (now.state, now.towards, now.reason) == (State.STOPPED, 1, "enough")


def test_reads_go_back_at_once_though_writes_must_wait(carried_migration: Migration) -> None:
    """A retreat whose fence somebody holds up is refused and tried again; callers do not read from new until then."""
    migration = carried_migration
    migration.prompt(enabled=True)
    assert migration.drain() == 0
    assert migration.verify().verdict is Verdict.PASS
    settings = replace(migration.app.settings, move=MoveSettings(long_transaction_seconds=0.05))
    stores = replace(migration.stores, settings=settings)
    ramp_shares(migration.app, stores, 100.0, 50.0, "by hand")
    helm, back = StoresHelm(migration.app, stores), Step(0.0, 0.0)
    with migration.stores.legacy.begin() as holding:
        holding.execute(select(func.pg_advisory_xact_lock_shared(*FENCE)))
        until(lambda: bool(stores.long_transactions()))
        for _ in range(2):
            with pytest.raises(Refused, match="long_transactions"):
                helm.go(back, "automatic ramp: retreat", None)
            assert helm.stands() == Step(0.0, 50.0)
        with pytest.raises(Refused):
            helm.go(Step(100.0, 100.0), "automatic ramp: advance", Step(0.0, 50.0))
        assert helm.stands() == Step(0.0, 50.0)
    helm.go(back, "automatic ramp: retreat", None)
    assert helm.stands() == back


def test_a_retreat_is_a_document_too(carried_migration: Migration) -> None:
    """With --json a ramp that has retreated says so on standard output, and ends with 3."""
    settings = carried_migration.app.settings
    steps = plan_of(settings.ramp)
    retreating = replace(begun(steps, steps[0], "ann", datetime.now(UTC)), state=State.RETREATING, reason="errors: 9")
    CourseBook(carried_migration.stores.new).begin(retreating, "a test")
    variables = {"CROSSFADE_LEGACY_URL": settings.legacy.url, "CROSSFADE_NEW_URL": settings.new.url}
    done = CliRunner().invoke(main, ["ramp", "--auto", "--json"], env=variables)
    assert done.exit_code == MismatchFound.exit_code
    found = json.loads(done.stdout)
    assert (found["state"], found["reads_percent"], found["reason"]) == ("retreated", 0.0, "errors: 9")
    assert "has retreated" in done.stderr


# --- Catch-up -----------------------------------------------------------------------------------------------------


class Failing:
    """A carrier that fails as only a fault of ours can; ``applies`` are what it has done before."""

    def carry_batch(self) -> Carried:
        raise RuntimeError("a fault of ours")

    def applies(self) -> Counter[Apply]:
        return Counter({Apply.REJECTED: 3})

    def notes_left(self) -> int:
        return 0

    def tidy(self) -> None:
        pass


@pytest.mark.parametrize("failing", [0, 1])
def test_a_worker_that_dies_ends_the_command(carried_migration: Migration, failing: int) -> None:
    """With --follow its fellows do not go on in silence, and what was counted until then is handed on."""
    migration = carried_migration
    carriers: list[Any] = [migration.stores.new_carrier() for _ in range(2)]
    carriers[failing] = Failing()
    errors: list[Exception] = []

    def follow() -> None:
        try:
            with exported(migration.app, migration.stores, None) as publisher:
                _work(migration.app, migration.stores, carriers, publisher, True, 60.0)
        except RuntimeError as error:
            errors.append(error)

    working = threading.Thread(target=follow)
    working.start()
    working.join(15)
    alive = working.is_alive()
    migration.app.stop.set()
    working.join()
    assert not alive
    assert [str(error) for error in errors] == ["a fault of ours"]
    assert StatisticsBook(migration.stores.new).total().applies[Apply.REJECTED] == 3


# --- Noise baseline -----------------------------------------------------------------------------------------------


def test_what_was_learned_is_told_though_it_cannot_be_kept(
    carried_migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New goes away while legacy is asked: the result is printed, and the exit code says what is missing."""
    carried_migration.prompt(enabled=True)
    settings = carried_migration.app.settings

    def away(*_: object) -> None:
        raise StoreUnavailable("new: nothing listens there")

    monkeypatch.setattr(BaselineBook, "add", away)
    variables = {"CROSSFADE_LEGACY_URL": settings.legacy.url, "CROSSFADE_NEW_URL": settings.new.url}
    done = CliRunner().invoke(main, ["baseline", "--json", "--seconds", "0.5", "--pause", "0"], env=variables)
    assert done.exit_code == StoreUnavailable.exit_code
    found = json.loads(done.stdout)
    assert found["compared"] > 0
    assert found["kept"] is False
    assert "nothing listens there" in done.stderr
