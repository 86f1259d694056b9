"""How far the copy of each part is: ranges of keys, each noted in the transaction that brought its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, Engine, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import checkpoint, chunk
from harness.backfill import Chunk, Copied
from harness.errors import Refused, StoreTimeout

_PATIENCE = "60s"
_COUNTS = ("copied", "already_there", "quarantined", "deferred")


def begin_run(engine: Engine, parts: Sequence[str]) -> dict[str, int]:
    """Begin another run of backfill; the number that its chunks of each part carry.

    Waits for chunks that an earlier run, killed perhaps, has left under way; such as come later are refused. So what is
    read as copied from now on stays all that was. Raises StoreTimeout when one of them does not end.
    """
    if not parts:
        return {}
    statement = insert(checkpoint).values([{"part": part, "run": 1} for part in sorted(parts)])
    statement = statement.on_conflict_do_update(index_elements=["part"], set_={"run": checkpoint.c.run + 1})
    try:
        with ledger(engine) as connection:
            connection.execute(select(func.set_config("lock_timeout", _PATIENCE, True)))
            rows = connection.execute(statement.returning(checkpoint.c.part, checkpoint.c.run))
            return {row.part: row.run for row in rows}
    except StoreTimeout as error:
        raise StoreTimeout(
            f"new: a chunk of an earlier crossfade backfill is under way for more than {_PATIENCE}; look at "
            "pg_stat_activity there, and run the command again when it has ended"
        ) from error


def claim(connection: Connection, wanted: Chunk) -> Copied | None:
    """Claim the chunk until the transaction ends; if it is copied already, what that brought.

    Waits for whoever copies it at this moment. Raises Refused when another run has begun since it was planned.
    """
    run = select(checkpoint.c.run).where(checkpoint.c.part == wanted.part).with_for_update(read=True)
    if connection.execute(run).scalar() != wanted.run:
        raise Refused("new: another crossfade backfill has begun meanwhile, and copies this; let it, or run it again")
    claiming = insert(chunk).values(part=wanted.part, low=wanted.low, high=wanted.high).on_conflict_do_nothing()
    if connection.execute(claiming.returning(chunk.c.low)).first() is not None:
        return None
    found = select(*(chunk.c[name] for name in _COUNTS)).where(chunk.c.part == wanted.part, chunk.c.low == wanted.low)
    return Copied(*connection.execute(found).one())


def record(connection: Connection, claimed: Chunk, copied: Copied) -> None:
    """Note what became of the rows of a chunk that was claimed in this transaction."""
    named = chunk.c.part == claimed.part, chunk.c.low == claimed.low
    connection.execute(update(chunk).where(*named).values(**asdict(copied)))


def copied_ranges(engine: Engine, part: str) -> list[tuple[int | None, int]]:
    """Lowest and highest key of each range that is copied, in order; None: from the beginning."""
    prefix = select(checkpoint.c.last_key).where(checkpoint.c.part == part, checkpoint.c.last_key.isnot(None))
    ranges = select(chunk.c.low, chunk.c.high).where(chunk.c.part == part).order_by(chunk.c.low)
    with ledger(engine) as connection:
        whole: list[tuple[int | None, int]] = [(None, high) for high in connection.execute(prefix).scalars()]
        return whole + [(row.low, row.high) for row in connection.execute(ranges)]


def finish(engine: Engine, part: str) -> None:
    """All of the part is copied, up to the highest chunk; its ranges become one."""
    last = select(func.max(chunk.c.high)).where(chunk.c.part == part).scalar_subquery()
    counts = {
        name: checkpoint.c[name]
        + select(func.coalesce(func.sum(chunk.c[name]), 0)).where(chunk.c.part == part).scalar_subquery()
        for name in _COUNTS
    }
    # PostgreSQL's greatest() passes over NULLs.
    moved = {"last_key": func.greatest(checkpoint.c.last_key, last), "finished": True, "updated_at": func.now()}
    with ledger(engine) as connection:
        connection.execute(update(checkpoint).where(checkpoint.c.part == part).values(counts | moved))
        connection.execute(delete(chunk).where(chunk.c.part == part))


def so_far(engine: Engine) -> Copied:
    """What all checkpoints say was done before now."""
    with ledger(engine) as connection:
        done = Copied()
        for table in (checkpoint, chunk):
            totals = select(*(func.coalesce(func.sum(table.c[name]), 0) for name in _COUNTS))
            done += Copied(*map(int, connection.execute(totals).one()))
        return done


def finished_parts(engine: Engine) -> dict[str, datetime]:
    """The parts that are copied to the end, and since when."""
    chosen = select(checkpoint.c.part, checkpoint.c.updated_at).where(checkpoint.c.finished)
    with ledger(engine) as connection:
        return {row.part: row.updated_at for row in connection.execute(chosen)}
