"""Routed reads: what an application calls in place of a store's own methods. ``harness.writes`` has the writes.

Each operation becomes one closure with everything bound beforehand, because it is in every caller's path: no lock, no
metrics library, no waiting. It draws the store, calls it, notes the duration, leaves the answer to the shadow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from harness.bound import Bound
from harness.errors import RepositoryError, StoreUnavailable
from harness.live import LiveRoute
from harness.pairing import Pairing
from harness.ports import Clock
from harness.recorder import BUFFER
from harness.routing import Route, RouteView, Store
from harness.shadow import Shadow
from harness.statistics import Drop, Role
from harness.underway import UnderWay


@dataclass(frozen=True, slots=True)
class Wiring:
    """What all operations of a router share. ``random`` answers from 0 to below 1.

    A write that no store takes is offered again for ``patience`` seconds, or until ``stopping`` is set.
    """

    live: LiveRoute
    under_way: UnderWay
    shadow: Shadow
    clock: Clock
    random: Callable[[], float]
    fallback: bool
    patience: float
    stopping: threading.Event


def apart(view: RouteView, under_way: UnderWay, scope: str | None, key: Hashable | None) -> Drop | None:
    """Why a read of this scope and key is not drawn and not compared; None: it is as any other."""
    if scope in view.held_scopes or key in view.held_keys or scope in view.owed_scopes or key in view.owed_keys:
        return Drop.HELD
    if view.sets_differ and scope is None and key is None:
        return Drop.HELD
    if under_way.pending and under_way.touches(scope, key):
        return Drop.UNDER_WAY
    return None


def answering(live: LiveRoute, under_way: UnderWay, scope: str | None, key: Hashable | None) -> Store:
    """Who serves a read that stands apart: who alone holds what it names, else who shows what this process wrote."""
    store = _holding(live.current, scope, key)
    if store is None and under_way.pending and under_way.touches(scope, key):
        store = under_way.showing(live.current.route, scope, key)
        if store is None:
            store = _holding(live.current, scope, key)  # by now it may have been carried over, and ended in quarantine
    return store or _likeliest(live.current.route, scope)


def _holding(view: RouteView, scope: str | None, key: Hashable | None) -> Store | None:
    """The store that alone holds what a read names."""
    if scope in view.held_scopes or key in view.held_keys:
        # Legacy, unless the rows in quarantine were accepted to be left behind and the scope has moved.
        return _likeliest(view.route, scope)
    return Store.NEW if scope in view.owed_scopes or key in view.owed_keys else None


def _likeliest(route: Route, scope: str | None) -> Store:
    return route.sole_authority or Store.LEGACY if scope is None else route.authority(scope)


def routed_read(bound: Bound, wiring: Wiring) -> Callable[..., Any]:
    """A read: served by the drawn store, shadowed to the other."""
    live, under_way, shadow = wiring.live, wiring.under_way, wiring.shadow
    clock, random, queue, refuse = wiring.clock, wiring.random, shadow.queue, shadow.refuse
    legacy_method, new_method = bound.methods[Store.LEGACY], bound.methods[Store.NEW]
    legacy_calls = bound.track.calls[Store.LEGACY, Role.SERVED, False]
    new_calls = bound.track.calls[Store.NEW, Role.SERVED, False]
    legacy_items, new_items = legacy_calls.items, new_calls.items
    track, standing_apart, failed = bound.track, _read_apart(bound, wiring), _failed_read(bound, wiring)

    def routed(*args: Any, **kwargs: Any) -> Any:
        view = live.current
        if under_way.pending or not view.uniform:
            scope, key = bound.place(args, kwargs)
            reason = apart(view, under_way, scope, key)
            if reason is not None:
                return standing_apart(reason, scope, key, args, kwargs)
        route = view.route
        if random() * 100.0 < route.reads_percent:
            store, method, items, calls = Store.NEW, new_method, new_items, new_calls
        else:
            store, method, items, calls = Store.LEGACY, legacy_method, legacy_items, legacy_calls
        began = clock()
        try:
            answer = method(*args, **kwargs)
        except Exception as error:
            instead = failed(route, store, clock() - began, error, args, kwargs)
            if instead is None:
                raise
            return instead[0]
        seconds = clock() - began
        if len(items) < BUFFER:  # Buffer.add, without the cost of calling it
            items.append(seconds)
        else:
            calls.lost.add()
        if random() * 100.0 < route.shadow_percent:
            if len(queue) < shadow.room:
                queue.append((bound, store, args, kwargs, answer, None, seconds))
            else:
                refuse(track)
        return answer

    return routed


def _read_apart(bound: Bound, wiring: Wiring) -> Callable[..., Any]:
    """A read of what the other store is known not to show: neither drawn, nor compared, nor answered by it instead."""
    track, clock, live, under_way = bound.track, wiring.clock, wiring.live, wiring.under_way

    def read(
        reason: Drop, scope: str | None, key: Hashable | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        failed, began, store = False, clock(), Store.LEGACY
        try:
            store = answering(live, under_way, scope, key)
            return bound.methods[store](*args, **kwargs)
        except Exception as error:
            failed = not isinstance(error, RepositoryError)
            raise
        finally:
            track.calls[store, Role.SERVED, failed].add(clock() - began)
            track.drops[reason].add()

    return read


def _failed_read(bound: Bound, wiring: Wiring) -> Callable[..., tuple[Any] | None]:
    """A read whose store raised: counted, compared, and answered by the other store if this one is away."""
    track, shadow, queue = bound.track, wiring.shadow, wiring.shadow.queue

    def failed(
        route: Route,
        store: Store,
        seconds: float,
        error: Exception,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Any] | None:
        """The other store's answer, or None: the error is the caller's. Raises the other store's refusal."""
        refused = isinstance(error, RepositoryError)
        track.calls[store, Role.SERVED, not refused].add(seconds)
        # Asked of the route that is known by now: an old answer of legacy's would be worse than none.
        falls_back = isinstance(error, StoreUnavailable) and wiring.fallback and not wiring.live.current.complete
        # Before anything is raised: an error that only one of the stores has is what comparing is for.
        drawn = wiring.random() * 100.0 < route.shadow_percent
        if drawn:
            if falls_back:  # the other store is asked at once, and the pair noted there
                track.drops[Drop.STORE_FAILED].add()
            elif len(queue) < shadow.room:
                queue.append((bound, store, args, kwargs, None, type(error), seconds if refused else None))
            else:
                shadow.refuse(track)
        if not falls_back:
            return None
        # As many of the pairs are noted as of those that are compared, or failures would seem more frequent.
        return _fall_back(bound, wiring.clock, store.other, args, kwargs, shadow.pairing if drawn else None)

    return failed


def _fall_back(
    bound: Bound, clock: Clock, store: Store, args: tuple[Any, ...], kwargs: dict[str, Any], pairing: Pairing | None
) -> tuple[Any] | None:
    """What the store answers, None when it fails as well. Raises its RepositoryError, which is an answer."""
    bound.track.fallbacks.add()
    failed, began = False, clock()
    try:
        return (bound.methods[store](*args, **kwargs),)
    except RepositoryError:
        raise
    except Exception:  # noqa: BLE001 - the caller gets the first store's error, which came first
        failed = True
        return None
    finally:
        seconds = clock() - began
        bound.track.calls[store, Role.SERVED, failed].add(seconds)
        if pairing is not None:
            pairing.note(bound.track, store.other, None, None if failed else seconds)
