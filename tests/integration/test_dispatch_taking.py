"""Carrying state into Dispatch: numbers, what it cannot hold, and what is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from fix_stores import create_tenants
from journey import PROMPT, TENANTS, Done, Journey
from sqlalchemy import Engine, func, insert, select, text, update

from adapters.postgres.prepared import Prepared
from adapters.postgres.trip import Answer, Trip, together
from adapters.prompts.canonical import DEBT_REASONS, DebtReason, Reading
from adapters.prompts.dispatch_rows import LegacyRow, SidecarRow, legacy_id
from adapters.prompts.dispatch_taking import DispatchTaking
from adapters.prompts.mappings import DispatchMapping
from adapters.prompts.prompt import Prompt, PromptType
from adapters.prompts.prompt_manager import giving_part, prompts
from adapters.prompts.repository import SqlPromptRepository
from harness.errors import CannotHold

DAY = datetime(2025, 4, 1, 12, tzinfo=UTC)
SCOPE = "acme/project-1/incident-summary"


@pytest.fixture
def tenants(prepared_legacy: Engine) -> Engine:
    """Two tenants with three projects each, and no prompt."""
    with prepared_legacy.begin() as connection:
        create_tenants(connection, TENANTS, 3)
    return prepared_legacy


@pytest.fixture
def journey(tenants: Engine, prepared_new: Engine) -> Journey:
    return Journey(tenants, prepared_new, "UTC")


def prompt(scope: str = SCOPE, **changes: Any) -> Prompt:
    made = Prompt(
        id=uuid4(),
        name="Incident Summary",
        content="What happened?",
        type=PromptType.SUMMARIZATION,
        created_at=DAY,
        updated_at=DAY,
        project_id=scope,
        organization_id=scope.partition("/")[0],
    )
    return replace(made, **changes)


def numbers(journey: Journey, tenant: str = "acme") -> dict[str, int]:
    """The numbers of a tenant's rows, by text."""
    return {row.genai_prompt: row.id for row in journey.in_legacy()[tenant]}


def entries(journey: Journey) -> set[tuple[str, int, UUID]]:
    with journey.legacy.connect() as connection:
        rows = connection.execute(text("SELECT organization, legacy_id, id FROM crossfade.sidecar"))
        return {(row.organization, row.legacy_id, row.id) for row in rows}


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def old_row(number: int, **changes: Any) -> LegacyRow:
    """A row as Dispatch made it: an incident summary of project 1, and without stamps."""
    return replace(LegacyRow(number, 2, "old", None, False, None, None, 1), **changes)


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Prepared]]:
    """Those that are sent off meanwhile."""
    seen: list[Prepared] = []
    ask = Trip.ask

    def noting(self: Trip, statement: Prepared, **values: Any) -> Answer:
        seen.append(statement)
        return ask(self, statement, **values)

    with monkeypatch.context() as patch:
        patch.setattr(Trip, "ask", noting)
        yield seen


# --- Numbers -----------------------------------------------------------------------------------------------------


def test_new_records_take_numbers_from_the_tenants_own_sequence(journey: Journey) -> None:
    """So Dispatch's next row meets none of them, in either tenant."""
    state = [prompt("acme/project-1/incident-summary"), prompt("umbra/project-2/incident-summary")]
    journey.back(journey.put_new(state))
    for tenant in TENANTS:
        assert list(numbers(journey, tenant).values()) == [1]
        with journey.legacy.begin() as connection:
            row = {"genai_type": 5, "genai_prompt": "Dispatch's", "enabled": True, "project_id": 1}
            assert connection.execute(insert(PROMPT[tenant]).returning(PROMPT[tenant].c.id), row).scalar() == 2


def test_a_record_keeps_its_number_and_a_silent_entry_is_not_made(journey: Journey) -> None:
    """A row that legacy made itself is updated where it is; with nothing to say of it, the sidecar says nothing."""
    keys = journey.put_legacy([("acme", old_row(7), None)])
    journey.there(keys)
    [there] = journey.in_new()
    journey.put_new([replace(Prompt(**there._asdict()), content="new")])
    assert journey.back(keys) == Done(1, 0)
    assert numbers(journey) == {"new": 7}
    assert entries(journey) == set()


def test_an_entry_that_has_nothing_left_to_say_goes(journey: Journey) -> None:
    """A name taken back to the one that Dispatch displays leaves no trace in the sidecar."""
    own = legacy_id("acme", 7)
    keys = journey.put_legacy([("acme", old_row(7), SidecarRow(own, name="Mine"))])
    journey.there(keys)
    [there] = journey.in_new()
    journey.put_new([replace(Prompt(**there._asdict()), name="Incident Summary")])
    assert journey.back(keys) == Done(1, 0)
    assert entries(journey) == set()


def test_a_record_moves_to_another_tenant_as_itself(journey: Journey) -> None:
    """It leaves the one and has a number of the other; two may change places in one transaction."""
    here, there = prompt(), prompt("umbra/project-1/incident-summary", content="umbra's")
    keys = journey.put_new([here, there])
    journey.back(keys)
    moved = [
        replace(here, project_id=there.project_id, organization_id="umbra"),
        replace(there, project_id=here.project_id, organization_id="acme"),
    ]
    journey.put_new(moved)
    assert journey.back(keys) == Done(2, 0)
    assert numbers(journey) == {"umbra's": 2}
    assert numbers(journey, "umbra") == {"What happened?": 2}
    assert entries(journey) == {("acme", 2, there.id), ("umbra", 2, here.id)}


def test_enabling_one_and_disabling_the_other_need_no_order(journey: Journey) -> None:
    """Dispatch's rule is deferred: both rows of a scope change places at once."""
    on, off = prompt(enabled=True, content="on"), prompt(content="off")
    keys = journey.put_new([on, off])
    journey.back(keys)
    before = numbers(journey)
    journey.put_new([replace(on, enabled=False), replace(off, enabled=True)])
    assert journey.back(keys) == Done(2, 0)
    assert numbers(journey) == before
    assert {row.genai_prompt for row in journey.in_legacy()["acme"] if row.enabled} == {"off"}


# --- What legacy cannot hold -------------------------------------------------------------------------------------


def test_a_record_that_legacy_cannot_hold_returns_under_its_number(journey: Journey) -> None:
    """Taken out while it is unfit, and put back as the same row once it fits, be it legacy's own or born in new."""
    keys = journey.put_legacy([("acme", old_row(7, enabled=True), None)])
    journey.there(keys)
    [row] = journey.in_new()
    old, born = Prompt(**row._asdict()), prompt(content="born in new")
    keys |= journey.put_new([old, born])
    journey.back(keys)
    before = numbers(journey)
    journey.put_new([replace(one, organization_id="elsewhere") for one in (old, born)])
    assert journey.back(keys) == Done(0, 2)
    assert numbers(journey) == {}
    assert journey.back(keys) == Done(0, 0)
    journey.put_new([old, born])
    assert journey.back(keys).upserted == 2
    assert numbers(journey) == before
    assert entries(journey) == {("acme", before["born in new"], born.id)}


def test_a_record_that_is_gone_for_good_leaves_nothing(journey: Journey) -> None:
    """Its row goes and its entry too, also where the entry was only keeping its number."""
    kept, held = prompt(), prompt(enabled=True)
    keys = journey.put_new([kept, held])
    journey.back(keys)
    journey.put_new([replace(kept, organization_id="elsewhere"), held])
    journey.back(keys)
    journey.put_new([])
    assert journey.back(keys) == Done(0, 1)
    assert numbers(journey) == {}
    assert entries(journey) == set()


def test_a_project_that_is_gone_is_a_reason_found_here(journey: Journey) -> None:
    """Neither inserted nor left where it was; when the project is there again, the record is too."""
    held, absent = prompt(), prompt("acme/project-9/incident-summary")
    keys = journey.put_new([held, absent])
    assert journey.back(keys) == Done(1, 0, {str(absent.id): DebtReason.NO_PROJECT})
    moved = replace(held, project_id="acme/project-9/signal-analysis")
    journey.put_new([moved, absent])
    assert journey.back(keys) == Done(0, 1, {str(one.id): DebtReason.NO_PROJECT for one in (held, absent)})
    execute(journey.legacy, "INSERT INTO dispatch_organization_acme.project (id, name) VALUES (9, 'Nine')")
    assert journey.back(keys) == Done(2, 0)
    journey.clear_new()
    journey.there(keys)
    with journey.new.connect() as connection:
        assert set(connection.execute(select(prompts.c.id, prompts.c.project_id))) == {
            (moved.id, moved.project_id),
            (absent.id, absent.project_id),
        }


UNFIT: list[tuple[dict[str, Any], str | None]] = [
    ({"project_id": None}, DebtReason.NO_PLACE),
    ({"project_id": "project-123"}, DebtReason.NO_PLACE),
    ({"project_id": "acme/project-1"}, DebtReason.NO_PLACE),
    ({"project_id": "initech/project-1/incident-summary"}, DebtReason.NO_PLACE),
    ({"project_id": "acme/project-1/type-2"}, DebtReason.NO_PLACE),
    ({"project_id": None, "organization_id": None}, DebtReason.NO_PLACE),
    ({"organization_id": None}, DebtReason.ORGANIZATION_DIFFERS),
    ({"organization_id": "umbra"}, DebtReason.ORGANIZATION_DIFFERS),
    ({}, None),
]
STAMPS = ["infinity", "-infinity", "0001-12-31 23:59:59.999999+00 BC", "10000-01-01 00:00:00+00", "294276-12-31+00"]


def reasons(journey: Journey) -> dict[UUID, tuple[str | None, str | None]]:
    """What the giving part says of each prompt: as it is carried, and as one that is being written."""
    part = giving_part(TENANTS, journey.reading)
    assert part.holding is not None
    rows, written = part.canonical.subquery(), prompts.alias("written")
    with journey.new.connect() as connection:
        carried = {row[0]: row[1] for row in connection.execute(select(rows.c.id, rows.c.reason))}
        refused = {
            row[0]: row[1] for row in connection.execute(select(written.c.id, part.holding.unholdable(written.c)))
        }
    return {id: (carried[id], refused[id]) for id in carried}


def test_reasons_of_scope_and_organization(journey: Journey) -> None:
    """What has no place in legacy, or a place that its organization denies, is carried nowhere, and says why."""
    for changes, reason in UNFIT:
        one = prompt(**changes)
        journey.put_new([one])
        assert reasons(journey) == {one.id: (reason, reason)}
        assert journey.back({one.id}) == Done(0 if reason else 1, 0)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_stamps_that_python_cannot_hold_are_a_reason(tenants: Engine, prepared_new: Engine, zone: str) -> None:
    """Infinite ones, and years before 1 and after 9999, in either column: never an error."""
    journey = Journey(tenants, prepared_new, zone)
    execute(prepared_new, "ALTER TABLE prompts DISABLE TRIGGER USER")
    for column in ("created_at", "updated_at"):
        one = prompt()
        journey.put_new([one])
        for stamp in STAMPS:
            execute(prepared_new, f"UPDATE prompts SET {column} = '{stamp}'")
            assert reasons(journey) == {one.id: (DebtReason.STAMP_OUT_OF_RANGE,) * 2}, stamp
            assert journey.back({one.id}) == Done(0, 0)


def test_a_stamp_must_fit_on_legacys_clock_too(journey: Journey) -> None:
    """Dispatch could not read the year 1 BC, nor 10000, whatever the year is in UTC."""
    for zone, moment in (("America/New_York", datetime.min), ("Asia/Kolkata", datetime.max)):
        one = prompt(created_at=moment.replace(tzinfo=UTC))
        journey.put_new([one])
        assert reasons(Journey(journey.legacy, journey.new, zone)) == {one.id: (DebtReason.STAMP_OUT_OF_RANGE,) * 2}
        assert reasons(journey) == {one.id: (None, None)}


def test_what_spares_writers_the_dear_question_answers_no_other(journey: Journey) -> None:
    """Prompts of every kind, enabled and not: one that could be held ``alone`` has no reason, and has to be enabled;
    any that could become any other by an update that ``stays`` has no reason then, or had that reason before.
    """
    execute(journey.new, "DROP INDEX idx_prompts_project_enabled_unique; ALTER TABLE prompts DISABLE TRIGGER USER")
    fit = {"project_id": "acme/project-7/signal-analysis"}
    kinds = [*(changes for changes, _ in UNFIT), fit, fit, {"created_at": datetime.min.replace(tzinfo=UTC)}]
    journey.put_new([prompt(**changes, enabled=enabled) for changes in kinds for enabled in (True, False)])
    for stamp in STAMPS:
        one = prompt("acme/project-8/signal-analysis", enabled=True)
        with journey.new.begin() as connection:
            connection.execute(insert(prompts), asdict(one))
            connection.execute(update(prompts).where(prompts.c.id == one.id).values(updated_at=text(f"'{stamp}'")))
    part, before = giving_part(TENANTS, journey.reading), prompts.alias("before")
    assert part.holding is not None
    dear, alone = part.holding.unholdable(prompts.c), part.holding.alone(prompts.c)
    as_before = SimpleNamespace(**{**dict(before.c), "id": prompts.c.id})
    stays = select(before.c.id, prompts.c.id).where(part.holding.stays(as_before, prompts.c))
    with journey.new.connect() as connection:
        answers = connection.execute(select(prompts.c.id, prompts.c.enabled, dear, alone)).all()
        became = [tuple(row) for row in connection.execute(stays)]
    reasons = {id: reason for id, _, reason, _ in answers}
    assert {*reasons.values()} == {None, *DEBT_REASONS} - {DebtReason.NO_PROJECT, DebtReason.PLACE_TAKEN}
    for id, enabled, reason, sure in answers:
        assert (sure is True) == (enabled and reason is None), f"{id}: {reason}"
    for was, now in became:
        assert reasons[now] in (None, reasons[was]), f"{was} became {now}"
    assert any(was != now for was, now in became)
    assert {(id, id) for id, reason in reasons.items() if reason is None} <= {*became}


def test_of_disabled_prompts_legacy_holds_the_oldest(journey: Journey) -> None:
    """By created_at, then id. Whoever writes one beside another is told, whichever is older."""
    moment = timedelta(microseconds=1)
    low, high = sorted((uuid4(), uuid4()))
    oldest, tied, newest = prompt(id=low), prompt(id=high), prompt(created_at=DAY + moment)
    enabled, other = prompt(enabled=True), prompt("acme/project-2/incident-summary")
    keys = journey.put_new([oldest, tied, newest, enabled, other])
    second = DebtReason.SECOND_DISABLED
    assert reasons(journey) == {
        oldest.id: (None, second),
        tied.id: (second, second),
        newest.id: (second, second),
        enabled.id: (None, None),
        other.id: (None, None),
    }
    assert journey.back(keys) == Done(3, 0)
    journey.put_new([tied, newest, enabled, other])
    assert journey.back(keys) == Done(1, 1)


def test_every_debt_has_its_sentence() -> None:
    """No reason can appear that the report could not explain."""
    assert {value for name, value in vars(DebtReason).items() if name.isupper()} == DEBT_REASONS.keys()


def test_what_has_no_place_is_refused_even_if_the_giver_let_it_pass(journey: Journey) -> None:
    """A tenant that this process does not know yet: found unfit here, and nothing is written."""
    one = prompt("umbra/project-1/incident-summary")
    journey.put_new([one])
    acme_only = DispatchTaking([journey.tenants["acme"]], journey.reading)
    journey.into_legacy = acme_only
    assert journey.back({one.id}) == Done(0, 0, {str(one.id): DebtReason.NO_PLACE})
    assert journey.in_legacy() == {"acme": set(), "umbra": set()}


def test_scopes_must_say_the_type() -> None:
    """Under policy "project" there is no way back, and it is said before anything is tried."""
    with pytest.raises(CannotHold, match="scope_policy"):
        DispatchTaking([], Reading(scope_policy="project"))


# --- Stamps ------------------------------------------------------------------------------------------------------


def test_a_time_that_the_clock_shows_twice_is_told_apart(tenants: Engine, prepared_new: Engine) -> None:
    """In legacy's zone both instants have one stamp; the sidecar says which it is, until Dispatch stamps anew."""
    journey = Journey(tenants, prepared_new, "America/New_York")
    first, second = datetime(2024, 11, 3, 5, 30, tzinfo=UTC), datetime(2024, 11, 3, 6, 30, tzinfo=UTC)
    one = prompt(created_at=first, updated_at=second)
    journey.back(journey.put_new([one]))
    [row] = journey.in_legacy()["acme"]
    assert row.created_at == row.updated_at == datetime(2024, 11, 3, 1, 30)
    repository = SqlPromptRepository(tenants, DispatchMapping(TENANTS, journey.reading))
    assert repository.find_by_id(one.id) == one
    execute(tenants, "UPDATE dispatch_organization_acme.prompt SET created_at = '2024-11-03 01:31'")
    found = repository.find_by_id(one.id)
    assert found is not None
    assert found.created_at == second + timedelta(minutes=1)


def test_the_repository_tells_them_apart_too(tenants: Engine) -> None:
    """A prompt saved in legacy with such a created_at is returned, and stays through updates, as it was given."""
    repository = SqlPromptRepository(tenants, DispatchMapping(TENANTS, Reading("America/New_York")))
    one = prompt(created_at=datetime(2024, 11, 3, 5, 30, tzinfo=UTC))
    assert repository.save(one) == one
    assert repository.update(replace(one, content="new")).created_at == one.created_at


@pytest.mark.parametrize("stamp", [datetime(2024, 1, 1, 10), None], ids=["updated once", "no stamp at all"])
def test_an_update_in_legacy_keeps_a_created_at_that_was_only_shown(tenants: Engine, stamp: datetime | None) -> None:
    """A row without created_at shows its updated_at, or else the epoch; an update leaves it at that."""
    repository = SqlPromptRepository(tenants, DispatchMapping(TENANTS, Reading("America/New_York")))
    with tenants.begin() as connection:
        connection.execute(insert(PROMPT["acme"]).values(asdict(old_row(7, updated_at=stamp))))
    before = repository.find_by_id(legacy_id("acme", 7))
    assert before is not None
    for content in ("new", "newer"):
        after = repository.update(before.with_content(content))
        assert (after.created_at, after.content) == (before.created_at, content)
        assert after.updated_at > before.updated_at


def test_a_null_stamp_stays_null_until_it_would_lie(journey: Journey) -> None:
    """As long as both stamps read as given nothing is stamped; then each is written as far as it must be."""
    stamp = datetime(2025, 1, 1)
    keys = journey.put_legacy([("acme", old_row(7, updated_at=stamp), None)])
    journey.there(keys)
    [row] = journey.in_new()
    carried = Prompt(**row._asdict())
    journey.put_new([replace(carried, content="new")])
    journey.back(keys)
    [row] = journey.in_legacy()["acme"]
    assert (row.genai_prompt, row.created_at, row.updated_at) == ("new", None, stamp)
    journey.put_new([replace(carried, updated_at=DAY)])
    journey.back(keys)
    [row] = journey.in_legacy()["acme"]
    assert (row.created_at, row.updated_at) == (stamp, DAY.replace(tzinfo=None))


def test_a_null_stamp_does_not_borrow_the_wrong_one_of_two_instants(tenants: Engine, prepared_new: Engine) -> None:
    """Where both stamps of new show the same time on legacy's clock, and are an hour apart, none can stand for both."""
    journey = Journey(tenants, prepared_new, "America/New_York")
    shown = datetime(2024, 11, 3, 1, 30)
    first, second = datetime(2024, 11, 3, 5, 30, tzinfo=UTC), datetime(2024, 11, 3, 6, 30, tzinfo=UTC)
    for row, stamps in (
        (old_row(7, updated_at=shown), (first, second)),
        (old_row(7, created_at=shown), (second, first)),
    ):
        journey.clear()
        keys = journey.put_legacy([("acme", row, None)])
        journey.there(keys)
        [carried] = journey.in_new()
        journey.put_new([replace(Prompt(**carried._asdict()), created_at=stamps[0], updated_at=stamps[1])])
        edited = journey.in_new()
        journey.back(keys)
        journey.clear_new()
        journey.there(keys)
        assert journey.in_new() == edited


# --- The rest ----------------------------------------------------------------------------------------------------


def test_a_saved_prompt_takes_the_number_that_was_kept_for_it(journey: Journey) -> None:
    """What was unfit in new and is then saved in legacy under its own id is the same row again."""
    one = prompt()
    keys = journey.put_new([one])
    journey.back(keys)
    before = numbers(journey)
    journey.put_new([replace(one, organization_id="elsewhere")])
    journey.back(keys)
    repository = SqlPromptRepository(journey.legacy, DispatchMapping(TENANTS, journey.reading))
    assert repository.save(one) == one
    assert numbers(journey) == before


def test_where_records_stand(journey: Journey) -> None:
    """Scopes by key, of those that have a row; and every record that has a scope, whichever the tenant."""
    here, there = prompt(), prompt("umbra/project-2/signal-analysis")
    unfit = prompt(enabled=True, organization_id="elsewhere")
    keys = journey.put_new([here, there, unfit]) | {uuid4()}
    journey.back(keys)
    nowhere = ("acme", old_row(50, project_id=None), None)
    keys |= journey.put_legacy([nowhere])
    with journey.legacy.connect() as connection:
        with together(connection) as trip:
            scopes = journey.into_legacy.look(trip, [str(key) for key in keys], ())().scopes
        with together(connection) as trip:
            in_scope = journey.into_legacy.look(trip, (), [str(here.project_id)])().scopes
        assert in_scope == {str(here.id): here.project_id}
        assert scopes == {
            str(here.id): here.project_id,
            str(there.id): there.project_id,
            str(legacy_id("acme", 50)): None,
        }
        placed = {key: scope for key, scope in scopes.items() if scope is not None}
        assert dict(journey.into_legacy.keys_of_part(connection, "")) == placed


def test_the_number_of_statements_does_not_grow_with_the_records(
    journey: Journey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many for a hundred records in a hundred scopes as for one, both where they are new and where they change."""
    execute(
        journey.legacy, "INSERT INTO dispatch_organization_acme.project SELECT n FROM generate_series(10, 110) AS n"
    )
    seen = []
    for count in (1, 100):
        journey.clear()
        state = [prompt(f"acme/project-{10 + n}/incident-summary") for n in range(count)]
        for version in (1, 2):
            keys = journey.put_new([replace(one, version=version) for one in state])
            with statements(monkeypatch) as asked:
                assert journey.back(keys) == Done(count, 0)
            seen.append(len(asked))
    assert seen[:2] == seen[2:]


def test_any_uuid_may_meet_any_number(journey: Journey) -> None:
    """An id that reads as another row's derived one, in a tenant where that number is taken by someone else."""
    thief = prompt(id=legacy_id("acme", 1))
    journey.put_legacy([("acme", old_row(1, enabled=True), SidecarRow(uuid4(), name="Mine"))])
    with journey.legacy.begin() as connection:
        connection.execute(select(func.setval("dispatch_organization_acme.prompt_id_seq", 1)))
    assert journey.back(journey.put_new([thief])) == Done(1, 0)
    assert numbers(journey) == {"old": 1, "What happened?": 2}
    assert ("acme", 2, thief.id) in entries(journey)
