"""A latency sketch: quantiles within one percent of their value, mergeable, small.

Values fall into buckets whose bounds grow by a constant factor, so that every quantile is known to a relative
error. The idea and the bound are DDSketch's: Masson, Rim, Lee, "DDSketch: A Fast and Fully-Mergeable Quantile
Sketch with Relative-Error Guarantees", PVLDB 12(12), 2019, sections 2.1 and 2.2.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

ACCURACY = 0.01
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_PER_LOG = 1 / math.log(_GAMMA)
_LEAST = 1e-9  # seconds; anything shorter counts as this


class Sketch:
    """Durations in seconds. Not safe for writers in several threads."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[math.ceil(math.log(max(seconds, _LEAST)) * _PER_LOG)] += 1
        self.count += 1
        self.total += seconds

    def add_all(self, durations: Iterable[float]) -> None:
        for seconds in durations:
            self.add(seconds)

    def merge(self, other: Sketch) -> None:
        self.buckets.update(other.buckets)
        self.count += other.count
        self.total += other.total

    def quantile(self, q: float) -> float | None:
        """The value below which the share ``q`` (0 to 1) of all durations lies, in seconds; None if there are none."""
        if not self.count:
            return None
        return float(2 * _GAMMA ** self._place(q * (self.count - 1)) / (_GAMMA + 1))

    def around(self, rank: int) -> tuple[float, float]:
        """Two durations in seconds between which the one of this rank lies; rank 0 is the shortest."""
        place = self._place(rank)
        return float(_GAMMA ** (place - 1)), float(_GAMMA**place)

    def cumulative(self, most: int) -> list[tuple[float, float]]:
        """Durations with the share of all that is no longer, rising; so many at most, the longest always among them."""
        wide = max(1, math.ceil(len(self.buckets) / max(1, most)))
        found, seen = list[tuple[float, float]](), 0
        for position, place in enumerate(sorted(self.buckets), 1):
            seen += self.buckets[place]
            if position % wide == 0 or position == len(self.buckets):
                found.append((float(_GAMMA**place), seen / self.count))
        return found

    def _place(self, rank: float) -> int:
        seen = 0
        for place in sorted(self.buckets):
            seen += self.buckets[place]
            if seen > rank:
                return place
        raise AssertionError("the buckets hold fewer durations than were counted")

    def dump(self) -> dict[str, object]:
        """A JSON object that ``load`` reads."""
        return {"total": self.total, "buckets": {str(place): n for place, n in self.buckets.items()}}

    @classmethod
    def load(cls, dumped: Mapping[str, object]) -> Sketch:
        sketch = cls()
        buckets, total = dumped["buckets"], dumped["total"]
        if not isinstance(buckets, Mapping) or not isinstance(total, int | float):
            raise TypeError("not a dumped sketch")
        sketch.buckets.update({int(place): int(n) for place, n in buckets.items()})
        sketch.count = sum(sketch.buckets.values())
        sketch.total = float(total)
        return sketch
