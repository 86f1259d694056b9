"""Settings read: ``crossfade.toml`` overlaid by the environment. Unknown keys are errors."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from harness.errors import ConfigError
from harness.settings import Settings

DEFAULT_FILE = "crossfade.toml"


def load(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Settings from a file and the environment; the environment wins.

    ``path`` None means ``crossfade.toml`` in the working directory if there is one. Raises ConfigError naming the
    file and the key for a file that is missing, is no TOML, or holds an unknown key or an unfit value.
    """
    document = _read(path)
    for section, name, url in (
        ("legacy", "url", _legacy_url(environment)),
        ("new", "url", _new_url(environment)),
        ("gates", "prometheus_url", environment.get("CROSSFADE_PROMETHEUS_URL")),
    ):
        if url and isinstance(document.setdefault(section, {}), dict):
            document[section][name] = url
    try:
        return TypeAdapter(Settings).validate_python(document)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from None  # the error's input may hold a password


def _read(path: Path | None) -> dict[str, Any]:
    chosen = path or Path(DEFAULT_FILE)
    if path is None and not chosen.exists():
        return {}
    try:
        return tomllib.loads(chosen.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings in {chosen}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{chosen} is not valid TOML: {error}") from error


def _explain(error: ValidationError, path: Path | None) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        unknown = problem["type"] in {"unexpected_keyword_argument", "extra_forbidden"}
        lines.append(f"unknown setting {key}" if unknown else f"{key}: {problem['msg']}")
    return f"{path or DEFAULT_FILE}: " + "; ".join(lines) + ". See docs/configuration.md"


def _legacy_url(environment: Mapping[str, str]) -> str:
    """CROSSFADE_LEGACY_URL, else built from Dispatch's own variables."""
    if url := environment.get("CROSSFADE_LEGACY_URL"):
        return url
    if not (host := environment.get("DATABASE_HOSTNAME")):
        return ""
    user, _, password = environment.get("DATABASE_CREDENTIALS", "").partition(":")
    return _url(
        user,
        password,
        host,
        environment.get("DATABASE_PORT", "5432"),
        environment.get("DATABASE_NAME", "dispatch"),
    )


def _new_url(environment: Mapping[str, str]) -> str:
    """CROSSFADE_NEW_URL, else built from Prompt Manager's own variables."""
    if url := environment.get("CROSSFADE_NEW_URL"):
        return url
    if not (host := environment.get("POSTGRES_HOST")):
        return ""
    return _url(
        environment.get("POSTGRES_USER", "postgres"),
        environment.get("POSTGRES_PASSWORD", ""),
        host,
        environment.get("POSTGRES_PORT", "5432"),
        environment.get("POSTGRES_DB", "postgres"),
    )


def _url(user: str, password: str, host: str, port: str, database: str) -> str:
    account = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return f"postgresql://{account}{'@' if account else ''}{host}:{port}/{quote(database, safe='')}"
