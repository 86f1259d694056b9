"""The recorder: what was observed is counted once, and what fails on its way out costs nobody else."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from fakes import InMemoryPrompts, Published, RouteBook, Samples, eventually, prompt

from adapters.prompts.contract import PromptRepository
from harness.errors import StoreUnavailable
from harness.recorder import Buffer, Recorder, Tally
from harness.router import Router
from harness.routing import RouteView, Store
from harness.settings import ShadowSettings
from harness.statistics import Drop, Failure, Result, Role, Statistics


def router_of(legacy: InMemoryPrompts, new: InMemoryPrompts, **more: object) -> Router[PromptRepository]:
    more = {"settings": ShadowSettings(look_seconds=0.01), "routes": RouteBook.of(), **more}
    return Router[PromptRepository](PromptRepository, legacy=legacy, new=new, **more)  # type: ignore[arg-type]


def test_a_tally_counts_every_thread() -> None:
    """Eight threads count without a lock, a ninth takes in between, and no count is lost or doubled."""
    tally, start, taken = Tally(), threading.Barrier(9), [0]

    def count() -> None:
        start.wait()
        for _ in range(20_000):
            tally.add()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    while any(thread.is_alive() for thread in threads):
        taken[0] += tally.take()
    taken[0] += tally.take()
    assert taken[0] == 160_000
    assert tally.take() == 0


def test_a_full_buffer_counts_what_it_loses() -> None:
    """A buffer never grows beyond its limit; what found no room is known by number."""
    buffer: Buffer[int] = Buffer(3)
    for number in range(10):
        buffer.add(number)
    assert buffer.take() == [0, 1, 2]
    assert buffer.lost.take() == 7


def test_lost_latencies_are_counted_by_operation() -> None:
    """Calls whose duration found no room show as unrecorded, under their operation."""
    recorder = Recorder(["find"])
    calls = recorder.tracks["find"].calls[Store.NEW, Role.SERVED, False]
    calls.limit = 2
    for _ in range(5):
        calls.add(0.001)
    found = recorder.statistics()
    assert found.latency(Store.NEW).count == 2
    assert found.unrecorded == {"find": 3}


def test_every_drop_is_a_comparison_not_made() -> None:
    """Whatever the reason, a drop counts once as not compared."""
    recorder = Recorder(["find"])
    for reason in Drop:
        recorder.tracks["find"].drops[reason].add()
    found = recorder.statistics()
    assert found.drops == dict.fromkeys(Drop, 1)
    assert found.results() == {Result.NOT_COMPARED: len(Drop)}


def test_statistics_survive_being_written_down() -> None:
    """What dump writes, load reads, failures, unrecorded and rerouted calls included, and merge adds them up."""
    recorder = Recorder(["find"])
    recorder.failed(Failure.CARRY)(None)
    recorder.tracks["find"].calls[Store.NEW, Role.SHADOWED, True].add(0.5)
    recorder.tracks["find"].calls[Store.NEW, Role.SHADOWED, True].limit = 0
    recorder.tracks["find"].calls[Store.NEW, Role.SHADOWED, True].add(0.5)
    recorder.tracks["find"].rerouted.add()
    found = recorder.statistics()
    assert Statistics.load(found.dump()).dump() == found.dump()
    assert not found.empty
    found.merge(Statistics.load(found.dump()))
    assert found.rerouted == {"find": 2}
    older = {name: counted for name, counted in found.dump().items() if name != "rerouted"}
    assert not Statistics.load(older).rerouted
    assert Statistics().empty


def test_everything_is_published() -> None:
    """The publisher sees what the totals hold, and the route that is followed."""
    row = prompt()
    published = Published()
    with router_of(InMemoryPrompts(row), InMemoryPrompts(), publisher=published) as router:
        router.repository.find_by_id(row.id)
        assert router.settle(5)
    assert published.counted.results() == {Result.MISMATCHED: 1}
    assert published.counted.fields == {("find_by_id", "presence"): 1}
    assert sorted(published.calls_seen) == [
        ("find_by_id", Store.LEGACY, Role.SERVED, 1, False),
        ("find_by_id", Store.NEW, Role.SHADOWED, 1, False),
    ]
    assert [view.route.epoch for view in published.routes] == [1]


def test_a_failing_publisher_costs_metrics_only() -> None:
    """A publisher that raises is counted; totals are complete, threads live on, and it is published to again."""
    published = Published()
    published.failing = True
    with router_of(InMemoryPrompts(), InMemoryPrompts(), publisher=published) as router:
        router.repository.find_by_id(uuid4())
        assert eventually(lambda: router.statistics().failures[Failure.PUBLISH] >= 1)
        published.failing = False
        router.repository.find_by_id(uuid4())
        assert eventually(lambda: published.counted.results()[Result.MATCHED] >= 1)
    assert router.statistics().results() == {Result.MATCHED: 2}


@pytest.mark.parametrize("error", [StoreUnavailable("the ledger is away"), ZeroDivisionError()])
def test_a_failing_roll_up_keeps_what_it_was_given(error: Exception) -> None:
    """Statistics whose roll-up raised are given again with what came since: all of it arrives, and once."""
    given: list[Statistics] = []
    failing = threading.Event()
    failing.set()

    def roll_up(increment: Statistics) -> None:
        if failing.is_set():
            raise error
        given.append(increment)

    legacy, new = InMemoryPrompts(), InMemoryPrompts()
    with router_of(legacy, new, roll_up=roll_up, roll_up_seconds=0.01) as router:
        for _ in range(3):
            router.repository.find_by_id(uuid4())
        assert eventually(lambda: router.statistics().failures[Failure.ROLL_UP] >= 2)
        failing.clear()
        for _ in range(4):
            router.repository.find_by_id(uuid4())
    together = Statistics()
    for increment in given:
        together.merge(increment)
    assert together.latency(Store.LEGACY, Role.SERVED).count == 7
    assert together.results() == router.statistics().results() == {Result.MATCHED: 7}


def test_the_last_increment_is_rolled_up_at_close() -> None:
    """What was counted since the last roll-up is handed on when the router closes, without waiting for its turn."""
    given: list[Statistics] = []
    with router_of(InMemoryPrompts(), InMemoryPrompts(), roll_up=given.append, roll_up_seconds=3600) as router:
        router.repository.find_by_id(uuid4())
    assert [increment.results() for increment in given] == [{Result.MATCHED: 1}]


def test_samples_wait_for_a_sink_that_is_away() -> None:
    """A sink that is unavailable gets its samples later; one that raises anything else loses that sample, counted."""
    row, other = prompt(), prompt()
    samples = Samples()
    samples.failing = StoreUnavailable("the ledger is away")
    legacy, new = InMemoryPrompts(row, other), InMemoryPrompts()
    with router_of(legacy, new, samples=samples, roll_up_seconds=0.01) as router:
        router.repository.find_by_id(row.id)
        assert eventually(lambda: router.statistics().failures[Failure.SAMPLE] >= 2)
        samples.failing = None
        assert eventually(lambda: len(samples.kept) == 1)
        samples.failing = ValueError("what is this")
        before = router.statistics().failures[Failure.SAMPLE]
        router.repository.find_by_id(other.id)
        assert eventually(lambda: router.statistics().failures[Failure.SAMPLE] == before + 1)
        assert router.settle(5)
    assert router.statistics().results() == {Result.MISMATCHED: 2}
    assert len(samples.kept) == 1


def test_a_failing_publisher_does_not_stop_the_route() -> None:
    """A route that cannot be published is followed all the same."""
    published = Published()
    published.failing = True
    recorder = Recorder([], publisher=published)
    recorder.route(RouteView())
    assert recorder.statistics().failures == {Failure.PUBLISH: 1}
