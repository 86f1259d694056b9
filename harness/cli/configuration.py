"""Every setting with its default and meaning, as a TOML file to start from and as a page of the documentation."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from harness.promql import PrometheusSettings
from harness.settings import RuleSettings, Settings

_HEAD = """\
# Crossfade's settings. Each line shows the default; take away the # to change it.
# The databases' addresses hold passwords: give them in the environment, as CROSSFADE_LEGACY_URL and CROSSFADE_NEW_URL.
"""
_RULE = """
# [[compare.rules]]
# name = "stamps-in-milliseconds"
# field = "updated_at"
# action = "tolerance"
# tolerance = 0.001
# reason = "the clients round stamps to milliseconds"

# [[gates.prometheus]]
# name = "connections"
# query = "max(pg_stat_activity_count)"
# max = 80.0
# url = "http://localhost:9090"
"""


def settings_of(section: Any) -> Iterator[tuple[str, Any, str]]:
    """Name, default and meaning of each setting of a section's class."""
    for name, field in section.__pydantic_fields__.items():
        info: FieldInfo = field
        yield name, info.default, info.description or ""


def sections() -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(Settings):
        yield field.name, type(getattr(Settings(), field.name))


def as_toml() -> str:
    """A settings file in which everything is commented out."""
    lines = [_HEAD]
    for section, kind in sections():
        lines.append(f"[{section}]")
        for name, default, meaning in settings_of(kind):
            if name in {"url", "rules", "prometheus"}:
                continue
            lines += textwrap.wrap(meaning, 110, initial_indent="# ", subsequent_indent="# ")
            lines.append(f"# {name} = {_toml(default)}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n" + _RULE


def as_markdown() -> str:
    """The tables of docs/configuration.md."""
    out = []
    for section, kind in [
        *sections(),
        ("[compare.rules]", RuleSettings),
        ("[gates.prometheus]", PrometheusSettings),
    ]:
        out.append(f"### `[{section}]`\n\n| setting | default | meaning |\n| --- | --- | --- |")
        for name, default, meaning in settings_of(kind):
            shown = "required" if repr(default) == "PydanticUndefined" else f"`{_toml(default)}`"
            out.append(f"| `{name}` | {shown} | {meaning} |")
        out.append("")
    return "\n".join(out)


def _toml(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f"{value}"
