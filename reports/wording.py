"""How the report's numbers and stamps are worded: filters that the template and the Markdown share."""

from __future__ import annotations

from datetime import datetime

from harness.evidence import count, duration

NONE = "–"


def stamp(text: str) -> str:
    """An ISO stamp in UTC, to the second."""
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"


def seconds(value: float | None) -> str:
    return NONE if value is None else duration(value)


def number(value: float | None) -> str:
    """A ratio to two places."""
    return NONE if value is None else f"{value:.2f}"


def whole(value: int | None) -> str:
    return NONE if value is None else count(value)


def nothing_or(looked_at: int, found_none: str, not_looked: str) -> str:
    """What an empty list means: "none" is said only of what was looked at."""
    return found_none if looked_at else not_looked
