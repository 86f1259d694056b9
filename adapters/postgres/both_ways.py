"""Both directions of carrying as one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Hashable

from adapters.postgres.carry import StateCarrier
from harness.catchup import FIRST_PAUSE, Carried
from harness.pauses import Pauses
from harness.ports import Clock
from harness.routing import Store
from harness.statistics import Apply


class BothWays:
    """Carriers of both directions as one: whatever is noted in either store goes where it belongs."""

    def __init__(self, *carriers: StateCarrier, pause: float, clock: Clock = time.monotonic) -> None:
        """A direction that had nothing is not asked again for a while if another has something.

        ``pause``: for how many seconds at most; the longer it has had nothing, the longer.
        """
        self._carriers, self._clock = carriers, clock
        self._pauses = {carrier: Pauses(FIRST_PAUSE, pause) for carrier in carriers}
        self._resting: dict[StateCarrier, float] = {}  # until when

    def carry_batch(self) -> Carried:
        """One batch in each direction, but in one that had nothing a moment ago; idle only if all of them are."""
        now = self._clock()
        resting = [carrier for carrier in self._carriers if self._resting.get(carrier, now) > now]
        done = sum((self._carry(carrier) for carrier in self._carriers if carrier not in resting), Carried())
        return sum(map(self._carry, resting), done) if done.idle else done

    def _carry(self, carrier: StateCarrier) -> Carried:
        done = carrier.carry_batch()
        if done.idle:
            self._resting[carrier] = self._clock() + self._pauses[carrier].next()
        else:
            self._pauses[carrier].begin()
            self._resting.pop(carrier, None)
        return done

    def tidy(self) -> None:
        for carrier in self._carriers:
            carrier.tidy()

    def applies(self) -> Counter[Apply]:
        """What came of changes carried over, in both directions, since the beginning."""
        return sum((carrier.applies for carrier in self._carriers), Counter[Apply]())

    def notes_left(self) -> int:
        return sum(carrier.notes_left() for carrier in self._carriers)

    def carry(self, scopes: Collection[str], keys: Collection[Hashable], timeout: float = 30.0) -> None:
        """See StateCarrier.carry. A write's note is in the store that took it: usually one direction has nothing."""
        for carrier in self._carriers:
            carrier.carry(scopes, keys, timeout)

    def is_settled(self, scope: str | None, key: Hashable | None) -> bool:
        return all(carrier.is_settled(scope, key) for carrier in self._carriers)

    def noted_in(self, key: Hashable) -> Collection[Store]:
        return frozenset[Store]().union(*(carrier.noted_in(key) for carrier in self._carriers))
