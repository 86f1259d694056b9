"""Backfill: copy what existed, chunk by chunk, with a checkpoint for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from harness.ports import Clock


@dataclass(frozen=True, slots=True)
class Copied:
    """Rows of a chunk, or of many, by what became of them; together they are all that was read.

    ``deferred``: the row's scope stood otherwise on the other side just then (an enabled prompt in its place);
    it is noted as dirty, and catch-up carries it over.
    """

    copied: int = 0
    already_there: int = 0
    quarantined: int = 0
    deferred: int = 0

    @property
    def rows(self) -> int:
        return self.copied + self.already_there + self.quarantined + self.deferred

    def __add__(self, other: Copied) -> Copied:
        return Copied(
            self.copied + other.copied,
            self.already_there + other.already_there,
            self.quarantined + other.quarantined,
            self.deferred + other.deferred,
        )


class Copier(Protocol):
    """Copies one part of a store in chunks; the checkpoint is durable with the chunk."""

    def parts(self) -> Sequence[str]: ...

    def estimate(self) -> int:
        """About how many rows there are in all parts."""
        ...

    def so_far(self) -> Copied:
        """What all checkpoints say was done before now."""
        ...

    def copy_next(self, part: str, limit: int) -> Copied | None:
        """Copy the chunk after the part's checkpoint; None when the part is finished, which is then noted."""
        ...


def backfill(
    copier: Copier,
    *,
    chunk_rows: int,
    rows_per_second: float,
    clock: Clock,
    stop: Event,
    progress: Callable[[Copied], None] = lambda _: None,
) -> tuple[Copied, bool]:
    """Copy every part from its checkpoint on. Returns what this call did, and whether all parts are finished.

    ``rows_per_second`` 0 sets no limit. ``stop`` ends it after the chunk under way.
    """
    done, started = Copied(), clock()
    for part in copier.parts():
        while not stop.is_set():
            chunk = copier.copy_next(part, chunk_rows)
            if chunk is None:
                break
            done += chunk
            progress(chunk)
            if rows_per_second > 0:
                stop.wait(max(0.0, done.rows / rows_per_second - (clock() - started)))
    return done, not stop.is_set()
