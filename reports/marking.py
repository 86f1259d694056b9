"""Markdown's own: texts that are not read as markup, and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# Within a word an underscore is itself.
_SPECIAL = re.compile(r"[\\`*\[\]#|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def plain(text: object) -> str:
    """Text that Markdown must not read as markup, on one line."""
    line = _SPECIAL.sub(r"\\\g<0>", " ".join(str(text).split()))
    return "".join(_ENTITIES.get(character, character) for character in line)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> Iterator[str]:
    """Cells must be plain already; columns from ``numbers_from`` on are numbers."""
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---:' if place >= numbers_from else '---' for place, _ in enumerate(heads))} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def texts(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    return table(heads, [[plain(cell) for cell in row] for row in rows], numbers_from=len(heads))
