"""The route: which share of operations goes where, and what must stay with legacy whatever the share says."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from harness.errors import ConfigError

BUCKETS = 10_000


class Store(StrEnum):
    LEGACY = "legacy"
    NEW = "new"

    @property
    def other(self) -> Store:
        return Store.NEW if self is Store.LEGACY else Store.LEGACY


def percent(value: float | str, what: str = "percent") -> float:
    """A share between 0 and 100 in steps of 0.01, or ConfigError naming ``what``."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 100:  # NaN fails every comparison, so it is refused here too
        raise ConfigError(f"{what} must be a number from 0 to 100, not {value!s}")
    if abs(number * 100 - round(number * 100)) > 1e-6:
        raise ConfigError(f"{what} goes in steps of 0.01, not {value!s}")
    return round(number, 2)


def bucket(salt: str, scope: str) -> int:
    """The scope's place from 0 to 9999: the first 32 bits of ``md5(salt || scope)``, unsigned, modulo 10,000.

    The same value as in SQL: ``(('x' || substr(md5(salt || scope), 1, 8))::bit(32)::bigint) % 10000``.
    """
    digest = hashlib.md5((salt + scope).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "big") % BUCKETS


def group(scope: str) -> str:
    """What a pin may name in place of a scope: the text before its first slash, such as the organization."""
    return scope.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Route:
    """The persisted decision. Percentages are 0 to 100 in steps of 0.01; ``epoch`` grows with every change.

    ``pins`` gives a store authority over a scope, or over a whole group of them, whatever the percent says.
    """

    epoch: int = 0
    reads_percent: float = 0.0
    writes_percent: float = 0.0
    shadow_percent: float = 100.0
    salt: str = ""
    pins: Mapping[str, Store] = field(default_factory=dict, hash=False)  # a mapping has no hash; epoch tells as much

    def __post_init__(self) -> None:
        object.__setattr__(self, "pins", MappingProxyType({name: _store(name, to) for name, to in self.pins.items()}))
        for name in ("reads_percent", "writes_percent", "shadow_percent"):
            object.__setattr__(self, name, percent(getattr(self, name), name))

    def authority(self, scope: str) -> Store:
        """The store that accepts writes of the scope now: the scope's own pin, else its group's, else the percent."""
        if self.pins:
            pin = self.pins.get(scope) or self.pins.get(group(scope))
            if pin is not None:
                return pin
        moved = bucket(self.salt, scope) < round(self.writes_percent * 100)
        return Store.NEW if moved else Store.LEGACY

    @property
    def sole_authority(self) -> Store | None:
        """The store that has authority over every scope, if one has."""
        sole = {0.0: Store.LEGACY, 100.0: Store.NEW}.get(self.writes_percent)
        return sole if all(pin is sole for pin in self.pins.values()) else None


def _store(name: str, value: str) -> Store:
    try:
        return Store(value)
    except ValueError:
        raise ConfigError(f"{name} can be pinned to legacy or new, not to {value!s}") from None


@dataclass(frozen=True, slots=True)
class RouteView:
    """A route together with what one of the stores cannot be asked at the time it was read.

    ``held_scopes`` and ``held_keys`` are in quarantine: their reads stay with legacy and are not compared.
    ``owed_scopes`` and ``owed_keys`` are records that new holds and legacy cannot (rollback debt): their reads are
    served by new and not compared. ``sets_differ`` is true while either store holds records that the other one
    cannot (quarantine, new-only scopes): then a read that names neither scope nor key is served by the store with
    authority over everything, else by legacy, and not compared. ``complete``: legacy was let go of, so it answers no
    read in new's stead: nothing is carried to it any more.

    ``uniform`` is true while nothing of all that is so: one attribute for a read to look at.
    """

    route: Route = field(default_factory=Route)
    held_scopes: frozenset[str] = frozenset()
    held_keys: frozenset[Hashable] = frozenset()
    sets_differ: bool = False
    owed_scopes: frozenset[str] = frozenset()
    owed_keys: frozenset[Hashable] = frozenset()
    complete: bool = False
    uniform: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        named = self.held_scopes or self.held_keys or self.owed_scopes or self.owed_keys
        object.__setattr__(self, "uniform", not (self.sets_differ or named))
