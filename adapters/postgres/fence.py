"""The fence: both stores' routes under exclusive locks, while authority moves.

The loser's lock and its route change are one transaction: if the connection dies, both go. The server itself ends a
transaction whose operator has frozen (idle_in_transaction_session_timeout), so that a fence always ends. So nothing is
asked in a trip here (``trip``): to the server, who freezes on a trip is not idle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    Text,
    Update,
    any_,
    cast,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from adapters.postgres.apply import set_applying
from adapters.postgres.authority import no_route
from adapters.postgres.errors import speaking_for
from adapters.postgres.fence_holders import Holder, fence_holders
from adapters.postgres.guarding import FENCE
from adapters.postgres.ledger.journal import lock_pending, undo
from adapters.postgres.ledger.tables import debt, left_behind, route
from adapters.postgres.part import these
from adapters.postgres.pool import discard
from adapters.postgres.schema import route_copy
from adapters.postgres.scope_locks import send_workers_aside
from harness.errors import CrossfadeError, Refused, StoreTimeout
from harness.moving import Act, Stand
from harness.routing import Store

_GRACE = 2.0  # seconds for what comes after the drain, before the server ends an idle transaction
_LATER = 100  # milliseconds
_RECOVERY_SECONDS = 10.0
_ROUTES = {Store.LEGACY: route_copy, Store.NEW: route}


class RouteFences:
    """Fulfils ``harness.moving.Fences`` over the two databases. ``table`` holds new's records, by ``id``."""

    def __init__(self, legacy: Engine, new: Engine, table: Table) -> None:
        self._engines, self._table = {Store.LEGACY: legacy, Store.NEW: new}, table

    @contextmanager
    def raised(self, act: Act, seconds: float) -> Iterator[_Fence]:
        with ExitStack() as stack:
            # The journal first: of two operators, only the one whose act is pending gets any further.
            # The gainer's does nothing while the loser's drains, waits for the fence and drains again.
            idle = {act.loser: seconds, act.loser.other: 3 * seconds}
            new = stack.enter_context(self._transaction(Store.NEW, seconds, idle[Store.NEW]))
            with speaking_for(Store.NEW):
                lock_pending(new, act.id)
            legacy = stack.enter_context(self._transaction(Store.LEGACY, seconds, idle[Store.LEGACY]))
            for store, connection in ((Store.NEW, new), (Store.LEGACY, legacy)):
                with speaking_for(store):
                    send_workers_aside(connection)
            # Afterwards: the gainer's writers queue up behind who waits for its fence, and a worker's batch is long.
            self._probe(act.loser.other, seconds)
            fence = _Fence(act, {Store.NEW: new, Store.LEGACY: legacy}, self._table, self._hold)
            fence.rehearse()
            yield fence

    def _probe(self, gainer: Store, seconds: float) -> None:
        """Raise StoreTimeout, holding up nobody in the loser yet, while the gainer's fence is not to be had."""
        with self._transaction(gainer, seconds) as connection:
            self._hold(gainer, connection)

    def _hold(self, store: Store, connection: Connection) -> None:
        """Hold back the store's writers until the transaction ends. Raises StoreTimeout, with who is in the way.

        To look who that is takes time: not for a fence that is wanted while another one holds writers back.
        """
        try:
            _hold_back(store, connection)
        except StoreTimeout as error:
            held: list[Holder] = []
            with suppress(CrossfadeError):  # of who is in the way; what happened is told all the same
                held = fence_holders(self._engines[store], store, 0.0)
            if not held:
                raise
            raise StoreTimeout(f"{store}: a fence waited in vain for {', '.join(map(str, held[:3]))}") from error

    def happened(self, act: Act, *, else_undo: bool) -> bool:
        with ExitStack() as stack:
            new = stack.enter_context(self._transaction(Store.NEW, _RECOVERY_SECONDS))
            with speaking_for(Store.NEW):
                lock_pending(new, act.id)
            # Whoever held the loser's fence before us has ended: what its route says now is final.
            connections = {Store.NEW: new}
            if act.loser is Store.LEGACY:
                connections[Store.LEGACY] = stack.enter_context(self._transaction(Store.LEGACY, _RECOVERY_SECONDS))
            fence = _Fence(act, connections, self._table, self._hold)
            fence.hold(act.loser)
            happened = fence.epoch(act.loser) == act.epoch
            if else_undo and not happened:
                with speaking_for(Store.NEW):
                    undo(new, act)
                fence.commit(Store.NEW)
            return happened

    def gain_likewise(self, act: Act) -> None:
        gainer = act.loser.other
        with ExitStack() as stack:
            connections = {
                store: stack.enter_context(self._transaction(store, _RECOVERY_SECONDS))
                for store in (Store.NEW, Store.LEGACY)
            }
            with speaking_for(Store.NEW):
                lock_pending(connections[Store.NEW], act.id)
            fence = _Fence(act, connections, self._table, self._hold)
            fence.hold(gainer)
            fence.copy(act.loser, gainer)
            fence.commit(gainer)

    def align(self) -> Store | None:
        """Give both stores the newer one's route where they differ; the store that was behind, None if none was.

        For a store that was restored from a backup: by its old route it might accept what the other one accepts too.
        """
        with ExitStack() as stack:
            held = {
                store: stack.enter_context(self._transaction(store, _RECOVERY_SECONDS))
                for store in (Store.NEW, Store.LEGACY)
            }
            routes = {}
            for store, connection in held.items():
                _hold_back(store, connection)
                with speaking_for(store):
                    routes[store] = read_authority(connection, store)
            if not differ(routes):
                return None
            behind = min(routes, key=lambda store: routes[store]["epoch"])
            with speaking_for(behind):
                held[behind].execute(update(_ROUTES[behind]).values(**routes[behind.other]))
                held[behind].commit()
            return behind

    @contextmanager
    def _transaction(self, store: Store, seconds: float, idle_seconds: float | None = None) -> Iterator[Connection]:
        """A transaction in the store, rolled back at the end unless it was committed before.

        No statement in it takes longer than ``seconds``, and no pause between two than ``idle_seconds`` and a little.
        """
        with speaking_for(store):
            connection = self._engines[store].connect()
        try:
            with speaking_for(store):
                # The lock's limit is the one to be met where a lock is what is waited for: its message says so.
                wait, statement = str(round(seconds * 1000)), str(round(seconds * 1000) + _LATER)
                idle = str(round(((idle_seconds or seconds) + _GRACE) * 1000))
                connection.execute(
                    select(
                        func.set_config("lock_timeout", wait, True),
                        func.set_config("statement_timeout", statement, True),
                        func.set_config("idle_in_transaction_session_timeout", idle, True),
                    )
                )
            yield connection
        finally:
            try:
                connection.rollback()
            except DBAPIError:
                discard(connection)  # it has died, and its transaction with it; what it died of is raised already
            connection.close()


def _hold_back(store: Store, connection: Connection) -> None:
    with speaking_for(store):
        connection.execute(select(func.pg_advisory_xact_lock(*FENCE)))


def find_authority(connection: Connection, store: Store) -> dict[str, Any] | None:
    """What the store's guard goes by: epoch, writes_percent and pins. None where ``prepare`` has not come so far."""
    table = _ROUTES[store]
    row = connection.execute(select(table.c.epoch, table.c.writes_percent, table.c.pins)).one_or_none()
    return None if row is None else dict(row._mapping)


def read_authority(connection: Connection, store: Store) -> dict[str, Any]:
    """The same. Raises NotPrepared where there is none."""
    if (found := find_authority(connection, store)) is None:
        raise no_route(store)
    return found


def differ(routes: Mapping[Store, Mapping[str, Any]]) -> bool:
    """Whether the two guards go by different shares or pins, or new's ledger is older than what legacy knows.

    New's epoch may be the greater one: reads are new's alone. Legacy's is greater only after new was restored from a
    backup, and then the epochs that come next have been given out before.
    """
    legacy, new = routes[Store.LEGACY], routes[Store.NEW]
    return not _same(legacy, new) or legacy["epoch"] > new["epoch"]


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("writes_percent", "pins"))


def _older(store: Store, epoch: int, values: Mapping[str, Any]) -> Update:
    """Write the store's route if it is older than an epoch."""
    table = _ROUTES[store]
    return update(table).where(table.c.epoch < epoch).values(**values)


class _Fence:
    def __init__(
        self,
        act: Act,
        connections: dict[Store, Connection],
        table: Table,
        hold: Callable[[Store, Connection], None],
    ) -> None:
        self._act, self._connections, self._table, self._hold = act, connections, table, hold

    def hold_loser(self) -> float:
        began = time.monotonic()
        self.hold(self._act.loser)
        return began

    def hold(self, store: Store) -> None:
        self._hold(store, self._connections[store])

    def hold_gainer(self) -> None:
        gainer = self._act.loser.other
        _hold_back(gainer, self._connections[gainer])

    def rehearse(self) -> None:
        """Write routes that nothing is older than, so to no row: what is done first is slow, and later writers wait."""
        for store, values in self._routes(self._act.after).items():
            with speaking_for(store):
                self._connections[store].execute(_older(store, 0, values))

    def write(self, after: Stand) -> None:
        for store, values in self._routes(after).items():
            self._update(store, values)
        if self._act.left_behind:
            with speaking_for(Store.NEW):
                self._leave_behind(self._connections[Store.NEW], self._act.left_behind)

    def _routes(self, after: Stand) -> dict[Store, dict[str, Any]]:
        """What the routes of both stores are to say."""
        pins = {name: store.value for name, store in after.pins.items()}
        shared = {"epoch": self._act.epoch, "writes_percent": after.writes_percent, "pins": pins}
        own = {"reads_percent": after.reads_percent, "shadow_percent": after.shadow_percent}
        return {Store.LEGACY: shared, Store.NEW: shared | own | {"automatic": sorted(after.automatic)}}

    def _leave_behind(self, new: Connection, keys: Collection[str]) -> None:
        """Keep the rows that legacy cannot hold in the ledger, and take them out of new, where nobody writes now."""
        table = self._table
        image = func.to_jsonb(literal_column(f'"{table.name}"')).label("row")
        # Of the keys, those that are still owed: not what was mended since the plan.
        found = delete(debt).where(debt.c.key == any_(these(keys)), cast(table.c.id, Text) == debt.c.key)
        owed = found.returning(debt.c.key, debt.c.scope, debt.c.reason, image).cte("owed")
        kept = insert(left_behind).from_select(["key", "scope", "reason", "row"], select(owed))
        left = new.execute(kept.returning(left_behind.c.key)).scalars().all()
        set_applying(new)
        new.execute(delete(table).where(cast(table.c.id, Text) == any_(these(left))))

    def copy(self, giver: Store, taker: Store) -> None:
        """Make the taker's route say what the giver's says; what only new's says comes from the act."""
        after = self._act.after
        with speaking_for(giver):
            values = read_authority(self._connections[giver], giver)
        if taker is Store.NEW:
            # Pins beyond those that the act meant are of scopes that were found in quarantine inside the fence.
            found = set(values["pins"]) - set(after.pins)
            values |= {"reads_percent": after.reads_percent, "shadow_percent": after.shadow_percent}
            values |= {"automatic": sorted(after.automatic | found)}
        self._update(taker, values)

    def epoch(self, store: Store) -> int:
        table = _ROUTES[store]
        with speaking_for(store):
            return int(self._connections[store].execute(select(table.c.epoch)).scalar_one())

    def lose(self) -> None:
        self.commit(self._act.loser)

    def gain(self) -> None:
        self.commit(self._act.loser.other)

    def commit(self, store: Store) -> None:
        with speaking_for(store):
            self._connections[store].commit()

    def _update(self, store: Store, values: dict[str, Any]) -> None:
        """Write the store's route, unless it is as new as that already.

        Whoever waited for the fence may have been overtaken: others finished the act, and moved on (STALE_FINISH in
        ``model/``). Raises Refused then.
        """
        with speaking_for(store):
            if self._connections[store].execute(_older(store, self._act.epoch, values)).rowcount:
                return
            there = read_authority(self._connections[store], store)
        if not (there["epoch"] == self._act.epoch and _same(there, values)):
            raise Refused(f"{store}: somebody else has moved authority meanwhile; look at crossfade status")
