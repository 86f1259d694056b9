"""Routed writes: to the store with authority, wherever it has gone meanwhile.

What may be repeated decides everything here. A refusal is definite: the store has changed nothing, so the write may
be offered to the other store. Any other failure leaves open whether the write was made, and ends it: to repeat an
update or a save then could overwrite, or bring back, what others have done since. The caller, who knows what the
write means, decides.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from harness.bound import Bound
from harness.errors import CannotHold, NoAuthority, NotFound, RepositoryError
from harness.pauses import Pauses
from harness.routed import Wiring, apart
from harness.routing import Route, Store
from harness.statistics import Drop, Role

FIRST_PAUSE = 0.002  # seconds until a write that no store takes is offered again, doubled each time
LONGEST_PAUSE = 0.05

Refusal = RepositoryError | NoAuthority


def routed_write(bound: Bound, wiring: Wiring) -> Callable[..., Any]:
    """A write: goes to the store with authority; the carrier brings it to the other one."""
    live, under_way, clock, track = wiring.live, wiring.under_way, wiring.clock, bound.track

    def note(scope: str | None, key: Hashable | None, store: Store) -> None:
        under_way.note(scope, key, store)
        if bound.operation.moves and scope is not None:
            under_way.note(None, key, store)  # the scope that it left is not known: any may be

    def routed(*args: Any, **kwargs: Any) -> Any:
        scope, key = bound.place(args, kwargs)
        route = live.current.route
        store, search = first_asked(route, scope), None
        while True:
            began = clock()
            try:
                answer = bound.methods[store](*args, **kwargs)
            except (RepositoryError, NoAuthority) as refusal:  # nothing has changed
                track.calls[store, Role.SERVED, False].add(clock() - began)
                search = search or Search(bound, wiring, route, scope)
                next_store = search.after(store, refusal)
                if next_store is None:
                    _rehearse(bound, wiring, store, refusal, args, kwargs)
                    raise
                track.rerouted.add()
                store = next_store
            except BaseException:
                note(scope, key, store)  # the commit may have been made all the same
                track.calls[store, Role.SERVED, True].add(clock() - began)
                raise
            else:
                # Before the caller hears of it: what it reads next must not be older than its own write.
                note(scope, key, store)
                track.calls[store, Role.SERVED, False].add(clock() - began)
                return answer

    return routed


def first_asked(route: Route, scope: str | None) -> Store:
    """The store with authority; the likelier one where neither the scope nor the route can tell."""
    if scope is not None:
        return route.authority(scope)
    return route.sole_authority or (Store.NEW if route.writes_percent > 50 else Store.LEGACY)


class Search:
    """For one write that was refused: who is asked next, and whether a refusal is the answer.

    ``route`` is the one by which the write was sent on its way.
    """

    def __init__(self, bound: Bound, wiring: Wiring, route: Route, scope: str | None) -> None:
        self._bound, self._wiring, self._route, self._scope = bound, wiring, route, scope
        self._before: tuple[Store, Refusal] | None = None  # who refused before, and how
        self._pauses, self._until = Pauses(FIRST_PAUSE, LONGEST_PAUSE), wiring.clock() + wiring.patience
        self._waited = 0.0

    def after(self, store: Store, refusal: Refusal) -> Store | None:
        """The store to ask now, or None: the refusal is the answer. Raises NoAuthority when patience ends."""
        before, self._before = self._before, (store, refusal)
        if isinstance(refusal, NoAuthority):
            return self._elsewhere(store, before, refusal)
        if self._scope is None and self._wiring.live.current.route.sole_authority is None:
            return self._unless_there(store, before, refusal)
        return self._if_moved()

    def _elsewhere(self, store: Store, before: tuple[Store, Refusal] | None, refusal: NoAuthority) -> Store:
        """Where the authority is now. Between the two commits of a move neither store takes the write: wait for it."""
        if before is None or not isinstance(before[1], NoAuthority):
            asked = self._by_the_route_now(store)
            if asked is not store:
                return asked
        self._wait(refusal)
        return self._by_the_route_now(store)

    def _by_the_route_now(self, store: Store) -> Store:
        self._wiring.live.renew()
        self._route = self._wiring.live.current.route
        divided = self._scope is None and self._route.sole_authority is None
        return store.other if divided else first_asked(self._route, self._scope)

    def _unless_there(
        self, store: Store, before: tuple[Store, Refusal] | None, refusal: RepositoryError
    ) -> Store | None:
        """For a write that names no scope, under an authority that is divided.

        "Not found" is the answer when the other store has just said the same, or that the authority is not there: had
        the record been anywhere, one of them would have it, for what moves is carried over before it moves.
        """
        other_was_asked = before is not None and before[0] is store.other
        return store.other if isinstance(refusal, NotFound) and not other_was_asked else None

    def _if_moved(self) -> Store | None:
        """A refusal is an answer if the authority has stayed where it was asked for, else it came from a shadow."""
        live = self._wiring.live
        # A route that could not be read a moment ago is not waited for: the refusal stands.
        if live.lost or not live.renew() or live.current.route.epoch == self._route.epoch:
            return None
        if self._wiring.clock() >= self._until:
            return None
        self._route = live.current.route
        return first_asked(self._route, self._scope)

    def _wait(self, refusal: NoAuthority) -> None:
        ended = self._waited >= self._wiring.patience or self._wiring.clock() >= self._until
        pause = self._pauses.next()
        if ended or self._wiring.stopping.wait(pause):
            raise NoAuthority(self._message()) from refusal
        self._waited += pause

    def _message(self) -> str:
        operation = self._bound.operation
        what = operation.name if self._scope is None else f"{operation.name} in scope {self._scope}"
        told = (
            f"neither store takes {what}, and nothing was changed: the authority is being moved, or a move of it was "
            "left half done. See crossfade status; crossfade resume finishes it"
        )
        if operation.moves:
            told += ". A record cannot go from a scope of one store to a scope of the other in one write"
        return told


def _rehearse(
    bound: Bound, wiring: Wiring, store: Store, refusal: Refusal, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Have the other store asked, off the caller's path, whether it would have refused as well."""
    rehearsed, shadow, view = bound.rehearsed, wiring.shadow, wiring.live.current
    if rehearsed is None or wiring.random() * 100.0 >= view.route.shadow_percent:
        return
    reason = apart(view, wiring.under_way, *bound.place(args, kwargs))
    if reason is not None:
        bound.track.drops[reason].add()
    elif isinstance(refusal, CannotHold):  # the other store may well hold it: there is nothing to compare
        bound.track.drops[Drop.HELD].add()
    elif len(shadow.queue) < shadow.room:
        shadow.queue.append((rehearsed, store, args, kwargs, None, type(refusal), None))
    else:
        shadow.refuse(bound.track)
