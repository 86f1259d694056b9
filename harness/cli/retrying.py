"""Carrying quarantined rows over at once, and telling what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from adapters.postgres.capture import note
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger import quarantine as book
from adapters.postgres.ledger.audit import AuditBook
from adapters.postgres.ledger.rejections import rejections
from adapters.postgres.trip import together
from adapters.prompts.migration import Stores
from harness.cli.app import App, actor
from harness.errors import CrossfadeError, StoreUnavailable
from harness.records import Quarantined
from harness.routing import Store

_BATCH = 500
_REJECTIONS = 10_000  # scopes looked through for the latest one
_CARRIED, _GONE, _HELD, _ACCEPTED, _REFUSED = "carried over", "gone", "in quarantine", "accepted", "refused"


def retry_rows(app: App, stores: Stores, keys: Sequence[str] | None) -> dict[str, Any]:
    """Note the rows as dirty in legacy, and carry them over; None for all that nobody has accepted.

    Raises Refused for a key that is not in quarantine, with nothing done.
    """
    entries = book.listed(stores.new, accepted=False) if keys is None else iter(book.known(stores.new, keys))
    chosen = list(entries)
    told: list[dict[str, str]] = []
    waiting = iter(chosen)
    while not app.stop.is_set() and (batch := list(islice(waiting, _BATCH))):
        refused = _carry(stores, [each for each in batch if each.accepted is None])
        told += _outcomes(stores, batch, refused)
    became = Counter(row["became"].partition(":")[0] for row in told)
    AuditBook(stores.new).add(actor(), "quarantine retried", "", {"rows": len(told), "became": dict(became)})
    return {"rows": told, "became": dict(became), "finished": len(told) == len(chosen)}


def _carry(stores: Stores, batch: Sequence[Quarantined]) -> dict[str, str]:
    """Why new refused rows, by key; usually none."""
    if not batch:
        return {}
    with speaking_for(Store.LEGACY), stores.legacy.begin() as legacy:
        note(legacy, [{"part": x.part, "scope": x.scope, "key": x.key, "local": x.local} for x in batch])
    scopes = {each.key: each.scope for each in batch}
    if _is_carried(stores, set(scopes)):
        return {}
    # One by one, to know which: a row may have moved to another scope, and it is scopes that are refused.
    refused = {}
    for key in sorted(scopes):
        if not _is_carried(stores, {key}):
            # Its own scope's, as far as that is known; others are refused meanwhile by other workers.
            known = rejections(stores.new, _REJECTIONS)
            own = [each for each in known if each.scope == scopes[key]]
            latest = max(own or known, key=lambda each: each.last_seen, default=None)
            refused[key] = latest.error if latest else "see crossfade status"
    return refused


def _is_carried(stores: Stores, keys: set[str]) -> bool:
    try:
        stores.carrier_from(Store.LEGACY).carry((), keys)
    except StoreUnavailable:
        raise
    except CrossfadeError:
        return False
    return True


def _outcomes(stores: Stores, batch: Sequence[Quarantined], refused: Mapping[str, str]) -> list[dict[str, str]]:
    keys = [each.key for each in batch]
    held = {each.key: each for each in book.listed(stores.new, keys=keys)}
    with speaking_for(Store.NEW), stores.new.connect() as new, together(new) as trip:
        there = stores.destination.look(trip, keys, ())().scopes
    found = []
    for each in batch:
        now = held.get(each.key)
        if each.accepted is not None:
            became = f"{_ACCEPTED}: {each.accepted or 'no reason given'}"
        elif each.key in refused:
            became = f"{_REFUSED}: {refused[each.key]}"
        elif now is not None:
            became = f"{_HELD}: {now.reason}"
        else:
            became = _CARRIED if each.key in there else _GONE
        found.append({"key": each.key, "became": became})
    return found
