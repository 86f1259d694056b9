"""YAML of what we write: mappings, lists, texts, numbers and truth values, in their own order."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "Mapping[str, Value] | Sequence[Value] | str | int | float | bool"

_PLAIN = re.compile(r"[A-Za-z/][\w./-]*( [\w./-]+)*")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def dump(value: Mapping[str, Value]) -> str:
    """The document. Texts of several lines are written as such, without a newline at their end."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Value) -> list[str]:
    """The lines of a mapping or a list that is not empty."""
    found = []
    if isinstance(value, Mapping):
        for name, each in value.items():
            found += _entry(f"{_scalar(name)}:", each)
    elif isinstance(value, Sequence):
        for each in value:
            first, *rest = _lines(each) if _nested(each) else [_scalar(each)]
            found += [f"- {first}", *(f"  {line}" for line in rest)]
    return found


def _entry(head: str, value: Value) -> list[str]:
    if _nested(value):
        return [head, *(f"  {line}" for line in _lines(value))]
    if isinstance(value, str) and "\n" in value:
        return [f"{head} |-", *(f"  {line}".rstrip() for line in value.split("\n"))]
    return [f"{head} {_scalar(value)}"]


def _nested(value: Value) -> bool:
    return not isinstance(value, str) and isinstance(value, Mapping | Sequence) and bool(value)


def _scalar(value: Value) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
