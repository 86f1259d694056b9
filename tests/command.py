"""The crossfade command, run as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from harness.config import Settings


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """This process's environment, with the stores' addresses."""
    return os.environ | {"CROSSFADE_LEGACY_URL": settings.legacy.url, "CROSSFADE_NEW_URL": settings.new.url} | more


def crossfade(settings: Settings, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the settings' databases; ``more`` goes into its environment."""
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments],
        env=environment(settings, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on standard output."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found
