"""The demo's two stories: a migration that goes well to its end, and one that has to turn back."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from adapters.postgres.ledger.audit import AuditBook
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.prompts.prompt import PromptFilter
from harness.autoramp import State
from harness.cli.app import facts
from harness.cli.authority import carry_out as carry_out_act
from harness.cli.autoramp import ramp_by_itself
from harness.cli.complete import let_go, obstacles_of
from harness.cli.cutover import to_new
from harness.cli.demo.background import background, catching_up, dispatch_writing, running
from harness.cli.demo.beginning import Scene
from harness.cli.demo.faults import AroundNew, Fault, edit_behind
from harness.cli.gathering import gather
from harness.cli.planning import plan
from harness.cli.repair import carry_out, plan_repair, show_plan
from harness.cli.rollback import to_legacy
from harness.cli.run import Plan
from harness.cli.shares import ramp_shares
from harness.errors import MismatchFound
from harness.gates import evaluate
from harness.records import Verdict

_FOUND_SECONDS = 60.0
_ENOUGH_SECONDS = 180.0
_FAULT_READS = 10.0  # percent of the reads at which the fault begins
_WRITES = 0.04  # share of the run's calls
_TOLD = ("operations", "served", "compared", "matched", "mismatched", "transient", "not_compared", "drops", "errors")


def go(scene: Scene) -> None:
    """From a seeded fault, found and repaired, through the automatic ramp, there and back, to the end."""
    _find_a_fault(scene)
    _mend(scene)
    with catching_up(scene.stores):
        _ramp(scene)
        _cut_over(scene, "Cutover: all authority to new")
        _roll_back(scene)
        ramp_shares(scene.app, scene.stores, 100.0, 100.0, "another attempt")
        _cut_over(scene, "Cutover, again")
    scene.story.chapter("Complete: let go of legacy")
    if standing := obstacles_of(scene.stores):
        raise scene.failed(f"the demo cannot be completed: {'; '.join(standing.values())}")
    scene.story.tell(f"{let_go(scene.app, scene.stores, 'the demo')}: nothing is carried back any more")


def turn_back(scene: Scene, fault: Fault) -> str:
    """The automatic ramp meets the fault at a tenth of the reads, and goes back by itself; the gate that saw it."""
    story, stores = scene.story, scene.stores
    begun = multiprocessing.get_context("spawn").Event()

    def begin(stop: threading.Event) -> None:
        while stores.routes.view().route.reads_percent < _FAULT_READS:
            if stop.wait(0.1):
                return
        if fault is Fault.MISMATCH:
            edit_behind(stores)
        begun.set()
        story.tell_when(f"{fault.told} …")

    story.chapter("The automatic ramp, and a fault that nobody has announced")
    scene.verify()
    with catching_up(stores), _running(scene, AroundNew(fault, begun)), background(begin, "fault"):
        try:
            ramp_by_itself(scene.app, stores, "the demo", story.tell_when)
        except MismatchFound:
            gate = _retreated(scene, fault)
        else:
            raise scene.failed(f"the automatic ramp did not retreat from the fault ({fault})")
        story.tell("… and nobody was asked. Callers are served by legacy again; new is compared as before")
        _until(scene, lambda verdicts: verdicts[gate] is Verdict.FAIL, f"the report's gate {gate} does not fail")
    return gate


def _retreated(scene: Scene, fault: Fault) -> str:
    """The gate that led back. Raises an error if it is another one than was to be expected."""
    route = scene.stores.routes.view().route
    [decided] = [each for each in AuditBook(scene.stores.new).entries() if each.action == "auto retreat decided"]
    failing = [each["name"] for each in decided.detail["gates"] if each["verdict"] == Verdict.FAIL]
    seen = [name for name in failing if name in fault.gates]
    if not seen or route.reads_percent or route.writes_percent:
        raise scene.failed(f"the automatic ramp retreated for {', '.join(failing)}, and not for {fault}")
    return str(seen[0])


def _find_a_fault(scene: Scene) -> None:
    story, stores = scene.story, scene.stores
    story.chapter("Parallel run: both stores asked, answers compared, legacy serves")
    with catching_up(stores), _running(scene):
        story.tell(f"Somebody edits {edit_behind(stores, 5)} prompts in the new store behind everybody's back …")
        began = time.monotonic()
        while not (found := EvidenceBook(stores.new).mismatches(1)):
            if time.monotonic() - began > _FOUND_SECONDS or scene.app.stop.wait(0.2):
                raise scene.failed("the seeded fault was not found")
        fields = ", ".join(sorted({difference.field for difference in found[0].differences}))
        story.tell(
            f"… and after {time.monotonic() - began:.1f} s the diffs have found it: {found[0].operation} "
            f"differs in {fields}, at every look, with nothing on its way"
        )


def _mend(scene: Scene) -> None:
    scene.story.chapter("Repair: what verify finds, towards the store with authority")
    found = plan_repair(scene.app, scene.stores)
    show_plan(scene.app.log, found)
    if not found:
        raise scene.failed("verify did not find the seeded fault")
    done = carry_out(scene.app, scene.stores, found, "a seeded fault")
    scene.story.tell(f"verify says {done['verdict']}. Evidence counts from here on")


def _ramp(scene: Scene) -> None:
    story, stores = scene.story, scene.stores
    story.chapter("The automatic ramp: reads, then writes, while callers and Dispatch go on")
    scene.verify()
    with dispatch_writing(stores, scene.seed + 1, tame=True) as acts, _running(scene):
        done = ramp_by_itself(scene.app, stores, "the demo", story.tell_when)
        if done["state"] != State.DONE:
            raise scene.failed(f"the automatic ramp {done['state']}: {done['reason']}")
        _until(scene, lambda verdicts: Verdict.INCONCLUSIVE not in verdicts.values(), "there was too little evidence")
    # The databases themselves see to it that no store is written twice.
    story.tell(
        f"Dispatch itself went on writing: {acts[False]} acts accepted, {acts[True]} refused by the guard, because "
        "new has authority over their scopes"
    )


def _cut_over(scene: Scene, title: str) -> None:
    story, stores = scene.story, scene.stores
    story.chapter(title)
    left = scene.drain()
    story.tell(f"{left} notes left")
    scene.verify()
    carry_out_act(scene.app, stores, lambda: plan(stores, "cutover", to_new, gated=True), "every gate passes")
    story.tell(f"{stores.phase}: new has authority over every scope and serves all reads")


def _roll_back(scene: Scene) -> None:
    story, stores = scene.story, scene.stores
    story.chapter("Rollback, with what was written to new")
    with stores.router() as router:
        before = router.repository.find_all(PromptFilter(limit=1)).items[0]
        changed = router.repository.update(before.with_content("Written to the new system, after the cutover."))
    carry_out_act(scene.app, stores, lambda: plan(stores, "rollback", to_legacy), "a rehearsal of the way back")
    if stores.legacy_repository.find_by_id(changed.id) != changed:
        raise scene.failed("a write of the new system is missing in legacy")
    story.tell(f"{stores.phase}: legacy has authority again, and what was written to new is there")


@contextmanager
def _running(scene: Scene, around_new: AroundNew | None = None) -> Iterator[None]:
    """A parallel run of two processes while the block goes on; its totals are told afterwards."""
    plan = Plan(3600, scene.rate, processes=2, seed=scene.seed, write_ratio=_WRITES, around_new=around_new)
    with running(scene.app, scene.stores, plan) as totals:
        yield
    scene.app.log.print(facts({name: totals[name] for name in _TOLD}))


def _until(scene: Scene, enough: Callable[[Mapping[str, Verdict]], bool], lacking: str) -> None:
    """Wait until the gates judge so: a slow machine takes longer, and is judged no less strictly."""
    began = time.monotonic()
    while not enough({each.name: each.verdict for each in evaluate(gather(scene.stores), scene.app.settings.gates)}):
        if time.monotonic() - began > _ENOUGH_SECONDS or scene.app.stop.wait(0.5):
            raise scene.failed(lacking)
