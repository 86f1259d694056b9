"""Looking at a migration again and again, cheaply, for whoever shows it live.

Two threads look. The quick one asks for phase, route, queues and what was counted within the last minutes: a few small
queries. The slow one judges the gates and reads the rest of ``status``, at most every ten seconds and for a ninth
of the time. Neither reads the whole history more than once an hour.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

from adapters.postgres.capture import backlog
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.courses import CourseBook
from adapters.postgres.ledger.lags import LagBook
from adapters.postgres.ledger.pauses import PauseBook
from adapters.postgres.ledger.running_total import RunningTotal
from adapters.postgres.ledger.statistics import StatisticsBook
from adapters.prompts.migration import Stores
from harness.cli.autoramp import LOCK as AUTORAMP
from harness.cli.autoramp import as_json
from harness.cli.rounds import Rounds
from harness.cli.standing import NOTHING_YET, judged, next_step, status_of, unfinished
from harness.errors import NotPrepared
from harness.gates import Gate
from harness.phases import Phase
from harness.pulse import LATELY, POINTS, UNKNOWN, Pulse, past_points, tally, window_of
from harness.records import Backlog
from harness.routing import Store

SLOW_SECONDS = 10.0
# A look that takes long is followed by a pause so many times as long.
_QUICK_SHARE, _SLOW_SHARE = 4.0, 8.0


class Watching:
    """What is known now. ``document`` may be asked at any moment, by any thread, and waits for no store."""

    def __init__(self, stores: Stores, wanted: Callable[[], bool] = lambda: True) -> None:
        self._stores, self._wanted = stores, wanted
        self._lock = Lock()
        self._away: dict[Store, str | None] = dict.fromkeys(Store)
        self._quick: dict[str, Any] = {}
        self._slow: dict[str, Any] = {}
        self._looked_at: float | None = None
        self._gates_at: float | None = None
        self._judging_failed = False
        self._pulse: Pulse | None = None
        self._lately = RunningTotal(StatisticsBook(stores.new))
        self._whole = RunningTotal(StatisticsBook(stores.new))
        self._lately_since = datetime.now(UTC)

    @contextmanager
    def looking(self, seconds: float) -> Iterator[None]:
        """Look every so many seconds within the block."""
        with ExitStack() as stack:
            stack.enter_context(Rounds("look", self.look, seconds, lambda _: None, _QUICK_SHARE))
            stack.enter_context(Rounds("judge", self.judge, SLOW_SECONDS, self._not_judged, _SLOW_SHARE))
            yield

    @property
    def begun(self) -> bool:
        """Whether both kinds of look have ended once, well or not."""
        return self._looked_at is not None and (self._gates_at is not None or self._judging_failed)

    @property
    def age(self) -> float:
        """Seconds since the last quick look ended, well or not; infinite before the first one."""
        return math.inf if self._looked_at is None else time.monotonic() - self._looked_at

    def document(self) -> dict[str, Any]:
        """All that is known, as JSON: the keys of ``status``, and those of the pulse."""
        with self._lock:
            found = _UNKNOWN | self._slow | self._quick
            pulse = self._pulse or Pulse(window_of(0), 0.0, 0.0)
            known = self._pulse is not None and self._away[Store.NEW] is None
            found |= (pulse.now() if known else UNKNOWN) | {"history": pulse.history()}
            found["away"] = {store.value: since for store, since in self._away.items()}
            found["judging_failed"] = self._judging_failed
            found |= {"look_age_seconds": _age(self._looked_at), "gates_age_seconds": _age(self._gates_at)}
        found["at"] = _now()
        if found["phase"] is None:  # new was never there to be asked
            return found | {"next": "see whether both stores can be reached"}
        return found | {"next": next_step(found)}

    def look(self) -> bool:
        """A quick look at both stores. Of a store that is away the queue is unknown; all else stays as it was known.

        What a look found is told as one: no reader sees a store away beside the figures of when it was there.
        """
        if not self._wanted():
            return False
        backlogs: dict[Store, Backlog] = {}
        quick: dict[str, Any] = {}
        away = dict(self._away)
        with _noting(away, Store.NEW):
            quick = self._look_at_new(backlogs)
        if quick and quick["phase"] in {Phase.IDLE, Phase.COMPLETE}:  # legacy has no queue, or none that counts
            backlogs[Store.LEGACY] = Backlog()
        else:
            with _noting(away, Store.LEGACY):
                backlogs[Store.LEGACY] = self._backlog(Store.LEGACY)
        if quick and quick["phase"] != Phase.IDLE:
            with _noting(away, Store.NEW):
                self._count(max((each.lag_seconds for each in backlogs.values()), default=None))
        with self._lock:
            self._quick = quick or self._quick  # the whole of it: what was said before prepare is not so any more
            for name, of in (("dirty", "notes"), ("lag_seconds", "lag_seconds")):
                self._quick[name] = {store.value: getattr(backlogs.get(store), of, None) for store in Store}
            self._away, self._looked_at = away, time.monotonic()
        return True

    def judge(self) -> bool:
        """Judge the gates, and read all that ``status`` says."""
        if not self._wanted():
            return False
        fresh = replace(self._stores)  # a tenant that was created meanwhile is to be seen
        gates = judged(fresh, self._whole.total)
        slow = status_of(fresh, gates) | {"mismatch": _mismatch(gates)}
        with self._lock:
            self._slow, self._gates_at, self._judging_failed = slow, time.monotonic(), False
        return True

    def _not_judged(self, _: Exception) -> None:
        self._judging_failed = True

    def _look_at_new(self, backlogs: dict[Store, Backlog]) -> dict[str, Any]:
        try:
            phase = self._stores.phases.present()
        except NotPrepared:
            return NOTHING_YET | {"phase": Phase.IDLE.value, "epoch": 0}
        route = self._stores.routes.view().route
        course = CourseBook(self._stores.new).course()
        paused = PauseBook(self._stores.new, AUTORAMP).present() is not None
        backlogs[Store.NEW] = self._backlog(Store.NEW)
        return {
            "phase": phase.phase.value,
            "epoch": route.epoch,
            "reads_percent": route.reads_percent,
            "writes_percent": route.writes_percent,
            "shadow_percent": route.shadow_percent,
            "automatic_ramp": None if course is None else as_json(course) | {"paused": paused},
            "unfinished": unfinished(self._stores),
        }

    def _count(self, lag: float | None) -> None:
        """Take the pulse. The ledger is there: the phase has just been read."""
        if self._pulse is None:
            self._begin_pulse()
        taken = tally(self._lately.total(self._lately_since))
        with self._lock:
            assert self._pulse is not None  # noqa: S101 - begun above; for the type checker
            self._pulse.take(time.monotonic(), taken, lag)

    def _begin_pulse(self) -> None:
        _, now = StatisticsBook(self._stores.new).moment()  # minutes are the ledger's
        window = window_of(self._stores.settings.shadow.roll_up_seconds)
        self._lately_since = (now - timedelta(seconds=LATELY)).replace(second=0, microsecond=0)
        begin = now - timedelta(seconds=POINTS * window + LATELY)
        lags = LagBook(self._stores.new).by_minute(begin)
        past = past_points(StatisticsBook(self._stores.new).by_minute(begin), lags, now, window)
        pulse = Pulse(window, time.monotonic(), (now - self._lately_since).total_seconds(), past)
        with self._lock:
            self._pulse = pulse

    def _backlog(self, store: Store) -> Backlog:
        with speaking_for(store):
            return backlog(self._stores.engine(store))


@contextmanager
def _noting(away: dict[Store, str | None], store: Store) -> Iterator[None]:
    """Whatever fails in the block, the store counts as away, from the first time until a block succeeds."""
    try:
        yield
    except Exception:  # noqa: BLE001 - whoever watches wants to be told, and to go on
        away[store] = away[store] or _now()
    else:
        away[store] = None


def _age(moment: float | None) -> float | None:
    return None if moment is None else round(time.monotonic() - moment, 1)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _mismatch(gates: Sequence[Gate]) -> Mapping[str, Any] | None:
    """The rate with the bounds that hold however often one looks (docs/gates.md); None without a comparison."""
    figures = next((gate.figures for gate in gates if gate.name == "mismatches"), {})
    if not figures:
        return None
    names = {"rate": "observed", "low": "bound_low", "high": "bound_high", "mismatched": "hits", "compared": "n"}
    return {name: figures[of] for name, of in names.items()}


_UNKNOWN: dict[str, Any] = NOTHING_YET | {
    "phase": None,
    "epoch": None,
    "reads_percent": None,
    "writes_percent": None,
    "shadow_percent": None,
    "dirty": {"legacy": None, "new": None},
    "lag_seconds": {"legacy": None, "new": None},
    "mismatch": None,
}
