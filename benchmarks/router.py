"""What one routed read costs its caller, over in-memory repositories, next to its peers in the same run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from laboratory import Experiment
from ldclient import Config, Context, LDClient, Result
from ldclient.integrations.test_data import TestData
from ldclient.migrations import ExecutionOrder, MigratorBuilder, Stage
from prometheus_client import CollectorRegistry

from adapters.metrics.prometheus import PrometheusPublisher
from benchmarks.row import Row, flat_out, paced
from harness.operations import read
from harness.router import Router
from harness.routing import Route, RouteView


@dataclass(frozen=True, slots=True)
class Record:
    id: int
    name: str
    content: str
    type: str
    scope: str
    enabled: bool
    version: int
    updated_at: float


Call = Callable[[], object]


class Records(Protocol):
    @read(key=lambda id: id)
    def find(self, id: int) -> Record | None: ...


class InMemory:
    """``slow`` makes each call wait so many seconds, as a store in trouble does."""

    def __init__(self, slow: float = 0.0) -> None:
        self._slow = slow
        self._rows = {
            number: Record(number, f"name {number}", "text " * 40, "custom", "scope", True, 1, 1.5)
            for number in range(1000)
        }

    def find(self, id: int) -> Record | None:
        if self._slow:
            time.sleep(self._slow)
        return self._rows.get(id)


class FixedRoute:
    def __init__(self, route: Route) -> None:
        self._view = RouteView(route)

    def view(self) -> RouteView:
        return self._view


@contextmanager
def routed(shadow_percent: float, *, slow: float = 0.0) -> Iterator[Call]:
    """The router, half of the reads served by new; with a slow new store, none of them."""
    route = Route(reads_percent=0 if slow else 50, shadow_percent=shadow_percent)
    publisher = PrometheusPublisher(CollectorRegistry())
    legacy, new = InMemory(), InMemory(slow)
    with Router(Records, legacy=legacy, new=new, routes=FixedRoute(route), publisher=publisher) as router:
        find = router.repository.find
        yield lambda: find(7)


@contextmanager
def by_laboratory() -> Iterator[Call]:
    legacy, new = InMemory(), InMemory()

    def call() -> object:
        experiment = Experiment()
        experiment.control(legacy.find, args=(7,))
        experiment.candidate(new.find, args=(7,))
        return experiment.conduct()

    yield call


@contextmanager
def by_launchdarkly(order: ExecutionOrder) -> Iterator[Call]:
    logging.getLogger("ldclient").setLevel(logging.CRITICAL)
    data = TestData.data_source()
    data.update(data.flag("move").value_for_all(Stage.SHADOW.value))

    def read_from(store: InMemory) -> Callable[[Any], Result]:
        return lambda id: Result.success(store.find(id))

    client = LDClient(Config("no-key", update_processor_class=data, send_events=False))
    migrator = (
        MigratorBuilder(client)
        .read_execution_order(order)
        .read(read_from(InMemory()), read_from(InMemory()), lambda a, b: bool(a == b))
        .write(lambda _: Result.success(None), lambda _: Result.success(None))
        .build()
    )
    assert not isinstance(migrator, str), migrator
    context = Context.create("benchmark")
    try:
        yield lambda: migrator.read("move", context, Stage.OFF, 7)
    finally:
        client.close()


@contextmanager
def bare() -> Iterator[Call]:
    find = InMemory().find
    yield lambda: find(7)


def measure(timer: Callable[[Call], float]) -> list[Row]:
    """Every way to read, timed alike."""
    rows = []
    with bare() as call:
        rows.append(Row("bare call", timer(call)))
    with routed(0) as call:
        rows.append(Row("router, shadow off", timer(call), goal=4.0))
    with routed(100) as call:
        rows.append(Row("router, shadow and metrics on", timer(call), goal=8.0))
    with routed(100, slow=0.2) as call:
        rows.append(Row("router, shadow 200 ms slow", timer(call), goal=8.0, note="the shadow drops, and counts"))
    with by_laboratory() as call:
        rows.append(Row("laboratory", timer(call), note="asks both in the caller's path"))
    for order in (ExecutionOrder.SERIAL, ExecutionOrder.PARALLEL):
        with by_launchdarkly(order) as call:
            rows.append(Row(f"LaunchDarkly migrator, {order.value}", timer(call), note="the caller waits for both"))
    return rows


def measure_flat_out() -> list[Row]:
    return measure(flat_out)


def measure_paced() -> list[Row]:
    return measure(paced)
