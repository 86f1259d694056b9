"""The router: stands before both stores with the contract of either.

    with Router(PromptRepository, legacy=old, new=young, routes=book) as router:
        application.prompts = router.repository

It knows no more of a contract than its marks (``harness.operations``). All its threads are daemons, and no caller
ever waits for one of them.
"""

from __future__ import annotations

import random as randomness
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace, TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from harness.bound import Bound
from harness.compare import Comparison, check_rules
from harness.handover import Handover
from harness.live import LiveRoute
from harness.operations import Operation, operations_of
from harness.ports import Carrier, Clock, Publisher, Routes, SampleSink
from harness.recorder import ROLL_UP_SECONDS, Recorder, RollUp, Track
from harness.routed import Wiring, apart, routed_read
from harness.routing import RouteView, Store
from harness.settings import RuleSettings, ShadowSettings
from harness.shadow import PAUSE_SECONDS, Shadow
from harness.statistics import Drop, Failure, Statistics
from harness.underway import UnderWay
from harness.writes import routed_write

C = TypeVar("C")

CLOSE_SECONDS = 5.0
WRITE_PATIENCE = 5.0  # seconds; the two commits of a move are milliseconds apart, a crash between them is resumed later


class Router(Generic[C]):
    """Routes the operations of a contract C between two stores; ``repository`` is what the application calls.

    Both stores fulfil C; where their classes differ, name it: ``Router[PromptRepository](PromptRepository, …)``.
    ``roll_up`` receives statistics every few seconds and at close; if it raises, they are kept and tried again.
    ``clock`` is monotonic seconds, ``random`` answers from 0 to below 1, ``now`` stamps samples.

    Answers and arguments must be values: they are compared after the caller has them, so whoever changes one
    afterwards changes what is compared. Operations after ``close`` are served, and not compared; writes that meet a
    move of authority are not waited for any more.

    A write goes to the store with authority and follows it when it moves: for ``write_patience`` seconds, then it
    raises NoAuthority, with nothing changed. It is never made twice. ``rehearsals`` are repositories whose writes are
    rolled back, whatever the guard says of them: with both, refused writes are compared. ``key_of`` makes a key of
    its text again, for ``observe``. A rule on an operation that the contract has not raises ConfigError.
    """

    def __init__(
        self,
        contract: type[Any],  # a Protocol may not be passed as type[C] (mypy: type-abstract)
        *,
        legacy: C,
        new: C,
        routes: Routes,
        carrier: Carrier | None = None,
        rules: Iterable[RuleSettings] = (),
        settings: ShadowSettings | None = None,
        publisher: Publisher | None = None,
        samples: SampleSink | None = None,
        roll_up: RollUp | None = None,
        roll_up_seconds: float = ROLL_UP_SECONDS,
        clock: Clock = time.monotonic,
        random: Callable[[], float] = randomness.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        write_patience: float = WRITE_PATIENCE,
        rehearsals: Mapping[Store, C] | None = None,
        key_of: Callable[[str], Hashable] = str,
    ) -> None:
        settings = settings or ShadowSettings()
        operations, rules = operations_of(contract), tuple(rules)
        check_rules(rules, operations)
        self._carrier, self._clock = carrier, clock
        self._recorder = Recorder(
            operations, publisher=publisher, samples=samples, roll_up=roll_up, roll_up_seconds=roll_up_seconds
        )
        failed = self._recorder.failed
        self._live = LiveRoute(routes, changed=self._recorder.route, failed=failed(Failure.ROUTE))
        self._under_way = UnderWay(carrier, failed(Failure.CARRY), carried=self._live.refresh)
        self._shadow = Shadow(
            settings,
            comparison=Comparison(rules),
            recorder=self._recorder,
            apart=self._apart,
            settled=self._settled,
            clock=clock,
            now=now,
        )
        self._handover = Handover(self._live, self._under_way, key_of)
        self._stopping = threading.Event()
        wiring = Wiring(
            self._live, self._under_way, self._shadow, clock, random, settings.fallback, write_patience, self._stopping
        )
        routed: dict[str, Callable[..., Any]] = {}
        for name, operation in operations.items():
            track = self._recorder.tracks[name]
            methods = {Store.LEGACY: getattr(legacy, name), Store.NEW: getattr(new, name)}
            bound = Bound(operation, methods, track, _rehearsed(operation, rehearsals, track))
            routed[name] = (routed_read if operation.kind == "read" else routed_write)(bound, wiring)
        self.repository: C = cast(C, SimpleNamespace(**routed))

    @property
    def view(self) -> RouteView:
        """The route that this process follows now."""
        return self._live.current

    def statistics(self) -> Statistics:
        """All that was counted since the start, as a copy."""
        return self._recorder.statistics()

    def token(self) -> str:
        """What another process must ``observe`` to read no older state than this one has written.

        URL-safe text of less than 3,000 characters, for a session that goes on elsewhere. It names scopes and keys of
        writes under way, and is neither encrypted nor signed. Raises ConfigError for a router without a carrier.
        """
        return self._handover.token()

    def observe(self, token: str) -> None:
        """From now on, show what the maker of the token had written: reads that touch it go to the authority.

        Raises ConfigError for what is no token, and for a router without a carrier; StoreUnavailable when the route
        of this process is out of date and cannot be read.
        """
        self._handover.observe(token)

    def start(self) -> None:
        """Read the route and start the threads. Raises StoreUnavailable when the route cannot be read."""
        self._live.start()
        for beat in self._recorder.beats:
            beat.start()
        self._under_way.start()
        self._shadow.start()

    def settle(self, seconds: float) -> bool:
        """Wait until nothing is under way, queued or to be looked at again; False if that takes longer."""
        pause = threading.Event()  # never set
        for _ in range(max(1, round(seconds / PAUSE_SECONDS))):
            if self._shadow.at_rest and not self._under_way.pending:
                return True
            pause.wait(PAUSE_SECONDS)
        return False

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Finish what can be finished in so many seconds, count the rest as stopped, and end the threads."""
        until = self._clock() + seconds

        def left() -> float:
            return min(seconds, max(0.0, until - self._clock()))

        self._stopping.set()
        self.settle(seconds / 2)
        # Comparisons end before the recorder does, so that what they count is still handed on.
        self._shadow.stop(left() / 2)
        self._live.beat.stop()
        self._under_way.stop()
        self._under_way.join(left() / 2)
        for beat in self._recorder.beats:
            beat.stop()
        for beat in (*self._recorder.beats, self._live.beat):
            beat.join(left())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _apart(self, scope: str | None, key: Hashable | None) -> Drop | None:
        return apart(self._live.current, self._under_way, scope, key)

    def _settled(self, scope: str | None, key: Hashable | None) -> bool:
        return self._carrier is None or self._carrier.is_settled(scope, key)


def _rehearsed(operation: Operation, rehearsals: Mapping[Store, C] | None, track: Track) -> Bound | None:
    if operation.kind == "read" or rehearsals is None:
        return None
    return Bound(operation, {store: _silent(getattr(rehearsals[store], operation.name)) for store in Store}, track)


def _silent(write: Callable[..., Any]) -> Callable[..., None]:
    """The write without its answer: only refusals are compared, for the stamps of what was rolled back differ."""

    def rehearse(*args: Any, **kwargs: Any) -> None:
        write(*args, **kwargs)

    return rehearse
