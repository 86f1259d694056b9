"""Carrying there and back by the two stores' own means, with nothing captured or guarded."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Engine, delete, insert, select

from adapters.postgres.apply import Destination, set_applying
from adapters.postgres.notes import Note
from adapters.postgres.part import Part
from adapters.postgres.present import PresentRows
from adapters.postgres.taking import Taking
from adapters.postgres.trip import together
from adapters.prompts.canonical import COLUMNS, Reading
from adapters.prompts.dispatch_part import tenant_part
from adapters.prompts.dispatch_rows import LegacyRow, SidecarRow, legacy_id
from adapters.prompts.dispatch_tables import sidecar, tenant_tables
from adapters.prompts.dispatch_taking import DispatchTaking
from adapters.prompts.prompt import Prompt
from adapters.prompts.prompt_manager import giving_part, prompts, whole_part
from harness.routing import Store

TENANTS = ("acme", "umbra")
PROMPT = {tenant: tenant_tables(tenant)[1] for tenant in TENANTS}
LegacyState = list[tuple[str, LegacyRow, SidecarRow | None]]


@dataclass(frozen=True)
class Done:
    """What a journey changed, in records, and why what could not be held."""

    upserted: int
    deleted: int
    unfit: Mapping[str, str] = field(default_factory=dict)


class Journey:
    """Two prepared databases, and the way between them in one legacy time zone."""

    def __init__(self, legacy: Engine, new: Engine, zone: str) -> None:
        self.legacy, self.new, self.reading = legacy, new, Reading(zone)
        self.tenants: dict[str, Part] = {name: tenant_part(name, self.reading) for name in TENANTS}
        self.giving: dict[str, Part] = {"": giving_part(TENANTS, self.reading)}
        self.into_legacy = DispatchTaking(list(self.tenants.values()), self.reading)
        self.into_new = Destination(whole_part(), COLUMNS, "enabled", lambda name: prompts.c.organization_id == name)
        self._of_legacy = PresentRows(Store.LEGACY, legacy, lambda: self.tenants)
        self._of_new = PresentRows(Store.NEW, new, lambda: self.giving)

    def clear(self) -> None:
        with self.legacy.begin() as connection:
            for table in (*PROMPT.values(), sidecar):
                connection.execute(delete(table))
        self.clear_new()

    def clear_new(self) -> None:
        with self.new.begin() as connection:
            connection.execute(delete(prompts))

    def there(self, keys: set[uuid.UUID]) -> Done:
        """Carry the records from legacy to new."""
        return self._carry(self._of_legacy, TENANTS[0], self.new, self.into_new, keys)

    def back(self, keys: set[uuid.UUID]) -> Done:
        """Carry the records from new to legacy."""
        return self._carry(self._of_new, "", self.legacy, self.into_legacy, keys)

    def _carry(self, present: PresentRows, part: str, engine: Engine, into: Taking, keys: set[uuid.UUID]) -> Done:
        names = sorted(map(str, keys))
        rows = present.of([Note(n, part, None, key, None) for n, key in enumerate(names)])
        with engine.begin() as connection:
            set_applying(connection)
            with together(connection) as trip:
                found = into.look(trip, names, {row.scope_ for row in rows})
                applied = into.make_equal(trip, names, rows, found())
            return Done(applied.upserts(), applied.deletes(), applied.unfit)

    def in_legacy(self) -> dict[str, set[Any]]:
        """Every prompt row, by tenant."""
        with self.legacy.connect() as connection:
            return {tenant: set(connection.execute(_stored(table))) for tenant, table in PROMPT.items()}

    def in_new(self) -> set[Any]:
        with self.new.connect() as connection:
            return set(connection.execute(_stored(prompts)))

    def put_legacy(self, state: LegacyState) -> set[uuid.UUID]:
        """Store rows and entries as something other than Crossfade would; the records' ids."""
        with self.legacy.begin() as connection:
            for organization, row, side in state:
                connection.execute(insert(PROMPT[organization]), asdict(row))
                if side is not None:
                    entry = asdict(side) | {"organization": organization, "legacy_id": row.id}
                    connection.execute(insert(sidecar), entry)
        return {side.id if side else legacy_id(organization, row.id) for organization, row, side in state}

    def put_new(self, state: list[Prompt]) -> set[uuid.UUID]:
        """Store just these prompts."""
        with self.new.begin() as connection:
            set_applying(connection)
            connection.execute(delete(prompts))
            if state:
                connection.execute(insert(prompts), [asdict(prompt) for prompt in state])
        return {prompt.id for prompt in state}


def _stored(table: Any) -> Any:
    return select(*(column for column in table.c if not column.system))
