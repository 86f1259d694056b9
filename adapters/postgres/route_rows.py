"""The route's rows of both databases, as ``prepare`` brings them into being and keeps them to the settings.

Moving authority is not done here, but for one case: a group of scopes that nobody knew of before.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql
from sqlalchemy import Connection, Engine, Table, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.errors import speaking_for
from adapters.postgres.guard import set_guard_mode
from adapters.postgres.guarding import FENCE
from adapters.postgres.ledger.audit import write
from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import route
from adapters.postgres.schema import SCHEMA, route_copy
from adapters.postgres.triggers import patiently, run
from harness.routing import Store

_COPIED = ("epoch", "writes_percent", "salt", "guard", "pins")


def settle_routes(legacy: Engine, new: Engine, *, mode: str, rollback_safe: bool) -> None:
    """Give legacy its copy of the route where it has none, and both the guard's settings.

    A copy that is there keeps its authority as it is: if it differs, an act that moves authority is half done.
    """
    with ledger(new) as connection:
        differs = or_(route.c.guard != mode, route.c.rollback_safe != rollback_safe)
        connection.execute(update(route).values(guard=mode, rollback_safe=rollback_safe).where(differs))
        row = connection.execute(select(*(route.c[name] for name in _COPIED))).one()
        _count(connection)
    with speaking_for(Store.LEGACY), legacy.begin() as connection:
        connection.execute(insert(route_copy).values(**row._mapping).on_conflict_do_nothing())
        set_guard_mode(connection, mode)
        _count(connection)


def keep_with_legacy(legacy: Engine, new: Engine, groups: Sequence[str], *, actor: str, reason: str) -> None:
    """Pin groups of scopes that have never been captured to legacy, where they are. Pins that are there stay.

    New first: by its route a share of these scopes was its own, and authority is lost before it is gained. Until
    legacy has the pin too, its guard knows nothing of them, for it is attached after this. Each store changes under
    its fence, so that no write that was let through before is still open. A crash in between is finished by the next
    run: the groups are still not captured.

    Raises Refused, with nothing more changed, when a fence is not to be had.
    """
    epoch = 0

    def pin_in_new(connection: Connection) -> None:
        nonlocal epoch
        if pinned := _pin(connection, route, groups, None):
            write(connection, actor, "pin", reason, {"pins": dict.fromkeys(pinned, Store.LEGACY.value)})
        epoch = int(connection.execute(select(route.c.epoch)).scalar_one())

    with speaking_for(Store.NEW):
        patiently(new, Store.NEW, "the fence", pin_in_new)
    with speaking_for(Store.LEGACY):
        patiently(legacy, Store.LEGACY, "the fence", lambda connection: _pin(connection, route_copy, groups, epoch))


def _count(connection: Connection) -> None:
    """Let the planner know that the route is one row. Of a table never analyzed it expects pages full, and looks that
    row up in the index, which every guarded write would pay for (docs/adr/0023).
    """
    run(connection, sql.SQL("ANALYZE (SKIP_LOCKED) {}").format(sql.Identifier(SCHEMA, route_copy.name)))


def _pin(connection: Connection, table: Table, groups: Sequence[str], epoch: int | None) -> list[str]:
    """Pin those of the groups that are not pinned yet. The epoch becomes the given one, if later, or the next one."""
    connection.execute(select(func.pg_advisory_xact_lock(*FENCE)))
    pins = dict(connection.execute(select(table.c.pins)).scalar_one())
    if missing := [name for name in groups if name not in pins]:
        pins |= dict.fromkeys(missing, Store.LEGACY.value)
        later = table.c.epoch + 1 if epoch is None else func.greatest(table.c.epoch, epoch)
        connection.execute(update(table).values(pins=pins, epoch=later))
    return missing
