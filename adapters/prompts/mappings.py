"""The two mappings of the shared repository: where a Prompt lives in either store, and how it is written there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    and_,
    any_,
    cast,
    delete,
    func,
    literal,
    select,
    union_all,
    update,
)

from adapters.postgres.part import Part, texts
from adapters.postgres.prepared import Prepared, parameter
from adapters.postgres.trip import together
from adapters.prompts.canonical import COLUMNS, DebtReason, LegacyScope, Reading, parse_scope
from adapters.prompts.dispatch_part import tenant_part
from adapters.prompts.prompt import Prompt
from adapters.prompts.prompt_manager import canonical_select as new_select
from adapters.prompts.prompt_manager import prompts
from adapters.prompts.repository import Rows
from adapters.prompts.sidecar import Sidecar, describe, next_number
from harness.errors import CannotHold, Conflict
from harness.routing import Store


class PromptManagerMapping:
    """Prompt Manager's own table; its columns are the canonical ones."""

    store = Store.NEW

    def __init__(self) -> None:
        rows = new_select()
        self._all = Rows("all", rows)
        self._in_scope = rows.where(prompts.c.project_id == parameter("scope"))
        self._by_id = rows.where(prompts.c.id == parameter("id"))

    def all_rows(self) -> Rows:
        return self._all

    def in_scope(self, scope: str) -> Rows:
        return Rows("in_scope", self._in_scope, {"scope": scope})

    def by_id(self, id: UUID) -> Rows:
        return Rows("by_id", self._by_id, {"id": id})

    def insert(self, connection: Connection, prompt: Prompt) -> None:
        connection.execute(prompts.insert().values(_values(prompt)))

    def update(self, connection: Connection, prompt: Prompt) -> bool:
        values = _values(prompt)
        for kept in ("id", "created_at", "updated_at"):
            del values[kept]
        return connection.execute(update(prompts).where(prompts.c.id == prompt.id).values(values)).rowcount == 1

    def delete(self, connection: Connection, id: UUID) -> bool:
        return connection.execute(delete(prompts).where(prompts.c.id == id)).rowcount == 1

    def touch(self, connection: Connection, id: UUID) -> bool:
        return connection.execute(update(prompts).where(prompts.c.id == id).values(id=prompts.c.id)).rowcount == 1


class RehearsalMapping(PromptManagerMapping):
    """Prompt Manager's table under legacy's rules too, for rehearsing there what legacy has refused.

    The two stores differ by design in how many disabled prompts a scope may have; while both are in use, legacy's
    rule counts. ``part`` is new's table as it is carried back.
    """

    def __init__(self, part: Part) -> None:
        super().__init__()
        assert part.holding is not None  # noqa: S101 - a giving part has it; for the type checker
        self._reason = Prepared(select(part.holding.unholdable(prompts.c)).where(prompts.c.id == parameter("id")))

    def insert(self, connection: Connection, prompt: Prompt) -> None:
        super().insert(connection, prompt)
        self._check(connection, prompt.id)

    def update(self, connection: Connection, prompt: Prompt) -> bool:
        found = super().update(connection, prompt)
        self._check(connection, prompt.id)
        return found

    def _check(self, connection: Connection, id: UUID) -> None:
        reason = self._reason.execute(connection, id=id).scalar_one_or_none()
        if reason == DebtReason.SECOND_DISABLED:
            raise Conflict("new, rehearsed: legacy has room for one disabled prompt of a type and project")
        if reason is not None:
            raise CannotHold(f"new, rehearsed: legacy could not hold it ({reason})")


def _values(prompt: Prompt) -> dict[str, Any]:
    return {name: getattr(prompt, name) for name in COLUMNS}


class DispatchMapping:
    """Dispatch's tenants side by side. Tenants are fixed for the mapping's life; make a new one when one appears."""

    store = Store.LEGACY

    def __init__(self, tenants: Sequence[str], reading: Reading) -> None:
        self._reading = reading
        self._parts = {name: tenant_part(name, reading) for name in tenants}

        self._all = Rows("all", _union([part.canonical for part in self.parts]))
        self._none = Rows("none", self.parts[0].canonical.where(literal(False)))
        self._by_id = _union([part.by_keys(texts("ids")) for part in self.parts])
        self._in_scope = {part.name: part.of_few.where(_of_place(part.table, reading)) for part in self.parts}
        self._sidecar = Sidecar(reading.time_zone)
        self._located = {part.name: Prepared(_locating(part)) for part in self.parts}

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(self._parts.values())

    def all_rows(self) -> Rows:
        return self._all

    def in_scope(self, scope: str) -> Rows:
        place = parse_scope(scope, with_type=self._reading.by_type)
        if place is None or place.organization not in self._parts:
            return self._none
        values = {"project": place.project} | ({} if place.type is None else {"genai_type": place.type})
        return Rows(("in_scope", place.organization), self._in_scope[place.organization], values)

    def by_id(self, id: UUID) -> Rows:
        return Rows("by_id", self._by_id, {"ids": [str(id)]})

    def insert(self, connection: Connection, prompt: Prompt) -> None:
        place, table = self._place(prompt)
        if self._locate(connection, prompt.id) is not None:
            raise Conflict(f"legacy has a prompt with id {prompt.id} already; update it instead")
        # The sidecar goes first: capture notes the row under the id that the sidecar names.
        with together(connection) as trip:
            kept = self._sidecar.release(trip, prompt.id)
        if kept is not None and kept.organization == place.organization:
            number = kept.legacy_id
        else:
            number = connection.execute(select(next_number(table, place.organization))).scalar_one()
        self._write_sidecar(connection, place, number, prompt, prompt.created_at, prompt.updated_at)
        row = _legacy_values(prompt, place)
        row["created_at"] = func.timezone(self._reading.time_zone, prompt.created_at)
        row["updated_at"] = func.timezone(self._reading.time_zone, prompt.updated_at)
        connection.execute(table.insert().values(id=number, **row))

    def update(self, connection: Connection, prompt: Prompt) -> bool:
        found = self._locate(connection, prompt.id)
        if found is None:
            return False
        organization, number, created_at = found
        place, table = self._place(prompt)
        if place.organization != organization:
            raise CannotHold(
                f"legacy cannot move prompt {prompt.id} from organization {organization} to {place.organization}; "
                "delete it there and save it here"
            )
        self._write_sidecar(connection, place, number, prompt, created_at)
        row = _legacy_values(prompt, place)
        row["updated_at"] = func.timezone(self._reading.time_zone, func.clock_timestamp())
        if created_at is not None:  # a row without the stamp shows the other one, which is about to change
            row["created_at"] = func.coalesce(table.c.created_at, func.timezone(self._reading.time_zone, created_at))
        return connection.execute(update(table).where(table.c.id == number).values(row)).rowcount == 1

    def delete(self, connection: Connection, id: UUID) -> bool:
        found = self._locate(connection, id)
        if found is None:
            return False
        organization, number, _ = found
        table = self._parts[organization].table
        gone = connection.execute(delete(table).where(table.c.id == number)).rowcount == 1
        # Last: capture has noted the row under its sidecar's id by now.
        with together(connection) as trip:
            self._sidecar.drop(trip, organization, [number])
        return gone

    def touch(self, connection: Connection, id: UUID) -> bool:
        found = self._locate(connection, id)
        if found is None:
            return False
        organization, number, _ = found
        table = self._parts[organization].table
        as_it_is = update(table).where(table.c.id == number).values(id=table.c.id)
        return connection.execute(as_it_is).rowcount == 1

    def _place(self, prompt: Prompt) -> tuple[LegacyScope, Table]:
        """Where legacy keeps the prompt; CannotHold if it has no place for it."""
        place = parse_scope(prompt.project_id, with_type=self._reading.by_type)
        if place is None or place.organization not in self._parts:
            raise CannotHold(
                f"legacy has no place for scope {prompt.project_id!r}; it wants <organization>/project-<id>"
                f"{'/<type>' if self._reading.by_type else ''} of a known organization"
            )
        if prompt.organization_id != place.organization:
            raise CannotHold(
                f"legacy keeps scope {prompt.project_id!r} under organization {place.organization!r}, "
                f"not {prompt.organization_id!r}"
            )
        return place, self._parts[place.organization].table

    def _locate(self, connection: Connection, id: UUID) -> tuple[str, int, datetime | None] | None:
        """Tenant, number and created_at of a prompt, its row locked until the transaction ends."""
        for part in self.parts:
            row: Any = self._located[part.name].execute(connection, ids=[str(id)]).one_or_none()
            if row is not None:
                own, number = part.table.c.id, int(row[0])
                locked = connection.execute(select(own).where(own == number).with_for_update())
                return None if locked.scalar_one_or_none() is None else (part.name, number, row[1])
        return None

    def _write_sidecar(
        self,
        connection: Connection,
        place: LegacyScope,
        number: int,
        prompt: Prompt,
        created_at: datetime | None,
        updated_at: datetime | None = None,
    ) -> None:
        if place.type is None:
            raise CannotHold(_UNTYPED)
        entry = describe(place.organization, number, place.type, prompt, created_at, updated_at)
        with together(connection) as trip:
            self._sidecar.write(trip, entry)


_UNTYPED = (
    'under scope_policy = "project" a scope does not say which of Dispatch\'s types a prompt has; '
    "write it through Dispatch itself"
)


def _of_place(table: Table, reading: Reading) -> ColumnElement[bool]:
    """The rows of a scope, by its parts: what ``parse_scope`` makes of it."""
    of_project = table.c.project_id == parameter("project")
    return and_(of_project, table.c.genai_type == parameter("genai_type")) if reading.by_type else of_project


def _locating(part: Part) -> Select[Any]:
    """The table's own keys and stamps of the rows with one of ``ids``."""
    rows = part.carried_where(part.where_key(texts("ids"))).subquery("rows")
    return select(rows.c.local, rows.c.created_at).where(cast(rows.c.id, Text) == any_(texts("ids")))


def _legacy_values(prompt: Prompt, place: LegacyScope) -> dict[str, Any]:
    return {
        "genai_type": place.type,
        "genai_prompt": prompt.content,
        "genai_system_message": prompt.system_message,
        "enabled": prompt.enabled,
        "project_id": place.project,
    }


def _union(selects: Sequence[Select[Any]]) -> Select[Any]:
    if len(selects) == 1:
        return selects[0]
    whole = union_all(*selects).subquery()
    return select(whole)
