"""The route: which share of operations goes where, and what must stay with legacy whatever the share says."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class Route:
    """The persisted decision. Percentages are 0 to 100 in steps of 0.01; ``epoch`` grows with every change."""

    epoch: int = 0
    reads_percent: float = 0.0
    writes_percent: float = 0.0
    shadow_percent: float = 100.0
    salt: str = ""

    def __post_init__(self) -> None:
        for name in ("reads_percent", "writes_percent", "shadow_percent"):
            object.__setattr__(self, name, percent(getattr(self, name), name))

    def authority(self, scope: str) -> Store:
        """The store that accepts writes of the scope now."""
        moved = bucket(self.salt, scope) < round(self.writes_percent * 100)
        return Store.NEW if moved else Store.LEGACY

    @property
    def sole_authority(self) -> Store | None:
        """The store that has authority over every scope, if one has."""
        return {0.0: Store.LEGACY, 100.0: Store.NEW}.get(self.writes_percent)


@dataclass(frozen=True, slots=True)
class RouteView:
    """A route together with what cannot be asked of the new store at the time it was read.

    ``held_scopes`` and ``held_keys`` are in quarantine: their reads stay with legacy and are not compared.
    ``sets_differ`` is true while either store holds records that the other one cannot (quarantine, new-only
    scopes): then a read that names neither scope nor key is served by legacy and not compared.
    """

    route: Route = field(default_factory=Route)
    held_scopes: frozenset[str] = frozenset()
    held_keys: frozenset[Hashable] = frozenset()
    sets_differ: bool = False
