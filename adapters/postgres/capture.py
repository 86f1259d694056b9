"""Capture: triggers that note, in the writer's own transaction, which record of which scope changed.

They see what no wrapper sees: raw SQL, cascades, the other system itself. The notes are ``crossfade.dirty`` in the
same database. A note of a record names scope and key; with a scope and no key it stands for the whole scope; with
neither it stands for the whole part (TRUNCATE). ``cascade`` says that the record went because its owner did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql
from sqlalchemy import (
    Connection,
    Engine,
    Insert,
    Subquery,
    Text,
    cast,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    text,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateIndex, Index

from adapters.postgres import triggers
from adapters.postgres.literal import literal_sql
from adapters.postgres.part import Part
from adapters.postgres.schema import dirty
from adapters.postgres.triggers import NOT_APPLYING, Attachment, Trigger
from harness.errors import Refused
from harness.records import Backlog
from harness.routing import Store

INDEX_TIMEOUT = "60s"
# A row's note must see the sidecar entry that ``forget`` then removes. By row, because nearly every write is one of
# one row, for which transition tables cost twice as much (docs/adr/0007).
_BODY = """
BEGIN
  IF TG_OP = 'INSERT' THEN
    {arrived};
  ELSIF TG_OP = 'UPDATE' THEN
    {arrived};
    IF {moved} THEN
      {departed};
    END IF;
  ELSIF TG_OP = 'DELETE' THEN
    {gone};
    {forgotten};
  ELSE
    {truncated};
    {forgotten_all};
  END IF;
  RETURN NULL;
END
"""


def attach(engine: Engine, store: Store, part: Part) -> bool:
    """Capture changes of the part from now on; False if it was captured in just this way before.

    When this returns, every transaction that wrote to the table without being noted has ended, so a copy that
    starts now sees its rows. Raises Refused, with nothing changed, when long transactions keep the table's lock.
    """
    return triggers.attach(engine, store, _capture(part))


def is_attached(engine: Engine, part: Part) -> bool:
    """Whether the part's changes are noted, by the same function as ``attach`` would create."""
    return triggers.is_attached(engine, _capture(part))


def was_attached(engine: Engine, part: Part) -> bool:
    """Whether the part's changes are noted, be it by a function of another version or for other settings."""
    return triggers.has_trigger(engine, _capture(part))


def index_identity(engine: Engine, store: Store, part: Part) -> None:
    """Put an index on the part's computed key, without holding up writers. Repeats what a crash left invalid."""
    if part.identity is None:
        return
    index = Index("crossfade_identity", part.identity, _table=part.table)
    statement = CreateIndex(index, if_not_exists=True)
    invalid = text(
        "SELECT NOT indisvalid FROM pg_index"
        " WHERE indexrelid = to_regclass(coalesce(quote_ident(:schema) || '.', '') || quote_ident(:name))"
    )
    drop = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(
        sql.Identifier(*filter(None, (part.table.schema, str(index.name))))
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.execute(invalid, {"schema": part.table.schema, "name": index.name}).scalar():
            connection.exec_driver_sql(drop.as_string(None))
        index.dialect_options["postgresql"]["concurrently"] = True
        # It waits for every transaction that is older than it, holding up nobody; but not for ever.
        connection.execute(select(func.set_config("lock_timeout", INDEX_TIMEOUT, False)))
        try:
            connection.execute(statement)
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


def _capture(part: Part) -> Attachment:
    function = triggers.function_name("capture", part.table)
    when = f"WHEN ({NOT_APPLYING})"
    standing = (
        Trigger("crossfade_capture", "AFTER INSERT OR UPDATE OR DELETE", f"FOR EACH ROW {when}", function),
        Trigger("crossfade_capture_truncate", "AFTER TRUNCATE", f"FOR EACH STATEMENT {when}", function),
    )
    return Attachment("capture", part.table, {function: _body(part)}, standing)


def _body(part: Part) -> str:
    arrived, departed = _row(part, "NEW"), _row(part, "OLD")
    named: list[Any] = [literal(part.name, Text), *(cast(null(), Text) for _ in range(3)), false()]
    whole = select(*named)
    return _BODY.format(
        arrived=literal_sql(_insert(_noted(part, arrived))),
        moved=_moved(part),
        departed=literal_sql(_insert(_noted(part, departed))),
        gone=literal_sql(_insert(_noted(part, departed, gone=True))),
        forgotten=literal_sql(part.forget(departed)) if part.forget else "NULL",
        truncated=literal_sql(_insert(whole)),
        forgotten_all="NULL" if part.forget_all is None else literal_sql(part.forget_all),
    )


def _moved(part: Part) -> str:
    """Whether an UPDATE made another record of the row, or took it to another scope."""
    old, new = triggers.row_named("OLD", part.table), triggers.row_named("NEW", part.table)
    keys = [getattr(old, c.key).is_distinct_from(getattr(new, c.key)) for c in part.table.primary_key]
    return literal_sql(or_(part.scope_of(old).is_distinct_from(part.scope_of(new)), *keys))


def _row(part: Part, name: str) -> Subquery:
    """A trigger's OLD or NEW as a relation of one row."""
    columns = vars(triggers.row_named(name, part.table))
    return select(*(value.label(key) for key, value in columns.items())).subquery("changed")


def _noted(part: Part, rows: Subquery, *, gone: bool = False) -> Any:
    cascaded = part.cascaded(rows.c) if gone and part.cascaded else false()
    noted = part.noted(rows).add_columns(cascaded.label("cascade")).subquery("noted")
    scope, key, local, cascade = noted.c.scope, noted.c.key, noted.c.local, noted.c.cascade
    named = literal(part.name, Text).label("part")
    return select(named, scope, key, local, cascade)


def _insert(rows: Any) -> Insert:
    return insert(dirty).from_select(["part", "scope", "key", "local", "cascade"], rows, include_defaults=False)
