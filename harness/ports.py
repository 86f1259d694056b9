"""What the core asks of the outside. Small Protocols; adapters fulfil them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Protocol

from harness.records import FieldDifference, MismatchSample
from harness.routing import RouteView, Store

Clock = Callable[[], float]  # monotonic seconds


class RouteSource(Protocol):
    """Where the route is persisted."""

    def view(self) -> RouteView:
        """The route as it stands now. Raises StoreUnavailable when it cannot be read."""
        ...


class Carrier(Protocol):
    """Carries what changed in the store with authority over to the other one."""

    def carry(self, scopes: Collection[str | None]) -> None:
        """Carry over all that is noted for the scopes now; None stands for records without a scope.

        Returns when nothing noted before the call is left for them. Raises CrossfadeError when it cannot.
        """
        ...

    def is_settled(self, scope: str | None, key: Hashable | None) -> bool:
        """Whether nothing is noted for the scope, or, without one, for the key, or, without both, at all."""
        ...


class Publisher(Protocol):
    """Where metrics go. Called off the caller's path; must not raise. Labels come from closed sets."""

    def operation(self, operation: str, store: Store, role: str, seconds: float, failed: bool) -> None:
        """One call of one store; ``role`` is "served" or "shadowed"."""
        ...

    def comparison(self, operation: str, result: str) -> None:
        """One pair of answers; ``result`` is a value of ``statistics.Result``."""
        ...

    def mismatch(self, operation: str, field: str) -> None:
        """One field of a confirmed mismatch."""
        ...

    def dropped(self, reason: str) -> None:
        """One comparison that was not made; ``reason`` is a value of ``statistics.Drop``."""
        ...

    def route(self, view: RouteView) -> None:
        """The route that this process follows now."""
        ...


class SampleSink(Protocol):
    """Where confirmed mismatches are kept."""

    def mismatch(self, sample: MismatchSample) -> None: ...


class Difference(Protocol):
    """How two unequal answers differ."""

    def __call__(self, legacy: object, new: object) -> tuple[FieldDifference, ...]: ...
