"""``crossfade boards``: rules, alerts and boards for Prometheus, Alertmanager and Grafana."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from adapters.observability.files import Place, files
from harness.cli.app import App, command
from harness.errors import ConfigError

_ADDRESS = re.compile(r"[\w.-]+:\d{1,5}|\[[0-9A-Fa-f:.]+\]:\d{1,5}")
_DEFAULT = Place()


@command("crossfade boards monitoring --scrape 127.0.0.1:9108 --scrape 127.0.0.1:9109")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--scrape", multiple=True, metavar="HOST:PORT", help="A --metrics-port; repeatable.  [localhost:9108]")
@click.option("--job", default=_DEFAULT.job, show_default=True, help="The migration's name among others.")
@click.option(
    "--interval", type=click.IntRange(1, 60), default=_DEFAULT.seconds, show_default=True, help="Seconds of a scrape."
)
@click.option("--prometheus", default=_DEFAULT.prometheus, show_default=True, help="Where Grafana finds Prometheus.")
@click.option(
    "--alertmanager",
    default=_DEFAULT.alertmanager,
    show_default=True,
    metavar="HOST:PORT",
    help="Where Prometheus finds Alertmanager.",
)
@click.option(
    "--boards-at", default=_DEFAULT.boards, show_default=True, help="The folder in which Grafana finds the boards."
)
@click.option("--docs-url", default=_DEFAULT.documents, show_default=True, help="What runbook links begin with.")
def boards(app: App, directory: Path, **options: Any) -> None:
    """Write recording rules, alerts, boards and the configuration that joins them into a directory.

    The limits in them are those of the settings' gates. What is there already is written over; a file of yours under
    another name stays. No store is asked.
    """
    place = _place(**options)
    written = [str(write(directory / name, text)) for name, text in files(app.settings, place).items()]
    app.result(
        {"written": written}, lambda out: out.print("\n".join(["wrote", *written]), highlight=False, markup=False)
    )


def _place(  # each an option
    scrape: tuple[str, ...],
    job: str,
    interval: int,
    prometheus: str,
    alertmanager: str,
    boards_at: str,
    docs_url: str,
) -> Place:
    for address in (*scrape, alertmanager):
        if not _ADDRESS.fullmatch(address):
            raise ConfigError(f"{address} is not HOST:PORT, as in localhost:9108")
    if not re.fullmatch(r"[\w-]+", job):
        raise ConfigError(f"{job} is no name for a job; letters, digits, - and _ are")
    return Place(scrape or _DEFAULT.scraped, job, interval, prometheus, alertmanager, boards_at, docs_url)


def write(path: Path, text: str) -> Path:
    """Write a file at once, readable by all: Prometheus and Grafana run as other users."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}. Name another directory") from error
    return path
