"""The route: percentages, buckets, and who has authority."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.routing import BUCKETS, Route, RouteView, Store, bucket, group, percent


@pytest.mark.parametrize("value", [0, 0.01, 1, "12.5", 99.99, 100, "100"])
def test_shares_in_hundredths_are_taken(value: float | str) -> None:
    """A share from 0 to 100 in steps of a hundredth is taken as it is."""
    assert percent(value) == float(value)


@pytest.mark.parametrize("value", [-1, 101, "NaN", "nan", "inf", "-inf", "ten", "", 100.01, -0.01, 0.001, 33.333])
def test_other_shares_are_refused(value: float | str) -> None:
    """What is no such share is refused, by the command and by the route itself, naming the value."""
    with pytest.raises(ConfigError, match="percent"):
        percent(value)


def test_route_refuses_unfit_shares() -> None:
    """A route cannot be made with a share that is none."""
    with pytest.raises(ConfigError, match="reads_percent"):
        Route(reads_percent=float("nan"))


@given(st.text(), st.text())
def test_bucket_is_stable_and_in_range(salt: str, scope: str) -> None:
    """Every scope has one bucket from 0 to 9999."""
    assert 0 <= bucket(salt, scope.encode(errors="replace").decode()) < BUCKETS


@given(st.text(alphabet="abc/-123", min_size=1), st.floats(0, 100), st.floats(0, 100))
def test_raising_the_percent_moves_scopes_one_way(scope: str, one: float, other: float) -> None:
    """A scope that is with new at one percent is with new at every higher one."""
    low, high = sorted((round(one, 2), round(other, 2)))
    moved = [Route(writes_percent=share, salt="s").authority(scope) is Store.NEW for share in (low, high)]
    assert moved[0] <= moved[1]


def test_all_or_nothing_has_a_sole_authority() -> None:
    """At 0 and 100 percent one store has all scopes; between them neither has."""
    assert Route().sole_authority is Store.LEGACY
    assert Route(writes_percent=100).sole_authority is Store.NEW
    assert Route(writes_percent=50).sole_authority is None
    assert Route().authority("any") is Store.LEGACY
    assert Route(writes_percent=100).authority("any") is Store.NEW


def test_a_pin_of_the_scope_goes_before_one_of_its_group_and_both_before_the_percent() -> None:
    """A scope's own pin decides, else that of the text before its first slash, else the percent."""
    pins = {"acme": Store.NEW, "acme/project-2/custom": Store.LEGACY, "lone": Store.NEW}
    route = Route(pins=pins)
    assert route.authority("acme/project-1/custom") is Store.NEW
    assert route.authority("acme/project-2/custom") is Store.LEGACY
    assert route.authority("lone") is Store.NEW
    assert route.authority("lonely/project-1") is Store.LEGACY
    assert route.authority("other/acme") is Store.LEGACY
    assert (group("acme/project-1/custom"), group("lone")) == ("acme", "lone")


@pytest.mark.parametrize(("percent", "store"), [(0, Store.LEGACY), (100, Store.NEW)])
def test_a_pin_that_disagrees_with_the_percent_leaves_no_sole_authority(percent: float, store: Store) -> None:
    """A pin to the other store divides authority, one to the same store does not."""
    assert Route(writes_percent=percent, pins={"a": store}).sole_authority is store
    assert Route(writes_percent=percent, pins={"a": store, "b": store.other}).sole_authority is None


def test_pins_are_the_routes_own() -> None:
    """What is done afterwards to the mapping that a route was made of does not change the route."""
    pins = {"a": Store.NEW}
    route = Route(pins=pins)
    pins["b"] = Store.NEW
    assert route == Route(pins={"a": Store.NEW})
    assert hash(route) == hash(Route(pins={"a": Store.NEW}))
    with pytest.raises(TypeError):
        route.pins["b"] = Store.NEW  # type: ignore[index]  # that is the point


def test_pins_come_as_text_and_name_a_store() -> None:
    """A pin read from JSON becomes a store; any other word is refused."""
    assert Route(pins={"a": "new"}).pins["a"] is Store.NEW  # type: ignore[dict-item]  # that is the point
    with pytest.raises(ConfigError, match="a can be pinned to legacy or new"):
        Route(pins={"a": "both"})  # type: ignore[dict-item]  # that is the point


def test_a_view_without_exceptions_is_uniform() -> None:
    """Each thing that one store cannot be asked makes the view no longer uniform; the route alone never does."""
    assert RouteView(Route(writes_percent=50, pins={"a": Store.NEW})).uniform
    names = frozenset({"a"})
    exceptions = [
        RouteView(held_scopes=names),
        RouteView(held_keys=names),
        RouteView(owed_scopes=names),
        RouteView(owed_keys=names),
        RouteView(sets_differ=True),
    ]
    assert not any(view.uniform for view in exceptions)
