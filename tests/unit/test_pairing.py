"""Pairs: what both stores made of the same operation, and nothing that only one of them was asked."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from uuid import uuid4

import pytest
from fakes import HandClock, InMemoryPrompts, RouteBook, eventually, prompt

from adapters.prompts.contract import PromptRepository
from harness.catchup import WithApplies
from harness.errors import NotFound, StoreUnavailable
from harness.pairing import Pairing
from harness.recorder import Track
from harness.router import Router
from harness.routing import Store
from harness.settings import ShadowSettings
from harness.statistics import Apply, Paired, Statistics


def noted(*pairs: tuple[Store, float | None, float | None]) -> Statistics:
    track, pairing, found = Track("find"), Pairing(ShadowSettings(slow_factor=2, slow_seconds=0.005)), Statistics()
    for served, answered, shadowed in pairs:
        pairing.note(track, served, answered, shadowed)
    track.drain(found)
    return found


@pytest.mark.parametrize(
    ("served", "answered", "shadowed", "result"),
    [
        (Store.LEGACY, 0.010, 0.011, Paired.ANSWERED),
        (Store.LEGACY, 0.010, 0.021, Paired.SLOW),
        (Store.LEGACY, 0.001, 0.005, Paired.ANSWERED),  # five times as long, and 4 ms
        (Store.LEGACY, 0.010, 0.020, Paired.ANSWERED),  # just twice as long
        (Store.NEW, 0.021, 0.010, Paired.SLOW),
        (Store.NEW, 0.010, 0.900, Paired.LEGACY_SLOW),
        (Store.LEGACY, 0.021, 0.010, Paired.LEGACY_SLOW),
        (Store.LEGACY, 0.005, 0.001, Paired.ANSWERED),
        (Store.LEGACY, 0.010, None, Paired.NEW_FAILED),
        (Store.NEW, None, 0.010, Paired.NEW_FAILED),
        (Store.LEGACY, None, 0.010, Paired.LEGACY_FAILED),
        (Store.NEW, 0.010, None, Paired.LEGACY_FAILED),
        (Store.NEW, None, None, Paired.BOTH_FAILED),
    ],
)
def test_each_pair_is_one_thing(served: Store, answered: float | None, shadowed: float | None, result: Paired) -> None:
    """Slow by the factor and by the seconds, one against the other, whichever of them served; failures by store."""
    assert noted((served, answered, shadowed)).pairs == {("find", result): 1}


def test_durations_are_paired_only_where_both_answered() -> None:
    """A call that has no counterpart is in neither store's paired durations, or the two would not compare."""
    found = noted((Store.LEGACY, 0.010, 0.020), (Store.NEW, 0.040, 0.030), (Store.LEGACY, 0.9, None))
    durations = {store: found.pair_latency("find", store) for store in Store}
    assert {store: sketch.count for store, sketch in durations.items()} == dict.fromkeys(Store, 2)
    assert durations[Store.LEGACY].total == pytest.approx(0.040)
    assert durations[Store.NEW].total == pytest.approx(0.060)
    assert found.pair_latency("other", Store.NEW).count == 0


def test_pairs_survive_the_ledger_and_add_up() -> None:
    """Dumped to JSON and loaded, they are the same; merged, they are the sum; older dumps without them load too."""
    one = noted((Store.LEGACY, 0.010, 0.020), (Store.LEGACY, 0.010, None))
    one.applies[Apply.REJECTED] += 3
    loaded = Statistics.load(json.loads(json.dumps(one.dump())))
    assert loaded.dump() == one.dump()
    loaded.merge(one)
    assert loaded.pairs == {("find", Paired.ANSWERED): 2, ("find", Paired.NEW_FAILED): 2}
    assert loaded.pair_latency("find", Store.NEW).count == 2
    assert loaded.applies == {Apply.REJECTED: 6}
    older = {name: part for name, part in Statistics().dump().items() if name not in {"pairs", "paired", "applies"}}
    assert Statistics.load(older).empty


def routed(
    legacy: InMemoryPrompts, new: InMemoryPrompts, book: RouteBook, act: Callable[[PromptRepository], object]
) -> Statistics:
    """What a router counted while something was done with its repository."""
    router = Router[PromptRepository](PromptRepository, legacy=legacy, new=new, routes=book)
    with router:
        act(router.repository)
        assert router.settle(10)
    return router.statistics()


def test_a_router_pairs_what_it_compares() -> None:
    """Each read that was shadowed is a pair, with both durations; a refusal is an answer."""
    row = prompt()

    def reading(repository: PromptRepository) -> None:
        for _ in range(20):
            repository.find_by_id(row.id)

    found = routed(InMemoryPrompts(row), InMemoryPrompts(row), RouteBook.of(reads=50), reading)
    assert found.pairs_of("find_by_id").total() == 20
    assert {store: found.pair_latency("find_by_id", store).count for store in Store} == dict.fromkeys(Store, 20)


@pytest.mark.parametrize(("shadow", "pairs"), [(100, 5), (0, 0)])
def test_a_fallback_is_a_pair_if_it_was_drawn(shadow: float, pairs: int) -> None:
    """New is away and legacy answers: a failure of new, but counted no more often than answers are."""
    row, new = prompt(), InMemoryPrompts()

    def away(name: str) -> None:
        raise StoreUnavailable("new refuses connections")

    new.before = away

    def reading(repository: PromptRepository) -> None:
        for _ in range(5):
            repository.find_by_id(row.id)

    found = routed(InMemoryPrompts(row), new, RouteBook.of(reads=100, shadow=shadow), reading)
    assert found.pairs_of("find_by_id")[Paired.NEW_FAILED] == found.pairs.total() == pairs


def test_failures_of_new_are_seen_without_fallback() -> None:
    """What new fails is paired with what legacy makes of it, also where callers get the error instead of an answer.

    Else nothing but successes would be counted, and the gate of errors pass whatever new fails.
    """
    row, failing = prompt(), [True]
    new = InMemoryPrompts(row)

    def away(name: str) -> None:
        if failing:
            failing.clear()
            raise StoreUnavailable("new refuses connections")

    new.before = away
    settings, legacy = ShadowSettings(fallback=False), InMemoryPrompts(row)
    book = RouteBook.of(reads=100)
    with Router[PromptRepository](PromptRepository, legacy=legacy, new=new, routes=book, settings=settings) as router:
        with pytest.raises(StoreUnavailable):
            router.repository.find_by_id(row.id)
        assert router.repository.find_by_id(row.id) == row
        assert router.settle(10)
    assert router.statistics().pairs == {
        ("find_by_id", Paired.NEW_FAILED): 1,
        ("find_by_id", Paired.ANSWERED): 1,
    }


def test_a_write_has_no_pair() -> None:
    """A refused write is rehearsed in the other store, which says nothing of how fast or sound that store is."""

    def writing(repository: PromptRepository) -> None:
        with pytest.raises(NotFound):
            repository.delete(uuid4())

    store = InMemoryPrompts()
    assert not routed(store, InMemoryPrompts(), RouteBook.of(), writing).pairs


def test_a_shadow_that_hangs_has_failed_and_one_that_was_stopped_has_not() -> None:
    """Beyond the timeout new has failed where legacy answered; a process that ends says nothing of the store."""
    opened, inside, clock = threading.Event(), threading.Semaphore(0), HandClock()
    row, new = prompt(), InMemoryPrompts()

    def hang(name: str) -> None:
        inside.release()
        opened.wait(10)

    new.before = hang
    router = Router[PromptRepository](
        PromptRepository,
        legacy=InMemoryPrompts(row),
        new=new,
        routes=RouteBook.of(),
        settings=ShadowSettings(workers=1, timeout_seconds=2),
        clock=clock,
    )
    router.start()
    router.repository.find_by_id(row.id)
    assert inside.acquire(timeout=10)
    clock.advance(2.5)
    assert eventually(lambda: router.statistics().pairs == {("find_by_id", Paired.NEW_FAILED): 1})
    router.repository.find_by_id(row.id)
    assert inside.acquire(timeout=10)
    router.close(seconds=0.2)
    opened.set()
    assert router.statistics().pairs == {("find_by_id", Paired.NEW_FAILED): 1}


def test_applies_are_handed_on_once() -> None:
    """What carriers counted goes with the roll-up; while that fails it is kept, and never given twice."""
    made, kept, failing = Counter({Apply.CARRIED: 5}), Statistics(), [True]

    def roll_up(increment: Statistics) -> None:
        if failing.pop():
            raise StoreUnavailable("new cannot be reached")
        kept.merge(increment)

    rolled = WithApplies(roll_up, lambda: made)
    with pytest.raises(StoreUnavailable):
        rolled(Statistics())
    made[Apply.REJECTED] += 1
    failing += [False, False]
    rolled(Statistics())
    assert kept.applies == {Apply.CARRIED: 5, Apply.REJECTED: 1}
    rolled(Statistics())
    assert kept.applies == {Apply.CARRIED: 5, Apply.REJECTED: 1}
    assert failing == [False]  # nothing new was nothing to hand on
