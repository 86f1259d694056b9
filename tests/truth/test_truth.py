"""Which corruption each check catches: found out, and held against the page that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from fix_postgres import Databases, Server

from harness.records import Kind
from truth.observing import CORRUPTIONS, Cell, Check, Observed, observe
from truth.page import PAGE, page, unused

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def observed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    with ExitStack() as stack:
        yield observe(Databases(stack, server), Databases(stack, server), tmp_path_factory.mktemp("truth"))


def test_nothing_is_invented(observed: Observed) -> None:
    """Of thousands of sound rows, full of texts that fool comparisons, verify reports none."""
    assert observed.clean == []


def test_every_corruption_is_reported_once(observed: Observed) -> None:
    """At least 10,000, of all kinds: just the corrupted rows, each with its key, scope and fields."""
    assert observed.corruptions >= 10_000
    assert Counter(observed.whole) == Counter(observed.expected())
    assert max(Counter(each.key for each in observed.whole).values()) == 1
    assert {each.kind for each in observed.whole} == set(Kind)


def test_a_sample_reports_its_own_rows_alone(observed: Observed) -> None:
    """About that share of the corrupted rows, each once, none that is sound, and some of every class."""
    reported = Counter(observed.sampled)
    assert reported <= Counter(observed.expected())
    assert 0.15 < reported.total() / len(observed.expected()) < 0.25
    assert {cells[Check.SAMPLE] for cells in observed.cells.values()} == {Cell.IN_SAMPLE}


def test_classes_are_many_and_named_once(observed: Observed) -> None:
    """The table has a row of its own for each class, and a cell for each check."""
    assert len({corruption.name for corruption in CORRUPTIONS} & observed.cells.keys()) == len(CORRUPTIONS) >= 25
    assert all(cells.keys() == set(Check) for cells in observed.cells.values())


def test_the_page_says_what_was_observed(observed: Observed) -> None:
    """docs/truth-table.md is what these observations make of it; ``make truth`` writes it anew."""
    assert not unused(observed)
    assert PAGE.read_text(encoding="utf-8") == page(observed)
