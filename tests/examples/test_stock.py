"""The example under examples/stock: a composite key and another shape, carried and compared, a difference found."""

from __future__ import annotations

import psycopg.errors
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from stock.contract import Item
from stock.migration import StockMigration
from stock.tables import stock

from adapters.postgres.apply import set_applying
from harness.errors import NotFound
from harness.records import Kind, MismatchSample, Verdict
from harness.routing import Store
from harness.statistics import Drop, Result, Role


class Kept(list[MismatchSample]):
    """A SampleSink that remembers."""

    def mismatch(self, sample: MismatchSample) -> None:
        self.append(sample)


@pytest.fixture
def migration(legacy_engine: Engine, new_engine: Engine) -> StockMigration:
    """Two warehouses that share article numbers; one row of the seven has a count that new forbids. Prepared."""
    stock.create(legacy_engine)
    made = StockMigration(legacy_engine, new_engine)
    _legacy(
        made,
        "INSERT INTO stock VALUES ('bern', 1, 10, 'a'), ('bern', 2, 20, NULL), ('bern', 3, 30, ''),"
        " ('oslo', 1, 11, 'a'), ('oslo', 2, -1, 'b'), ('oslo', 3, 31, 'c'), ('oslo', 1000000, 5, 'd')",
    )
    made.prepare()
    return made


@pytest.fixture
def copied(migration: StockMigration) -> StockMigration:
    migration.backfill()
    assert migration.catch_up() == 0
    return migration


def test_rows_with_a_composite_key_are_copied_and_followed(migration: StockMigration) -> None:
    """Every row is accounted for, whichever way it changes; a number that two warehouses share stays two records."""
    done = migration.backfill(chunk_rows=2)
    assert (done.copied, done.quarantined) == (6, 1)
    first = migration.verify()
    assert (first.verdict, first.compared, first.quarantined) == (Verdict.PASS, 6, 1)

    _legacy(migration, "UPDATE stock SET pieces = 2 WHERE warehouse = 'oslo' AND article = 2")  # new can hold it now
    _legacy(migration, "UPDATE stock SET pieces = -7 WHERE warehouse = 'bern' AND article = 2")  # and this no longer
    _legacy(migration, "UPDATE stock SET article = 4 WHERE warehouse = 'bern' AND article = 3")  # half of its key
    _legacy(migration, "UPDATE stock SET warehouse = 'rome' WHERE warehouse = 'oslo' AND article = 3")  # its scope
    _legacy(migration, "DELETE FROM stock WHERE article = 1000000")
    assert migration.verify(patience=0).verdict is Verdict.INCONCLUSIVE, "changes are under way: no pass, no fault"
    assert migration.catch_up() == 0
    with migration.new.connect() as new:
        rows = new.execute(text("SELECT warehouse, sku, pieces, shelf FROM items ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [
        ("bern", "A-1", 10, "a"),
        ("bern", "A-4", 30, ""),
        ("oslo", "A-1", 11, "a"),
        ("oslo", "A-2", 2, "b"),
        ("rome", "A-3", 31, "c"),
    ]
    after = migration.verify()
    assert (after.verdict, after.compared, after.quarantined) == (Verdict.PASS, 5, 1)
    assert migration.backfill().rows == 0, "nothing is copied twice"


def test_new_refuses_who_has_no_authority(copied: StockMigration) -> None:
    """The guard stands before new's table too, against writers that know nothing of the migration."""
    with pytest.raises(DBAPIError) as refused, copied.new.begin() as new:
        new.execute(text("UPDATE items SET pieces = 0"))
    assert isinstance(refused.value.orig, psycopg.Error)
    assert refused.value.orig.sqlstate == "XF001"


def test_reads_are_shared_compared_and_read_what_was_written(copied: StockMigration) -> None:
    """New serves a share of the reads, a write is carried over at once, a scope in quarantine stays with legacy."""
    copied.serve_reads(50, "half of them")
    with copied.router() as router:
        items = router.repository
        assert items.count("bern", "A-1", 9) == Item("bern", "A-1", 9, "a")
        assert items.find("bern", "A-1").pieces == 9, "whichever store answers"
        assert router.settle(10)
        for _ in range(100):
            assert items.find("bern", "A-2") == Item("bern", "A-2", 20, None)
        with pytest.raises(NotFound):
            items.find("rome", "A-1")
        assert items.find("oslo", "A-2").pieces == -1
        assert router.settle(10)
        found = router.statistics()
    assert found.results()[Result.MATCHED] >= 101
    assert found.results()[Result.MISMATCHED] == 0
    assert found.drops[Drop.HELD] == 1
    assert all(found.latency(store, Role.SERVED, "find").count > 10 for store in Store)
    assert copied.verify().verdict is Verdict.PASS


def test_a_difference_is_found_by_both(copied: StockMigration) -> None:
    """A row changed behind everybody's back fails the verification, and is a confirmed mismatch of its reads."""
    with copied.new.begin() as new:
        set_applying(new)  # past the guard, as a restored backup would
        new.execute(text("UPDATE items SET pieces = 12 WHERE id = 'bern/A-1'"))
    verified = copied.verify()
    assert (verified.verdict, verified.different) == (Verdict.FAIL, 1)
    assert [(each.key, each.kind) for each in verified.examples] == [("bern/A-1", Kind.DIFFERENT)]
    samples = Kept()
    with copied.router(samples) as router:
        assert router.repository.find("bern", "A-1").pieces == 10, "no read goes to new yet"
        assert router.settle(10)
        assert router.statistics().results()[Result.MISMATCHED] == 1
    assert [(each.operation, each.scope, each.differences[0].field) for each in samples] == [("find", "bern", "pieces")]


def _legacy(migration: StockMigration, statement: str) -> None:
    with migration.legacy.begin() as connection:
        connection.execute(text(statement))
