"""``python -m harness.cli.pages DIRECTORY`` writes the generated parts of the documentation anew."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from adapters.metrics.page import as_markdown as metrics
from harness.cli.configuration import as_markdown
from harness.cli.main import COMMANDS, main

_CONFIGURATION = """\
# Configuration

Settings come from `crossfade.toml` in the working directory (or `--config FILE`); `crossfade init` writes one to start
from. An unknown key is an error. This page is generated from the settings themselves (`make docs`).

Addresses hold passwords, so they are better given in the environment, which wins over the file:

| variable | meaning |
| --- | --- |
| `CROSSFADE_LEGACY_URL`, `CROSSFADE_NEW_URL` | `postgresql://USER:PASSWORD@HOST:PORT/DATABASE` |
| `CROSSFADE_PROMETHEUS_URL` | `http(s)://[USER:PASSWORD@]HOST[:PORT][/PATH]`, for `gates.prometheus_url` |
| `DATABASE_HOSTNAME`, `_PORT`, `_NAME`, `_CREDENTIALS` | Dispatch's own, where the above is not set |
| `POSTGRES_HOST`, `_PORT`, `_DB`, `_USER`, `_PASSWORD` | Prompt Manager's own, likewise |
| `CROSSFADE_ACTOR` | who acts, for the ledger; else the login name |
| `CROSSFADE_DEBUG` | set, an unexpected error shows its traceback |
| `CROSSFADE_FAILPOINTS` | for tests: lets the process die at a named point (`harness/failpoints.py`) |
| `CROSSFADE_TEST_URL`, `CROSSFADE_RECORDINGS` | for tests: another server, and where recordings are |

"""

_COMMANDS = """\
# Commands

This page is what `crossfade COMMAND --help` says (`make docs`). Exit codes of all commands: 0 done · 1 unexpected ·
2 usage or configuration · 3 mismatch found · 4 refused by a gate · 5 store unavailable · 6 another command holds the
lock.

"""


def commands() -> str:
    """The page of all commands."""
    context = click.Context(main, info_name="crossfade", **main.context_settings)
    pages = []
    for name in COMMANDS:
        command = main.get_command(context, name)
        if command is None:
            raise LookupError(name)
        told = command.get_help(click.Context(command, info_name=name, parent=context, terminal_width=100))
        pages.append(f"## crossfade {name}\n\n```\n{told}\n```\n")
        if isinstance(command, click.Group):
            above = click.Context(command, info_name=name, parent=context)
            for each, within in command.commands.items():
                told = within.get_help(click.Context(within, info_name=each, parent=above, terminal_width=100))
                pages.append(f"### crossfade {name} {each}\n\n```\n{told}\n```\n")
    return _COMMANDS + "\n".join(pages)


def configuration() -> str:
    """The page of all settings."""
    return _CONFIGURATION + as_markdown()


PAGES = {"configuration.md": configuration, "commands.md": commands, "metrics.md": metrics}


def write(directory: Path) -> None:
    for name, page in PAGES.items():
        (directory / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
