"""Writing one tenant's rows and their sidecar entries: one statement for all that a batch changes there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    DateTime,
    Executable,
    Integer,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    case,
    delete,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.types import TypeEngine

from adapters.postgres.prepared import parameter
from adapters.prompts.dispatch import EPOCH, instant, local_stamp
from adapters.prompts.sidecar import Entry, dropping, next_number, said, written

_ROW: dict[str, TypeEngine[Any]] = {
    "genai_type": Integer(),
    "genai_prompt": Text(),
    "genai_system_message": Text(),
    "enabled": Boolean(),
    "project_id": Integer(),
    "created_at": DateTime(timezone=True),
    "updated_at": DateTime(timezone=True),
}
_GIVEN: dict[str, TypeEngine[Any]] = {
    "number": Integer(),
    "stands": Boolean(),
    **_ROW,
    "key": Uuid(),
    "name": Text(),
    "description": Text(),
    "type": Text(),
    "version": Integer(),
    "silent": Boolean(),
}
_STAMPS = ("created_at", "updated_at")


class TenantRow(NamedTuple):
    """A record (anything with the canonical columns as attributes) and where it is to stand.

    ``stands``: its row is there; else it is made, under the entry's number, or under a new one where that is None.
    """

    record: Any
    project: int
    genai_type: int
    stands: bool
    entry: Entry


def arrays(rows: Iterable[TenantRow], gone: Iterable[int], dropped: Iterable[int]) -> dict[str, list[Any]]:
    """The parameters of ``writing``; the rows of the numbers ``gone`` are deleted, the entries of those ``dropped``."""
    rows = list(rows)
    records, entries = [row.record for row in rows], [row.entry for row in rows]
    return {
        "number": [entry.legacy_id for entry in entries],
        "stands": [row.stands for row in rows],
        "genai_type": [row.genai_type for row in rows],
        "genai_prompt": [record.content for record in records],
        "genai_system_message": [record.system_message for record in records],
        "enabled": [record.enabled for record in records],
        "project_id": [row.project for row in rows],
        "created_at": [record.created_at for record in records],
        "updated_at": [record.updated_at for record in records],
        "key": [record.id for record in records],
        "name": [entry.name for entry in entries],
        "description": [entry.description for entry in entries],
        "type": [entry.type for entry in entries],
        "version": [entry.version for entry in entries],
        "silent": [entry.silent for entry in entries],
        "gone": sorted(gone),
        "dropped": sorted(dropped),
    }


def writing(table: Table, organization: str, zone: str) -> Executable:
    """Rows and entries are made to say what is given.

    The answer has the number of each of which something changed, with whether that is its row; some numbers twice.
    """
    columns = [parameter(name, ARRAY(kind)) for name, kind in _GIVEN.items()]
    unnested = func.unnest(*columns).table_valued(*_GIVEN, name="given").render_derived(name="given")
    number = func.coalesce(unnested.c.number, next_number(table, organization, unnested)).label("number")
    given = select(number, *(unnested.c[name] for name in _GIVEN if name != "number")).cte("numbered")
    tenant = literal(organization, Text)
    entries = written(
        tenant,
        said(
            zone,
            organization=tenant,
            legacy_id=given.c.number,
            id=given.c.key,
            **{name: given.c[name] for name in ("name", "description", "type", "version", *_STAMPS, "silent")},
        ),
    )
    chosen = [local_stamp(given.c[name], zone) if name in _STAMPS else given.c[name] for name in _ROW]
    added = insert(table).from_select(["id", *_ROW], select(given.c.number, *chosen).where(~given.c.stands))
    changed = _updating(table, given.c, zone)
    removed = delete(table).where(table.c.id == any_(parameter("gone", ARRAY(Integer)))).cte("gone")
    dropped = dropping(tenant, parameter("dropped", ARRAY(Integer))).cte("dropped")
    own = [act.returning(table.c.id).cte(name) for name, act in (("added", added), ("changed", changed))]
    numbers = [select(act.c.legacy_id, false()) for act in entries] + [select(act.c.id, true()) for act in own]
    return union_all(*numbers).add_cte(removed, dropped)


def _updating(table: Table, given: Any, zone: str) -> Any:
    """Only rows that do not read as given, and of these only the stamps that do not.

    A NULL stamp reads as the other one, so as long as both read as given, both stay.
    """
    own = table.c
    created, updated = given.created_at, given.updated_at

    def tells(stamp: Any, moment: Any) -> ColumnElement[bool]:
        # By the clock of legacy; where that shows a time twice, the sidecar says which of the two.
        return or_(instant(stamp, zone) == moment, local_stamp(moment, zone) == stamp)

    def reads(first: Any, second: Any, moment: Any) -> ColumnElement[bool]:
        borrowed = second.isnot(None), and_(tells(second, moment), created == updated)
        return case((first.isnot(None), tells(first, moment)), borrowed, else_=moment == EPOCH)

    stand = and_(
        reads(own.created_at, own.updated_at, created),
        reads(own.updated_at, own.created_at, updated),
    )
    plain = [name for name in _ROW if name not in _STAMPS]
    values = {name: given[name] for name in plain}
    for name in _STAMPS:
        stays = or_(stand, tells(own[name], given[name]))
        values[name] = case((stays, own[name]), else_=local_stamp(given[name], zone))
    differs = tuple_(*(own[name] for name in plain)).is_distinct_from(tuple_(*(given[name] for name in plain)))
    return update(table).where(own.id == given.number, given.stands, or_(differs, ~stand)).values(values)
