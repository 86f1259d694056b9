"""Redaction: what a report says of a value whose text it must not show."""

from __future__ import annotations

import re
from typing import Any

from harness import errors
from harness.compare import EXCERPT
from harness.records import FieldDifference
from harness.words import count, counted

_WINDOW = 300  # characters shown of an unredacted value
_LEAD = 40  # of these, before the first difference
_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# Which kind of error a store raised is no content: these values may be read even in a redacted report.
_OUTCOMES = frozenset({"an answer"}) | {name for name, value in vars(errors).items() if isinstance(value, type)}


def side_by_side(difference: FieldDifference, *, redact: bool) -> dict[str, Any]:
    """Both values of a differing field, each as the report shows it.

    ``kind`` says in words how they differ, ``first`` the number of the first differing character, from 1, None where
    one is absent or both are alike as texts. ``marks``: of each text that is shown, from where to where it differs.
    """
    legacy, new = difference.legacy, difference.new
    if {legacy, new} <= _OUTCOMES:
        redact = False
    said = {"field": difference.field, "kind": _kind(legacy, new), "first": _first(legacy, new)}
    if redact:
        return said | {"legacy": _redacted(legacy, new), "new": _redacted(new, legacy), "marks": None}
    shown = _excerpt(legacy, new), _excerpt(new, legacy)
    marks = None
    if legacy and new and legacy != new:
        marks = dict(zip(("legacy", "new"), _marks(*shown), strict=True))
    return said | {"legacy": shown[0], "new": shown[1], "marks": marks}


def _kind(legacy: str | None, new: str | None) -> str:
    if legacy is None or new is None:
        return (
            "absent or NULL in both" if legacy is new else f"absent or NULL in {'legacy' if legacy is None else 'new'}"
        )
    if legacy == new:
        return "alike as text, of another type"
    if not legacy or not new:
        return f"empty in {'new' if legacy else 'legacy'}"
    if legacy.strip() == new.strip():
        return "white space at an end"
    if " ".join(legacy.split()) == " ".join(new.split()):
        return "white space within"
    if legacy.casefold() == new.casefold():
        return "upper and lower case"
    if legacy.startswith(new) or new.startswith(legacy):
        return f"{'new' if legacy.startswith(new) else 'legacy'} ends earlier"
    return "another text" if _same(legacy, new) == 0 else "the text goes on differently"


def _first(legacy: str | None, new: str | None) -> int | None:
    return None if legacy is None or new is None or legacy == new else _same(legacy, new) + 1


def _marks(legacy: str, new: str) -> tuple[list[int], list[int]]:
    """Between what both texts, as they are shown, begin with and what both end with."""
    start = _same(legacy, new)
    ends = _same(legacy[start:][::-1], new[start:][::-1])
    return [start, len(legacy) - ends], [start, len(new) - ends]


def arguments(text: str, *, redact: bool) -> str:
    """A call's arguments; of redacted ones only the identifiers in them and the length remain."""
    if not redact:
        return _excerpt(text, None)
    keys = list(dict.fromkeys(_UUID.findall(text)))[:3]
    return f"‹{counted(len(text), 'character')}›" + "".join(f" {key}" for key in keys)


def visible(text: str) -> str:
    """The text with control characters, and those that turn its direction, as escapes."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _redacted(value: str | None, other: str | None) -> str:
    if value is None:
        return "absent or NULL"
    if not value:
        return "‹empty›"
    # A comparison keeps only an excerpt of a long answer; its length is not the answer's.
    cut = len(value) >= EXCERPT and (value.startswith("…") or value.endswith("…"))
    return f"‹{'an excerpt of ' if cut else ''}{counted(len(value), 'character')}{_where(value, other)}›"


def _where(value: str, other: str | None) -> str:
    if not other:
        return ""
    if value == other:
        return ", alike as text"
    same = _same(value, other)
    if same == len(value):
        return ", and the other goes on"
    return f", differs from character {count(same + 1)} on"


def _excerpt(value: str | None, other: str | None) -> str:
    """The text, or of a long one the part where the difference begins; what is left out is said."""
    if value is None:
        return "absent or NULL"
    start = max(0, _same(value, other or "") - _LEAD) if max(len(value), len(other or "")) > _WINDOW else 0
    if len(value) <= _WINDOW and not start:
        return visible(value) or "‹empty›"
    part = visible(value[start : start + _WINDOW])
    return f"{'…' if start else ''}{part}… ‹from character {count(start + 1)} of {count(len(value))}›"


def _same(value: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(value, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(value), len(other)))
