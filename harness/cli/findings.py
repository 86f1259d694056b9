"""Differing rows, for people and for scripts; what people wrote is left out unless asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cli.files import written_at_once
from harness.records import RowDifference

_PROSE = {"name", "description", "content", "system_message"}  # what people wrote; the other fields tell no secret


def shown(field: str, text: str | None, show_values: bool) -> str | None:
    """The value, or of what people wrote only its length."""
    return text if show_values or text is None or field not in _PROSE else f"‹{len(text)} characters›"


def example(difference: RowDifference, show_values: bool) -> dict[str, object]:
    """A differing row as a document."""
    return {
        "key": difference.key,
        "scope": difference.scope,
        "kind": difference.kind.value,
        "fields": [
            {
                "field": f.field,
                "legacy": shown(f.field, f.legacy, show_values),
                "new": shown(f.field, f.new, show_values),
            }
            for f in difference.fields
        ],
    }


@dataclass(frozen=True, slots=True)
class Findings:
    """A file of all differing rows. ``add`` is None where none was asked for."""

    add: Callable[[RowDifference], None] | None = None

    @staticmethod
    @contextmanager
    def to(path: Path | None, show_values: bool) -> Iterator[Findings]:
        """Write to the file, one JSON document for each row; it appears when the block ends well, and not before.

        Raises ConfigError for a place that cannot be written to, before any work is done.
        """
        if path is None:
            yield Findings()
            return
        with written_at_once(path) as file:

            def add(difference: RowDifference) -> None:
                file.write(json.dumps(example(difference, show_values), ensure_ascii=False) + "\n")

            yield Findings(add)
