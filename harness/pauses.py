"""Pauses that grow while nothing comes of waiting."""

from __future__ import annotations


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
