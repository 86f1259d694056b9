"""Routing: who is asked, what the caller gets, and which reads stand apart."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from fakes import CopyingCarrier, InMemoryPrompts, RouteBook, eventually, prompt

from adapters.prompts.contract import PromptRepository
from adapters.prompts.prompt import PromptFilter
from harness.errors import Conflict, NotFound, StoreUnavailable
from harness.router import Router
from harness.routing import Route, RouteView, Store
from harness.settings import ShadowSettings
from harness.statistics import Drop, Failure, Result, Role

QUICK = ShadowSettings(look_seconds=0.01)


@contextmanager
def routed(
    legacy: InMemoryPrompts, new: InMemoryPrompts, book: RouteBook, **more: Any
) -> Iterator[Router[PromptRepository]]:
    more.setdefault("settings", QUICK)
    with Router[PromptRepository](PromptRepository, legacy=legacy, new=new, routes=book, **more) as router:
        yield router


def unavailable(name: str) -> None:
    raise StoreUnavailable("the store does not answer")


def broken(name: str) -> None:
    raise ZeroDivisionError("a bug in the store's adapter")


def twins(*rows: Any) -> tuple[InMemoryPrompts, InMemoryPrompts]:
    return InMemoryPrompts(*rows), InMemoryPrompts(*rows)


def test_new_serves_its_share_and_the_other_store_is_shadowed() -> None:
    """With 30 % of reads, a seeded thousand of them: new serves what was drawn, and all are compared and match."""
    row = prompt()
    legacy, new = twins(row)
    draws = random.Random(7)
    drawn = [draws.random() for _ in range(2000)]  # each read draws its store, then its shadow
    with routed(legacy, new, RouteBook.of(reads=30), random=random.Random(7).random) as router:
        for _ in range(1000):
            assert router.repository.find_by_id(row.id) == row
        assert router.settle(5)
    found = router.statistics()
    by_new = sum(value * 100 < 30 for value in drawn[::2])
    assert found.latency(Store.NEW, Role.SERVED).count == by_new
    assert found.latency(Store.LEGACY, Role.SERVED).count == 1000 - by_new
    assert found.latency(Store.LEGACY, Role.SHADOWED).count == by_new
    assert found.results() == {Result.MATCHED: 1000}


@pytest.mark.parametrize(("reads", "served"), [(0, Store.LEGACY), (100, Store.NEW)])
def test_the_whole_share_leaves_nothing_to_chance(reads: float, served: Store) -> None:
    """At 0 and at 100 % one store serves every read."""
    legacy, new = twins()
    with routed(legacy, new, RouteBook.of(reads=reads, shadow=0)) as router:
        for _ in range(200):
            router.repository.find_by_id(uuid4())
    found = router.statistics()
    assert found.latency(served, Role.SERVED).count == 200
    assert found.latency(served.other).count == 0
    assert found.results() == {}


def test_the_shadow_share_limits_what_is_compared() -> None:
    """With a shadow share of 25 %, a seeded quarter of the reads is asked of the other store."""
    legacy, new = twins()
    draws = random.Random(3)
    drawn = [draws.random() for _ in range(800)]
    with routed(legacy, new, RouteBook.of(shadow=25), random=random.Random(3).random) as router:
        for _ in range(400):
            router.repository.find_by_id(uuid4())
        assert router.settle(5)
    shadowed = sum(value * 100 < 25 for value in drawn[1::2])
    assert len(new.asked) == shadowed
    assert router.statistics().results() == {Result.MATCHED: shadowed}


def test_keyword_arguments_and_defaults_reach_both_stores() -> None:
    """Calls keep their form on the way to both stores, positional, by name and with defaults."""
    row = prompt(None)
    legacy, new = twins(row)
    with routed(legacy, new, RouteBook.of(reads=50)) as router:
        assert router.repository.find_by_name("Summary") == row
        assert router.repository.find_by_name(name="Summary", project_id=None) == row
        assert router.repository.find_all(PromptFilter(limit=5)).items == (row,)
        assert router.settle(5)
    assert router.statistics().results() == {Result.MATCHED: 3}


def test_a_refusal_reaches_the_caller_unchanged_after_both_sides_were_observed() -> None:
    """An error of the served store is the caller's own object, and the other store's outcome is compared with it."""
    legacy, new = twins()
    refusal = NotFound("no such prompt")

    def refuse(name: str) -> None:
        raise refusal

    legacy.before = new.before = refuse
    with routed(legacy, new, RouteBook.of()) as router:
        with pytest.raises(NotFound) as caught:
            router.repository.find_by_id(uuid4())
        assert caught.value is refusal
        assert router.settle(5)
    found = router.statistics()
    assert new.asked == ["find_by_id"]
    assert found.results() == {Result.MATCHED: 1}
    assert not found.errors


def test_an_unknown_error_propagates_and_is_counted() -> None:
    """Any other exception goes to the caller as it is, counts as an error, and is compared by its class."""
    legacy, new = twins()
    legacy.before = new.before = broken
    with routed(legacy, new, RouteBook.of()) as router:
        with pytest.raises(ZeroDivisionError):
            router.repository.find_by_id(uuid4())
        assert router.settle(5)
    found = router.statistics()
    assert found.errors["find_by_id", Store.LEGACY, Role.SERVED] == 1
    assert found.errors["find_by_id", Store.NEW, Role.SHADOWED] == 1
    assert found.results() == {Result.MATCHED: 1}


def test_arguments_that_make_no_sense_are_for_the_store_to_refuse() -> None:
    """A call with the wrong arguments raises the store's own TypeError, held scopes or not."""
    legacy, new = twins()
    with routed(legacy, new, RouteBook.of(held_scopes=frozenset({"a"}))) as router:
        with pytest.raises(TypeError):
            router.repository.find_by_id()  # type: ignore[call-arg]  # that is the point
        with pytest.raises(AttributeError):
            router.repository.find_all(None)  # type: ignore[arg-type]  # that is the point


def test_a_read_falls_back_to_the_other_store() -> None:
    """A read whose store is away is answered by the other one; fallback, error and lost comparison are counted."""
    row = prompt()
    legacy, new = twins(row)
    new.before = unavailable
    with routed(legacy, new, RouteBook.of(reads=100)) as router:
        assert router.repository.find_by_id(row.id) == row
    found = router.statistics()
    assert found.fallbacks == {"find_by_id": 1}
    assert found.errors == {("find_by_id", Store.NEW, Role.SERVED): 1}
    assert found.drops == {Drop.STORE_FAILED: 1}
    assert found.results() == {Result.NOT_COMPARED: 1}
    assert found.latency(Store.LEGACY, Role.SERVED).count == 1


def test_without_fallback_the_error_is_the_callers() -> None:
    """With fallback off, the caller gets StoreUnavailable and waits for no other store."""
    legacy, new = twins()
    new.before = unavailable
    settings = ShadowSettings(fallback=False)
    with routed(legacy, new, RouteBook.of(reads=100), settings=settings) as router, pytest.raises(StoreUnavailable):
        router.repository.find_by_id(uuid4())
    assert not router.statistics().fallbacks


def test_once_legacy_was_let_go_of_nothing_falls_back_to_it() -> None:
    """Nothing is carried to legacy any more: an old answer, or a record deleted since, would be worse than none."""
    row = prompt()
    legacy, new = twins(row)
    book = RouteBook.of(reads=100, shadow=0)
    with routed(legacy, new, book) as router:
        new.before = unavailable
        assert router.repository.find_by_id(row.id) == row
        book.current = replace(book.current, complete=True)
        assert eventually(lambda: router.view.complete)
        with pytest.raises(StoreUnavailable):
            router.repository.find_by_id(row.id)
    assert legacy.asked == ["find_by_id"]
    assert router.statistics().fallbacks == {"find_by_id": 1}


def test_when_both_stores_are_away_the_first_error_is_the_callers() -> None:
    """If the fallback fails as well, the served store's own error is raised, whatever the other one raised."""
    legacy, new = twins()
    new.before, legacy.before = unavailable, broken
    with routed(legacy, new, RouteBook.of(reads=100)) as router, pytest.raises(StoreUnavailable):
        router.repository.find_by_id(uuid4())
    assert len(router.statistics().errors) == 2


def test_a_fallbacks_refusal_is_an_answer() -> None:
    """If the other store refuses the operation, the caller gets the refusal, not the first store's outage."""
    legacy, new = twins()

    def refuse(name: str) -> None:
        raise NotFound("no such prompt")

    new.before, legacy.before = unavailable, refuse
    with routed(legacy, new, RouteBook.of(reads=100)) as router, pytest.raises(NotFound):
        router.repository.find_by_id(uuid4())


def test_held_reads_stay_with_legacy_and_are_not_compared() -> None:
    """Quarantined scopes and keys, and unscoped reads while the sets differ, are legacy's at 100 % too."""
    held, free = prompt("acme/project-9/held"), prompt("acme/project-1/free")
    legacy, new = twins(held, free)
    book = RouteBook.of(
        reads=100,
        held_scopes=frozenset({"acme/project-9/held"}),
        held_keys=frozenset({held.id}),
        sets_differ=True,
    )
    with routed(legacy, new, book) as router:
        router.repository.find_enabled_by_project("acme/project-9/held")
        router.repository.find_by_id(held.id)
        router.repository.find_by_name("Summary")
        router.repository.find_all(PromptFilter())
        assert new.asked == []
        router.repository.find_by_id(free.id)
        router.repository.find_enabled_by_project("acme/project-1/free")
        assert router.settle(5)
    found = router.statistics()
    assert found.latency(Store.NEW, Role.SERVED).count == 2
    assert found.drops == {Drop.HELD: 4}
    assert found.results() == {Result.NOT_COMPARED: 4, Result.MATCHED: 2}


def test_held_reads_never_fall_back() -> None:
    """What new is known not to hold must not be answered by new, even when legacy is away."""
    legacy, new = twins()
    legacy.before = unavailable
    with (
        routed(legacy, new, RouteBook.of(held_scopes=frozenset({"a"}))) as router,
        pytest.raises(StoreUnavailable),
    ):
        router.repository.find_enabled_by_project("a")
    assert new.asked == []
    assert router.statistics().errors == {("find_enabled_by_project", Store.LEGACY, Role.SERVED): 1}


def test_owed_reads_are_new_s_and_not_compared() -> None:
    """Records that only new can hold are read from new at 0 % too, by scope and by key, and never fall back."""
    owed = prompt("project-123", enabled=True)
    legacy, new = twins()
    new.rows[owed.id] = owed
    book = RouteBook.of(owed_scopes=frozenset({"project-123"}), owed_keys=frozenset({owed.id}))
    with routed(legacy, new, book) as router:
        assert router.repository.find_enabled_by_project("project-123") == owed
        assert router.repository.find_by_id(owed.id) == owed
        new.before = unavailable
        with pytest.raises(StoreUnavailable):
            router.repository.find_by_id(owed.id)
    assert legacy.asked == []
    assert router.statistics().drops == {Drop.HELD: 3}


@pytest.mark.parametrize(
    ("route", "served"),
    [
        (Route(epoch=1, writes_percent=100), Store.NEW),
        (Route(epoch=1, reads_percent=100), Store.LEGACY),
        (Route(epoch=1, reads_percent=100, writes_percent=50), Store.LEGACY),
        (Route(epoch=1, writes_percent=100, pins={"held": Store.LEGACY}), Store.LEGACY),
    ],
)
def test_while_the_sets_differ_a_list_of_everything_is_the_sole_authoritys(route: Route, served: Store) -> None:
    """It comes from the store with authority over everything, else from legacy."""
    legacy, new = twins()
    with routed(legacy, new, RouteBook(RouteView(route, sets_differ=True))) as router:
        router.repository.find_all(PromptFilter())
    assert router.statistics().latency(served, Role.SERVED).count == 1
    assert router.statistics().latency(served.other, Role.SERVED).count == 0


def test_under_a_divided_authority_a_key_just_written_is_read_where_it_was_written() -> None:
    """A read by key, and a list of everything, go to the store that took the writes under way."""
    route = Route(epoch=1, writes_percent=0, pins={"moved": Store.NEW})
    mine = prompt("moved/project-1")
    legacy, new = twins()
    carrier = CopyingCarrier(legacy, new)
    carrier.allow.clear()
    with routed(legacy, new, RouteBook(RouteView(route)), carrier=carrier) as router:
        repository = router.repository
        repository.save(mine)
        assert repository.find_by_id(mine.id) == mine
        assert repository.find_all(PromptFilter()).items == (mine,)
        repository.delete(mine.id)
        assert repository.find_by_id(mine.id) is None
        assert legacy.asked == ["delete"], "asked first, for it has most scopes, and it had no such record"
        other = prompt("stayed/project-1")
        repository.save(other)
        assert repository.find_by_id(other.id) == other
        assert legacy.asked == ["delete", "save", "find_by_id"]
        carrier.allow.set()


def test_a_list_shows_what_was_just_written_while_the_sets_differ() -> None:
    """The store that took the writes under way answers, although the other one holds rows that it does not."""
    route = Route(epoch=1, writes_percent=100, pins={"held": Store.LEGACY})
    mine, held = prompt("moved/project-1"), prompt("held")
    legacy, new = twins()
    legacy.rows[held.id] = held
    view = RouteView(route, frozenset({"held"}), frozenset({held.id}), sets_differ=True)
    carrier = CopyingCarrier(legacy, new)
    carrier.allow.clear()
    with routed(legacy, new, RouteBook(view), carrier=carrier) as router:
        assert router.repository.find_all(PromptFilter()).items == (held,)
        router.repository.save(mine)
        assert router.repository.find_all(PromptFilter()).items == (mine,)
        assert router.repository.find_by_id(held.id) == held
        carrier.allow.set()
    assert router.statistics().drops == {Drop.HELD: 3}


def test_writes_go_to_the_store_with_authority() -> None:
    """All three writes go to legacy while it has authority, by scope or, for a delete by id, as a whole."""
    row = prompt()
    legacy, new = twins()
    with routed(legacy, new, RouteBook.of(reads=100)) as router:
        router.repository.save(row)
        router.repository.update(replace(row, version=2))
        router.repository.delete(row.id)
    assert legacy.asked == ["save", "update", "delete"]
    assert new.asked == []
    assert router.statistics().latency(Store.LEGACY, Role.SERVED).count == 3


def test_a_scopes_authority_decides_where_its_writes_go() -> None:
    """A write of a scope whose authority is new goes to new, by the same formula as the route's."""
    view = RouteView(Route(epoch=1, writes_percent=50, salt="s"))
    rows = [prompt(f"scope-{n}") for n in range(40)]
    moved = {row.id for row in rows if view.route.authority(str(row.project_id)) is Store.NEW}
    assert 0 < len(moved) < 40
    legacy, new = twins()
    with routed(legacy, new, RouteBook(view)) as router:
        for row in rows:
            router.repository.save(row)
    assert set(new.rows) == moved
    assert set(legacy.rows) == {row.id for row in rows} - moved


def test_reads_of_a_scope_just_written_go_to_its_authority() -> None:
    """Until a write is carried over, reads that may touch it are legacy's; others are served by new as drawn."""
    mine, other = prompt("mine", enabled=True), prompt("other", enabled=True)
    legacy, new = twins(other)
    carrier = CopyingCarrier(legacy, new)
    carrier.allow.clear()
    with routed(legacy, new, RouteBook.of(reads=100), carrier=carrier) as router:
        repository = router.repository
        repository.save(mine)
        assert repository.find_enabled_by_project("mine") == mine
        assert repository.find_by_id(mine.id) == mine
        assert mine in repository.find_all(PromptFilter()).items
        assert new.asked == []
        assert repository.find_enabled_by_project("other") == other
        assert repository.find_by_id(other.id) == other
        assert new.asked == ["find_enabled_by_project", "find_by_id"]
        assert router.statistics().drops == {Drop.UNDER_WAY: 3}
        carrier.allow.set()
        assert router.settle(5)
        assert repository.find_enabled_by_project("mine") == mine
        assert new.asked.count("find_enabled_by_project") == 2
    assert carrier.calls == [(frozenset({"mine"}), frozenset({mine.id}))]


def test_a_delete_by_id_may_have_touched_any_scope() -> None:
    """While a write of unknown scope is under way, every scoped read is legacy's; reads of other keys are not."""
    gone, other = prompt("mine", enabled=True), prompt("other", enabled=True)
    legacy, new = twins(gone, other)
    carrier = CopyingCarrier(legacy, new)
    carrier.allow.clear()
    with routed(legacy, new, RouteBook.of(reads=100), carrier=carrier) as router:
        router.repository.delete(gone.id)
        assert router.repository.find_enabled_by_project("mine") is None
        assert router.repository.find_by_id(gone.id) is None
        assert new.asked == []
        router.repository.find_by_id(other.id)
        assert new.asked == ["find_by_id"]
        carrier.allow.set()
    assert carrier.calls == [(frozenset(), frozenset({gone.id}))]


def test_an_update_may_have_left_any_scope() -> None:
    """While an update is under way, reads of every scope are its authority's: it may have taken the record from any."""
    row = prompt("before", enabled=True)
    legacy, new = twins(row)
    carrier = CopyingCarrier(legacy, new)
    carrier.allow.clear()
    with routed(legacy, new, RouteBook.of(reads=100), carrier=carrier) as router:
        router.repository.update(replace(row, project_id="after"))
        assert router.repository.find_enabled_by_project("before") is None
        assert new.asked == []
        carrier.allow.set()


def test_a_refused_write_is_not_under_way_and_a_failed_one_is() -> None:
    """A refusal changed nothing; after an outage the commit may have been made, so the scope is carried over."""
    row = prompt("mine")
    legacy, new = twins(row)
    carrier = CopyingCarrier(legacy, new)
    with routed(legacy, new, RouteBook.of(), carrier=carrier) as router:
        with pytest.raises(Conflict):
            router.repository.save(row)
        assert router.settle(5)
        assert carrier.calls == []
        legacy.before = unavailable
        with pytest.raises(StoreUnavailable):
            router.repository.save(prompt("mine"))
        assert router.settle(5)
        assert len(carrier.calls) == 1
    assert router.statistics().errors == {("save", Store.LEGACY, Role.SERVED): 1}


def test_what_cannot_be_carried_stays_under_way_and_is_tried_again() -> None:
    """A carrier that fails is asked again and counted; its scopes stay with their authority, settled ones do not."""
    stuck, fine = prompt("stuck", enabled=True), prompt("fine", enabled=True)
    legacy, new = twins()
    carrier = CopyingCarrier(legacy, new)
    carrier.allow.clear()
    carrier.failing = True
    carrier.unsettled = {("stuck", stuck.id)}
    with routed(legacy, new, RouteBook.of(reads=100), carrier=carrier) as router:
        router.repository.save(stuck)
        router.repository.save(fine)
        carrier.allow.set()
        assert eventually(lambda: len(carrier.calls) >= 3)
        assert carrier.calls[-1] == (frozenset({"stuck"}), frozenset({stuck.id}))
        assert router.repository.find_enabled_by_project("stuck") == stuck
        router.repository.find_enabled_by_project("fine")
        assert new.asked[-1] == "find_enabled_by_project"
        assert router.statistics().failures[Failure.CARRY] >= 2
        carrier.failing, carrier.unsettled = False, set()
        assert router.settle(5)


def test_without_a_carrier_nothing_is_under_way() -> None:
    """A router that carries nothing over has no reason to hold reads back."""
    row = prompt("mine")
    legacy, new = twins()
    with routed(legacy, new, RouteBook.of(reads=100, shadow=0)) as router:
        router.repository.save(row)
        assert router.repository.find_by_id(row.id) is None
        assert new.asked == ["find_by_id"]


def test_a_changed_route_is_followed() -> None:
    """The persisted percentage is picked up while operations go on, without a restart."""
    legacy, new = twins()
    book = RouteBook.of(reads=0)
    with routed(legacy, new, book) as router:
        router.repository.find_by_id(uuid4())
        assert router.statistics().latency(Store.NEW, Role.SERVED).count == 0
        book.current = RouteView(Route(epoch=2, reads_percent=100))
        assert eventually(lambda: router.view.route.epoch == 2)
        router.repository.find_by_id(uuid4())
    assert router.statistics().latency(Store.NEW, Role.SERVED).count == 1


def test_the_last_known_route_stays_while_its_source_is_away() -> None:
    """A route that cannot be read is counted, and the process goes on with the one it knew."""
    legacy, new = twins()
    book = RouteBook.of(reads=100)
    with routed(legacy, new, book) as router:
        book.failing = True
        assert eventually(lambda: router.statistics().failures[Failure.ROUTE] >= 2)
        assert router.view.route.reads_percent == 100
        book.failing = False
        book.current = RouteView(Route(epoch=2, reads_percent=10))
        assert eventually(lambda: router.view.route.reads_percent == 10)


def test_a_router_does_not_start_without_a_route() -> None:
    """Starting blind is refused: the first read of the route raises."""
    legacy, new = twins()
    router = Router(PromptRepository, legacy=legacy, new=new, routes=RouteBook(failing=True))
    with pytest.raises(StoreUnavailable):
        router.start()


def test_after_close_operations_are_served_and_not_compared() -> None:
    """An application that outlives the router still gets its answers; the comparisons count as stopped."""
    row = prompt()
    legacy, new = twins(row)
    with routed(legacy, new, RouteBook.of(reads=100)) as router:
        pass
    assert router.repository.find_by_id(row.id) == row
    assert router.statistics().drops == {Drop.STOPPED: 1}
