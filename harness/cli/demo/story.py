"""What the demo tells while it goes on."""

from __future__ import annotations

import time

from rich.console import Console
from rich.rule import Rule


class Story:
    """Tells what happens, with the time since the beginning."""

    def __init__(self, out: Console) -> None:
        self.out, self._began = out, time.monotonic()
        self._holding = False

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def chapter(self, title: str) -> None:
        self.out.print(Rule(f"{self.elapsed:5.1f} s  {title}", align="left", style="dim"))

    def tell(self, text: str) -> None:
        self.out.print(text, highlight=False, markup=False)

    def tell_when(self, text: str) -> None:
        """What an automatic ramp says, with the time. That it holds is told once for each step."""
        holding = text.startswith("holding")
        if not (holding and self._holding):
            self.out.print(f"{self.elapsed:5.1f} s  {text}", highlight=False, markup=False)
        self._holding = holding
