"""Netflix Dispatch's rows read in Python: the twin of the canonical SELECT, for whoever holds a row of its ORM."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from adapters.prompts.canonical import CONTENT_LIMIT, NAMESPACE, TEXT_LIMIT, Reading, Reason, legacy_type
from adapters.prompts.prompt import Prompt, PromptType

_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class LegacyRow:
    """A row of Dispatch's prompt table, as its own ORM holds it: stamps without a zone."""

    id: int
    genai_type: int
    genai_prompt: str
    genai_system_message: str | None
    enabled: bool
    created_at: datetime | None
    updated_at: datetime | None
    project_id: int | None


@dataclass(frozen=True, slots=True)
class SidecarRow:
    """What the sidecar says of a row; a None leaves the derived value in force."""

    id: uuid.UUID
    name: str | None = None
    description: str | None = None
    type: str | None = None
    version: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


@lru_cache(maxsize=65_536)  # catch-up asks it of the same rows batch after batch
def legacy_id(organization: str, number: int) -> uuid.UUID:
    """The canonical id of a Dispatch row that has no sidecar entry."""
    return uuid.uuid3(NAMESPACE, f"{organization}/{number}")


@lru_cache(maxsize=65_536)
def legacy_key(organization: str, number: str) -> str:
    """The same as text, of a number as text."""
    return str(legacy_id(organization, int(number)))


def scope_name(organization: str, project: int, genai_type: int, reading: Reading) -> str:
    """The scope of a project's prompts of a type: what ``find_enabled_by_project`` asks for."""
    place = f"{organization}/project-{project}"
    return f"{place}/{legacy_type(genai_type).slug}" if reading.by_type else place


def read_row(
    organization: str, row: LegacyRow, reading: Reading, side: SidecarRow | None = None
) -> tuple[Prompt | None, str | None]:
    """A Dispatch row as a Prompt, and why it cannot be carried over, if it cannot.

    The same reading as the canonical SELECT (a property test holds them equal), but for ``enabled_conflict``,
    which is not a matter of one row. The prompt is None only where its stamps do not fit Python's datetime.
    """
    known = legacy_type(row.genai_type)
    side = side or SidecarRow(legacy_id(organization, row.id))
    scope = None if row.project_id is None else scope_name(organization, row.project_id, row.genai_type, reading)
    try:
        own_created = _told(row.created_at, side.created_at, reading.time_zone)
        own_updated = _told(row.updated_at, side.updated_at, reading.time_zone)
    except OverflowError:
        return None, _reason(row, scope) or Reason.STAMP_OUT_OF_RANGE
    prompt = Prompt(
        id=side.id,
        name=known.display if side.name is None else side.name,
        description=side.description,
        content=row.genai_prompt,
        system_message=row.genai_system_message,
        type=known.type if side.type is None else PromptType(side.type),
        project_id=scope,
        organization_id=organization,
        enabled=row.enabled,
        version=1 if side.version is None else side.version,
        created_at=own_created or own_updated or _EPOCH,
        updated_at=own_updated or own_created or _EPOCH,
    )
    return prompt, _reason(row, scope)


def _reason(row: LegacyRow, scope: str | None) -> str | None:
    if scope is None:
        return Reason.NO_PROJECT
    if row.genai_prompt == "":
        return Reason.EMPTY_CONTENT
    if len(row.genai_prompt) > CONTENT_LIMIT:
        return Reason.CONTENT_TOO_LONG
    return Reason.SCOPE_TOO_LONG if len(scope) > TEXT_LIMIT else None


def _told(stamp: datetime | None, said: datetime | None, zone: str) -> datetime | None:
    """The instant that the sidecar says of a stamp, as long as the stamp still shows it; else as the stamp reads."""
    if stamp is None:
        return None
    return said if said is not None and _local(said, zone) == stamp else _zoned(stamp, zone)


def _local(moment: datetime, zone: str) -> datetime | None:
    """What legacy's clock shows at an instant; None where that is beyond Python, as no stamp held here can be."""
    try:
        return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    except OverflowError:
        return None


def _zoned(stamp: datetime, zone: str) -> datetime:
    """The stamp as an instant, read as PostgreSQL reads it.

    In a gap (clocks forward) PostgreSQL takes the offset before it, in a fold (clocks back) the one after it
    (``DetermineTimeZoneOffset`` in its datetime.c): both are the smaller of the two offsets.
    """
    place = ZoneInfo(zone)
    offsets = (stamp.replace(tzinfo=place, fold=fold).utcoffset() for fold in (0, 1))
    return (stamp - min(offset or timedelta() for offset in offsets)).replace(tzinfo=UTC)
