"""``python -m benchmarks.volume.reladiffed``: reladiff over the pair, by its Python interface; prints what it found.

The databases are named by the environment, LEGACY and NEW, so that no password stands among arguments.
"""

from __future__ import annotations

import json
import os
from typing import Any

import reladiff
from psycopg.conninfo import conninfo_to_dict

from adapters.prompts.canonical import COLUMNS

PAIR = ("crossfade_bench", "canonical")
THREADS = 2


def main() -> None:
    """Compare all columns by checksums, and count the rows that differ."""
    tables = [
        reladiff.connect_to_table(_named("LEGACY"), PAIR, "id", THREADS),
        reladiff.connect_to_table(_named("NEW"), ("public", "prompts"), "id", THREADS),
    ]
    rest = tuple(name for name in COLUMNS if name != "id")
    found = reladiff.diff_tables(
        *tables,
        extra_columns=rest,
        algorithm=reladiff.Algorithm.HASHDIFF,
        max_threadpool_size=2 * THREADS,
        skip_sort_results=True,
    )
    print(json.dumps({"rows": len({row[0] for _, row in found})}))


def _named(name: str) -> dict[str, Any]:
    """The address as reladiff's driver reads it."""
    return dict(conninfo_to_dict(os.environ[name])) | {"driver": "postgresql"}


if __name__ == "__main__":
    main()
