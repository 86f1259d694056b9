"""Both stores full of rows of which some are to be corrupted, and the ways in which that is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any

from fix_postgres import Databases
from fix_stores import Migration, create_tenants, migration_between
from sqlalchemy import Connection, bindparam, delete, insert, tuple_, update

from adapters.postgres.apply import set_applying
from adapters.prompts.canonical import COLUMNS
from adapters.prompts.dispatch_tables import sidecar, tenant_tables
from adapters.prompts.prompt import Prompt
from adapters.prompts.prompt_manager import prompts
from truth.rows import TENANTS, Expected, Row, Shape, invent_row, projects_of


@dataclass(frozen=True, slots=True)
class Hands:
    """Connections to both stores within a transaction each, past their triggers or not."""

    legacy: Connection
    new: Connection

    # New's rows

    def change(self, changes: Mapping[Prompt, Mapping[str, Any]]) -> None:
        """Give rows of new other values."""
        for names in {tuple(sorted(each)) for each in changes.values()}:
            values: dict[str, Any] = {name: bindparam(f"to_{name}") for name in names}
            statement = update(prompts).where(prompts.c.id == bindparam("key")).values(values)
            given = [
                {"key": record.id} | {f"to_{name}": each[name] for name in names}
                for record, each in changes.items()
                if tuple(sorted(each)) == names
            ]
            self.new.execute(statement, given)

    def add(self, records: Sequence[Prompt]) -> None:
        self.new.execute(insert(prompts), [{name: getattr(each, name) for name in COLUMNS} for each in records])

    def remove(self, records: Sequence[Prompt]) -> None:
        self.new.execute(delete(prompts).where(prompts.c.id.in_([each.id for each in records])))

    # Legacy's

    def rewrite(self, rows: Sequence[Row]) -> None:
        """Make rows of legacy say what these say."""
        names = "genai_prompt", "genai_system_message", "enabled", "updated_at"
        for tenant, table in _tables():
            of_tenant = [row.legacy for row in rows if row.organization == tenant]
            if of_tenant:
                values: dict[str, Any] = {name: bindparam(f"to_{name}") for name in names}
                given = [{"key": row.id} | {f"to_{name}": getattr(row, name) for name in names} for row in of_tenant]
                self.legacy.execute(update(table).where(table.c.id == bindparam("key")).values(values), given)

    def insert(self, rows: Sequence[Row]) -> None:
        names = [column.name for column in tenant_tables(TENANTS[0])[1].c if not column.system]
        sides = [
            {"organization": row.organization, "legacy_id": row.legacy.id}
            | {column.name: getattr(row.side, column.name) for column in sidecar.c if hasattr(row.side, column.name)}
            for row in rows
            if row.side is not None
        ]
        for tenant, table in _tables():
            given = [{n: getattr(row.legacy, n) for n in names} for row in rows if row.organization == tenant]
            if given:
                self.legacy.execute(insert(table), given)
        if sides:
            self.legacy.execute(insert(sidecar), sides)

    def forget_sides(self, rows: Sequence[Row]) -> None:
        self.legacy.execute(delete(sidecar).where(_beside(rows)))

    def change_side(self, row: Row, **values: Any) -> None:
        self.legacy.execute(update(sidecar).where(_beside([row])).values(values))

    def delete(self, rows: Sequence[Row]) -> None:
        for tenant, table in _tables():
            gone = [row.legacy.id for row in rows if row.organization == tenant]
            self.legacy.execute(delete(table).where(table.c.id.in_(gone)))


Prelude = Callable[[Hands, Sequence[Row]], Sequence[Row]]
Spoil = Callable[[Hands, Sequence[Row], Random], Sequence[Sequence[Expected]]]


def nothing_before(hands: Hands, rows: Sequence[Row]) -> Sequence[Row]:
    return rows


class Made(Enum):
    """What makes a corruption, where the triggers of both stores are on."""

    IN_NEW = "a write to new, which has no authority"
    PAST_TRIGGERS = "a write to legacy that its triggers did not see"
    IN_OUR_TABLES = "a write to a table of Crossfade's own"


@dataclass(frozen=True, slots=True)
class Corruption:
    """A class of corruptions.

    ``shape``: columns that a row must have to be corrupted so. ``before``: what happens to the rows lawfully, and is
    carried over, beforehand; it returns them as they are then. ``spoil`` corrupts the rows and returns what has to be
    reported of each corruption. ``made``: how it comes about, if triggers are on.
    """

    name: str
    group: str
    spoil: Spoil
    shape: Shape = lambda random: {}
    before: Prelude = nothing_before
    made: Made = Made.IN_NEW


@dataclass(frozen=True, slots=True)
class World:
    """A migration with rows for each corruption, backfilled and drained; ``rows`` are as they were before anything."""

    migration: Migration
    random: Random
    rows: Mapping[str, Sequence[Row]]

    @contextmanager
    def hands(self, *, past_triggers: bool) -> Iterator[Hands]:
        """Committed when the block ends well."""
        with self.migration.stores.legacy.begin() as legacy, self.migration.stores.new.begin() as new:
            if past_triggers:
                set_applying(legacy)
                set_applying(new)
            yield Hands(legacy, new)


@contextmanager
def world(databases: Databases, corruptions: Sequence[Corruption], each: int, clean: int, seed: int) -> Iterator[World]:
    """So many rows for each corruption, and some that none touches."""
    random = Random(seed)
    shapes = [(corruption.name, corruption.shape) for corruption in corruptions for _ in range(each)]
    shapes += [("", Corruption("", "", _untouched).shape)] * clean
    random.shuffle(shapes)  # corrupted rows stand among sound ones, in both tenants and all types
    rows: dict[str, list[Row]] = {name: [] for name in (*(corruption.name for corruption in corruptions), "")}
    for number, (name, shape) in enumerate(shapes):
        rows[name].append(invent_row(number, random, shape))
    with migration_between(databases) as migration:
        with migration.stores.legacy.begin() as connection:
            create_tenants(connection, TENANTS, projects_of(len(shapes)))
        migration.prepare()
        made = World(migration, random, rows)
        with made.hands(past_triggers=True) as hands:
            hands.insert([row for some in rows.values() for row in some])
        migration.backfill()
        assert migration.drain() == 0
        lawful = {corruption.name: corruption for corruption in corruptions}
        with made.hands(past_triggers=False) as hands:
            now = {name: lawful[name].before(hands, some) if name in lawful else some for name, some in rows.items()}
        assert migration.drain() == 0
        yield World(migration, random, now)


def _untouched(hands: Hands, rows: Sequence[Row], random: Random) -> Sequence[Sequence[Expected]]:
    return []


def _beside(rows: Sequence[Row]) -> Any:
    names = [(row.organization, row.legacy.id) for row in rows]
    return tuple_(sidecar.c.organization, sidecar.c.legacy_id).in_(names)


def _tables() -> list[tuple[str, Any]]:
    return [(tenant, tenant_tables(tenant)[1]) for tenant in TENANTS]
