"""Legacy rows that cannot be represented in new, and why. Written in the transaction that would have carried them.

A row may be accepted by name to be left behind. That is said of the row as it is: whatever is written to it afterwards
takes the acceptance back, in the transaction that finds it still unfit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, any_, func, null, select, true, update
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.ledger.audit import write
from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import quarantine
from adapters.postgres.part import these
from harness.errors import Refused
from harness.records import Quarantined

_ACCEPTANCE = ("accepted", "accepted_by", "accepted_at", "image")
_FETCH = 2_000
_TOLD = 1_000  # keys in one audit entry, at most

Look = Callable[[Sequence[Quarantined]], Mapping[str, Mapping[str, Any] | None]]
"""What each row says, by key; None of one that is gone."""


def hold(connection: Connection, rows: Sequence[Mapping[str, str | None]]) -> None:
    """Put rows (key, part, local, scope, reason) into quarantine; one that is there keeps its ``since``.

    They were written to since they were put there, if they were: so nobody has accepted them as they are.
    """
    if not rows:
        return
    statement = insert(quarantine)
    renewed = {name: statement.excluded[name] for name in ("part", "local", "scope", "reason")}
    connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=renewed), [*map(dict, rows)])
    # Afterwards, when the entries are locked: one that is just being accepted would not be seen to be.
    _unaccept(connection, [str(row["key"]) for row in rows], "crossfade", "written to since it was accepted")


def held(engine: Engine) -> list[Quarantined]:
    """All that is in quarantine, the oldest first."""
    return list(listed(engine))


def listed(
    engine: Engine,
    *,
    keys: Collection[str] | None = None,
    reason: str | None = None,
    accepted: bool | None = None,
    limit: int | None = None,
) -> Iterator[Quarantined]:
    """What is in quarantine, the oldest first, read as it is asked for; narrowed down by what is given."""
    c = quarantine.c
    chosen = _entries().where(_narrowed(keys, reason, accepted)).order_by(c.since, c.key).limit(limit)
    with ledger(engine) as connection:
        for row in connection.execution_options(yield_per=_FETCH).execute(chosen):
            yield Quarantined(*row)


def known(engine: Engine, keys: Collection[str]) -> list[Quarantined]:
    """These, the oldest first. Raises Refused for one that is not in quarantine."""
    found = list(listed(engine, keys=keys))
    _refuse_unknown(set(keys) - {row.key for row in found})
    return found


def count(engine: Engine) -> int:
    """How many rows are in quarantine."""
    with ledger(engine) as connection:
        return connection.execute(select(func.count()).select_from(quarantine)).scalar_one()


def by_reason(engine: Engine, *, accepted: bool | None = None) -> Counter[str]:
    """How many there are of each reason, the most frequent first; of those accepted, or not, if that is said."""
    number = func.count().label("number")
    chosen = select(quarantine.c.reason, number).where(_narrowed(None, None, accepted))
    with ledger(engine) as connection:
        rows = connection.execute(chosen.group_by(quarantine.c.reason).order_by(number.desc(), quarantine.c.reason))
        return Counter({reason: int(n) for reason, n in rows})


def accept(engine: Engine, keys: Collection[str], look: Look, *, actor: str, reason: str) -> frozenset[str]:
    """Accept by key that these rows are left behind; the keys of those that were not accepted before.

    ``look`` tells what each row says now. It is called when the entries are locked: whatever is written to a row after
    it was looked at is carried over later than this, and takes the acceptance back. Raises Refused for a key that is
    not in quarantine, accepting none.
    """
    fresh: set[str] = set()
    with ledger(engine) as connection:
        entries = connection.execute(_entries().where(quarantine.c.key == any_(these(keys))).with_for_update()).all()
        rows = [Quarantined(*row) for row in entries]
        _refuse_unknown(set(keys) - {row.key for row in rows})
        images = look(rows)
        fresh = {row.key for row in rows if row.accepted is None}
        for key in sorted(fresh):
            given = {
                "accepted": reason,
                "accepted_by": actor,
                "accepted_at": func.now(),
                "image": images[key] or null(),
            }
            connection.execute(update(quarantine).where(quarantine.c.key == key).values(given))
        if fresh:
            _tell(connection, actor, "quarantine accepted", reason, fresh)
    return frozenset(fresh)


def take_back(engine: Engine, keys: Collection[str], *, actor: str, reason: str) -> frozenset[str]:
    """Take acceptances back; the keys of those that were accepted. Raises Refused for one not in quarantine."""
    known(engine, keys)
    with ledger(engine) as connection:
        return _unaccept(connection, keys, actor, reason)


def _unaccept(connection: Connection, keys: Collection[str], actor: str, reason: str) -> frozenset[str]:
    accepted = quarantine.c.key == any_(these(keys)), quarantine.c.accepted.isnot(None)
    cleared = update(quarantine).where(*accepted).values(dict.fromkeys(_ACCEPTANCE, null()))
    found = frozenset(connection.execute(cleared.returning(quarantine.c.key)).scalars())
    if found:
        _tell(connection, actor, "quarantine acceptance taken back", reason, found)
    return found


def _tell(connection: Connection, actor: str, action: str, reason: str, keys: Collection[str]) -> None:
    write(connection, actor, action, reason, {"rows": len(keys), "keys": sorted(keys)[:_TOLD]})


def _entries() -> Select[Any]:
    c = quarantine.c
    return select(c.key, c.part, c.local, c.scope, c.reason, c.since, *(c[name] for name in _ACCEPTANCE))


def _narrowed(keys: Collection[str] | None, reason: str | None, accepted: bool | None) -> ColumnElement[bool]:
    c = quarantine.c
    condition: ColumnElement[bool] = true()
    if keys is not None:
        condition &= c.key == any_(these(keys))
    if reason is not None:
        condition &= c.reason == reason
    if accepted is not None:
        condition &= c.accepted.is_not(None) if accepted else c.accepted.is_(None)
    return condition


def _refuse_unknown(keys: Collection[str]) -> None:
    if keys:
        few = ", ".join(sorted(keys)[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
        raise Refused(f"not in quarantine: {few}; crossfade quarantine list shows what is, by key")
