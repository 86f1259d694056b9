"""The live route: what this process knows of the persisted route, never older than a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable

from harness.beat import Beat
from harness.ports import Routes
from harness.routing import RouteView

POLL_SECONDS = 0.25  # so that every process follows a changed percentage within a second


class LiveRoute:
    """Watches a Routes. ``current`` is a plain attribute, read by every operation.

    While they cannot be read, the last known view stays, and each failure goes to ``failed``. ``changed`` is called
    with each new view, the first one included. Until it is started, ``current`` sends everything to legacy.
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
        self._routes, self._changed = routes, changed
        self._lock = threading.Lock()  # or a view read earlier could be put in place later
        self.beat = Beat("route", self.refresh, seconds, failed)

    def start(self) -> None:
        """Read the route once, here and now, then go on in a thread. Raises StoreUnavailable when it cannot."""
        self.current = self._routes.view()
        self._changed(self.current)
        self.beat.start()

    def refresh(self) -> None:
        """Read the route once. Raises StoreUnavailable, with the last known view still in place."""
        with self._lock:
            view = self._routes.view()
            if view != self.current:
                self.current = view
                self._changed(view)
