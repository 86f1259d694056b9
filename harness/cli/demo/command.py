"""``crossfade demo``: from invented data to the cutover report, on a server of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from adapters.postgres.embedded import EmbeddedServer
from adapters.prompts.migration import opened
from harness.cli.app import App, FiniteRange, command
from harness.cli.demo import beginning
from harness.cli.demo.beginning import Scene
from harness.cli.demo.chapters import go, turn_back
from harness.cli.demo.faults import Fault
from harness.cli.demo.story import Story
from harness.cli.gathering import gather_all
from harness.cli.report import show as show_report
from harness.deciding import RampSettings
from harness.errors import CrossfadeError
from harness.gates import Gate, decide, evaluate
from harness.records import Verdict
from harness.settings import LegacySettings, NewSettings, Settings
from reports.report import build
from reports.verdict import verdict

_LIMIT = 0.01  # 438 comparisons without a mismatch pass it; a thousandth would take ten times as long
_ROWS_PER_SECOND = 150.0  # so that there is something to see of the copy


@command("crossfade demo --output demo-report")
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed invents other prompts.")
@click.option(
    "--fault",
    type=click.Choice([each.value for each in Fault]),
    help="Let new go wrong at a tenth of the reads: the ramp goes back by itself, and the report says NO-GO.",
)
@click.option(
    "--step-seconds", type=FiniteRange(0), default=2.0, show_default=True, help="Time for each step, at least."
)
@click.option("--rate", type=FiniteRange(1), default=150.0, show_default=True, help="Calls a second.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("crossfade-demo"),
    show_default=True,
    help="Where the report goes.",
)
def demo(app: App, seed: int, fault: str | None, step_seconds: float, rate: float, output: Path) -> None:
    """Run a whole migration on an embedded PostgreSQL, and tell what happens.

    Invents a Dispatch database, assesses it, prepares, copies while it is written to, finds a seeded fault, repairs
    it, lets the automatic ramp take reads and writes to the new store, cuts over, rolls back, cuts over again, lets go
    of the old one, and writes the report: GO. With --fault the automatic ramp meets a fault, and takes everything back.
    """
    story, met = Story(app.log), None if fault is None else Fault(fault)
    with EmbeddedServer() as server:
        urls = server.create_database("dispatch"), server.create_database("prompt_manager")
        settings = _brisk(app.settings, step_seconds, *urls)
        with opened(settings, bulk=True, application="crossfade demo") as stores:
            scene = Scene(replace(app, settings=settings), stores, story, seed, rate)
            seen = _play(scene, met)
            evidence = gather_all(stores)
    gates = evaluate(evidence, settings.gates)
    files = build(evidence, gates).write(output)
    decided = verdict(evidence, gates)
    document: dict[str, Any] = {
        "verdict": decided["verdict"],
        "decision": decided["word"],
        "why": decided["sentence"],
        "failing": [gate.name for gate in gates if gate.verdict is Verdict.FAIL],
        "retreated_for": seen,
        "seconds": round(story.elapsed, 1),
        "files": [str(file.resolve()) for file in files],
    }
    story.chapter("The report")
    app.result(document, lambda out: show_report(out, gates, tuple(file.resolve() for file in files)))
    story.tell(f"{decided['word']}: {decided['sentence']}")
    _check(gates, seen)


def _play(scene: Scene, fault: Fault | None) -> str | None:
    """The gate for which the ramp went back, if it was to."""
    beginning.build(scene)
    beginning.copy(scene, _ROWS_PER_SECOND)
    beginning.tidy_up(scene)
    if fault is not None:
        return turn_back(scene, fault)
    go(scene)
    return None


def _check(gates: tuple[Gate, ...], seen: str | None) -> None:
    """Raise an error unless the report says what the story has shown."""
    failing = {gate.name for gate in gates if gate.verdict is Verdict.FAIL}
    if seen is None and decide(gates) is not Verdict.PASS:
        open_ = [gate.name for gate in gates if gate.verdict is not Verdict.PASS]
        raise CrossfadeError(f"the demo was to end in GO, and these gates do not pass: {', '.join(open_)}")
    if seen is not None and seen not in failing:
        raise CrossfadeError(f"the demo was to end in NO-GO for {seen}, and that gate does not fail")


def _brisk(settings: Settings, step_seconds: float, legacy: str, new: str) -> Settings:
    """Limits that so short a run can show to be kept, on a machine that does ten things at once, and a quick ramp."""
    gates, shadow = settings.gates, settings.shadow
    return replace(
        settings,
        legacy=LegacySettings(url=legacy),
        new=NewSettings(url=new),
        gates=replace(
            gates,
            max_mismatch_rate=max(_LIMIT, gates.max_mismatch_rate),
            max_error_rate=max(_LIMIT, gates.max_error_rate),
            min_comparisons=min(300, gates.min_comparisons),
            slowdown_seconds=max(0.03, gates.slowdown_seconds),
        ),
        shadow=replace(shadow, roll_up_seconds=0.5, slow_seconds=max(0.03, shadow.slow_seconds)),
        ramp=RampSettings(
            reads=(1.0, 10.0, 50.0, 100.0), writes=(1.0, 50.0, 100.0), step_seconds=step_seconds, look_seconds=0.5
        ),
    )
