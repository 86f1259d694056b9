"""The route: percentages, buckets, and who has authority."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.routing import BUCKETS, Route, Store, bucket, percent


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
