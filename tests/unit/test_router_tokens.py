"""Session tokens: what was written in one process is not read older in another."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from fakes import CopyingCarrier, InMemoryPrompts, RouteBook, prompt
from hypothesis import given
from hypothesis import strategies as st

from adapters.prompts.contract import PromptRepository
from adapters.prompts.prompt import PromptFilter
from harness.errors import ConfigError, StoreUnavailable
from harness.handover import Handover
from harness.live import LiveRoute
from harness.router import Router
from harness.routing import Route, RouteView, Store
from harness.statistics import Drop
from harness.underway import UnderWay


class Processes:
    """Two processes before the same two stores, each with a carrier and a route of its own to follow."""

    def __init__(self, *rows: Any) -> None:
        self.legacy, self.new = InMemoryPrompts(*rows), InMemoryPrompts(*rows)
        self.books = [RouteBook.of(reads=100), RouteBook.of(reads=100)]
        self.carriers = [CopyingCarrier(self.legacy, self.new) for _ in range(2)]
        for carrier in self.carriers:
            carrier.allow.clear()

    @contextmanager
    def running(self) -> Iterator[tuple[Router[PromptRepository], Router[PromptRepository]]]:
        one, other = (
            Router[PromptRepository](
                PromptRepository, legacy=self.legacy, new=self.new, routes=book, carrier=carrier, key_of=UUID
            )
            for book, carrier in zip(self.books, self.carriers, strict=True)
        )
        with one, other:
            yield one, other
            for carrier in self.carriers:
                carrier.allow.set()


def handover(carrier: Any, book: RouteBook | None = None, key_of: Any = str, limit: int = 10_000) -> Any:
    """A handover that is not running: what is under way stays so."""
    live = LiveRoute(book or RouteBook(), changed=lambda view: None, failed=lambda error: None)
    live.refresh()
    under_way = UnderWay(carrier, failed=lambda error: None, limit=limit)
    return Handover(live, under_way, key_of), under_way, live


@pytest.fixture
def carrier() -> CopyingCarrier:
    return CopyingCarrier(InMemoryPrompts(), InMemoryPrompts())


def test_another_process_reads_what_was_just_written() -> None:
    """After observing the token, reads that touch the write are its authority's, until it is carried over."""
    mine, other = prompt("mine", enabled=True), prompt("other", enabled=True)
    processes = Processes(other)
    with processes.running() as (writing, reading):
        writing.repository.save(mine)
        assert reading.repository.find_by_id(mine.id) is None, "it has not heard of the write"
        reading.observe(writing.token())
        assert reading.repository.find_by_id(mine.id) == mine
        assert reading.repository.find_enabled_by_project("mine") == mine
        assert mine in reading.repository.find_all(PromptFilter()).items
        asked = len(processes.new.asked)
        assert reading.repository.find_by_id(other.id) == other
        assert len(processes.new.asked) == asked + 1, "what the write does not touch is new's as before"
        assert reading.statistics().drops[Drop.UNDER_WAY] == 3
        processes.carriers[1].allow.set()
        assert reading.settle(5)
        assert reading.repository.find_by_id(mine.id) == mine
        assert processes.new.asked[-1] == "find_by_id"


def test_a_token_of_a_newer_route_brings_the_route_along() -> None:
    """The observing process reads the route before anything else, if the token's maker followed a newer one."""
    processes = Processes()
    moved = RouteView(Route(epoch=2, pins={"acme": Store.NEW}))
    with processes.running() as (writing, reading):
        processes.books[0].current = processes.books[1].current = moved
        writing._live.refresh()
        reading.observe(writing.token())
        assert reading.view == moved


def test_a_token_tells_of_quarantine_too(carrier: CopyingCarrier) -> None:
    """A write that ended in quarantine is no longer under way: the token shows that its maker knows of another set."""
    book = RouteBook(RouteView(held_scopes=frozenset({"held"})))
    writing, _, _ = handover(carrier, book)
    reading_book = RouteBook()
    reading, _, live = handover(carrier, reading_book)
    reading_book.current = book.current
    reading.observe(writing.token())
    assert live.current.held_scopes == {"held"}
    reads = reading_book.reads
    reading.observe(writing.token())
    assert reading_book.reads == reads, "known by now"


@pytest.mark.parametrize("crowded", [False, True])
def test_a_write_elsewhere_than_the_route_says_brings_the_route_along(carrier: CopyingCarrier, crowded: bool) -> None:
    """Authority went and came back: the maker has never heard of it, and the other process only of its going."""
    writing, of_writer, _ = handover(carrier, RouteBook(RouteView(Route(epoch=1))))
    book = RouteBook(RouteView(Route(epoch=2, writes_percent=100)))
    reading, _, live = handover(carrier, book)
    book.current = RouteView(Route(epoch=3))
    for number in range(200 if crowded else 1):
        of_writer.note("mine", str(number), Store.LEGACY)
    reading.observe(writing.token())
    assert live.current.route.epoch == 3
    reads = book.reads
    reading.observe(writing.token())
    assert book.reads == reads, "known by now"


def test_a_route_that_is_out_of_date_and_cannot_be_read_is_an_error(carrier: CopyingCarrier) -> None:
    """It would read from where the write is not: the caller is told, and the writes are under way all the same."""
    writing, of_writer, _ = handover(carrier, RouteBook(RouteView(Route(epoch=2))))
    of_writer.note("mine", "k", Store.LEGACY)
    book = RouteBook()
    reading, of_reader, _ = handover(carrier, book)
    book.failing = True
    with pytest.raises(StoreUnavailable):
        reading.observe(writing.token())
    assert of_reader.touches("mine", None)


writes = st.tuples(
    st.one_of(st.none(), st.text(max_size=20)), st.one_of(st.none(), st.uuids()), st.sampled_from(list(Store))
)


@given(st.lists(writes, max_size=200), st.integers(0, 200))
def test_every_write_is_in_the_token(made: list[tuple[str | None, UUID | None, Store]], limit: int) -> None:
    """However many there are and whatever they name, the other process counts each as under way; the text is small."""
    carrier = CopyingCarrier(InMemoryPrompts(), InMemoryPrompts())
    writing, of_writer, _ = handover(carrier, key_of=UUID, limit=limit)
    reading, of_reader, _ = handover(carrier, key_of=UUID)
    for scope, key, store in made:
        of_writer.note(scope, key, store)
    token = writing.token()
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,3000}", token)
    reading.observe(token)
    assert all(of_reader.touches(scope, key) for scope, key, _ in made)
    assert bool(of_reader.pending) == bool(made)


def test_few_writes_are_told_apart(carrier: CopyingCarrier) -> None:
    """A token of a dozen writes of usual length names each; reads of anything else are not held back."""
    writing, of_writer, _ = handover(carrier, key_of=UUID)
    reading, of_reader, _ = handover(carrier, key_of=UUID)
    made = [(f"acme/project-{n}/incident-summary", uuid4()) for n in range(12)]
    for scope, key in made:
        of_writer.note(scope, key, Store.NEW)
    reading.observe(writing.token())
    assert of_reader.present() == (dict.fromkeys(made, Store.NEW), frozenset())
    assert not of_reader.touches("acme/project-99/incident-summary", uuid4())


@pytest.mark.parametrize(("count", "scope"), [(101, "s"), (20, "s" * 200)])
def test_more_writes_than_fit_are_all_under_way(carrier: CopyingCarrier, count: int, scope: str) -> None:
    """Too many, or too long ones, are not told apart: every read is held back rather than one too few."""
    writing, of_writer, _ = handover(carrier)
    reading, of_reader, _ = handover(carrier)
    for number in range(count):
        of_writer.note(f"{scope}{number}", str(number), Store.LEGACY)
    assert len(writing.token()) < 3000
    reading.observe(writing.token())
    assert of_reader.touches(f"{scope}0", None)
    assert of_reader.touches("never written", "x")


def test_an_overflow_is_in_the_token(carrier: CopyingCarrier) -> None:
    """Writes that the maker does not tell apart any more hold every read back in the other process too."""
    writing, of_writer, _ = handover(carrier, limit=1)
    reading, of_reader, _ = handover(carrier)
    of_writer.note("a", "1", Store.LEGACY)
    of_writer.note("b", "2", Store.LEGACY)
    reading.observe(writing.token())
    assert of_reader.touches("never written", "3")


@pytest.mark.parametrize("store", list(Store))
def test_writes_not_told_apart_are_read_where_they_went(store: Store) -> None:
    """Under a divided authority a token of too many writes says in which store they are: a record by its key alone, and
    a list of everything, are read there."""
    processes = Processes()
    processes.carriers[1].unsettled = {(None, None)}
    route = RouteView(Route(epoch=1, reads_percent=100, pins={"moved": Store.NEW}))
    for book in processes.books:
        book.current = route
    with processes.running() as (writing, reading):
        rows = [prompt(f"{'moved' if store is Store.NEW else 'stayed'}/{n}") for n in range(101)]
        for row in rows:
            writing.repository.save(row)
        reading.observe(writing.token())
        assert all(reading.repository.find_by_id(row.id) == row for row in rows)
        assert reading.repository.find_all(PromptFilter(limit=100)).total == len(rows)
        assert processes.carriers[1].asked_for == []


def test_where_a_write_among_many_went_is_asked_of_the_carrier() -> None:
    """Too many writes to tell apart, in both stores: a record by its key alone is read where it is noted."""
    processes = Processes()
    processes.carriers[1].unsettled = {(None, None)}
    for book in processes.books:
        book.current = RouteView(Route(epoch=1, pins={"moved": Store.NEW}))
    with processes.running() as (writing, reading):
        rows = [prompt(f"{'moved' if n % 2 else 'stayed'}/{n}") for n in range(101)]
        for row in rows:
            writing.repository.save(row)
            moved = str(row.project_id).startswith("moved")
            processes.carriers[1].noted[row.id] = {Store.NEW if moved else Store.LEGACY}
        reading.observe(writing.token())
        assert all(reading.repository.find_by_id(row.id) == row for row in rows)
        assert processes.carriers[1].calls == [], "nothing is waited for"


def test_a_key_that_does_not_survive_as_text_is_not_told_apart(carrier: CopyingCarrier) -> None:
    """A composite key, without a key_of that makes it again, may be any key: too much is held back, not too little."""
    writing, of_writer, _ = handover(carrier)
    reading, of_reader, _ = handover(carrier)
    of_writer.note("ann", ("ann", "EUR"), Store.LEGACY)
    reading.observe(writing.token())
    assert of_reader.touches(None, ("ann", "EUR"))
    assert of_reader.touches("ann", None)
    assert not of_reader.touches("bob", None)
    of_writer.note(None, ("bob", "EUR"), Store.LEGACY)
    reading.observe(writing.token())
    assert of_reader.touches("bob", None)


def packed(*body: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("=")


def test_the_shape_of_tokens_below(carrier: CopyingCarrier) -> None:
    """A token of the shape that the broken ones below depart from is taken."""
    reading, under_way, _ = handover(carrier, key_of=UUID)
    reading.observe(packed(2, 0, 0, "n", [["l", "mine", None]]))
    assert under_way.present() == ({("mine", None): Store.LEGACY}, {Store.NEW})


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="nothing"),
        pytest.param("secret-and-wrong", id="no JSON"),
        pytest.param("ü", id="no ASCII"),
        pytest.param(packed(2, 0, 0, "", []) + "!", id="no base64"),
        pytest.param(packed(2, 0, 0, ""), id="too few parts"),
        pytest.param(packed(1, 0, 0, "", []), id="another version"),
        pytest.param(packed(2, "0", 0, "", []), id="an epoch of text"),
        pytest.param(packed(2, 0, 0, True, []), id="others of no store"),
        pytest.param(packed(2, 0, 0, "x", []), id="others of no such store"),
        pytest.param(packed(2, 0, 0, "", [["l", None, None]]), id="a write of nothing"),
        pytest.param(packed(2, 0, 0, "", [["x", "mine", None]]), id="no such store"),
        pytest.param(packed(2, 0, 0, "", [["l", 5, None]]), id="a scope of numbers"),
        pytest.param(packed(2, 0, 0, "", [["l", None, "no uuid"]]), id="no key"),
        pytest.param(packed(2, 0, 0, "", [["l", "mine", None]] * 1000), id="too long"),
        pytest.param(packed([[[[]]]] * 200), id="nested"),
    ],
)
def test_what_is_no_token_is_refused(carrier: CopyingCarrier, token: str) -> None:
    """It raises ConfigError, shows nothing of the text, and leaves nothing under way."""
    reading, under_way, _ = handover(carrier, key_of=UUID)
    with pytest.raises(ConfigError, match="no session token") as caught:
        reading.observe(token)
    assert len(token) < 4 or token not in str(caught.value)
    assert not under_way.pending


def test_without_a_carrier_there_are_no_tokens() -> None:
    """A router that does not know when writes have arrived neither makes a token nor pretends to observe one."""
    router = Router[Any](PromptRepository, legacy=InMemoryPrompts(), new=InMemoryPrompts(), routes=RouteBook())
    with pytest.raises(ConfigError, match="carrier"):
        router.token()
    with pytest.raises(ConfigError, match="carrier"):
        router.observe("")
