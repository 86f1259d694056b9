"""``crossfade ramp``: change the share of reads that new serves."""

from __future__ import annotations

import click

from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.postgres.ledger.locks import command_lock
from adapters.prompts.migration import Stores, opened
from harness.cli.app import PERCENT, App, actor, command, facts, reason_option
from harness.errors import Refused
from harness.failpoints import passing
from harness.phases import Phase
from harness.records import Verdict
from harness.routing import Route


@command("crossfade ramp --reads 10 --reason 'no mismatch in a day'")
@click.option("--reads", type=PERCENT, help="Percent of reads that new serves.")
@click.option("--shadow", type=PERCENT, help="Percent of reads that are compared with the other store.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@reason_option
def ramp(app: App, reads: float | None, shadow: float | None, dry_run: bool, reason: str) -> None:
    """Change the route. Every running process follows within a second.

    Reads above 0 are refused until a verification has passed since the last failed one. Lowering is never refused.
    """
    if reads is None and shadow is None:
        raise click.UsageError("give --reads, --shadow, or both")
    with opened(app.settings) as stores:
        before = stores.routes.view().route
        if dry_run:
            check_ramp(stores, before, before.reads_percent if reads is None else reads)
            after = before
        else:
            after = ramp_reads(stores, reads, shadow, reason)
    document = {
        "epoch": after.epoch,
        "reads_percent": before.reads_percent
        if dry_run and reads is None
        else (reads if dry_run else after.reads_percent),
        "shadow_percent": after.shadow_percent if shadow is None else shadow,
        "before": {
            "epoch": before.epoch,
            "reads_percent": before.reads_percent,
            "shadow_percent": before.shadow_percent,
        },
        "changed": not dry_run,
    }
    app.result(document, lambda out: out.print(facts(document)))


def ramp_reads(stores: Stores, reads: float | None, shadow: float | None, reason: str) -> Route:
    """Change the route and move the phase along its legal edges."""
    with command_lock(stores.new, "ramp"):
        before = stores.routes.view().route
        wanted = before.reads_percent if reads is None else reads
        check_ramp(stores, before, wanted)
        # The phase goes first: a share that new serves under a phase that denies it would be the worse half-way.
        for phase in (Phase.SHADOWING, *([Phase.RAMPING] if wanted > 0 else [])):
            present = stores.phases.present().phase
            if (present, phase) in {(Phase.BACKFILLED, Phase.SHADOWING), (Phase.SHADOWING, Phase.RAMPING)}:
                stores.phases.advance(phase, actor(), reason)
        passing("ramp.phase_moved")
        return stores.routes.change(
            reads_percent=reads, shadow_percent=shadow, actor=actor(), reason=reason, expected_epoch=before.epoch
        )


def check_ramp(stores: Stores, before: Route, wanted: float) -> None:
    """Refused unless reads may be raised to ``wanted``; lowering is always allowed."""
    stores.require(Phase.BACKFILLED)
    if wanted <= before.reads_percent:
        return
    if missing := stores.uncaptured_tenants():
        raise Refused(f"tenants appeared that nothing carries over: {', '.join(missing)}; run crossfade prepare")
    latest = EvidenceBook(stores.new).verifications(1)
    if not latest or latest[0].verdict is not Verdict.PASS:
        found = latest[0].verdict.value if latest else "missing"
        raise Refused(f"the last verification is {found}; reads go to new only after crossfade verify passed")
