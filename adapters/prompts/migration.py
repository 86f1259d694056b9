"""This migration, put together: both stores, and everything that stands between them.

What the command line and an application share::

    with opened(load(None, os.environ)) as stores, stores.router() as router:
        prompts = router.repository
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from threading import Event
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, Text, any_, cast, select

from adapters.postgres.apply import Destination
from adapters.postgres.both_ways import BothWays
from adapters.postgres.bulk import ChunkCopier
from adapters.postgres.carry import StateCarrier
from adapters.postgres.chunks import ChunkPlan
from adapters.postgres.crossing import Crossing
from adapters.postgres.deferred_indexes import DeferredIndexes
from adapters.postgres.digest import TableSide
from adapters.postgres.fence import RouteFences
from adapters.postgres.guard import attach_guard
from adapters.postgres.ledger.debt import owed
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.postgres.ledger.pauses import PauseBook
from adapters.postgres.ledger.statistics import MinuteRollUp, StatisticsBook
from adapters.postgres.part import Part, these
from adapters.postgres.pool import check_server, open_engine
from adapters.postgres.under_way import Queues, held_rows
from adapters.prompts.canonical import COLUMNS
from adapters.prompts.contract import PromptRepository
from adapters.prompts.ends import Ends
from adapters.prompts.mappings import PromptManagerMapping, RehearsalMapping
from adapters.prompts.mended import mended, note_mended
from adapters.prompts.prompt_manager import giving_part, migrating, prompts, whole_part
from adapters.prompts.repository import SqlPromptRepository
from adapters.prompts.standing import Standing
from harness.catchup import WithApplies
from harness.moving import Act, Mover
from harness.ports import Publisher
from harness.records import Debt
from harness.router import Router
from harness.routing import Store
from harness.settings import Settings


class Stores(Standing):
    """Both stores opened. What is built from them is built when it is first asked for."""

    @cached_property
    def migrating(self) -> ColumnElement[bool]:
        """Which of new's rows are this migration's; the others are new-only."""
        return migrating([part.name for part in self.mapping.parts], with_type=self.reading.by_type)

    @cached_property
    def destination(self) -> Destination:
        return Destination(whole_part(), COLUMNS, "enabled", lambda name: prompts.c.organization_id == name)

    @cached_property
    def legacy_repository(self) -> SqlPromptRepository:
        return SqlPromptRepository(self.legacy, self.mapping)

    @cached_property
    def new_repository(self) -> SqlPromptRepository:
        return SqlPromptRepository(self.new, PromptManagerMapping())

    # Carrying, both ways

    @cached_property
    def giving_part(self) -> Part:
        """New's table as it is carried back, guarded and captured."""
        return giving_part([part.name for part in self.mapping.parts], self.reading)

    @cached_property
    def carrier(self) -> BothWays:
        return self.new_carrier()

    def new_carrier(self) -> BothWays:
        """A worker of its own; each thread wants one. Where writes cannot move, nothing is carried back."""
        stores = tuple(Store) if self.reading.by_type else (Store.LEGACY,)
        return BothWays(*map(self.carrier_from, stores), pause=self.settings.catchup.poll_seconds)

    def carrier_from(self, store: Store) -> StateCarrier:
        """A worker of one direction."""
        ends = Ends(self.legacy, self.new, self.reading, self.destination)
        return StateCarrier(ends.forth if store is Store.LEGACY else ends.back, self.settings.catchup)

    def note_mended(self) -> int:
        """Note the rollback debt that legacy could hold by now, so that it is carried; how many records."""
        return note_mended(self.legacy, self.new, self.destination.part.name) if self.reading.by_type else 0

    def owed(self) -> list[Debt]:
        """The rollback debt, without what legacy could hold by now."""
        debts = owed(self.new)
        there = set(mended(self.legacy, debts))
        return [each for each in debts if each not in there]

    # Moving authority

    def parts_of(self, store: Store) -> tuple[Part, ...]:
        return self.mapping.parts if store is Store.LEGACY else (self.giving_part,)

    def guard_new(self, *, loading: bool) -> None:
        """Guard new's table. Where writes do not move, nothing is carried back, and nothing noted."""
        attach_guard(self.new, Store.NEW, self.giving_part, noting=self.reading.by_type, loading=loading)

    @property
    def fences(self) -> RouteFences:
        return RouteFences(self.legacy, self.new, prompts)

    def mover(self, act: Act, stop: Event, told: Callable[[str], None], *, spare: int = 0) -> Mover:
        """What carries out, finishes or undoes an act; it may leave so many scopes behind that are being written to."""
        sides = {Store.LEGACY: self.legacy_side, Store.NEW: self.new_side}
        crossing = Crossing(
            self.carrier_from(act.loser),
            self.carrier_from(act.loser.other),
            sides[act.loser],
            sides[act.loser.other],
            self.new,
            self.salt,
            self.settings.move,
            time.monotonic,
            stop,
            told,
            spare,
        )

        def approach(act: Act) -> None:
            if act.loser is Store.NEW:
                self.note_mended()
            crossing.approach(act)

        return Mover(
            self.fences,
            self.journal,
            approach,
            crossing.settle,
            crossing.drain,
            self.settings.move,
            time.monotonic,
            stop,
            told,
        )

    @cached_property
    def chunk_plan(self) -> ChunkPlan:
        return ChunkPlan(self.legacy, self.mapping.parts, self.new)

    @cached_property
    def copier(self) -> ChunkCopier:
        return ChunkCopier(self.legacy, self.mapping.parts, self.new, self.destination)

    @cached_property
    def indexes(self) -> DeferredIndexes:
        return DeferredIndexes(self.new, prompts, self.settings.backfill)

    @cached_property
    def pauses(self) -> PauseBook:
        return PauseBook(self.new, "backfill")

    @cached_property
    def legacy_side(self) -> TableSide:
        return TableSide(self.legacy, Store.LEGACY, self.mapping.parts, COLUMNS)

    @cached_property
    def new_side(self) -> TableSide:
        part = self.destination.part
        return TableSide(self.new, Store.NEW, [part], COLUMNS, within=self.migrating, held=held_rows())

    @cached_property
    def queue(self) -> Queues:
        return Queues(self.legacy, self.legacy_side, self.new, ~self.migrating, prompts)

    def places(self, authority: Connection, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Part and local key of those records that legacy has, by canonical key."""
        found: dict[str, tuple[str, str]] = {}
        for part in self.mapping.parts:
            rows = part.carried_where(part.where_key(these(keys))).subquery()
            key = cast(rows.c[part.key], Text)
            named = select(key, rows.c.local).where(key == any_(these(keys)))
            found |= {key: (part.name, local) for key, local in authority.execute(named)}
        return found

    def router(
        self, publisher: Publisher | None = None, new: PromptRepository | None = None
    ) -> Router[PromptRepository]:
        """A router over both repositories, not started: it follows the persisted route, carries over what it wrote,
        and keeps its statistics and confirmed mismatches in the ledger. ``new``: asked in place of new's repository.
        """
        carrier = self.new_carrier()
        return Router[PromptRepository](
            PromptRepository,
            legacy=self.legacy_repository,
            new=new or self.new_repository,
            routes=self.routes,
            carrier=carrier,
            rules=self.settings.compare.rules,
            settings=self.settings.shadow,
            publisher=publisher,
            samples=EvidenceBook(self.new, self.settings.compare.samples),
            roll_up=WithApplies(self.minute_roll_up(), carrier.applies),
            roll_up_seconds=self.settings.shadow.roll_up_seconds,
            rehearsals={
                Store.LEGACY: SqlPromptRepository(self.legacy, self.mapping, rehearsing=True),
                Store.NEW: SqlPromptRepository(self.new, RehearsalMapping(self.giving_part), rehearsing=True),
            },
            key_of=UUID,
        )

    def minute_roll_up(self) -> MinuteRollUp:
        """Adds up in the ledger what one process, or one part of it, counts."""
        return MinuteRollUp(StatisticsBook(self.new), uuid4())


@contextmanager
def opened(settings: Settings, *, bulk: bool = False, application: str = "crossfade") -> Iterator[Stores]:
    """Open both stores after a look at each: reachable, of a known version, and speaking UTF-8.

    ``bulk`` lifts the time limit of statements. Both are closed when the block ends.
    """
    limit = 0.0 if bulk else None
    legacy = open_engine(
        settings.legacy.url, Store.LEGACY, settings.pool, application=application, statement_seconds=limit
    )
    try:
        new = open_engine(settings.new.url, Store.NEW, settings.pool, application=application, statement_seconds=limit)
        try:
            check_server(legacy, Store.LEGACY)
            check_server(new, Store.NEW)
            yield Stores(settings, legacy, new)
        finally:
            new.dispose()
    finally:
        legacy.dispose()
