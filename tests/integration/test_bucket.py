"""Authority is the same in SQL and in Python: the formula, the pins, and what the databases answer themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, Text, literal, select, text

from adapters.postgres.authority import ROUTE, allowing, allows, authority_of, bucket_of, create_functions
from adapters.postgres.migrations import upgrade
from harness.routing import Route, Store, bucket

SALTS = ("", "5f0c", "ünïcödé")
SCOPES = (
    "",
    "acme/project-1/incident-summary",
    "漢字/project-7/type--5",
    "a" * 255,
    "quote ' and % and \\",
    "acme",
    "/",
)

# PostgreSQL's text holds all but NUL and lone surrogates.
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
names = st.one_of(st.sampled_from(SCOPES), st.text(characters, max_size=40))
scopes = st.one_of(names, st.builds("{}/{}".format, names, names))
percents = st.one_of(
    st.sampled_from([0.0, 0.01, 33.33, 50.0, 99.99, 100.0]), st.integers(0, 10_000).map(lambda n: n / 100)
)


@pytest.fixture(params=Store)
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A database of either kind, with our functions in it."""
    store: Store = request.param
    engine: Engine = request.getfixturevalue(f"{store.value}_engine")
    upgrade(engine, store.value)
    with engine.connect() as found:
        create_functions(found)
        signature, body = allowing()
        found.execute(text(f"CREATE FUNCTION crossfade.allows{signature} LANGUAGE plpgsql AS $${body}$$"))
        yield found
        found.rollback()


def test_sql_and_python_agree_on_the_bucket(connection: Connection) -> None:
    """For salts and scopes of all kinds, expression and function compute the bucket that Python does."""
    function = text("SELECT crossfade.bucket(:salt, :scope)")
    for salt in SALTS:
        for scope in SCOPES:
            values = {"salt": salt, "scope": scope}
            found = connection.execute(select(bucket_of(literal(scope, Text), salt))).scalar_one()
            assert found == connection.execute(function, values).scalar_one() == bucket(salt, scope)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Route, list[str]]:
    """A route with pins of scopes and groups, and scopes that some of them concern."""
    asked = draw(st.lists(scopes, min_size=1, max_size=8))
    pinnable = st.sampled_from([*asked, *(scope.partition("/")[0] for scope in asked), "somebody else"])
    pins = draw(st.dictionaries(pinnable, st.sampled_from(Store), max_size=4))
    return Route(writes_percent=draw(percents), salt=draw(st.sampled_from(SALTS)), pins=pins), asked


# Each example writes the route anew, so they may share the connection.
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(
    case=(Route(writes_percent=50, pins={"acme": Store.NEW, SCOPES[1]: Store.LEGACY}), [SCOPES[1], "acme", "acme/x"])
)
@given(case=cases())
def test_sql_and_python_agree_on_authority(connection: Connection, case: tuple[Route, list[str]]) -> None:
    """Expression and function name the store that ``Route.authority`` does, whatever is pinned, at every percent."""
    route, asked = case
    pins = {name: store.value for name, store in route.pins.items()}
    write_route(connection, route, pins)
    for scope in asked:
        expression = select(authority_of(literal(scope, Text), route.salt, route.writes_percent, pins))
        found = connection.execute(expression).scalar_one()
        function = connection.execute(text("SELECT crossfade.authority(:scope)"), {"scope": scope}).scalar_one()
        assert found == function == route.authority(scope).value
        assert allowed(connection, scope) == {store: store is route.authority(scope) for store in Store}


def test_no_scope_is_legacys(connection: Connection) -> None:
    """A record without a scope is legacy's, whatever the percent."""
    route = Route(writes_percent=100)
    write_route(connection, route, {})
    nothing = literal(None, Text)
    assert connection.execute(select(authority_of(nothing, "", 100.0, {}))).scalar_one() == "legacy"
    assert connection.execute(text("SELECT crossfade.authority(NULL)")).scalar_one() == "legacy"
    assert allowed(connection, None) == {Store.LEGACY: True, Store.NEW: False}


def test_guards_that_are_off_allow_everything(connection: Connection) -> None:
    """Whatever the route says, both stores may write every scope, and none, where the guard is off."""
    for percent in (0, 50, 100):
        write_route(connection, Route(writes_percent=percent), {"acme": "new", "umbra": "legacy"})
        connection.execute(text("UPDATE crossfade.route SET guard = 'off'"))
        for scope in ("acme/project-1", "umbra/project-1", "others", None):
            assert allowed(connection, scope) == {Store.LEGACY: True, Store.NEW: True}


def test_without_a_route_nobody_has_authority(connection: Connection) -> None:
    """Where no route was written yet, the function says so instead of guessing."""
    connection.execute(text("DELETE FROM crossfade.route"))
    assert connection.execute(text("SELECT crossfade.authority('acme/project-1')")).scalar_one() is None


def allowed(connection: Connection, scope: str | None) -> dict[Store, bool]:
    """What the guard of each store would say at once of a write to the scope, under the route that stands."""
    asked = [allows(store, literal(scope, Text)).label(store.value) for store in Store]
    row = connection.execute(select(*asked).select_from(ROUTE)).one()
    return {store: row._mapping[store.value] for store in Store}


def write_route(connection: Connection, route: Route, pins: dict[str, Any]) -> None:
    connection.execute(text("DELETE FROM crossfade.route"))
    connection.execute(
        text("INSERT INTO crossfade.route (epoch, writes_percent, salt, pins) VALUES (0, :share, :salt, :pins)"),
        {"share": route.writes_percent, "salt": route.salt, "pins": json.dumps(pins)},
    )
