"""``crossfade status --watch``: the live page in a terminal, and what stands in its place where there is none."""

from __future__ import annotations

import json
import math
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click
from rich.live import Live

from adapters.prompts.migration import opened
from harness.cli.app import App, keys_at_hand
from harness.cli.watch_frame import HEIGHT, WIDTH, frame
from harness.cli.watching import SLOW_SECONDS, Watching
from harness.watched import told

_STEP_SECONDS = 0.1  # how soon a key or a signal is noticed
_NARROWEST, _LOWEST = 20, 4


def watch(app: App, seconds: float) -> None:
    """Show the migration until q, SIGINT or SIGTERM. Raises StoreUnavailable for a store that is away to begin with."""
    with opened(app.settings, application="crossfade status") as stores:
        watching = Watching(stores)
        # However rarely it is shown: a curve wants a look in each of its points, and nothing shown is to be old.
        with watching.looking(min(seconds, SLOW_SECONDS)):
            if app.json or not app.out.is_terminal or app.out.is_dumb_terminal:
                _in_blocks(app, watching, seconds)
            else:
                _on_screen(app, watching, seconds)


def _on_screen(app: App, watching: Watching, seconds: float) -> None:
    with _keys(app) as ended, Live(console=app.out, screen=True, auto_refresh=False) as live:
        while math.isinf(watching.age):
            if ended(_STEP_SECONDS):
                return
        hint = "q quits" if keys_at_hand() else "Ctrl-C quits"
        while True:
            shown = watching.begun
            width, height = max(_NARROWEST, app.out.width), max(_LOWEST, app.out.height)
            live.update(frame(told(watching.document()), width, height, hint), refresh=True)
            if ended(seconds if shown else min(seconds, 2 * _STEP_SECONDS)):  # the first look is shown at once
                return


def _in_blocks(app: App, watching: Watching, seconds: float) -> None:
    """One block of text, or one line of JSON, for each look, beginning with the first whole one."""
    while not watching.begun and not app.stop.wait(_STEP_SECONDS):
        pass
    while not app.stop.is_set():
        document = watching.document()
        text = json.dumps(document, default=str, ensure_ascii=False)
        if not app.json:
            text = "\n".join(line.rstrip() for line in frame(told(document), WIDTH, HEIGHT).plain.splitlines()) + "\n"
        try:
            click.echo(text)
        except BrokenPipeError:  # whoever read it has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
            return
        app.stop.wait(seconds)


@contextmanager
def _keys(app: App) -> Iterator[Callable[[float], bool]]:
    """Waits for so many seconds and says whether somebody asked to end, by q or a signal.

    Within the block keys are read as they are struck and not echoed; afterwards the terminal is as it was.
    """
    if not keys_at_hand():
        yield app.stop.wait
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def ended(seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not app.stop.is_set() and (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([descriptor], [], [], min(left, _STEP_SECONDS))
            if ready and (struck := os.read(descriptor, 64)) is not None and (not struck or b"q" in struck.lower()):
                return True
        return app.stop.is_set()

    try:
        tty.setcbreak(descriptor)
        yield ended
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
