"""Chunks of a part, cut by its key: ranges found by looking into the key's index, a few rows at a time.

Where keys lie close together, a chunk is as many keys wide as it may have rows; two looks, whatever the size of the
table. Where most numbers are missing, the index is followed for one chunk's rows. Holes are stepped over, be they of a
billion. So no chunk has more rows than it may, and there are not many more of them than it takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, Engine, func, select

from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger import checkpoints
from adapters.postgres.literal import literal_sql
from adapters.postgres.part import Part
from harness.backfill import Chunk, Copied
from harness.errors import CrossfadeError
from harness.routing import Store

_DENSE = 0.5  # share of the numbers between the lowest and the highest key that are keys
_COUNTED = 100_000  # a table that looks smaller is counted, a larger one is estimated


class ChunkPlan:
    """What of legacy's parts is not copied to new. Rows written from now on are left to capture."""

    def __init__(self, legacy: Engine, parts: Sequence[Part], new: Engine) -> None:
        self._legacy, self._new = legacy, new
        self._parts = {part.name: part for part in parts}
        self._runs: dict[str, int] = {}
        self._finished: set[str] = set()

    def parts(self) -> Sequence[str]:
        """Every part. From now on chunks of an earlier run are refused."""
        self._runs = checkpoints.begin_run(self._new, list(self._parts))
        self._finished = set(checkpoints.finished_parts(self._new))
        return tuple(self._parts)

    def chunks(self, part: str, rows: Callable[[], int]) -> Iterator[Chunk]:
        """What of the part is not copied; each chunk, when it is asked for, of ``rows()`` rows at most."""
        key = key_of(self._parts[part])
        with speaking_for(Store.LEGACY), self._legacy.connect() as connection:
            lowest, highest = connection.execute(select(func.min(key), func.max(key))).one()
            if lowest is None:
                return
            dense = estimated_rows(connection, self._parts[part]) >= _DENSE * (highest - lowest + 1)
        for low, high in _gaps(lowest, highest, checkpoints.copied_ranges(self._new, part)):
            for found in self._cut(key, low, high, dense, rows):
                self._finished.discard(part)  # there is something to finish again
                yield Chunk(part, *found, run=self._runs[part])

    def finish(self, part: str) -> None:
        """All chunks of the part are copied."""
        if part not in self._finished:
            checkpoints.finish(self._new, part)

    def estimate(self) -> int:
        """About how many rows there are in all parts."""
        with speaking_for(Store.LEGACY), self._legacy.connect() as connection:
            return sum(_counted(connection, part) for part in self._parts.values())

    def so_far(self) -> Copied:
        """What all checkpoints say was done before now."""
        return checkpoints.so_far(self._new)

    def _cut(
        self, key: ColumnElement[int], low: int, high: int, dense: bool, rows: Callable[[], int]
    ) -> Iterator[tuple[int, int]]:
        look = _look_wide if dense else _look_along
        while low <= high:
            with speaking_for(Store.LEGACY), self._legacy.connect() as connection:
                found = look(connection, key, low, high, rows())
            if found is None:
                return
            yield found
            low = found[1] + 1


def key_of(part: Part) -> ColumnElement[int]:
    """The integer key that chunks are cut by. Raises CrossfadeError for a part that has none."""
    if part.order is None:
        raise CrossfadeError(f"part {part.name!r} has no integer key to cut chunks by")
    return part.order


def estimated_rows(connection: Connection, part: Part) -> int:
    """How many rows the server's planner thinks there are: from the table's size now and its latest statistics."""
    explain = f"EXPLAIN (FORMAT JSON) {literal_sql(select(key_of(part)))}"
    told = connection.exec_driver_sql(explain, execution_options={"no_parameters": True}).scalar_one()
    [plan] = json.loads(told) if isinstance(told, str) else told
    return int(plan["Plan"]["Plan Rows"])


def _counted(connection: Connection, part: Part) -> int:
    estimate = estimated_rows(connection, part)
    if estimate >= _COUNTED:
        return estimate
    return connection.execute(select(func.count()).select_from(part.table)).scalar_one()


def _gaps(lowest: int, highest: int, copied: Sequence[tuple[int | None, int]]) -> Iterator[tuple[int, int]]:
    """The ranges between those that are copied, which come in order."""
    low = lowest
    for begin, end in copied:
        if begin is not None and begin > low:
            yield low, min(begin - 1, highest)
        low = max(low, end + 1)
    if low <= highest:
        yield low, highest


def _look_wide(
    connection: Connection, key: ColumnElement[int], low: int, high: int, rows: int
) -> tuple[int, int] | None:
    """From the next key on, as many numbers as rows are wanted; None where no key is left."""
    first = connection.execute(select(func.min(key)).where(key.between(low, high))).scalar()
    return None if first is None else (first, min(first + rows - 1, high))


def _look_along(
    connection: Connection, key: ColumnElement[int], low: int, high: int, rows: int
) -> tuple[int, int] | None:
    """The next keys, as many as rows are wanted; None where no key is left."""
    next_keys = select(key.label("key")).where(key.between(low, high)).order_by(key).limit(rows).subquery()
    first, last = connection.execute(select(func.min(next_keys.c.key), func.max(next_keys.c.key))).one()
    return None if first is None else (first, last)
