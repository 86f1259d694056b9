"""Sums tell equal from different whatever the order, and the walk over two lists names just the keys that differ."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.narrowing import MILLION, Plan, Sums, differing

ROWS = st.lists(st.tuples(st.integers(0, 8), st.integers(-(2**63), 2**63 - 1)), max_size=40)


def summed(rows: list[tuple[int, int]]) -> Sums:
    sums = Sums(9)
    for cell, digest in rows:
        sums.add([cell], [1], [digest])
    return sums


@given(ROWS, st.integers(0, 40))
def test_pieces_add_up_to_the_whole(rows: list[tuple[int, int]], cut: int) -> None:
    """Sums of two pieces, merged in either order and brought through bytes, are the sums of the whole."""
    whole, pieces = summed(rows), [summed(rows[cut:]), summed(rows[:cut])]
    merged = Sums(9)
    for piece in pieces:
        merged.merge(Sums.load(piece.dump()))
    assert whole.unequal(merged, 0, 9).count == 0


@pytest.mark.parametrize("change", [[(3, 5)], [(3, 1), (4, -1)], [(3, 2**63 - 1), (3, 1)], [(3, 0)]])
def test_a_row_more_is_seen(change: list[tuple[int, int]]) -> None:
    """A row added to one side makes its bucket unequal, even one whose digest adds nothing."""
    ours, theirs = summed([(3, 7), (4, 9)]), summed([(3, 7), (4, 9), *change])
    found = ours.unequal(theirs, 0, 9)
    assert [cell for cell in range(9) if found.bits[cell >> 3] >> (cell & 7) & 1] == sorted({c for c, _ in change})


def test_cells_are_counted_from_the_first_asked_for() -> None:
    """The bits of a range begin with its first cell: so the servers are asked for them."""
    found = summed([(5, 1)]).unequal(summed([]), 4, 9)
    assert (found.count, found.bits[0]) == (1, 0b10)


def test_plans_grow_with_the_table_and_have_an_end() -> None:
    """Buckets are a power of two, more for more rows, and no more than one answer may hold."""
    sizes = [Plan.of(rows, 1).buckets for rows in (0, 10**3, 10**5, 10**6, 10**7, 10**10)]
    assert all(size & (size - 1) == 0 for size in sizes)
    assert all(a <= b for a, b in pairwise(sizes))
    assert (sizes[0], sizes[-1]) == (2**8, 2**15)
    assert Plan.of(10**7, 1, MILLION // 100).buckets < Plan.of(10**7, 1).buckets


KEYED = st.dictionaries(st.text("ab-", max_size=3), st.sampled_from(["x", "y"]), max_size=12)


@given(KEYED, KEYED)
def test_differing_keys_are_named_once(ours: dict[str, str], theirs: dict[str, str]) -> None:
    """Exactly the keys that one side lacks or has otherwise."""
    found = list(differing(iter(sorted(ours.items())), iter(sorted(theirs.items()))))
    assert found == sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
