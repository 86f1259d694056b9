"""The rows that are corrupted: what legacy holds of each, and the canonical record that both stores shall show."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from adapters.prompts.canonical import COLUMNS, Reading
from adapters.prompts.dispatch_rows import LegacyRow, SidecarRow, legacy_id, read_row
from adapters.prompts.prompt import Prompt
from harness.records import Kind

TENANTS = ("acme", "umbra")
READING = Reading()
TYPES = (1, 2, 3, 4, 5, 99)  # to each project; so every row here is alone in its scope

Shape = Callable[[Random], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of legacy, with what the sidecar says of it."""

    organization: str
    legacy: LegacyRow
    side: SidecarRow | None = None

    @property
    def record(self) -> Prompt:
        prompt, _ = read_row(self.organization, self.legacy, READING, self.side)
        assert prompt is not None
        return prompt

    @property
    def reason(self) -> str | None:
        """Why it is in quarantine, if it is."""
        return read_row(self.organization, self.legacy, READING, self.side)[1]

    @property
    def derived(self) -> Prompt:
        """The record that the row is without its sidecar entry."""
        return replace(self, side=None).record

    def with_legacy(self, **changes: Any) -> Row:
        return replace(self, legacy=replace(self.legacy, **changes))


@dataclass(frozen=True, slots=True)
class Expected:
    """One row that a verification has to report, once. Of a misplaced one only key and kind are told."""

    key: str
    kind: Kind
    scope: str | None = None
    fields: frozenset[str] = frozenset()


def missing(record: Prompt) -> Expected:
    return Expected(str(record.id), Kind.MISSING, record.project_id)


def extra(record: Prompt) -> Expected:
    return Expected(str(record.id), Kind.EXTRA, record.project_id)


def misplaced(record: Prompt) -> Expected:
    return Expected(str(record.id), Kind.MISPLACED)


def different(legacy: Prompt, new: Prompt) -> Expected:
    """Both records, which have one id, and the fields in which they are unlike."""
    assert legacy.id == new.id
    fields = frozenset(name for name in COLUMNS if getattr(legacy, name) != getattr(new, name))
    assert fields, f"{legacy.id} was not corrupted at all"
    return Expected(str(legacy.id), Kind.DIFFERENT, legacy.project_id, fields)


def invent_row(number: int, random: Random, shape: Shape) -> Row:
    """The row of that number: the shape's columns, and all others of any kind that may occur.

    A shape's ``side`` makes the sidecar entry, given the id that the row has without one.
    """
    place = number // len(TENANTS)
    created = datetime(2021, 1, 1) + timedelta(microseconds=random.randrange(126_000_000_000_000))
    given = dict(shape(random))
    side: Callable[[UUID], SidecarRow] | None = given.pop("side", None)
    columns: dict[str, Any] = {
        "id": 1 + 3 * place,
        "genai_type": TYPES[place % len(TYPES)],
        "genai_prompt": nasty_text(random),
        "genai_system_message": random.choice((None, "", "NULL", nasty_text(random))),
        "enabled": random.random() < 0.5,
        "created_at": created,
        "updated_at": created + timedelta(microseconds=random.randrange(1, 9_000_000_000)),
        "project_id": 1 + place // len(TYPES),
    }
    row = Row(TENANTS[number % len(TENANTS)], LegacyRow(**columns | given))
    return row if side is None else replace(row, side=side(legacy_id(row.organization, row.legacy.id)))


def projects_of(rows: int) -> int:
    """How many projects of each tenant so many rows want."""
    return 1 + rows // len(TENANTS) // len(TYPES)


def own_id(random: Random) -> UUID:
    return UUID(int=random.getrandbits(128), version=4)


# What texts really hold, and what has fooled comparisons.
_PIECES = (
    "Summarise the incident", "What happened, and to whom?", "plain", "NULL", "null", r"\N", "None", "nan", "-", "0",
    "007", "1e3", "3:abc", "-4:x", "a|b", "a,b", 'say "so"', "it's", "\\", "%s", "{}", "<b>&amp;</b>", "\t", "\n",
    "\r\n", "  ", "\u00a0", "\u200b", "\u200d", "\ufeff", "\u2028", "\x1f", "\x0b", "é", "e\u0301", "ß", "SS", "İ",
    "ı", "\ufb01", "\u00c5", "\u212b", "数据", "データ", "שלום", "\u202eabc\u202c", "👩\u200d👩\u200d👧", "🇨🇭",
    "👍🏽", "𝔘", "\ufffd", "€",
)  # fmt: skip


def nasty_text(random: Random) -> str:
    """From one to a few hundred characters of any kind, with blanks or none at the ends; never empty."""
    text = random.choice(("", " ")).join(random.choice(_PIECES) for _ in range(random.randint(1, 40)))
    if random.random() < 0.2:
        text = unicodedata.normalize(random.choice(("NFC", "NFD")), text)
    return text
