"""The ledger's books, on a real database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from fix_postgres import Databases, engine_for, until
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import InvalidRequestError

from adapters.postgres.ledger import quarantine, rejections
from adapters.postgres.ledger.audit import AuditBook
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.postgres.ledger.held_back import let_go
from adapters.postgres.ledger.locks import command_lock, is_locked
from adapters.postgres.ledger.opening import open_ledger
from adapters.postgres.ledger.phases import PhaseBook
from adapters.postgres.ledger.route import RouteBook
from adapters.postgres.ledger.statistics import StatisticsBook
from adapters.postgres.trip import together as one_trip
from harness.errors import CommandLocked, ConfigError, IllegalPhase, Refused, StoreUnavailable
from harness.phases import Phase
from harness.records import FieldDifference, Kind, MismatchSample, RowDifference, RunTotals, Verdict, Verification
from harness.routing import Route, Store
from harness.statistics import Drop, Result, Role, Statistics

NOW = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
def other(prepared: Databases) -> Iterator[Engine]:
    """The same new database, as another process sees it."""
    with engine_for(prepared.new_url, Store.NEW) as engine:
        yield engine


def together(*acts: Callable[[], object]) -> list[object]:
    """What the acts return or raise when they begin at the same time."""
    start = threading.Barrier(len(acts))
    found: list[object] = [None] * len(acts)

    def go(place: int, act: Callable[[], object]) -> None:
        start.wait()
        try:
            found[place] = act()
        except Exception as error:  # noqa: BLE001 - errors are what some callers look for
            found[place] = error

    threads = [threading.Thread(target=go, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


# --- Phase --------------------------------------------------------------------------------------------------------


def test_a_migration_begins_idle(prepared_new: Engine) -> None:
    """After the ledger was opened the phase is IDLE, epoch 0, and all authority is with legacy."""
    state = PhaseBook(prepared_new).present()
    assert (state.phase, state.epoch, state.actor) == (Phase.IDLE, 0, "test")
    assert RouteBook(prepared_new).view().route == Route(salt="salt")


def test_opening_again_changes_nothing(prepared_new: Engine) -> None:
    """A second prepare keeps phase and salt: another salt would move scopes."""
    PhaseBook(prepared_new).advance(Phase.PREPARED, "ann", "begin")
    open_ledger(prepared_new, actor="bob", salt="another")
    assert PhaseBook(prepared_new).present().phase is Phase.PREPARED
    assert RouteBook(prepared_new).view().route.salt == "salt"


def test_a_phase_moves_with_epoch_actor_reason_and_audit(prepared_new: Engine) -> None:
    """A legal edge is taken, and the audit says who took it and why."""
    before = PhaseBook(prepared_new).present()
    state = PhaseBook(prepared_new).advance(Phase.PREPARED, "ann", "we begin", expected_epoch=0)
    assert (state.phase, state.epoch, state.actor, state.reason) == (Phase.PREPARED, 1, "ann", "we begin")
    assert state.since > before.since
    assert PhaseBook(prepared_new).present() == state
    (entry,) = AuditBook(prepared_new).entries()
    assert (entry.actor, entry.action, entry.reason) == ("ann", "phase", "we begin")
    assert entry.detail == {"from": "IDLE", "to": "PREPARED"}


def test_an_illegal_edge_changes_nothing(prepared_new: Engine) -> None:
    """What the table of edges does not allow is refused, without a trace in the ledger."""
    with pytest.raises(IllegalPhase, match="crossfade prepare"):
        PhaseBook(prepared_new).advance(Phase.CUT_OVER, "ann", "hurry")
    assert PhaseBook(prepared_new).present().phase is Phase.IDLE
    assert AuditBook(prepared_new).entries() == []


def test_a_phase_that_is_reached_already_stays_as_it_is(prepared_new: Engine) -> None:
    """A command that is run again takes no second step and leaves no second entry."""
    book = PhaseBook(prepared_new)
    first = book.advance(Phase.PREPARED, "ann", "we begin")
    assert book.advance(Phase.PREPARED, "bob", "again", expected_epoch=0) == first
    assert len(AuditBook(prepared_new).entries()) == 1


def test_a_decision_on_an_old_epoch_is_refused(prepared_new: Engine) -> None:
    """Who decided on a phase that has passed meanwhile is told so."""
    book = PhaseBook(prepared_new)
    book.advance(Phase.PREPARED, "ann", "we begin")
    with pytest.raises(Refused, match="moved to PREPARED meanwhile"):
        book.advance(Phase.BACKFILLED, "bob", "copied", expected_epoch=0)


def test_of_two_who_advance_at_once_one_does(prepared_new: Engine, other: Engine) -> None:
    """The same step taken twice at the same time is one step with one audit entry."""
    found = together(
        lambda: PhaseBook(prepared_new).advance(Phase.PREPARED, "ann", "a", expected_epoch=0),
        lambda: PhaseBook(other).advance(Phase.PREPARED, "bob", "b", expected_epoch=0),
    )
    assert found[0] == found[1] == PhaseBook(prepared_new).present()
    assert len(AuditBook(prepared_new).entries()) == 1


# --- Route --------------------------------------------------------------------------------------------------------


def test_a_change_of_the_route_raises_the_epoch_and_is_audited(prepared_new: Engine) -> None:
    """Only the given shares change; the audit keeps both values."""
    book = RouteBook(prepared_new)
    changed = book.change(reads_percent=12.34, actor="ann", reason="carefully", expected_epoch=0)
    assert changed == Route(epoch=1, reads_percent=12.34, salt="salt") == book.view().route
    (entry,) = AuditBook(prepared_new).entries()
    assert (entry.actor, entry.action, entry.reason) == ("ann", "route", "carefully")
    assert entry.detail == {"reads_percent": {"from": 0.0, "to": 12.34}}


def test_a_change_to_the_same_leaves_no_trace(prepared_new: Engine) -> None:
    """The same command again does nothing."""
    book = RouteBook(prepared_new)
    first = book.change(reads_percent=1, shadow_percent=50, actor="ann", reason="carefully")
    assert book.change(reads_percent=1, actor="ann", reason="again") == first
    assert len(AuditBook(prepared_new).entries()) == 1


@pytest.mark.parametrize("share", [101, -1, float("nan"), 0.001])
def test_a_share_that_is_none_is_refused(prepared_new: Engine, share: float) -> None:
    """Nothing is written for a share outside 0 to 100 or finer than 0.01."""
    with pytest.raises(ConfigError, match="reads_percent"):
        RouteBook(prepared_new).change(reads_percent=share, actor="ann", reason="oops")
    assert RouteBook(prepared_new).view().route.epoch == 0


def test_of_two_changes_on_the_same_epoch_one_is_refused(prepared_new: Engine, other: Engine) -> None:
    """Compare-and-set: nobody overwrites a change that he has not seen."""
    found = together(
        lambda: RouteBook(prepared_new).change(reads_percent=10, actor="ann", reason="a", expected_epoch=0),
        lambda: RouteBook(other).change(reads_percent=20, actor="bob", reason="b", expected_epoch=0),
    )
    refused = [result for result in found if isinstance(result, Refused)]
    done = [result for result in found if isinstance(result, Route)]
    assert len(refused) == len(done) == 1
    assert RouteBook(prepared_new).view().route == done[0]


def test_the_view_holds_what_is_in_quarantine(prepared_new: Engine) -> None:
    """Held scopes and keys come with the route, keys as the contract has them; the sets then differ."""
    key, alone = uuid4(), uuid4()
    row = {"key": str(key), "part": "p", "local": "7", "scope": "p/project-1", "reason": "empty_content"}
    with prepared_new.begin() as connection:
        quarantine.hold(connection, [row, row | {"key": str(alone), "scope": None}])
    view = RouteBook(prepared_new, key_type=UUID).view()
    assert view.held_scopes == {"p/project-1"}
    assert view.held_keys == {key, alone}
    assert view.sets_differ


@pytest.mark.parametrize("new_only", [True, False])
def test_records_that_only_new_can_hold_make_the_sets_differ(prepared_new: Engine, new_only: bool) -> None:
    """Without quarantine it depends on what new holds beyond legacy."""
    assert RouteBook(prepared_new, lambda: new_only).view().sets_differ is new_only


# --- Quarantine and rejections --------------------------------------------------------------------------------------


def test_quarantine_is_part_of_the_callers_transaction(prepared_new: Engine) -> None:
    """What is rolled back was never held."""
    row = {"key": "k", "part": "p", "local": "7", "scope": None, "reason": "no_project"}
    with prepared_new.connect() as connection:
        quarantine.hold(connection, [row])
    assert quarantine.held(prepared_new) == []
    assert quarantine.count(prepared_new) == 0


def test_a_row_held_again_keeps_its_since(prepared_new: Engine) -> None:
    """Reason and place follow the row, the time stays that of the first."""
    row = {"key": "k", "part": "p", "local": "7", "scope": None, "reason": "no_project"}
    with prepared_new.begin() as connection:
        quarantine.hold(connection, [row])
    (first,) = quarantine.held(prepared_new)
    with prepared_new.begin() as connection:
        quarantine.hold(connection, [row | {"scope": "s", "reason": "empty_content"}, row | {"key": "l"}])
    again, _ = quarantine.held(prepared_new)
    assert (again.since, again.scope, again.reason) == (first.since, "s", "empty_content")
    with prepared_new.begin() as connection:
        with one_trip(connection) as trip:
            let = let_go(trip, {"k", "unknown"}, {"k", "unknown"}, {"nowhere"})
        assert let() == 0
    assert [row.key for row in quarantine.held(prepared_new)] == ["l"]


def test_rejections_count_their_attempts_and_go_when_the_scope_is_carried(prepared_new: Engine) -> None:
    """A scope is listed once with its latest error; no scope is a scope of its own."""
    with prepared_new.begin() as connection:
        rejections.reject(connection, "s", "Conflict: first")
        rejections.reject(connection, None, "Conflict: alone")
    with prepared_new.begin() as connection:
        rejections.reject(connection, "s", "Conflict: second")
    listed = {each.scope: each for each in EvidenceBook(prepared_new).rejections()}
    assert (listed["s"].error, listed["s"].attempts) == ("Conflict: second", 2)
    assert listed["s"].first_seen < listed["s"].last_seen
    assert listed[None].attempts == 1
    with prepared_new.begin() as connection:
        with one_trip(connection) as trip:
            let = let_go(trip, (), (), {None, "unknown"})
        assert let() == 1
    assert [each.scope for each in rejections.rejections(prepared_new)] == ["s"]


# --- Evidence -----------------------------------------------------------------------------------------------------


def sample(operation: str = "find_by_id", arguments: str = "(1)") -> MismatchSample:
    differences = (FieldDifference("content", "a", "b"), FieldDifference("description", None, "x"))
    return MismatchSample(NOW, operation, Store.LEGACY, "s", arguments, differences)


def test_only_the_newest_samples_are_kept(prepared_new: Engine) -> None:
    """The ledger is bounded however many mismatches there are; what it keeps comes back as it was."""
    book = EvidenceBook(prepared_new, samples=3)
    for number in range(5):
        book.mismatch(sample(f"operation {number}"))
    assert book.mismatches() == [sample(f"operation {number}") for number in (4, 3, 2)]
    assert book.mismatches(limit=1) == [sample("operation 4")]
    EvidenceBook(prepared_new, samples=0).mismatch(sample("unwanted"))
    assert len(book.mismatches()) == 3


def test_a_sample_with_characters_that_jsonb_cannot_hold_is_kept(prepared_new: Engine) -> None:
    """NUL and lone surrogates are replaced; evidence is not lost for them."""
    book = EvidenceBook(prepared_new)
    odd = FieldDifference("content", "a\0b", "\ud800")
    book.mismatch(MismatchSample(NOW, "find_by_name", Store.NEW, None, "('\0',)", (odd,)))
    (kept,) = book.mismatches()
    assert kept.arguments == "('\ufffd',)"
    assert kept.differences == (FieldDifference("content", "a\ufffdb", "?"),)


def test_verifications_come_back_as_they_were(prepared_new: Engine) -> None:
    """Numbers, verdict and examples survive; the latest is first."""
    book = EvidenceBook(prepared_new)
    example = RowDifference("k", None, Kind.DIFFERENT, (FieldDifference("name", None, "x"),))
    first = Verification(NOW, Verdict.FAIL, 1, 2, 3, 4, 5, 6, 7, 8, new_only=9, seconds=1.5, examples=(example,))
    later = Verification(NOW + timedelta(hours=1), Verdict.PASS, 1, 0, 0, 0, 0, 0, 0, 0, new_only=0, seconds=0.5)
    book.add_verification(later)
    book.add_verification(first)
    assert book.verifications() == [later, first]
    assert book.verifications(limit=1) == [later]


def test_runs_come_back_as_they_were(prepared_new: Engine) -> None:
    """Totals are kept as they were printed; the latest is first."""
    book = EvidenceBook(prepared_new)
    runs = [RunTotals(NOW + timedelta(minutes=n), 60.0, {"operations": n, "served": {"legacy": n}}) for n in range(3)]
    for each in runs:
        book.add_run(each)
    assert book.runs(limit=2) == [runs[2], runs[1]]


# --- Statistics ---------------------------------------------------------------------------------------------------


def counted(n: int) -> Statistics:
    found = Statistics()
    found.latencies["find_by_id", Store.LEGACY, Role.SERVED].add_all([0.001] * n)
    found.comparisons["find_by_id", Result.MATCHED] = n
    found.drops[Drop.TIMEOUT] = 1
    return found


def test_a_minute_rolled_up_twice_counts_once(prepared_new: Engine) -> None:
    """The later count of a process's minute replaces the earlier; other processes, parts and minutes add to it."""
    book, first, second = StatisticsBook(prepared_new), uuid4(), uuid4()
    whole = NOW.replace(second=0, microsecond=0)
    book.roll_up(first, whole, counted(5))
    book.roll_up(first, whole, counted(7))
    book.roll_up(second, NOW, counted(10))
    book.roll_up(first, whole + timedelta(minutes=1), counted(100))
    total = book.total()
    assert total.results() == {Result.MATCHED: 117}
    assert total.drops == {Drop.TIMEOUT: 3}
    assert total.latency(Store.LEGACY).count == 117
    minutes = [(minute, each.results()[Result.MATCHED]) for minute, each in book.by_minute()]
    assert minutes == [(whole, 17), (whole + timedelta(minutes=1), 100)]
    assert book.total(since=NOW).results() == {Result.MATCHED: 110}


def test_no_statistics_are_empty_statistics(prepared_new: Engine) -> None:
    """Nothing counted is no error."""
    assert StatisticsBook(prepared_new).total().operations == []


# --- The lock of a command ------------------------------------------------------------------------------------------


def test_a_command_runs_once_at_a_time(prepared_new: Engine, other: Engine) -> None:
    """A second one is told at once which command is running; afterwards, and after a failure, it may run."""
    with command_lock(prepared_new, "backfill"):
        with pytest.raises(CommandLocked, match=r"another crossfade backfill is running \(crossfade backfill"):
            command_lock(other, "backfill").__enter__()
        with command_lock(other, "verify"):
            pass
    with pytest.raises(KeyError), command_lock(other, "backfill"):
        raise KeyError
    with command_lock(prepared_new, "backfill"):
        pass


def test_the_lock_of_a_dead_command_is_free(prepared_new: Engine, other: Engine) -> None:
    """When the holder's session ends, however it ends, the next command gets the lock."""
    with command_lock(prepared_new, "backfill"):
        with other.begin() as connection:
            ended = connection.execute(
                text(
                    "SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE application_name = 'crossfade backfill' AND datname = current_database()"
                )
            )
            assert ended.scalar_one()
        # The session is told to end; until it has, it still holds the lock.
        until(lambda: _is_free(other, "backfill"))


def test_a_lock_that_could_not_be_given_back_is_free(prepared_new: Engine, other: Engine) -> None:
    """Its session ends, instead of going back to the pool with the lock."""

    def fail(*arguments: object) -> None:
        if "pg_advisory_unlock" in str(arguments[2]):
            raise InvalidRequestError

    event.listen(prepared_new, "before_cursor_execute", fail)
    with command_lock(prepared_new, "backfill"):
        pass
    until(lambda: not is_locked(other, "backfill"))


def _is_free(engine: Engine, name: str) -> bool:
    try:
        with command_lock(engine, name):
            return True
    except CommandLocked:
        return False


def test_the_connection_gets_its_name_back(prepared_new: Engine) -> None:
    """A session that carried a command's name does not keep it in the pool."""
    with command_lock(prepared_new, "backfill"):
        pass
    with prepared_new.connect() as connection:
        assert connection.execute(text("SHOW application_name")).scalar_one() == "crossfade-test"


# --- Without a ledger -----------------------------------------------------------------------------------------------

ACTS: dict[str, Callable[[Engine], object]] = {
    "phase": lambda engine: PhaseBook(engine).present(),
    "advance": lambda engine: PhaseBook(engine).advance(Phase.PREPARED, "a", "r"),
    "route": lambda engine: RouteBook(engine).view(),
    "change": lambda engine: RouteBook(engine).change(reads_percent=1, actor="a", reason="r"),
    "audit": lambda engine: AuditBook(engine).entries(),
    "quarantine": quarantine.held,
    "mismatches": lambda engine: EvidenceBook(engine).mismatches(),
    "statistics": lambda engine: StatisticsBook(engine).total(),
}


@pytest.mark.parametrize("act", ACTS)
def test_without_a_ledger_every_book_says_prepare(new_engine: Engine, act: str) -> None:
    """A database that was never prepared is told from one that cannot be reached."""
    with pytest.raises(Refused, match="crossfade prepare"):
        ACTS[act](new_engine)


def test_a_ledger_that_was_made_but_not_opened_says_prepare_too(prepared_new: Engine) -> None:
    """Killed between the revisions and the first rows, prepare has to be run again."""
    with prepared_new.begin() as connection:
        connection.execute(text("DELETE FROM crossfade.phase; DELETE FROM crossfade.route"))
    for act in ("phase", "route"):
        with pytest.raises(Refused, match="crossfade prepare"):
            ACTS[act](prepared_new)


def test_an_unreachable_ledger_is_no_refusal(prepared_new: Engine) -> None:
    """A store that cannot be reached is unavailable, not unprepared."""
    prepared_new.dispose()
    with pytest.raises(StoreUnavailable):
        RouteBook(prepared_new).view()
