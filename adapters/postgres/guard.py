"""The guard: triggers that refuse a write to a store without authority over its scope, whoever makes it.

Why no write slips through while authority moves:

1. Every writing statement takes the fence's lock in shared mode before it touches a row. Who changes the route holds
   that lock exclusively, so no transaction that was let through is still open when authority has moved.
2. The route is read after the lock, by a query of its own, for each row: under READ COMMITTED it sees what is now.
3. Under REPEATABLE READ and above it would see the route of the transaction's beginning. There the route's row is
   locked too, which fails (SQLSTATE 40001) if it has changed since. After the fence's lock, never before: the lock of
   a row would let a stream of writers starve the fence.

Sessions that carry state over (``crossfade.applying``) pass; they take the fence's lock themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Text,
    and_,
    case,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapters.postgres import triggers
from adapters.postgres.authority import ROUTE, authority_now, has_all, has_any
from adapters.postgres.literal import literal_sql
from adapters.postgres.part import Part
from adapters.postgres.schema import rogue, route_copy
from adapters.postgres.triggers import NOT_APPLYING, Attachment, Trigger
from harness.routing import Store

FENCE = (0x43F1, 0)  # the advisory lock: shared by who writes, exclusive for who moves authority
NO_AUTHORITY = "XF001"  # SQLSTATE: the scope's authority is with the other store
UNHOLDABLE = "XF002"  # SQLSTATE: the other store could not hold the record, and must be able to
NO_PLACE = "no_place"  # why the other store cannot hold it: it has no such scope, and never will
_DEBT_CLASS = 0x43F2  # advisory locks of scopes that get a record: this number, and a bucket of the scope's hash
_DEBT_BUCKETS = 1024  # a power of two; a server's lock table has room for some 6,400 locks, shared with everybody

_FENCE = f"""
BEGIN
  IF pg_advisory_xact_lock_shared({FENCE[0]}, {FENCE[1]}) IS NULL THEN
    NULL;  -- never so; as an expression it costs half of what PERFORM, a query, does
  END IF;
  IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
    PERFORM FROM crossfade.route FOR SHARE;
  END IF;
  RETURN NULL;
END
"""

# What is asked in nearly every case comes first, in one query on the route; all else only for a write that is about to
# be refused. One query for each scope, not one for both: PostgreSQL would plan that one anew for every row.
_GUARD = """
DECLARE
  mode text;
  may_leave boolean := true;
  may_enter boolean := true;
  departed text;
  arrived text;
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    {look_at_all};
    IF mode IS NOT NULL AND (may_leave OR mode = 'off') THEN
      RETURN NULL;
    END IF;
  ELSE
    IF TG_OP <> 'DELETE' THEN
      arrived := {scope_of_new};
      {look_at_arrived};
    END IF;
    IF TG_OP <> 'INSERT' THEN
      departed := {scope_of_old};
      IF departed = arrived THEN
        may_leave := may_enter;
      ELSE
        {look_at_departed};
      END IF;
    END IF;
    IF mode IS NOT NULL AND ((may_leave AND may_enter) OR mode = 'off') THEN
      IF TG_OP = 'DELETE' THEN
        RETURN OLD;
      END IF;
      RETURN NEW;
    END IF;
    IF NOT may_leave THEN
      may_leave := {old_is_nobodys} OR (TG_OP = 'DELETE' AND {old_is_cascaded});
    END IF;
    IF NOT may_enter THEN
      may_enter := {new_is_nobodys};
    END IF;
    IF may_leave AND may_enter THEN
      RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF may_leave THEN
      departed := arrived;
    END IF;
  END IF;
  IF mode IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = '{no_authority}',
      MESSAGE = '{store} does not know its authority: crossfade.route is empty. Run crossfade prepare';
  ELSIF mode = 'enforce' THEN
    RAISE EXCEPTION USING ERRCODE = '{no_authority}',
      MESSAGE = CASE WHEN TG_OP = 'TRUNCATE'
        THEN '{store} does not accept TRUNCATE: {other} has authority over some of what it holds'
        ELSE format('{store} does not accept writes to scope %s: {other} has authority over it now', departed) END,
      HINT = 'Write it to {other}, or through the router. crossfade status shows how far authority has moved.';
  END IF;
  {keep};
  IF TG_OP = 'TRUNCATE' THEN
    RETURN NULL;
  END IF;
  RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
"""

# At commit, because a record may be unholdable for a moment, or by what a later statement puts right. One transaction
# at a time in a scope: two that each add what only one may would not see each other.
_HOLDABLE = """
DECLARE
  reason text;
BEGIN
  IF {nothing_to_check} THEN
    RETURN NULL;
  END IF;
  PERFORM pg_advisory_xact_lock({class_}, hashtext({scope_of_new}) & {buckets});
  {look};
  IF reason IS NULL OR (TG_OP = 'UPDATE' AND {reason_of_old} IS NOT DISTINCT FROM reason) THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION USING ERRCODE = '{unholdable}',
    MESSAGE = format('{store} does not accept this record of scope %s, because {other} could not hold it (%s) and must '
      'be able to take over; change the record, or set migration.rollback_safe = false and run crossfade prepare',
      coalesce({scope_of_new}, 'none'), reason);
END
"""


def attach_guard(engine: Engine, store: Store, part: Part) -> bool:
    """Guard the part of the store from now on; False if it was guarded in just this way before.

    The route must stand in the database already: without it every write is refused. When this returns, every
    transaction that wrote unguarded has ended. Raises Refused, with nothing changed, when long transactions keep the
    table's lock.
    """
    return triggers.attach(engine, store, _guard(engine, store, part))


def is_guarded(engine: Engine, store: Store, part: Part) -> bool:
    """Whether the part is guarded, by the same functions as ``attach_guard`` would create."""
    return triggers.is_attached(engine, _guard(engine, store, part))


def guard_mode(connection: Connection) -> str:
    """What the guards of this database do: ``enforce``, ``record`` or ``off``."""
    return str(connection.execute(select(route_copy.c.guard)).scalar_one())


def set_guard_mode(connection: Connection, mode: str) -> None:
    """Change what the guards of this database do; nothing is written where they do it already."""
    connection.execute(update(route_copy).values(guard=mode).where(route_copy.c.guard != mode))


def _guard(engine: Engine, store: Store, part: Part) -> Attachment:
    function = triggers.function_name("guard", part.table)
    schema = triggers.schema_of(engine, part.table)
    by_statement, by_row = f"FOR EACH STATEMENT WHEN ({NOT_APPLYING})", f"FOR EACH ROW WHEN ({NOT_APPLYING})"
    functions = {"fence": _FENCE, function: _GuardText(store, part, schema).body()}
    # Triggers of one kind fire in the order of their names: the fence first.
    standing = [
        Trigger("crossfade_fence", "BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE", by_statement, "fence"),
        Trigger("crossfade_guard", "BEFORE INSERT OR UPDATE OR DELETE", by_row, function),
        Trigger("crossfade_guard_truncate", "BEFORE TRUNCATE", by_statement, function),
    ]
    if part.unholdable is not None:
        holdable = triggers.function_name("holdable", part.table)
        functions[holdable] = _holdable(store, part, schema)
        manner = f"DEFERRABLE INITIALLY DEFERRED {by_row}"
        standing.append(Trigger("crossfade_holdable", "AFTER INSERT OR UPDATE", manner, holdable, constraint=True))
    return Attachment("guard", part.table, functions, tuple(standing))


@dataclass(frozen=True, slots=True)
class _GuardText:
    store: Store
    part: Part
    schema: str | None

    def body(self) -> str:
        part = self.part
        old, new = triggers.row_named("OLD", part.table), triggers.row_named("NEW", part.table)
        return _GUARD.format(
            look_at_all=_into("mode, may_leave", ROUTE.c.guard, has_all(self.store)),
            look_at_arrived=self._look("may_enter", "arrived"),
            look_at_departed=self._look("may_leave", "departed"),
            scope_of_old=self._sql(part.scope_of(old)),
            scope_of_new=self._sql(part.scope_of(new)),
            old_is_nobodys=self._is_nobodys(old),
            new_is_nobodys=self._is_nobodys(new),
            old_is_cascaded=self._sql(part.cascaded(old)) if part.cascaded else "false",
            no_authority=NO_AUTHORITY,
            store=self.store.value,
            other=self.store.other.value,
            keep=self._keep(),
        )

    def _look(self, variable: str, scope: str) -> str:
        """The guard's mode, and whether this store has authority over the scope."""
        ours = authority_now(literal_column(scope, Text)) == self.store.value
        return _into(f"mode, {variable}", ROUTE.c.guard, ours)

    def _is_nobodys(self, row: Any) -> str:
        """Whether the other store has no place for the row, so that no authority is moved with it."""
        if self.part.unholdable is None:
            return "false"
        return f"coalesce(({self._sql(self.part.unholdable(row))}) = '{NO_PLACE}', false)"

    def _keep(self) -> str:
        values = {
            "part": literal(self.part.name, Text),
            "operation": literal_column("TG_OP", Text),
            "scope": literal_column("departed", Text),
            "before": _image("OLD"),
            "after": _image("NEW"),
            "role": literal_column("session_user", Text),
            "application": func.coalesce(func.current_setting("application_name", literal_column("true")), ""),
        }
        return self._sql(insert(rogue).from_select(list(values), select(*values.values()), include_defaults=False))

    def _sql(self, expression: Any) -> str:
        return literal_sql(expression, self.schema)


def _holdable(store: Store, part: Part, schema: str | None) -> str:
    assert part.unholdable is not None  # noqa: S101 - the caller has looked; for the type checker
    old, new = triggers.row_named("OLD", part.table), triggers.row_named("NEW", part.table)
    present = part.table.alias("present")
    same = and_(*(present.c[key.name] == getattr(new, key.key) for key in part.table.primary_key))
    reason = select(part.unholdable(present.c)).where(same)
    safe: ColumnElement[bool] = literal_column("r.rollback_safe")  # a column of new's route only
    due = and_(ROUTE.c.guard == "enforce", safe, has_any(store))
    asked = literal_sql(select(due).select_from(ROUTE))
    return _HOLDABLE.format(
        nothing_to_check=f"({asked}) IS NOT TRUE",
        class_=_DEBT_CLASS,
        buckets=_DEBT_BUCKETS - 1,
        scope_of_new=literal_sql(part.scope_of(new), schema),
        look=f"reason := ({literal_sql(reason, schema)})",
        reason_of_old=f"({literal_sql(part.unholdable(old), schema)})",
        unholdable=UNHOLDABLE,
        store=store.value,
        other=store.other.value,
    )


def _into(variables: str, *columns: ColumnElement[Any]) -> str:
    """A query on the route's row whose answer goes into variables of the function."""
    statement = literal_sql(select(*columns).select_from(ROUTE))
    return statement.replace("SELECT", f"SELECT INTO {variables}", 1)


def _image(row: str) -> ColumnElement[Any]:
    """The whole row, NULL where the statement has none."""
    there: ColumnElement[bool] = literal_column("TG_LEVEL = 'ROW'")
    return case((there, func.to_jsonb(literal_column(row), type_=JSONB())), else_=null())
