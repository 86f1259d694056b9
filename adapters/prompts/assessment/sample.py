"""A sample of legacy's rows, really read and timed, and a piece of work timed in new.

Rows are read as the backfill reads a chunk (COPY of the canonical SELECT over a range of ids) and as verify digests
one, at places spread evenly over all tenants' ids: a few thousand rows, whatever the tables' size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import Connection as Driver
from sqlalchemy import Connection, Text, and_, cast, func, select, text

from adapters.postgres.literal import literal_sql
from adapters.postgres.part import REASON, Part
from adapters.prompts.assessment.findings import Range, TenantCounts
from adapters.prompts.canonical import COLUMNS, Reading
from adapters.prompts.dispatch_part import tenant_part
from adapters.prompts.workload import has_sidecar
from harness.errors import CrossfadeError
from harness.ports import Clock

_PLACES = 4
_MOST_ROWS = 5_000  # at one place
_MOST_BYTES = 4_000_000  # at one place, roughly
_WORK_ROWS = 20_000
_WORK_TIMES = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """``read`` and ``digest``: seconds for one row. ``widths``: bytes of each canonical column's text, on average."""

    rows: int
    read: Range
    digest: Range
    widths: dict[str, float]


def read_sample(
    connection: Connection, tenants: Sequence[TenantCounts], reading: Reading, chunk_rows: int, clock: Clock
) -> Sample:
    """Read some rows as backfill and verify would; the fastest and the slowest place make the ranges."""
    # What is held back under policy "project" is counted elsewhere; how long a row takes to read is the same.
    by_row, with_sidecar = replace(reading, scope_policy="type"), has_sidecar(connection)
    reads: list[float] = []
    digests: list[float] = []
    rows, sums = 0, dict.fromkeys(COLUMNS, 0)
    fit = 0
    for tenant, start in _places(tenants):
        part = tenant_part(tenant.tenant, by_row, with_sidecar=with_sidecar)
        number = min(chunk_rows, _MOST_ROWS, max(1, _MOST_BYTES * tenant.rows // max(1, tenant.bytes)))
        bounds = connection.execute(_range(part, start, number)).one()
        if not bounds.rows:
            continue
        within = and_(_key(part) >= bounds.first, _key(part) <= bounds.last)
        rows += bounds.rows
        reads.append(_copy(connection, part, within, clock) / bounds.rows)
        seconds, measured = _digest(connection, part, within, clock)
        digests.append(seconds / bounds.rows)
        fit += measured.fit
        sums = {name: sums[name] + int(measured._mapping[name] or 0) for name in COLUMNS}
    if not rows:
        return Sample(0, Range(), Range(), dict.fromkeys(COLUMNS, 0.0))
    widths = {name: total / max(1, fit) for name, total in sums.items()}
    return Sample(rows, Range(min(reads), max(reads)), Range(min(digests), max(digests)), widths)


def time_work(connection: Connection, clock: Clock) -> Range:
    """Seconds that the server takes for one row of a fixed piece of work: a digest, and its place in an order."""
    work = text(
        'SELECT count(*) FROM (SELECT md5(cast(n AS text)) COLLATE "C" AS k FROM generate_series(1, :rows) n '
        "ORDER BY k OFFSET 0) AS sorted"
    )
    times = []
    for _ in range(_WORK_TIMES):
        started = clock()
        connection.execute(work, {"rows": _WORK_ROWS}).scalar_one()
        times.append((clock() - started) / _WORK_ROWS)
    return Range(min(times), max(times))


def _places(tenants: Sequence[TenantCounts]) -> Iterator[tuple[TenantCounts, int]]:
    """Tenants and ids at which to begin, spread evenly over all rows as far as ids tell."""
    total = sum(tenant.rows for tenant in tenants)
    for place in range(_PLACES):
        position = total * place / _PLACES
        for tenant in tenants:
            if position < tenant.rows and tenant.first_id is not None and tenant.last_id is not None:
                yield tenant, tenant.first_id + int((tenant.last_id - tenant.first_id) * position / tenant.rows)
                break
            position -= tenant.rows


def _range(part: Part, start: int, number: int) -> Any:
    """The lowest and highest id of the next rows from ``start`` on, and how many they are."""
    ids = select(_key(part).label("id")).where(_key(part) >= start).order_by(_key(part)).limit(number).subquery("ids")
    return select(
        func.count().label("rows"), func.min(ids.c.id).label("first"), func.max(ids.c.id).label("last")
    ).select_from(ids)


def _key(part: Part) -> Any:
    return part.order


def _copy(connection: Connection, part: Part, within: Any, clock: Clock) -> float:
    """Seconds to stream the rows here, as the backfill streams a chunk."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, Driver):
        raise CrossfadeError("assess needs psycopg 3 under SQLAlchemy")
    statement = f"COPY ({literal_sql(part.carried_where(within))}) TO STDOUT (FORMAT BINARY)"
    started = clock()
    with driver.cursor() as cursor, cursor.copy(statement.encode()) as blocks:
        for _ in blocks:
            pass
    return clock() - started


def _digest(connection: Connection, part: Part, within: Any, clock: Clock) -> tuple[float, Any]:
    """Seconds to digest the rows in legacy, and the sums of their columns' bytes."""
    rows = part.carried_where(within).subquery("rows")
    texts = [cast(rows.c[name], Text) for name in COLUMNS]
    digest = func.md5(func.concat_ws("/", *texts))
    sums = [func.sum(func.octet_length(each)).label(name) for name, each in zip(COLUMNS, texts, strict=True)]
    statement = select(func.count().label("fit"), func.max(digest).label("digest"), *sums)
    started = clock()
    measured = connection.execute(statement.where(rows.c[REASON].is_(None))).one()
    return clock() - started, measured
