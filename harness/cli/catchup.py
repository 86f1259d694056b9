"""``crossfade catchup``: carry over what changed."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import click

from adapters.metrics.prometheus import PrometheusPublisher
from adapters.postgres.both_ways import BothWays
from adapters.postgres.ledger.locks import command_lock
from adapters.prompts.migration import Stores, opened
from harness.beat import Beat
from harness.catchup import Carried, WithApplies, drain, follow
from harness.cli.app import App, FiniteRange, command, facts
from harness.cli.authority import LOCK, recover
from harness.cli.metrics import exported, metrics_option
from harness.errors import CommandLocked, MismatchFound, Refused, StoreUnavailable
from harness.phases import Phase
from harness.recorder import ROLL_UP_SECONDS
from harness.statistics import Apply, Statistics

_RESUME_SECONDS = 2.0


@command("crossfade catchup --follow --workers 2 --metrics-port 9108")
@click.option("--follow", "following", is_flag=True, help="Go on until stopped, instead of until drained.")
@click.option(
    "--workers", type=click.IntRange(1, 32), default=1, show_default=True, help="Workers that share the queue."
)
@click.option("--timeout", type=FiniteRange(0), default=600.0, show_default=True, help="Seconds a drain may take.")
@metrics_option
def catchup(app: App, following: bool, workers: int, timeout: float, metrics_port: int | None) -> None:
    """Carry changes over from the store with authority to the other one, until no dirty key is left.

    Any number of these may run at once, here and elsewhere. With --follow it goes on until it is stopped, waits for
    a store that is away, and finishes or undoes an act of authority that its command left behind; stopped while one is
    away, it cannot say how many notes are left. Without --follow it ends with 3 when notes are left: their scopes are
    named by crossfade status.
    """
    with opened(app.settings, bulk=True) as stores:
        stores.require(Phase.PREPARED)
        if stores.phase is Phase.COMPLETE:
            raise Refused("the migration is complete: nothing is carried over any more")
        with exported(app, stores, metrics_port) as publisher, ExitStack() as own:
            # Each worker has connections of its own: a server's process that always serves the same one is quicker.
            carriers = [own.enter_context(opened(app.settings, bulk=True)).new_carrier() for _ in range(workers)]
            document = _work(app, stores, carriers, publisher, following, timeout)
    unknown = {"left": "unknown, a store is away"} if document["left"] is None else {}
    app.result(document, lambda out: out.print(facts(document | unknown)))
    if document["left"] and not following:
        raise MismatchFound(f"{document['left']} notes are left in the dirty queues; see crossfade status")


def _work(
    app: App,
    stores: Stores,
    carriers: Sequence[BothWays],
    publisher: PrometheusPublisher,
    following: bool,
    timeout: float,
) -> dict[str, Any]:
    started = time.monotonic()
    rolled = WithApplies(stores.minute_roll_up(), lambda: sum((each.applies() for each in carriers), Counter[Apply]()))
    # The ledger is away: what was counted is kept, and handed on with what comes next.
    counting = Beat("roll-up", lambda: rolled(Statistics()), ROLL_UP_SECONDS, failed=lambda _: None, once_more=True)

    def one(carrier: BothWays) -> Carried:
        try:
            return carry(carrier)
        except Exception:
            app.stop.set()  # or its fellows went on in silence, one worker fewer
            raise

    def carry(carrier: BothWays) -> Carried:
        if following:
            return follow(
                carrier,
                stop=app.stop,
                pause=app.settings.catchup.poll_seconds,
                progress=publisher.carried,
                unavailable=lambda error: app.say(f"crossfade: {error}; waiting for it"),
                back=lambda: app.say("crossfade: both stores answer again; carrying on"),
            )
        done, _left = drain(
            carrier,
            stop=app.stop,
            clock=time.monotonic,
            timeout=timeout,
            pause=app.settings.catchup.poll_seconds,
            progress=publisher.carried,
        )
        return done

    watching = Beat("resume", lambda: _look_after(app, stores), _RESUME_SECONDS, failed=lambda _: None)
    if following:
        watching.start()
        gc.collect()
        gc.freeze()  # what is loaded by now stays; to look through it for garbage holds the changes up for 100 ms
    else:
        stores.note_mended()
    counting.start()
    try:
        with ThreadPoolExecutor(len(carriers), "catchup") as pool:
            done = sum(pool.map(one, carriers), Carried())
    finally:
        watching.stop()
        counting.stop()
        counting.join(ROLL_UP_SECONDS)
    return {
        "carried": done.notes,
        "upserted": done.upserted,
        "deleted": done.deleted,
        "quarantined": done.quarantined,
        "rejected": done.rejected,
        "left": _left(stores, following),
        "seconds": round(time.monotonic() - started, 3),
    }


def _left(stores: Stores, following: bool) -> int | None:
    """How many notes are left; None if a store is away, which no follower that is told to end need wait for."""
    try:
        return stores.carrier.notes_left()
    except StoreUnavailable:
        if following:
            return None
        raise


def _look_after(app: App, stores: Stores) -> None:
    """Finish or undo an act that its command left behind, unless it is being carried out, and note mended debt."""
    if (phase := stores.phase) in {Phase.COMPLETE, Phase.IDLE}:
        app.say(f"crossfade: the migration is {phase}: nothing is carried over any more")
        app.stop.set()
        return
    stores.carrier.tidy()
    if stores.journal.pending() is not None:
        with suppress(CommandLocked), command_lock(stores.new, LOCK):
            recover(app, stores)
    stores.note_mended()
