"""The live route: read when it must be, by as few as possible."""

from __future__ import annotations

import threading

import pytest
from fakes import WAIT, RouteBook, eventually

from harness.errors import StoreUnavailable
from harness.live import LiveRoute
from harness.routing import Route, RouteView


class SlowBook(RouteBook):
    """A RouteBook whose readings last until it is opened. What was so when a reading began is what it finds."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    def view(self) -> RouteView:
        self.reads += 1
        found, failing = self.current, self.failing
        self.opened.wait(WAIT)
        if failing:
            raise StoreUnavailable("new cannot be reached")
        return found


class CountingLock:
    """A lock that counts who came for it."""

    def __init__(self) -> None:
        self._lock, self._came = threading.Lock(), list[None]()

    @property
    def arrived(self) -> int:
        return len(self._came)

    def __enter__(self) -> None:
        self._came.append(None)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def live_of(book: RouteBook, failures: list[Exception]) -> LiveRoute:
    live = LiveRoute(book, changed=lambda view: None, failed=failures.append)
    live._lock = CountingLock()  # type: ignore[assignment]  # it tells when callers have arrived
    return live


@pytest.mark.parametrize("failing", [False, True])
def test_those_who_come_at_the_same_time_share_a_reading(failing: bool) -> None:
    """Of twenty who come while a reading lasts, one reads again, and all get what it found, or that it failed."""
    book, failures = SlowBook(), list[Exception]()
    live = live_of(book, failures)
    epochs: list[int] = []

    def renew() -> None:
        live.renew()
        epochs.append(live.current.route.epoch)

    threads = [threading.Thread(target=renew) for _ in range(21)]
    threads[0].start()
    assert eventually(lambda: book.reads == 1)
    book.current, book.failing = RouteView(Route(epoch=5)), failing
    for thread in threads[1:]:
        thread.start()
    assert eventually(lambda: live._lock.arrived == 21)  # type: ignore[attr-defined]  # a CountingLock
    book.opened.set()
    for thread in threads:
        thread.join(WAIT)
    assert book.reads == 2
    assert len(failures) == (20 if failing else 0)
    assert sorted(epochs)[1:] == [0 if failing else 5] * 20


def test_a_failed_reading_is_counted_and_known() -> None:
    """The route counts as lost until it can be read again; the last known one stays."""
    book, failures = RouteBook(RouteView(Route(epoch=1))), list[Exception]()
    live = live_of(book, failures)
    assert live.renew()
    book.failing = True
    assert not live.renew()
    assert (live.lost, len(failures), live.current.route.epoch) == (True, 1, 1)
    book.failing = False
    assert live.renew()
    assert not live.lost
