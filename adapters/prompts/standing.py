"""Where this migration stands: what both stores and the ledger say of it when they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from sqlalchemy import Engine

from adapters.postgres import rogue
from adapters.postgres.capture import backlog
from adapters.postgres.errors import speaking_for
from adapters.postgres.fence import differ, find_authority
from adapters.postgres.fence_holders import fence_holders
from adapters.postgres.guard import guard_mode, is_guarded
from adapters.postgres.ledger.checkpoints import finished_parts
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.postgres.ledger.journal import JournalBook, read_stand
from adapters.postgres.ledger.lags import LagBook
from adapters.postgres.ledger.locks import is_locked
from adapters.postgres.ledger.phases import PhaseBook
from adapters.postgres.ledger.route import RouteBook
from adapters.postgres.removal import has_triggers, is_noted
from adapters.prompts.canonical import Reading, parse_scope
from adapters.prompts.discover import has_project, require_tenants
from adapters.prompts.mappings import DispatchMapping
from harness.errors import NotPrepared, Refused
from harness.moving import Stand
from harness.phases import NEXT_STEP, Phase, at_least
from harness.records import Backlog
from harness.routing import Store
from harness.settings import Settings


@dataclass(frozen=True)
class Standing:
    """Both stores opened, and what there is to know of them."""

    settings: Settings
    legacy: Engine
    new: Engine

    @cached_property
    def reading(self) -> Reading:
        migration = self.settings.migration
        return Reading(self.settings.legacy.time_zone, migration.scope_policy, migration.keep)

    @cached_property
    def mapping(self) -> DispatchMapping:
        """The tenants as they are now; StoreUnavailable if legacy is no Dispatch database."""
        return DispatchMapping(require_tenants(self.legacy), self.reading)

    def engine(self, store: Store) -> Engine:
        return self.legacy if store is Store.LEGACY else self.new

    @cached_property
    def phases(self) -> PhaseBook:
        return PhaseBook(self.new)

    @cached_property
    def journal(self) -> JournalBook:
        return JournalBook(self.new)

    @property
    def phase(self) -> Phase:
        """The phase now; IDLE where nothing is prepared."""
        try:
            return self.phases.present().phase
        except NotPrepared:
            return Phase.IDLE

    def require(self, phase: Phase) -> None:
        """Refused unless the migration has come as far as ``phase``."""
        present = self.phase
        if not at_least(present, phase):
            half_done = present is not Phase.IDLE and self.journal.pending() is not None
            following = "crossfade resume, for an act is half done" if half_done else NEXT_STEP[present]
            raise Refused(f"the migration is {present}, and this needs {phase}. Next: {following}")

    @property
    def left(self) -> tuple[Store, ...]:
        """The stores that Crossfade has tables in: not legacy before ``prepare``, nor once it was uninstalled."""
        if self.phase in {Phase.IDLE, Phase.COMPLETE}:
            from adapters.postgres.migrations import current  # here: alembic takes a fifth of a command's start

            if current(self.legacy, "legacy") is None:
                return (Store.NEW,)
        return tuple(Store)

    @cached_property
    def routes(self) -> RouteBook:
        return RouteBook(self.new, new_only=self.has_new_only, key_type=UUID)

    @property
    def salt(self) -> str:
        return self.routes.view().route.salt

    def stand(self) -> Stand:
        """Route and phase as they are now."""
        return read_stand(self.new)

    def routes_differ(self) -> bool:
        """Whether the two stores' guards go by different routes: an act is half done, or a store was restored."""
        routes = {}
        for store in self.left:
            with speaking_for(store), self.engine(store).connect() as connection:
                if (found := find_authority(connection, store)) is not None:
                    routes[store] = found
        return len(routes) == len(Store) and differ(routes)

    def guard_modes(self) -> dict[Store, str]:
        modes = {}
        for store in self.left:
            with speaking_for(store), self.engine(store).connect() as connection:
                modes[store] = guard_mode(connection, store)
        return modes

    def half_complete(self) -> bool:
        """Whether ``complete`` began and has not ended: something is noted still."""
        if self.phase is not Phase.COMPLETE:
            return False
        return has_triggers(self.new, Store.NEW) or is_noted(self.legacy, Store.LEGACY)

    def half_left(self) -> bool:
        """Whether something of ours stands where nothing is prepared: ``uninstall`` was cut short, or ``prepare``.

        No, while one of the two runs, and where new knows of nothing.
        """
        try:
            idle = self.phases.present().phase is Phase.IDLE
        except NotPrepared:
            return False
        if not idle or any(is_locked(self.new, name) for name in ("prepare", "authority")):
            return False
        return Store.LEGACY in self.left or has_triggers(self.new, Store.NEW)

    def rogue_writes(self) -> dict[Store, int]:
        """How many writes each store has taken without authority, under guard mode ``record``."""
        return {store: rogue.count(self.engine(store), store) for store in self.left}

    def backlogs(self) -> dict[Store, Backlog]:
        """Each store's dirty queue."""
        found = dict.fromkeys(Store, Backlog())
        for store in self.left:
            with speaking_for(store):
                found[store] = backlog(self.engine(store))
        return found

    def keep_lags(self) -> None:
        """Note in the ledger how far each store lags behind now, for the report."""
        LagBook(self.new).keep(self.backlogs())

    def has_new_only(self) -> bool:
        """Whether the latest verification met rows of new that are none of legacy's business.

        Not asked of the table itself: every process wants to know it all the time, and no index answers it.
        """
        latest = EvidenceBook(self.new).standing(whole=True)
        return latest is not None and latest.new_only > 0

    def long_transactions(self) -> list[str]:
        """Writing transactions that a fence would wait for for long, in words, of both stores."""
        seconds = self.settings.move.long_transaction_seconds
        return [
            f"{each} in {store}" for store in self.left for each in fence_holders(self.engine(store), store, seconds)
        ]

    def is_place(self, name: str) -> bool:
        """Whether the name is a tenant, or a scope of a project that a tenant has."""
        known = {part.name for part in self.mapping.parts}
        place = parse_scope(name, with_type=self.reading.by_type)
        if place is None or place.organization not in known:
            return name in known
        with speaking_for(Store.LEGACY), self.legacy.connect() as connection:
            return has_project(connection, place.organization, place.project)

    def uncopied_tenants(self) -> list[str]:
        """Tenants of which a backfill has not finished the copy."""
        return sorted({part.name for part in self.mapping.parts} - finished_parts(self.new).keys())

    def copied_at(self) -> datetime | None:
        """When the last tenant's copy was finished."""
        return max(finished_parts(self.new).values(), default=None)

    def uncaptured_tenants(self) -> list[str]:
        """Tenants that appeared since ``prepare``: nothing of theirs is noted yet, so every gate is blocked.

        None once legacy was let go of: then nothing is noted, and nothing has to be.
        """
        if self.phase is Phase.COMPLETE:
            return []
        with speaking_for(Store.LEGACY):
            return [part.name for part in self.mapping.parts if not is_guarded(self.legacy, Store.LEGACY, part)]
