"""``crossfade verify``: stored data against stored data."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adapters.postgres.digest import TableSide
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.postgres.ledger.locks import command_lock
from adapters.postgres.ledger.verifying import VerifyingBook
from adapters.prompts.limited import sides_of_organization, sides_of_scope
from adapters.prompts.migration import Stores, opened
from harness.cli.app import App, FiniteRange, command, facts
from harness.cli.findings import Findings
from harness.cli.findings import example as example
from harness.cli.findings import shown as shown
from harness.errors import ConfigError, MismatchFound, Refused
from harness.narrowing import MILLION
from harness.phases import Phase
from harness.records import Kind, RowDifference, Verdict, Verification
from harness.verify import Asked, Checkpoints, Verify, as_json, said

_SEEDS = 2**31
_SPARE_CONNECTIONS = 3  # the command's lock, the snapshot, and the ledger's


class Share(click.ParamType[int]):
    """A share of less than the whole, with or without a percent sign, as so many in a million."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            share = round(float(str(value).strip().removesuffix("%")) * MILLION / 100)
        except (ValueError, OverflowError):
            share = 0
        if not 0 < share < MILLION:
            self.fail(f"{value!r} is no share between 0.0001% and 99.9999%", param, ctx)
        return share


@command("crossfade verify --json")
@click.option("--patience", type=FiniteRange(0), help="Seconds to wait for rows under way, instead of the settings'.")
@click.option("--show-values", is_flag=True, help="Show the differing values themselves, not only their lengths.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write every differing row there: JSON lines."
)
@click.option("--resume", is_flag=True, help="Go on with the verification that was interrupted, if there is one.")
@click.option("--sample", type=Share(), help="Compare that percentage of all rows only, chosen by their keys.")
@click.option(
    "--seed", type=click.IntRange(0, _SEEDS), help="Which rows make up the sample.  [default: drawn, and said]"
)
@click.option("--scope", help="Compare one scope only.")
@click.option("--organization", help="Compare one organization only.")
def verify(
    app: App,
    patience: float | None,
    show_values: bool,
    out: Path | None,
    resume: bool,
    sample: int | None,
    seed: int | None,
    scope: str | None,
    organization: str | None,
) -> None:
    """Compare every row of both stores, field by field, by digests computed in the databases.

    Rows that differ are looked at again once what is on its way has been carried over. Ends with 0 when all rows
    are equal, with 3 when some are not or could not be settled. An error of a store is no verdict, and no pass.

    A sample, a scope or an organization is quicker. If it is equal this ends with 0 too, but it is no pass: no gate
    takes a part for the whole.
    """
    if scope is not None and organization is not None:
        raise click.UsageError("give --scope or --organization, not both")
    asked = asked_for(sample, seed, scope, organization)
    if resume and asked.restriction:
        raise click.UsageError("only a verification of everything can be resumed")
    if seed is not None and sample is None:
        raise click.UsageError("--seed says which rows make up a --sample; give that too")
    with opened(app.settings, bulk=True) as stores, Findings.to(out, show_values) as findings, _bar(app) as progress:
        keep = nullcontext() if asked.restriction else command_lock(stores.new, "verify")
        with keep:
            found = verify_stores(
                app,
                stores,
                patience,
                findings.add,
                asked=asked,
                sides=_limited(stores, scope, organization),
                checkpoints=None if asked.restriction else VerifyingBook(stores.new),
                resume=resume,
                progress=progress,
            )
    document = as_json(found) | {"examples": [example(each, show_values) for each in found.examples]}
    app.result(document, lambda console: show(console, found, show_values))
    if said(found) in {Verdict.FAIL.value, Verdict.INCONCLUSIVE.value}:
        raise MismatchFound(sentence(found))


def asked_for(sample: int | None, seed: int | None, scope: str | None, organization: str | None) -> Asked:
    """What the options ask for, in words too."""
    if seed is None:
        seed = 1 if sample is None else secrets.randbelow(_SEEDS)
    words = [
        None if sample is None else f"sample of {sample * 100 / MILLION:g} % with seed {seed}",
        None if scope is None else f"scope {scope}",
        None if organization is None else f"organization {organization}",
    ]
    return Asked(", ".join(filter(None, words)), seed, MILLION if sample is None else sample)


def _limited(stores: Stores, scope: str | None, organization: str | None) -> tuple[TableSide, TableSide] | None:
    stores.require(Phase.BACKFILLED)
    if scope is not None:
        return sides_of_scope(stores, scope)
    return None if organization is None else sides_of_organization(stores, organization)


def verify_stores(
    app: App,
    stores: Stores,
    patience: float | None = None,
    found: Callable[[RowDifference], None] | None = None,
    *,
    asked: Asked | None = None,
    sides: tuple[TableSide, TableSide] | None = None,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Verify, and keep the result in the ledger. ``sides``: both stores' rows, if not all of them."""
    stores.require(Phase.BACKFILLED)
    if stores.phase is Phase.COMPLETE:
        raise Refused("the migration is COMPLETE: new goes on without legacy, and there is nothing to compare any more")
    legacy, new = sides or (stores.legacy_side, stores.new_side)
    settings, most = app.settings.verify, app.settings.pool.max_connections - _SPARE_CONNECTIONS
    if settings.workers > most:
        raise ConfigError(
            f"verify.workers wants more connections than pool.max_connections grants: raise that to "
            f"{settings.workers + _SPARE_CONNECTIONS}, or use {max(1, most)} workers at most"
        )
    work = Verify(
        legacy,
        new,
        stores.queue,
        settings,
        time.monotonic,
        app.stop,
        asked or Asked(),
        checkpoints,
        found,
        apart=stores.has_new_only(),
        progress=progress,
    )
    result = work.run(patience=settings.patience_seconds if patience is None else patience, resume=resume)
    EvidenceBook(stores.new).add_verification(result)
    return result


@contextmanager
def _bar(app: App) -> Iterator[Callable[[int, int], None]]:
    columns = TextColumn("verify"), BarColumn(), MofNCompleteColumn(), TextColumn("segments"), TimeRemainingColumn()
    with Progress(*columns, console=app.log, disable=not app.log.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def sentence(found: Verification) -> str:
    """The verdict in one sentence, and what to do next."""
    only = f"{found.restriction}: " if found.restriction else ""
    if found.verdict is Verdict.FAIL:
        parts = [f"{n} {what}" for n, what in _counts(found) if n]
        return f"{only}of {found.compared} rows {', '.join(parts)}; crossfade repair --dry-run shows how to mend it"
    if found.unsettled:
        return f"{only}{found.unsettled} rows were still on their way; run crossfade catchup and verify again"
    equal = f"{only}{found.compared} rows compared, none missing, extra or different"
    if found.restriction and not found.compared:
        return f"{only}nothing was compared, for neither store has a row of it; is it spelled as crossfade names it?"
    if found.restriction:
        return f"{equal}; only crossfade verify of everything is a pass"
    if found.snapshots > 1:
        first = f"{found.at:%Y-%m-%d %H:%M:%S %Z}"
        return f"{equal}; it rests on {found.snapshots} snapshots, and speaks of the first, of {first}"
    return equal


def _counts(found: Verification) -> list[tuple[int, str]]:
    return [
        (found.missing, "missing in new"),
        (found.extra, "extra in new"),
        (found.different, "different"),
        (found.unaccounted, "neither carried nor quarantined"),
    ]


def show(out: Console, found: Verification, show_values: bool) -> None:
    word = said(found)
    colour = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.INCONCLUSIVE: "yellow"}[found.verdict]
    out.print(f"[bold {colour}]{word}[/]: ", end="", highlight=False)
    out.print(sentence(found), markup=False, highlight=False)
    out.print(facts({k: v for k, v in as_json(found).items() if k not in {"verdict", "at", "restriction"}}))
    if not found.examples:
        return
    # Keys and scopes are there to be copied, so they are never cut off, whatever the terminal's width.
    out.print("differing rows", style="bold")
    for difference in found.examples:
        lines = [f"{difference.key}  {difference.scope or '–'}"]
        if difference.kind is not Kind.DIFFERENT:
            lines.append(f"  {_KINDS[difference.kind]}")
        for each in difference.fields:
            legacy, new = (shown(each.field, text, show_values) or "NULL" for text in (each.legacy, each.new))
            lines.append(f"  {each.field}: legacy {legacy}, new {new}")
        out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    if (more := sum(n for n, _ in _counts(found)) - len(found.examples)) > 0:
        out.print(f"… and {more:,} more; --out names them all", highlight=False)


_KINDS = {
    Kind.MISSING: "missing in new",
    Kind.EXTRA: "extra in new",
    Kind.MISPLACED: "legacy and quarantine say something different of it",
}
