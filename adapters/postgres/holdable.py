"""What the other store could not hold is refused at commit, as long as that store must be able to take over."""

from __future__ import annotations

from functools import lru_cache

from sqlalchemy import ColumnElement, and_, literal_column, select

from adapters.postgres import capture, triggers
from adapters.postgres.authority import ROUTE, has_any
from adapters.postgres.literal import literal_sql
from adapters.postgres.part import Part
from adapters.postgres.triggers import APPLYING
from harness.routing import Store

UNHOLDABLE = "XF002"  # SQLSTATE: the other store could not hold the record, and must be able to
_DEBT_CLASS = 0x43F2  # advisory locks of scopes that get a record: this number, and a bucket of the scope's hash
_DEBT_BUCKETS = 1024  # a power of two; a server's lock table has room for some 6,400 locks, shared with everybody

# At commit, because a record may be unholdable for a moment, or by what a later statement puts right. Nearly every row
# is told at once, by conditions that are cheap to set up (docs/adr/0023): an update that changed nothing of the matter,
# or a row that could be held whatever stands beside it. All others, one transaction at a time in a scope: two that each
# add what only one may would not see each other.
_HOLDABLE = """
DECLARE
  reason text;
BEGIN
  IF {old_is_there} THEN
    IF {stays} THEN
      RETURN NULL;
    END IF;
  ELSIF {alone} THEN
    RETURN NULL;
  END IF;
  IF {applying} OR {nothing_to_check} THEN
    RETURN NULL;
  END IF;
  IF pg_advisory_xact_lock({class_}, hashtext({scope_of_new}) & {buckets}) IS NULL THEN
    NULL;  -- never so, as in the fence
  END IF;
  {look};
  IF reason IS NULL THEN
    RETURN NULL;  -- asked alone, for what OLD was is a query
  END IF;
  IF TG_OP = 'UPDATE' AND {reason_of_old} IS NOT DISTINCT FROM reason THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION USING ERRCODE = '{unholdable}',
    MESSAGE = format('{store} does not accept this record of scope %s, because {other} could not hold it (%s) and must '
      'be able to take over; change the record, or set migration.rollback_safe = false and run crossfade prepare',
      coalesce({scope_of_new}, 'none'), reason);
END
"""


@lru_cache(maxsize=8)
def function_of(store: Store, part: Part, schema: str | None) -> str:
    """The body of the part's function; the part must have a ``holding``."""
    assert part.holding is not None  # noqa: S101 - the caller has looked; for the type checker
    holding = part.holding
    old, new = triggers.row_named("OLD", part.table), triggers.row_named("NEW", part.table)
    present = part.table.alias("present")
    same = and_(*(present.c[key.name] == getattr(new, key.key) for key in part.table.primary_key))
    reason = select(holding.unholdable(present.c)).where(same)
    safe: ColumnElement[bool] = literal_column("r.rollback_safe")  # a column of new's route only
    due = and_(ROUTE.c.guard == "enforce", safe, has_any(store))
    asked = literal_sql(select(due).select_from(ROUTE))
    return _HOLDABLE.format(
        old_is_there=literal_sql(~capture.missing(part, "OLD")),
        stays=f"({literal_sql(holding.stays(old, new), schema)})",
        alone=f"({literal_sql(holding.alone(new), schema)})",
        applying=APPLYING,
        nothing_to_check=f"({asked}) IS NOT TRUE",
        class_=_DEBT_CLASS,
        buckets=_DEBT_BUCKETS - 1,
        scope_of_new=literal_sql(part.scope_of(new), schema),
        look=f"reason := ({literal_sql(reason, schema)})",
        reason_of_old=f"({literal_sql(holding.unholdable(old), schema)})",
        unholdable=UNHOLDABLE,
        store=store.value,
        other=store.other.value,
    )
