"""What a rollback leaves behind is kept for good, and uninstall takes out of legacy what is ours and nothing else."""

from __future__ import annotations

import pytest
from command import crossfade
from fix_stores import Migration
from test_moving import prompt, ramp, settled, verified

from adapters.prompts.prompt import Prompt
from harness.cli.rollback import roll_back
from harness.cli.standing import status_of
from harness.cli.uninstall import losses_of
from harness.errors import Refused

__all__ = ["verified"]

KEPT = "SELECT key, row->>'content' FROM crossfade.left_behind ORDER BY id"


def owe(migration: Migration) -> Prompt:
    """Let new hold a record that legacy cannot: the second disabled one of its scope."""
    stores = migration.stores
    migration.new_sql("UPDATE crossfade.route SET rollback_safe = false")
    ramp(migration, 100.0)
    both = [stores.new_repository.save(prompt(1, enabled=False)) for _ in range(2)]
    assert migration.drain() == 0
    [owed] = [each for each in both if stores.legacy_repository.find_by_id(each.id) is None]
    return owed


@pytest.fixture
def left_behind(verified: Migration) -> tuple[Migration, Prompt]:
    """Rolled back, and a record was left behind."""
    owed = owe(verified)
    roll_back(verified.app, verified.stores, "a test", accept_debt=True)
    settled(verified)
    return verified, owed


# --- What was left behind -----------------------------------------------------------------------------------------


def test_what_was_left_behind_is_debt_again_when_it_is_saved_again(left_behind: tuple[Migration, Prompt]) -> None:
    """It is counted, a plain rollback is refused with the record in place, and each time's row is kept."""
    migration, owed = left_behind
    stores = migration.stores
    ramp(migration, 100.0)
    again = stores.new_repository.save(owed.with_content("Say it once more."))
    assert migration.drain() == 0
    assert status_of(stores)["rollback_debt"] == 1
    with pytest.raises(Refused, match="accept-debt"):
        roll_back(migration.app, stores, "a test")
    assert stores.new_repository.find_by_id(owed.id) == again
    assert migration.new_sql(KEPT) == [(str(owed.id), owed.content)]
    roll_back(migration.app, stores, "a test", accept_debt=True)
    settled(migration)
    assert migration.new_sql(KEPT) == [(str(owed.id), owed.content), (str(owed.id), "Say it once more.")]
    assert status_of(stores)["rollback_debt"] == 0


def test_uninstall_keeps_what_was_left_behind(left_behind: tuple[Migration, Prompt]) -> None:
    """Its row stays in the ledger, which is in new, when the migration is given up, and when it begins again."""
    migration, owed = left_behind
    for [id] in migration.sql("SELECT id FROM crossfade.sidecar"):
        migration.stores.legacy_repository.delete(id)
    assert migration.drain() == 0
    assert losses_of(migration.stores) == []
    assert crossfade(migration.app.settings, "uninstall", "--yes").returncode == 0
    assert migration.new_sql(KEPT) == [(str(owed.id), owed.content)]
    migration.prepare()
    migration.backfill()
    settled(migration)
    assert migration.new_sql(KEPT) == [(str(owed.id), owed.content)]
