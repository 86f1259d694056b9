"""The checksum of a report: SHA-256 over its model as canonical JSON, so that anybody can tell a changed copy.

Canonical: keys sorted, no spaces, every character beyond ASCII escaped, without the key ``checksum`` itself. It shows
that a copy is not what was written; who wrote it, it does not show: whoever changes a report can change it too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, MismatchFound
from reports.redaction import visible

KEY = "checksum"
_BYTES = 64_000_000


def checksum(model: Mapping[str, Any]) -> str:
    """64 hexadecimal digits."""
    said = {key: value for key, value in model.items() if key != KEY}
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def checked(path: Path) -> str:
    """The checksum of the report's JSON file, which is what the file says of itself.

    Raises ConfigError for what is no report, MismatchFound for one that was changed.
    """
    no_report = f"{path} is no report that crossfade report wrote; give the file that ends in .json"
    try:
        if path.stat().st_size > _BYTES:
            raise ConfigError(no_report)
        model = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(no_report) from error
    if not isinstance(model, dict) or not isinstance(model.get(KEY), str):
        raise ConfigError(no_report)
    try:
        found = checksum(model)
    except (ValueError, RecursionError) as error:  # NaN, which no report holds
        raise ConfigError(no_report) from error
    if found != model[KEY]:
        raise MismatchFound(
            f"{path} is not what was written: it says checksum {visible(model[KEY][:64])}, and its data has {found}; "
            "write the report anew with crossfade report"
        )
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError for a key given twice: the checksum would see the last one, and a person the first."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found
