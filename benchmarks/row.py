"""What a benchmark answers, and how one call is timed."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

BURST = 10
PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Row:
    """One measured way of doing a thing. Rows of one benchmark are shown as ratios to its ``bare`` row and its peer."""

    name: str
    microseconds: float
    goal: float | None = None  # microseconds
    note: str = ""
    peak_bytes: int | None = None  # of memory, in the process that was measured


@dataclass(frozen=True, slots=True)
class Figures:
    """One table. ``bare`` and ``peer`` name the rows that the others are set in relation to.

    ``unit``: what its rows count, where that is not microseconds.
    """

    title: str
    bare: str
    peer: str
    rows: tuple[Row, ...]
    unit: str = "µs"


def flat_out(call: Callable[[], object], seconds: float = 1.0) -> float:
    """Microseconds a call, the caller doing nothing else: what other threads take of the interpreter is in it."""
    for _ in range(200):
        call()
    gc.collect()
    calls, began = 0, time.perf_counter()
    while True:
        for _ in range(100):
            call()
        calls += 100
        took = time.perf_counter() - began
        if took >= seconds:
            return took / calls * 1e6


def paced(call: Callable[[], object], bursts: int = 150) -> float:
    """Microseconds a call, the median, at a thousand a second: bursts of ten with a pause before each.

    Bursts, because the first call after a pause measures cold caches and the processor's waking, even of a bare call.
    """
    durations = []
    gc.collect()
    for _ in range(bursts):
        time.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        for _ in range(BURST):
            call()
        durations.append((time.perf_counter() - began) / BURST)
    return statistics.median(durations) * 1e6
