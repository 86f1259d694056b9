"""How long a move of authority holds writers up, and how far catch-up lags behind them.

Four processes write flat out, and one ``crossfade catchup --follow`` carries over. First authority is with legacy and
stays there, then it moves to and fro, then it is with new and stays there. At the end both stores must be equal, and
hold what the writers were told they hold. For comparison, lag is also measured beside writers that pause.

What is told of the worst moments is told twice: of all of them, and of those in which the machine kept its speed.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

from sqlalchemy import text

from benchmarks.crew import Hand, Moved, Sampler, Samples, Watcher, Writers, catching_up, hired, move
from benchmarks.machine import Span, Speed
from benchmarks.row import Row
from benchmarks.stage import SEED, Stage, staged
from benchmarks.writer import Report
from harness.routing import Store
from harness.settings import MoveSettings

MOVES = 60
CATCHUP_WORKERS = 1
STEADY_SECONDS = 6.0
WARM_SECONDS = 2.0  # until writers and catch-up are under way
PAUSE_SECONDS = 0.2  # between two moves
PACED_PAUSE = 0.002  # seconds between two writes of a writer that does not go flat out
MOVING_SECONDS = 150.0  # that the moves may take together
DRAIN_SECONDS = 3.0  # of writing that goes on before a move is refused; less than usual, to be done in time
CATCH_UP_SECONDS = 0.15  # after the machine was slow, until lag is what it was before
HELD_GOAL, SLOWEST_GOAL, LAG_GOAL = 25_000.0, 100_000.0, 50_000.0  # microseconds
_HELD = re.compile(r"held back for (\d+) ms")


@dataclass(frozen=True, slots=True)
class Measured:
    """One of what is measured, and when it was going on."""

    microseconds: float
    span: Span


@dataclass(frozen=True, slots=True)
class Paced:
    """A stretch of writers with pauses, and how many writes a second they made together."""

    span: Span
    rate: float


@dataclass(frozen=True, slots=True)
class Course:
    """What happened when: the two steady stretches, the moves (from the journal), and what these said of themselves."""

    steady: dict[Store, Span]
    moves: list[Span]
    held: list[float]  # microseconds
    retries: int
    refused: int


def measure(manner: str) -> list[Row]:
    """``manner``: how the writers write, one of ``manners.MANNERS``."""
    with ExitStack() as stack:
        stage = stack.enter_context(staged(time.monotonic, MoveSettings(drain_seconds=DRAIN_SECONDS)))
        writers, sampler, watcher = Writers(stage, stack, manner), Sampler(stage, stack), Watcher(stack)
        [mover] = hired(stack, [Hand(move, stage)])
        with catching_up(stage, CATCHUP_WORKERS):
            stage.await_carrying()
            paced = {Store.LEGACY: _paced(writers, Store.LEGACY)}
            writers.begin(Store.LEGACY)
            time.sleep(WARM_SECONDS)
            steady = {Store.LEGACY: _steady()}
            course = _move(stage, mover, steady)
            reports = writers.end()
            stage.settle(time.monotonic)
            _check(stage, reports)
            stage.ramp(100)
            paced[Store.NEW] = _paced(writers, Store.NEW)
            writers.begin(Store.NEW)
            time.sleep(WARM_SECONDS)
            steady[Store.NEW] = _steady()
            after = writers.end()
            samples, speed = sampler.end(), watcher.end()
        stage.settle(time.monotonic)
        _check(stage, after)
    return _rows(course, reports + after, samples, speed) + _paced_rows(paced, samples, speed)


def _paced(writers: Writers, store: Store) -> Paced:
    """Writers that leave the processors some room."""
    writers.begin(store, PACED_PAUSE)
    time.sleep(WARM_SECONDS)
    span = _steady()
    reports = writers.end()
    written = sum(span[0] <= at <= span[1] for report in reports for at in report.ended)
    return Paced(span, written / (span[1] - span[0]))


def _move(stage: Stage, mover: Hand, steady: dict[Store, Span]) -> Course:
    random, said, share, refused = Random(SEED), "", 0, 0
    until = time.monotonic() + MOVING_SECONDS
    for _ in range(MOVES):
        if time.monotonic() > until:
            break
        aim = random.choice([each for each in range(0, 101, 5) if abs(each - share) >= 10])
        mover.tell(aim)
        moved: Moved = mover.hear()
        if moved.refused:
            refused += 1
        else:
            said, share = said + moved.said, aim
        time.sleep(PAUSE_SECONDS)
    with stage.opened() as (_, stores, _), stores.new.connect() as connection:
        spans = "extract(epoch FROM began_at), extract(epoch FROM ended_at)"
        rows = connection.execute(text(f"SELECT {spans} FROM crossfade.journal WHERE state = 'done' ORDER BY id"))  # noqa: S608 - constants
        moves = [(float(row[0]), float(row[1])) for row in rows]
    held = [float(each) * 1000 for each in _HELD.findall(said)]
    return Course(steady, moves, held, said.count("attempt "), refused)


def _steady() -> Span:
    began = time.time()
    time.sleep(STEADY_SECONDS)
    return began, time.time()


def _check(stage: Stage, reports: Sequence[Report]) -> None:
    """Fail unless legacy, which equals new, holds every acknowledged write."""
    holds = {scope: content for report in reports for scope, content in report.holds.items()}
    with stage.opened() as (_, stores, _), stores.new.connect() as connection:
        rows = connection.execute(text("SELECT project_id, content FROM prompts WHERE enabled")).all()
    found = {str(row[0]): str(row[1]) for row in rows}
    lost = [scope for scope, content in holds.items() if found.get(scope) != content]
    assert not lost, f"{len(lost)} scopes do not hold what was acknowledged: {lost[:3]}"


def _rows(course: Course, reports: Sequence[Report], samples: dict[Store, Samples], speed: Speed) -> list[Row]:
    quiet = [span for steady in course.steady.values() for span in _cut(steady, course.moves)]
    longest, elsewhere = ([_longest(reports, span) for span in spans] for spans in (course.moves, quiet))
    writes = [
        Measured(took * 1e6, (at - took, at))
        for report in reports
        for at, took in zip(report.ended, report.took, strict=True)
    ]
    refused = sum(report.refused for report in reports)
    made = f"{len(course.moves)} moves, {course.refused} refused"  # the refused ones are in no figure below
    rows = [
        Row(
            "a write, the median",
            statistics.median(write.microseconds for write in writes),
            note=f"{len(writes):,} writes, {refused} refusals; {made}",
        ),
        Row(
            "a write, the slowest while nothing moves",
            _share(elsewhere, 100),
            note=f"the machine was slow for {speed.slow_share:.1%} of the time",
        ),
        *_rows_of("the longest write while nothing moves", elsewhere, 99, None, speed),
        *_rows_of("the slowest write of the run", writes, 100, SLOWEST_GOAL, speed),
    ]
    if course.moves:
        told = "writers held back as a move tells it"
        held = [Measured(held, span) for held, span in zip(course.held, course.moves, strict=True)]
        rows += [
            Row("the longest write during a move, p50", _share(longest, 50), note=made),
            *_rows_of("the longest write during a move", longest, 99, None, speed),
            Row(f"{told}, p50", _share(held, 50), note=f"{course.retries} retries"),
            *_rows_of(told, held, 99, HELD_GOAL, speed),
        ]
    for store, span in course.steady.items():
        rows += _lag_rows(f"lag, {store} to {store.other}", samples[store], span, LAG_GOAL, speed)
    return rows


def _paced_rows(paced: dict[Store, Paced], samples: dict[Store, Samples], speed: Speed) -> list[Row]:
    rows = []
    for store, stretch in paced.items():
        name = f"lag, {store} to {store.other}, paced"
        note = f"{stretch.rate:,.0f} writes/s, a pause of {PACED_PAUSE * 1000:g} ms after each"
        rows += _lag_rows(name, samples[store], stretch.span, None, speed, note)
    return rows


def _lag_rows(name: str, samples: Samples, span: Span, goal: float | None, speed: Speed, note: str = "") -> list[Row]:
    """A look says how old the oldest note was. Whether it counts must not depend on that, so all look back as far."""
    pairs = zip(samples.at, samples.age, strict=True)
    lag = [Measured(age * 1e6, (at - CATCH_UP_SECONDS, at)) for at, age in pairs if span[0] <= at <= span[1]]
    return [Row(f"{name}, p50", _share(lag, 50), note=note), *_rows_of(name, lag, 99, goal, speed)]


def _rows_of(name: str, found: Sequence[Measured], percent: int, goal: float | None, speed: Speed) -> list[Row]:
    """What so many percent of all do not exceed, and the same of those during which the machine kept its speed."""
    kept = [each for each in found if speed.kept(*each.span)]
    name = name if percent == 100 else f"{name}, p{percent}"
    return [
        Row(name, _share(found, percent), goal, f"{len(found):,} in all"),
        Row(f"{name}, machine at its speed", _share(kept, percent), goal, f"{len(kept):,} of these"),
    ]


def _cut(span: Span, moves: Sequence[Span]) -> list[Span]:
    """The span in pieces as long as a move is in the middle."""
    length = statistics.median(ended - began for began, ended in moves) if moves else 1.0
    pieces = max(1, int((span[1] - span[0]) / length))
    return [(span[0] + n * length, span[0] + (n + 1) * length) for n in range(pieces)]


def _longest(reports: Sequence[Report], span: Span) -> Measured:
    """The longest write that was under way within the span."""
    began, ended = span
    took = (
        took * 1e6
        for report in reports
        for at, took in zip(report.ended, report.took, strict=True)
        if at >= began and at - took <= ended
    )
    return Measured(max(took, default=0.0), span)


def _share(found: Sequence[Measured], percent: int) -> float:
    """The smallest of the figures that so many percent do not exceed; 0 of nothing."""
    if not found:
        return 0.0
    return sorted(each.microseconds for each in found)[max(0, -(-len(found) * percent // 100) - 1)]
