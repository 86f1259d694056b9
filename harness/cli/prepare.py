"""``crossfade prepare``: what must stand in both databases before anything moves."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import click

from adapters.postgres.authority import create_functions
from adapters.postgres.capture import index_identity
from adapters.postgres.errors import speaking_for
from adapters.postgres.guard import attach_guard, was_guarded
from adapters.postgres.ledger.journal import JournalBook
from adapters.postgres.ledger.locks import command_lock
from adapters.postgres.ledger.opening import open_ledger
from adapters.postgres.migrations import upgrade
from adapters.postgres.part import Part
from adapters.postgres.route_rows import keep_with_legacy, settle_routes
from adapters.prompts.assessment.assess import assess
from adapters.prompts.discover import require_tenants
from adapters.prompts.migration import Stores, opened
from harness.cli.app import App, actor, command, facts, reason_option
from harness.errors import Refused
from harness.failpoints import passing
from harness.phases import Phase, at_least
from harness.routing import Store


@command("crossfade prepare --reason 'start of the migration'")
@click.option("--no-id-index", is_flag=True, help="Do without the index on legacy's computed ids.")
@reason_option
def prepare(app: App, no_id_index: bool, reason: str) -> None:
    """Prepare both databases: schemas, ledger, sidecar, and capture and guard on every tenant and on prompts.

    Legacy's own tables get triggers and, built without holding up writers, one index on the computed id; nothing
    else of legacy is touched. Safe to run again at any time: tenants that appeared meanwhile are prepared too, and
    stay with legacy where writes have moved already; guard.mode and migration.rollback_safe take effect.
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
        if stores.phase is Phase.COMPLETE:
            raise Refused("the migration is complete and legacy was let go of; there is nothing to prepare")
        upgrade(stores.legacy, "legacy")
        passing("prepare.legacy_upgraded")
        late = _settle_authority(stores, parts, reason)
        attached = _attach(stores, parts, id_index=id_index)
        passing("prepare.capture_attached")
        phase = stores.phases.present()
        if phase.phase is Phase.IDLE:
            phase = stores.phases.advance(Phase.PREPARED, actor(), reason)
    return {
        "phase": phase.phase.value,
        "tenants": [part.name for part in parts],
        "newly_captured": attached,
        "kept_with_legacy": late,
        "guard": stores.settings.guard.mode,
    }


def _settle_authority(stores: Stores, parts: Sequence[Part], reason: str) -> list[str]:
    """Write the route where the guards will look for it; the tenants that stay with legacy because they came late.

    No authority moves meanwhile. A route that stands before its guard refuses nothing; a guard without a route
    would refuse everything.
    """
    settings = stores.settings
    with command_lock(stores.new, "authority"):
        if (act := JournalBook(stores.new).pending()) is not None:
            raise Refused(f"{act.command} is not finished; run crossfade resume first, then prepare again")
        for store, engine in ((Store.NEW, stores.new), (Store.LEGACY, stores.legacy)):
            with speaking_for(store), engine.begin() as connection:
                create_functions(connection)
        settle_routes(
            stores.legacy, stores.new, mode=settings.guard.mode, rollback_safe=settings.migration.rollback_safe
        )
        if stores.routes.view().route.sole_authority is Store.LEGACY:
            return []
        with speaking_for(Store.LEGACY):
            late = [part.name for part in parts if not was_guarded(stores.legacy, Store.LEGACY, part)]
        if late:
            keep_with_legacy(stores.legacy, stores.new, late, actor=actor(), reason=reason)
        return late


def _attach(stores: Stores, parts: Sequence[Part], *, id_index: bool) -> list[str]:
    """Capture and guard every tenant, then new's table; the tenants that were not captured in this way before."""
    attached = []
    with speaking_for(Store.LEGACY):
        for part in parts:
            if attach_guard(stores.legacy, Store.LEGACY, part):
                attached.append(part.name)
            if id_index:
                index_identity(stores.legacy, Store.LEGACY, part)
    with speaking_for(Store.NEW):
        stores.guard_new(loading=not at_least(stores.phase, Phase.BACKFILLED))
    return attached
