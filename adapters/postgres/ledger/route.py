"""The persisted route, and what must stay with legacy whatever it says."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from sqlalchemy import Connection, Engine, func, select, update

from adapters.postgres.ledger.audit import write
from adapters.postgres.ledger.opening import ledger, not_prepared
from adapters.postgres.schema import quarantine, route
from harness.errors import Refused
from harness.routing import Route, RouteView, percent

PERCENTS = ("reads_percent", "writes_percent", "shadow_percent")


class RouteBook:
    """Fulfils ``harness.ports.Routes``.

    ``new_only`` tells whether new holds records that legacy cannot; it is asked at every view. ``key_type`` makes the
    contract's key of a quarantined key's text.
    """

    def __init__(
        self,
        engine: Engine,
        new_only: Callable[[], bool] | None = None,
        key_type: Callable[[str], Hashable] = str,
    ) -> None:
        self._engine, self._new_only, self._key_type = engine, new_only, key_type
        self._held: tuple[object, frozenset[str], frozenset[Hashable]] = (None, frozenset(), frozenset())

    def view(self) -> RouteView:
        """The route now. Raises StoreUnavailable, or Refused before ``crossfade prepare``."""
        with ledger(self._engine) as connection:
            present = _read(connection)
            scopes, keys = self._quarantined(connection)
        sets_differ = bool(keys) or (self._new_only is not None and self._new_only())
        return RouteView(present, scopes, keys, sets_differ)

    def _quarantined(self, connection: Connection) -> tuple[frozenset[str], frozenset[Hashable]]:
        """Scopes and keys in quarantine; read anew only when they have changed, for every process asks all the time."""
        each = func.hashtextextended(quarantine.c.key + func.coalesce(quarantine.c.scope, ""), 0)
        mark = tuple(connection.execute(select(func.count(), func.sum(each)).select_from(quarantine)).one())
        if mark != self._held[0]:
            held = connection.execute(select(quarantine.c.key, quarantine.c.scope)).all()
            scopes = frozenset(scope for _, scope in held if scope is not None)
            self._held = (mark, scopes, frozenset(self._key_type(key) for key, _ in held))
        return self._held[1], self._held[2]

    def change(
        self,
        *,
        reads_percent: float | None = None,
        writes_percent: float | None = None,
        shadow_percent: float | None = None,
        actor: str,
        reason: str,
        expected_epoch: int | None = None,
    ) -> Route:
        """Change the shares that are given, with the audit entry, in one transaction.

        A change that changes nothing leaves no trace. Raises ConfigError for a share that is none, and Refused when
        ``expected_epoch`` is not the present one: somebody changed it first.
        """
        given = dict(zip(PERCENTS, (reads_percent, writes_percent, shadow_percent), strict=True))
        wanted = {name: percent(value, name) for name, value in given.items() if value is not None}
        with ledger(self._engine) as connection:
            present = _read(connection, lock=True)
            if expected_epoch is not None and present.epoch != expected_epoch:
                raise Refused(
                    f"the route was changed meanwhile (epoch {present.epoch}, not {expected_epoch}); "
                    "look at crossfade status and decide again"
                )
            changed = {name: value for name, value in wanted.items() if getattr(present, name) != value}
            if not changed:
                return present
            connection.execute(update(route).values(**changed, epoch=route.c.epoch + 1))
            detail = {name: {"from": getattr(present, name), "to": value} for name, value in changed.items()}
            write(connection, actor, "route", reason, detail)
            return _read(connection)


def _read(connection: Connection, *, lock: bool = False) -> Route:
    chosen = select(route.c.epoch, *(route.c[name] for name in PERCENTS), route.c.salt)
    row = connection.execute(chosen.with_for_update() if lock else chosen).one_or_none()
    if row is None:
        raise not_prepared()
    reads, writes, shadow = float(row.reads_percent), float(row.writes_percent), float(row.shadow_percent)
    return Route(row.epoch, reads, writes, shadow, row.salt)
