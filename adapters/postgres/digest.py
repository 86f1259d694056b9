"""Digests of canonical rows, computed in the database: what verify compares before it reads any row.

A row's digest is the md5 of ``record_send`` of its columns: PostgreSQL's own binary form of a record, in network byte
order, which says of each column its type, its length (-1 for NULL) and its bytes. So NULL is no string, and no two rows
run together alike; nothing is trimmed, folded or rounded. It is one call of C for a whole row, and the same on every
version and platform (docs/adr/0020-verify-by-sums.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    Executable,
    Select,
    Text,
    case,
    cast,
    collate,
    func,
    literal_column,
    select,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.types import UserDefinedType

from adapters.postgres.cells import looked_at, named_record, number_of, place_of, record_of, within_cells
from adapters.postgres.errors import speaking_for
from adapters.postgres.literal import literal_sql
from adapters.postgres.part import REASON, VERSION, Part, texts
from adapters.postgres.pool import asking
from adapters.postgres.prepared import PreparedByShape, parameter
from adapters.postgres.snapshot import Snapshot, begin_long_work, snapshot
from harness.looking import Mark, Record
from harness.narrowing import Cells, Plan, Segment, Sums
from harness.routing import Store

HELD = "quarantine"  # the segment of what the ledger says of unrepresentable rows
_BYTES_PER_ROW = 400  # for a first guess; any number gives the same verdict
_HASHES_RECORDS = 140000  # the version from which on hash_record_extended is there
_RANGES_BY_BLOCK = 140000  # the version from which on a range of ctids is read without the rest
_WITHIN = "within_"


class Tid(UserDefinedType[str]):
    """Where a row is: block and place."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "tid"


class TableSide:
    """One store's rows, for verify.

    ``within`` tells the rows that are the migration's; the others are counted. ``chosen`` limits what is read to
    some parts, and in each to the rows that fulfil a condition; rows asked for by key are looked for everywhere.
    ``held`` selects key, scope and reason of rows that cannot be represented, for the side that knows them by hearsay.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        parts: Sequence[Part],
        columns: Sequence[str],
        within: ColumnElement[bool] | None = None,
        chosen: Mapping[str, ColumnElement[bool] | None] | None = None,
        held: Select[Any] | None = None,
    ) -> None:
        self.columns = tuple(columns)
        self._engine, self._store, self._parts, self._within = engine, store, parts, within
        self._chosen = {part.name: None for part in parts} if chosen is None else dict(chosen)
        self._swept = {part.name: part for part in parts if part.name in self._chosen}
        self._held = held
        self._prepared = PreparedByShape()

    # All rows, by their sums

    def size(self) -> int:
        return self._bytes() // _BYTES_PER_ROW

    def is_quick(self) -> bool:
        with speaking_for(self._store), self._engine.connect() as connection:
            return int(connection.execute(_SERVER).one()[0]) >= _HASHES_RECORDS

    def fingerprint(self) -> str:
        """Changes when a table was written anew, so that its blocks are others, or is looked at, or read, otherwise."""
        chosen = [
            (name, "" if condition is None else literal_sql(condition)) for name, condition in self._chosen.items()
        ]
        with speaking_for(self._store), self._engine.connect() as connection:
            files = [
                connection.execute(_FILE, {"table": _qualified(part)}).scalar_one() for part in self._swept.values()
            ]
        reading = [literal_sql(part.canonical) for part in self._swept.values()]
        for condition in (self._within, self._held):
            reading.append("" if condition is None else literal_sql(condition))
        return repr((chosen, files, self.columns, sha256("\n".join(reading).encode()).hexdigest()))

    def segments(self, megabytes: int) -> list[Segment]:
        found = [] if self._held is None else [Segment(HELD)]
        with speaking_for(self._store), self._engine.connect() as connection:
            version, block = connection.execute(_SERVER).one()
            step = megabytes * 2**20 // block
            for part in self._swept.values():
                blocks = connection.execute(_SIZE, {"table": _qualified(part)}).scalar_one() // block
                whole = version < _RANGES_BY_BLOCK or self._chosen[part.name] is not None
                starts = [0] if whole else list(range(0, max(blocks, 1), step))
                # What is appended meanwhile belongs to the last one.
                found += [Segment(part.name, *each) for each in zip(starts, [*starts[1:], None], strict=True)]
        return found

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        with snapshot(self._engine, self._store) as taken:
            yield taken

    def digest(self, segment: Segment, plan: Plan, taken: Snapshot) -> Sums:
        """The sums of a segment as it was at a snapshot."""
        shape = segment.part, segment.after is None, plan
        statement = self._prepared.get(shape, lambda: self._summed(segment, plan))
        bounds = {} if self._is_held(segment) else {"first": f"({segment.first},0)"}
        if segment.after is not None:
            bounds["after"] = f"({segment.after},0)"
        sums = Sums(plan.cells)
        with taken.reading(alone=segment.after is not None or segment.first > 0) as connection:
            row: Any = statement.execute(connection, **bounds).one()
        if row[0] is not None:
            sums.add(row[0], row[1], map(int, row[2]))
        return sums

    def _is_held(self, segment: Segment) -> bool:
        return self._held is not None and segment.part == HELD

    def _summed(self, segment: Segment, plan: Plan) -> Select[Any]:
        if self._is_held(segment):
            cell, number = self._held_row(plan)
        else:
            part = self._swept[segment.part]
            ctid: ColumnElement[Any] = literal_column(f"{_qualified(part)}.ctid", Tid())
            blocks = [ctid >= cast(parameter("first", Text), Tid())]
            if segment.after is not None:
                blocks.append(ctid < cast(parameter("after", Text), Tid()))
            cell, number = self._row(part, plan, blocks)
        cells = select(cell.label("cell"), func.count().label("rows"), cast(func.sum(number), Text).label("total"))
        grouped = cells.group_by(literal_column("1")).subquery("cells")
        chosen: list[ColumnElement[Any]] = [func.array_agg(column) for column in grouped.c]
        return select(*chosen)

    def _row(self, part: Part, plan: Plan, blocks: list[ColumnElement[bool]]) -> _Row:
        """Cell and number of a part's canonical rows."""
        rows = self._fenced(part, [*blocks, looked_at(_key(part), plan)])
        key = cast(rows.c[part.key], Text)
        fit, place = rows.c[REASON].is_(None), place_of(key, plan)
        unfit = named_record(key, rows.c[part.scope], rows.c[REASON])
        number = number_of(case((fit, record_of(rows.c[name] for name in self.columns)), else_=unfit), plan)
        if not plan.apart:
            return case((fit, place), else_=place + plan.buckets), number
        within = rows.c[_WITHIN]
        cell = case((~within, plan.cells - 1), (fit, place), else_=place + plan.buckets)
        return cell, case((within, number), else_=0)

    def _held_row(self, plan: Plan) -> _Row:
        rows = self._of_hearsay(plan)
        record = named_record(rows.c.key, rows.c.scope, rows.c.reason)
        return place_of(rows.c.key, plan) + plan.buckets, number_of(record, plan)

    def _of_hearsay(self, plan: Plan, cells: Cells | None = None) -> Any:
        assert self._held is not None  # noqa: S101 - asked for only where there is some; for the type checker
        key = self._held.selected_columns.key
        return self._held.where(looked_at(key, plan), within_cells(cells, key, plan)).subquery("held")

    def _fenced(self, part: Part, conditions: list[ColumnElement[bool]]) -> Any:
        """The part's rows that fulfil the conditions, which are asked before any column is computed."""
        if (chosen := self._chosen[part.name]) is not None:
            conditions = [chosen, *conditions]
        within = literal_column("true") if self._within is None else self._within
        # OFFSET 0 keeps the planner from computing each column once for each place that it is mentioned in.
        canonical = part.canonical.add_columns(within.label(_WITHIN)).where(*conditions)
        return canonical.offset(literal_column("0")).subquery("rows")

    # Rows of unequal cells, key by key

    @contextmanager
    def listed(self, plan: Plan, cells: Cells, *, fit: bool) -> Iterator[Iterator[tuple[str, str]]]:
        """Key and digest of each row of these buckets, in the order of keys as bytes; bounded memory.

        The server sets to work at once; another side can be asked meanwhile.
        """
        selects = [self._list(part, plan, cells, fit=fit) for part in self._swept.values()]
        if self._held is not None and not fit:
            selects = [self._list_held(plan, cells)]
        rows = union_all(*selects).subquery("listed")
        # Bytes: the same order on every server.
        statement = literal_sql(select(rows.c.key, rows.c.digest).order_by(collate(rows.c.key, "C")))
        with speaking_for(self._store), self._engine.connect() as connection:
            begin_long_work(connection)
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor, cursor.copy(f"COPY ({statement}) TO STDOUT") as copy:
                yield self._read(copy.rows())

    def foreign(self, plan: Plan, cells: Cells) -> int:
        """How many rows of these buckets are not within."""
        found = 0
        with speaking_for(self._store), self._engine.connect() as connection:
            begin_long_work(connection)
            for part in self._swept.values() if self._within is not None else ():
                rows = self._fenced(part, [looked_at(_key(part), plan), within_cells(cells, _key(part), plan)])
                statement = select(func.count()).select_from(rows).where(~rows.c[_WITHIN])
                found += int(connection.execute(statement).scalar_one())
        return found

    def _read(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[str, str]]:
        with speaking_for(self._store):
            yield from ((key, digest) for key, digest in rows)

    def _list(self, part: Part, plan: Plan, cells: Cells, *, fit: bool) -> Select[Any]:
        rows = self._fenced(part, [looked_at(_key(part), plan), within_cells(cells, _key(part), plan)])
        key = cast(rows.c[part.key], Text)
        record = record_of(rows.c[name] for name in self.columns)
        named = named_record(key, rows.c[part.scope], rows.c[REASON])
        chosen = select(key.label("key"), func.md5(record if fit else named).label("digest"))
        reason = rows.c[REASON]
        known = reason.is_(None) if fit else reason.isnot(None)
        return chosen.where(rows.c[_WITHIN], known)

    def _list_held(self, plan: Plan, cells: Cells) -> Select[Any]:
        rows = self._of_hearsay(plan, cells)
        digest = func.md5(named_record(rows.c.key, rows.c.scope, rows.c.reason))
        return select(rows.c.key.label("key"), digest.label("digest"))

    # Rows by key

    def marks(self, keys: Collection[str]) -> Mapping[str, Mark]:
        """Scope, digest and version of the rows with these keys that there are."""
        found: dict[str, Mark] = {}
        for row in self.asked("marks", keys, self._marked):
            mark = Mark(row[1], row[3], row[2], row[4])
            twin = found.get(row[0])
            # Two rows with one key are equal to no row.
            found[row[0]] = mark if twin is None else Mark(mark.scope, " ".join(sorted((mark.digest, twin.digest))))
        return found

    def records(self, keys: Collection[str]) -> Mapping[str, Record]:
        """The rows with these keys that there are."""
        rows = self.asked("records", keys, self._recorded)
        return {row[0]: Record(row[1], tuple(row[3:]), row[2]) for row in rows}

    def unfit(self, keys: Collection[str]) -> frozenset[tuple[str, str | None, str]]:
        """Key, scope and reason of those of these rows that cannot be represented on the other side."""
        return frozenset((row[0], row[1], row[2]) for row in self.asked("unfit", keys, _unfit))

    def asked(self, what: str, keys: Collection[str], build: Callable[[Part], Executable]) -> Iterator[Any]:
        """The rows of a statement for each part that ``build`` makes of it, once for each ``what``, with ``keys``."""
        if not keys:
            return
        with speaking_for(self._store), asking(self._engine).connect() as connection:
            for part in self._parts:
                statement = self._prepared.get((what, part.name), partial(build, part))
                yield from statement.execute(connection, keys=sorted(keys)).all()

    def _marked(self, part: Part) -> Select[Any]:
        rows = part.by_keys(texts("keys")).offset(literal_column("0")).subquery()
        key, scope = cast(rows.c[part.key], Text), cast(rows.c[part.scope], Text)
        record = record_of(rows.c[name] for name in self.columns)
        marked: list[ColumnElement[Any]] = [key, scope, rows.c[VERSION], func.md5(record), func.octet_length(record)]
        return select(*marked).where(rows.c[REASON].is_(None))

    def _recorded(self, part: Part) -> Select[Any]:
        rows = part.by_keys(texts("keys")).subquery()
        values = [cast(rows.c[name], Text) for name in self.columns]
        key, scope = cast(rows.c[part.key], Text).label("key_"), rows.c[part.scope].label("scope_")
        chosen: list[ColumnElement[Any]] = [key, scope, rows.c[VERSION], *values]
        return select(*chosen).where(rows.c[REASON].is_(None))

    def _bytes(self) -> int:
        with speaking_for(self._store), self._engine.connect() as connection:
            tables = [_qualified(part) for part in self._swept.values()]
            return sum(connection.execute(_SIZE, {"table": table}).scalar_one() for table in tables)


_Row = tuple[ColumnElement[Any], ColumnElement[Any]]

# A style of parameters without percent signs to double: what is quoted here goes to the driver as it is.
_QUOTING = PGDialect_psycopg(paramstyle="named").identifier_preparer  # type: ignore[no-untyped-call] # untyped there
_SIZE = text("SELECT pg_relation_size(CAST(:table AS regclass))")
_FILE = text("SELECT pg_relation_filenode(CAST(:table AS regclass))")
_SERVER = text("SELECT current_setting('server_version_num')::integer, current_setting('block_size')::integer")


def _qualified(part: Part) -> str:
    return _QUOTING.format_table(part.table)


def _unfit(part: Part) -> Select[Any]:
    rows = part.by_keys(texts("keys")).subquery()
    chosen = select(cast(rows.c[part.key], Text), cast(rows.c[part.scope], Text), rows.c[REASON])
    return chosen.where(rows.c[REASON].isnot(None))


def _key(part: Part) -> ColumnElement[Any]:
    """The key as the canonical SELECT computes it, for its own WHERE."""
    return cast(part.canonical.selected_columns[part.key], Text)
