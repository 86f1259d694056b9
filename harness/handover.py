"""Handover: a process tells another what it has just written, so that the other one reads no older state.

A session that goes on in another process takes along a token: the route that the process followed, and the writes
that it is not yet known to have in both stores. A token names scopes and keys; it is neither encrypted nor signed.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Hashable
from typing import Any

from harness.errors import ConfigError
from harness.live import LiveRoute
from harness.routing import Route, RouteView, Store
from harness.underway import UnderWay, Write

VERSION = 2
TOKEN_BYTES = 2_048  # of the writes in a token; more than fit are not told apart
TOKEN_WRITES = 100  # looked at before saying so
LONGEST = 4_096  # characters of a token that are looked at

_LETTERS = {Store.LEGACY: "l", Store.NEW: "n"}
_STORES = {letter: store for store, letter in _LETTERS.items()}


class Handover:
    """Makes and takes tokens. ``key_of`` makes a key of its text again; a key that it cannot make is not told apart."""

    def __init__(self, live: LiveRoute, under_way: UnderWay, key_of: Callable[[str], Hashable]) -> None:
        self._live, self._under_way, self._key_of = live, under_way, key_of
        self._marked: tuple[RouteView, int] | None = None

    def token(self) -> str:
        """URL-safe text of less than 3,000 characters. Raises ConfigError for a router without a carrier."""
        self._require_carrier()
        # The view after the writes: what of them has been carried over by now, the view already knows.
        writes, others = self._under_way.present()
        view = self._live.current
        told: list[list[str | None]] = []
        if not others and len(writes) <= TOKEN_WRITES:
            told = [[_LETTERS[store], *self._texts(write)] for write, store in writes.items()]
        fits = len(json.dumps(told)) <= TOKEN_BYTES and all(scope or key for _, scope, key in told)
        if len(told) < len(writes) or not fits:
            told, others = [], others.union(writes.values())
        letters = "".join(sorted(_LETTERS[store] for store in others))
        body = [VERSION, view.route.epoch, self._mark(view), letters, told]
        packed = json.dumps(body, separators=(",", ":"))
        return base64.urlsafe_b64encode(packed.encode()).decode().rstrip("=")

    def observe(self, token: str) -> None:
        """Count the token's writes as under way in this process too, and know the route that its maker knew.

        Raises ConfigError for what is no token and for a router without a carrier, StoreUnavailable when the
        route is out of date and cannot be read.
        """
        self._require_carrier()
        epoch, mark, others, writes = self._parsed(token)
        told = [*writes.items(), *(((None, None), store) for store in others)]
        for (scope, key), store in told:
            self._under_way.note(scope, key, store)
        view = self._live.current
        # A mark that differs without a newer epoch: the maker knew of records that one store cannot show.
        behind = epoch > view.route.epoch or (epoch == view.route.epoch and mark != self._mark(view))
        # A write elsewhere than this route would have sent it: the authority has moved since, or moved back since.
        if behind or any(_authority(view.route, scope) is not store for (scope, _), store in told):
            self._live.refresh()

    def _texts(self, write: Write) -> tuple[str | None, str | None]:
        scope, key = write
        text = None if key is None else str(key)
        try:
            same = text is None or self._key_of(text) == key
        except Exception:  # noqa: BLE001 - the contract's own types are at work here
            same = False
        return scope, text if same else None

    def _mark(self, view: RouteView) -> int:
        """A number that tells one set of exceptions to the route from another; kept, for a view may hold thousands."""
        if self._marked is None or self._marked[0] is not view:
            sets = (view.held_scopes, view.held_keys, view.owed_scopes, view.owed_keys)
            names = [sorted(map(str, names)) for names in sets]
            self._marked = view, zlib.crc32(json.dumps([view.sets_differ, view.complete, names]).encode())
        return self._marked[1]

    def _parsed(self, token: str) -> tuple[int, int, list[Store], dict[Write, Store]]:
        try:
            if len(token) > LONGEST:
                raise ValueError("too long")
            padded = token.encode("ascii") + b"=" * (-len(token) % 4)
            body: Any = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            version, epoch, mark, others, told = body
            if (version, type(epoch), type(mark), type(others)) != (VERSION, int, int, str):
                raise ValueError("of another kind")
            return epoch, mark, [_STORES[letter] for letter in others], dict(self._write(*each) for each in told)
        except Exception:  # noqa: BLE001 - anything may be in it, and the contract's own key_of reads it
            raise ConfigError("this is no session token of this version; give what Router.token() answered") from None

    def _write(self, letter: str, scope: str | None, text: str | None) -> tuple[Write, Store]:
        if not isinstance(scope, str | None) or not isinstance(text, str | None) or (scope is None and text is None):
            raise ValueError("no write")
        return (scope, None if text is None else self._key_of(text)), _STORES[letter]

    def _require_carrier(self) -> None:
        if not self._under_way.kept:
            raise ConfigError(
                "this router has no carrier, so it does not know when a write has arrived in both stores, and can "
                "neither make a session token nor observe one; give it a carrier"
            )


def _authority(route: Route, scope: str | None) -> Store | None:
    """Where the route would have sent a write; None: to either store."""
    return route.sole_authority if scope is None else route.authority(scope)
