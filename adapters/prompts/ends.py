"""The two ends of carrying prompts, in either direction, as they are at the moment of asking."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Engine

from adapters.postgres.apply import Destination
from adapters.postgres.batch import Giver, StaleParts, Taker
from adapters.postgres.part import Part
from adapters.prompts.canonical import Reading, parse_scope
from adapters.prompts.discover import require_tenants
from adapters.prompts.dispatch_part import tenant_part
from adapters.prompts.dispatch_taking import DispatchTaking
from adapters.prompts.prompt_manager import giving_part
from harness.routing import Store

_ASKED_AGAIN = 1.0  # seconds until a tenant that is not known is asked for again


@dataclass(frozen=True, slots=True)
class Ends:
    legacy: Engine
    new: Engine
    reading: Reading
    destination: Destination

    def forth(self) -> tuple[Giver, Taker]:
        giver, name = Giver(Store.LEGACY, self.legacy, self._parts), self.destination.part.name
        return giver, Taker(Store.NEW, self.new, self.destination, lambda _: name)

    def back(self) -> tuple[Giver, Taker]:
        """With the tenants of now: a worker lives long, and one that did not know a tenant would lose its writes."""
        parts = self._parts()
        part, taking = giving_part([each.name for each in parts], self.reading), DispatchTaking(parts, self.reading)
        known, asked = frozenset(each.name for each in parts), dict[str, float]()

        def tenant_of(scope: str) -> str | None:
            place = parse_scope(scope, with_type=self.reading.by_type)
            if place is None or place.organization in known:
                return None if place is None else place.organization
            now = time.monotonic()
            if asked.get(place.organization, -_ASKED_AGAIN) + _ASKED_AGAIN <= now:
                asked[place.organization] = now
                if place.organization in require_tenants(self.legacy):
                    raise StaleParts
            return None

        return Giver(Store.NEW, self.new, lambda: (part,)), Taker(Store.LEGACY, self.legacy, taking, tenant_of)

    def _parts(self) -> tuple[Part, ...]:
        return tuple(tenant_part(name, self.reading) for name in require_tenants(self.legacy))
