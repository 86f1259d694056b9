"""The persisted route, and what must stay with legacy whatever it says."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from sqlalchemy import Connection, Engine, Table, func, select, update

from adapters.postgres.ledger.audit import write
from adapters.postgres.ledger.opening import ledger, not_prepared
from adapters.postgres.ledger.tables import debt, phase, quarantine, route
from harness.errors import Refused
from harness.phases import Phase
from harness.routing import Route, RouteView, Store, percent

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
        self._held, self._owed = _Listed(quarantine, key_type), _Listed(debt, key_type)

    def view(self) -> RouteView:
        """The route now. Raises StoreUnavailable, or Refused before ``crossfade prepare``."""
        with ledger(self._engine) as connection:
            present = read_route(connection)
            held_scopes, held_keys = self._held.read(connection)
            owed_scopes, owed_keys = self._owed.read(connection)
            complete = connection.execute(select(phase.c.phase)).scalar() == Phase.COMPLETE
        sets_differ = bool(held_keys or owed_keys) or (self._new_only is not None and self._new_only())
        return RouteView(present, held_scopes, held_keys, sets_differ, owed_scopes, owed_keys, complete)

    def change(
        self,
        *,
        reads_percent: float | None = None,
        shadow_percent: float | None = None,
        actor: str,
        reason: str,
        expected_epoch: int | None = None,
    ) -> Route:
        """Change the shares that are given, with the audit entry, in one transaction. Writes are moved by an act alone.

        A change that changes nothing leaves no trace. Raises ConfigError for a share that is none, and Refused when
        ``expected_epoch`` is not the present one: somebody changed it first.
        """
        given = {"reads_percent": reads_percent, "shadow_percent": shadow_percent}
        wanted = {name: percent(value, name) for name, value in given.items() if value is not None}
        with ledger(self._engine) as connection:
            present = read_route(connection, lock=True)
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
            return read_route(connection)


class _Listed:
    """Scopes and keys of a ledger's list; read anew only when it has changed, for every process asks all the time."""

    def __init__(self, table: Table, key_type: Callable[[str], Hashable]) -> None:
        self._table, self._key_type = table, key_type
        self._mark: object = None
        self._listed: tuple[frozenset[str], frozenset[Hashable]] = frozenset(), frozenset()

    def read(self, connection: Connection) -> tuple[frozenset[str], frozenset[Hashable]]:
        c = self._table.c
        each = func.hashtextextended(c.key + func.coalesce(c.scope, ""), 0)
        mark = tuple(connection.execute(select(func.count(), func.sum(each)).select_from(self._table)).one())
        if mark != self._mark:
            listed = connection.execute(select(c.key, c.scope)).all()
            scopes = frozenset(scope for _, scope in listed if scope is not None)
            self._listed = scopes, frozenset(self._key_type(key) for key, _ in listed)
            self._mark = mark
        return self._listed


def read_route(connection: Connection, *, lock: bool = False) -> Route:
    """The route, its row locked until the transaction ends if wanted. Raises NotPrepared without one."""
    chosen = select(route.c.epoch, *(route.c[name] for name in PERCENTS), route.c.salt, route.c.pins)
    row = connection.execute(chosen.with_for_update() if lock else chosen).one_or_none()
    if row is None:
        raise not_prepared()
    reads, writes, shadow = float(row.reads_percent), float(row.writes_percent), float(row.shadow_percent)
    return Route(row.epoch, reads, writes, shadow, row.salt, {name: Store(store) for name, store in row.pins.items()})
