"""A circuit breaker: stop asking a store that does not answer, and find out cheaply when it does again."""

from __future__ import annotations

import threading
from enum import StrEnum

from harness.ports import Clock


class State(StrEnum):
    CLOSED = "closed"  # all calls go through
    OPEN = "open"  # none does
    HALF_OPEN = "half_open"  # one does, and its end decides


class Breaker:
    """Opens after ``failures`` in a row; ``seconds`` later lets one call through, which closes or opens it again.

    Whoever was told that it ``allows`` a call must say afterwards how the call ended. Safe for many threads.
    """

    def __init__(self, failures: int, seconds: float, clock: Clock) -> None:
        self._limit, self._seconds, self._clock = failures, seconds, clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._opened_at = 0.0
        self.state = State.CLOSED

    def allows(self) -> bool:
        """Whether a call may be made now. In the half-open state one caller hears yes, the others no."""
        with self._lock:
            if self.state is State.OPEN and self._clock() - self._opened_at >= self._seconds:
                self.state = State.HALF_OPEN
                return True
            return self.state is State.CLOSED

    def succeeded(self) -> None:
        with self._lock:
            # A call that set out before the breaker opened says nothing about the store's state now.
            if self.state is not State.OPEN:
                self.state, self._in_a_row = State.CLOSED, 0

    def failed(self) -> None:
        with self._lock:
            self._in_a_row += 1
            if self.state is State.HALF_OPEN or (self.state is State.CLOSED and self._in_a_row >= self._limit):
                self.state, self._opened_at = State.OPEN, self._clock()
