"""``python -m chaos``: the long form. Exits with 1 on a violation, and tells the history of the record."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from chaos.campaign import Plan, campaign


@click.command()
@click.option("--faults", type=click.IntRange(1), default=1000, show_default=True, help="How many to inject.")
@click.option("--seed", type=int, default=1, show_default=True, help="What is drawn follows from it.")
@click.option("--seconds", type=float, default=float("inf"), help="No new fault after so long.")
@click.option("--gap", type=float, default=0.6, show_default=True, help="Seconds between two faults, on average.")
def main(faults: int, seed: int, seconds: float, gap: float) -> None:
    """Let everything die while authority moves, and check afterwards that nothing was lost."""
    console = Console(stderr=True)
    with console.status("building a world …") as status:
        result = campaign(Plan(seed, faults, gap, seconds), lambda told: status.update(f"seed {seed}: {told}"))
    click.echo(str(result))
    sys.exit(1 if result.violations else 0)


if __name__ == "__main__":
    main()
