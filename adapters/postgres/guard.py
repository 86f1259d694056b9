"""The guard as it stands on a store's tables: triggers that refuse a write without authority (``guarding``)."""

from __future__ import annotations

from sqlalchemy import (
    Connection,
    Engine,
    select,
    update,
)

from adapters.postgres import triggers
from adapters.postgres.authority import allowing, no_route
from adapters.postgres.guarding import guarding
from adapters.postgres.holdable import function_of
from adapters.postgres.part import Part
from adapters.postgres.schema import route_copy
from adapters.postgres.triggers import Attachment, Function, Trigger
from harness.routing import Store


def attach_guard(engine: Engine, store: Store, part: Part, *, noting: bool = True, loading: bool = False) -> bool:
    """Guard the part of the store from now on; False if it was guarded in just this way before.

    ``noting``: every change is noted, for catch-up to carry over. ``loading``: sessions of ours are about to fill the
    table. The route must stand in the database already: without it every write is refused. When this returns, every
    transaction that wrote unguarded and unnoted has ended, so a copy that starts now sees its rows. Raises Refused,
    with nothing changed, when long transactions keep the table's lock, or a trigger of others would fire after ours.
    """
    return triggers.attach(engine, store, _guard(engine, store, part, noting=noting, loading=loading))


def is_guarded(engine: Engine, store: Store, part: Part) -> bool:
    """Whether the part is guarded and noted, by the same functions as ``attach_guard`` would create."""
    return triggers.is_attached(engine, _guard(engine, store, part))


def was_guarded(engine: Engine, store: Store, part: Part) -> bool:
    """Whether the part is guarded, be it by a function of another version or for other settings."""
    return triggers.has_trigger(engine, _guard(engine, store, part))


def guard_mode(connection: Connection, store: Store) -> str:
    """What the guards of the store do: ``enforce``, ``record`` or ``off``. Raises NotPrepared without a route."""
    mode = connection.execute(select(route_copy.c.guard)).scalar_one_or_none()
    if mode is None:
        raise no_route(store)
    return str(mode)


def set_guard_mode(connection: Connection, mode: str) -> None:
    """Change what the guards of this database do; nothing is written where they do it already."""
    connection.execute(update(route_copy).values(guard=mode).where(route_copy.c.guard != mode))


def _guard(engine: Engine, store: Store, part: Part, *, noting: bool = True, loading: bool = False) -> Attachment:
    function = triggers.function_name("guard", part.table)
    schema = triggers.schema_of(engine, part.table)
    by_statement, by_row = "FOR EACH STATEMENT", "FOR EACH ROW"
    signature, body = allowing()
    functions = {
        "allows": Function(body, signature, ours=False),
        function: Function(guarding(store, part, schema, noting)),
    }
    # Triggers of one kind fire in the order of their names. What a row's trigger notes must be the row as it will be.
    standing = [
        Trigger("zz_crossfade_guard", "BEFORE INSERT OR UPDATE OR DELETE", by_row, function, last=True),
        Trigger("zz_crossfade_guard_truncate", "BEFORE TRUNCATE", by_statement, function),
    ]
    if part.holding is not None:
        holdable = triggers.function_name("holdable", part.table)
        functions[holdable] = Function(function_of(store, part, schema))
        columns = ", ".join(part.table.c[name].name for name in part.holding.by)
        occasion, manner = f"AFTER INSERT OR UPDATE OF {columns}", f"DEFERRABLE INITIALLY DEFERRED {by_row}"
        standing.append(Trigger("crossfade_holdable", occasion, manner, holdable, constraint=True))
    return Attachment("the guard", part.table, functions, tuple(standing), ("crossfade_fence",), loading)
