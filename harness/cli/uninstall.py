"""``crossfade uninstall``: leave legacy as it was found."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click
from sqlalchemy import Connection, Table, func, select

from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.closing import close_ledger
from adapters.postgres.ledger.locks import command_lock
from adapters.postgres.migrations import downgrade_in, wait_for_turn
from adapters.postgres.removal import LOCKS, drop_triggers, has_triggers, lock_table, remove_triggers
from adapters.postgres.schema import rogue as rogue_writes
from adapters.postgres.triggers import patiently
from adapters.prompts.dispatch_tables import sidecar
from adapters.prompts.migration import Stores, opened
from harness.cli.app import App, actor, command, confirmed, facts, reason_option
from harness.cli.authority import LOCK, dry_run_option, recover
from harness.cli.quarantine import lowered_rows
from harness.errors import Refused
from harness.failpoints import passing
from harness.phases import Phase, path
from harness.routing import Store

# Commands that use what is to go; in the order in which they take more than one lock themselves.
_AT_WORK = "prepare", "backfill", "verify", "repair", LOCK


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
        there = Store.LEGACY in stores.left
        losses = losses_of(stores)
        document: dict[str, Any] = {"command": "uninstall", "losses": losses, "changed": False}
        if not dry_run:
            refuse_losses(losses, accept_loss=accept_loss)
            if there:
                confirmed(app, "Remove Crossfade from legacy?", yes=yes)
            changed = remove(app, stores, reason, accept_loss=accept_loss)
            document |= {"changed": changed, "phase": stores.phase.value}
    if not there:
        app.say("nothing of Crossfade is in legacy")
    app.result(document, lambda out: out.print(facts(document)))
    if dry_run:
        refuse_losses(losses, accept_loss=accept_loss)


def refuse_losses(losses: list[str], *, accept_loss: bool) -> None:
    if losses and not accept_loss:
        raise Refused(f"this would be lost: {'; '.join(losses)}. Give --accept-loss to remove it all the same")


def losses_of(stores: Stores) -> list[str]:
    """What only Crossfade's tables hold, and would be lost. Raises Refused while new has authority over anything."""
    phase = stores.phase
    if Store.LEGACY not in stores.left:
        return []
    stores.phases.present()  # NotPrepared, where new has been made anew and knows of nothing
    if phase is not Phase.COMPLETE and phase is not Phase.IDLE:
        path(phase, Phase.IDLE)  # IllegalPhase, with the next step, while both stores are in use
        if act := stores.journal.pending():
            raise Refused(f"{act.command} is not finished; run crossfade resume first")
        if stores.routes.view().route.sole_authority is not Store.LEGACY:
            raise Refused("new has authority over some scopes; run crossfade rollback, or crossfade complete, first")
    if stores.half_complete():
        raise Refused("complete is half done; run crossfade complete once more first")
    losses = []
    if phase is not Phase.COMPLETE:
        if left := stores.carrier_from(Store.NEW).notes_left():
            losses.append(f"{left} changes of new that are not carried over yet (crossfade catchup)")
        if lowered := lowered_rows(stores):
            losses.append(
                f"that {len(lowered)} rows of legacy which were left behind were enabled, until a prompt of new took "
                f"their place ({', '.join(lowered[:3])}; crossfade quarantine show KEY)"
            )
    with speaking_for(Store.LEGACY), stores.legacy.connect() as legacy:
        return losses + _kept_in(legacy, phase)


def _kept_in(legacy: Connection, phase: Phase) -> list[str]:
    """What of the losses legacy itself holds."""

    def number(table: Table) -> int:
        return int(legacy.execute(select(func.count()).select_from(table)).scalar_one())

    losses = []
    if rogue := number(rogue_writes):
        losses.append(f"the rows of {rogue} rogue writes (crossfade rogue --all --show-values --json prints them)")
    if phase is not Phase.COMPLETE and (beside := number(sidecar)):
        losses.append(f"ids, names, descriptions or versions of {beside} prompts, which Dispatch has no columns for")
    return losses


def remove(app: App, stores: Stores, reason: str, *, accept_loss: bool) -> bool:
    """Take everything of ours out of legacy; whether anything was there. What a crash leaves, it finishes."""
    with ExitStack() as held:
        for name in _AT_WORK:
            held.enter_context(command_lock(stores.new, name))
        there = Store.LEGACY in stores.left
        if there:
            recover(app, stores)
            refuse_losses(losses_of(stores), accept_loss=accept_loss)  # again, now that nobody else moves authority
            _leave_legacy(app, stores, reason, accept_loss=accept_loss)
        passing("uninstall.legacy_left")
        if stores.phase is not Phase.COMPLETE:
            there |= has_triggers(stores.new, Store.NEW)
            remove_triggers(stores.new, Store.NEW)
    return there


def _leave_legacy(app: App, stores: Stores, reason: str, *, accept_loss: bool) -> None:
    """All of it in one transaction, or nothing: what was written since the first look is no loss either."""
    phase = stores.phase
    if phase is not Phase.COMPLETE and (
        missing := stores.indexes.build(app.stop, go_on=lambda stop: not stop.is_set(), told=app.say)
    ):
        raise Refused(f"stopped; indexes of prompts are not built yet: {', '.join(missing)}. Run it again")

    def leave(legacy: Connection) -> None:
        wait_for_turn(legacy)
        # The tables in the order in which writers take them: prompts first, then what is kept beside them.
        drop_triggers(legacy)
        lock_table(legacy, sidecar)
        refuse_losses(_kept_in(legacy, phase), accept_loss=accept_loss)
        downgrade_in(legacy, "legacy")
        if phase is not Phase.COMPLETE:
            # Before legacy forgets, which is at the end of this: whoever begins again must copy again.
            close_ledger(stores.new, actor=actor(), reason=reason)
        passing("uninstall.ledger_closed")

    with speaking_for(Store.LEGACY):
        patiently(stores.legacy, Store.LEGACY, LOCKS, leave)
