"""Legacy rows that cannot be represented in new, and why. Written in the transaction that would have carried them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ARRAY, Connection, Engine, Text, any_, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.ledger.opening import ledger
from adapters.postgres.part import texts
from adapters.postgres.prepared import Prepared
from adapters.postgres.schema import quarantine
from harness.errors import Refused
from harness.records import Quarantined

_RELEASE = Prepared(delete(quarantine).where(quarantine.c.key == any_(texts("keys"))))


def hold(connection: Connection, rows: Sequence[Mapping[str, str | None]]) -> None:
    """Put rows (key, part, local, scope, reason) into quarantine; one that is there keeps its ``since``."""
    if not rows:
        return
    statement = insert(quarantine)
    renewed = {name: statement.excluded[name] for name in ("part", "local", "scope", "reason")}
    connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=renewed), [*map(dict, rows)])


def release(connection: Connection, keys: Collection[str]) -> int:
    """Let go of those of the keys that are held; how many were."""
    if not keys:
        return 0
    return _RELEASE.execute(connection, keys=sorted(keys)).rowcount


def held(engine: Engine) -> list[Quarantined]:
    """All that is in quarantine, the oldest first."""
    c = quarantine.c
    chosen = select(c.key, c.part, c.local, c.scope, c.reason, c.since, c.accepted).order_by(c.since, c.key)
    with ledger(engine) as connection:
        return [Quarantined(*row) for row in connection.execute(chosen)]


def settle(connection: Connection, keys: Collection[str], unfit: Sequence[Mapping[str, str | None]]) -> None:
    """Let go of those of the keys that are held, and hold the unfit ones (key, part, local, scope, reason)."""
    release(connection, set(keys) - {str(row["key"]) for row in unfit})
    hold(connection, unfit)


def accept_by_name(engine: Engine, keys: Collection[str], reason: str | None) -> None:
    """Accept that these rows are left behind; None for a reason takes that back.

    Raises Refused for one that is not in quarantine, accepting none.
    """
    if not keys:
        return
    listed = cast(sorted(keys), ARRAY(Text))
    with ledger(engine) as connection:
        accepted = update(quarantine).where(quarantine.c.key == func.any(listed)).values(accepted=reason)
        found = set(connection.execute(accepted.returning(quarantine.c.key)).scalars())
        if unknown := sorted(set(keys) - found):
            raise Refused(f"not in quarantine: {', '.join(unknown)}; crossfade report lists what is, by key")


def count(engine: Engine) -> int:
    """How many rows are in quarantine."""
    with ledger(engine) as connection:
        return connection.execute(select(func.count()).select_from(quarantine)).scalar_one()
