"""The ``crossfade`` command."""

from __future__ import annotations

import importlib
from importlib.metadata import version

import click

from harness.cli.app import quiet_driver

# Name, and the module that holds it: imported when it is asked for, so that --help is quick.
COMMANDS = {
    "demo": "harness.cli.demo.command",
    "init": "harness.cli.init",
    "assess": "harness.cli.assess",
    "prepare": "harness.cli.prepare",
    "backfill": "harness.cli.backfill",
    "catchup": "harness.cli.catchup",
    "verify": "harness.cli.verify",
    "quarantine": "harness.cli.quarantine",
    "baseline": "harness.cli.baseline",
    "run": "harness.cli.run",
    "ramp": "harness.cli.ramp",
    "cutover": "harness.cli.cutover",
    "rollback": "harness.cli.rollback",
    "resume": "harness.cli.resume",
    "status": "harness.cli.status",
    "report": "harness.cli.report",
    "boards": "harness.cli.boards",
    "repair": "harness.cli.repair",
    "rogue": "harness.cli.rogue",
    "complete": "harness.cli.complete",
    "uninstall": "harness.cli.uninstall",
}


class Commands(click.Group):
    """The commands in the order in which a migration needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        found: click.Command = getattr(importlib.import_module(module), cmd_name)
        return found


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("crossfade"), prog_name="crossfade")
def main() -> None:
    """Move a live service from one store to another, without stopping it and without losing a write.

    \b
    Exit codes:
      0 done · 1 unexpected · 2 usage or configuration · 3 mismatch found
      4 refused by a gate · 5 store unavailable · 6 another command holds the lock

    \b
    Example:
      crossfade demo
    """
    quiet_driver()
