"""Both directions as one: which of them is asked, and when."""

from collections.abc import Iterator
from typing import Any, cast

from adapters.postgres.both_ways import BothWays
from harness.catchup import FIRST_PAUSE, Carried

PAUSE = 5.0


class Direction:
    """Has the batches that it is given, and counts how often it is asked."""

    def __init__(self, *batches: Carried) -> None:
        self._batches: Iterator[Carried] = iter(batches)
        self.asked = 0

    def carry_batch(self) -> Carried:
        self.asked += 1
        return next(self._batches, Carried())


class Ways:
    """The two directions, and a clock that stands still until it is moved."""

    def __init__(self, first: Direction, second: Direction) -> None:
        self.now = 0.0
        carriers = cast(Any, (first, second))
        self.both = BothWays(*carriers, pause=PAUSE, clock=lambda: self.now)


def test_a_direction_that_had_nothing_rests_while_the_other_has_something() -> None:
    """It is asked again after a pause, and not before; the pause doubles for as long as there is nothing."""
    busy, quiet = Direction(*[Carried(notes=1)] * 8), Direction()
    ways = Ways(busy, quiet)
    assert [ways.both.carry_batch().notes for _ in range(3)] == [1, 1, 1]
    assert (busy.asked, quiet.asked) == (3, 1)
    ways.now += FIRST_PAUSE
    ways.both.carry_batch()
    ways.now += FIRST_PAUSE
    ways.both.carry_batch()
    assert (busy.asked, quiet.asked) == (5, 2)
    ways.now += FIRST_PAUSE
    ways.both.carry_batch()
    assert (busy.asked, quiet.asked) == (6, 3)


def test_a_direction_rests_no_longer_than_is_said() -> None:
    """However long it has had nothing; and only shortly once it has had something."""
    busy, quiet = Direction(*[Carried(notes=1)] * 100), Direction(*[Carried()] * 60, Carried(notes=1))
    ways = Ways(busy, quiet)
    for _ in range(61):
        ways.both.carry_batch()
        ways.now += PAUSE
    assert quiet.asked == 61
    ways.both.carry_batch()
    ways.now += FIRST_PAUSE
    ways.both.carry_batch()
    assert quiet.asked == 63


def test_idle_is_said_only_when_both_were_asked() -> None:
    """A direction that rests is asked after all once the other has nothing: a drain that ends has looked at both."""
    first, second = Direction(Carried(notes=1)), Direction(Carried(), Carried(notes=2))
    ways = Ways(first, second)
    assert [ways.both.carry_batch().notes for _ in range(2)] == [1, 2]
    asked = first.asked + second.asked
    assert ways.both.carry_batch().idle
    assert first.asked + second.asked == asked + 2


def test_a_direction_that_could_not_carry_does_not_rest() -> None:
    """Others hold its scopes, or a chunk is being copied: that is not having nothing."""
    first, second = Direction(*[Carried(notes=1)] * 2), Direction(Carried(busy=1), Carried(aside=True))
    ways = Ways(first, second)
    for _ in range(2):
        ways.both.carry_batch()
    assert second.asked == 2
