"""Failpoints: armed by name, fired once, and an error when misspelt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import failpoints


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_fires_at_the_passage_asked_for() -> None:
    """A point armed with @3 lets two passages by, raises at the third, and is spent."""
    failpoints.arm("catchup.before_apply=raise@3")
    failpoints.passing("catchup.before_apply")
    failpoints.passing("catchup.before_apply")
    with pytest.raises(failpoints.FailpointRaised):
        failpoints.passing("catchup.before_apply")
    failpoints.passing("catchup.before_apply")


def test_other_points_are_passed() -> None:
    """Arming one point does nothing to the others."""
    failpoints.arm("catchup.before_apply=raise")
    failpoints.passing("catchup.after_commit")


@pytest.mark.parametrize(
    "text", ["nowhere=kill", "catchup.before_apply", "catchup.before_apply=stop", "catchup.before_apply=kill@x"]
)
def test_misspelt_points_are_errors(text: str) -> None:
    """A point that does not exist would prove nothing, so it is refused."""
    with pytest.raises(ValueError, match="CROSSFADE_FAILPOINTS"):
        failpoints.arm(text)
