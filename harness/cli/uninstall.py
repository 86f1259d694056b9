"""``crossfade uninstall``: leave legacy as it was found."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy import func, select

from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.closing import close_ledger
from adapters.postgres.ledger.locks import command_lock
from adapters.postgres.migrations import current, downgrade
from adapters.postgres.removal import remove_triggers
from adapters.prompts.dispatch_tables import sidecar
from adapters.prompts.migration import Stores, opened
from harness.cli.app import App, actor, command, confirmed, facts, reason_option
from harness.cli.authority import LOCK, dry_run_option, recover
from harness.errors import Refused
from harness.failpoints import passing
from harness.phases import Phase, path
from harness.routing import Store


@command("crossfade uninstall --dry-run")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option("--accept-loss", is_flag=True, help="Remove it although what only Crossfade's tables hold is lost.")
@dry_run_option
@reason_option
def uninstall(app: App, yes: bool, accept_loss: bool, dry_run: bool, reason: str) -> None:
    """Remove every trace of Crossfade from legacy: triggers, functions, index, and the schema crossfade.

    After crossfade complete, or when a migration is given up while legacy has all authority; new keeps its rows and
    the ledger then, and the phase goes back to IDLE. Refused while something would be lost.
    """
    with opened(app.settings, bulk=True) as stores:
        losses = losses_of(stores)
        document: dict[str, Any] = {"command": "uninstall", "losses": losses, "changed": False}
        if not dry_run:
            refuse_losses(losses, accept_loss=accept_loss)
            confirmed(app, "Remove Crossfade from legacy?", yes=yes)
            remove(app, stores, reason, accept_loss=accept_loss)
            document |= {"changed": True, "phase": stores.phase.value}
    app.result(document, lambda out: out.print(facts(document)))


def refuse_losses(losses: list[str], *, accept_loss: bool) -> None:
    if losses and not accept_loss:
        raise Refused(f"this would be lost: {'; '.join(losses)}. Give --accept-loss to remove it all the same")


def losses_of(stores: Stores) -> list[str]:
    """What only Crossfade's tables in legacy hold. Raises Refused while new has authority over anything."""
    phase = stores.phase
    if current(stores.legacy, "legacy") is None:
        return []
    if phase is not Phase.COMPLETE and phase is not Phase.IDLE:
        path(phase, Phase.IDLE)  # IllegalPhase, with the next step, while both stores are in use
        if act := stores.journal.pending():
            raise Refused(f"{act.command} is not finished; run crossfade resume first")
        if stores.routes.view().route.sole_authority is not Store.LEGACY:
            raise Refused("new has authority over some scopes; run crossfade rollback, or crossfade complete, first")
    losses = []
    if rogue := stores.rogue_writes()[Store.LEGACY]:
        losses.append(f"the rows of {rogue} rogue writes (crossfade rogue --show-values --json prints them)")
    if phase is Phase.COMPLETE:
        return losses
    if left := stores.carrier_from(Store.NEW).notes_left():
        losses.append(f"{left} changes of new that are not carried over yet (crossfade catchup)")
    with speaking_for(Store.LEGACY), stores.legacy.connect() as connection:
        beside = connection.execute(select(func.count()).select_from(sidecar)).scalar_one()
    if beside:
        losses.append(f"ids, names, descriptions or versions of {beside} prompts, which Dispatch has no columns for")
    return losses


def remove(app: App, stores: Stores, reason: str, *, accept_loss: bool) -> None:
    """Take everything of ours out of legacy. What a crash leaves, the same command finishes."""
    with command_lock(stores.new, LOCK):
        recover(app, stores)
        refuse_losses(losses_of(stores), accept_loss=accept_loss)  # again, now that nobody else can change it
        if stores.phase is not Phase.COMPLETE:
            if missing := stores.indexes.build(app.stop, go_on=lambda stop: not stop.is_set(), told=app.say):
                raise Refused(f"stopped; indexes of prompts are not built yet: {', '.join(missing)}. Run it again")
            # First: it judges the phase. And before legacy forgets: whoever begins again must copy again.
            close_ledger(stores.new, actor=actor(), reason=reason)
            remove_triggers(stores.new, Store.NEW)
        passing("uninstall.ledger_closed")
        downgrade(stores.legacy, "legacy")
