"""The router between real stores, where an answer could be older than what was written."""

from __future__ import annotations

import pytest
from command import crossfade
from fix_stores import Migration
from test_moving import SCOPE, cut_over, ramp, settled, verified

from harness.errors import StoreUnavailable
from harness.phases import Phase

__all__ = ["verified"]


class Away:
    """A repository whose store does not answer."""

    def __getattr__(self, name: str) -> object:
        def call(*args: object, **kwargs: object) -> None:
            raise StoreUnavailable("new is away")

        return call


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
