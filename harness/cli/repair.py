"""``crossfade repair``: make each scope's shadow equal to its authority where verify found it is not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
from rich.console import Console
from sqlalchemy import Connection, func, select

from adapters.postgres.capture import note
from adapters.postgres.errors import speaking_for
from adapters.postgres.fence import read_authority
from adapters.postgres.guarding import FENCE
from adapters.postgres.ledger.audit import AuditBook
from adapters.postgres.ledger.locks import command_lock
from adapters.prompts.migration import Stores, opened
from harness.catchup import drain
from harness.cli.app import App, actor, command, confirmed, facts, reason_option
from harness.cli.verify import verify_stores
from harness.errors import IllegalPhase, MismatchFound, Refused
from harness.failpoints import passing
from harness.phases import NEXT_STEP, Phase
from harness.records import FieldDifference, Kind, RowDifference, Verdict
from harness.routing import Store, group

# What is done, by how the rows differ and by the store with authority over their scope.
_ACTS = {
    (Kind.MISSING, Store.LEGACY): "add to new what legacy has",
    (Kind.DIFFERENT, Store.LEGACY): "overwrite in new with what legacy has",
    (Kind.EXTRA, Store.LEGACY): "delete from new what legacy has not",
    (Kind.MISSING, Store.NEW): "delete from legacy what new has not",
    (Kind.DIFFERENT, Store.NEW): "overwrite in legacy with what new has",
    (Kind.EXTRA, Store.NEW): "add to legacy what new has",
    (Kind.MISPLACED, Store.LEGACY): "put into quarantine, or take out of it, as legacy has it now",
}


@dataclass(frozen=True, slots=True)
class Repair:
    """One row to carry over again, and the store whose state counts."""

    difference: RowDifference
    authority: Store

    @property
    def act(self) -> str:
        return _ACTS[self.difference.kind, self.authority]


@command("crossfade repair --dry-run")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@reason_option
def repair(app: App, dry_run: bool, yes: bool, reason: str) -> None:
    """Verify, and carry over again every row that differs, towards the store with authority.

    Says first what it will do. Ends with 3 if rows still differ afterwards, or if it could not be settled whether any
    do: rows that were still on their way, or segments that were not looked at.
    """
    with opened(app.settings, bulk=True) as stores:
        verdict, plan = judge(app, stores)
        if not app.json and (plan or verdict is Verdict.PASS):
            show_plan(app.log, plan)
        document: dict[str, Any] = {"planned": _by_kind(plan), "changed": False, "verdict": verdict.value}
        if plan and not dry_run:
            confirmed(app, f"Repair {len(plan)} rows?", yes=yes)
            document |= carry_out(app, stores, plan, reason)
    app.result(document, lambda out: out.print(facts(document)))
    if document["changed"] and document["verdict"] != Verdict.PASS.value:
        raise MismatchFound("rows still differ after the repair; see crossfade verify and crossfade status")
    if document["verdict"] == Verdict.INCONCLUSIVE.value:
        raise MismatchFound(
            "whether other rows differ could not be settled; run crossfade catchup, then crossfade repair again"
        )


def plan_repair(app: App, stores: Stores) -> list[Repair]:
    """What a verification finds differing now, and whose state counts. Raises IllegalPhase after ``complete``."""
    return judge(app, stores)[1]


def judge(app: App, stores: Stores) -> tuple[Verdict, list[Repair]]:
    """The verdict of a verification as well: inconclusive, if it could not settle all."""
    stores.require(Phase.BACKFILLED)
    _refuse_complete(stores)
    route = stores.routes.view().route
    plan: list[Repair] = []

    def keep(difference: RowDifference) -> None:
        named = tuple(FieldDifference(each.field, None, None) for each in difference.fields)
        misplaced = difference.kind is Kind.MISPLACED or difference.scope is None
        authority = Store.LEGACY if misplaced else route.authority(difference.scope or "")
        # Any number of rows may differ: their texts are not kept.
        plan.append(Repair(replace(difference, fields=named), authority))

    return verify_stores(app, stores, found=keep).verdict, plan


def carry_out(app: App, stores: Stores, plan: list[Repair], reason: str) -> dict[str, Any]:
    """Note the rows as dirty where authority is, let catch-up carry them over, and verify again.

    Raises Refused if authority over one of them has moved since it was looked at: it would be made equal the other way.
    """
    with command_lock(stores.new, "repair"):
        _refuse_complete(stores)  # again: the question may have stood open for long
        # First: evidence begins anew with it (docs/adr/0008), also if this dies when rows have been noted.
        AuditBook(stores.new).add(actor(), "repair", reason, {"rows": _by_kind(plan)})
        passing("repair.audited")
        _note_all(stores, plan)
        passing("repair.noted")
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


def _note_all(stores: Stores, plan: list[Repair]) -> None:
    """Note every row in the store with authority; authority over none of them moves until that is durable."""
    of_legacy, of_new = (
        [each.difference for each in plan if each.authority is store] for store in (Store.LEGACY, Store.NEW)
    )
    keys = [each.key for each in of_legacy]
    with speaking_for(Store.LEGACY), stores.legacy.begin() as legacy:
        _hold_authority(legacy, Store.LEGACY, stores, of_legacy)
        places = stores.queue.places(keys) | stores.places(legacy, keys)
        note(legacy, [_note(each, places) for each in of_legacy])
        with speaking_for(Store.NEW), stores.new.begin() as new:
            _hold_authority(new, Store.NEW, stores, of_new)
            note(new, [_note(each, {each.key: (stores.giving_part.name, each.key)}) for each in of_new])
        passing("repair.new_noted")


def _hold_authority(connection: Connection, store: Store, stores: Stores, planned: Sequence[RowDifference]) -> None:
    """Keep authority where it is until the transaction ends; what is noted by then is carried before it moves."""
    connection.execute(select(func.pg_advisory_xact_lock_shared(*FENCE)))
    route = replace(stores.routes.view().route, **read_authority(connection, store))
    # What is misplaced is made as legacy has it, wherever authority is.
    scopes = {each.scope for each in planned if each.scope is not None and each.kind is not Kind.MISPLACED}
    if moved := sorted(scope for scope in scopes if route.authority(scope) is not store):
        raise Refused(
            f"authority over {len(moved)} of the scopes, {moved[0]} for one, has moved from {store} to {store.other} "
            "since the rows were looked at; no row was changed. Run crossfade repair again"
        )


def _refuse_complete(stores: Stores) -> None:
    if stores.phase is Phase.COMPLETE:
        raise IllegalPhase(
            f"the migration is {Phase.COMPLETE}: legacy was let go of, and repair carries nothing to it any more. "
            f"Next: {NEXT_STEP[Phase.COMPLETE]}"
        )


def _note(difference: RowDifference, places: dict[str, tuple[str, str]]) -> dict[str, str | None]:
    part, local = places.get(difference.key, (None, None))
    part = group(difference.scope or "") if part is None else part
    return {"part": part, "scope": difference.scope, "key": difference.key, "local": local}


def _by_kind(plan: list[Repair]) -> dict[str, int]:
    return dict(Counter(each.difference.kind.value for each in plan))


def show_plan(out: Console, plan: list[Repair], most: int = 20) -> None:
    if not plan:
        out.print("nothing differs: there is nothing to repair", highlight=False)
        return
    for act, number in Counter(each.act for each in plan).items():
        fields = Counter(each.field for row in plan if row.act == act for each in row.difference.fields)
        where = f" ({', '.join(f'{field} {n:,}' for field, n in fields.most_common())})" if fields else ""
        rows = "1 row" if number == 1 else f"{number:,} rows"
        out.print(f"{rows}: {act}{where}", markup=False, highlight=False)
        for row in plan[:most]:
            if row.act == act:
                named = f"  {row.difference.key}  {row.difference.scope or '–'}"
                out.print(named, markup=False, highlight=False, soft_wrap=True)
    if len(plan) > most:
        out.print(f"… and {len(plan) - most:,} more", highlight=False)
