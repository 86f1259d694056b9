"""``crossfade report``: the evidence, the gates, and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adapters.prompts.migration import opened
from harness.cli.app import MARKS, App, command
from harness.cli.gathering import gather_all
from harness.gates import Gate, decide, evaluate
from reports.report import build, checked


@command("crossfade report --output cutover/")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("crossfade-report"),
    show_default=True,
    help="A directory for report.html, .md and .json, or one file ending in one of these.",
)
@click.option("--show-values", is_flag=True, help="Show the differing texts themselves, not only where they differ.")
@click.option(
    "--check",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Instead: whether this report.json still says what was written, by its checksum.",
)
def report(app: App, output: Path, show_values: bool, check: Path | None) -> None:
    """Write the cutover report: verdict, gates with their evidence, parallel run, verification, quarantine, timeline.

    Ends with 0 whatever the verdict is: the report was written. Scripts find the verdict in the JSON.
    With --check no store is asked and nothing is written; ends with 3 if the checksum is another one.
    """
    if check is not None:
        checksum = checked(check)
        app.result({"checksum": checksum, "intact": True}, lambda out: out.print(f"intact: {checksum}"))
        return
    with opened(app.settings) as stores:
        evidence = gather_all(stores)
    gates = evaluate(evidence, app.settings.gates)
    made = build(evidence, gates, redact=not show_values)
    files = made.write(output)
    document: dict[str, Any] = {
        "verdict": decide(gates).value,
        "gates": [
            {"name": gate.name, "verdict": gate.verdict.value, "evidence": gate.evidence, "figures": dict(gate.figures)}
            for gate in gates
        ],
        "checksum": made.checksum,
        "files": [str(file) for file in files],
    }
    app.result(document, lambda out: show(out, gates, files))


def show(out: Console, gates: tuple[Gate, ...], files: tuple[Path, ...]) -> None:
    table = Table("gate", "verdict", "evidence", box=None)
    for gate in gates:
        table.add_row(gate.name, MARKS[gate.verdict], escape(gate.evidence))
    out.print(table)
    out.print(f"verdict: {MARKS[decide(gates)]}")
    for file in files:
        out.print(f"  {file}", highlight=False)
