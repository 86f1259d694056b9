"""Each store's greatest lag by the minute, as whoever looks finds it. Losing a look is harmless."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import lag
from harness.records import Backlog
from harness.routing import Store


class LagBook:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def keep(self, backlogs: Mapping[Store, Backlog]) -> None:
        """Note what was seen just now; of a minute and a store the greatest stays. The server's clock counts."""
        if not backlogs:
            return
        # In one order, so that two who look at once do not wait for each other's rows crosswise.
        rows = [
            {"minute": _MINUTE, "store": store.value, "seconds": backlogs[store].lag_seconds}
            for store in sorted(backlogs)
        ]
        seen = insert(lag).values(rows)
        greater = seen.on_conflict_do_update(
            index_elements=["minute", "store"],
            set_={"seconds": seen.excluded.seconds},
            where=lag.c.seconds < seen.excluded.seconds,
        )
        with ledger(self._engine) as connection:
            connection.execute(greater)

    def by_minute(self, since: datetime | None = None) -> list[tuple[datetime, dict[Store, float]]]:
        """Seconds by store of each minute that ended after ``since``, in order of time."""
        chosen = select(lag.c.minute, lag.c.store, lag.c.seconds).order_by(lag.c.minute, lag.c.store)
        if since is not None:
            chosen = chosen.where(lag.c.minute >= func.date_trunc("minute", since))
        found: dict[datetime, dict[Store, float]] = {}
        with ledger(self._engine) as connection:
            for minute, store, seconds in connection.execute(chosen):
                found.setdefault(minute, {})[Store(store)] = seconds
        return list(found.items())


_MINUTE = func.date_trunc("minute", func.clock_timestamp())
