"""How long catch-up waits between two looks at a queue."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any, cast

import pytest

from harness.catchup import FIRST_PAUSE, LONGEST_PAUSE, Carried, follow
from harness.errors import StoreUnavailable
from harness.pauses import Pauses, PutOff

POLL = 0.05
NOTHING, SOMETHING = Carried(), Carried(notes=3)
AWAY = StoreUnavailable("legacy is away")


class Queue:
    """Has what it is given, one after the other; also the event that ends the loop, and what pauses there were."""

    def __init__(self, *found: Carried | StoreUnavailable) -> None:
        self._found: Iterator[Carried | StoreUnavailable] = iter(found)
        self._left = len(found)
        self.pauses: list[float] = []

    def carry_batch(self) -> Carried:
        self._left -= 1
        found = next(self._found)
        if isinstance(found, StoreUnavailable):
            raise found
        return found

    def notes_left(self) -> int:
        return 0

    def is_set(self) -> bool:
        return not self._left

    def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)


def followed(*found: Carried | StoreUnavailable, poll: float = POLL) -> list[float]:
    """The pauses between the looks."""
    queue = Queue(*found)
    follow(queue, stop=cast(Event, cast(Any, queue)), pause=poll)
    return queue.pauses


def test_an_empty_queue_is_looked_at_again_soon_and_then_less_often() -> None:
    """One found empty by chance has a note a moment later; one that nobody writes to is left alone."""
    pauses = followed(SOMETHING, *[NOTHING] * 8)
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-2:] == [POLL, POLL]


def test_what_both_stores_hand_back_is_not_carried_to_and_fro_without_a_pause() -> None:
    """Two restored routes that each claim a scope would keep two processors busy for ever."""
    handed_back = Carried(notes=3, turned=3)
    assert followed(*[handed_back] * 8)[-2:] == [POLL, POLL]
    assert followed(*[handed_back] * 8, Carried(notes=3, turned=2), NOTHING)[-1] == FIRST_PAUSE


@pytest.mark.parametrize(("many", "seconds"), [(1, 5.0), (100, 5.0), (400, 20.0)])
def test_what_is_put_off_is_left_alone_for_longer_where_it_is_much(many: int, seconds: float) -> None:
    """So that trying it again does not take all of the time; one alone is tried again soon, however often it failed."""
    now = [0.0]
    put_off, names = PutOff(lambda: now[0], 5.0), {str(number) for number in range(many)}
    for _ in range(3):
        put_off.add(names)
        now[0] += 4.9
        assert put_off.names == names
        now[0] += seconds
        assert put_off.names == set()
    put_off.add(["one"])
    now[0] += 5.0
    assert put_off.names == set()


def test_whoever_writes_again_is_followed_closely_again() -> None:
    assert followed(*[NOTHING] * 8, SOMETHING, SOMETHING, NOTHING)[-1] == FIRST_PAUSE


def test_no_pause_is_longer_than_is_said() -> None:
    assert followed(*[NOTHING] * 3, poll=FIRST_PAUSE / 2) == [FIRST_PAUSE / 2] * 3


def test_a_store_that_is_away_is_asked_less_and_less_often() -> None:
    pauses = followed(*[AWAY] * 8)
    assert pauses[:2] == [POLL, 2 * POLL]
    assert pauses[-1] == LONGEST_PAUSE
    assert followed(AWAY, AWAY, NOTHING, AWAY) == [POLL, 2 * POLL, FIRST_PAUSE, POLL]


def test_pauses_double_until_they_begin_anew() -> None:
    pauses = Pauses(1.0, 3.0)
    assert [pauses.next() for _ in range(4)] == [1.0, 2.0, 3.0, 3.0]
    pauses.begin()
    assert pauses.next() == 1.0
