"""Verify between two major versions of PostgreSQL, one of them perhaps older than what the quick digests need."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fix_postgres import Databases, Server
from fix_stores import create_tenants, migration_between
from sqlalchemy import make_url

from adapters.postgres.digest import TableSide
from adapters.postgres.pool import check_server
from harness.records import Verdict
from harness.routing import Store

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture(scope="module")
def other_server() -> Iterator[Server]:
    """A PostgreSQL that the system's packages have installed, beside the embedded one."""
    if not INSTALLED:
        pytest.skip("no second PostgreSQL is installed (Debian keeps them in /usr/lib/postgresql)")
    with tempfile.TemporaryDirectory(prefix="crossfade-other-") as folder:
        directory = Path(folder)
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
        run(INSTALLED[0], "--auth=trust", "--encoding=UTF8", "-U", "postgres", "-D", f"{folder}/data")
        control = INSTALLED[0].with_name("pg_ctl")
        options = f"-h '' -k '{folder}' -c fsync=off"
        run(control, "-w", "-D", f"{folder}/data", "-l", f"{folder}/log", "-o", options, "start")
        try:
            url = make_url("postgresql://postgres@/").set(database="postgres", query={"host": folder})
            yield Server(url.render_as_string(hide_password=False))
        finally:
            run(control, "-w", "-D", f"{folder}/data", "-m", "immediate", "stop")


def run(program: Path, *arguments: str) -> None:
    """PostgreSQL does not run as root."""
    before = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run(
        [*before, str(program), *arguments],
        check=True,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )


@pytest.mark.parametrize("quick", [True, False])
def test_two_versions_agree(
    server: Server, other_server: Server, monkeypatch: pytest.MonkeyPatch, *, quick: bool
) -> None:
    """What two versions say of equal rows is equal, what differs is found; by the old digests as by the quick ones."""
    if not quick:
        monkeypatch.setattr(TableSide, "is_quick", lambda _: False)
    with ExitStack() as stack:
        databases = Databases(stack, server)
        databases.legacy_url = stack.enter_context(other_server.database("legacy"))
        migration = stack.enter_context(migration_between(databases))
        stores = migration.stores
        versions = [check_server(stores.engine(store), store) for store in Store]
        assert versions[0] != versions[1], "install another version, or leave CROSSFADE_TEST_URL out"
        with stores.legacy.begin() as connection:
            create_tenants(connection)
        texts = ["Zürich ﬀ ñ ñ", "a\tb\r\n", "NULL", " trailing ", '"quoted", \\ and (more)', "𝔘𝔫𝔦 \u200b"]
        for project, text in enumerate(texts, start=1):
            migration.prompt("umbra", project, 99, genai_prompt=text, genai_system_message=text[::-1] or None)
            migration.prompt("acme", project, 5, created_at=None, enabled=True)
        migration.prompt("acme", None)
        migration.prepare()
        migration.backfill()
        found = migration.verify()
        assert (found.verdict, found.compared, found.quarantined, found.transient) == (Verdict.PASS, 12, 1, 0)
        migration.behind("UPDATE prompts SET system_message = system_message || ' ' WHERE content = 'NULL'")
        found = migration.verify()
        assert [[field.field for field in row.fields] for row in found.examples] == [["system_message"]]
