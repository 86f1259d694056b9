"""``crossfade prepare``: what must stand in both databases before anything moves."""

from __future__ import annotations

import secrets
from typing import Any

import click

from adapters.postgres.capture import attach, index_identity
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.locks import command_lock
from adapters.postgres.ledger.opening import open_ledger
from adapters.postgres.migrations import upgrade
from adapters.prompts.assessment.assess import assess
from adapters.prompts.discover import require_tenants
from adapters.prompts.migration import Stores, opened
from harness.cli.app import App, actor, command, facts, reason_option
from harness.errors import Refused
from harness.failpoints import passing
from harness.phases import Phase
from harness.routing import Store


@command("crossfade prepare --reason 'start of the migration'")
@click.option("--no-id-index", is_flag=True, help="Do without the index on legacy's computed ids.")
@reason_option
def prepare(app: App, no_id_index: bool, reason: str) -> None:
    """Prepare both databases: schemas, ledger, sidecar, and capture on every tenant.

    Legacy's own tables get triggers and, built without holding up writers, one index on the computed id; nothing
    else of legacy is touched. Safe to run again at any time: tenants that appeared meanwhile are prepared too.
    """
    with opened(app.settings, bulk=True) as stores:
        require_tenants(stores.legacy)  # a legacy that is not what was expected ends with 5, before all else
        found = assess(stores.legacy, stores.new, stores.settings).findings
        if blocking := [finding.text for finding in found if finding.severity == "blocks"]:
            raise Refused("; ".join(blocking) + ". See crossfade assess")
        report = prepare_stores(app, stores, id_index=not no_id_index, reason=reason)
    app.result(report, lambda out: out.print(facts(report)))


def prepare_stores(app: App, stores: Stores, *, id_index: bool, reason: str) -> dict[str, Any]:
    """Prepare both databases and move IDLE to PREPARED."""
    parts = stores.mapping.parts  # before anything is written: is this a Dispatch database?
    # New first: its ledger tells how far the migration has come, whatever happens next.
    upgrade(stores.new, "new")
    open_ledger(stores.new, actor=actor(), salt=secrets.token_hex(8))
    with command_lock(stores.new, "prepare"):
        upgrade(stores.legacy, "legacy")
        passing("prepare.legacy_upgraded")
        attached = []
        with speaking_for(Store.LEGACY):
            for part in parts:
                if attach(stores.legacy, part):
                    attached.append(part.name)
                if id_index:
                    index_identity(stores.legacy, part)
        passing("prepare.capture_attached")
        phase = stores.phases.present()
        if phase.phase is Phase.IDLE:
            phase = stores.phases.advance(Phase.PREPARED, actor(), reason)
    return {"phase": phase.phase.value, "tenants": [part.name for part in parts], "newly_captured": attached}
