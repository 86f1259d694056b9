"""Seeded bugs: with one rule of the protocol broken, the same few steps end in a violation that the checker names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from random import Random
from threading import Event

import psycopg
import pytest

from adapters.postgres.fence import RouteFences
from adapters.prompts.migration import Stores
from adapters.prompts.prompt_manager import prompts
from chaos.checker import check
from chaos.clients import RawWriter, dispatch_sentences, judge_raw, typescript_sentences
from chaos.history import History, Outcome
from chaos.world import Servers, World, two_servers, world
from harness.cli.authority import begin
from harness.cli.planning import plan
from harness.failpoints import FailpointRaised
from harness.moving import Act, Drained, Fence, Mover, Stand
from harness.phases import Phase
from harness.routing import Store

FULL, EMPTY = "acme/project-1/incident-summary", "umbra/project-1/incident-summary"


@dataclass(frozen=True)
class Bench:
    """A world in which only the test acts, step by step."""

    world: World

    def write(self, store: Store, scope: str) -> Outcome:
        """Change the scope's prompt by raw SQL, or add one to the scope that has none."""
        sentences = (dispatch_sentences if store is Store.LEGACY else typescript_sentences)(scope)
        path = self.world.histories / f"{self.world.name(store)}.jsonl"
        with psycopg.connect(self.world.url(store), application_name=path.stem) as connection:
            writer = RawWriter(connection, History(path, judge_raw), Random(0), Event())
            return (writer.update if scope == FULL else writer.insert)(scope, sentences)

    def move_up(self, seeded: Callable[[Mover], Mover] = lambda mover: mover) -> None:
        """Move all authority to new, with a mover in which something may be broken."""
        stores = self.world.migration.stores

        def wish(now: Stand) -> Stand:
            return replace(now, writes_percent=100.0, phase=Phase.RAMPING)

        act = begin(stores, plan(stores, "ramp", wish), "seeded")
        seeded(stores.mover(act, Event(), lambda _: None)).move(act)

    def dying_between_commits(self, *, swapped: bool) -> Callable[[Mover], Mover]:
        return lambda mover: replace(mover, fences=BetweenCommits(self.world.migration.stores, swapped=swapped))

    def rules(self, *, drained: bool = True) -> set[str]:
        """Carry over what is left, unless it has no end, and name the rules that the run has violated."""
        assert self.world.command("resume", "--json").code == 0
        if drained:
            assert self.world.command("catchup", "--json").code == 0
        return {violation.rule for violation in check(self.world.evidence())}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with two_servers() as both:
        yield both


@pytest.fixture
def bench(servers: Servers) -> Iterator[Bench]:
    with world(3, servers) as made:
        yield Bench(made)


@contextmanager
def dying() -> Iterator[None]:
    """The operator dies in the block: all that it held is let go of."""
    with suppress(FailpointRaised):
        yield
        pytest.fail("nobody died")


def without_drain(mover: Mover) -> Mover:
    return replace(mover, approach=lambda _: None, settle=lambda *_: None, drain=lambda act, _: Drained(act.after))


class BetweenCommits(RouteFences):
    """Fences whose operator dies between the two commits, having made the first in the right order or the wrong one."""

    def __init__(self, stores: Stores, *, swapped: bool) -> None:
        super().__init__(stores.legacy, stores.new, prompts)
        self._swapped = swapped

    @contextmanager
    def raised(self, act: Act, seconds: float) -> Iterator[Fence]:  # type: ignore[override] # any Fence will do
        with super().raised(act, seconds) as fence:
            first = fence.gain if self._swapped else fence.lose

            def lose() -> None:
                first()
                raise FailpointRaised("between the commits")

            fence.lose = lose  # type: ignore[method-assign] # this one only
            yield fence


def test_nothing_broken_nothing_blamed(bench: Bench) -> None:
    """The steps of the tests below with the protocol as it is: refusals instead of violations."""
    assert bench.write(Store.LEGACY, EMPTY) is Outcome.ACKNOWLEDGED
    with dying():
        bench.move_up(bench.dying_between_commits(swapped=False))
    assert {bench.write(store, FULL) for store in Store} == {Outcome.REFUSED}
    assert bench.world.command("resume", "--json").code == 0
    assert bench.write(Store.LEGACY, FULL) is Outcome.REFUSED
    assert bench.write(Store.NEW, FULL) is Outcome.ACKNOWLEDGED
    assert bench.rules() == set()


def test_a_guard_that_is_off_is_caught(bench: Bench) -> None:
    """Both stores accept the scope in one epoch, and what one of them acknowledged is lost."""
    bench.move_up()
    for store in Store:
        with bench.world.connect(store) as connection:
            connection.execute("UPDATE crossfade.route SET guard = 'off'")
    assert [bench.write(store, FULL) for store in Store] == [Outcome.ACKNOWLEDGED] * 2
    assert {"both sides", "lost"} <= bench.rules()


def test_a_skipped_drain_is_caught(bench: Bench) -> None:
    """What legacy had acknowledged and nobody carried over is gone when new has authority."""
    assert bench.write(Store.LEGACY, EMPTY) is Outcome.ACKNOWLEDGED
    bench.move_up(without_drain)
    assert bench.rules() == {"lost"}


def test_a_swapped_commit_order_is_caught(bench: Bench) -> None:
    """An operator that dies when it has committed the gainer first leaves two authorities behind."""
    with dying():
        bench.move_up(bench.dying_between_commits(swapped=True))
    assert [bench.write(store, FULL) for store in (Store.NEW, Store.LEGACY)] == [Outcome.ACKNOWLEDGED] * 2
    # With two authorities each worker turns the other's notes around: there is nothing to wait for.
    assert "both sides" in bench.rules(drained=False)
