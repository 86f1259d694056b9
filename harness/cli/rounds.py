"""An act done over and over in a thread, which never takes more than a share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread

SHARE = 20.0  # an act that took a second is done again after so many, at the earliest
_END_SECONDS = 3.0
_IDLE_SECONDS = 0.25


class Rounds:
    """Does ``act`` at once and then every ``seconds``, until the block ends; what it raises goes to ``failed``.

    An act that returns False found that nobody wants it now; it is asked again soon.
    The block's end waits for an act under way, but not for ever: a store that is away may hold it up.
    """

    def __init__(
        self,
        name: str,
        act: Callable[[], object],
        seconds: float,
        failed: Callable[[Exception], object],
        share: float = SHARE,
    ) -> None:
        self._act, self._seconds, self._failed, self._share = act, seconds, failed, share
        self._stop = Event()
        self._thread = Thread(target=self._run, name=f"crossfade-{name}", daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            began, idle = time.monotonic(), False
            try:
                idle = self._act() is False
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live, and it is told
                self._failed(error)
            pause = max(self._seconds, self._share * (time.monotonic() - began))
            self._stop.wait(_IDLE_SECONDS if idle else pause)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_END_SECONDS)
