"""A workload: calls of a repository at a given pace, drawn from a mix or read from a trace.

Open loop: call n is due when its time has come, whether the calls before it were fast or slow, and a call that is
late is made at once. A slow store therefore shows as lateness, not as a lower rate that nobody notices.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, count
from random import Random
from threading import Event
from typing import Any, Protocol

from harness.errors import ConfigError, CrossfadeError, RepositoryError
from harness.ports import Clock

Call = Callable[[Any], object]  # given the repository, makes one call of it


class Calls(Protocol):
    """An adapter's supply of calls, on keys of its own choice."""

    def operations(self) -> Collection[str]:
        """The names that ``call`` knows."""
        ...

    def call(self, name: str, repository: Any, random: Random) -> None:
        """Call the operation once. Safe for threads that bring a ``random`` each."""
        ...


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each operation is drawn: its weight over the sum of all weights. Raises ConfigError if unfit."""

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"the weight of {name} in the mix must be a number from 0 up, not {weight}")
        if not sum(self.weights.values()) > 0:
            raise ConfigError("the mix needs at least one operation with a weight above 0")

    @classmethod
    def parse(cls, text: str, known: Collection[str]) -> Mix:
        """``"find_by_id=3,find_all=1"`` as a mix of the known operations, or ConfigError saying what is wrong."""
        weights: dict[str, float] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, _, weight = (piece.strip() for piece in part.partition("="))
            if name not in known:
                raise ConfigError(f"the mix names an unknown operation {name!r}; known: {', '.join(sorted(known))}")
            if name in weights:
                raise ConfigError(f"the mix names {name} twice")
            try:
                weights[name] = float(weight)
            except ValueError:
                raise ConfigError(f"the mix reads NAME=WEIGHT,NAME=WEIGHT; {part!r} is not so") from None
        return cls(weights)

    def drawing(self, random: Random) -> Iterator[str]:
        """Names without end, in the mix's proportions."""
        names = [name for name, weight in self.weights.items() if weight > 0]
        bounds = list(accumulate(self.weights[name] for name in names))
        while True:
            yield names[min(bisect(bounds, random.random() * bounds[-1]), len(names) - 1)]


@dataclass(frozen=True, slots=True)
class Performed:
    """What a workload did. ``refused`` calls got a RepositoryError, which is an answer; ``failed`` ones got none.

    ``late_seconds``: the longest that a call was made after its time.
    """

    calls: Mapping[str, int]
    refused: Mapping[str, int]
    failed: Mapping[str, int]
    seconds: float
    late_seconds: float

    def __add__(self, other: Performed) -> Performed:
        """Both together, as of two workers side by side."""
        return Performed(
            Counter(self.calls) + Counter(other.calls),
            Counter(self.refused) + Counter(other.refused),
            Counter(self.failed) + Counter(other.failed),
            max(self.seconds, other.seconds),
            max(self.late_seconds, other.late_seconds),
        )


@dataclass(frozen=True, slots=True)
class Workload:
    """Calls drawn from a mix. ``rate``: calls per second, 0 for as fast as they are answered; ``duration``: seconds."""

    calls: Calls
    mix: Mix
    rate: float
    duration: float

    def __post_init__(self) -> None:
        for name in ("rate", "duration"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"{name} must be a number from 0 up, not {getattr(self, name)}")
        if unknown := set(self.mix.weights) - set(self.calls.operations()):
            raise ConfigError(f"the mix names operations that cannot be called here: {', '.join(sorted(unknown))}")

    def run(self, repository: Any, *, random: Random, clock: Clock, stop: Event) -> Performed:
        """Call until the duration is over or ``stop`` is set. Errors that are not CrossfadeErrors pass through."""
        return perform(self._schedule(random), repository, clock=clock, stop=stop, until=self.duration)

    def _schedule(self, random: Random) -> Iterator[tuple[float, str, Call]]:
        for number, name in zip(count(), self.mix.drawing(random), strict=False):
            due = number / self.rate if self.rate else 0.0
            if due >= self.duration:
                return
            yield due, name, _bound(self.calls, name, random)


def _bound(calls: Calls, name: str, random: Random) -> Call:
    return lambda repository: calls.call(name, repository, random)


def perform(
    schedule: Iterable[tuple[float, str, Call]],
    repository: Any,
    *,
    clock: Clock,
    stop: Event,
    until: float = math.inf,
) -> Performed:
    """Make each call when it is due, in seconds from now, and count it by name.

    Ends with the schedule, with ``stop``, or when ``until`` seconds have passed.
    """
    calls, refused, failed = Counter[str](), Counter[str](), Counter[str]()
    started, latest = clock(), 0.0
    for due, name, call in schedule:
        late = _await(started + due, clock, stop)
        if stop.is_set() or clock() - started >= until:
            break
        latest = max(latest, late)
        calls[name] += 1
        try:
            call(repository)
        except RepositoryError:
            refused[name] += 1
        except CrossfadeError:
            failed[name] += 1
    return Performed(dict(calls), dict(refused), dict(failed), clock() - started, latest)


def _await(moment: float, clock: Clock, stop: Event) -> float:
    """Wait until the clock shows the moment or ``stop`` is set; how long after the moment that is, in seconds."""
    while (left := moment - clock()) > 0:
        if stop.wait(left):
            return 0.0
    return -left
