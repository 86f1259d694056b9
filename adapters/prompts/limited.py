"""Both sides of a verification that is to look at one scope or one organization only."""

from __future__ import annotations

from adapters.postgres.digest import TableSide
from adapters.postgres.ledger.tables import quarantine
from adapters.postgres.under_way import held_rows
from adapters.prompts.canonical import COLUMNS
from adapters.prompts.migration import Stores
from adapters.prompts.prompt_manager import migrating, prompts
from harness.errors import ConfigError
from harness.routing import Store


def sides_of_scope(stores: Stores, scope: str) -> tuple[TableSide, TableSide]:
    """Both stores' rows of a scope. ConfigError for one that legacy has no place for."""
    parts = stores.mapping.parts
    chosen = {part.name: condition for part in parts if (condition := part.where_scope(scope)) is not None}
    if not chosen:
        raise ConfigError(f"legacy has no place for a scope {scope!r}; crossfade status and the rows name scopes")
    legacy = TableSide(stores.legacy, Store.LEGACY, parts, COLUMNS, chosen=chosen)
    part = stores.destination.part
    of_scope = {part.name: prompts.c.project_id == scope}
    held = held_rows(quarantine.c.scope == scope)
    return legacy, TableSide(stores.new, Store.NEW, [part], COLUMNS, chosen=of_scope, held=held)


def sides_of_organization(stores: Stores, name: str) -> tuple[TableSide, TableSide]:
    """Both stores' rows of an organization. ConfigError for one that legacy has not."""
    parts = stores.mapping.parts
    if name not in {part.name for part in parts}:
        known = ", ".join(sorted(part.name for part in parts))
        raise ConfigError(f"legacy has no organization {name!r}; it has {known}")
    legacy = TableSide(stores.legacy, Store.LEGACY, parts, COLUMNS, chosen={name: None})
    part = stores.destination.part
    rows = {part.name: migrating([name], with_type=stores.reading.by_type)}
    held = held_rows(quarantine.c.part == name)
    return legacy, TableSide(stores.new, Store.NEW, [part], COLUMNS, chosen=rows, held=held)
