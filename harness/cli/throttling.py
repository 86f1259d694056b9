"""What holds bulk work back, put together from settings, options and both servers."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import click

from adapters.postgres.ledger.locks import is_locked
from adapters.postgres.pressure import ReplicaPressure
from adapters.prompts.migration import Stores
from harness.cli.app import App, actor
from harness.errors import CrossfadeError
from harness.phases import Phase
from harness.routing import Store
from harness.throttle import Limits, Throttle, next_moment


class Moment(click.ParamType[datetime]):
    """The next moment at which a clock shows a time of day."""

    name = "HH:MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return next_moment(str(value), datetime.now(UTC))
        except CrossfadeError as error:
            self.fail(str(error), param, ctx)


MOMENT = Moment()


def throttle_of(
    app: App,
    stores: Stores,
    *,
    chunk_rows: int | None = None,
    rows_per_second: float | None = None,
    until: datetime | None = None,
) -> Throttle:
    """The backfill's throttle. What is given stands in for the settings; so many rows per chunk are not adapted."""
    settings = app.settings.backfill
    limits = Limits(
        chunk_rows=chunk_rows or settings.chunk_rows,
        chunk_seconds=0.0 if chunk_rows else settings.chunk_seconds,
        max_chunk_rows=settings.max_chunk_rows,
        rows_per_second=settings.rows_per_second if rows_per_second is None else rows_per_second,
        lag_seconds=settings.max_lag_seconds,
        lag_bytes=settings.max_lag_bytes,
    )
    with_slots = bool(settings.max_lag_bytes)
    return Throttle(
        limits,
        clock=time.monotonic,
        now=lambda: datetime.now(UTC),
        pauses=stores.pauses,
        # New's replicas, too: what is copied is written there.
        pressures=[ReplicaPressure(stores.engine(store), store, with_slots=with_slots) for store in Store],
        until=until,
        told=app.say,
    )


def set_pause(stores: Stores, *, paused: bool, reason: str) -> dict[str, Any]:
    """Ask for a pause of the backfill, or end it. What runs follows within a second or so."""
    stores.require(Phase.PREPARED)
    changed = stores.pauses.ask(actor(), reason) if paused else stores.pauses.end(actor(), reason)
    running = is_locked(stores.new, "backfill")
    following = "crossfade backfill --resume" if paused else "nothing: it goes on" if running else "crossfade backfill"
    return {"paused": paused, "changed": changed, "running": running, "next": following}
