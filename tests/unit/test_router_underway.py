"""Writes under way: never forgotten, not even when there are too many to tell apart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from fakes import CopyingCarrier, InMemoryPrompts, eventually

from harness.errors import StoreUnavailable
from harness.routing import Route, Store
from harness.underway import UnderWay


@pytest.fixture
def carrier() -> CopyingCarrier:
    return CopyingCarrier(InMemoryPrompts(), InMemoryPrompts())


@contextmanager
def running(carrier: CopyingCarrier, limit: int = 10_000) -> Iterator[UnderWay]:
    under_way = UnderWay(carrier, failed=lambda error: None, limit=limit)
    under_way.start()
    try:
        yield under_way
    finally:
        carrier.allow.set()
        under_way.stop()
        assert under_way.join(5)


def test_writes_of_many_scopes_are_carried_in_one_call(carrier: CopyingCarrier) -> None:
    """What gathers while the carrier is busy goes over in one call, not scope by scope."""
    carrier.allow.clear()
    with running(carrier) as under_way:
        under_way.note("first", 0, Store.LEGACY)
        assert eventually(lambda: len(under_way.pending) == 1 and under_way.touches("first", None))
        for number in range(50):
            under_way.note(f"scope-{number}", number, Store.LEGACY)
        carrier.allow.set()
        assert eventually(lambda: not under_way.pending)
    carried = set().union(*(scopes for scopes, _ in carrier.calls))
    assert carried == {"first", *(f"scope-{number}" for number in range(50))}
    assert len(carrier.calls) <= 2


def test_beyond_the_limit_every_read_counts_as_touched(carrier: CopyingCarrier) -> None:
    """Too many writes to tell apart: everything is under way, until nothing at all is noted any more."""
    carrier.allow.clear()
    carrier.unsettled = {(None, None)}
    with running(carrier, limit=5) as under_way:
        for number in range(6):
            under_way.note(f"scope-{number}", number, Store.LEGACY)
        assert under_way.touches("scope-5", None)
        assert under_way.touches("never written", uuid4())
        carrier.allow.set()
        assert eventually(lambda: len(carrier.calls) >= 1)
        assert under_way.pending
        assert under_way.touches("never written", None), "the sixth write may be anywhere"
        carrier.unsettled = set()
        assert eventually(lambda: not under_way.pending)
        assert not under_way.touches("scope-5", None)


def test_a_write_that_names_nothing_may_have_touched_anything(carrier: CopyingCarrier) -> None:
    """A write whose scope and key cannot be told holds every read back until nothing is noted."""
    carrier.unsettled = {(None, None)}
    with running(carrier) as under_way:
        under_way.note(None, None, Store.LEGACY)
        assert under_way.touches("any", None)
        assert under_way.touches(None, 1)
        carrier.unsettled = set()
        assert eventually(lambda: not under_way.pending)


@pytest.mark.parametrize(
    ("write", "read", "touched"),
    [
        (("s", 1), ("s", None), True),
        (("s", 1), (None, 1), True),
        (("s", 1), (None, None), True),
        (("s", 1), ("t", None), False),
        (("s", 1), (None, 2), False),
        ((None, 1), ("t", None), True),
        ((None, 1), (None, 2), False),
        (("s", None), (None, 2), True),
        (("s", None), ("t", None), False),
    ],
)
def test_which_reads_a_write_touches(
    carrier: CopyingCarrier, write: tuple[str, int], read: tuple[str, int], touched: bool
) -> None:
    """A read is touched by what it may see: its scope, its key, and writes that do not say which."""
    under_way = UnderWay(carrier, failed=lambda error: None)
    under_way.note(*write, Store.LEGACY)
    assert under_way.touches(*read) is touched


def test_no_write_is_lost_between_writers_and_the_carrier() -> None:
    """While four threads write and the carrier works, a noted scope is always either under way or carried over."""
    carrier = CopyingCarrier(InMemoryPrompts(), InMemoryPrompts())
    lost: list[str] = []

    def write(writer: int) -> None:
        for number in range(300):
            scope = f"{writer}/{number}"
            under_way.note(scope, None, Store.LEGACY)
            if not under_way.touches(scope, None) and not any(scope in scopes for scopes, _ in list(carrier.calls)):
                lost.append(scope)

    with running(carrier) as under_way:
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert eventually(lambda: not under_way.pending)
    assert lost == []
    assert len(set().union(*(scopes for scopes, _ in carrier.calls))) == 1200


DIVIDED = Route(epoch=1, pins={"moved": Store.NEW})


def test_beyond_the_limit_a_known_write_of_a_key_is_not_taken_for_its_last(carrier: CopyingCarrier) -> None:
    """A later write of the key may be among those not told apart: where it is noted decides, not what is known."""
    under_way = UnderWay(carrier, failed=lambda error: None, limit=1)
    under_way.note("stayed", "k", Store.LEGACY)
    assert under_way.showing(DIVIDED, None, "k") is Store.LEGACY
    assert carrier.asked_for == [], "it is known"
    under_way.note("moved", "k", Store.NEW)
    carrier.noted["k"] = {Store.NEW}
    assert under_way.showing(DIVIDED, None, "k") is Store.NEW


def test_beyond_the_limit_writes_of_one_store_are_shown_by_it(carrier: CopyingCarrier) -> None:
    """Nobody is asked while all of them went to one store, and a scope or a sole authority decides by itself."""
    under_way = UnderWay(carrier, failed=lambda error: None, limit=1)
    for number in range(3):
        under_way.note("moved", number, Store.NEW)
    assert under_way.showing(DIVIDED, None, 2) is under_way.showing(DIVIDED, None, None) is Store.NEW
    under_way.note("stayed", 3, Store.LEGACY)
    assert under_way.showing(DIVIDED, "moved", 2) is Store.NEW
    assert under_way.showing(Route(), None, 2) is Store.LEGACY
    assert carrier.asked_for == []


@pytest.mark.parametrize("noted", [set(), set(Store)], ids=["in neither store", "in both"])
def test_a_key_that_neither_store_shows_alone(carrier: CopyingCarrier, noted: set[Store]) -> None:
    """Noted in both stores, it is carried over first. Then either shows it, as the route that is read now says."""
    looked = list[None]()
    under_way = UnderWay(carrier, failed=lambda error: None, limit=0, carried=lambda: looked.append(None))
    for store in Store:
        under_way.note("moved", "k", store)
    carrier.noted["k"] = noted
    assert under_way.showing(DIVIDED, None, "k") is None
    assert carrier.calls == ([(frozenset(), frozenset({"k"}))] if noted else [])
    assert looked == [None]


def test_where_the_writes_went_is_forgotten_once_all_have_arrived(carrier: CopyingCarrier) -> None:
    """After a crowd of writes new ones are told apart again."""
    carrier.allow.clear()
    carrier.unsettled = {(None, None)}
    with running(carrier, limit=1) as under_way:
        for store in Store:
            under_way.note("moved", 1, store)
        assert under_way.present()[1]
        carrier.unsettled = set()
        carrier.allow.set()
        assert eventually(lambda: not under_way.pending)
        assert under_way.present() == ({}, frozenset())


@pytest.mark.parametrize("how", ["in a crowd", "one by one"])
def test_what_became_of_writes_is_known_before_they_are_no_longer_under_way(carrier: CopyingCarrier, how: str) -> None:
    """They may have ended in quarantine, also those that were not told apart, or arrived although others did not."""
    looked: list[bool] = []
    under_way = UnderWay(
        carrier,
        failed=lambda error: None,
        limit=0 if how == "in a crowd" else 10,
        carried=lambda: looked.append(under_way.touches("moved", 1)),
    )
    carrier.failing = how == "one by one"
    under_way.note("moved", 1, Store.NEW)
    under_way.start()
    assert eventually(lambda: not under_way.pending)
    assert looked == [True]
    under_way.stop()
    assert under_way.join(5)


def test_writes_stay_under_way_until_the_route_could_be_read(carrier: CopyingCarrier) -> None:
    """What became of them is not known before: neither a crowd nor a single one is let go of."""

    def unreadable() -> None:
        tried.append(None)
        if len(tried) < 4:
            raise StoreUnavailable("new is away")

    tried: list[None] = []
    under_way = UnderWay(carrier, failed=lambda error: None, limit=1, carried=unreadable)
    for store in Store:
        under_way.note("moved", 1, store)
    under_way.start()
    assert eventually(lambda: bool(tried))
    assert eventually(lambda: not under_way.pending)
    assert len(tried) >= 4
    under_way.stop()
    assert under_way.join(5)
