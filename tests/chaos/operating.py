"""The operator: moves authority up, down, over and back, without a plan, and notes how each command ended."""

from __future__ import annotations

import threading
from collections import Counter
from multiprocessing.process import BaseProcess
from random import Random

from chaos.children import ends, kill
from chaos.world import COMMAND_SECONDS, Ended, World
from harness.failpoints import NAMES
from harness.gates import GATES

# 0 done, 3 mismatch found, 4 refused, 5 store unavailable, 6 another command holds the lock; -9 somebody killed it.
EXPECTED = frozenset({0, 3, 4, 5, 6, -9})
# What a run under fire cannot offer, or not always: a pass of each gate, a recent verification, no long transaction.
_OBSTACLES = ("--despite", "verified", "--despite", "long_transactions")
_GATES = tuple(word for gate in GATES for word in ("--despite", gate))
_POINTS = sorted(name for name in NAMES if name.partition(".")[0] in {"move", "recover"})
_PAUSE_SECONDS = 0.5


class Operator:
    """One who gives commands in a thread, until stopped. ``present`` is the command under way."""

    def __init__(self, world: World, name: str, seed: int) -> None:
        self._world, self._random = world, Random(seed)
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._run, name=name, daemon=True)
        self.present: BaseProcess | None = None
        self.ended: Counter[tuple[str, int]] = Counter()
        self.died_at: Counter[str] = Counter()  # failpoints
        self.moves = 0  # commands that moved authority and said so
        self.wrong: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(COMMAND_SECONDS + 10)
        if self._thread.is_alive():
            self.wrong.append("the operator's last command does not end")

    def _run(self) -> None:
        while not self._stop.wait(self._random.random() * _PAUSE_SECONDS):
            arguments = self._draw()
            point = self._random.choice(_POINTS) if _POINTS and self._random.random() < 0.3 else ""
            process, output = self._world.begin(*arguments, **_armed(point))
            self.present = process
            if not ends(process, COMMAND_SECONDS):
                kill(process)
                ends(process)
                self.wrong.append(f"crossfade {' '.join(arguments)} did not end within {COMMAND_SECONDS:.0f} s")
            self.present = None
            self._note(Ended(arguments, process.exitcode or 0, output.read_text(encoding="utf-8")), point)

    def _draw(self) -> tuple[str, ...]:
        percent = self._random.choice((0, 10, 25, 50, 75, 100))
        because = ("--reason", "chaos", "--json", *_OBSTACLES)
        acts: dict[tuple[str, ...], int] = {
            ("ramp", "--writes", str(percent), *because): 6,
            ("ramp", str(percent), *because): 2,
            ("cutover", "--yes", *because, *_GATES): 2,
            ("rollback", *because): 2,
            ("resume", "--json"): 1,
        }
        return self._random.choices(list(acts), list(acts.values()))[0]

    def _note(self, ended: Ended, point: str) -> None:
        self.ended[ended.arguments[0], ended.code] += 1
        self.moves += ended.code == 0 and ended.document.get("loser") is not None and ended.document["changed"]
        if ended.code == -9 and point:
            self.died_at[point] += 1
        if ended.code not in EXPECTED:
            said = ended.output[-6000:]
            self.wrong.append(f"crossfade {' '.join(ended.arguments)} ended with {ended.code}: {said}")


def _armed(point: str) -> dict[str, str]:
    return {"CROSSFADE_FAILPOINTS": f"{point}=kill"} if point else {"CROSSFADE_FAILPOINTS": ""}
