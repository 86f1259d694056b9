"""What others do with the same rows: pg_dump | psql and pgcopydb with the raw tables, reladiff with a given pair."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from adapters.postgres.literal import literal_sql
from adapters.postgres.pool import open_engine
from adapters.prompts import invented
from benchmarks.volume.bare import canonical_rows
from benchmarks.volume.legacy import table
from benchmarks.volume.place import Place, connection_environment
from benchmarks.volume.process import Lap, alone, piped
from harness.errors import CrossfadeError
from harness.routing import Store
from harness.settings import PoolSettings

PAIR = "crossfade_bench.canonical"


class Absent(CrossfadeError):
    """A peer that is not here, or cannot talk to this server: its row is left out, and why is said."""


def dump(place: Place) -> Lap:
    """``pg_dump --data-only | psql`` of the tenants' raw tables, keys and indexes in place."""
    pg_dump, psql = place.program("pg_dump"), place.program("psql")
    if pg_dump is None or psql is None:
        raise Absent("pg_dump and psql are not on PATH")
    with place.spare("raw") as raw:
        _empty_copy(place, raw)
        giving = [
            pg_dump,
            "--data-only",
            "--table=dispatch_organization_*.project",
            "--table=dispatch_organization_*.prompt",
        ]
        taking = [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        try:
            lap = piped(giving, taking, connection_environment(place.legacy), connection_environment(raw))
        except CrossfadeError as error:  # the server is newer than the programs on PATH, say
            raise Absent(str(error)) from error
        _expect_all(place, raw)
    return lap


def pgcopydb(place: Place) -> Lap:
    """``pgcopydb copy table-data`` of the tenants' raw tables, two at once; foreign keys come later."""
    program = shutil.which("pgcopydb")
    if program is None:
        raise Absent("pgcopydb is not on PATH (Debian has it as a package)")
    with place.spare("raw") as raw, tempfile.TemporaryDirectory() as directory:
        _empty_copy(place, raw)
        _drop_foreign_keys(place, raw)
        filters = Path(directory, "filters.ini")
        filters.write_text("[exclude-schema]\ncrossfade\ndispatch_core\n")
        path = os.environ.get("PATH", "")
        found = {
            "PATH": f"{place.tools}{os.pathsep}{path}" if place.tools else path,
            "PGCOPYDB_SOURCE_PGURI": place.legacy,
            "PGCOPYDB_TARGET_PGURI": raw,
        }
        command = [program, "copy", "table-data", "--table-jobs", "2", "--dir", str(Path(directory, "work"))]
        try:
            lap = alone([*command, "--filters", str(filters)], os.environ | found)
        except CrossfadeError as error:
            raise Absent(f"it cannot talk to this server: {str(error)[-200:]}") from error
        _expect_all(place, raw)
    return lap


def make_pair(place: Place) -> Lap:
    """Write legacy's canonical rows down as a table with a key, because reladiff cannot narrow a computed one."""
    began = time.monotonic()
    with psycopg.connect(place.legacy, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA crossfade_bench")
        statement = f"CREATE TABLE {PAIR} AS {literal_sql(canonical_rows(place))}"
        connection.execute(statement.encode())
        connection.execute(f"ALTER TABLE {PAIR} ADD PRIMARY KEY (id)".encode())
        connection.execute(f"VACUUM (ANALYZE) {PAIR}".encode())
    return Lap(time.monotonic() - began)


def drop_pair(place: Place) -> None:
    with psycopg.connect(place.legacy, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS crossfade_bench CASCADE")


def reladiff(place: Place) -> Lap:
    """reladiff by checksums over all columns, two threads for each database. The document says how many rows differ."""
    if find_spec("reladiff") is None or find_spec("psycopg2") is None:
        raise Absent("reladiff is not installed; pip install 'crossfade[bench]'")
    told = {"LEGACY": place.legacy, "NEW": place.new}
    lap = alone([sys.executable, "-m", "benchmarks.volume.reladiffed"], place.environment | told)
    return Lap(lap.seconds, json.loads(lap.document["said"]))


def _empty_copy(place: Place, url: str) -> None:
    """Dispatch's own tables, as legacy has them without us, and no rows."""
    engine = open_engine(url, Store.LEGACY, PoolSettings(), application="crossfade-benchmark", statement_seconds=0)
    try:
        volume = place.volume
        invented.create(engine, volume.seed, organizations=volume.organizations, projects=0, odd=False)
    finally:
        engine.dispose()


def _drop_foreign_keys(place: Place, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for slug in place.volume.slugs:
            drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT prompt_project_id_fkey")
            connection.execute(drop.format(table(slug, "prompt")))


def _expect_all(place: Place, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        found = 0
        for slug in place.volume.slugs:
            count = sql.SQL("SELECT count(*) FROM {}")
            row = connection.execute(count.format(table(slug, "prompt"))).fetchone()
            found += row[0] if row else 0
    assert found == place.volume.prompts, found
