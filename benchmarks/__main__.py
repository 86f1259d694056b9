"""``python -m benchmarks [--json FILE] [NAME …]``: each benchmark in one run, as tables and as JSON.

A new benchmark is a file with ``measure() -> list[Row]`` and a line in BENCHMARKS. Figures of different runs, or of
different machines, do not compare; the ratios within one run do.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import carrying, compare, looking, moving, router
from benchmarks.row import Figures, Row
from benchmarks.volume import growth, kills
from harness.errors import CrossfadeError

MANNERS = {"": "service", "-bare": "bare"}  # by how the benchmark's name ends
TITLES = {"service": "writes as the stores' own services make them", "bare": "bare writes, one statement each"}
SIZES = (1_000_000, 3_000_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Options:
    """``rows``: the sizes that volume is measured at. ``repeats``: how often each way takes its turn."""

    rows: Sequence[int] = SIZES
    repeats: int = 3
    seed: int = 1
    log: Console = field(default_factory=lambda: Console(stderr=True))


@dataclass(frozen=True, slots=True)
class Benchmark:
    """``asked_for``: only measured when it is named."""

    measure: Callable[[Options], list[Figures]]
    asked_for: bool = False


def table(title: str, measure: Callable[[], list[Row]], bare: str, peer: str) -> Benchmark:
    """A benchmark that takes no options and makes one table."""
    return Benchmark(lambda _: [Figures(title, bare, peer, tuple(measure()))])


def moving_table(manner: str) -> Benchmark:
    return table(
        "Moving authority under four writing processes: what writers wait, and how far catch-up lags"
        f" ({TITLES[manner]})",
        lambda: moving.measure(manner),
        "a write, the median",
        "a write, the slowest while nothing moves",
    )


def carrying_table(manner: str) -> Benchmark:
    return table(
        f"Guard and capture, and catch-up against the writers ({TITLES[manner]})",
        lambda: carrying.measure(manner),
        "legacy: a write, no trigger",
        "legacy: a write, guard and capture",
    )


BENCHMARKS = {
    "router": table(
        "One routed read, the caller's cost, going flat out", router.measure_flat_out, "bare call", "laboratory"
    ),
    "router-paced": table(
        "One routed read, the caller's cost, a thousand a second", router.measure_paced, "bare call", "laboratory"
    ),
    "compare": table(
        "Comparing two answers", compare.measure, "bare ==, equal records of 8 fields", "DeepDiff, equal records"
    ),
    **{f"moving{suffix}": moving_table(manner) for suffix, manner in MANNERS.items()},
    **{f"carrying{suffix}": carrying_table(manner) for suffix, manner in MANNERS.items()},
    "looking": Benchmark(lambda options: looking.measure(options.seed)),
    "volume": Benchmark(lambda options: growth.measure(options.rows, options.repeats, options.log)),
    "volume-kills": Benchmark(
        lambda options: [kills.measure(options.rows[0], options.seed, options.log)], asked_for=True
    ),
}


def document(figures: Figures) -> dict[str, object]:
    """The rows with their ratios, as the JSON file holds them."""
    by_name = {row.name: row.microseconds for row in figures.rows}
    return {
        "title": figures.title,
        "unit": figures.unit,
        "rows": [
            {
                "name": row.name,
                "amount": round(row.microseconds, 3),
                "to_bare": round(ratio(row.microseconds, by_name[figures.bare]), 2),
                "to_peer": round(ratio(row.microseconds, by_name[figures.peer]), 3),
                "peer": figures.peer,
                "goal": row.goal,
                "within_goal": None if row.goal is None else row.microseconds < row.goal,
                "peak_bytes": row.peak_bytes,
                "note": row.note,
            }
            for row in figures.rows
        ],
    }


def ratio(amount: float, to: float) -> float:
    """How many times as much; 0 of nothing."""
    return amount / to if to else 0.0


def show(console: Console, figures: Figures) -> None:
    by_name = {row.name: row.microseconds for row in figures.rows}
    table = Table(title=figures.title)
    table.add_column("what")
    for heading in (figures.unit, "× bare", f"× {figures.peer}", f"goal {figures.unit}"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in figures.rows:
        to_bare, to_peer = (ratio(row.microseconds, by_name[name]) for name in (figures.bare, figures.peer))
        goal = "" if row.goal is None else f"< {row.goal:g} {'✓' if row.microseconds < row.goal else '✗'}"
        table.add_row(row.name, f"{row.microseconds:.2f}", f"{to_bare:.1f}", f"{to_peer:.3f}", goal, row.note)
    console.print(table)


@click.command()
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures there.")
@click.option(
    "--rows",
    type=click.IntRange(10, 100_000_000),
    multiple=True,
    default=SIZES,
    show_default=True,
    help="How many prompts volume is measured with; give it again for further sizes.",
)
@click.option(
    "--repeats", type=click.IntRange(1), default=3, show_default=True, help="How often each way of volume is measured."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed kills at other moments.")
@click.argument("names", nargs=-1, type=click.Choice(sorted(BENCHMARKS)))
def main(path: Path | None, rows: tuple[int, ...], repeats: int, seed: int, names: tuple[str, ...]) -> None:
    """Measure, print tables, and write JSON if asked."""
    console, found = Console(), {}
    if not console.is_terminal:
        console.width = 170
    options = Options(rows, repeats, seed)
    for name in names or [name for name, benchmark in BENCHMARKS.items() if not benchmark.asked_for]:
        try:
            tables = BENCHMARKS[name].measure(options)
        except CrossfadeError as error:
            raise click.ClickException(str(error)) from error
        for figures in tables:
            show(console, figures)
        found[name] = [document(figures) for figures in tables]
    if path is not None:
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "machine": platform.machine()}
        path.write_text(json.dumps({"machine": machine, "benchmarks": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
