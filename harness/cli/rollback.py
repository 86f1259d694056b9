"""``crossfade rollback``: all authority back to legacy."""

from __future__ import annotations

from dataclasses import replace

import click

from adapters.postgres.ledger.debt import owed
from adapters.prompts.migration import Stores, opened
from harness.cli.app import App, command, reason_option
from harness.cli.authority import act_on, despite_option, dry_run_option
from harness.moving import Stand
from harness.phases import Phase


@command("crossfade rollback --reason 'answers are slow'")
@click.option(
    "--accept-debt", is_flag=True, help="Leave behind the records that legacy cannot hold; their rows are kept."
)
@despite_option
@dry_run_option
@reason_option
def rollback(app: App, accept_debt: bool, despite: tuple[str, ...], dry_run: bool, reason: str) -> None:
    """Give legacy authority over every scope again, with every write that new has accepted, and all reads.

    No gate has to pass. Refused while new holds records that legacy cannot (crossfade status counts them), unless
    they are left behind: then their rows are kept in the ledger.
    """
    with opened(app.settings) as stores:
        roll_back(app, stores, reason, accept_debt=accept_debt, dry_run=dry_run, despite=despite)


def to_legacy(now: Stand) -> Stand:
    return replace(now, reads_percent=0.0, writes_percent=0.0, pins={}, automatic=frozenset(), phase=Phase.ROLLED_BACK)


def roll_back(
    app: App,
    stores: Stores,
    reason: str,
    *,
    accept_debt: bool = False,
    dry_run: bool = False,
    despite: tuple[str, ...] = (),
) -> None:
    """Roll back as the command does."""
    act_on(
        app,
        stores,
        "rollback",
        to_legacy,
        reason=reason,
        dry_run=dry_run,
        despite=despite,
        left_behind=lambda: frozenset(each.key for each in owed(stores.new)) if accept_debt else frozenset(),
    )
