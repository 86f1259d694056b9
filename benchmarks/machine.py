"""When the machine itself went slow, or stood still: a piece of work that is always the same, done again and again.

A virtual machine shares its processors with others. For a tenth of a second it may get a tenth of one, or nothing, and
is not told (no steal time); whatever is timed then says something about the machine, and nothing about us. What the
work takes is timed by the processor that it had, so that waiting for our own processes does not count. Where the system
lets it, it waits for none of them either (a realtime process), and one that was kept waiting says the machine stood.
"""

from __future__ import annotations

import os
import statistics
import time
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

BEAT_SECONDS = 0.004  # between two pieces of work
SLOW = 1.5  # times as long as in the middle
STANDING_SECONDS = 0.02  # between two pieces of work, where nobody has precedence
_STEPS = 2000  # of one piece: some 100 µs

Span = tuple[float, float]  # seconds since 1970


@dataclass(slots=True)
class Beats:
    """When each piece of work began and ended (seconds since 1970), and how long a processor was at it (seconds)."""

    began: array[float] = field(default_factory=lambda: array("d"))
    ended: array[float] = field(default_factory=lambda: array("d"))
    took: array[float] = field(default_factory=lambda: array("d"))
    first: bool = False  # whether the work waited for none of our processes


class Speed:
    """What the beats say of the machine, from the first to the last of them."""

    def __init__(self, beats: Beats) -> None:
        took, limit = beats.took, SLOW * statistics.median(beats.took)
        # Two of three: a single one was interrupted. The time up to the neighbours counts, for nothing is known of it.
        slow = [at for at in range(1, len(took) - 1) if statistics.median(took[at - 1 : at + 2]) > limit]
        spans = [(beats.ended[at - 1], beats.began[at + 1]) for at in slow]
        if beats.first:
            pauses = zip(beats.ended[:-1], beats.began[1:], strict=True)
            spans += [(ended, began) for ended, began in pauses if began - ended > STANDING_SECONDS]
        self._spans = _merged(sorted(spans))
        self._ends = [ended for _, ended in self._spans]
        self._whole = beats.ended[-1] - beats.began[0]

    @property
    def slow_share(self) -> float:
        """Of the time that was watched."""
        return sum(ended - began for began, ended in self._spans) / self._whole

    def kept(self, began: float, ended: float) -> bool:
        """Whether the machine kept its speed all the time between two moments."""
        at = bisect_left(self._ends, began)
        return at == len(self._spans) or self._spans[at][0] > ended


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for began, ended in spans:
        if merged and began <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(ended, merged[-1][1]))
        else:
            merged.append((began, ended))
    return merged


def watch(pipe: Connection, stop: Event) -> None:
    """A process: beat until the event is set, then say what was found."""
    pipe.send("ready")
    pipe.recv()
    beats = Beats(first=_go_first())
    while not stop.wait(BEAT_SECONDS):
        began, at = time.time(), time.thread_time()
        _work()
        beats.took.append(time.thread_time() - at)
        beats.began.append(began)
        beats.ended.append(time.time())
    pipe.send(beats)


def _go_first() -> bool:
    """Take precedence over all processes that are not realtime ones; False where the system does not let us."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, PermissionError):  # the first where there are no such processes
        return False
    return True


def _work() -> int:
    done = 0
    for step in range(_STEPS):
        done += step
    return done
