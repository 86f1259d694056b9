"""What guard and capture cost a writer, and whether catch-up outruns the writers.

Short laps without triggers, with guard and capture, and with a trigger that does nothing but note a constant (the bare
limit of what is noted by triggers) take turns, so that the machine's noise hits all of them; what the triggers cost is
told of all laps, and of those in which the machine kept its speed. What the laps with capture have noted is then
drained by one, two or four processes. No catch-up runs while writers are timed.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.crew import WRITERS, Drained, Hand, Watcher, Writers, carry, hired
from benchmarks.machine import Speed
from benchmarks.row import Row
from benchmarks.stage import staged
from benchmarks.writer import Report
from harness.catchup import Carried
from harness.routing import Store

CREWS = (1, 2, 4, 1, 2, 4)  # workers that drain after each round
LAPS = 6  # before each drain
LAP_SECONDS = 0.5
TRIGGERS_GOAL = 0.75  # of the throughput without them
CARRYING_GOAL = 2.0  # times the writers' throughput


def measure(manner: str) -> list[Row]:
    """``manner``: how the writers write, one of ``manners.MANNERS``."""
    with ExitStack() as stack:
        stage = stack.enter_context(staged(time.monotonic))
        writers = Writers(stage, stack, manner)
        workers = hired(stack, [Hand(carry, stage.settings) for _ in range(max(CREWS))])
        rows = _one_way(writers, workers, Watcher(stack), Store.LEGACY)
        stage.settle(time.monotonic)
        stage.ramp(100)
        rows += _one_way(writers, workers, Watcher(stack), Store.NEW)
        stage.settle(time.monotonic)
    return rows


def _one_way(writers: Writers, workers: Sequence[Hand], watcher: Watcher, store: Store) -> list[Row]:
    bare, noting, guarded = list[Report](), list[Report](), list[Report]()
    drained: dict[int, list[tuple[Carried, float]]] = defaultdict(list)
    writers.write(store.value, 0.5)  # so that plans, caches and the workers' statements are warm
    for crew in (1, 2, 4):
        writers.write(store.value, 0.2)
        _drain(workers[:crew], store)
    for crew in CREWS:
        for _ in range(LAPS):
            bare += writers.write(f"bare {store}", LAP_SECONDS)
            guarded += writers.write(store.value, LAP_SECONDS)
            noting += writers.write(f"noting {store}", LAP_SECONDS)
        drained[crew].append(_drain(workers[:crew], store))
    speed = watcher.end()
    kept_off, kept_on = _each(_kept(bare, speed)), _each(_kept(guarded, speed))
    off, limit, on = _each(bare), _each(noting), _each(guarded)
    rows = [
        Row(f"{store}: a write, no trigger", off, note=_rate(off, "writes")),
        Row(f"{store}: a write, a constant noted", limit, note=f"{_rate(limit, 'writes')}, {off / limit:.2f}"),
        Row(f"{store}: a write, guard and capture", on, off / TRIGGERS_GOAL, f"{_rate(on, 'writes')}, {off / on:.2f}"),
        Row(
            f"{store}: the same, machine at its speed",
            kept_on,
            kept_off / TRIGGERS_GOAL,
            f"{_rate(kept_on, 'writes')}, {kept_off / kept_on:.2f}",
        ),
    ]
    for crew, found in sorted(drained.items()):
        seconds = sum(took for _, took in found)
        done = sum((carried for carried, _ in found), Carried())
        # A note is of a write, or of both sides of one that moved a row: so in writes, not in notes.
        writes = sum(len(report.took) for report in guarded) * len(found) / len(CREWS)
        each = seconds / writes * 1e6
        note = f"{on / each:.2f} × the writers; {done.notes / seconds:,.0f} notes/s, "
        note += f"{(done.upserted + done.deleted) / seconds:,.0f} rows/s"
        name = f"{store}: a write carried over, {crew} worker{'s' if crew > 1 else ''}"
        rows.append(Row(name, each, on / CARRYING_GOAL if crew == 1 else None, note))
    return rows


def _drain(workers: Sequence[Hand], store: Store) -> tuple[Carried, float]:
    """What the workers carried, and how many seconds it took them together."""
    for worker in workers:
        worker.tell(store)
    found: list[Drained] = [worker.hear() for worker in workers]
    done = sum((each.carried for each in found), Carried())
    return done, max(each.ended for each in found) - min(each.began for each in found)


def _each(reports: Sequence[Report]) -> float:
    """Microseconds of one write, all writers taken together."""
    return sum(report.seconds for report in reports) / WRITERS / sum(len(report.took) for report in reports) * 1e6


def _kept(reports: Sequence[Report], speed: Speed) -> list[Report]:
    """The reports of laps in which the machine kept its speed; all of them, if it never did."""
    return [each for each in reports if speed.kept(each.ended[-1] - each.seconds, each.ended[-1])] or list(reports)


def _rate(microseconds: float, what: str) -> str:
    return f"{1e6 / microseconds:,.0f} {what}/s"
