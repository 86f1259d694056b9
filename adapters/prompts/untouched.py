"""Dispatch's prompts as they are read before Crossfade has prepared anything: without sidecar, without an index on ids.

Reads only; a repository over it must not be written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, select, union_all

from adapters.postgres.prepared import parameter
from adapters.prompts.canonical import Reading
from adapters.prompts.dispatch import canonical_select
from adapters.prompts.dispatch_tables import tenant_tables
from adapters.prompts.prompt import Prompt
from adapters.prompts.repository import Rows
from harness.errors import Refused
from harness.routing import Store


class UntouchedMapping:
    """Fulfils ``adapters.prompts.repository.StoreMapping``. Each read goes through all tenants' rows."""

    store = Store.LEGACY

    def __init__(self, tenants: Sequence[str], reading: Reading) -> None:
        selects = [canonical_select(slug, tenant_tables(slug)[1], reading, with_sidecar=False) for slug in tenants]
        self._all = selects[0] if len(selects) == 1 else select(union_all(*selects).subquery())
        rows = self._all.subquery("untouched")
        self._in_scope = select(rows).where(rows.c.project_id == parameter("scope"))
        self._by_id = select(rows).where(rows.c.id == parameter("id"))

    def all_rows(self) -> Rows:
        return Rows("all", self._all)

    def in_scope(self, scope: str) -> Rows:
        return Rows("in_scope", self._in_scope, {"scope": scope})

    def by_id(self, id: UUID) -> Rows:
        return Rows("by_id", self._by_id, {"id": id})

    def insert(self, connection: Connection, prompt: Prompt) -> None:
        raise _refused()

    def update(self, connection: Connection, prompt: Prompt) -> bool:
        raise _refused()

    def delete(self, connection: Connection, id: UUID) -> bool:
        raise _refused()

    def touch(self, connection: Connection, id: UUID) -> bool:
        raise _refused()


def _refused() -> Refused:
    return Refused("legacy is only read before crossfade prepare; run that first")
