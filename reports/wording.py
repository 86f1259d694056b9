"""How the report's numbers, stamps and texts are worded, in the model and in its renderings."""

from __future__ import annotations

from datetime import UTC, datetime

from harness.words import count, counted, duration, share
from reports.redaction import visible

NONE = "–"
_LONG = 500


def stamp(text: str) -> str:
    """An ISO stamp in UTC, to the second."""
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"


def seconds(value: float | None) -> str:
    return NONE if value is None else duration(value)


def rate(value: float | None) -> str:
    """A share of 0 to 1 as a percentage."""
    return NONE if value is None else share(value)


def number(value: float | None) -> str:
    """A ratio to two places."""
    return NONE if value is None else f"{value:.2f}"


def whole(value: int | None) -> str:
    return NONE if value is None else count(value)


def nothing_or(looked_at: int, found_none: str, not_looked: str) -> str:
    """What an empty list means: "none" is said only of what was looked at."""
    return found_none if looked_at else not_looked


def readable(text: str, most: int = _LONG) -> str:
    """A text that is no row's content: shown whole, unless it is longer than anybody reads; then that is said."""
    shown = visible(text)
    return shown if len(shown) <= most else f"{shown[:most]}… ‹{counted(len(shown), 'character')} in all›"


def iso(at: datetime) -> str:
    """A stamp as the model has it."""
    return at.astimezone(UTC).isoformat()
