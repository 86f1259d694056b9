"""What the core asks of the outside. Small Protocols; adapters fulfil them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Protocol

from harness.records import MismatchSample
from harness.routing import RouteView, Store
from harness.statistics import Role, Statistics

Clock = Callable[[], float]  # monotonic seconds


class Routes(Protocol):
    """Where the route is persisted."""

    def view(self) -> RouteView:
        """The route as it stands now. Raises StoreUnavailable when it cannot be read."""
        ...


class Carrier(Protocol):
    """Carries what changed in the store with authority over to the other one."""

    def carry(self, scopes: Collection[str], keys: Collection[Hashable]) -> None:
        """Carry over all that is noted now for the scopes, and for the keys whatever scope they are noted under.

        Returns when nothing noted before the call is left for them. Raises CrossfadeError when it cannot; then
        some of them may have been carried over, which ``is_settled`` tells.
        """
        ...

    def is_settled(self, scope: str | None, key: Hashable | None) -> bool:
        """Whether nothing is noted for the scope, or, without one, for the key, or, without both, at all."""
        ...

    def noted_in(self, key: Hashable) -> Collection[Store]:
        """The stores in which something is noted for the key. Raises CrossfadeError when that cannot be told."""
        ...


class Publisher(Protocol):
    """Where metrics go. Called off the caller's path, in batches; must not block. Labels come from closed sets."""

    def calls(self, operation: str, store: Store, role: Role, seconds: Sequence[float], failed: bool) -> None:
        """Calls of one store, each with its duration. ``failed`` ones were unavailable or raised no refusal of ours."""
        ...

    def counts(self, increment: Statistics) -> None:
        """What was counted since the last call; its latencies and errors are those given to ``calls``."""
        ...

    def route(self, view: RouteView) -> None:
        """The route that this process follows now."""
        ...


class SampleSink(Protocol):
    """Where confirmed mismatches are kept."""

    def mismatch(self, sample: MismatchSample) -> None: ...
