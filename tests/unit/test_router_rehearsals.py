"""Refused writes are rehearsed in the other store, and the two refusals compared."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from fakes import WAIT, CopyingCarrier, InMemoryPrompts, Rehearsing, RouteBook, Samples, eventually, prompt

from adapters.prompts.contract import PromptRepository
from adapters.prompts.prompt import Prompt
from harness.errors import CannotHold, Conflict, NoAuthority, NotFound, StoreUnavailable
from harness.router import Router
from harness.routing import Store
from harness.settings import ShadowSettings
from harness.statistics import Drop, Result, Role


class Stores:
    def __init__(self, *rows: Prompt) -> None:
        self.legacy, self.new = InMemoryPrompts(*rows), InMemoryPrompts(*rows)
        self.rehearsals = {Store.LEGACY: Rehearsing(self.legacy), Store.NEW: Rehearsing(self.new)}
        self.book, self.samples = RouteBook.of(), Samples()

    @contextmanager
    def routed(self, **more: Any) -> Iterator[Router[PromptRepository]]:
        more = {"settings": ShadowSettings(look_seconds=0.01), "rehearsals": self.rehearsals, **more}
        with Router[Any](
            PromptRepository, legacy=self.legacy, new=self.new, routes=self.book, samples=self.samples, **more
        ) as router:
            yield router

    @property
    def rehearsed(self) -> tuple[list[str], list[str]]:
        return self.rehearsals[Store.LEGACY].asked, self.rehearsals[Store.NEW].asked


def hang(rehearsing: Rehearsing) -> threading.Event:
    """Make its rehearsals hang until the event is set."""
    opened = threading.Event()

    def wait(name: str) -> None:
        opened.wait(WAIT)

    rehearsing.before = wait
    return opened


def test_like_refusals_match() -> None:
    """A write that both stores refuse in the same way matches; it is rehearsed once, and in neither store timed."""
    row = prompt()
    stores = Stores(row)
    with stores.routed() as router:
        with pytest.raises(Conflict):
            router.repository.save(row)
        with pytest.raises(NotFound):
            router.repository.delete(uuid4())
        assert router.settle(5)
    found = router.statistics()
    assert found.results() == {Result.MATCHED: 2}
    assert stores.rehearsed == ([], ["save", "delete"])
    assert found.latency(Store.NEW).count == 0
    assert found.latency(Store.LEGACY, Role.SERVED).count == 2


def test_a_write_that_the_other_store_would_take_is_a_mismatch() -> None:
    """Rehearsed again in both stores, it is confirmed by the class of the outcome; nothing was written anywhere."""
    row = prompt()
    stores = Stores(row)
    stores.new.rows.clear()
    with stores.routed() as router:
        with pytest.raises(Conflict):
            router.repository.save(row)
        assert router.settle(5)
    found = router.statistics()
    assert found.results("save") == {Result.MISMATCHED: 1}
    assert found.fields == {("save", "outcome"): 1}
    assert [sample.served for sample in stores.samples.kept] == [Store.LEGACY]
    assert (stores.legacy.rows, stores.new.rows) == ({row.id: row}, {})
    legacy, new = stores.rehearsed
    assert len(legacy) >= 1
    assert len(new) == len(legacy) + 1


def test_a_write_that_both_stores_would_take_by_now_is_transient() -> None:
    """Only refusals are compared: what the rehearsed writes would have answered, stamps and all, is not."""
    row = prompt()
    stores = Stores()
    stores.new.rows[row.id] = row

    def there_by_now(name: str) -> None:
        stores.legacy.rows[row.id] = row

    stores.rehearsals[Store.NEW].before = there_by_now
    with stores.routed() as router:
        with pytest.raises(NotFound):
            router.repository.update(row)
        assert router.settle(5)
    assert router.statistics().results() == {Result.TRANSIENT: 1}


def test_what_one_store_cannot_hold_is_not_compared() -> None:
    """CannotHold tells of the store, not of a fault: counted as held, whichever of the two says it."""
    stores = Stores(row := prompt())

    def cannot(name: str) -> None:
        raise CannotHold("legacy has no place for it")

    with stores.routed() as router:
        stores.legacy.before = cannot
        with pytest.raises(CannotHold):
            router.repository.save(prompt())
        stores.legacy.before = lambda name: None
        stores.rehearsals[Store.NEW].before = cannot
        with pytest.raises(Conflict):
            router.repository.save(row)
        assert router.settle(5)
    assert router.statistics().drops == {Drop.HELD: 2}
    assert stores.rehearsed == ([], ["save"])


@pytest.mark.parametrize(("error", "reason"), [(StoreUnavailable, Drop.STORE_FAILED), (NoAuthority, Drop.UNSETTLED)])
def test_a_rehearsal_that_was_not_made_is_a_drop(error: type[Exception], reason: Drop) -> None:
    """A store that is away, or whose guard would not have the rehearsal, has given no answer to compare."""
    stores = Stores(row := prompt())

    def fail(name: str) -> None:
        raise error("not now")

    stores.rehearsals[Store.NEW].before = fail
    with stores.routed() as router:
        with pytest.raises(Conflict):
            router.repository.save(row)
        assert router.settle(5)
    found = router.statistics()
    assert found.drops == {reason: 1}
    assert not found.errors


def test_the_shadow_share_and_missing_rehearsals_leave_refusals_uncompared() -> None:
    """With a shadow share of 0, or without rehearsals, a refused write costs and counts nothing more."""
    stores = Stores(row := prompt())
    with stores.routed(rehearsals=None) as router:
        with pytest.raises(Conflict):
            router.repository.save(row)
        assert router.settle(5)
    assert router.statistics().results() == {}
    stores.book = RouteBook.of(shadow=0)
    with stores.routed() as router:
        with pytest.raises(Conflict):
            router.repository.save(row)
        assert router.settle(5)
    assert router.statistics().results() == {}
    assert stores.rehearsed == ([], [])


def test_a_refused_write_never_waits_for_its_rehearsal() -> None:
    """While every rehearsal hangs, refusals reach their callers; what finds no room is counted."""
    stores = Stores(row := prompt())
    opened = hang(stores.rehearsals[Store.NEW])
    settings = ShadowSettings(queue=5, workers=1, timeout_seconds=60)
    with stores.routed(settings=settings) as router:
        for _ in range(50):
            with pytest.raises(Conflict):
                router.repository.save(row)
        assert router.statistics().drops[Drop.QUEUE_FULL] >= 50 - 5 - 1
        opened.set()
        assert router.settle(5)


def test_a_hung_rehearsal_is_late_and_not_timed() -> None:
    """A rehearsal that takes too long is a time-out among comparisons, and no failed call of the store."""
    stores = Stores(row := prompt())
    opened = hang(stores.rehearsals[Store.NEW])
    with stores.routed(settings=ShadowSettings(timeout_seconds=0.01)) as router:
        with pytest.raises(Conflict):
            router.repository.save(row)
        assert eventually(lambda: router.statistics().drops == {Drop.TIMEOUT: 1})
        opened.set()
    assert router.statistics().latency(Store.NEW).count == 0


def test_a_refusal_that_meets_writes_under_way_is_not_compared() -> None:
    """The other store does not have what the refusal speaks of yet, or the scope is in quarantine."""
    row, held = prompt(), prompt("acme/project-9/held")
    stores = Stores(row, held)
    stores.book = RouteBook.of(held_scopes=frozenset({"acme/project-9/held"}))
    carrier = CopyingCarrier(stores.legacy, stores.new)
    carrier.allow.clear()
    with stores.routed(carrier=carrier) as router:
        router.repository.update(replace(row, version=2))
        with pytest.raises(Conflict):
            router.repository.save(row)
        with pytest.raises(Conflict):
            router.repository.save(held)
        assert router.statistics().drops == {Drop.UNDER_WAY: 1, Drop.HELD: 1}
        carrier.allow.set()
    assert stores.rehearsed == ([], [])
