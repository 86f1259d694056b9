"""The one repository implementation that serves both stores. What differs is the mapping it is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, Select, func, select

from adapters.postgres.errors import speaking_for
from adapters.prompts.canonical import COLUMNS
from adapters.prompts.prompt import Prompt, PromptFilter, PromptPage, PromptType
from harness.errors import NotFound
from harness.routing import Store


class Mapping(Protocol):
    """One store's prompts: selects that yield the canonical columns, and the statements to write a Prompt back."""

    store: Store

    def rows(self, query: PromptFilter) -> Select[Any]:
        """All prompts that may pass the filter's project; the repository applies the filter itself."""
        ...

    def by_id(self, id: UUID) -> Select[Any]:
        """The prompt of that id, found by an index."""
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


class SqlPromptRepository:
    """Fulfils ``PromptRepository`` over an engine and a mapping. Safe for threads; each call is one transaction."""

    def __init__(self, engine: Engine, mapping: Mapping) -> None:
        self._engine = engine
        self._mapping = mapping

    def find_by_id(self, id: UUID) -> Prompt | None:
        return self._first(self._mapping.by_id(id))

    def find_by_name(self, name: str, project_id: str | None = None) -> Prompt | None:
        rows = self._mapping.rows(PromptFilter(project_id=project_id)).subquery()
        in_project = rows.c.project_id.is_(None) if project_id is None else rows.c.project_id == project_id
        return self._first(_newest_first(select(rows).where(rows.c.name == name, in_project), rows).limit(1))

    def find_enabled_by_project(self, project_id: str) -> Prompt | None:
        rows = self._mapping.rows(PromptFilter(project_id=project_id, enabled=True)).subquery()
        enabled = select(rows).where(rows.c.project_id == project_id, rows.c.enabled)
        return self._first(_newest_first(enabled, rows).limit(1))

    def find_all(self, query: PromptFilter) -> PromptPage:
        rows = self._mapping.rows(query).subquery()
        found = select(rows)
        for name in ("project_id", "organization_id", "type", "enabled"):
            if (wanted := getattr(query, name)) is not None:
                found = found.where(rows.c[name] == wanted)
        # One statement, so that the total and the items are of one snapshot.
        counted = found.add_columns(func.count().over().label("total"))
        page = _newest_first(counted, rows).limit(query.limit).offset((query.page - 1) * query.limit)
        with self._reading() as connection:
            answer = connection.execute(page).all()
            if answer:
                total = int(answer[0].total)
            elif query.page == 1:
                total = 0
            else:  # beyond the last page no row carries the total
                total = connection.execute(select(func.count()).select_from(found.subquery())).scalar_one()
        return PromptPage(tuple(_prompt(row) for row in answer), total, query.page, query.limit)

    def save(self, prompt: Prompt) -> Prompt:
        with self._writing() as connection:
            self._mapping.insert(connection, prompt)
            return self._stored(connection, prompt.id)

    def update(self, prompt: Prompt) -> Prompt:
        with self._writing() as connection:
            if not self._mapping.update(connection, prompt):
                raise self._not_found(prompt.id)
            return self._stored(connection, prompt.id)

    def delete(self, id: UUID) -> None:
        with self._writing() as connection:
            if not self._mapping.delete(connection, id):
                raise self._not_found(id)

    def _first(self, statement: Select[Any]) -> Prompt | None:
        with self._reading() as connection:
            row = connection.execute(statement).first()
        return None if row is None else _prompt(row)

    def _stored(self, connection: Connection, id: UUID) -> Prompt:
        return _prompt(connection.execute(self._mapping.by_id(id)).one())

    def _not_found(self, id: UUID) -> NotFound:
        return NotFound(f"{self._mapping.store} has no prompt with id {id}")

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with speaking_for(self._mapping.store), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        # The commit is inside speaking_for: Dispatch's uniqueness rule is deferred and speaks only then.
        with speaking_for(self._mapping.store), self._engine.begin() as connection:
            yield connection


def _newest_first(statement: Select[Any], rows: Any) -> Select[Any]:
    return statement.order_by(rows.c.created_at.desc(), rows.c.id)


def _prompt(row: Row[Any]) -> Prompt:
    values = {name: getattr(row, name) for name in COLUMNS}
    values["type"] = PromptType(values["type"])
    return Prompt(**values)
