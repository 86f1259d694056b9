"""Writes under way: what this process wrote and is not yet known to have arrived in the other store.

A caller that has just written must not read the state before. Until a write is carried over, reads that may touch
it are answered by the store that took it. A thread nudges the carrier, so that this lasts milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping

from harness.pauses import Pauses
from harness.ports import Carrier
from harness.routing import Route, Store

LIMIT = 10_000  # writes told apart; beyond it every read counts as touching one
FIRST_PAUSE = 0.05  # seconds between two attempts to carry over, doubled each time
LONGEST_PAUSE = 5.0
CHECKED = 100  # writes asked after one by one when they could not be carried over together

Write = tuple[str | None, Hashable | None]  # scope and key, each None when it cannot be told


class _Writes:
    """Writes and the stores that took them, with what a read asks of them. Added to under a lock, asked without one."""

    __slots__ = ("all", "keyless", "keys", "scopeless", "scopes", "stores")

    def __init__(self, writes: Mapping[Write, Store] | None = None) -> None:
        self.all: dict[Write, Store] = {}
        self.scopes: set[str] = set()
        self.keys: dict[Hashable, tuple[str | None, Store]] = {}  # the scope and the store of each key's last write
        self.stores: set[Store] = set()
        self.scopeless = self.keyless = False
        for write, store in (writes or {}).items():
            self.add(write, store)

    def add(self, write: Write, store: Store) -> None:
        scope, key = write
        if scope is None:
            self.scopeless = True
        else:
            self.scopes.add(scope)
        if key is None:
            self.keyless = True
        else:
            self.keys[key] = scope, store
        self.stores.add(store)
        self.all[write] = store

    def touch(self, scope: str | None, key: Hashable | None) -> bool:
        """Whether one of the writes may have changed what a read of this scope and key sees.

        A write of an unknown scope may have been in any scope, one of an unknown key on any key.
        """
        if scope is None and key is None:
            return bool(self.all)
        in_scope = scope is not None and (self.scopeless or scope in self.scopes)
        return in_scope or (key is not None and (self.keyless or key in self.keys))


class UnderWay:
    """Keeps the writes under way and has them carried over. Without a carrier it keeps none.

    ``carried`` is called once they are and before any read is told so: what carrying over changed about the route
    (a write may have ended in quarantine) must be known by then.

    ``pending`` is empty while nothing is under way: one attribute for a read to look at.
    """

    def __init__(
        self,
        carrier: Carrier | None,
        failed: Callable[[object], object],
        limit: int = LIMIT,
        carried: Callable[[], object] = lambda: None,
    ) -> None:
        self._carrier, self._failed, self._limit, self._carried = carrier, failed, limit, carried
        self._lock = threading.Lock()  # among writers and the carrying thread; reads take none
        self._waiting, self._carrying = _Writes(), _Writes()
        self._overflows = 0  # writes not told apart since nothing at all was left to carry over
        self._others: frozenset[Store] = frozenset()  # the stores that took these
        self.pending: tuple[_Writes, ...] = ()
        self._nudge, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(carrier,), name="crossfade-carry", daemon=True)

    def note(self, scope: str | None, key: Hashable | None, store: Store) -> None:
        """A write of this scope and key was, or may have been, committed in the store."""
        if self._carrier is None:
            return
        with self._lock:
            known = scope is not None or key is not None
            if known and len(self._waiting.all) + len(self._carrying.all) < self._limit:
                self._waiting.add((scope, key), store)
            else:
                self._overflows += 1  # not told apart any more, rather than forgotten
                self._others |= {store}
            self._expose()
        self._nudge.set()

    def touches(self, scope: str | None, key: Hashable | None) -> bool:
        """Whether a read of this scope and key may see less than was written."""
        # One read of ``pending``: waiting and carrying change places in a single assignment.
        return self._overflows > 0 or any(writes.touch(scope, key) for writes in self.pending)

    @property
    def kept(self) -> bool:
        """Whether there is a carrier, so that writes are kept at all."""
        return self._carrier is not None

    def showing(self, route: Route, scope: str | None, key: Hashable | None) -> Store | None:
        """The store that shows the writes that a read of this scope and key touches; None if neither does so better.

        A read that does not name the scope goes where the key's last write went, else where all the writes under way
        went. While these are in both stores, and it is not known which of them was the key's, the carrier is asked; a
        list of everything would need both stores.
        """
        if scope is not None:
            return route.authority(scope)
        sole = route.sole_authority
        if sole is not None:
            return sole
        pending, others = self.pending, self._others
        if key is not None and not others and not any(writes.keyless for writes in pending):
            for writes in pending:  # those that wait came after those that are being carried
                if key in writes.keys:
                    of_scope, store = writes.keys[key]
                    return store if of_scope is None else route.authority(of_scope)
        stores = others.union(*(tuple(writes.stores) for writes in pending))
        if len(stores) < 2 or key is None or self._carrier is None:
            return next(iter(stores)) if len(stores) == 1 else None
        return self._where_noted(self._carrier, key)

    def _where_noted(self, carrier: Carrier, key: Hashable) -> Store | None:
        """The store that has yet to give the key's latest write to the other; None when either has it."""
        stores = carrier.noted_in(key)
        if len(stores) == 1:
            return next(iter(stores))
        if stores:  # removed in one and made anew in the other: nobody can tell from here in which order
            carrier.carry((), (key,))
        self._carried()  # it may have ended in quarantine
        return None

    def present(self) -> tuple[Mapping[Write, Store], frozenset[Store]]:
        """The writes under way and the stores that took them, and the stores of others that are not told apart."""
        with self._lock:
            return self._carrying.all | self._waiting.all, self._others

    def start(self) -> None:
        if self._carrier is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end, after a last attempt if writes are waiting for one; returns at once."""
        self._stopping.set()
        self._nudge.set()

    def join(self, seconds: float) -> bool:
        """Wait at most so long for the thread to end, and say whether it has."""
        if self._thread.ident is None:
            return True
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _expose(self) -> None:
        self.pending = tuple(writes for writes in (self._waiting, self._carrying) if writes.all)
        if self._overflows and not self.pending:
            self.pending = (_Writes(),)

    def _run(self, carrier: Carrier) -> None:
        pauses = Pauses(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            self._nudge.wait()
            self._nudge.clear()
            if self._carry(carrier):
                pauses.begin()
            elif not self._stopping.wait(pauses.next()):
                self._nudge.set()
            if self._stopping.is_set():
                return

    def _carry(self, carrier: Carrier) -> bool:
        """Have everything that is pending carried over; True when nothing of it is left."""
        with self._lock:
            self._carrying, self._waiting = self._waiting, _Writes()
            carrying, overflows = self._carrying, self._overflows
            self._expose()
        left: Mapping[Write, Store] = {}
        all_arrived = False
        try:
            if carrying.all:
                # All in one call: carried scope by scope, a busy process would fall behind its own writes.
                carrier.carry(frozenset(carrying.scopes), frozenset(carrying.keys))
            all_arrived = overflows > 0 and carrier.is_settled(None, None)
            if carrying.all or all_arrived:
                self._carried()
        except Exception as error:  # noqa: BLE001 - the writes stay under way, and the thread must live to try again
            self._failed(error)
            all_arrived, left = False, self._unsettled(carrier, carrying)
        with self._lock:
            self._waiting, self._carrying = _Writes({**left, **self._waiting.all}), _Writes()
            if all_arrived and overflows == self._overflows:  # none came while the carrier was asked
                self._overflows, self._others = 0, frozenset()
            self._expose()
            return not left and not self._overflows

    def _unsettled(self, carrier: Carrier, carrying: _Writes) -> Mapping[Write, Store]:
        """What is left of writes that could not be carried over together: one bad scope must not hold up the rest."""
        try:
            settled = {write for write in list(carrying.all)[:CHECKED] if carrier.is_settled(*write)}
            if settled:
                self._carried()
        except Exception as error:  # noqa: BLE001 - it cannot be told now: they stay under way
            self._failed(error)
            settled = set()
        return {write: store for write, store in carrying.all.items() if write not in settled}
