"""The repository contract that both stores fulfil and the router wraps."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from adapters.prompts.prompt import Prompt, PromptFilter, PromptPage
from harness.operations import read, write


class PromptRepository(Protocol):
    """The seven methods of Prompt Manager's repository.

    Errors, all from ``harness.errors``: NotFound (update, delete), Conflict (save, update: the id exists, or the
    scope has an enabled prompt already), InvalidRecord (a value the store does not take), CannotHold (legacy has
    no place for such a prompt), StoreUnavailable. A write that raises a RepositoryError has changed nothing.
    """

    @read(key=lambda id: id)
    def find_by_id(self, id: UUID) -> Prompt | None:
        """The prompt, or None."""
        ...

    @read(scope=lambda name, project_id=None: project_id)
    def find_by_name(self, name: str, project_id: str | None = None) -> Prompt | None:
        """The newest prompt of that name in the project; without a project, among those that belong to none."""
        ...

    @read(scope=lambda query: query.project_id)
    def find_all(self, query: PromptFilter) -> PromptPage:
        """One page of the prompts that pass the filter, newest first, ties by id; the total counts all pages."""
        ...

    @read(scope=lambda project_id: project_id)
    def find_enabled_by_project(self, project_id: str) -> Prompt | None:
        """The one enabled prompt of the project, or None: what an AI call asks for."""
        ...

    @write(scope=lambda prompt: prompt.project_id, key=lambda prompt: prompt.id)
    def save(self, prompt: Prompt) -> Prompt:
        """Add the prompt under its own id and stamps, and return it as stored.

        Asked again with the very same prompt, it answers as the first time, unless the prompt has changed since.
        """
        ...

    @write(scope=lambda prompt: prompt.project_id, key=lambda prompt: prompt.id, moves=True)
    def update(self, prompt: Prompt) -> Prompt:
        """Replace all but id and created_at; the store stamps updated_at. Returns it as stored."""
        ...

    @write(key=lambda id: id)
    def delete(self, id: UUID) -> None:
        """Remove the prompt."""
        ...
