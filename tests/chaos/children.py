"""Processes: clients and crossfade commands, each forked from a server that has imported everything beforehand.

A real process with its own memory, connections and death, for a tenth of the time that a new interpreter takes; so
that a thousand faults fit into minutes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import wait
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path

from chaos.clients import Task, run_raw, run_routed
from harness import failpoints
from harness.cli.main import main
from harness.routing import Store

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["chaos.preload"])


@cache
def _fork_server() -> None:
    """Start it where it finds what it is to import beforehand: it goes by the environment, not by our ``sys.path``."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), before]))
    try:
        ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a child lives: its directory (with the settings file), its environment, and where its words go."""

    directory: Path
    environment: Mapping[str, str]
    output: Path

    def enter(self) -> None:
        os.chdir(self.directory)
        os.environ.update(self.environment)
        file = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)


def start(surroundings: Surroundings, work: Callable[..., None], *arguments: object) -> BaseProcess:
    _fork_server()
    process = context.Process(target=_enter, args=(surroundings, work, *arguments), daemon=True)
    with _codes:
        process.start()
    return process


def _enter(surroundings: Surroundings, work: Callable[..., None], *arguments: object) -> None:
    surroundings.enter()
    work(*arguments)


def command(arguments: Sequence[str]) -> None:
    """The crossfade command; the process ends with its exit code."""
    failpoints.arm(os.environ.get("CROSSFADE_FAILPOINTS", ""))
    sys.argv = ["crossfade", *arguments]
    main(list(arguments), prog_name="crossfade")


def application(task: Task) -> None:
    run_routed(task, _stopped_by_sigterm())


def dispatch(task: Task) -> None:
    run_raw(task, Store.LEGACY, _stopped_by_sigterm())


def typescript(task: Task) -> None:
    run_raw(task, Store.NEW, _stopped_by_sigterm())


def _stopped_by_sigterm() -> threading.Event:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


def kill(process: BaseProcess, number: signal.Signals = signal.SIGKILL) -> bool:
    """Send the signal, and say whether the process was there to get it."""
    if process.pid is None or not runs(process):
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def runs(process: BaseProcess) -> bool:
    """Whether it has not ended. Any thread may ask; its own ``is_alive`` takes the exit code from who joins it."""
    return not wait([process.sentinel], 0)


def ends(process: BaseProcess, seconds: float | None = None) -> bool:
    """Wait so long for the process to end; whether it has, and then its exit code is there."""
    if not wait([process.sentinel], seconds):
        return False
    with _codes:
        process.join()
    return True


# Held by who takes exit codes. To start a process takes those of all that have ended, and of two threads that take one
# code the second is told 255.
_codes = threading.Lock()
