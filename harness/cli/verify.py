"""``crossfade verify``: stored data against stored data."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import click
from rich.console import Console

from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.prompts.migration import Stores, opened
from harness.cli.app import App, FiniteRange, command, facts
from harness.errors import MismatchFound
from harness.phases import Phase
from harness.records import Kind, RowDifference, Verdict, Verification
from harness.verify import as_json
from harness.verify import verify as compare_all


@command("crossfade verify --json")
@click.option("--patience", type=FiniteRange(0), help="Seconds to wait for rows under way, instead of the settings'.")
@click.option("--show-values", is_flag=True, help="Show the differing values themselves, not only their lengths.")
def verify(app: App, patience: float | None, show_values: bool) -> None:
    """Compare every row of both stores, field by field, by digests computed in the databases.

    Rows that differ are looked at again once what is on its way has been carried over. Ends with 0 when all rows
    are equal, with 3 when some are not or could not be settled. An error of a store is no verdict, and no pass.
    """
    with opened(app.settings, bulk=True) as stores:
        found = verify_stores(app, stores, patience)
    document = as_json(found) | {"examples": [example(each, show_values) for each in found.examples]}
    app.result(document, lambda out: show(out, found, show_values))
    if found.verdict is not Verdict.PASS:
        raise MismatchFound(sentence(found))


def verify_stores(
    app: App, stores: Stores, patience: float | None = None, found: Callable[[RowDifference], None] = lambda _: None
) -> Verification:
    """Verify, and keep the result in the ledger."""
    stores.require(Phase.BACKFILLED)
    settings = app.settings.verify
    result = compare_all(
        stores.legacy_side,
        stores.new_side,
        stores.queue,
        patience=settings.patience_seconds if patience is None else patience,
        examples=settings.examples,
        now=lambda: datetime.now(UTC),
        clock=time.monotonic,
        stop=app.stop,
        found=found,
    )
    EvidenceBook(stores.new).add_verification(result)
    return result


def sentence(found: Verification) -> str:
    """The verdict in one sentence, and what to do next."""
    if found.verdict is Verdict.PASS:
        return f"{found.compared} rows compared, none missing, extra or different"
    if found.verdict is Verdict.INCONCLUSIVE:
        return f"{found.unsettled} rows were still on their way; run crossfade catchup and verify again"
    parts = [f"{n} {what}" for n, what in _counts(found) if n]
    return f"of {found.compared} rows {', '.join(parts)}; crossfade repair --dry-run shows how to mend it"


def _counts(found: Verification) -> list[tuple[int, str]]:
    return [
        (found.missing, "missing in new"),
        (found.extra, "extra in new"),
        (found.different, "different"),
        (found.unaccounted, "neither carried nor quarantined"),
    ]


def example(difference: RowDifference, show_values: bool) -> dict[str, object]:
    """A differing row for people and scripts; texts are left out unless asked for."""
    return {
        "key": difference.key,
        "scope": difference.scope,
        "kind": difference.kind.value,
        "fields": [
            {
                "field": f.field,
                "legacy": shown(f.field, f.legacy, show_values),
                "new": shown(f.field, f.new, show_values),
            }
            for f in difference.fields
        ],
    }


_PROSE = {"name", "description", "content", "system_message"}  # what people wrote; the other fields tell no secret


def shown(field: str, text: str | None, show_values: bool) -> str | None:
    """The value, or of what people wrote only its length."""
    return text if show_values or text is None or field not in _PROSE else f"‹{len(text)} characters›"


def show(out: Console, found: Verification, show_values: bool) -> None:
    colour = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.INCONCLUSIVE: "yellow"}[found.verdict]
    out.print(f"[bold {colour}]{found.verdict.value}[/]: {sentence(found)}", highlight=False)
    out.print(facts({k: v for k, v in as_json(found).items() if k not in {"verdict", "at"}}))
    if not found.examples:
        return
    # Keys and scopes are there to be copied, so they are never cut off, whatever the terminal's width.
    out.print("differing rows", style="bold")
    for difference in found.examples:
        lines = [f"{difference.key}  {difference.scope or '–'}"]
        if difference.kind is not Kind.DIFFERENT:
            lines.append(f"  {difference.kind.value} in new")
        for each in difference.fields:
            legacy, new = (shown(each.field, text, show_values) or "NULL" for text in (each.legacy, each.new))
            lines.append(f"  {each.field}: legacy {legacy}, new {new}")
        out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    if (more := found.missing + found.extra + found.different - len(found.examples)) > 0:
        out.print(f"… and {more:,} more", highlight=False)
