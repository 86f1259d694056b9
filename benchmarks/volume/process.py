"""Programs run to their end: how long they took, what they said, and how much memory they held at most."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.volume.place import Place
from harness.errors import CrossfadeError

LONGEST_SECONDS = 3 * 3600.0  # what hangs is a failure too


@dataclass(frozen=True, slots=True)
class Lap:
    """``peak_bytes``: the most memory resident at once in the process, None where that is not known."""

    seconds: float
    document: Mapping[str, Any] = field(default_factory=dict)
    peak_bytes: int | None = None


def crossfade(place: Place, *arguments: str, expected: Sequence[int] = (0,)) -> Lap:
    """Run the crossfade command as a process of its own, from its start to its end."""
    with tempfile.TemporaryDirectory() as directory:
        told = Path(directory, "peak")
        command = [sys.executable, "-m", "benchmarks.volume.witness", str(told), *arguments, "--json"]
        began = time.monotonic()
        done = subprocess.run(
            command, env=place.environment, capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS
        )
        took = time.monotonic() - began
        if done.returncode not in expected:
            raise CrossfadeError(f"crossfade {arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        return Lap(took, json.loads(done.stdout), int(told.read_text()) if told.exists() else None)


def offers(place: Place, command: str, option: str) -> bool:
    """Whether a command of crossfade's knows an option."""
    told = subprocess.run(
        [sys.executable, "-m", "harness.cli", command, "--help"],
        env=place.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return option in told.stdout


def piped(
    giving: Sequence[str], taking: Sequence[str], giver_has: Mapping[str, str], taker_has: Mapping[str, str]
) -> Lap:
    """Run two programs, the output of the one the input of the other."""
    with tempfile.TemporaryFile("w+") as errors:
        began = time.monotonic()
        with (
            subprocess.Popen(giving, env=giver_has, stdout=subprocess.PIPE, stderr=errors) as giver,
            subprocess.Popen(
                taking, env=taker_has, stdin=giver.stdout, stdout=subprocess.DEVNULL, stderr=errors
            ) as taker,
        ):
            assert giver.stdout is not None
            giver.stdout.close()  # so that the giver is told when the taker ends early
            codes = [taker.wait(LONGEST_SECONDS), giver.wait(LONGEST_SECONDS)]
        took = time.monotonic() - began
        if any(codes):
            errors.seek(0)
            raise CrossfadeError(f"{giving[0]} | {taking[0]} ended with {codes}: {errors.read()[-500:]}")
    return Lap(took)


def alone(command: Sequence[str], environment: Mapping[str, str]) -> Lap:
    """Run one program; its failure is an error that quotes the end of what it said."""
    began = time.monotonic()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS
    )
    took = time.monotonic() - began
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise CrossfadeError(f"{Path(command[0]).name} ended with {done.returncode}: {said}")
    return Lap(took, {"said": done.stdout})
