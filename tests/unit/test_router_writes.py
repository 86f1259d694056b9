"""Writes: to the store with authority, wherever it goes, and never made twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from fakes import CopyingCarrier, GuardedPrompts, RouteBook, eventually, prompt

from adapters.prompts.contract import PromptRepository
from adapters.prompts.prompt import Prompt
from harness.errors import Conflict, NoAuthority, NotFound, StoreUnavailable
from harness.router import Router
from harness.routing import Route, RouteView, Store
from harness.settings import ShadowSettings
from harness.statistics import Role

OLD = Route(epoch=1)
MOVED = Route(epoch=2, pins={"acme": Store.NEW})  # of many organizations only this one has moved
SCOPE = "acme/project-1/custom"


class Sides:
    """Two guarded stores and the route that processes read. A route takes effect in each place on its own."""

    def __init__(self, *rows: Prompt, route: Route = OLD) -> None:
        self.legacy = GuardedPrompts(Store.LEGACY, *rows, route=route)
        self.new = GuardedPrompts(Store.NEW, *rows, route=route)
        self.book = RouteBook(RouteView(route))

    def follow(self, route: Route, *, legacy: bool = True, new: bool = True, book: bool = True) -> None:
        if legacy:
            self.legacy.route = route
        if new:
            self.new.route = route
        if book:
            self.book.current = RouteView(route)

    @contextmanager
    def routed(self, **more: Any) -> Iterator[Router[PromptRepository]]:
        more = {"settings": ShadowSettings(look_seconds=0.01), **more}
        router = Router[PromptRepository](PromptRepository, legacy=self.legacy, new=self.new, routes=self.book, **more)
        router._live.beat._seconds = 3600  # the route is read when a write asks for it, never by chance
        with router:
            yield router


def unavailable(name: str) -> None:
    raise StoreUnavailable("the store does not answer")


def test_a_refused_write_follows_its_authority() -> None:
    """A process with an old route is refused, reads the route once and goes to the other store: one write, counted."""
    sides, row = Sides(), prompt(SCOPE)
    with sides.routed() as router:
        sides.follow(MOVED)
        read_before = sides.book.reads
        assert router.repository.save(row) == row
        assert sides.book.reads == read_before + 1
        assert router.view.route == MOVED
        router.repository.update(replace(row, version=2))
    assert (sides.legacy.made, sides.new.made) == ([], [row.id, row.id])
    assert sides.legacy.asked == ["refused"], "the second write knew where to go"
    found = router.statistics()
    assert found.rerouted == {"save": 1}
    assert found.latency(Store.LEGACY, Role.SERVED).count == 1
    assert not found.errors


@pytest.mark.parametrize("back", [False, True])
def test_between_two_commits_a_write_waits_until_one_store_takes_it(back: bool) -> None:
    """While neither store takes the scope, in either direction, the write is offered again until one does."""
    before, after = (MOVED, replace(OLD, epoch=3)) if back else (OLD, MOVED)
    sides, row = Sides(route=before), prompt(SCOPE)
    loser, gainer = (sides.new, sides.legacy) if back else (sides.legacy, sides.new)
    with sides.routed() as router:
        loser.route = after
        if back:  # new keeps the route that processes read, so it is moved with new's commit
            sides.follow(after, legacy=False, new=False)
        done = threading.Event()

        def save() -> None:
            router.repository.save(row)
            done.set()

        thread = threading.Thread(target=save)
        thread.start()
        assert eventually(lambda: (sides.legacy.asked + sides.new.asked).count("refused") >= 3)
        assert not done.is_set()
        sides.follow(after)
        thread.join(10)
        assert done.is_set()
    assert (loser.made, gainer.made) == ([], [row.id])


def test_patience_ends_with_nothing_changed() -> None:
    """A write that no store takes is at last refused by name of its scope and of the command that helps."""
    sides, row = Sides(), prompt(SCOPE)
    with sides.routed(write_patience=0.02) as router:
        sides.legacy.route = MOVED
        with pytest.raises(NoAuthority, match=rf"{SCOPE}.*crossfade status; crossfade resume"):
            router.repository.save(row)
    assert (sides.legacy.made, sides.new.made) == ([], [])
    assert router.settle(0), "a refused write is not under way"


def test_a_record_cannot_change_stores_in_one_write() -> None:
    """An update from a scope of one store to a scope of the other is refused by both, and told why."""
    row = prompt(SCOPE)
    sides = Sides(row, route=MOVED)
    with (
        sides.routed(write_patience=0.02) as router,
        pytest.raises(NoAuthority, match="cannot go from a scope of one store"),
    ):
        router.repository.update(replace(row, project_id="other/project-1/custom"))
    assert sides.legacy.rows == sides.new.rows == {row.id: row}


def test_closing_ends_the_wait() -> None:
    """A write that waits for its authority does not keep a process from ending."""
    sides = Sides()
    raised: list[Exception] = []

    def save() -> None:
        try:
            router.repository.save(prompt(SCOPE))
        except NoAuthority as error:
            raised.append(error)

    with sides.routed(write_patience=3600) as router:
        sides.legacy.route = MOVED
        thread = threading.Thread(target=save)
        thread.start()
        assert eventually(lambda: "refused" in sides.legacy.asked)
    thread.join(10)
    assert len(raised) == 1


def test_an_unknown_outcome_is_never_tried_again() -> None:
    """A store that does not answer may have made the write: it is asked once, the other not at all, at any route."""
    sides = Sides()
    carrier = CopyingCarrier(sides.legacy, sides.new)
    with sides.routed(carrier=carrier) as router:
        sides.follow(MOVED, legacy=False)
        sides.legacy.before = unavailable
        with pytest.raises(StoreUnavailable):
            router.repository.save(prompt(SCOPE))
        assert router.settle(5)
        assert len(carrier.calls) == 1, "it was under way"
    assert (sides.legacy.asked, sides.new.asked) == (["save"], [])


def test_an_unknown_outcome_after_a_refusal_is_not_tried_again_either() -> None:
    """The store that a write was sent on to fails: the write ends there, and is under way from there."""
    sides = Sides()
    carrier = CopyingCarrier(sides.legacy, sides.new)
    with sides.routed(carrier=carrier) as router:
        sides.follow(MOVED)
        sides.new.before = unavailable
        with pytest.raises(StoreUnavailable):
            router.repository.save(prompt(SCOPE))
        assert router.settle(5)
        assert len(carrier.calls) == 1
    assert (sides.legacy.asked, sides.new.asked) == (["refused"], ["save"])


def test_a_refusal_by_a_store_that_lost_authority_is_no_answer() -> None:
    """Legacy, a shadow by now, does not know what new has: the write goes on to new and succeeds there."""
    row = prompt(SCOPE)
    sides = Sides()
    sides.new.rows[row.id] = row
    with sides.routed() as router:
        sides.follow(MOVED)
        assert router.repository.update(replace(row, version=2)).version == 2
    assert sides.legacy.asked == ["update"]
    assert sides.new.made == [row.id]
    assert router.statistics().rerouted == {"update": 1}


def test_a_refusal_by_the_authority_is_the_answer() -> None:
    """The caller gets the store's own refusal after one look at the route; the other store is not asked."""
    row = prompt(SCOPE)
    sides = Sides(row)
    with sides.routed() as router:
        read_before = sides.book.reads
        with pytest.raises(Conflict):
            router.repository.save(row)
        assert sides.book.reads == read_before + 1
    assert sides.new.asked == []
    assert not router.statistics().rerouted


def test_without_a_route_to_read_a_refusal_stands() -> None:
    """A route that cannot be read does not keep the refusal from the caller, and is not asked for at every refusal."""
    row = prompt(SCOPE)
    sides = Sides(row)
    with sides.routed() as router:
        sides.book.failing = True
        read_before = sides.book.reads
        for _ in range(3):
            with pytest.raises(Conflict):
                router.repository.save(row)
        assert sides.book.reads == read_before + 1


def test_a_refused_write_finds_its_way_once_the_route_can_be_read_again() -> None:
    """While the route cannot be read, a write without a store waits, as it does between two commits."""
    sides, row = Sides(), prompt(SCOPE)
    with sides.routed() as router:
        sides.follow(MOVED)
        sides.book.failing = True
        thread = threading.Thread(target=router.repository.save, args=(row,))
        thread.start()
        assert eventually(lambda: sides.legacy.asked.count("refused") >= 2)
        sides.book.failing = False
        thread.join(10)
    assert sides.new.made == [row.id]


@pytest.mark.parametrize("share", [0, 20, 80, 100])
@pytest.mark.parametrize("at", list(Store))
def test_a_write_by_key_finds_its_record_in_either_store(share: float, at: Store) -> None:
    """Under a divided authority a delete by id is made once, by the store that has authority over the record."""
    route = Route(epoch=1, writes_percent=share, pins={"a": Store.LEGACY, "b": Store.NEW})
    row = prompt("a/x" if at is Store.LEGACY else "b/x")
    sides = Sides(row, route=route)
    with sides.routed() as router:
        router.repository.delete(row.id)
    made = {Store.LEGACY: sides.legacy.made, Store.NEW: sides.new.made}
    assert (made[at], made[at.other]) == ([row.id], [])


@pytest.mark.parametrize("share", [20, 80])
def test_a_record_that_neither_store_has_is_not_found(share: float) -> None:
    """Each store is asked once; the likelier one first."""
    sides = Sides(route=Route(epoch=1, writes_percent=share))
    with sides.routed() as router, pytest.raises(NotFound):
        router.repository.delete(uuid4())
    assert sides.legacy.asked == sides.new.asked == ["delete"]
    found = router.statistics()
    assert found.rerouted == {"delete": 1}


def test_a_record_gone_from_its_authority_is_not_found() -> None:
    """Legacy, a shadow that still shows the record, refuses; new says that it is gone, and that is the answer."""
    row = prompt(SCOPE)
    sides = Sides(row, route=MOVED)
    sides.new.rows.clear()
    with sides.routed() as router, pytest.raises(NotFound):
        router.repository.delete(row.id)
    assert (sides.legacy.asked, sides.new.asked) == (["refused"], ["delete"])


def test_not_found_is_asked_again_of_a_store_that_gained_authority_meanwhile() -> None:
    """The record arrived, and its authority with it, after the store was asked: "not found" was of the time before."""
    row = prompt(SCOPE)
    sides = Sides(route=Route(epoch=1, writes_percent=80, pins={"acme": Store.LEGACY}))
    sides.legacy.rows[row.id] = row
    after = Route(epoch=2, writes_percent=80, pins={"acme": Store.NEW})

    def not_there_yet(name: str) -> None:
        sides.new.before = lambda name: None
        sides.new.rows[row.id] = row
        sides.legacy.route = after  # new has not committed: the route that processes read is the old one still
        raise NotFound("no such prompt")

    with sides.routed() as router:
        sides.new.before = not_there_yet
        thread = threading.Thread(target=router.repository.delete, args=(row.id,))
        thread.start()
        assert eventually(lambda: "refused" in sides.new.asked)
        sides.follow(after)
        thread.join(10)
    assert (sides.legacy.made, sides.new.made) == ([], [row.id])


def test_writers_lose_nothing_while_authority_goes_to_and_fro() -> None:
    """Four writers, a dozen moves with a gap between both commits: each write is made once, where authority was."""
    sides = Sides()
    stop, pause = threading.Event(), threading.Event()  # the latter is never set: it gives way to the others
    acknowledged: list[UUID] = []

    def write(writer: int) -> None:
        while not pause.wait(0.0005) and not stop.is_set():
            row = prompt(f"acme/project-{writer}/custom", enabled=False)
            router.repository.save(row)
            acknowledged.append(row.id)
            if row.id.int % 3 == 0:
                router.repository.delete(row.id)
                acknowledged.append(row.id)

    def move(epoch: int) -> None:
        to = Store.NEW if epoch % 2 else Store.LEGACY
        gainer, loser = (sides.new, sides.legacy) if to is Store.NEW else (sides.legacy, sides.new)
        after = Route(epoch=epoch, pins={"acme": to})
        with loser.lock:  # the fence: what is under way ends first, then all is carried over
            gainer.rows = dict(loser.rows)
            loser.route = after
        seen = len(loser.asked) + len(gainer.asked)
        assert eventually(lambda: len(loser.asked) + len(gainer.asked) > seen + 4)
        with gainer.lock:
            sides.follow(after)
        seen = len(acknowledged)
        assert eventually(lambda: len(acknowledged) > seen + 4)

    with sides.routed() as router:
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        try:
            for epoch in range(3, 15):
                move(epoch)
        finally:
            stop.set()
            for thread in threads:
                thread.join(10)
    made: list[UUID] = sides.legacy.made + sides.new.made
    assert sorted(made) == sorted(acknowledged)
    kept = {id for id, times in Counter(acknowledged).items() if times == 1}
    assert set(sides.legacy.rows) == kept, "legacy had authority last"
    assert router.statistics().rerouted.total() > 0


def test_a_conflict_is_the_answer_of_whoever_was_asked() -> None:
    """Under a divided authority only "not found" sends a write without a scope to the other store, not a conflict."""
    row = prompt(None)
    sides = Sides(row, route=MOVED)
    with sides.routed() as router, pytest.raises(Conflict):
        router.repository.save(row)
    assert sides.new.asked == []
