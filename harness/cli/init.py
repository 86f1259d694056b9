"""``crossfade init``: write a settings file to start from."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.app import App, command
from harness.cli.configuration import as_toml
from harness.config import DEFAULT_FILE
from harness.errors import ConfigError


@command("crossfade init", settings=False)  # it is there to get out of a file that cannot be read, too
@click.option(
    "--file", "path", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True, help="Where to."
)
def init(app: App, path: Path) -> None:
    """Write a settings file with every setting, its default and its meaning. Never overwrites one."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(as_toml())
    except FileExistsError:
        raise ConfigError(f"{path} is there already; it was left as it is") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    app.result(
        {"written": str(path)},
        lambda out: out.print(
            f"wrote {path}\nNow set CROSSFADE_LEGACY_URL and CROSSFADE_NEW_URL, and run crossfade assess",
            highlight=False,
        ),
    )
