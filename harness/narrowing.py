"""Narrowing: which rows differ, found without reading those that do not.

Every row falls into one of a fixed number of buckets, by a hash of its key, on both sides alike. A bucket knows how
many rows it has and the sum of their digests: sums do not depend on the order of reading, so a table may be read in
pieces, several at once, some of them yesterday. Only the rows of unequal buckets are listed, key by key.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

_MASK = 2**64 - 1
_ROWS_PER_BUCKET = 256
_FEWEST, _MOST = 2**8, 2**15
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How both sides are cut up: a power of two of buckets, and the rows looked at, so many in a million.

    ``seed`` decides which rows a share consists of: the same seed, the same rows. ``quick``: sums are of the quicker
    digests that newer servers know; both sides do. ``apart``: rows that are none of the migration's are told apart at
    once. That costs something for every row; where there are none it can wait for buckets that are unequal.
    """

    buckets: int
    seed: int
    in_million: int = MILLION
    quick: bool = False
    apart: bool = False

    @classmethod
    def of(cls, rows: int, seed: int, in_million: int = MILLION, *, quick: bool = False, apart: bool = False) -> Self:
        """A plan for about so many rows: about 256 in a bucket, as long as one answer may hold all buckets."""
        looked_at = max(rows, 1) * in_million // MILLION
        wanted = 1 << max(looked_at // _ROWS_PER_BUCKET, 1).bit_length()
        return cls(min(max(wanted, _FEWEST), _MOST), seed, in_million, quick, apart)

    @property
    def cells(self) -> int:
        """Cells of a side's sums: the buckets of its rows, those of its unrepresentable rows, and one for the rest."""
        return 2 * self.buckets + 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of one side that is read at once: blocks of a part's table, up to the end of it if ``after`` is None."""

    part: str
    first: int = 0
    after: int | None = None


class Sums:
    """Of each cell the number of rows and the sum of their digests, modulo 2**64."""

    __slots__ = ("rows", "totals")

    def __init__(self, cells: int) -> None:
        self.rows = array("Q", bytes(8 * cells))
        self.totals = array("Q", bytes(8 * cells))

    def add(self, cells: Iterable[int], rows: Iterable[int], totals: Iterable[int]) -> None:
        for cell, n, total in zip(cells, rows, totals, strict=True):
            self.rows[cell] += n
            self.totals[cell] = (self.totals[cell] + total) & _MASK

    def merge(self, other: Sums) -> None:
        self.add(range(len(other.rows)), other.rows, other.totals)

    def count(self, first: int, after: int) -> int:
        return sum(self.rows[first:after])

    def unequal(self, other: Sums, first: int, after: int) -> Cells:
        """The cells from ``first`` on, numbered from 0, in which the two differ."""
        found = Cells(after - first)
        for cell in range(first, after):
            if self.rows[cell] != other.rows[cell] or self.totals[cell] != other.totals[cell]:
                found.add(cell - first)
        return found

    def dump(self) -> bytes:
        """The sums as bytes that any machine reads again with ``load``."""
        return b"".join(_little_endian(each).tobytes() for each in (self.rows, self.totals))

    @classmethod
    def load(cls, body: bytes) -> Self:
        cells = len(body) // 16
        found = cls(cells)
        found.rows, found.totals = (_little_endian(array("Q", half)) for half in (body[: 8 * cells], body[8 * cells :]))
        return found


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":
        numbers = array("Q", numbers)
        numbers.byteswap()
    return numbers


class Cells:
    """A set of cells as bits, the lowest first: as PostgreSQL's ``get_bit`` counts them."""

    __slots__ = ("bits", "count")

    def __init__(self, size: int) -> None:
        self.bits = bytearray((size + 7) // 8)
        self.count = 0

    def add(self, cell: int) -> None:
        self.bits[cell >> 3] |= 1 << (cell & 7)
        self.count += 1


def differing(ours: Iterator[tuple[str, str]], theirs: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Keys that only one side has, or with another digest; both given in the order of keys, each key once a side."""
    a, b = next(ours, None), next(theirs, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            assert a is not None  # noqa: S101 - the loop's condition; for the type checker
            yield a[0]
            a = next(ours, None)
        elif a is None or b[0] < a[0]:
            yield b[0]
            b = next(theirs, None)
        else:
            if a[1] != b[1]:
                yield a[0]
            a, b = next(ours, None), next(theirs, None)
