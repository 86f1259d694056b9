"""One process of a parallel run: a router of its own under its share of the workload."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Event as SharedEvent
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any, cast

from prometheus_client import CollectorRegistry

from adapters.metrics.prometheus import PrometheusPublisher
from adapters.prompts.contract import PromptRepository
from adapters.prompts.migration import Stores, opened
from adapters.prompts.trace_codec import PromptCodec
from adapters.prompts.workload import Key, OwnScopes, PromptCalls
from harness.cli.app import quiet_driver
from harness.errors import CrossfadeError
from harness.router import Router
from harness.settings import Settings
from harness.trace import Recorder, Trace
from harness.workload import Mix, Performed, Workload

_REPORT_SECONDS = 0.5
_SETTLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one process is to do. ``rate`` and ``duration`` as for ``Workload``; a trace stands in for the mix.

    ``around_new`` as for ``Plan``.
    ``writes_in``: the tenant in which the process makes scopes of its own to write to, or None if it only reads.
    """

    settings: Settings
    seed: int
    rate: float
    duration: float
    mix: Mix
    keys: Sequence[Key]
    writes_in: str | None
    trace: Path | None
    speed: float
    record: Path | None = None
    around_new: Callable[[PromptRepository], PromptRepository] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a process counted so far; ``performed`` once it has ended, ``error`` if it ended in one of ours."""

    statistics: dict[str, Any]
    performed: Performed | None = None
    error: CrossfadeError | None = None


def work(share: Share, pipe: Pipe, stop: SharedEvent) -> None:
    """Run the share, sending a snapshot every half second and a last one with what was performed."""
    quiet_driver()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent asks to stop, once, for all
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        with opened(share.settings, application="crossfade run") as stores:
            new = stores.new_repository if share.around_new is None else share.around_new(stores.new_repository)
            router = stores.router(PrometheusPublisher(CollectorRegistry()), new)
            with router, _reporting(router, pipe, stop):
                performed = _recorded(share, stores, router, cast(Event, stop))
                router.settle(_SETTLE_SECONDS)
            last = Snapshot(router.statistics().dump(), performed)
    except CrossfadeError as error:
        error.__cause__ = None  # the driver's error need not survive the way to the parent
        last = Snapshot({}, None, error)
    with suppress(OSError):  # nobody listens any more when the parent was killed
        pipe.send(last)


def _recorded(share: Share, stores: Stores, router: Router[PromptRepository], stop: Event) -> Performed:
    if share.record is None:
        return _perform(share, stores, router, router.repository, stop)
    with Recorder(PromptRepository, router.repository, PromptCodec(), share.record, time.monotonic) as recording:
        return _perform(share, stores, router, recording, stop)


def _perform(share: Share, stores: Stores, router: Router[PromptRepository], repository: Any, stop: Event) -> Performed:
    if share.trace is not None:
        trace = Trace(share.trace, PromptRepository, PromptCodec())
        return trace.replay(repository, speed=share.speed, clock=time.monotonic, stop=stop)
    random = Random(share.seed)  # noqa: S311 - a repeatable workload, no secret
    own = OwnScopes(stores.legacy, share.writes_in, stores.reading) if share.writes_in is not None else nullcontext()
    with own as scopes:
        workload = Workload(PromptCalls(share.keys, scopes), share.mix, share.rate, share.duration)
        performed = workload.run(repository, random=random, clock=time.monotonic, stop=stop)
        router.settle(_SETTLE_SECONDS)  # its scopes go next: nothing of theirs may still be on its way
    return performed


class _reporting:
    """Sends the router's statistics to the parent while the block runs. A parent that was killed ends the run."""

    def __init__(self, router: Router[PromptRepository], pipe: Pipe, stop: SharedEvent) -> None:
        self._router, self._pipe, self._stop, self._done = router, pipe, stop, Event()
        self._thread = Thread(target=self._run, name="crossfade-report", daemon=True)

    def _run(self) -> None:
        while not self._done.wait(_REPORT_SECONDS):
            try:
                self._pipe.send(Snapshot(self._router.statistics().dump()))
            except OSError:
                self._stop.set()
                return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
