"""The live route: what this process knows of the persisted route, never older than a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable

from harness.beat import Beat
from harness.errors import StoreUnavailable
from harness.ports import Routes
from harness.routing import RouteView

POLL_SECONDS = 0.25  # so that every process follows a changed percentage within a second


class LiveRoute:
    """Watches a Routes. ``current`` is a plain attribute, read by every operation.

    While they cannot be read, ``lost`` is true, the last known view stays, and each failure goes to ``failed``.
    ``changed`` is called with each new view, the first one included. Until it is started, ``current`` sends
    everything to legacy.
    """

    def __init__(
        self,
        routes: Routes,
        *,
        changed: Callable[[RouteView], object],
        failed: Callable[[Exception], object],
        seconds: float = POLL_SECONDS,
    ) -> None:
        self.current = RouteView()
        self.lost = False
        self._routes, self._changed, self._failed = routes, changed, failed
        self._lock = threading.Lock()  # or a view read earlier could be put in place later
        self._begun = 0  # readings, one after the other
        self.beat = Beat("route", self.refresh, seconds, failed)

    def start(self) -> None:
        """Read the route once, here and now, then go on in a thread. Raises StoreUnavailable when it cannot."""
        self.current = self._routes.view()
        self._changed(self.current)
        self.beat.start()

    def refresh(self) -> None:
        """Have in place what a reading found that began after this call. Raises StoreUnavailable when it failed.

        Callers who come at the same time share a reading: a route that has moved sends them all here at once.
        """
        arrived = self._begun
        with self._lock:
            if self._begun == arrived:
                self._read()
            elif self.lost:
                raise StoreUnavailable("the route could not be read, the last known one stays; see crossfade status")

    def renew(self) -> bool:
        """``refresh``, with a failure counted and answered as False."""
        try:
            self.refresh()
        except Exception as error:  # noqa: BLE001 - whatever it is, the last known view stays
            self._failed(error)
            return False
        return True

    def _read(self) -> None:
        self._begun += 1
        try:
            view = self._routes.view()
        except BaseException:
            self.lost = True
            raise
        self.lost = False
        if view != self.current:
            self.current = view
            self._changed(view)
