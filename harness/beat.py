"""A beat: one act, done again and again in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Beat:
    """Does ``act`` every ``seconds`` in a daemon thread, until it is told to stop.

    What the act raises goes to ``failed``, and the next beat comes as usual: a thread of ours never dies of it.
    ``once_more``: the act is done a last time when the beat stops.
    """

    def __init__(
        self,
        name: str,
        act: Callable[[], object],
        seconds: float,
        failed: Callable[[Exception], object],
        *,
        once_more: bool = False,
    ) -> None:
        self._act, self._seconds, self._failed, self._once_more = act, seconds, failed, once_more
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"crossfade-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        self._stopping.set()

    def join(self, seconds: float) -> bool:
        """Wait at most so long for it to end, and say whether it has."""
        if self._thread.ident is None:  # it was never started
            return True
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self._beat()
        if self._once_more:
            self._beat()

    def _beat(self) -> None:
        try:
            self._act()
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live, and it is counted
            self._failed(error)
