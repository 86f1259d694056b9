"""What looking costs: a gate's rate watched at every observation, against a test made for one look.

    python -m benchmarks looking           the figures as tables
    python -m benchmarks.looking FILE      and as the part of docs/gates.md that is made from them

Only a mismatch can bring a failure about, so nothing between two mismatches need be computed: of each number of
mismatches it is known up to which observation it fails. The runs are watched at every observation all the same.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

from benchmarks.row import Figures, Row
from harness.deciding import GateSettings
from harness.gates.finding import Terms
from harness.sequences import Side, bounds, side, trials_to_pass
from harness.words import count, share

RUNS, HORIZON = 10_000, 100_000
ALPHA, LIMIT = 0.05, 0.001
TIGHT = 0.0001  # a limit of which 0.1 % is ten times too much
CAUGHT = ((LIMIT, 0.05), (LIMIT, 0.01), (LIMIT, 0.005), (TIGHT, 0.01), (TIGHT, 0.001))  # limit, true rate
SHARE = Terms(GateSettings(alpha=ALPHA)).alpha_fail / 2  # what a gate has for all operations together

Reach = Callable[[int], int]  # up to which observation so many mismatches fail, 0 for never


def watched(limit: float, alpha: float) -> Reach:
    """The gate's: by a confidence sequence."""
    return lru_cache(None)(lambda hits: _last(hits, lambda n: side(hits, n, limit, alpha) is Side.ABOVE))


def fixed(limit: float, alpha: float) -> Reach:
    """An exact binomial test of a sample of fixed size, which takes every look for its only one."""
    return lru_cache(None)(lambda hits: _last(hits, lambda n: _tail(hits, n, limit) <= alpha))


def _last(hits: int, fails: Callable[[int], bool]) -> int:
    """The last observation at which so many mismatches fail; the more observations, the less they weigh."""
    if not fails(hits):
        return 0
    low, high = hits, 2 * hits
    while fails(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fails(middle) else (low, middle)
    return low


def _tail(hits: int, n: int, p: float) -> float:
    """The chance of so many mismatches or more in n."""
    log_odds, log_chance = math.log(p) - math.log1p(-p), n * math.log1p(-p)
    below = 0.0
    for k in range(hits):
        below += math.exp(log_chance)
        log_chance += math.log((n - k) / (k + 1)) + log_odds if k < n else -math.inf
    return 1 - below


def arrivals(random: Random, rate: float, horizon: int) -> list[int]:
    """The observations of one run that are mismatches, beginning with 1."""
    found: list[int] = []
    at, scale = 0, math.log1p(-rate)
    while True:
        at += 1 + int(math.log(1 - random.random()) / scale)
        if at > horizon:
            return found
        found.append(at)


def first_fail(mismatches: Sequence[int], reach: Reach) -> int | None:
    return next((at for hits, at in enumerate(mismatches, 1) if at <= reach(hits)), None)


def passes(mismatches: Sequence[int], horizon: int, enough: Callable[[int], int]) -> bool:
    """Whether there is a moment at which the rate is for certain within the limit."""
    ends = [*(at - 1 for at in mismatches), horizon]
    return any(end >= enough(hits) for hits, end in enumerate(ends))


@dataclass(frozen=True, slots=True)
class Share:
    """So many of the runs."""

    hits: int
    runs: int

    @property
    def observed(self) -> float:
        return self.hits / self.runs

    @property
    def highest(self) -> float:
        """What the true chance is not above, with a certainty of 99.9 %."""
        return bounds(self.hits, self.runs, 0.001)[1]


@dataclass(frozen=True, slots=True)
class Alarms:
    """Of runs whose rate is just the limit: how many ever failed, or ever passed."""

    watched: Share
    fixed: Share
    once: Share
    passed: Share


@dataclass(frozen=True, slots=True)
class Caught:
    """Observations until a fail: the median, and those within which 90 % and 99 % of the runs failed."""

    limit: float
    rate: float
    watched: tuple[int, int, int]
    gate: tuple[int, int, int]
    fixed: tuple[int, int, int]


def false_alarms(random: Random, runs: int = RUNS, horizon: int = HORIZON) -> Alarms:
    of_gate, of_test = watched(LIMIT, ALPHA), fixed(LIMIT, ALPHA)
    enough = lru_cache(None)(lambda hits: trials_to_pass(hits, LIMIT, ALPHA) or 0)
    failed = tested = once = passed = 0
    for _ in range(runs):
        found = arrivals(random, LIMIT, horizon)
        failed += first_fail(found, of_gate) is not None
        tested += first_fail(found, of_test) is not None
        once += horizon <= of_test(len(found))
        passed += passes(found, horizon, enough)
    return Alarms(*(Share(hits, runs) for hits in (failed, tested, once, passed)))


def caught(random: Random, limit: float, rate: float, runs: int = RUNS) -> Caught:
    tests = watched(limit, ALPHA), watched(limit, SHARE), fixed(limit, ALPHA)
    found: tuple[list[int], ...] = ([], [], [])
    for _ in range(runs):
        horizon = math.ceil(100 / rate)
        mismatches = arrivals(random, rate, horizon)
        for test, ended in zip(tests, found, strict=True):
            at = first_fail(mismatches, test)
            ended.append(at if at is not None else horizon + 1)
    return Caught(limit, rate, *(_quantiles(sorted(ended)) for ended in found))


def _quantiles(ordered: Sequence[int]) -> tuple[int, int, int]:
    fifty, ninety, ninety_nine = (ordered[math.ceil(q * len(ordered)) - 1] for q in (0.5, 0.9, 0.99))
    return fifty, ninety, ninety_nine


_WATCHED, _FIXED, _ONCE = "confidence sequence, every observation", "exact test, every observation", "exact test, once"
_GATE = "the same with a gate's share of alpha"


def measure(seed: int = 1) -> list[Figures]:
    """10,000 runs of each kind."""
    random = Random(seed)
    alarms = false_alarms(random)
    rows = [
        Row(name, 100 * found.observed, goal, f"certainly below {share(found.highest)}")
        for name, found, goal in (
            (_WATCHED, alarms.watched, 100 * ALPHA),
            (_FIXED, alarms.fixed, None),
            (_ONCE, alarms.once, None),
            ("passed, confidence sequence, every observation", alarms.passed, 100 * ALPHA),
        )
    ]
    title = f"Of {count(RUNS)} runs at just the limit of {share(LIMIT)}, failed within {count(HORIZON)} observations"
    tables = [Figures(title, _ONCE, _FIXED, tuple(rows), "% of the runs")]
    for limit, rate in CAUGHT:
        found = caught(random, limit, rate)
        rows = [
            Row(name, ended[0], note=f"90 % within {count(ended[1])}, 99 % within {count(ended[2])}")
            for name, ended in ((_WATCHED, found.watched), (_GATE, found.gate), (_FIXED, found.fixed))
        ]
        title = f"Until {share(rate)} fails against a limit of {share(limit)}, the median"
        tables.append(Figures(title, _FIXED, _FIXED, tuple(rows), "observations"))
    return tables


BEGIN, END = "<!-- python -m benchmarks.looking docs/gates.md -->", "<!-- end -->"
_HITS = (0, 1, 2, 5, 10)
_LIMITS = (0.0001, 0.001, 0.01, 0.05, 0.1)


def page(alarms: Alarms, found: Sequence[Caught]) -> str:
    """The tables of docs/gates.md."""
    runs = count(alarms.watched.runs)
    lines = [
        f"{runs} A/A runs, each watched at every one of {count(HORIZON)} observations. The noise is just what the",
        f"limit of {share(LIMIT)} allows, the worst case, so that no run should fail; alpha is {share(ALPHA)}:",
        "",
        "| | runs that ever failed | the true chance is certainly below |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {share(each.observed)} | {share(each.highest)} |"
            for name, each in (
                ("the gate, looking at every observation", alarms.watched),
                ("an exact test of a fixed sample, looking at every observation", alarms.fixed),
                ("the same test, looking once, at the end", alarms.once),
            )
        ),
        "",
        "At the limit, a pass of what lies a hair beyond it is the other mistake that could be made, with a chance of",
        f"alpha: {share(alarms.passed.observed)} of the runs ever passed.",
        "",
        "Observations until a rate beyond its limit fails: the median, then those within which 90 % and 99 % of the",
        f"{runs} runs failed:",
        "",
        "| true rate | limit | confidence sequence, alpha 5 % | with a gate's share of alpha "
        f"({share(SHARE)}) | exact test at every look, false alarms as above |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {share(each.rate)} | {share(each.limit)} | "
            + " | ".join(", ".join(count(n) for n in ended) for ended in (each.watched, each.gate, each.fixed))
            + " |"
            for each in found
        ),
        "",
        "Observations after which a rate passes, by how many of them were hits (no simulation: this is exact):",
        "",
        "| limit | " + " | ".join("none" if not hits else str(hits) for hits in _HITS) + " |",
        "| --- |" + " --- |" * len(_HITS),
        *(
            f"| {share(limit)} | " + " | ".join(count(trials_to_pass(hits, limit, ALPHA) or 0) for hits in _HITS) + " |"
            for limit in _LIMITS
        ),
    ]
    return "\n".join(lines)


def replaced(text: str, part: str) -> str:
    """The page with the part between its marks made anew."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{part}\n\n{END}{tail}"


def main(path: Path, seed: int = 1) -> None:
    random = Random(seed)
    alarms = false_alarms(random)
    part = page(alarms, [caught(random, limit, rate) for limit, rate in CAUGHT])
    path.write_text(replaced(path.read_text(encoding="utf-8"), part), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
