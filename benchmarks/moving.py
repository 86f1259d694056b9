"""How long a move of authority holds writers up, and how far catch-up lags behind them.

Four processes write flat out, and one ``crossfade catchup --follow`` carries over. First authority is with legacy and
stays there, then it moves to and fro, then it is with new and stays there. At the end both stores must be equal, and
hold what the writers were told they hold. For comparison, lag is also measured beside writers that pause.
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

from benchmarks.crew import Hand, Moved, Sampler, Samples, Writers, catching_up, hired, move
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
HELD_GOAL, SLOWEST_GOAL, LAG_GOAL = 25_000.0, 100_000.0, 50_000.0  # microseconds
_HELD = re.compile(r"held back for (\d+) ms")

Span = tuple[float, float]  # seconds since 1970


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


def measure() -> list[Row]:
    with ExitStack() as stack:
        stage = stack.enter_context(staged(time.monotonic, MoveSettings(drain_seconds=DRAIN_SECONDS)))
        writers, sampler = Writers(stage, stack), Sampler(stage, stack)
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
            samples = sampler.end()
        stage.settle(time.monotonic)
        _check(stage, after)
    return _rows(course, reports + after, samples) + _paced_rows(paced, samples)


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


def _rows(course: Course, reports: Sequence[Report], samples: dict[Store, Samples]) -> list[Row]:
    quiet = [span for steady in course.steady.values() for span in _cut(steady, course.moves)]
    longest, elsewhere = ([_longest(reports, span) for span in spans] for spans in (course.moves, quiet))
    took = [seconds * 1e6 for report in reports for seconds in report.took]
    refused = sum(report.refused for report in reports)
    lags = {store: _within(samples[store], course.steady[store]) for store in Store}
    made = f"{len(course.moves)} moves, {course.refused} refused"  # the refused ones are in no figure below
    rows = [
        Row("a write, the median", statistics.median(took), note=f"{len(took):,} writes, {refused} refusals; {made}"),
        Row("a write, the slowest while nothing moves", max(elsewhere), note="the machine's own noise"),
        Row("the longest write while nothing moves, p99", _share(elsewhere, 99), note="over spans as long as a move"),
        Row("the slowest write of the run", max(took), SLOWEST_GOAL),
    ]
    if course.moves:
        told = "writers held back as a move tells it"
        rows += [
            Row("the longest write during a move, p50", _share(longest, 50), note=made),
            Row("the longest write during a move, p99", _share(longest, 99), HELD_GOAL, made),
            Row(f"{told}, p50", _share(course.held, 50)),
            Row(f"{told}, p99", _share(course.held, 99), HELD_GOAL, f"{course.retries} retries"),
        ]
    for store, lag in lags.items():
        rows.append(Row(f"lag, {store} to {store.other}, p50", _share(lag, 50), note=f"{len(lag)} looks"))
        rows.append(Row(f"lag, {store} to {store.other}, p99", _share(lag, 99), LAG_GOAL))
    return rows


def _paced_rows(paced: dict[Store, Paced], samples: dict[Store, Samples]) -> list[Row]:
    rows = []
    for store, stretch in paced.items():
        lag = _within(samples[store], stretch.span)
        name = f"lag, {store} to {store.other}, paced"
        rows.append(Row(f"{name}, p50", _share(lag, 50), note=f"{stretch.rate:,.0f} writes/s"))
        rows.append(Row(f"{name}, p99", _share(lag, 99), note=f"a pause of {PACED_PAUSE * 1000:g} ms after each write"))
    return rows


def _cut(span: Span, moves: Sequence[Span]) -> list[Span]:
    """The span in pieces as long as a move is in the middle."""
    length = statistics.median(ended - began for began, ended in moves) if moves else 1.0
    pieces = max(1, int((span[1] - span[0]) / length))
    return [(span[0] + n * length, span[0] + (n + 1) * length) for n in range(pieces)]


def _longest(reports: Sequence[Report], span: Span) -> float:
    """Microseconds of the longest write that was under way within the span."""
    began, ended = span
    return max(
        (
            took * 1e6
            for report in reports
            for at, took in zip(report.ended, report.took, strict=True)
            if at >= began and at - took <= ended
        ),
        default=0.0,
    )


def _within(samples: Samples, span: Span) -> list[float]:
    pairs = zip(samples.at, samples.age, strict=True)
    return [age * 1e6 for at, age in pairs if span[0] <= at <= span[1]]


def _share(values: Sequence[float], percent: int) -> float:
    """The smallest of the values that so many percent do not exceed."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
