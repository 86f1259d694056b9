"""The one repository implementation that serves both stores. What differs is the mapping it is given."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Connection, Engine, Executable, Select, func, select, text

from adapters.postgres.apply import set_applying
from adapters.postgres.errors import speaking_for
from adapters.postgres.prepared import PreparedByShape, parameter
from adapters.prompts.canonical import COLUMNS
from adapters.prompts.prompt import Prompt, PromptFilter, PromptPage, PromptType
from harness.errors import Conflict, NotFound
from harness.routing import Store


@dataclass(frozen=True, slots=True)
class Rows:
    """A SELECT of canonical rows. Rows of one ``shape`` have the same SELECT; its parameters are in ``values``."""

    shape: Hashable
    statement: Select[Any]
    values: Mapping[str, Any] = field(default_factory=dict)


class StoreMapping(Protocol):
    """One store's prompts: SELECTs that yield the canonical columns, and the statements to write a Prompt back."""

    store: Store

    def all_rows(self) -> Rows: ...

    def in_scope(self, scope: str) -> Rows:
        """The rows of the scope, found by an index; none for a scope that this store has no place for."""
        ...

    def by_id(self, id: UUID) -> Rows:
        """The row of that id, found by an index."""
        ...

    def insert(self, connection: Connection, prompt: Prompt) -> None:
        """Add the row. Raises CannotHold for a prompt that this store has no place for."""
        ...

    def update(self, connection: Connection, prompt: Prompt) -> bool:
        """Replace all but id and created_at, stamping updated_at; False if there is no such row."""
        ...

    def delete(self, connection: Connection, id: UUID) -> bool:
        """Remove the row; False if there is none."""
        ...

    def touch(self, connection: Connection, id: UUID) -> bool:
        """Write the row as it is, so that the guard says whether it may be written; False if there is none."""
        ...


class SqlPromptRepository:
    """Fulfils ``PromptRepository`` over an engine and a mapping. Safe for threads; each call is one transaction.

    ``rehearsing``: writes are checked by every rule of the store, deferred ones too, and then rolled back. The guard
    and other triggers of ours stand aside.
    """

    def __init__(self, engine: Engine, mapping: StoreMapping, *, rehearsing: bool = False) -> None:
        self._engine, self._mapping, self._rehearsing = engine, mapping, rehearsing
        self._prepared = PreparedByShape()

    def find_by_id(self, id: UUID) -> Prompt | None:
        with self._reading() as connection:
            return self._by_id(connection, id)

    def find_by_name(self, name: str, project_id: str | None = None) -> Prompt | None:
        records = self._mapping.all_rows() if project_id is None else self._mapping.in_scope(project_id)

        def build() -> Executable:
            rows = records.statement.subquery("found")
            named = select(rows).where(rows.c.name == parameter("wanted_name"))
            if project_id is None:
                named = named.where(rows.c.project_id.is_(None))
            return _newest_first(named, rows).limit(1)

        return self._first(("by_name", records.shape), build, wanted_name=name, **records.values)

    def find_enabled_by_project(self, project_id: str) -> Prompt | None:
        records = self._mapping.in_scope(project_id)

        def build() -> Executable:
            rows = records.statement.subquery("found")
            return _newest_first(select(rows).where(rows.c.enabled), rows).limit(1)

        return self._first(("enabled", records.shape), build, **records.values)

    def find_all(self, query: PromptFilter) -> PromptPage:
        records = self._mapping.all_rows() if query.project_id is None else self._mapping.in_scope(query.project_id)
        wanted = {
            f"wanted_{name}": value
            for name, value in (
                ("organization_id", query.organization_id),
                ("type", None if query.type is None else query.type.value),
                ("enabled", query.enabled),
            )
            if value is not None
        }
        # One statement, so that the total and the items are of one snapshot.
        shape = records.shape, tuple(wanted)
        page = self._prepared.get(("page", shape), lambda: _page(_filtered(records, wanted)))
        values = {**wanted, **records.values}
        with self._reading() as connection:
            answer = page.execute(
                connection, **values, page_size=query.limit, page_start=(query.page - 1) * query.limit
            ).all()
            total = int(answer[0].total) if answer else 0
            if not answer and query.page > 1:  # beyond the last page no row carries the total
                count = self._prepared.get(("count", shape), lambda: _count(_filtered(records, wanted)))
                total = int(count.execute(connection, **values).scalar_one())
        return PromptPage(tuple(_prompt(row) for row in answer), total, query.page, query.limit)

    def save(self, prompt: Prompt) -> Prompt:
        try:
            with self._writing() as connection:
                self._mapping.insert(connection, prompt)
                return self._stored(connection, prompt.id)
        except Conflict:
            # A caller whose answer was lost asks again: what stands there already is just what was to be saved.
            if not self._rehearsing and self._stands(prompt):
                return prompt
            raise

    def update(self, prompt: Prompt) -> Prompt:
        with self._writing() as connection:
            if not self._mapping.update(connection, prompt):
                raise self._not_found(prompt.id)
            return self._stored(connection, prompt.id)

    def delete(self, id: UUID) -> None:
        with self._writing() as connection:
            if not self._mapping.delete(connection, id):
                raise self._not_found(id)

    def _first(self, shape: Hashable, build: Any, **values: Any) -> Prompt | None:
        with self._reading() as connection:
            row = self._prepared.get(shape, build).execute(connection, **values).first()
        return None if row is None else _prompt(row)

    def _by_id(self, connection: Connection, id: UUID) -> Prompt | None:
        records = self._mapping.by_id(id)
        statement = self._prepared.get(records.shape, lambda: records.statement)
        row = statement.execute(connection, **records.values).first()
        return None if row is None else _prompt(row)

    def _stands(self, prompt: Prompt) -> bool:
        """Whether just this prompt is stored here. Raises NoAuthority where it stands in another store's stead.

        Such a copy may be of a record that the authority has removed since. What is written is rolled back.
        """
        with self._reading() as connection:
            # One snapshot: the row that is read is the row that the guard lets be written, or the transaction fails.
            connection.execution_options(isolation_level="REPEATABLE READ")
            return self._by_id(connection, prompt.id) == prompt and self._mapping.touch(connection, prompt.id)

    def _stored(self, connection: Connection, id: UUID) -> Prompt:
        stored = self._by_id(connection, id)
        if stored is None:
            raise self._not_found(id)
        return stored

    def _not_found(self, id: UUID) -> NotFound:
        return NotFound(f"{self._mapping.store} has no prompt with id {id}")

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with speaking_for(self._mapping.store), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        # The commit is inside speaking_for: Dispatch's uniqueness rule is deferred and speaks only then.
        with speaking_for(self._mapping.store), self._engine.connect() as connection:
            if not self._rehearsing:
                with connection.begin():
                    yield connection
                return
            set_applying(connection)
            yield connection
            connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
            connection.rollback()


def _filtered(records: Rows, wanted: Mapping[str, Any]) -> Select[Any]:
    rows = records.statement.subquery("found")
    return select(rows).where(*(rows.c[name.removeprefix("wanted_")] == parameter(name) for name in wanted))


def _page(found: Select[Any]) -> Select[Any]:
    rows = found.subquery("filtered")
    counted = select(rows, func.count().over().label("total"))
    return _newest_first(counted, rows).limit(parameter("page_size")).offset(parameter("page_start"))


def _count(found: Select[Any]) -> Select[Any]:
    return select(func.count()).select_from(found.subquery("filtered"))


def _newest_first(statement: Select[Any], rows: Any) -> Select[Any]:
    return statement.order_by(rows.c.created_at.desc(), rows.c.id)


def _prompt(row: Any) -> Prompt:
    values = {name: getattr(row, name) for name in COLUMNS}
    values["type"] = PromptType(values["type"])
    return Prompt(**values)
