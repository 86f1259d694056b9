"""``crossfade demo``: a whole migration, from invented data to the cutover report, on a server of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.rule import Rule
from sqlalchemy import delete, func, or_, select, update

from adapters.postgres.apply import set_applying
from adapters.postgres.embedded import EmbeddedServer
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.prompts import invented
from adapters.prompts.assessment.assess import assess
from adapters.prompts.canonical import CONTENT_LIMIT
from adapters.prompts.migration import Stores, opened
from adapters.prompts.prompt import PromptFilter
from adapters.prompts.prompt_manager import prompts
from harness.catchup import drain, follow
from harness.cli.app import App, FiniteRange, command, facts
from harness.cli.assess import show as show_assessment
from harness.cli.authority import carry_out as carry_out_act
from harness.cli.authority import plan
from harness.cli.backfill import backfill_stores
from harness.cli.complete import let_go, obstacles_of
from harness.cli.cutover import to_new
from harness.cli.prepare import prepare_stores
from harness.cli.repair import carry_out, plan_repair, show_plan
from harness.cli.report import gather
from harness.cli.report import show as show_report
from harness.cli.rollback import to_legacy
from harness.cli.run import Plan, keep_totals, run_parallel
from harness.cli.shares import ramp_shares
from harness.cli.verify import sentence, verify_stores
from harness.config import GateSettings, LegacySettings, NewSettings
from harness.errors import CrossfadeError
from harness.gates import decide, evaluate
from harness.records import Verdict
from reports.report import build

_FOUND_SECONDS = 60.0
_ENOUGH_SECONDS = 180.0
_LIMIT = 0.004  # a thousand comparisons without a mismatch are nearly enough for it


@command("crossfade demo --output demo-report")
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed invents other prompts.")
@click.option("--step-seconds", type=FiniteRange(1), default=6.0, show_default=True, help="Time for each percentage.")
@click.option("--rate", type=FiniteRange(1), default=150.0, show_default=True, help="Calls a second.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("crossfade-demo"),
    show_default=True,
    help="Where the report goes.",
)
def demo(app: App, seed: int, step_seconds: float, rate: float, output: Path) -> None:
    """Run a whole migration on an embedded PostgreSQL, and tell what happens.

    Invents a Dispatch database, assesses it, prepares, copies while it is written to, runs both stores side by side
    while the new one's share of reads grows, finds a seeded fault, repairs it, moves the writes, cuts over, rolls
    back, cuts over again, lets go of the old one, and writes the report.
    """
    story = Story(app.log)
    with EmbeddedServer() as server:
        legacy, new = server.create_database("dispatch"), server.create_database("prompt_manager")
        settings = replace(
            app.settings, legacy=LegacySettings(url=legacy), new=NewSettings(url=new), gates=_gates(app.settings.gates)
        )
        own = App(settings, app.json, app.out, app.log, app.stop)
        with opened(settings, bulk=True, application="crossfade demo") as stores:
            _Demo(own, stores, story, seed, step_seconds, rate).play()
            evidence = gather(stores)
    gates = evaluate(evidence, settings.gates)
    files = build(evidence, gates).write(output)
    document: dict[str, Any] = {
        "verdict": decide(gates).value,
        "seconds": round(story.elapsed, 1),
        "files": [str(file.resolve()) for file in files],
    }
    story.chapter("The report")
    app.result(document, lambda out: show_report(out, gates, tuple(file.resolve() for file in files)))


class Story:
    """Tells what happens, with the time since the beginning."""

    def __init__(self, out: Console) -> None:
        self._out, self._began = out, time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def chapter(self, title: str) -> None:
        self._out.print(Rule(f"{self.elapsed:5.1f} s  {title}", align="left", style="dim"))

    def tell(self, text: str) -> None:
        self._out.print(text, highlight=False)


class _Demo:
    def __init__(self, app: App, stores: Stores, story: Story, seed: int, step_seconds: float, rate: float) -> None:
        self._app, self._stores, self._story = app, stores, story
        self._seed, self._step, self._rate = seed, step_seconds, rate

    def play(self) -> None:
        """The chapters in order."""
        self._build()
        with _background(self._legacy_goes_on, "Dispatch"), _background(self._catch_up, "catch-up"):
            self._copy()
            self._ramp_until_the_fault()
            self._mend()
        self._tidy_up()
        self._ramp_to_the_end()
        with _background(self._catch_up, "catch-up"):
            self._move_writes()
            self._cut_over("Cutover: all authority to new")
            self._roll_back()
            self._ramp(100.0, 100.0, "another attempt")
            self._cut_over("Cutover, again")
        story = self._story
        story.chapter("Complete: let go of legacy")
        if standing := obstacles_of(self._stores):
            raise CrossfadeError(f"the demo cannot be completed: {'; '.join(standing.values())}")
        story.tell(f"{let_go(self._app, self._stores, 'the demo')}: nothing is carried back any more")

    def _build(self) -> None:
        story, stores = self._story, self._stores
        story.chapter("A Dispatch database, invented")
        made = invented.create(stores.legacy, self._seed, organizations=3, projects=8)
        story.tell(
            f"{made.rows} prompts in {made.projects} projects of {len(made.organizations)} organizations, "
            f"{sum(made.odd.values())} of them odd: what Dispatch lets in and nobody expects"
        )
        story.chapter("Assess: what will not fit")
        show_assessment(self._app.log, assess(stores.legacy, stores.new, stores.settings))
        story.chapter("Prepare: schemas, ledger, capture")
        story.tell(str(prepare_stores(self._app, stores, id_index=True, reason="the demo")["phase"]))

    def _copy(self) -> None:
        story = self._story
        story.chapter("Backfill, while Dispatch goes on writing")
        done = backfill_stores(self._app, self._stores, chunk_rows=50, rows_per_second=150)
        self._app.log.print(facts({key: done[key] for key in ("copied", "quarantined", "deferred", "seconds")}))
        story.tell(
            "What changed meanwhile is in the dirty queue; a catch-up worker carries it over, and goes on doing so"
        )
        story.chapter("Verify: every row of both stores")
        story.tell(sentence(verify_stores(self._app, self._stores)))

    def _ramp_until_the_fault(self) -> None:
        story, stores = self._story, self._stores
        story.chapter("Parallel run: both stores asked, answers compared")
        with self._running(write_ratio=0.0) as totals:
            for share in (0.0, 1.0, 10.0):
                self._ramp(share, None, "the next step")
                self._app.stop.wait(self._step)
            story.tell(f"Now somebody edits {_edit_behind(stores)} prompts in the new store behind everybody's back …")
            began = time.monotonic()
            while not (found := EvidenceBook(stores.new).mismatches(1)):
                if time.monotonic() - began > _FOUND_SECONDS or self._app.stop.wait(0.2):
                    raise CrossfadeError("the seeded fault was not found; the demo has failed")
            fields = ", ".join(sorted({difference.field for difference in found[0].differences}))
            story.tell(
                f"… and after {time.monotonic() - began:.1f} s the diffs have found it: {found[0].operation} "
                f"differs in {fields}, at every look, with nothing on its way"
            )
            self._ramp(0.0, None, "a confirmed mismatch: back to legacy while we look")
        self._tell_totals(totals)

    def _mend(self) -> None:
        story = self._story
        story.chapter("Repair: what verify finds, towards the store with authority")
        plan = plan_repair(self._app, self._stores)
        show_plan(self._app.log, plan)
        if not plan:
            raise CrossfadeError("verify did not find the seeded fault; the demo has failed")
        done = carry_out(self._app, self._stores, plan, "a seeded fault")
        story.tell(f"verify says {done['verdict']}. Evidence counts from here on")

    def _tidy_up(self) -> None:
        story, stores = self._story, self._stores
        story.chapter("Quarantine: mended where it lives, in Dispatch")
        before = len(stores.routes.view().held_keys)
        _tidy(stores)
        _, left = drain(stores.carrier, stop=self._app.stop, clock=time.monotonic, timeout=60, pause=0.05)
        after = len(stores.routes.view().held_keys)
        story.tell(f"{before} rows were in quarantine; {after} are, with {left} notes left to carry over")

    def _ramp_to_the_end(self) -> None:
        story = self._story
        story.chapter("Parallel run: on to 100 %; a tenth of the calls write")
        story.tell(sentence(verify_stores(self._app, self._stores)))
        with self._running(write_ratio=0.1) as totals:
            for share in (10.0, 50.0, 100.0):
                self._ramp(share, None, "the next step")
                self._app.stop.wait(self._step)
        self._tell_totals(totals)
        story.chapter("Verify, once more")
        story.tell(sentence(verify_stores(self._app, self._stores)))

    def _move_writes(self) -> None:
        story = self._story
        story.chapter("Writes move, scope by scope, while they go on: 1, 50, 100 %")
        with self._running(write_ratio=0.2) as totals:
            for share in (1.0, 50.0, 100.0):
                self._ramp(None, share, "the next step")
                if share == 50.0:
                    self._dispatch_goes_on()
                self._app.stop.wait(self._step)
            self._until_enough()
        self._tell_totals(totals)

    def _until_enough(self) -> None:
        """Wait until the gates have enough to judge: a slow machine takes longer, and is judged no less strictly."""
        began = time.monotonic()
        while any(
            gate.verdict is Verdict.INCONCLUSIVE for gate in evaluate(gather(self._stores), self._app.settings.gates)
        ):
            if time.monotonic() - began > _ENOUGH_SECONDS or self._app.stop.wait(1.0):
                raise CrossfadeError("the parallel run did not gather enough evidence; the demo has failed")

    def _dispatch_goes_on(self) -> None:
        """Dispatch knows nothing of all this: the databases themselves see to it that no store is written twice."""
        writer = invented.LegacyWriter(self._stores.legacy, self._seed + 1, tame=True)
        acts = Counter(writer.step().rpartition(" ")[2] == "refused" for _ in range(60))
        self._story.tell(
            f"Dispatch itself goes on writing: {acts[False]} acts accepted, {acts[True]} refused by the guard, because "
            "new has authority over their scopes"
        )

    def _cut_over(self, title: str) -> None:
        story, stores = self._story, self._stores
        story.chapter(title)
        _, left = drain(stores.carrier, stop=self._app.stop, clock=time.monotonic, timeout=60, pause=0.05)
        story.tell(f"{left} notes left; {sentence(verify_stores(self._app, stores))}")
        carry_out_act(self._app, stores, lambda: plan(stores, "cutover", to_new, gated=True), "every gate passes")
        story.tell(f"{stores.phase}: new has authority over every scope and serves all reads")

    def _roll_back(self) -> None:
        story, stores = self._story, self._stores
        story.chapter("Rollback, with what was written to new")
        with stores.router() as router:
            before = router.repository.find_all(PromptFilter(limit=1)).items[0]
            changed = router.repository.update(before.with_content("Written to the new system, after the cutover."))
        carry_out_act(self._app, stores, lambda: plan(stores, "rollback", to_legacy), "a rehearsal of the way back")
        if stores.legacy_repository.find_by_id(changed.id) != changed:
            raise CrossfadeError("a write of the new system is missing in legacy; the demo has failed")
        story.tell(f"{stores.phase}: legacy has authority again, and what was written to new is there")

    def _ramp(self, reads: float | None, writes: float | None, reason: str) -> None:
        ramp_shares(self._app, self._stores, reads, writes, reason)
        shares = ((reads, "reads"), (writes, "writes"))
        told = [f"{share:g} % of the {what}" for share, what in shares if share is not None]
        self._story.tell(f"{self._story.elapsed:5.1f} s  new takes {' and '.join(told)}")

    @contextmanager
    def _running(self, write_ratio: float) -> Iterator[dict[str, Any]]:
        """A parallel run of two processes while the block goes on; its totals are in the dictionary afterwards."""
        stop, totals = threading.Event(), dict[str, Any]()
        app = App(self._app.settings, True, self._app.out, self._app.log, stop)
        plan = Plan(3600, self._rate, processes=2, seed=self._seed, write_ratio=write_ratio)
        errors: list[Exception] = []

        def run() -> None:
            try:
                totals.update(run_parallel(app, self._stores, plan))
                keep_totals(self._stores, totals)
            except CrossfadeError as error:
                errors.append(error)

        thread = threading.Thread(target=run, name="crossfade-demo-run")
        thread.start()
        try:
            yield totals
        finally:
            stop.set()
            thread.join()
        if errors:
            raise errors[0]

    def _tell_totals(self, totals: dict[str, Any]) -> None:
        shown = ("operations", "served", "compared", "matched", "mismatched", "transient", "not_compared", "errors")
        self._app.log.print(facts({name: totals[name] for name in shown}))

    def _legacy_goes_on(self, stop: threading.Event) -> None:
        writer = invented.LegacyWriter(self._stores.legacy, self._seed)
        while not stop.wait(0.1):
            writer.step()

    def _catch_up(self, stop: threading.Event) -> None:
        follow(self._stores.new_carrier(), stop=stop, pause=self._app.settings.catchup.poll_seconds)


def _gates(settings: GateSettings) -> GateSettings:
    """Limits that so short a run can show to be kept: for a thousandth it would have to go on for minutes."""
    return replace(
        settings,
        max_mismatch_rate=max(_LIMIT, settings.max_mismatch_rate),
        max_error_rate=max(_LIMIT, settings.max_error_rate),
    )


def _edit_behind(stores: Stores) -> int:
    """The seeded fault: change texts in new as nobody may, and say how many."""
    chosen = select(prompts.c.id).where(prompts.c.enabled, func.char_length(prompts.c.content) < 5000)
    edited = update(prompts).where(prompts.c.id.in_(chosen.order_by(func.random()).limit(5)))
    with stores.new.begin() as connection:
        set_applying(connection)  # the guard stands aside, as it would for a restored backup
        return connection.execute(edited.values(content=prompts.c.content + " (edited)")).rowcount


def _tidy(stores: Stores) -> None:
    """What the owners of the odd rows would do in Dispatch: shorten the long, delete the empty and the lost."""
    with stores.legacy.begin() as connection:
        for part in stores.mapping.parts:
            row = part.table.c
            connection.execute(delete(part.table).where(or_(row.project_id.is_(None), row.genai_prompt == "")))
            too_long = func.char_length(row.genai_prompt) > CONTENT_LIMIT
            shorter = func.left(row.genai_prompt, CONTENT_LIMIT)
            connection.execute(update(part.table).where(too_long).values(genai_prompt=shorter))


@contextmanager
def _background(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Work in a thread while the block runs; an error of it is raised at the end."""
    stop, errors = threading.Event(), list[Exception]()

    def run() -> None:
        try:
            work(stop)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits for this one
            errors.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
