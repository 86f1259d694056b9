"""The shadow: the caller never pays for it, and an unequal pair is no mismatch until it is confirmed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from fakes import WAIT, CopyingCarrier, HandClock, InMemoryPrompts, RouteBook, Samples, eventually, prompt

from adapters.prompts.contract import PromptRepository
from adapters.prompts.prompt import Prompt, PromptFilter
from harness.errors import Conflict, NotFound, StoreUnavailable
from harness.router import Router
from harness.routing import Route, RouteView, Store
from harness.settings import RuleSettings, ShadowSettings
from harness.statistics import Drop, Failure, Result, Role

QUICK = ShadowSettings(look_seconds=0.01)


class Stores:
    """Two stores and what surrounds them."""

    def __init__(self, *rows: Prompt) -> None:
        self.legacy, self.new = InMemoryPrompts(*rows), InMemoryPrompts(*rows)
        self.book, self.samples = RouteBook.of(), Samples()
        self.carrier = CopyingCarrier(self.legacy, self.new)

    @contextmanager
    def routed(self, **more: Any) -> Iterator[Router[PromptRepository]]:
        more = {"settings": QUICK, "samples": self.samples, "carrier": self.carrier, **more}
        with Router[PromptRepository](
            PromptRepository, legacy=self.legacy, new=self.new, routes=self.book, **more
        ) as router:
            yield router


class Gate:
    """Makes a store hang until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.inside = 0

    def __call__(self, name: str) -> None:
        self.inside += 1
        self.opened.wait(WAIT)


@pytest.fixture
def gate() -> Iterator[Gate]:
    found = Gate()
    yield found
    found.opened.set()


def test_a_hanging_shadow_costs_the_caller_nothing(gate: Gate) -> None:
    """Every one of 300 reads is answered while not a single shadow call has returned; what finds no room is counted."""
    row = prompt()
    stores = Stores(row)
    stores.new.before = gate
    settings = ShadowSettings(queue=50, workers=2, timeout_seconds=60)
    with stores.routed(settings=settings) as router:
        answers = [router.repository.find_by_id(row.id) for _ in range(300)]
        assert answers == [row] * 300
        assert eventually(lambda: gate.inside == 2)
        assert router.statistics().latency(Store.NEW, Role.SHADOWED).count == 0
        assert router.statistics().drops[Drop.QUEUE_FULL] >= 300 - 50 - 2
        gate.opened.set()
        assert router.settle(5)
    found = router.statistics()
    assert found.latency(Store.LEGACY, Role.SERVED).count == 300
    assert found.results()[Result.MATCHED] + found.results()[Result.NOT_COMPARED] == 300


def test_closing_does_not_wait_for_a_hung_shadow(gate: Gate) -> None:
    """Close returns although every worker hangs; what was queued or in hand is counted as stopped."""
    stores = Stores()
    stores.new.before = gate
    router = Router[PromptRepository](
        PromptRepository, legacy=stores.legacy, new=stores.new, routes=stores.book, settings=QUICK
    )
    router.start()
    for _ in range(10):
        router.repository.find_by_id(uuid4())
    assert eventually(lambda: gate.inside == 2)
    router.close(seconds=0.2)
    assert not gate.opened.is_set()
    found = router.statistics()
    assert found.drops == {Drop.STOPPED: 10}
    assert found.results() == {Result.NOT_COMPARED: 10}


def test_a_late_answer_is_counted_and_thrown_away(gate: Gate) -> None:
    """A call beyond the timeout counts once, another worker goes on, and the late answer changes nothing."""
    stores, clock = Stores(), HandClock()
    late = [True]

    def hang_once(name: str) -> None:
        if late and late.pop():
            gate(name)

    stores.new.before = hang_once
    with stores.routed(settings=ShadowSettings(workers=1, timeout_seconds=2), clock=clock) as router:
        router.repository.find_by_id(uuid4())
        assert eventually(lambda: gate.inside == 1)
        clock.advance(2.5)
        assert eventually(lambda: router.statistics().drops == {Drop.TIMEOUT: 1})
        router.repository.find_by_id(uuid4())
        assert eventually(lambda: router.statistics().results()[Result.MATCHED] == 1)
        gate.opened.set()
        router.repository.find_by_id(uuid4())
        assert eventually(lambda: router.statistics().results()[Result.MATCHED] == 2)
    found = router.statistics()
    assert found.results() == {Result.MATCHED: 2, Result.NOT_COMPARED: 1}
    assert found.errors == {("find_by_id", Store.NEW, Role.SHADOWED): 1}


def test_abandoned_threads_are_bounded(gate: Gate) -> None:
    """With every call hanging there are never more than twice the workers; the rest is dropped, not piled up."""
    stores, clock = Stores(), HandClock()
    stores.new.before = gate
    settings = ShadowSettings(workers=2, timeout_seconds=2, breaker_failures=1000)
    with stores.routed(settings=settings, clock=clock) as router:
        for round_ in (2, 4):
            for _ in range(20):
                router.repository.find_by_id(uuid4())
            assert eventually(lambda at_least=round_: gate.inside == at_least)  # type: ignore[misc]  # bound at once
            clock.advance(3)
            assert eventually(lambda n=round_: router.statistics().drops[Drop.TIMEOUT] == n)  # type: ignore[misc]
        assert eventually(lambda: router.statistics().results()[Result.NOT_COMPARED] == 40)
        assert router.statistics().drops == {Drop.TIMEOUT: 4, Drop.BREAKER_OPEN: 36}
        assert gate.inside == 4
        stores.new.before = lambda name: None
        gate.opened.set()
        router.repository.find_by_id(uuid4())
        assert eventually(lambda: router.statistics().results()[Result.MATCHED] >= 1)


def test_the_breaker_spares_a_store_that_is_away() -> None:
    """After so many failures in a row the store is left alone, then tried once, then asked as before."""
    stores, clock = Stores(), HandClock()

    def away(name: str) -> None:
        raise StoreUnavailable("new refuses connections")

    stores.new.before = away
    settings = ShadowSettings(workers=1, breaker_failures=3, breaker_seconds=5)
    with stores.routed(settings=settings, clock=clock) as router:
        for _ in range(10):
            router.repository.find_by_id(uuid4())
        assert router.settle(5)
        assert router.statistics().drops == {Drop.STORE_FAILED: 3, Drop.BREAKER_OPEN: 7}
        assert len(stores.new.asked) == 3
        clock.advance(5)
        stores.new.before = lambda name: None
        for _ in range(10):
            router.repository.find_by_id(uuid4())
        assert router.settle(5)
    assert router.statistics().results()[Result.MATCHED] == 10


def test_a_difference_that_passes_is_transient() -> None:
    """A pair that is unequal at first and equal at the second look is transient, and no mismatch."""
    row = prompt()
    stores, clock = Stores(row), HandClock()
    stores.new.rows[row.id] = replace(row, version=2)
    with stores.routed(clock=clock) as router:
        assert router.repository.find_by_id(row.id) == row
        assert eventually(lambda: stores.new.asked == ["find_by_id"])
        assert not router.settle(0.05), "it waits for its second look, which only the clock brings"
        stores.new.rows[row.id] = row
        clock.advance(1)
        assert router.settle(5)
    assert router.statistics().results() == {Result.TRANSIENT: 1}
    assert stores.samples.kept == []


def test_a_difference_that_stays_is_confirmed() -> None:
    """Unequal in the same way at two settled looks: a mismatch, its fields counted, its sample kept."""
    row = prompt("mine", enabled=True)
    stores = Stores(row)
    stores.new.rows[row.id] = replace(row, content="Something else.", version=2)
    with stores.routed() as router:
        router.repository.find_enabled_by_project("mine")
        assert router.settle(5)
    found = router.statistics()
    assert found.results() == {Result.MISMATCHED: 1}
    assert found.fields == {
        ("find_enabled_by_project", "content"): 1,
        ("find_enabled_by_project", "version"): 1,
    }
    (sample,) = stores.samples.kept
    assert (sample.operation, sample.served, sample.scope) == ("find_enabled_by_project", Store.LEGACY, "mine")
    assert sample.arguments == "'mine'"
    assert {(d.field, d.legacy, d.new) for d in sample.differences} == {
        ("content", "Say what broke.", "Something else."),
        ("version", "1", "2"),
    }


def test_later_looks_do_not_count_as_calls() -> None:
    """Only the first shadow call counts into latencies: looks at a mismatch would distort them."""
    row = prompt()
    stores = Stores(row)
    del stores.new.rows[row.id]
    with stores.routed() as router:
        router.repository.find_by_id(row.id)
        assert router.settle(5)
    found = router.statistics()
    assert found.results() == {Result.MISMATCHED: 1}
    assert found.fields == {("find_by_id", "presence"): 1}
    assert stores.new.asked.count("find_by_id") == 3
    assert found.latency(Store.NEW).count == 1
    assert found.latency(Store.LEGACY).count == 1


def test_a_scope_that_never_stands_still_is_not_judged() -> None:
    """While something is noted for the scope, no look confirms; after the last one it counts as unsettled."""
    row = prompt("mine", enabled=True)
    stores = Stores(row)
    stores.new.rows[row.id] = replace(row, version=2)
    stores.carrier.unsettled = {("mine", None)}
    with stores.routed() as router:
        router.repository.find_enabled_by_project("mine")
        assert router.settle(5)
    found = router.statistics()
    assert found.drops == {Drop.UNSETTLED: 1}
    assert found.results() == {Result.NOT_COMPARED: 1}
    assert stores.new.asked == ["find_enabled_by_project"], "an unsettled scope is not asked again"


def test_a_pair_that_differs_otherwise_each_time_is_not_judged() -> None:
    """A record that changes between all looks is never confirmed, however unequal."""
    row = prompt()
    stores = Stores(row)

    def change(name: str) -> None:
        stores.new.rows[row.id] = replace(stores.new.rows[row.id], version=stores.new.rows[row.id].version + 1)

    stores.new.before = change
    with stores.routed() as router:
        router.repository.find_by_id(row.id)
        assert router.settle(5)
    assert router.statistics().drops == {Drop.UNSETTLED: 1}


def test_what_was_written_between_two_answers_is_no_mismatch() -> None:
    """A settled queue before the look but not after it proves nothing: the pair is looked at once more."""
    row = prompt("mine", enabled=True)
    stores = Stores(row)
    stores.new.rows[row.id] = replace(row, version=2)
    asked = [0]
    is_settled = stores.carrier.is_settled

    def alternating(scope: str | None, key: object) -> bool:
        asked[0] += 1
        return asked[0] % 2 == 1 and is_settled(scope, None)

    stores.carrier.is_settled = alternating  # type: ignore[method-assign]  # settled before each look, never after
    with stores.routed() as router:
        router.repository.find_enabled_by_project("mine")
        assert router.settle(5)
    assert router.statistics().drops == {Drop.UNSETTLED: 1}


def test_a_pair_whose_scope_was_quarantined_meanwhile_is_dropped() -> None:
    """A look follows the present view: what is held by then is not compared."""
    row = prompt("mine", enabled=True)
    stores, clock = Stores(row), HandClock()
    stores.new.rows.clear()
    with stores.routed(clock=clock) as router:
        router.repository.find_enabled_by_project("mine")
        assert eventually(lambda: len(stores.new.asked) == 1)
        stores.book.current = RouteView(Route(epoch=2), held_scopes=frozenset({"mine"}))
        assert eventually(lambda: router.view.route.epoch == 2)
        clock.advance(1)
        assert router.settle(5)
    assert router.statistics().drops == {Drop.HELD: 1}


def test_errors_are_compared_as_answers_are() -> None:
    """The same refusal on both sides matches; another class, or an answer instead, is a mismatch of "outcome"."""
    stores = Stores()

    def refuse(error: type[Exception]) -> Callable[[str], None]:
        def before(name: str) -> None:
            raise error("refused")

        return before

    stores.legacy.before = refuse(NotFound)
    with stores.routed() as router:
        for theirs in (refuse(NotFound), refuse(Conflict), lambda name: None):
            stores.new.before = theirs
            with pytest.raises(NotFound):
                router.repository.find_by_id(uuid4())
            assert router.settle(5)
    found = router.statistics()
    assert found.results() == {Result.MATCHED: 1, Result.MISMATCHED: 2}
    assert found.fields == {("find_by_id", "outcome"): 2}


def test_declared_rules_make_a_difference_ignored_not_matched() -> None:
    """What only a rule excuses counts apart from what matched."""
    row = prompt()
    stores = Stores(row)
    stores.new.rows[row.id] = replace(row, version=2)
    rules = [RuleSettings(name="counts-anew", field="version", action="ignore", reason="new counts anew")]
    with stores.routed(rules=rules) as router:
        router.repository.find_by_id(row.id)
        router.repository.find_all(PromptFilter())
        assert router.settle(5)
    found = router.statistics()
    assert found.results() == {Result.IGNORED: 2}
    assert found.rules == {("find_by_id", "counts-anew"): 1, ("find_all", "counts-anew"): 1}


def test_whatever_a_shadow_raises_stays_in_the_shadow() -> None:
    """SystemExit from the shadow store ends no thread and reaches no caller; it is one side of a mismatch."""
    row = prompt()
    stores = Stores(row)

    def leave(name: str) -> None:
        raise SystemExit(3)

    stores.new.before = leave
    with stores.routed() as router:
        assert router.repository.find_by_id(row.id) == row
        assert router.settle(5)
        stores.new.before = lambda name: None
        assert router.repository.find_by_id(row.id) == row
        assert router.settle(5)
    assert router.statistics().results() == {Result.MISMATCHED: 1, Result.MATCHED: 1}


def test_a_carrier_that_cannot_tell_costs_one_comparison() -> None:
    """An unknown error while asking whether a scope has settled is counted, and the worker lives on."""
    row = prompt("mine", enabled=True)
    stores = Stores(row)
    stores.new.rows.clear()

    def unknown(scope: str | None, key: object) -> bool:
        raise ZeroDivisionError

    stores.carrier.is_settled = unknown  # type: ignore[method-assign]  # a carrier with a bug
    with stores.routed() as router:
        router.repository.find_enabled_by_project("mine")
        assert router.settle(5)
        router.repository.find_by_id(uuid4())
        assert router.settle(5)
    found = router.statistics()
    assert found.failures == {Failure.WORKER: 1}
    assert found.results() == {Result.NOT_COMPARED: 1, Result.MATCHED: 1}


def test_looks_are_bounded() -> None:
    """More unequal pairs than may wait for a second look are counted as unsettled, not kept."""
    row = prompt()
    stores, clock = Stores(row), HandClock()
    stores.new.rows.clear()
    with stores.routed(settings=ShadowSettings(queue=5, workers=1), clock=clock) as router:
        for n in range(12):
            router.repository.find_by_id(row.id)
            assert eventually(lambda wanted=n + 1: len(stores.new.asked) == wanted)  # type: ignore[misc]  # bound at once
        assert eventually(lambda: router.statistics().drops == {Drop.UNSETTLED: 7})
        router.close(seconds=0.1)
    assert router.statistics().drops == {Drop.UNSETTLED: 7, Drop.STOPPED: 5}
