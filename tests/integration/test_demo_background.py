"""The demo's catch-up is a process of its own: it carries over, ends with its block, and its end is noticed."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace

import pytest
from fix_postgres import until
from fix_stores import Migration

from adapters.prompts.prompt import PromptFilter
from harness.cli.demo.background import catching_up
from harness.errors import CrossfadeError, StoreUnavailable
from harness.settings import NewSettings


def test_what_is_written_meanwhile_is_carried_over(carried_migration: Migration) -> None:
    stores = carried_migration.stores
    with catching_up(stores):
        carried_migration.prompt()
        until(lambda: len(stores.new_repository.find_all(PromptFilter()).items) == 1)
    assert not multiprocessing.active_children()


def test_it_ends_with_the_demo_that_is_interrupted(carried_migration: Migration) -> None:
    with pytest.raises(KeyboardInterrupt), catching_up(carried_migration.stores):
        raise KeyboardInterrupt
    assert not multiprocessing.active_children()


def test_a_store_that_it_cannot_reach_is_told(carried_migration: Migration) -> None:
    stores = carried_migration.stores
    nowhere = replace(stores.settings, new=NewSettings(url="postgresql://127.0.0.1:1/nothing"))
    with pytest.raises(StoreUnavailable, match="new"), catching_up(replace(stores, settings=nowhere)):
        pytest.fail("it has begun")


def test_one_that_dies_is_told(carried_migration: Migration) -> None:
    with pytest.raises(CrossfadeError, match="has died"), catching_up(carried_migration.stores):
        _kill_the_worker()


def _kill_the_worker() -> None:
    [worker] = multiprocessing.active_children()
    worker.kill()
