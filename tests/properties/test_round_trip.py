"""There and back: neither store finds anything changed by a journey through the other."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from fix_postgres import Databases, Server, engine_for
from fix_stores import create_tenants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journey import TENANTS, Done, Journey, LegacyState
from test_reading import COUNTED, genai_types, letters, moments, texts

from adapters.prompts.canonical import Reading
from adapters.prompts.dispatch_rows import LegacyRow, SidecarRow, legacy_id, read_row, scope_name
from adapters.prompts.prompt import Prompt, PromptType
from harness.routing import Store

PROJECTS = 3
ZONES = ("UTC", "America/New_York", "Australia/Lord_Howe")


@pytest.fixture(scope="module")
def journeys(server: Server, prepared_templates: dict[Store, str]) -> Iterator[Any]:
    """Makes the journey of a zone; nothing is captured or guarded."""
    with ExitStack() as stack:
        databases = Databases(stack, server, prepared_templates)
        legacy = stack.enter_context(engine_for(databases.legacy_url, Store.LEGACY))
        new = stack.enter_context(engine_for(databases.new_url, Store.NEW))
        with legacy.begin() as connection:
            create_tenants(connection, TENANTS, PROJECTS)
        yield cache(lambda zone: Journey(legacy, new, zone))


# --- States ------------------------------------------------------------------------------------------------------

tenants, projects = st.sampled_from(TENANTS), st.integers(1, PROJECTS)
# Few types and ids, so that records meet, move and come back.
types = st.sampled_from([1, 2, 99]) | genai_types
ids = st.one_of(
    st.integers(1, 8).map(lambda n: uuid.UUID(int=n)),
    st.builds(legacy_id, tenants, st.integers(1, 30)),
    st.uuids(),
)
contents = st.text(letters, min_size=1, max_size=20)
names = st.sampled_from(["Incident Summary", "Tag Recommendation"]) | st.text(letters, min_size=1, max_size=20)
kinds = st.sampled_from(PromptType)


def instants(zone: str) -> st.SearchStrategy[datetime]:
    """Around clocks set back, where one local time is two instants; and any other of years that both sides hold."""
    changes = [
        datetime(2024, 11, 3, 6, tzinfo=UTC),
        datetime(2024, 4, 6, 15, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
    ]
    minutes = st.integers(-120, 120).map(lambda n: timedelta(minutes=n))
    near = st.builds(lambda change, shift: change + shift, st.sampled_from(changes), minutes)
    first, last = (datetime.min, datetime.max) if zone == "UTC" else (datetime(2, 1, 1), datetime(9998, 12, 31))
    return near | st.datetimes(first, last, timezones=st.just(UTC))


def legacy_states(zone: str) -> st.SearchStrategy[LegacyState]:
    """Rows that new can hold, with and without entries, and all that Dispatch's own rule allows."""
    stamps = st.none() | moments(zone)
    row = st.builds(
        LegacyRow,
        id=st.integers(1, 1000),
        genai_type=types,
        genai_prompt=contents,
        genai_system_message=st.none() | texts,
        enabled=st.booleans(),
        created_at=stamps,
        updated_at=stamps,
        project_id=projects,
    )
    side = st.builds(
        SidecarRow,
        id=st.uuids(),
        name=st.none() | names,
        description=st.none() | texts,
        type=st.none() | kinds.map(str),
        version=st.none() | COUNTED,
        created_at=st.none() | instants(zone),
        updated_at=st.none() | instants(zone),
    )
    unique = (
        lambda one: (one[0], one[1].id),
        lambda one: (one[0], one[1].genai_type, one[1].project_id, one[1].enabled),
        lambda one: one[2].id if one[2] else (one[0], one[1].id),
    )
    fit = st.tuples(tenants, row, st.none() | side).filter(
        lambda one: read_row(one[0], one[1], Reading(zone), one[2])[1] is None
    )
    return st.lists(fit, max_size=8, unique_by=unique)


def new_states(zone: str) -> st.SearchStrategy[list[Prompt]]:
    """Prompts that legacy can hold: at most one enabled and one disabled in a scope of its projects."""
    made = st.builds(
        lambda tenant, project, number, prompt: replace(
            prompt, organization_id=tenant, project_id=scope_name(tenant, project, number, Reading(zone))
        ),
        tenants,
        projects,
        types,
        st.builds(
            Prompt,
            id=ids,
            name=names,
            content=contents,
            type=kinds,
            created_at=instants(zone),
            updated_at=instants(zone),
            description=st.none() | texts,
            system_message=st.none() | texts,
            enabled=st.booleans(),
            version=st.just(1) | COUNTED,
        ),
    )
    unique = (lambda prompt: prompt.id, lambda prompt: (prompt.project_id, prompt.enabled))
    return st.lists(made, max_size=8, unique_by=unique)


def edits(zone: str) -> st.SearchStrategy[dict[str, Any]]:
    """Some columns of a prompt, and what becomes of them; the scope and its flags stay."""
    moment = instants(zone)
    columns = {
        "name": names,
        "content": contents,
        "type": kinds,
        "description": st.none() | texts,
        "system_message": st.none() | texts,
        "version": COUNTED,
        "created_at": moment,
        "updated_at": moment,
    }
    both = moment.map(lambda same: {"created_at": same, "updated_at": same})
    return (
        st.fixed_dictionaries({}, optional=columns) | st.fixed_dictionaries({}, optional={"updated_at": moment}) | both
    )


quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# --- Properties --------------------------------------------------------------------------------------------------


@quick
@given(data=st.data(), zone=st.sampled_from(ZONES))
def test_legacy_finds_its_rows_as_they_were(journeys: Any, data: st.DataObject, zone: str) -> None:
    """legacy → new → legacy: not a byte of a prompt row is touched, NULL stamps and numbers included."""
    journey = journeys(zone)
    journey.clear()
    state = [
        one for one in data.draw(legacy_states(zone)) if read_row(one[0], one[1], Reading(zone), one[2])[1] is None
    ]
    keys = journey.put_legacy(state)
    before = journey.in_legacy()
    assert journey.there(keys) == Done(len(keys), 0)
    journey.back(keys)
    assert journey.in_legacy() == before
    assert journey.back(keys) == Done(0, 0)


@quick
@given(data=st.data(), zone=st.sampled_from(ZONES))
def test_an_edit_taken_back_leaves_no_trace(journeys: Any, data: st.DataObject, zone: str) -> None:
    """An edit made in new, carried back, undone, and carried back again: legacy's rows are what they were."""
    journey = journeys(zone)
    journey.clear()
    state = [
        one for one in data.draw(legacy_states(zone)) if read_row(one[0], one[1], Reading(zone), one[2])[1] is None
    ]
    keys = journey.put_legacy(state)
    before = journey.in_legacy()
    journey.there(keys)
    original = [Prompt(**row._asdict()) for row in journey.in_new()]
    journey.put_new([replace(prompt, content=prompt.content + "!", name="Edited") for prompt in original])
    assert journey.back(keys) == Done(len(keys), 0)
    assert keys == set() or journey.in_legacy() != before
    journey.put_new(original)
    assert journey.back(keys) == Done(len(keys), 0)
    assert journey.in_legacy() == before


@quick
@given(data=st.data(), zone=st.sampled_from(ZONES))
def test_any_edit_arrives_in_the_rows_that_legacy_made(journeys: Any, data: st.DataObject, zone: str) -> None:
    """Whichever columns change, legacy reads as new has it now, and no row gets another number."""
    journey = journeys(zone)
    journey.clear()
    keys = journey.put_legacy(data.draw(legacy_states(zone)))
    numbers = {tenant: {row.id for row in rows} for tenant, rows in journey.in_legacy().items()}
    journey.there(keys)
    for _ in range(2):
        state = [Prompt(**row._asdict()) for row in journey.in_new()]
        journey.put_new([replace(prompt, **data.draw(edits(zone))) for prompt in state])
        edited = journey.in_new()
        journey.back(keys)
        assert {tenant: {row.id for row in rows} for tenant, rows in journey.in_legacy().items()} == numbers
        journey.clear_new()
        journey.there(keys)
        assert journey.in_new() == edited


@quick
@given(data=st.data(), zone=st.sampled_from(ZONES))
def test_new_finds_its_rows_as_they_were(journeys: Any, data: st.DataObject, zone: str) -> None:
    """new → legacy → new, from any state to any other: ids, names, versions and stamps are what they were.

    Records change, appear, disappear, and move between scopes and tenants from one state to the next.
    """
    journey = journeys(zone)
    journey.clear()
    known: set[uuid.UUID] = set()
    for state in data.draw(st.lists(new_states(zone), min_size=1, max_size=3)):
        known |= journey.put_new(state)
        before = journey.in_new()
        assert journey.back(known).unfit == {}
        assert journey.back(known) == Done(0, 0)
        journey.clear_new()
        assert journey.there(known) == Done(len(state), 0)
        assert journey.in_new() == before
