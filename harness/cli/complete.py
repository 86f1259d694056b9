"""``crossfade complete``: let go of legacy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click
from rich.console import Console

from adapters.postgres.ledger.debt import owed
from adapters.postgres.ledger.locks import command_lock
from adapters.postgres.ledger.quarantine import by_reason
from adapters.postgres.removal import forget_notes, remove_triggers, stop_noting
from adapters.prompts.migration import Stores, opened
from harness.cli.app import App, actor, command, confirmed, facts, reason_option
from harness.cli.authority import LOCK, despite_option, dry_run_option, recover, refuse, say_in_vain, show_obstacles
from harness.cli.gathering import gather
from harness.cli.planning import check_names, overruling
from harness.failpoints import passing
from harness.gates import evaluate
from harness.phases import Phase, path
from harness.records import Verdict
from harness.routing import Store


@command("crossfade complete --reason 'two quiet weeks' --yes")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@despite_option
@dry_run_option
@reason_option
def complete(app: App, yes: bool, despite: tuple[str, ...], dry_run: bool, reason: str) -> None:
    """Let go of legacy: the only point of no return.

    Nothing is carried back any more, and triggers of ours leave prompts. Legacy goes on refusing writes until
    crossfade uninstall, so that nobody writes to a store that nobody reads.
    """
    with opened(app.settings, bulk=True) as stores:
        stores.require(Phase.CUT_OVER)
        check_names(stores, despite)
        found = obstacles_of(stores)
        obstacles = overruling(found, despite)
        document: dict[str, Any] = {
            "command": "complete",
            "obstacles": obstacles,
            "rollback_debt": len(owed(stores.new)),
            "changed": False,
        }
        if not dry_run:
            refuse(obstacles)
            confirmed(app, "Let go of legacy? There is no way back from this.", yes=yes)
            noted = f"{reason} (despite {', '.join(despite)})".strip() if despite else reason
            changed = stores.phase is not Phase.COMPLETE or stores.half_complete()
            document |= {"changed": changed, "phase": let_go(app, stores, noted, despite).value}
    app.result(document, lambda out: _show(out, document))
    say_in_vain(app, despite, found)
    if dry_run:
        refuse(obstacles)


def _show(out: Console, document: dict[str, Any]) -> None:
    out.print(facts({name: value for name, value in document.items() if name != "obstacles"}))
    show_obstacles(out, document["obstacles"])


def obstacles_of(stores: Stores) -> dict[str, str]:
    """What stands in the way of letting go, by name."""
    if stores.phase is Phase.COMPLETE:
        return {}  # what a crash left is tidied up
    found: dict[str, str] = {}
    if stores.routes.view().route.sole_authority is not Store.NEW or stores.routes_differ():
        found["authority"] = "legacy has authority over some scopes; unpin them (crossfade ramp --unpin) first"
    if missing := [*stores.uncaptured_tenants(), *stores.uncopied_tenants()]:
        found["tenants"] = f"not prepared or not copied: {', '.join(missing)}; run crossfade prepare and backfill"
    if act := stores.journal.pending():
        found["unfinished"] = f"{act.command} is not finished; run crossfade resume"
    if left := stores.carrier_from(Store.LEGACY).notes_left():
        found["on_the_way"] = f"{left} notes of legacy are not carried over yet; run crossfade catchup"
    if unaccepted := by_reason(stores.new, accepted=False).total():
        found["quarantine"] = (
            f"{unaccepted} rows in quarantine are nobody's decision yet; see crossfade quarantine list --open"
        )
    if off := [store.value for store, mode in stores.guard_modes().items() if mode != "enforce"]:
        found["guard"] = f"the guard of {' and '.join(off)} does not enforce; set guard.mode and run crossfade prepare"
    gates = {gate.name: gate for gate in evaluate(gather(stores), stores.settings.gates)}
    for name in ("verified", "rogue"):
        if gates[name].verdict is not Verdict.PASS:
            found[name] = gates[name].evidence
    return found


def let_go(app: App, stores: Stores, reason: str, despite: Collection[str] = ()) -> Phase:
    """Complete the migration. What a crash leaves, the same command finishes: the phase goes first."""
    with command_lock(stores.new, LOCK):
        recover(app, stores)
        refuse(overruling(obstacles_of(stores), despite))  # again, now that nobody else can change it
        for phase in path(stores.phase, Phase.COMPLETE):
            stores.phases.advance(phase, actor(), reason)
        passing("complete.phase_moved")
        stores.routes.change(reads_percent=100.0, shadow_percent=0.0, actor=actor(), reason=reason)
        remove_triggers(stores.new, Store.NEW)
        passing("complete.new_free")
        forget_notes(stores.new, Store.NEW)
        if Store.LEGACY in stores.left:
            stop_noting(stores.legacy, Store.LEGACY, stores.parts_of(Store.LEGACY))
    return stores.phase
