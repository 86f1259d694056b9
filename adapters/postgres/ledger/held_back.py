"""What the ledger holds back of records and scopes that are being carried: let go of, all of it in one statement."""

from __future__ import annotations

from collections.abc import Callable, Collection

from sqlalchemy import any_, delete, func, select

from adapters.postgres.ledger.tables import debt, quarantine, rejection
from adapters.postgres.part import texts
from adapters.postgres.prepared import Prepared
from adapters.postgres.trip import Trip


def _letting_go() -> Prepared:
    keys, fit, scopes = (any_(texts(name)) for name in ("keys", "fit", "scopes"))
    held = delete(quarantine).where(quarantine.c.key == fit).returning(quarantine.c.key).cte("held")
    owed = delete(debt).where(debt.c.key == keys).returning(debt.c.key).cte("owed")
    refused = delete(rejection).where(rejection.c.scope == scopes).returning(rejection.c.scope).cte("refused")
    return Prepared(select(func.count()).select_from(refused).add_cte(held, owed))


_LET_GO = _letting_go()


def let_go(
    trip: Trip, keys: Collection[str], fit: Collection[str], scopes: Collection[str | None]
) -> Callable[[], int]:
    """Let go of the fit ones in quarantine, of all keys that were owed, and forget the scopes' failed attempts.

    What is returned tells how many of the scopes had any, once the trip is over.
    """
    named = sorted(scope or "" for scope in scopes)
    answer = trip.ask(_LET_GO, keys=sorted(keys), fit=sorted(fit), scopes=named)
    return lambda: int(answer.rows[0][0])
