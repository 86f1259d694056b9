"""The crossfade command, run as a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import failpoints
from harness.cli.main import COMMANDS, main
from harness.settings import Settings

# Processes are forked from one that has imported everything: nearly all of a short command's time is imports.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["command", *COMMANDS.values()])
_SECONDS = 300.0


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """This process's environment, with the stores' addresses."""
    return os.environ | {"CROSSFADE_LEGACY_URL": settings.legacy.url, "CROSSFADE_NEW_URL": settings.new.url} | more


def crossfade(settings: Settings, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the settings' databases; ``more`` goes into its environment."""
    with tempfile.TemporaryDirectory() as place:
        out, errors = Path(place) / "out", Path(place) / "errors"
        where = (str(Path.cwd()), str(out), str(errors))
        process = _context.Process(target=_run, args=(arguments, environment(settings, **more), *where))
        process.start()
        process.join(_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["crossfade", *arguments], _SECONDS)
        return subprocess.CompletedProcess(
            ["crossfade", *arguments], process.exitcode, out.read_text(), errors.read_text()
        )


def _run(arguments: Sequence[str], values: Mapping[str, str], place: str, out: str, errors: str) -> None:
    """Become the command: working directory, environment and streams as a shell would give them."""
    os.chdir(place)
    os.environ.clear()
    os.environ.update(values)
    failpoints.arm(values.get("CROSSFADE_FAILPOINTS", ""))
    for descriptor, path in ((1, out), (2, errors)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    sys.argv = ["crossfade", *arguments]
    main()


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on standard output."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found
