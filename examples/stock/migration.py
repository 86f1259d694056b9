"""The migration of the stock, joined: each step in the order in which it is taken."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event

from sqlalchemy import Engine, false

from adapters.postgres.batch import Giver, Taker
from adapters.postgres.bulk import ChunkCopier
from adapters.postgres.capture import index_identity
from adapters.postgres.carry import StateCarrier
from adapters.postgres.chunks import ChunkPlan
from adapters.postgres.digest import TableSide
from adapters.postgres.guard import attach_guard
from adapters.postgres.ledger.opening import open_ledger
from adapters.postgres.ledger.route import RouteBook
from adapters.postgres.migrations import upgrade
from adapters.postgres.route_rows import settle_routes
from adapters.postgres.under_way import Queues, held_rows
from harness.backfill import Copied, backfill
from harness.catchup import drain
from harness.ports import SampleSink
from harness.records import Verification
from harness.router import Router
from harness.routing import Store
from harness.settings import CatchupSettings, VerifySettings
from harness.throttle import Limits, Throttle
from harness.verify import Verify
from stock.contract import SqlStock, Stock
from stock.tables import COLUMNS, destination, items, legacy_part, new_part


@dataclass(frozen=True, slots=True)
class StockMigration:
    legacy: Engine
    new: Engine

    def prepare(self) -> None:
        """Ledger, route, guards and capture; legacy's writers go on, and are noted from now on."""
        upgrade(self.legacy, "legacy")
        upgrade(self.new, "new")
        items.create(self.new, checkfirst=True)
        open_ledger(self.new, actor="stock", salt=secrets.token_hex(8))
        settle_routes(self.legacy, self.new, mode="enforce", rollback_safe=True)
        attach_guard(self.legacy, Store.LEGACY, legacy_part)
        attach_guard(self.new, Store.NEW, new_part, noting=False)  # nothing is carried back, so nothing is noted
        index_identity(self.legacy, Store.LEGACY, legacy_part)

    def backfill(self, chunk_rows: int = 5000) -> Copied:
        """Copy what existed; goes on where it was left."""
        chunks = ChunkPlan(self.legacy, [legacy_part], self.new)
        copier = ChunkCopier(self.legacy, [legacy_part], self.new, destination)
        pace = Throttle(Limits(chunk_rows=chunk_rows), clock=time.monotonic, now=lambda: datetime.now(UTC))
        with ThreadPoolExecutor(2) as threads:
            return backfill(chunks, copier.copy, threads, workers=2, pace=pace, stop=Event())[0]

    def carrier(self) -> StateCarrier:
        """What carries legacy's changes over; one for each thread."""
        giver = Giver(Store.LEGACY, self.legacy, lambda: [legacy_part])
        taker = Taker(Store.NEW, self.new, destination, part_of=lambda scope: legacy_part.name)
        return StateCarrier(lambda: (giver, taker), CatchupSettings())

    def catch_up(self) -> int:
        """Carry over what was noted; how many notes are left."""
        return drain(self.carrier(), stop=Event(), clock=time.monotonic, timeout=60, pause=0.05)[1]

    def verify(self, patience: float = 10.0) -> Verification:
        """Every row of both stores, and what is in quarantine."""
        legacy = TableSide(self.legacy, Store.LEGACY, [legacy_part], COLUMNS)
        new = TableSide(self.new, Store.NEW, [new_part], COLUMNS, held=held_rows())
        queue = Queues(self.legacy, legacy, self.new, false(), items)
        return Verify(legacy, new, queue, VerifySettings(), time.monotonic, Event()).run(patience=patience)

    def serve_reads(self, percent: float, reason: str) -> None:
        """New answers so many percent of the reads; running routers follow within a second."""
        RouteBook(self.new).change(reads_percent=percent, actor="stock", reason=reason)

    def router(self, samples: SampleSink | None = None) -> Router[Stock]:
        """Routes and compares reads; writes go to legacy, and are carried over at once. Not started."""
        return Router[Stock](
            Stock,
            legacy=SqlStock(self.legacy, Store.LEGACY, legacy_part),
            new=SqlStock(self.new, Store.NEW, new_part),
            routes=RouteBook(self.new),
            carrier=self.carrier(),
            samples=samples,
        )
