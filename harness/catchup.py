"""Catch-up: carry over what changed, until nothing is left or for as long as it is wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from harness.errors import StoreUnavailable
from harness.pauses import Pauses
from harness.ports import Clock
from harness.statistics import Apply, Statistics

FIRST_PAUSE = 0.002  # seconds until it is looked again where there was something a moment ago
LONGEST_PAUSE = 2.0  # seconds between two attempts at a store that is away


@dataclass(frozen=True, slots=True)
class Carried:
    """What a batch, or many, did. ``notes`` were settled; ``rejected`` and ``busy`` scopes were left dirty.

    ``turned``: those of the notes that went back as notes of the other store, which has authority over them.
    """

    notes: int = 0
    upserted: int = 0
    deleted: int = 0
    quarantined: int = 0
    rejected: int = 0
    busy: int = 0
    aside: bool = False
    turned: int = 0

    def __add__(self, other: Carried) -> Carried:
        return Carried(
            self.notes + other.notes,
            self.upserted + other.upserted,
            self.deleted + other.deleted,
            self.quarantined + other.quarantined,
            self.rejected + other.rejected,
            self.busy + other.busy,
            self.aside or other.aside,
            self.turned + other.turned,
        )

    @property
    def idle(self) -> bool:
        return not (self.notes or self.busy or self.aside or self.rejected)

    @property
    def gets_on(self) -> bool:
        """Whether there is less to do now. Of two stores that both think the other has authority, as after a restored
        backup, each hands the other's notes back, and would for ever and without a pause.
        """
        return self.notes > self.turned


class WithApplies:
    """A roll-up that adds what carriers counted since its last success.

    ``applies``: what they counted since their beginning.
    """

    def __init__(self, roll_up: Callable[[Statistics], None], applies: Callable[[], Counter[Apply]]) -> None:
        self._roll_up, self._applies = roll_up, applies
        self._seen: Counter[Apply] = Counter()

    def __call__(self, increment: Statistics) -> None:
        now, whole = Counter(self._applies()), Statistics()
        whole.merge(increment)
        whole.applies.update(now - self._seen)
        if not whole.empty:
            self._roll_up(whole)
        self._seen = now


class Batches(Protocol):
    """Carries batches of notes; many workers may do so at once."""

    def carry_batch(self) -> Carried:
        """Carry over what is noted, up to the batch's size. ``aside`` says that a backfill chunk has precedence."""
        ...

    def notes_left(self) -> int:
        """How many notes there are, rejected ones included."""
        ...


def drain(
    batches: Batches,
    *,
    stop: Event,
    clock: Clock,
    timeout: float,
    pause: float,
    progress: Callable[[Carried], None] = lambda _: None,
) -> tuple[Carried, int]:
    """Carry over until no note is left that can be. Returns what was done, and how many notes remain.

    Notes remain when their scopes are rejected, or ``stop`` is set, or ``timeout`` seconds passed.
    """
    done, until = Carried(), clock() + timeout
    while not stop.is_set() and clock() < until:
        batch = batches.carry_batch()
        done += batch
        progress(batch)
        if batch.idle:
            break
        if not batch.gets_on:
            stop.wait(pause)  # others hold these scopes, or a chunk is being copied: come back
    return done, batches.notes_left()


def follow(
    batches: Batches,
    *,
    stop: Event,
    pause: float,
    progress: Callable[[Carried], None] = lambda _: None,
    unavailable: Callable[[StoreUnavailable], None] = lambda _: None,
    back: Callable[[], None] = lambda: None,
) -> Carried:
    """Carry over until ``stop`` is set. Where there is nothing to do it looks again soon, after pauses that grow to
    ``pause`` seconds.

    A store that goes away is waited for, with pauses that grow to ``LONGEST_PAUSE``; the notes keep. ``back`` is told
    of the first batch after that.
    """
    done, away = Carried(), False
    idle, patience = Pauses(FIRST_PAUSE, pause), Pauses(pause, LONGEST_PAUSE)
    while not stop.is_set():
        try:
            batch = batches.carry_batch()
        except StoreUnavailable as error:
            unavailable(error)
            away = True
            stop.wait(patience.next())
            continue
        if away:
            back()
            patience.begin()
            away = False
        done += batch
        progress(batch)
        if batch.gets_on:
            idle.begin()
        else:
            stop.wait(idle.next())
    return done
