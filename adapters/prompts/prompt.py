"""The Prompt, as both stores are read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class PromptType(StrEnum):
    QUESTION_ANSWERING = "question-answering"
    SUMMARIZATION = "summarization"
    ENTITY_EXTRACTION = "entity-extraction"
    TEXT_GENERATION = "text-generation"
    TRANSLATION = "translation"
    CLASSIFICATION = "classification"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt in canonical form. Stamps are aware, to the microsecond; texts are kept character for character.

    Nothing is checked here: a store holds what it holds, and a reader must be able to show it. What a store
    refuses to take it says with an error of its own.
    """

    id: UUID
    name: str
    content: str
    type: PromptType
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    system_message: str | None = None
    project_id: str | None = None
    organization_id: str | None = None
    enabled: bool = False
    version: int = 1

    def with_content(self, content: str) -> Prompt:
        """The next version of the prompt, with another text."""
        return replace(self, content=content, version=self.version + 1)


@dataclass(frozen=True, slots=True)
class PromptFilter:
    """Which prompts, and which page of them. Pages count from 1; a filter that is None does not filter."""

    page: int = 1
    limit: int = 10
    project_id: str | None = None
    organization_id: str | None = None
    type: PromptType | None = None
    enabled: bool | None = None

    def __post_init__(self) -> None:
        if self.page < 1 or not 1 <= self.limit <= 100:
            raise ValueError(f"page counts from 1 and limit is 1 to 100, not {self.page} and {self.limit}")


@dataclass(frozen=True, slots=True)
class PromptPage:
    """One page of prompts, newest first, ties broken by id."""

    items: tuple[Prompt, ...] = field(default=())
    total: int = 0
    page: int = 1
    limit: int = 10

    @property
    def total_pages(self) -> int:
        return -(-self.total // self.limit)
