"""Capture: a trigger notes, in the writer's own transaction, which record of which scope changed.

It sees what no wrapper sees: raw SQL, cascades, the other system itself. It is the guard's (``guard``): who lets a
write pass notes it, in the same statement. The notes are ``crossfade.dirty`` in the same database. A note of a record
names its scope, and its key, or the row's own key, or both (docs/adr/0030). With neither it stands for the whole scope,
and without a scope for the whole part (TRUNCATE). ``cascade`` says that the record went because its owner did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Insert,
    Select,
    Subquery,
    Table,
    Text,
    and_,
    cast,
    false,
    func,
    insert,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateIndex, Index

from adapters.postgres import triggers
from adapters.postgres.authority import ROUTE
from adapters.postgres.part import Part, alike
from adapters.postgres.schema import dirty
from harness.errors import Refused
from harness.failpoints import passing
from harness.records import Backlog
from harness.routing import Store

INDEX_TIMEOUT = "60s"
IDENTITY, RETIRED = "crossfade_key", "crossfade_identity"  # indexes; the latter knew whole keys
SCOPES = {"OLD": literal_column("departed", Text), "NEW": literal_column("arrived", Text)}


def index_identity(engine: Engine, store: Store, part: Part) -> None:
    """Put an index on the part's computed key, without holding up writers. Repeats what a crash left invalid."""
    if part.identity is None:
        return
    index = Index(IDENTITY, part.identity, _table=part.table, postgresql_concurrently=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        whole = _computed_indexes(connection, part.table)
        # It waits for every transaction that is older than it, holding up nobody; but not for ever.
        connection.execute(select(func.set_config("lock_timeout", INDEX_TIMEOUT, False)))
        try:
            if not whole.get(IDENTITY, True):
                _drop_index(connection, part.table, IDENTITY)
            connection.execute(CreateIndex(index, if_not_exists=True))
            passing("prepare.index_built")
            if RETIRED in whole:
                _drop_index(connection, part.table, RETIRED)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
                raise
            raise Refused(
                f"{store}: the index on {triggers.place(part.table)} waited longer than {INDEX_TIMEOUT} for older "
                "transactions; end them (pg_stat_activity) and run the command again, or do without it (--no-id-index)"
            ) from error
        finally:
            connection.execute(select(func.set_config("lock_timeout", "0", False)))
    part.table.indexes.discard(index)


def _computed_indexes(connection: Connection, table: Table) -> dict[str, bool]:
    """The table's indexes on expressions, and whether each is whole."""
    statement = text(
        "SELECT i.relname, x.indisvalid FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"  # noqa: S608 - constant
        f" WHERE x.indexprs IS NOT NULL AND x.indrelid = {triggers.PLACE}"
    )
    rows = connection.execute(statement, {"schema": table.schema, "table": table.name})
    return {row.relname: row.indisvalid for row in rows}


def _drop_index(connection: Connection, table: Table, name: str) -> None:
    drop = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(*filter(None, (table.schema, name))))
    triggers.run(connection, drop)


def backlog(engine: Engine) -> Backlog:
    """How much is noted in this database and not yet carried over, and how old the oldest note is."""
    age = func.coalesce(func.extract("epoch", func.clock_timestamp() - func.min(dirty.c.noted_at)), 0)
    with engine.connect() as connection:
        notes, lag = connection.execute(select(func.count(), age).select_from(dirty)).one()
    return Backlog(int(notes), max(0.0, float(lag)))


def note(connection: Connection, notes: Sequence[dict[str, str | None]]) -> None:
    """Note records by hand, so that catch-up carries over what authority holds for them."""
    if notes:
        connection.execute(insert(dirty), list(notes))


def noted(part: Part, row: str, allowed: ColumnElement[bool], *, gone: bool = False) -> Insert:
    """Note a trigger's OLD or NEW if a condition on ``ROUTE`` allows it; ``gone``: the row is being deleted.

    The scopes have been computed before, for the guard: ``SCOPES`` names the variables that they are in.
    """
    return _insert(_note_of(part, row, gone=gone, stays=not gone).where(allowed))


def moved_noted(part: Part, allowed: ColumnElement[bool]) -> Insert:
    """Note both what a row was and what it is now."""
    return _insert(union_all(*(_note_of(part, row).where(allowed) for row in ("OLD", "NEW"))))


def all_noted(part: Part, allowed: ColumnElement[bool]) -> Insert:
    """Note the whole part."""
    named: list[Any] = [literal(part.name, Text), *(cast(null(), Text) for _ in range(3)), false()]
    return _insert(select(*named).select_from(ROUTE).where(allowed))


def moved(part: Part) -> ColumnElement[bool]:
    """Whether an UPDATE made another record of the row, or took it to another scope."""
    old, new = triggers.row_named("OLD", part.table), triggers.row_named("NEW", part.table)
    keys = [getattr(old, c.key).is_distinct_from(getattr(new, c.key)) for c in part.table.primary_key]
    return or_(SCOPES["OLD"].is_distinct_from(SCOPES["NEW"]), *keys)


def stays(part: Part) -> ColumnElement[bool]:
    """Whether an UPDATE surely left the row the same record of the same scope; NULL or false where that is not sure.

    True only where ``moved`` is false, and cheaper: it looks at the columns on which key and scope depend.
    """
    old, new = triggers.row_named("OLD", part.table), triggers.row_named("NEW", part.table)
    keys = [c.key for c in part.table.primary_key]
    same = [alike(getattr(old, key), getattr(new, key)) for key in dict.fromkeys([*keys, *(part.scope_by or ())])]
    if part.scope_by is None:
        same.append(part.scope_of(old).is_not_distinct_from(part.scope_of(new)))
    return and_(*same)


def missing(part: Part, row: str) -> ColumnElement[bool]:
    """Whether a trigger has no such row, OLD or NEW: then it is all NULL. Also where its key is not given."""
    key, *_ = part.table.primary_key
    absent: ColumnElement[bool] = getattr(triggers.row_named(row, part.table), key.key).is_(None)
    return absent


def row_of(part: Part, name: str) -> Subquery:
    """A trigger's OLD or NEW as a relation of one row."""
    columns = vars(triggers.row_named(name, part.table))
    return select(*(value.label(key) for key, value in columns.items())).subquery("changed")


def _note_of(part: Part, row: str, *, gone: bool = False, stays: bool = False) -> Select[Any]:
    rows = row_of(part, row)
    if stays and part.staying is not None:
        whole = part.staying(rows).add_columns(false().label("cascade"))
    elif gone and part.cascaded:
        # In a level of its own, because the sublink it may be would have all of a level searched at each execution.
        owner = select(part.cascaded(rows.c).label("cascade")).lateral("owner")
        whole = part.noted(rows).add_columns(owner.c.cascade)
    else:
        whole = part.noted(rows).add_columns(false().label("cascade"))
    noted = whole.subquery("noted")
    named = literal(part.name, Text).label("part")
    return select(named, SCOPES[row].label("scope"), noted.c.key, noted.c.local, noted.c.cascade).select_from(
        noted, ROUTE
    )


def _insert(rows: Any) -> Insert:
    return insert(dirty).from_select(["part", "scope", "key", "local", "cascade"], rows, include_defaults=False)
