"""One operation of a contract, bound to both stores."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.operations import Operation
from harness.recorder import Track
from harness.routing import Store


@dataclass(frozen=True, slots=True)
class Bound:
    """An operation, its method on either store, and where its calls are counted.

    ``rehearsed``: a write as it is rehearsed: its methods change nothing, answer None, and raise what the store would.
    """

    operation: Operation
    methods: Mapping[Store, Callable[..., Any]]
    track: Track
    rehearsed: Bound | None = None

    @property
    def timed(self) -> bool:
        """Whether a shadow's calls tell how fast the store is. A write is only ever rehearsed there."""
        return self.operation.kind == "read"

    def place(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str | None, Hashable | None]:
        """The scope and the key that a call names; None for what it does not name.

        Never raises: arguments that make no sense are for the store to refuse.
        """
        return _named(self.operation.scope, args, kwargs), _named(self.operation.key, args, kwargs)


def _named(of: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if of is None:
        return None
    try:
        named = of(*args, **kwargs)
        hash(named)
    except Exception:  # noqa: BLE001 - the store that is asked next raises what fits, to the one who asked
        return None
    return named
