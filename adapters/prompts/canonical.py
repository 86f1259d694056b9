"""Canonical columns: what both stores' prompts are read as, and the vocabulary that the mappings share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from adapters.prompts.prompt import PromptType

COLUMNS = (
    "id",
    "name",
    "description",
    "content",
    "system_message",
    "type",
    "project_id",
    "organization_id",
    "enabled",
    "version",
    "created_at",
    "updated_at",
)

# uuid3 puts the namespace's sixteen bytes before the name. These sixteen are plain ASCII, so that SQL can say
# md5('crossfade-legacy' || name) on text, without bytea and without an extension (RFC 4122, section 4.3).
NAMESPACE = UUID(bytes=b"crossfade-legacy")

CONTENT_LIMIT = 10_000
TEXT_LIMIT = 255


@dataclass(frozen=True, slots=True)
class Reading:
    """How legacy's rows are to be read; the mapping's settings."""

    time_zone: str = "UTC"
    scope_policy: str = "type"
    keep: str = "undecided"

    @property
    def by_type(self) -> bool:
        return self.scope_policy == "type"


@dataclass(frozen=True, slots=True)
class LegacyType:
    """One of Dispatch's GenAI types: the name it displays, the slug scopes use, the new store's type."""

    number: int
    display: str
    slug: str
    type: PromptType


LEGACY_TYPES = (
    LegacyType(1, "Tag Recommendation", "tag-recommendation", PromptType.CLASSIFICATION),
    LegacyType(2, "Incident Summary", "incident-summary", PromptType.SUMMARIZATION),
    LegacyType(3, "Signal Analysis", "signal-analysis", PromptType.CLASSIFICATION),
    LegacyType(4, "Conversation Summary", "conversation-summary", PromptType.SUMMARIZATION),
    LegacyType(5, "Tactical Report Summary", "tactical-report-summary", PromptType.TEXT_GENERATION),
)

BY_NUMBER = {known.number: known for known in LEGACY_TYPES}
BY_SLUG = {known.slug: known for known in LEGACY_TYPES}


def legacy_type(number: int) -> LegacyType:
    """The known type of that number, or the stand-in that Dispatch displays for an unknown one."""
    return BY_NUMBER.get(number) or LegacyType(number, f"Unknown Type ({number})", f"type-{number}", PromptType.CUSTOM)


class Reason:
    """Why a legacy row cannot be represented on the new side. The first that applies, in this order."""

    NO_PROJECT = "no_project"
    EMPTY_CONTENT = "empty_content"
    CONTENT_TOO_LONG = "content_too_long"
    SCOPE_TOO_LONG = "scope_too_long"
    STAMP_OUT_OF_RANGE = "stamp_out_of_range"
    ENABLED_CONFLICT = "enabled_conflict"


REASONS = {
    Reason.NO_PROJECT: "project_id is NULL, so the prompt belongs to no scope",
    Reason.EMPTY_CONTENT: "the prompt's text is empty; the new store wants at least one character",
    Reason.CONTENT_TOO_LONG: f"the prompt's text is longer than {CONTENT_LIMIT:,} characters",
    Reason.SCOPE_TOO_LONG: f"the scope's name is longer than {TEXT_LIMIT} characters",
    Reason.STAMP_OUT_OF_RANGE: "a stamp is infinite or outside the years 1 to 9999",
    Reason.ENABLED_CONFLICT: 'another enabled prompt of the project stands before it (scope_policy = "project")',
}


class DebtReason:
    """Why legacy cannot hold a row of the new side. The first that applies, in this order."""

    NO_PLACE = "no_place"
    NO_PROJECT = "no_project"
    ORGANIZATION_DIFFERS = "organization_differs"
    STAMP_OUT_OF_RANGE = "stamp_out_of_range"
    SECOND_DISABLED = "second_disabled"
    PLACE_TAKEN = "place_taken"


DEBT_REASONS = {
    DebtReason.NO_PLACE: "the prompt's project_id names no organization, project and type of legacy",
    DebtReason.NO_PROJECT: "legacy has no project of that number, or no longer",
    DebtReason.ORGANIZATION_DIFFERS: "the prompt's organization_id is not the organization that its project_id names",
    DebtReason.STAMP_OUT_OF_RANGE: "a stamp is infinite or outside the years 1 to 9999, as UTC or on legacy's clock",
    DebtReason.SECOND_DISABLED: "the scope has an older disabled prompt; legacy holds one enabled and one disabled",
    DebtReason.PLACE_TAKEN: "a row that was left behind in quarantine stands in its place in legacy",
}

# A PostgreSQL integer as it is printed, no more and no less; fit for PostgreSQL's regular expressions and Python's.
_UP_TO_INT4 = (
    "[1-9][0-9]{0,8}|1[0-9]{9}|20[0-9]{8}|21[0-3][0-9]{7}|214[0-6][0-9]{6}|2147[0-3][0-9]{5}|21474[0-7][0-9]{4}"
    "|214748[0-2][0-9]{3}|2147483[0-5][0-9]{2}|21474836[0-3][0-9]|214748364[0-7]"
)
INTEGER = f"(?:0|-?(?:{_UP_TO_INT4})|-2147483648)"
UNKNOWN_TYPE = f"type-(?!(?:{'|'.join(str(known.number) for known in LEGACY_TYPES)})$){INTEGER}"

_SCOPE = re.compile(rf"(?P<organization>[^/]+)/project-(?P<project>{INTEGER})(?:/(?P<slug>[a-z0-9-]+))?\Z")
_UNKNOWN_SLUG = re.compile(rf"{UNKNOWN_TYPE}\Z")


@dataclass(frozen=True, slots=True)
class LegacyScope:
    """A scope taken apart. ``type`` is None under scope policy ``project``."""

    organization: str
    project: int
    type: int | None


@lru_cache(maxsize=4096)  # catch-up asks it of the same scopes batch after batch
def parse_scope(scope: str | None, *, with_type: bool) -> LegacyScope | None:
    """The legacy place of a scope, or None for a scope that legacy has no place for."""
    found = _SCOPE.match(scope or "")
    if found is None or (found["slug"] is not None) != with_type:
        return None
    number = _type_number(found["slug"]) if with_type else None
    if with_type and number is None:
        return None
    return LegacyScope(found["organization"], int(found["project"]), number)


def _type_number(slug: str) -> int | None:
    if slug in BY_SLUG:
        return BY_SLUG[slug].number
    return int(slug.removeprefix("type-")) if _UNKNOWN_SLUG.match(slug) else None
