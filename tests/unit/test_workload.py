"""The pace, the mix and the counting of a workload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from threading import Event
from typing import Any

import pytest

from harness.errors import ConfigError, Conflict, NotFound, StoreUnavailable
from harness.workload import Mix, Performed, Workload


class FakeTime(Event):
    """A clock, and the event that waits on it: waiting takes no time but the clock's. Ends at ``until``, if given."""

    def __init__(self, until: float = float("inf")) -> None:
        super().__init__()
        self.now = 100.0
        self.until = 100.0 + until

    def clock(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        assert timeout >= 0
        self.now = min(self.now + timeout, self.until)
        if self.now >= self.until:
            self.set()
        return self.is_set()


@dataclass
class FakeCalls:
    """Notes the time of each call; what a call does besides is in ``act``."""

    time: FakeTime
    act: Callable[[str], None] = lambda name: None
    made: list[tuple[float, str]] = field(default_factory=list)

    def operations(self) -> Collection[str]:
        return ("find", "list", "save")

    def call(self, name: str, repository: Any, random: Random) -> None:
        self.made.append((round(self.time.now - 100, 6), name))
        self.act(name)


def run(
    calls: FakeCalls, rate: float, duration: float, weights: dict[str, float] | None = None, seed: int = 1
) -> Performed:
    workload = Workload(calls, Mix(weights or {"find": 1}), rate, duration)
    return workload.run(object(), random=Random(seed), clock=calls.time.clock, stop=calls.time)


def test_calls_come_at_the_rate_until_the_duration_is_over() -> None:
    """Call n is made n / rate seconds after the beginning, the first at once, none at the end or later."""
    calls = FakeCalls(FakeTime())
    performed = run(calls, rate=4, duration=1)
    assert [at for at, _ in calls.made] == [0, 0.25, 0.5, 0.75]
    assert performed.calls == {"find": 4}
    assert performed.late_seconds == 0


def test_a_slow_call_delays_none_of_the_later_ones() -> None:
    """Open loop: what became late is made at once, and the schedule is met again afterwards."""
    calls = FakeCalls(FakeTime())
    slow = iter([0.6])

    def act(_: str) -> None:
        calls.time.now += next(slow, 0)

    calls.act = act
    performed = run(calls, rate=4, duration=1.2)
    assert [at for at, _ in calls.made] == [0, 0.6, 0.6, 0.75, 1.0]
    assert performed.late_seconds == pytest.approx(0.35)


def test_rate_nought_calls_as_fast_as_it_is_answered() -> None:
    """Nothing waits; the duration ends it."""
    calls = FakeCalls(FakeTime())

    def act(_: str) -> None:
        calls.time.now += 0.125

    calls.act = act
    assert run(calls, rate=0, duration=1).calls == {"find": 8}


def test_stop_ends_a_wait() -> None:
    """A workload that waits for its next call ends when it is told to, and makes no further call."""
    calls = FakeCalls(FakeTime(until=2.5))
    performed = run(calls, rate=1, duration=1000)
    assert performed.calls == {"find": 3}
    assert performed.seconds == 2.5


def test_stop_before_the_beginning_makes_no_call() -> None:
    """An event that is set already is obeyed before the first call."""
    calls = FakeCalls(FakeTime())
    calls.time.set()
    assert run(calls, rate=0, duration=1).calls == {}


def test_refusals_are_answers_and_failures_are_counted_apart() -> None:
    """A RepositoryError counts as refused, any other CrossfadeError as failed; neither ends the run."""
    errors = iter([Conflict("taken"), StoreUnavailable("away"), NotFound("gone")])

    def act(_: str) -> None:
        if error := next(errors, None):
            raise error

    performed = run(FakeCalls(FakeTime(), act), rate=1, duration=5)
    assert performed.calls == {"find": 5}
    assert performed.refused == {"find": 2}
    assert performed.failed == {"find": 1}


def test_an_unknown_error_is_not_swallowed() -> None:
    """A bug in what is called ends the workload with that error."""

    def act(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(FakeCalls(FakeTime(), act), rate=1, duration=5)


def test_the_seed_decides_which_calls_are_made() -> None:
    """Two runs of one seed make the same calls; another seed makes others."""
    weights = {"find": 3.0, "list": 1.0}
    made = [run(calls := FakeCalls(FakeTime()), 100, 1, weights, seed) and calls.made for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


def test_draws_follow_the_weights() -> None:
    """Over many draws each operation has its share; a weight of 0 is never drawn."""
    drawn = Counter(islice(Mix({"find": 3, "list": 1, "save": 0}).drawing(Random(7)), 20_000))
    assert drawn.keys() == {"find", "list"}
    assert drawn["find"] / 20_000 == pytest.approx(0.75, abs=0.02)


def test_a_mix_is_parsed() -> None:
    """Names and weights, with or without spaces."""
    assert Mix.parse("find=3, list = 1.5,", {"find", "list"}).weights == {"find": 3, "list": 1.5}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("fond=1", "unknown operation 'fond'; known: find, list"),
        ("find", "'find' is not so"),
        ("find=a", "'find=a' is not so"),
        ("find=1,find=2", "find twice"),
        ("find=-1", "from 0 up"),
        ("find=nan", "from 0 up"),
        ("find=inf", "from 0 up"),
        ("find=0", "above 0"),
        ("", "above 0"),
        ("=1", "unknown operation ''"),
    ],
)
def test_an_unfit_mix_is_refused(given: str, said: str) -> None:
    """What is wrong is said, and what would be right."""
    with pytest.raises(ConfigError, match=said):
        Mix.parse(given, {"find", "list"})


@pytest.mark.parametrize(("rate", "duration"), [(-1, 1), (float("nan"), 1), (1, -1), (1, float("inf"))])
def test_an_unfit_pace_is_refused(rate: float, duration: float) -> None:
    """Rates and durations are finite and not negative."""
    with pytest.raises(ConfigError, match="from 0 up"):
        Workload(FakeCalls(FakeTime()), Mix({"find": 1}), rate, duration)


def test_a_mix_of_what_cannot_be_called_is_refused() -> None:
    """Before the first call, not when the operation is drawn."""
    with pytest.raises(ConfigError, match="delete"):
        Workload(FakeCalls(FakeTime()), Mix({"find": 1, "delete": 0.001}), 1, 1)


def test_workers_add_up() -> None:
    """Counts are summed; times are the longest, because workers run side by side."""
    one = Performed({"find": 2}, {}, {"find": 1}, 1.0, 0.5)
    two = Performed({"find": 1, "save": 1}, {"save": 1}, {}, 2.0, 0.25)
    assert one + two == Performed({"find": 3, "save": 1}, {"save": 1}, {"find": 1}, 2.0, 0.5)
