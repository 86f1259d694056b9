"""What every command shares: its common options, its way to say things, and its exit code."""

from __future__ import annotations

import inspect
import json
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.config import load
from harness.errors import ConfigError, CrossfadeError, Refused
from harness.records import Verdict
from harness.routing import percent
from harness.settings import Settings

MARKS = {Verdict.PASS: "[green]pass[/]", Verdict.FAIL: "[red]fail[/]", Verdict.INCONCLUSIVE: "[yellow]inconclusive[/]"}


class Outlet(Console):
    """A console whose reader may go, as ``head`` does: what is said then is lost, and the work goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _silence(self.file)


@dataclass(frozen=True, slots=True)
class App:
    """One invocation: its settings, and where it speaks. Results go to ``out``, all else to ``log``."""

    settings: Settings
    json: bool
    out: Console
    log: Console
    stop: threading.Event = field(default_factory=threading.Event)

    def say(self, text: str) -> None:
        """A line for people, on standard error."""
        self.log.print(text, highlight=False, markup=False, soft_wrap=True)

    def result(self, document: Mapping[str, Any], show: Callable[[Console], None]) -> None:
        """The command's result: one JSON document for scripts, or what ``show`` prints for people.

        A reader that has gone has seen enough: the command ends as it would have. Raises ConfigError where the result
        cannot be written for another reason, as on a full disk.
        """
        try:
            if self.json:
                click.echo(json.dumps(document, default=str, ensure_ascii=False))
            else:
                show(self.out)
        except BrokenPipeError:
            _silence(sys.stdout)
        except OSError as error:
            _silence(sys.stdout)
            raise ConfigError(
                f"cannot write the result to standard output: {error.strerror}. What was done stays done; crossfade "
                "status shows it"
            ) from error


def command(
    example: str, *, name: str | None = None, settings: bool = True
) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command with ``--config`` and ``--json``, an example in its help, and our exit codes.

    The function gets an ``App`` first, with the defaults if it needs no ``settings``. Errors of ours become one line on
    standard error.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        def run(config: Path | None, as_json: bool, **arguments: Any) -> None:
            _refuse_broken_text(arguments)
            log = Outlet(stderr=True)
            try:
                app = App(load(config, os.environ) if settings else Settings(), as_json, Outlet(), log)
                with _stopping(app.stop):
                    function(app, **arguments)
            except CrossfadeError as error:
                log.print(f"[bold red]crossfade:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
                sys.exit(error.exit_code)
            except (click.ClickException, click.Abort):
                raise  # click's own: a usage error, or a question that was answered with Ctrl-C
            except KeyboardInterrupt:
                log.print("crossfade: interrupted; what is durable stays, run the command again to go on")
                sys.exit(1)
            except Exception as error:
                if os.environ.get("CROSSFADE_DEBUG"):
                    raise
                log.print(
                    f"crossfade: unexpected {type(error).__name__}; set CROSSFADE_DEBUG=1 to see where", soft_wrap=True
                )
                sys.exit(1)

        told = inspect.cleandoc(function.__doc__ or "")
        described = f"{told}\n\n\b\nExample:\n  {example}"
        built = click.command(name or function.__name__.replace("_", "-"), help=described)(run)
        # The whole first sentence, which click would cut off in the list of commands.
        built.short_help = " ".join(told.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")
        built.params = [*getattr(function, "__click_params__", [])[::-1]]
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")(built)
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            help="The settings file.  [default: crossfade.toml, if it is there]",
        )(built)
        return built

    return decorate


def _refuse_broken_text(arguments: Mapping[str, Any]) -> None:
    """Usage error for an argument that no database would take."""
    for name, value in arguments.items():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, str) and not _is_text(each):
                raise click.UsageError(f"what {name.replace('_', ' ')} says is no text in UTF-8")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Percent(click.ParamType[float]):
    """A share from 0 to 100 in steps of 0.01."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return percent(value)
        except CrossfadeError as error:
            self.fail(str(error), param, ctx)


PERCENT = Percent()


class FiniteRange(click.FloatRange):
    """A number within bounds: click's own type lets NaN through every bound, and infinity where there is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def reason_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--reason``, for commands that decide something; it goes into the ledger."""
    return click.option("--reason", default="", help="Why; kept in the ledger with your name.")(function)


def confirmed(app: App, question: str, *, yes: bool) -> None:
    """Ask before an act, unless ``--yes`` was given; Refused where nobody can be asked."""
    if yes:
        return
    if app.json or not keys_at_hand():
        raise Refused(f"{question} Nobody is there to ask: give --yes to say so beforehand")
    # Here Ctrl-C is an answer. To ask for a stop would leave the question standing, and a later yes be obeyed.
    asking = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # the question's line is still open
        agreed = False
    finally:
        signal.signal(signal.SIGINT, asking)
    if not agreed:
        raise Refused("nothing was changed, as you wished")


def keys_at_hand() -> bool:
    """Whether standard input is a terminal. It may also be closed."""
    return sys.stdin is not None and sys.stdin.isatty()


def quiet_driver() -> None:
    """Let the libraries' pools say nothing of a store that is away, in this process: we say it ourselves."""
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


def actor() -> str:
    """Who acts: CROSSFADE_ACTOR, else the login name."""
    name = os.environ.get("CROSSFADE_ACTOR") or os.environ.get("USER") or f"uid {os.getuid()}"
    return name if _is_text(name) else name.encode("utf-8", "replace").decode()


def facts(rows: Mapping[str, object]) -> Table:
    """A borderless table of names and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), escape(_said(value)))
    return table


def _said(value: object) -> str:
    """A value as people say it; scripts have ``--json``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_said(of)} {name.replace('_', ' ')}" for name, of in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value)) or "none"
    return "none" if value is None else str(value)


def _silence(stream: IO[str]) -> None:
    """Let what is still to be written to the stream vanish, or Python itself complains of it at its end."""
    with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM sets ``stop``, so that long work ends at its next durable step; a second ends it."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
