"""A verification under way: what it goes by, and the sums of its finished segments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import Engine, delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import verified_segment, verifying
from harness.narrowing import Plan, Segment
from harness.routing import Store
from harness.verify import Sitting


class VerifyingBook:
    """Fulfils ``harness.verify.Checkpoints``. Whoever writes to it holds the command's lock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def interrupted(self) -> Sitting | None:
        chosen = select(verifying.c.fingerprint, verifying.c.at, verifying.c.plan, verifying.c.sittings)
        with ledger(self._engine) as connection:
            row = connection.execute(chosen).one_or_none()
        if row is None:
            return None
        segments = {Store(name): tuple(Segment(**each) for each in of) for name, of in row.plan["segments"].items()}
        return Sitting(row.fingerprint, row.at, Plan(**row.plan["plan"]), segments, row.sittings)

    def kept(self) -> Iterable[tuple[Store, int, bytes]]:
        chosen = select(verified_segment.c.store, verified_segment.c.number, verified_segment.c.sums)
        with ledger(self._engine) as connection:
            for row in connection.execution_options(yield_per=10).execute(chosen):
                yield Store(row.store), row.number, bytes(row.sums)

    def begin(self, sitting: Sitting) -> None:
        segments = {store.value: [asdict(each) for each in of] for store, of in sitting.segments.items()}
        row = {
            "fingerprint": sitting.fingerprint,
            "at": sitting.at,
            "sittings": sitting.sittings,
            "plan": {"plan": asdict(sitting.plan), "segments": segments},
        }
        statement = upsert(verifying).values(row)
        with ledger(self._engine) as connection:
            if sitting.sittings == 1:
                connection.execute(delete(verified_segment))
            connection.execute(statement.on_conflict_do_update(index_elements=["single"], set_=row))

    def keep(self, store: Store, number: int, sums: bytes) -> None:
        row = {"store": store.value, "number": number, "sums": sums, "at": func.clock_timestamp()}
        with ledger(self._engine) as connection:
            connection.execute(insert(verified_segment).values(row))

    def end(self) -> None:
        with ledger(self._engine) as connection:
            connection.execute(delete(verified_segment))
            connection.execute(delete(verifying))
