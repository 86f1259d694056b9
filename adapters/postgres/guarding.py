"""The guard: triggers that refuse a write to a store without authority over its scope, whoever makes it.

Why no write slips through while authority moves:

1. Before a row is written, its trigger takes the fence's lock in shared mode, until the transaction ends. Who changes
   the route holds that lock exclusively, so no transaction that was let through is still open when authority has moved.
2. The route is read after the lock, by a query of its own, for each row: under READ COMMITTED it sees what is now.
3. Under REPEATABLE READ and above it would see the route of the transaction's beginning. There the route's row is
   locked too, which fails (SQLSTATE 40001) if it has changed since. After the fence's lock, never before: the lock of
   a row would let a stream of writers starve the fence.

Sessions that carry state over (``crossfade.applying``) pass; they take the fence's lock themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Insert,
    Text,
    and_,
    case,
    func,
    insert,
    literal,
    literal_column,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapters.postgres import capture, triggers
from adapters.postgres.authority import ROUTE, allows, authority_now, has_all
from adapters.postgres.literal import literal_sql
from adapters.postgres.part import Part
from adapters.postgres.schema import rogue
from adapters.postgres.triggers import APPLYING, NOT_APPLYING
from harness.routing import Store

FENCE = (0x43F1, 0)  # the advisory lock: shared by who writes, exclusive for who moves authority
NO_AUTHORITY = "XF001"  # SQLSTATE: the scope's authority is with the other store
NO_PLACE = "no_place"  # why the other store cannot hold it: it has no such scope, and never will

# PL/pgSQL sets up each expression anew in each transaction, so a writer of single rows pays for every one that it meets
# (docs/adr/0023). Nearly every write is an INSERT, or an UPDATE that leaves the row in its scope, and is allowed: it
# meets one condition, and one statement that reads the route, decides, and notes. All else goes on to the block below,
# and so does what that statement has not let through; there the second round notes what has been granted. Before that
# block the operation is told by which of OLD and NEW are there, for that is no call of a function.
_GUARD = """
DECLARE
  departed text;
  arrived text;
BEGIN
  IF {nothing_arrives} THEN
    IF {something_departs} AND TG_OP = 'DELETE' AND {plain} AND {fenced} IS NOT NULL THEN
      departed := {scope_of_old};
      {note_gone_at_once};
      IF FOUND THEN
        {forget};
        RETURN OLD;
      END IF;
    END IF;
  ELSIF ({nothing_departs} OR {stays}) AND {plain} AND {fenced} IS NOT NULL THEN
    arrived := {scope_of_new};
    {note_arrived_at_once};
    IF FOUND THEN
      RETURN NEW;
    END IF;
  END IF;
  IF {applying} THEN
    IF TG_OP = 'DELETE' THEN
      RETURN OLD;
    END IF;
    RETURN NEW;
  END IF;
  PERFORM {fenced};
  IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
    PERFORM FROM crossfade.route FOR SHARE;
  END IF;
  DECLARE
    moved boolean := false;
    granted boolean := false;
    mode text;
    may_leave boolean := true;
    may_enter boolean := true;
    refused text;
  BEGIN
    IF TG_OP = 'INSERT' THEN
      arrived := {scope_of_new};
    ELSIF TG_OP = 'UPDATE' THEN
      arrived := {scope_of_new};
      departed := {scope_of_old};
      moved := {moved};
    ELSIF TG_OP = 'DELETE' THEN
      departed := {scope_of_old};
    END IF;
    LOOP
      IF TG_OP = 'TRUNCATE' THEN
        {note_all};
        IF FOUND THEN
          {forget_all};
          RETURN NULL;
        END IF;
      ELSIF TG_OP = 'DELETE' THEN
        {note_gone};
        IF FOUND THEN
          {forget};
          RETURN OLD;
        END IF;
      ELSE
        IF moved THEN
          {note_moved};
        ELSE
          {note_arrived};
        END IF;
        IF FOUND THEN
          RETURN NEW;
        END IF;
      END IF;
      granted := true;
      SELECT INTO mode r.guard FROM crossfade.route AS r;
      IF TG_OP <> 'TRUNCATE' THEN
        IF TG_OP <> 'INSERT' THEN
          {look_at_departed};
          may_leave := may_leave OR {old_is_nobodys} OR (TG_OP = 'DELETE' AND {old_is_cascaded});
        END IF;
        IF TG_OP <> 'DELETE' THEN
          {look_at_arrived};
          may_enter := may_enter OR {new_is_nobodys};
        END IF;
        CONTINUE WHEN may_leave AND may_enter;
        refused := CASE WHEN may_leave THEN arrived ELSE departed END;
      END IF;
      IF mode IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '{no_authority}',
          MESSAGE = '{store} does not know its authority: crossfade.route is empty. Run crossfade prepare';
      ELSIF mode = 'enforce' THEN
        RAISE EXCEPTION USING ERRCODE = '{no_authority}',
          MESSAGE = CASE WHEN TG_OP = 'TRUNCATE'
            THEN '{store} does not accept TRUNCATE: {other} has authority over some of what it holds'
            ELSE format('{store} does not accept writes to scope %s: {other} has authority over it now', refused) END,
          HINT = 'Write it to {other}, or through the router. crossfade status shows how far authority has moved.';
      END IF;
      {keep};
    END LOOP;
  END;
END
"""


@lru_cache(maxsize=1024)  # asked for every part at every look of status, and long
def guarding(store: Store, part: Part, schema: str | None, noting: bool) -> str:
    """The body of the trigger function that guards a part, and notes what changes in it if asked to."""
    return _GuardText(store, part, schema, noting).body()


@dataclass(frozen=True, slots=True)
class _GuardText:
    store: Store
    part: Part
    schema: str | None
    noting: bool

    def body(self) -> str:
        part = self.part
        old, new = triggers.row_named("OLD", part.table), triggers.row_named("NEW", part.table)
        ours, leaves, enters = has_all(self.store), self._has("departed"), self._has("arrived")
        return _GUARD.format(
            applying=APPLYING,
            fenced=f"pg_advisory_xact_lock_shared({FENCE[0]}, {FENCE[1]})",
            moved=self._sql(capture.moved(part)),
            plain=f"current_setting('transaction_isolation') = 'read committed' AND {NOT_APPLYING}",
            stays=f"({self._sql(capture.stays(part))})",
            nothing_arrives=self._sql(capture.missing(part, "NEW")),
            nothing_departs=self._sql(capture.missing(part, "OLD")),
            something_departs=self._sql(~capture.missing(part, "OLD")),
            note_gone_at_once=self._noted_at_once(
                lambda allowed: capture.noted(part, "OLD", allowed, gone=True), "departed"
            ),
            note_arrived_at_once=self._noted_at_once(lambda allowed: capture.noted(part, "NEW", allowed), "arrived"),
            note_all=self._noted(lambda allowed: capture.all_noted(part, allowed), ours),
            note_gone=self._noted(lambda allowed: capture.noted(part, "OLD", allowed, gone=True), leaves),
            note_moved=self._noted(lambda allowed: capture.moved_noted(part, allowed), and_(leaves, enters)),
            note_arrived=self._noted(lambda allowed: capture.noted(part, "NEW", allowed), enters),
            forget=self._sql(part.forget(capture.row_of(part, "OLD"))) if part.forget else "NULL",
            forget_all="NULL" if part.forget_all is None else self._sql(part.forget_all),
            look_at_arrived=_into("may_enter", enters),
            look_at_departed=_into("may_leave", leaves),
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

    def _has(self, scope: str) -> ColumnElement[bool]:
        """Whether this store has authority over the scope in a variable, for a query on the route."""
        return authority_now(literal_column(scope, Text)) == self.store.value

    def _noted(self, note: Callable[[ColumnElement[bool]], Insert], ours: ColumnElement[bool]) -> str:
        """Note, and so find, what is allowed or has been granted; without noting, find it."""
        granted: ColumnElement[bool] = literal_column("granted")
        return self._finding(note, or_(granted, ROUTE.c.guard == "off", ours))

    def _noted_at_once(self, note: Callable[[ColumnElement[bool]], Insert], scope: str) -> str:
        """The same, of what is allowed in the scope in a variable, before anything has been granted."""
        return self._finding(note, allows(self.store, literal_column(scope, Text)))

    def _finding(self, note: Callable[[ColumnElement[bool]], Insert], condition: ColumnElement[bool]) -> str:
        # That the table has one row must be said: or the planner expects many, and plans each statement anew.
        allowed = and_(ROUTE.c.single, condition)
        if self.noting:
            return self._sql(note(allowed))
        return self._sql(select().select_from(ROUTE).where(allowed)).replace("SELECT", "PERFORM", 1)

    def _is_nobodys(self, row: Any) -> str:
        """Whether the other store has no place for the row, so that no authority is moved with it."""
        if self.part.holding is None:
            return "false"
        return f"coalesce(({self._sql(self.part.holding.unholdable(row))}) = '{NO_PLACE}', false)"

    def _keep(self) -> str:
        values = {
            "part": literal(self.part.name, Text),
            "operation": literal_column("TG_OP", Text),
            "scope": literal_column("refused", Text),
            "before": _image("OLD"),
            "after": _image("NEW"),
            "role": literal_column("session_user", Text),
            "application": func.coalesce(func.current_setting("application_name", literal_column("true")), ""),
        }
        return self._sql(insert(rogue).from_select(list(values), select(*values.values()), include_defaults=False))

    def _sql(self, expression: Any) -> str:
        return literal_sql(expression, self.schema)


def _into(variables: str, *columns: ColumnElement[Any]) -> str:
    """A query on the route's row whose answer goes into variables of the function."""
    statement = literal_sql(select(*columns).select_from(ROUTE))
    return statement.replace("SELECT", f"SELECT INTO {variables}", 1)


def _image(row: str) -> ColumnElement[Any]:
    """The whole row, NULL where the statement has none."""
    there: ColumnElement[bool] = literal_column("TG_LEVEL = 'ROW'")
    return case((there, func.to_jsonb(literal_column(row), type_=JSONB())), else_=null())
