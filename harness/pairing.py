"""Pairing: what two stores made of the same operation, side by side.

A store is slow, or fails, compared with what the other one did with the very same question, not with its average.
What one side bears and the other does not (the caller's thread or a worker's, the first or the second to ask) changes
with the share of reads; docs/gates.md says what follows from that.
"""

from __future__ import annotations

from harness.recorder import Track
from harness.routing import Store
from harness.settings import ShadowSettings
from harness.statistics import Paired


class Pairing:
    """Notes pairs. A call that came too late counts as failed, as it does everywhere."""

    def __init__(self, settings: ShadowSettings) -> None:
        self._factor, self._least = settings.slow_factor, settings.slow_seconds

    def note(self, track: Track, served: Store, answered: float | None, shadowed: float | None) -> None:
        """Both stores were asked: the seconds that each took to answer, None for one that failed."""
        legacy, new = (answered, shadowed) if served is Store.LEGACY else (shadowed, answered)
        if legacy is None or new is None:
            track.pairs[_failed(legacy, new)].add()
            return
        track.paired.add((legacy, new))
        track.pairs[self._answered(legacy, new)].add()

    def _answered(self, legacy: float, new: float) -> Paired:
        if abs(new - legacy) < self._least:
            return Paired.ANSWERED
        if new > self._factor * legacy:
            return Paired.SLOW
        return Paired.LEGACY_SLOW if legacy > self._factor * new else Paired.ANSWERED


def _failed(legacy: float | None, new: float | None) -> Paired:
    if legacy is None:
        return Paired.BOTH_FAILED if new is None else Paired.LEGACY_FAILED
    return Paired.NEW_FAILED
