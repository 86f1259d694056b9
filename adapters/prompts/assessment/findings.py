"""What an assessment consists of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

EXAMPLES = 3


class Severity(StrEnum):
    BLOCKS = "blocks"  # prepare refuses
    DECIDE = "decide"  # it works, but something stays behind, or is read otherwise than it was meant
    NOTE = "note"  # good to know; taken care of


BLOCKS, DECIDE, NOTE = Severity


class Code(StrEnum):
    """The findings that there are, beside the tenants' problems and the reasons for quarantine."""

    VERSION = "version"
    ENCODING = "encoding"
    READ_ONLY = "read_only"
    SAME_DATABASE = "same_database"
    RIGHTS = "rights"
    TIME_ZONE = "time_zone"
    NO_TENANT = "no_tenant"
    SYSTEM_MESSAGE = "system_message"
    UNKNOWN_TYPES = "unknown_types"
    ONE_STAMP_NULL = "one_stamp_null"
    BOTH_STAMPS_NULL = "both_stamps_null"
    SEVERAL_ENABLED = "several_enabled"
    TYPE_CONFLICTS = "type_conflicts"
    IDS_REPEAT = "ids_repeat"
    LOG_SIZE = "log_size"
    PROJECT_INDEX = "project_index"
    PROMPTS_TABLE = "prompts_table"
    UNFIT_PROMPTS_TABLE = "unfit_prompts_table"
    NO_PROMPTS_TABLE = "no_prompts_table"
    ROWS_IN_NEW = "rows_in_new"
    NEW_ONLY = "new_only"
    EXTENSION = "extension"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. ``code``: a Code, a tenant's Problem or a Reason; ``text``: what it means and what to do.

    ``examples`` name rows by tenant and id, and objects by name; never a row's texts.
    """

    code: str
    severity: Severity
    count: int
    text: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TenantCounts:
    """What a tenant's prompts are like. ``bytes`` of texts, ``table_bytes`` as stored, with indexes.

    ``fit_rows`` can be represented in new; ``fit_bytes`` of their texts, ``fit_stored_bytes`` as legacy keeps them,
    compressed where it compresses. ``crowded_projects``: with more than one enabled prompt, ``crowded_rows`` in all;
    ``type_conflicts``: enabled prompts beyond the first of their project and type. ``reasons`` and ``odd`` count rows;
    ``unknown_types`` too, of the most frequent ones; ``examples`` are ids, by reason and by what is odd.
    """

    tenant: str
    rows: int = 0
    enabled: int = 0
    projects: int = 0
    scopes: int = 0
    bytes: int = 0
    table_bytes: int = 0
    fit_rows: int = 0
    fit_bytes: int = 0
    fit_stored_bytes: int = 0
    with_system_message: int = 0
    longest_content: int = 0
    longest_system_message: int = 0
    crowded_projects: int = 0
    crowded_rows: int = 0
    type_conflicts: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    odd: dict[str, int] = field(default_factory=dict)
    unknown_types: dict[int, int] = field(default_factory=dict)
    examples: dict[str, tuple[int, ...]] = field(default_factory=dict)
    first_id: int | None = None
    last_id: int | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """What a number is expected to be between. An estimate."""

    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __mul__(self, by: float) -> Range:
        return Range(self.low * by, self.high * by)


@dataclass(frozen=True, slots=True)
class Growth:
    """Bytes that the migration adds, as far as can be told beforehand.

    ``table``, ``indexes`` and ``wal`` in new, once all is copied; ``disk``: what to have free there, with a margin,
    as if no log file were let go of meanwhile. ``legacy_index``: what ``prepare`` builds in legacy; ``sidecar``: from
    nothing at first to every row edited in new; ``legacy_disk``: both, with a margin.
    """

    table: Range = Range()
    indexes: Range = Range()
    wal: Range = Range()
    disk: float = 0.0
    legacy_index: Range = Range()
    sidecar: Range = Range()
    legacy_disk: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long the work will take on these servers, in seconds, and what it will need. Nothing of it is promised.

    ``rows`` to be copied, of which ``sampled`` were really read, and timed, as the backfill and verify read them.
    ``read``: legacy's share of ``copy``, as measured; ``write``: new's, reckoned from a piece of work that was timed
    there. Both for one chunk at a time on servers as busy as now.
    """

    rows: int
    sampled: int
    read: Range
    write: Range
    copy: Range
    verify: Range
    growth: Growth


@dataclass(frozen=True, slots=True)
class Assessment:
    """All that was found, the worst first. ``new_version`` is None where new was not looked at."""

    findings: tuple[Finding, ...]
    tenants: tuple[TenantCounts, ...]
    estimate: Estimate
    legacy_version: int
    new_version: int | None
    settings_to_copy: str
    recommendation: str

    @property
    def blocked(self) -> bool:
        return any(finding.severity is BLOCKS for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"blocked": self.blocked}
