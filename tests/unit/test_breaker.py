"""The circuit breaker, with a clock moved by hand."""

from __future__ import annotations

from fakes import HandClock

from harness.breaker import Breaker, State


def opened(clock: HandClock) -> Breaker:
    breaker = Breaker(3, 5.0, clock)
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    """The third failure in a row opens it, and an open breaker allows no call."""
    clock = HandClock()
    assert opened(clock).state is State.OPEN
    assert not opened(clock).allows()


def test_a_success_between_failures_keeps_it_closed() -> None:
    """Failures count in a row only: a success in between begins the count anew."""
    breaker = Breaker(3, 5.0, HandClock())
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.state is State.CLOSED


def test_after_the_pause_one_call_is_tried() -> None:
    """Half-open lets exactly one call through, however many ask."""
    clock = HandClock()
    breaker = opened(clock)
    clock.advance(4.9)
    assert not breaker.allows()
    clock.advance(0.2)
    assert [breaker.allows() for _ in range(4)] == [True, False, False, False]


def test_the_trial_closes_or_opens_it_again() -> None:
    """A trial that succeeds closes the breaker; one that fails opens it for the whole pause."""
    clock = HandClock()
    breaker = opened(clock)
    clock.advance(5)
    assert breaker.allows()
    breaker.failed()
    clock.advance(4.9)
    assert not breaker.allows()
    clock.advance(0.2)
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.state is State.CLOSED


def test_a_late_success_does_not_close_an_open_breaker() -> None:
    """A call that set out before the breaker opened proves nothing about the store now."""
    breaker = opened(HandClock())
    breaker.succeeded()
    assert breaker.state is State.OPEN
