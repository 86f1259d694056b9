"""``crossfade baseline``: one store compared with itself, before it is compared with the other one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Engine

from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.baselines import BaselineBook
from adapters.postgres.pool import open_engine
from adapters.postgres.stillness import visible_transactions
from adapters.prompts.contract import PromptRepository
from adapters.prompts.discover import require_tenants
from adapters.prompts.mappings import DispatchMapping, PromptManagerMapping
from adapters.prompts.migration import Stores, opened
from adapters.prompts.repository import SqlPromptRepository, StoreMapping
from adapters.prompts.trace_codec import PromptCodec
from adapters.prompts.untouched import UntouchedMapping
from adapters.prompts.workload import READ_MIX, Key, PromptCalls, default_mix, discover_keys, has_sidecar
from harness.baseline import Baseline, FieldNoise, Finding, as_toml, judge, propose
from harness.cli.app import App, FiniteRange, actor, command, facts, reason_option
from harness.compare import check_rules
from harness.errors import NotPrepared, Refused, StoreUnavailable
from harness.noise import WHOLE, Patience, Twice
from harness.operations import operations_of
from harness.phases import Phase
from harness.routing import Store
from harness.trace import Trace
from harness.words import counted, share
from harness.workload import Mix, Performed, Workload

_APPLICATION = "crossfade baseline"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked, of which store. ``rate``: questions a second, 0 for as fast as they are answered."""

    store: Store = Store.LEGACY
    seconds: float = 30.0
    rate: float = 50.0
    pause: float = 0.05
    limit: float = 0.01
    workers: int = 4
    seed: int = 1
    mix: str | None = None
    trace: Path | None = None
    speed: float = 1.0
    reason: str = ""


@command("crossfade baseline --seconds 120")
@click.option(
    "--store", type=click.Choice([store.value for store in Store]), default="legacy", show_default=True, help="Which."
)
@click.option("--seconds", type=FiniteRange(0, min_open=True), default=30.0, show_default=True, help="How long.")
@click.option("--rate", type=FiniteRange(0), default=50.0, show_default=True, help="Calls a second; 0: flat out.")
@click.option(
    "--pause",
    type=FiniteRange(0, 60),
    default=0.05,
    show_default=True,
    help="Seconds between a call's two answers, at most: about as late as a shadow's answer is.",
)
@click.option(
    "--limit",
    type=FiniteRange(0, 1, min_open=True),
    default=0.01,
    show_default=True,
    help="A field is still if it certainly differs in a smaller share of the answers.",
)
@click.option("--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="Calls made at once.")
@click.option("--seed", type=int, default=1, show_default=True, help="Makes the calls repeatable.")
@click.option("--mix", help="Weights of operations, as find_by_id=3,find_all=1.")
@click.option("--trace", type=click.Path(path_type=Path), help="A recorded trace of reads instead of a mix.")
@click.option("--speed", type=FiniteRange(0), default=1.0, show_default=True, help="Pace of a trace; 0: flat out.")
@reason_option
def baseline(app: App, store: str, **options: Any) -> None:
    """Ask one store everything twice, and learn which fields of its answers differ by themselves.

    Such a field would look like a mismatch of the two stores later. For each that no rule excuses a rule is proposed;
    none is ever applied but by you, in crossfade.toml. Reads only, in any phase. Before crossfade prepare there is no
    ledger to keep the result in. Ends with 0 whatever it finds.
    """
    plan = Plan(store=Store(store), **options)
    with opened(app.settings, application=_APPLICATION) as stores:
        found, document = take_baseline(app, stores, plan)
        lost = None
        try:
            document["kept"] = _kept(stores, found, plan.reason)
        except StoreUnavailable as error:  # told first: what took so long to learn is not to be lost with a store
            lost = error
        app.result(document, lambda out: show(out, found, document))
        if lost is not None:
            raise lost


def take_baseline(app: App, stores: Stores, plan: Plan) -> tuple[Baseline, dict[str, Any]]:
    """Carry the plan out; the result, and what ``--json`` prints."""
    rules = stores.settings.compare.rules
    check_rules(rules, operations_of(PromptRepository))
    if plan.store is Store.NEW:
        stores.require(Phase.PREPARED)
    mix = default_mix() if plan.mix is None else Mix.parse(plan.mix, READ_MIX)
    require_tenants(stores.legacy)
    keys = discover_keys(stores.legacy, stores.reading, Random(plan.seed))  # noqa: S311 - repeatable, no secret
    if plan.trace is None and not keys:
        raise Refused("legacy holds no prompt that could be asked for; there is nothing to compare")
    at = datetime.now(UTC)
    app.say(f"{plan.store} is asked everything twice; Ctrl-C ends it early, and what was found until then counts")
    with _twice(app, stores, plan) as twice:
        performed = _perform(app, twice, plan, mix, keys)
    alpha = stores.settings.gates.alpha
    found = judge(
        twice.counts, rules, at=at, store=plan.store, seconds=performed.seconds, limit=plan.limit, alpha=alpha
    )
    proposals = propose(twice.counts, rules, plan.store)
    return found, {
        **asdict(found),
        "at": at.isoformat(),
        "noise": len(found.noise),
        "uncovered": len(found.uncovered),
        "late_seconds": round(performed.late_seconds, 3),
        "proposals": [asdict(rule) for rule in proposals],
        "toml": as_toml(proposals),
        "kept": False,
    }


@contextmanager
def _twice(app: App, stores: Stores, plan: Plan) -> Iterator[Twice]:
    """The store asked twice, over connections that the two answers do not share."""
    settings, engine = stores.settings, stores.engine(plan.store)
    url = settings.legacy.url if plan.store is Store.LEGACY else settings.new.url
    apart = open_engine(url, plan.store, settings.pool, application=_APPLICATION)
    try:
        mapping = _mapping(stores, plan.store)
        yield Twice(
            PromptRepository,
            (SqlPromptRepository(engine, mapping), SqlPromptRepository(apart, mapping)),
            mark=partial(visible_transactions, engine, plan.store),
            rules=settings.compare.rules,
            patience=Patience(plan.pause, settings.shadow.second_looks, settings.shadow.look_seconds),
            random=Random(plan.seed).random,  # noqa: S311 - which is asked first, no secret
            wait=app.stop.wait,
        )
    finally:
        apart.dispose()


def _mapping(stores: Stores, store: Store) -> StoreMapping:
    if store is Store.NEW:
        return PromptManagerMapping()
    tenants = require_tenants(stores.legacy)
    if _has_sidecar(stores.legacy):
        return DispatchMapping(tenants, stores.reading)
    return UntouchedMapping(tenants, stores.reading)


def _has_sidecar(engine: Engine) -> bool:
    with speaking_for(Store.LEGACY), engine.connect() as connection:
        return has_sidecar(connection)


def _perform(app: App, twice: Twice, plan: Plan, mix: Mix, keys: Sequence[Key]) -> Performed:
    if plan.trace is not None:
        trace = Trace(plan.trace, PromptRepository, PromptCodec())
        trace.check()
        return trace.replay(twice.repository, speed=plan.speed, clock=time.monotonic, stop=app.stop)
    workload = Workload(PromptCalls(keys), mix, plan.rate / plan.workers, plan.seconds)

    def work(number: int) -> Performed:
        random = Random(plan.seed * 1000 + number)  # noqa: S311 - a repeatable workload, no secret
        return workload.run(twice.repository, random=random, clock=time.monotonic, stop=app.stop)

    done = Performed({}, {}, {}, 0.0, 0.0)
    with ThreadPoolExecutor(plan.workers, thread_name_prefix="crossfade-baseline") as threads:
        for each in threads.map(work, range(plan.workers)):
            done += each
    return done


def _kept(stores: Stores, found: Baseline, reason: str) -> bool:
    """Whether there was a ledger to keep it in."""
    try:
        BaselineBook(stores.new).add(found, actor(), reason)
    except NotPrepared:
        return False
    return True


def show(out: Console, found: Baseline, document: dict[str, Any]) -> None:
    compared = f"{counted(found.compared, 'pair')}; {found.transient:,} of them differed until a write had passed"
    out.print(
        facts(
            {
                "compared": compared,
                "not settled": f"{found.unsettled:,} met a write each time, {found.failed:,} got no answer",
                "still": _still(found),
                "kept": "in the ledger" if document["kept"] else "no: there is no ledger, or none in reach",
            }
        )
    )
    if found.noise:
        table = Table("operation", "field", box=None)
        for heading in ("differed", "compared", "rate between"):
            table.add_column(heading, justify="right")
        table.add_column("how")
        table.add_column("covered by")
        for each in found.noise:
            table.add_row(*_cells(each))
        out.print(table)
    for rule in found.rules:
        out.print(f"rule {rule.name}: {_SAID[rule.finding].format(used=counted(rule.used, 'pair'))}", highlight=False)
    out.print(f"[bold]{found.sentence()}[/]", highlight=False, soft_wrap=True)
    if any(each.field in WHOLE for each in found.uncovered):
        out.print("Whole answers differ: find out why. No rule is proposed, for it would hide what is missing.")
    if document["toml"]:
        out.print("To excuse it, put this into crossfade.toml; nothing is excused until you do:\n")
        out.print(escape(document["toml"]), highlight=False, soft_wrap=True)


_SAID = {
    Finding.NOISE: "needed, in {used}",
    Finding.STILL: "not needed for noise; it can only be for differences between the stores",
    Finding.UNKNOWN: "not seen to be needed, on too little evidence",
}


def _still(found: Baseline) -> str:
    still = sum(each.finding is Finding.STILL for each in found.fields)
    unknown = sum(each.finding is Finding.UNKNOWN for each in found.fields)
    told = f"{counted(still, 'field')}, certainly below {share(found.limit)}; too little evidence of {unknown:,} more"
    doubtful = sum(each.finding is Finding.UNKNOWN and each.doubtful > 0 for each in found.fields)
    return f"{told}, {doubtful:,} of which differed while something was written" if doubtful else told


def _cells(each: FieldNoise) -> list[str]:
    covered = ", ".join(each.rules) or "nothing"
    if each.open and each.rules:
        covered += f", but not {counted(each.open, 'time')}"
    return [
        each.operation,
        each.field,
        f"{each.differed:,}",
        f"{each.compared:,}",
        f"{share(each.low)} and {share(each.high)}",
        each.shape,
        covered,
    ]
