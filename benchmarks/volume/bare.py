"""The barest that does the same work: one COPY into another, and one SELECT that digests every row.

They keep none of Crossfade's promises: no checkpoint, no quarantine, no second look. What they need is the least that
any tool could need, which is why the goals are set in relation to them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg
from psycopg import sql
from sqlalchemy import BigInteger, ColumnElement, Text, cast, func, literal, literal_column, select, union_all
from sqlalchemy.dialects.postgresql import BIT
from sqlalchemy.sql.expression import Select

from adapters.postgres.literal import literal_sql
from adapters.postgres.part import Part
from adapters.prompts.canonical import COLUMNS, Reading
from adapters.prompts.dispatch_part import tenant_part
from adapters.prompts.prompt_manager import whole_part
from benchmarks.volume.place import Place, connection_environment
from benchmarks.volume.process import Lap, piped

_BARE = sql.Identifier("bare", "prompts")


def pipe(place: Place, *, indexes_later: bool = False) -> Lap:
    """``COPY (canonical select) TO STDOUT | COPY prompts FROM STDIN``, both binary, by two ``psql``.

    Into a table with prompts' columns, checks and indexes, and without any trigger. With ``indexes_later`` its indexes
    are built one after the other when the rows are there.
    """
    psql = place.program("psql")
    assert psql is not None, "psql is needed on PATH, or beside the embedded server"
    with psycopg.connect(place.new, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA bare")
        connection.execute(sql.SQL("CREATE TABLE {} (LIKE public.prompts INCLUDING ALL)").format(_BARE))
        indexes = _take_indexes(connection) if indexes_later else []
        names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(_BARE, names).as_string(connection)
        rows = f"COPY ({literal_sql(canonical_rows(place))}) TO STDOUT (FORMAT BINARY)"
        quiet = [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command"]
        environments = connection_environment(place.legacy), connection_environment(place.new)
        lap = piped([*quiet, rows], [*quiet, into], *environments)
        began = time.monotonic()
        for definition in indexes:
            connection.execute(definition.encode())
        took = time.monotonic() - began
        found = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(_BARE)).fetchone()
        assert found == (place.volume.prompts,), found
    return Lap(lap.seconds + took)


def canonical_rows(place: Place) -> Select[tuple[object, ...]]:
    """Every tenant's rows in the canonical columns, without asking whether new can hold them."""
    rows = union_all(*(part.canonical for part in legacy_parts(place))).subquery("rows")
    return select(*(rows.c[name] for name in COLUMNS))


def digest_scan(place: Place, url: str, parts: Sequence[Part], *, parallel: bool) -> Lap:
    """Read all rows of one store once, and add up a digest of each: all columns, told apart, NULL from the empty text.

    Without ``parallel`` in one process of the server's, which is what one store has on a machine that both share.
    """
    statement = _digest(parts)
    with psycopg.connect(url, autocommit=True) as connection:
        if not parallel:
            connection.execute("SET max_parallel_workers_per_gather = 0")
        began = time.monotonic()
        row = connection.execute(statement).fetchone()
        took = time.monotonic() - began
    assert row is not None
    assert row[0] == place.volume.prompts, row[0]
    return Lap(took, {"digest": f"{row[1]}/{row[2]}"})


def legacy_parts(place: Place) -> list[Part]:
    """Legacy's tenants, as the migration reads them."""
    return [tenant_part(slug, Reading()) for slug in place.volume.slugs]


def new_parts() -> list[Part]:
    return [whole_part()]


def _digest(parts: Sequence[Part]) -> bytes:
    fence: ColumnElement[int] = literal_column("0")  # OFFSET 0: each row's columns, and its digest, are computed once
    digests = []
    for part in parts:
        rows = part.canonical.offset(fence).subquery("canonical")
        texts = [cast(rows.c[name], Text) for name in COLUMNS]
        pieces = [piece for text in texts for piece in (func.octet_length(text), literal(":"), text)]
        digests.append(select(func.md5(func.concat(*pieces)).label("digest")).offset(fence))
    all_of_them = union_all(*(select(each.subquery().c.digest) for each in digests)).subquery("digests")
    halves = [_half(all_of_them.c.digest, start) for start in (1, 17)]
    return literal_sql(select(func.count(), *(func.sum(half) for half in halves))).encode()


def _half(digest: ColumnElement[str], start: int) -> ColumnElement[int]:
    bits = literal_column("'x'", Text) + func.substr(digest, start, 16)
    return cast(cast(bits, BIT(64)), BigInteger)


def _take_indexes(connection: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    """Take the bare table's indexes off; the statements that build them anew."""
    found = connection.execute(
        "SELECT indexdef, indexrelid::regclass::text, conname FROM pg_index"
        " JOIN pg_indexes ON schemaname = 'bare' AND to_regclass(format('%I.%I', schemaname, indexname)) = indexrelid"
        " LEFT JOIN pg_constraint ON conindid = indexrelid WHERE indrelid = 'bare.prompts'::regclass"
    ).fetchall()
    for _, name, constraint in found:
        if constraint is None:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.SQL(name)))  # type: ignore[arg-type] # its own words
        else:
            drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
            connection.execute(drop.format(_BARE, sql.Identifier(str(constraint))))
    return [str(definition) for definition, _, _ in found]
