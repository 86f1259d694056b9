"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from harness.errors import ConfigError


@contextmanager
def written_at_once(path: Path) -> Iterator[TextIO]:
    """A file to write to, which stands at ``path`` when the block ends well; else what was there stays.

    Readable by its owner alone: rows of a store may be in it. Raises ConfigError where nothing can be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another place") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # the name must not be durable before the content is
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)
