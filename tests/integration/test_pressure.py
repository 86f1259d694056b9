"""How far replicas are behind, as a real standby and a slot without one show it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from fix_postgres import POOL, until
from sqlalchemy import Engine, make_url, text

from adapters.postgres.embedded import EmbeddedServer
from adapters.postgres.pool import open_engine
from adapters.postgres.pressure import ReplicaPressure
from harness.routing import Store


@pytest.fixture(scope="module")
def leading() -> Iterator[EmbeddedServer]:
    """A server of its own: slots and standbys are the whole server's."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture(scope="module")
def standby(leading: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """A server that follows the leading one."""
    place = Path(tempfile.mkdtemp(prefix="crossfade-"))  # not below pytest's own, which only its user may enter
    data, ours = place / "data", leading.directory / "data"
    copy = [str(leading.bin_path / "pg_basebackup"), "-D", str(data), "-R", "-c", "fast", "-d", leading.url()]
    subprocess.run(copy, check=True, capture_output=True, timeout=60)
    for path in (data, *data.rglob("*")):  # as root the servers run as another user
        os.chown(path, ours.stat().st_uid, ours.stat().st_gid)
    place.chmod(0o755)
    (data / ".s.PGSQL.5432.lock").unlink(missing_ok=True)  # the other one's, which was copied along
    try:
        with EmbeddedServer(place) as server:
            yield server
    finally:
        shutil.rmtree(place)


@pytest.fixture
def engine(leading: EmbeddedServer) -> Iterator[Engine]:
    with closing(_Engine(leading.url())) as opened:
        yield opened.engine


class _Engine:
    def __init__(self, url: str) -> None:
        self.engine = open_engine(url, Store.LEGACY, POOL, application="crossfade-test")

    def close(self) -> None:
        self.engine.dispose()


def write(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS filler (said text)"))
        connection.execute(text("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 1000)"))


def test_a_server_without_replicas(engine: Engine) -> None:
    """There is nothing to wait for, and nothing to say."""
    assert list(ReplicaPressure(engine, Store.LEGACY).lags()) == []


def test_a_standby_that_does_not_keep_up(engine: Engine, standby: EmbeddedServer) -> None:
    """While its replay stands still it is further behind with every write, in bytes and in time; then no longer."""
    pressure = ReplicaPressure(engine, Store.LEGACY)
    until(lambda: len(list(pressure.lags())) == 1)
    with psycopg.connect(standby.url(), autocommit=True) as follower:
        follower.execute("SELECT pg_wal_replay_pause()")
        write(engine)
        until(lambda: pressure.lags()[0].bytes > 500_000 and pressure.lags()[0].seconds > 0)
        [lag] = pressure.lags()
        assert lag.replica.endswith(" of legacy")
        assert lag.note == ""
        follower.execute("SELECT pg_wal_replay_resume()")
    until(lambda: pressure.lags()[0].bytes == 0)


def test_a_slot_that_nobody_reads(engine: Engine) -> None:
    """What it keeps back counts in bytes, and only where slots are asked for."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_create_physical_replication_slot('left_alone', true)"))
    try:
        write(engine)
        [lag] = [lag for lag in ReplicaPressure(engine, Store.LEGACY).lags() if "slot" in lag.replica]
        assert (lag.replica, lag.seconds) == ("slot left_alone of legacy", 0.0)
        assert lag.bytes > 500_000
        assert not [
            lag for lag in ReplicaPressure(engine, Store.LEGACY, with_slots=False).lags() if "slot" in lag.replica
        ]
    finally:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_drop_replication_slot('left_alone')"))


def test_a_user_who_may_not_look(engine: Engine, leading: EmbeddedServer, standby: EmbeddedServer) -> None:
    """Without pg_monitor the replica is there and says nothing: that is noted, with what to do. With it, it tells."""
    until(lambda: bool(ReplicaPressure(engine, Store.LEGACY).lags()))
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE onlooker LOGIN"))
    url = make_url(leading.url()).set(username="onlooker").render_as_string(hide_password=False)
    with closing(_Engine(url)) as other:
        pressure = ReplicaPressure(other.engine, Store.LEGACY)
        [lag] = pressure.lags()
        assert "grant it pg_monitor" in lag.note
        assert (lag.seconds, lag.bytes) == (0.0, 0)
        with engine.begin() as connection:
            connection.execute(text("GRANT pg_monitor TO onlooker"))
        [lag] = pressure.lags()
        assert lag.note == ""
