"""The router between real stores, where an answer could be older than what was written."""

from __future__ import annotations

import threading
from collections.abc import Collection, Hashable, Iterator

import pytest
from command import crossfade
from fix_stores import Migration
from test_moving import SCOPE, cut_over, prompt, ramp, settled, verified

from adapters.postgres.both_ways import BothWays
from adapters.prompts.migration import opened
from adapters.prompts.prompt import PromptFilter
from harness.errors import NoAuthority, StoreUnavailable
from harness.phases import Phase

__all__ = ["verified"]


class Away:
    """A repository whose store does not answer."""

    def __getattr__(self, name: str) -> object:
        def call(*args: object, **kwargs: object) -> None:
            raise StoreUnavailable("new is away")

        return call


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Routers carry nothing over until this is set."""
    go_on, carry = threading.Event(), BothWays.carry

    def late(self: BothWays, scopes: Collection[str], keys: Collection[Hashable], timeout: float = 30.0) -> None:
        go_on.wait(timeout)
        carry(self, scopes, keys, timeout)

    monkeypatch.setattr(BothWays, "carry", late)
    yield go_on
    go_on.set()


def test_after_complete_new_s_outage_is_not_hidden_by_old_answers(verified: Migration) -> None:
    """Before it a read falls back to legacy; after it, legacy would answer with what was, and is not asked."""
    stores = verified.stores
    ramp(verified, 100.0)
    settled(verified)
    cut_over(verified)
    settled(verified)
    row = stores.new_repository.find_enabled_by_project(SCOPE.format(1))
    assert row is not None
    with stores.router(new=Away()) as router:  # type: ignore[arg-type]  # it answers to every name
        assert router.repository.find_by_id(row.id) == row
    done = crossfade(verified.app.settings, "complete", "--yes")
    assert (done.returncode, stores.phase) == (0, Phase.COMPLETE), done.stderr
    stores.new_repository.update(row.with_content("the truth since"))
    with stores.router(new=Away()) as router, pytest.raises(StoreUnavailable):  # type: ignore[arg-type]
        router.repository.find_by_id(row.id)


def test_more_writes_than_a_token_names_are_read_in_another_process(
    verified: Migration, behind: threading.Event
) -> None:
    """Under a divided authority each is found by its id alone, in whichever store it is noted: changed, new or gone."""
    verified.new_sql("UPDATE crossfade.route SET rollback_safe = false")  # the crowd is of disabled prompts of a scope
    verified.route(0.0, **{SCOPE.format(1): "new"})
    settings = verified.app.settings
    with opened(settings) as one, opened(settings) as other, one.router() as writing, other.router() as reading:
        stayed = writing.repository.save(prompt(2, enabled=False))
        moved = writing.repository.save(prompt(1, enabled=False))
        gone = one.legacy_repository.find_enabled_by_project(SCOPE.format(3))
        assert gone is not None
        writing.repository.delete(gone.id)
        for number in range(40):
            moved = writing.repository.update(moved.with_content(f"text {number}"))
            stayed = writing.repository.update(stayed.with_content(f"text {number}"))
            writing.repository.save(prompt(1, enabled=False))
        reading.observe(writing.token())
        assert not reading._under_way.present()[0], "too many to be told apart"
        for router in (writing, reading):
            assert router.repository.find_by_id(moved.id) == moved
            assert router.repository.find_by_id(stayed.id) == stayed
            assert router.repository.find_by_id(gone.id) is None
        behind.set()
        assert writing.settle(20)
        assert reading.settle(20)
        assert reading.repository.find_by_id(moved.id) == moved


def test_a_list_shows_one_s_own_write_while_a_row_elsewhere_is_in_quarantine(
    verified: Migration, behind: threading.Event
) -> None:
    """The quarantined scope stays with legacy by a pin; what was written to new is in the list at once."""
    verified.prompt(project=6, genai_type=1, genai_prompt="")
    verified.drain()
    ramp(verified, 100.0)
    with verified.stores.router() as router:
        saved = router.repository.save(prompt(1, enabled=False))
        for query in (PromptFilter(limit=100), PromptFilter(limit=100, organization_id="acme")):
            assert saved in router.repository.find_all(query).items
        behind.set()
        assert router.settle(20)
        assert saved in router.repository.find_all(PromptFilter(limit=100)).items


def test_a_save_is_not_answered_by_a_copy_that_its_authority_has_deleted(verified: Migration) -> None:
    """A process with an old route saves again what new has deleted: new takes it, whatever legacy still shows."""
    stores = verified.stores
    row = stores.legacy_repository.save(prompt(1, enabled=False))
    settled(verified)
    with stores.router() as router:
        router._live.beat.stop()  # its look at the route comes too late
        router._live.beat.join(10)
        with opened(verified.app.settings) as other:
            ramp(Migration(verified.app, other), 100.0)
            other.new_repository.delete(row.id)
        assert stores.legacy_repository.find_by_id(row.id) == row
        with pytest.raises(NoAuthority):
            stores.legacy_repository.save(row)
        assert router.repository.save(row) == row
    settled(verified)
    assert stores.new_repository.find_by_id(row.id) == stores.legacy_repository.find_by_id(row.id) == row


@pytest.mark.parametrize("moved", [False, True])
def test_a_save_that_is_made_twice_changes_nothing(verified: Migration, moved: bool) -> None:
    """The store with authority answers with what stands there; nothing is stamped, and nothing noted."""
    if moved:
        verified.route(100.0)
    repository = verified.stores.new_repository if moved else verified.stores.legacy_repository
    row = repository.save(prompt(1, enabled=False))
    settled(verified)
    assert repository.save(row) == row
    assert repository.find_by_id(row.id) == row
    assert verified.stores.carrier.notes_left() == 0
