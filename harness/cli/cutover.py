"""``crossfade cutover``: all authority to new."""

from __future__ import annotations

from dataclasses import replace

import click

from adapters.postgres.ledger.quarantine import take_back
from adapters.prompts.migration import opened
from harness.cli.app import App, actor, command, confirmed, reason_option
from harness.cli.authority import act_on, despite_option, dry_run_option, refuse
from harness.cli.planning import plan
from harness.cli.quarantine import accept_rows
from harness.errors import CrossfadeError
from harness.moving import Stand, Unfinished
from harness.phases import Phase


@command("crossfade cutover --dry-run")
@click.option(
    "--accept",
    multiple=True,
    metavar="KEY",
    help="Leave this row behind, as crossfade quarantine accept does; repeatable.",
)
@click.option("--yes", is_flag=True, help="Do it without asking.")
@despite_option
@dry_run_option
@reason_option
def cutover(app: App, accept: tuple[str, ...], yes: bool, despite: tuple[str, ...], dry_run: bool, reason: str) -> None:
    """Give new authority over every scope, and all reads. Refused unless every gate passes.

    What legacy is still written to then is refused there. Everything written to new goes on being carried over to
    legacy, so that crossfade rollback can return.
    """
    with opened(app.settings) as stores:
        stores.require(Phase.RAMPING)
        accepted: frozenset[str] = frozenset()
        if dry_run and accept:
            app.say("crossfade: a dry run accepts nothing: the rows of --accept still count as in quarantine")
        if not dry_run:
            if not (yes or accept):  # nobody is asked for what is not to be had
                wanted = plan(stores, "cutover", to_new, gated=True, despite=despite)
                refuse(wanted.obstacles if wanted.changes else {})
            confirmed(app, "Move all authority to new?", yes=yes)
            accepted = accept_rows(stores, accept, reason)
        try:
            act_on(app, stores, "cutover", to_new, reason=reason, dry_run=dry_run, gated=True, despite=despite)
        except Unfinished:  # it may have happened, or be finished yet: then they are left behind
            raise
        except CrossfadeError:
            if accepted:  # for this act alone
                take_back(stores.new, accepted, actor=actor(), reason="the cutover was refused")
            raise


def to_new(now: Stand) -> Stand:
    """All of it: pins, too."""
    return replace(now, reads_percent=100.0, writes_percent=100.0, pins={}, automatic=frozenset(), phase=Phase.CUT_OVER)
