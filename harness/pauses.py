"""Pauses that grow while nothing comes of waiting."""

from __future__ import annotations

from collections.abc import Iterable, Set

from harness.ports import Clock

_FEW = 100  # that may be tried again as often as one: a refusal takes some ten milliseconds


class Pauses:
    """Pauses that double from ``first`` to ``longest`` seconds; ``first`` counts as ``longest`` where it is more."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = min(first, longest), longest
        self._next = self._first

    def next(self) -> float:
        """How many seconds to wait now."""
        pause, self._next = self._next, min(2 * self._next, self._longest)
        return pause

    def begin(self) -> None:
        """The next pause is the first again."""
        self._next = self._first


class PutOff:
    """What could not be done, by name, each to be left alone for a while: for ``seconds``, and for as many times longer
    as there are hundreds of them, so that trying them again leaves time for what comes after. Any thread may ask.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self._until: dict[str, float] = {}

    def add(self, names: Iterable[str]) -> None:
        """Leave them alone from now on."""
        for name in names:
            self._until[name] = self._clock() + self._seconds * max(1.0, len(self._until) / _FEW)

    @property
    def names(self) -> Set[str]:
        """What is to be left alone now."""
        now, until = self._clock(), dict(self._until)
        for name in until.keys() - (left := frozenset(name for name in until if until[name] > now)):
            self._until.pop(name, None)
        return left
