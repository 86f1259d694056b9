"""``crossfade run``: a parallel run of both stores under a workload."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import click
from rich.live import Live

from adapters.metrics.multiprocess import forget_process, fresh_multiprocess_directory
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.prompts.contract import PromptRepository
from adapters.prompts.discover import require_tenants
from adapters.prompts.migration import Stores, opened
from adapters.prompts.trace_codec import PromptCodec
from adapters.prompts.workload import (
    READ_MIX,
    WRITE_MIX,
    default_mix,
    discover_keys,
    tenant_for_writes,
    with_writes,
)
from harness.catchup import drain
from harness.cli.app import App, FiniteRange, actor, command
from harness.cli.metrics import exported, metrics_option
from harness.cli.run_processes import Progress, run_processes
from harness.cli.run_totals import live_table, totals
from harness.cli.run_worker import Share
from harness.errors import ConfigError, Refused
from harness.phases import Phase
from harness.records import RunTotals
from harness.statistics import Statistics
from harness.trace import Trace
from harness.workload import Mix

_DRAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to do. ``rate`` is calls a second of all processes together, 0 for as fast as they go.

    ``around_new``: makes what each process asks instead of new's repository; it travels there pickled.
    """

    seconds: float = 30.0
    rate: float = 100.0
    processes: int = 1
    seed: int = 1
    mix: str | None = None
    write_ratio: float = 0.0
    trace: Path | None = None
    speed: float = 1.0
    record: Path | None = None
    around_new: Callable[[PromptRepository], PromptRepository] | None = None


@command("crossfade run --seconds 60 --rate 200 --processes 2")
@click.option("--seconds", type=FiniteRange(0, min_open=True), default=30.0, show_default=True, help="How long.")
@click.option("--rate", type=FiniteRange(0), default=100.0, show_default=True, help="Calls a second; 0: flat out.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="They share the rate.")
@click.option("--seed", type=int, default=1, show_default=True, help="Makes the run repeatable.")
@click.option("--mix", help="Weights of operations, as find_by_id=3,find_all=1.")
@click.option(
    "--write-ratio",
    type=FiniteRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of calls that write, in scopes of the run's own, which are removed afterwards.",
)
@click.option("--trace", type=click.Path(path_type=Path), help="Replay this recorded trace instead of a mix.")
@click.option("--speed", type=FiniteRange(0), default=1.0, show_default=True, help="Pace of a trace; 0: flat out.")
@click.option("--record", type=click.Path(path_type=Path), help="Record the run's calls in this file, as a trace.")
@metrics_option
def run(app: App, metrics_port: int | None, **options: Any) -> None:
    """Call both stores side by side as an application would, and compare their answers.

    Reads only, on keys that exist, unless --write-ratio says otherwise. The route decides which store serves; change
    it meanwhile with crossfade ramp. What is counted goes into the ledger, and from there into the report.
    """
    plan = Plan(**options)
    with ExitStack() as stack:
        # The directory is named in the environment, for the processes to find, before any of them starts.
        directory = stack.enter_context(fresh_multiprocess_directory()) if metrics_port else None
        stores = stack.enter_context(opened(app.settings, application="crossfade run"))
        stack.enter_context(exported(app, stores, metrics_port, directory))
        ended: Callable[[int], None] = (lambda pid: forget_process(pid, directory)) if directory else (lambda _: None)
        with _shown(app, stores) as show:
            document = run_parallel(app, stores, plan, show, ended)
        # Printed first: the totals must not be lost with a store that went away meanwhile.
        app.result(document, lambda out: out.print(_sentence(document), highlight=False))
        keep_totals(stores, document)


def run_parallel(
    app: App,
    stores: Stores,
    plan: Plan,
    progress: Progress = lambda *_: None,
    ended: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the plan, and return its totals as ``run --json`` prints them."""
    stores.require(Phase.BACKFILLED)
    random = Random(plan.seed)  # noqa: S311 - a repeatable run, no secret
    mix = _checked_mix(plan)
    require_tenants(stores.legacy)  # here and now, not in each process
    keys = discover_keys(stores.legacy, stores.reading, random)
    if not keys:
        raise Refused("legacy holds no prompt that could be asked for; there is nothing to compare")
    if stores.phase is Phase.BACKFILLED:
        stores.phases.advance(Phase.SHADOWING, actor(), "a parallel run")
    share = Share(
        stores.settings,
        seed=plan.seed,
        rate=plan.rate / plan.processes,
        duration=plan.seconds,
        mix=mix,
        keys=keys,
        writes_in=tenant_for_writes(stores.legacy) if plan.write_ratio else None,
        trace=plan.trace,
        speed=plan.speed,
        record=plan.record,
        around_new=plan.around_new,
    )
    shares = [replace(share, seed=plan.seed * 1000 + number) for number in range(plan.processes)]
    try:
        statistics, performed = run_processes(shares, app.stop, progress, ended)
    finally:
        if plan.write_ratio:
            _drain(stores)
    return totals(statistics, performed)


def keep_totals(stores: Stores, document: dict[str, Any]) -> None:
    """Keep a run's totals in the ledger, for the report."""
    EvidenceBook(stores.new).add_run(RunTotals(datetime.now(UTC), document["seconds"], document))


def _drain(stores: Stores) -> None:
    """The removal of what the run wrote is carried over like any write, also when the run was asked to stop."""
    drain(stores.carrier, stop=Event(), clock=time.monotonic, timeout=_DRAIN_SECONDS, pause=0.05)


def _checked_mix(plan: Plan) -> Mix:
    """The mix, once it is sure that nothing of the plan is wrong further down."""
    if plan.processes > 1 and (plan.trace or plan.record):
        raise ConfigError("a trace is recorded and replayed by one process; leave --processes at 1")
    if plan.trace is not None:
        if plan.write_ratio:
            raise ConfigError("a trace's writes would touch scopes that are not the run's own; leave out --write-ratio")
        Trace(plan.trace, PromptRepository, PromptCodec()).check()
    if plan.mix is None:
        return default_mix(plan.write_ratio)
    mix = Mix.parse(plan.mix, [*READ_MIX, *WRITE_MIX])
    if not plan.write_ratio and (writes := sorted(mix.weights.keys() & WRITE_MIX.keys())):
        raise ConfigError(f"the mix writes ({', '.join(writes)}), and this run only reads; give --write-ratio too")
    return with_writes(mix, plan.write_ratio)


@contextmanager
def _shown(app: App, stores: Stores) -> Iterator[Progress]:
    """A live table for people who watch; nothing where nobody does."""
    if app.json or not app.log.is_terminal:
        yield lambda *_: None
        return
    with Live(console=app.log, auto_refresh=False) as live:

        def show(statistics: Statistics, seconds: float) -> None:
            live.update(live_table(statistics, stores.routes.view(), seconds), refresh=True)

        yield show


def _sentence(document: dict[str, Any]) -> str:
    return (
        f"{document['operations']:,} operations in {document['seconds']:.0f} s: "
        f"{document['served']['legacy']:,} served by legacy, {document['served']['new']:,} by new; "
        f"{document['compared']:,} compared, {document['matched']:,} matched, {document['mismatched']:,} mismatched, "
        f"{document['transient']:,} transient, {document['not_compared']:,} not compared; {document['errors']:,} errors"
    )
