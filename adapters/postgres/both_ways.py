"""Both directions of carrying as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable

from adapters.postgres.carry import StateCarrier
from harness.catchup import Carried
from harness.statistics import Apply


class BothWays:
    """Carriers of both directions as one: whatever is noted in either store goes where it belongs."""

    def __init__(self, *carriers: StateCarrier) -> None:
        self._carriers = carriers

    def carry_batch(self) -> Carried:
        """One batch in each direction."""
        return sum((carrier.carry_batch() for carrier in self._carriers), Carried())

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
