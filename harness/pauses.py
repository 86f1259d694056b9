"""Pauses that grow while nothing comes of waiting."""

from __future__ import annotations

from collections.abc import Iterable, Set

from harness.ports import Clock


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
    """What could not be done, by name, each to be left alone until its pause is over. ``first`` and ``longest``: see
    ``Pauses``; the pause grows with each time that something is put off again, until it is done.
    """

    def __init__(self, clock: Clock, first: float, longest: float) -> None:
        self._clock, self._first, self._longest = clock, first, longest
        self._pauses: dict[str, Pauses] = {}
        self._until: dict[str, float] = {}

    def add(self, names: Iterable[str]) -> None:
        """Leave them alone, from now on, for their next pause."""
        for name in names:
            pauses = self._pauses.setdefault(name, Pauses(self._first, self._longest))
            self._until[name] = self._clock() + pauses.next()

    def done(self, names: Iterable[str]) -> None:
        """Forget them: they could be done."""
        if self._pauses:
            for name in names:
                self._pauses.pop(name, None)
                self._until.pop(name, None)

    @property
    def names(self) -> Set[str]:
        """What is to be left alone now."""
        now = self._clock()
        for name in [name for name, until in self._until.items() if until <= now]:
            del self._until[name]
        return self._until.keys()
