"""``python -m benchmarks [--json FILE] [NAME …]``: each benchmark in one run, as a table and as JSON.

A new benchmark is a file with ``measure() -> list[Row]`` and a line in BENCHMARKS. Figures of different runs, or of
different machines, do not compare; the ratios within one run do.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import carrying, compare, moving, router
from benchmarks.row import Row


@dataclass(frozen=True, slots=True)
class Benchmark:
    """``bare`` and ``peer`` name the rows that the others are set in relation to."""

    title: str
    measure: Callable[[], list[Row]]
    bare: str
    peer: str


BENCHMARKS = {
    "router": Benchmark(
        "One routed read, the caller's cost, going flat out", router.measure_flat_out, "bare call", "laboratory"
    ),
    "router-paced": Benchmark(
        "One routed read, the caller's cost, a thousand a second", router.measure_paced, "bare call", "laboratory"
    ),
    "compare": Benchmark(
        "Comparing two answers", compare.measure, "bare ==, equal records of 8 fields", "DeepDiff, equal records"
    ),
    "moving": Benchmark(
        "Moving authority under four writing processes: what writers wait, and how far catch-up lags",
        moving.measure,
        "a write, the median",
        "a write, the slowest while nothing moves",
    ),
    "carrying": Benchmark(
        "Guard and capture, and catch-up against the writers",
        carrying.measure,
        "legacy: a write, no trigger",
        "legacy: a write, guard and capture",
    ),
}


def document(name: str, rows: list[Row]) -> dict[str, object]:
    """The rows with their ratios, as the JSON file holds them."""
    benchmark = BENCHMARKS[name]
    by_name = {row.name: row.microseconds for row in rows}
    return {
        "title": benchmark.title,
        "rows": [
            {
                "name": row.name,
                "microseconds": round(row.microseconds, 3),
                "to_bare": round(row.microseconds / by_name[benchmark.bare], 2),
                "to_peer": round(row.microseconds / by_name[benchmark.peer], 3),
                "peer": benchmark.peer,
                "goal_microseconds": row.goal,
                "within_goal": None if row.goal is None else row.microseconds < row.goal,
                "note": row.note,
            }
            for row in rows
        ],
    }


def show(console: Console, name: str, rows: list[Row]) -> None:
    benchmark = BENCHMARKS[name]
    by_name = {row.name: row.microseconds for row in rows}
    table = Table(title=benchmark.title)
    table.add_column("what")
    for heading in ("µs", "× bare", f"× {benchmark.peer}", "goal µs"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in rows:
        to_bare, to_peer = row.microseconds / by_name[benchmark.bare], row.microseconds / by_name[benchmark.peer]
        goal = "" if row.goal is None else f"< {row.goal:g} {'✓' if row.microseconds < row.goal else '✗'}"
        table.add_row(row.name, f"{row.microseconds:.2f}", f"{to_bare:.1f}", f"{to_peer:.3f}", goal, row.note)
    console.print(table)


@click.command()
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures there.")
@click.argument("names", nargs=-1, type=click.Choice(sorted(BENCHMARKS)))
def main(path: Path | None, names: tuple[str, ...]) -> None:
    """Measure, print a table, and write JSON if asked."""
    console, found = Console(), {}
    if not console.is_terminal:
        console.width = 120
    for name in names or BENCHMARKS:
        rows = BENCHMARKS[name].measure()
        show(console, name, rows)
        found[name] = document(name, rows)
    if path is not None:
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "machine": platform.machine()}
        path.write_text(json.dumps({"machine": machine, "benchmarks": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
