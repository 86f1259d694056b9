"""``crossfade resume``: finish or undo what a crash left half done."""

from __future__ import annotations

from adapters.postgres.ledger.locks import command_lock
from adapters.prompts.migration import opened
from harness.cli.app import App, command, facts
from harness.cli.authority import LOCK, recover
from harness.phases import Phase


@command("crossfade resume")
def resume(app: App) -> None:
    """Finish or undo the ramp, cutover or rollback that a crash left half done.

    Finished if authority was lost already, undone if not. Every command that moves authority does this first, and so
    does a catch-up worker that meets an act nobody carries out any more. Safe to run at any time.
    """
    with opened(app.settings) as stores:
        stores.require(Phase.PREPARED)
        with command_lock(stores.new, LOCK):
            became = recover(app, stores)
            if stores.half_complete():
                app.say("complete is half done: give it once more")
    document = became or {"command": None, "became": "nothing to do"}
    app.result(document, lambda out: out.print(facts(document)))
