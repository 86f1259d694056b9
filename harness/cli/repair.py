"""``crossfade repair``: make the shadow equal to the authority where verify found it is not."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import click
from rich.console import Console

from adapters.postgres.capture import note
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.audit import AuditBook
from adapters.postgres.ledger.locks import command_lock
from adapters.prompts.migration import Stores, opened
from harness.catchup import drain
from harness.cli.app import App, actor, command, confirmed, facts, reason_option
from harness.cli.verify import verify_stores
from harness.errors import MismatchFound
from harness.phases import Phase
from harness.records import FieldDifference, Kind, RowDifference, Verdict
from harness.routing import Store

_ACTS = {
    Kind.MISSING: "add to new what legacy has",
    Kind.DIFFERENT: "overwrite in new with what legacy has",
    Kind.EXTRA: "delete from new what legacy has not",
    Kind.MISPLACED: "put into quarantine, or take out of it, as legacy has it now",
}


@command("crossfade repair --dry-run")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@reason_option
def repair(app: App, dry_run: bool, yes: bool, reason: str) -> None:
    """Verify, and carry over again every row that differs, towards the store with authority.

    Says first what it will do. Ends with 3 if rows still differ afterwards.
    """
    with opened(app.settings, bulk=True) as stores:
        plan = plan_repair(app, stores)
        if not app.json:
            show_plan(app.log, plan)
        document: dict[str, Any] = {"planned": _by_kind(plan), "changed": False}
        if plan and not dry_run:
            confirmed(app, f"Repair {len(plan)} rows of new?", yes=yes)
            document |= carry_out(app, stores, plan, reason)
    app.result(document, lambda out: out.print(facts(document)))
    if document.get("verdict", Verdict.PASS.value) != Verdict.PASS.value:
        raise MismatchFound("rows still differ after the repair; see crossfade verify and crossfade status")


def plan_repair(app: App, stores: Stores) -> list[RowDifference]:
    """What a verification finds differing now."""
    stores.require(Phase.BACKFILLED)
    plan: list[RowDifference] = []

    def keep(difference: RowDifference) -> None:
        named = tuple(FieldDifference(each.field, None, None) for each in difference.fields)
        plan.append(replace(difference, fields=named))  # any number of rows may differ; their texts are not kept

    found = verify_stores(app, stores, found=keep)
    if found.unaccounted:
        plan += [RowDifference(key, None, Kind.MISPLACED) for key in sorted(stores.queue.quarantine()[1])]
    return plan


def carry_out(app: App, stores: Stores, plan: list[RowDifference], reason: str) -> dict[str, Any]:
    """Note the rows as dirty where authority is, let catch-up carry them over, and verify again."""
    with command_lock(stores.new, "repair"):
        AuditBook(stores.new).add(actor(), "repair", reason, {"rows": _by_kind(plan)})
        keys = [each.key for each in plan]
        with speaking_for(Store.LEGACY), stores.legacy.begin() as authority:
            places = stores.queue.places(keys) | stores.places(authority, keys)
            note(authority, [_note(each, places) for each in plan])
        drain(
            stores.carrier,
            stop=app.stop,
            clock=time.monotonic,
            timeout=600,
            pause=app.settings.catchup.poll_seconds,
        )
        after = verify_stores(app, stores)
    left = after.missing + after.extra + after.different + after.unaccounted
    return {"changed": True, "verdict": after.verdict.value, "left": left}


def _note(difference: RowDifference, places: dict[str, tuple[str, str]]) -> dict[str, str | None]:
    part, local = places.get(difference.key, (None, None))
    part = part or (difference.scope or "").partition("/")[0]
    return {"part": part, "scope": difference.scope, "key": difference.key, "local": local}


def _by_kind(plan: list[RowDifference]) -> dict[str, int]:
    return dict(Counter(each.kind.value for each in plan))


def show_plan(out: Console, plan: list[RowDifference], most: int = 20) -> None:
    if not plan:
        out.print("nothing differs: there is nothing to repair", highlight=False)
        return
    for kind, number in _by_kind(plan).items():
        fields = Counter(each.field for row in plan if row.kind == kind for each in row.fields)
        where = f" ({', '.join(f'{field} {n:,}' for field, n in fields.most_common())})" if fields else ""
        rows = "1 row" if number == 1 else f"{number:,} rows"
        out.print(f"{rows}: {_ACTS[Kind(kind)]}{where}", markup=False, highlight=False)
        for row in plan[:most]:
            if row.kind == kind:
                out.print(f"  {row.key}  {row.scope or '–'}", markup=False, highlight=False, soft_wrap=True)
    if len(plan) > most:
        out.print(f"… and {len(plan) - most:,} more", highlight=False)
