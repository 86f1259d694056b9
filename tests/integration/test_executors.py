"""Chunks on a Dask cluster: a real scheduler and two worker processes."""

from __future__ import annotations

import pickle
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from command import crossfade, document, environment
from copying import assert_equal, copied_ranges, fill, held_up, hold_up, waits
from fix_postgres import Databases, until
from fix_stores import Migration, create_tenants, migration_between

from adapters.executors.dask import cluster
from adapters.prompts.remote import RemoteCopy
from harness.backfill import Chunk
from harness.cli.backfill import backfill_stores
from harness.errors import ConfigError, InvalidRecord
from harness.settings import LegacySettings, NewSettings, Settings

pytest.importorskip("distributed", reason="the extra dask is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Dask's and its libraries' own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@contextmanager
def workers_for(settings: Settings, monkeypatch: pytest.MonkeyPatch, **more: str) -> Iterator[Any]:
    """Two worker processes that know the settings' stores from their environment."""
    from distributed import LocalCluster

    for name, value in environment(settings, **more).items():
        monkeypatch.setenv(name, value)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1", silence_logs=False
    ) as found:
        found.wait_for_workers(2, timeout=60)
        yield found


def address_of(dask: Any) -> str:
    return str(dask.scheduler_address).replace("tcp://", "dask://")


def test_a_cluster_copies(migration: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command gives every chunk to the cluster, both of whose processes copy; each row arrives once."""
    fill(migration, rows=400)
    migration.prepare()
    settings = migration.app.settings
    hold_up(migration, "crossfade.chunk", "BEFORE UPDATE")
    with workers_for(settings, monkeypatch) as dask, ThreadPoolExecutor(1) as pool:
        arguments = ("backfill", "--executor", address_of(dask), "--chunk-rows", "20", "--json")
        with held_up(migration):
            running = pool.submit(crossfade, settings, *arguments)
            until(lambda: waits(migration) == 2)
        done = running.result()
    assert done.returncode == 0, done.stderr
    said = document(done)
    assert (said["copied"], said["quarantined"], said["finished"]) == (280, 120, True)
    assert_equal(migration)


def test_a_worker_that_dies(migration: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes are killed in the middle of a chunk: others take their chunks over, each row arrives once."""
    fill(migration, rows=200)
    migration.prepare()
    with workers_for(migration.app.settings, monkeypatch, CROSSFADE_FAILPOINTS="backfill.before_commit=kill@6") as dask:
        before = set(dask.scheduler.workers)
        done = backfill_stores(migration.app, migration.stores, 10, executor=address_of(dask))
        assert before - set(dask.scheduler.workers)
    assert (done["copied"], done["already_there"], done["quarantined"]) == (140, 0, 60)
    assert_equal(migration)


def test_a_chunk_that_fails_there(migration: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's error comes back as what it is, with part and keys in front, and ends the command."""
    fill(migration, rows=50)
    migration.prepare()
    migration.behind("ALTER TABLE prompts ADD CONSTRAINT refused CHECK (content <> 'text 14')")
    named = pytest.raises(InvalidRecord, match=r"acme, keys 33 to 6\d: new: the rule refused")
    with workers_for(migration.app.settings, monkeypatch) as dask, named:
        backfill_stores(migration.app, migration.stores, 10, executor=address_of(dask))
    assert 0 < len(copied_ranges(migration)) < 5


def test_workers_of_another_migration(
    migration: Migration, monkeypatch: pytest.MonkeyPatch, prepared: Databases
) -> None:
    """Workers whose environment names other stores copy nothing, and say so."""
    fill(migration, rows=50)
    migration.prepare()
    with migration_between(prepared) as other:
        with other.stores.legacy.begin() as connection:
            create_tenants(connection)
        other.prepare()
        named = pytest.raises(ConfigError, match="another migration")
        with workers_for(other.app.settings, monkeypatch) as dask, named:
            backfill_stores(migration.app, migration.stores, executor=address_of(dask))
        assert other.new_sql("SELECT count(*) FROM prompts")[0][0] == 0


def test_no_secret_travels(databases: Databases) -> None:
    """What is sent to a scheduler with each chunk holds no address and no password, in bytes or in words."""
    legacy, new = (url.replace("postgres:@", "postgres:hush@") for url in (databases.legacy_url, databases.new_url))
    settings = Settings(legacy=LegacySettings(url=legacy, time_zone="Europe/Berlin"), new=NewSettings(url=new))
    copy = RemoteCopy.of(settings, "drawn")
    sent = pickle.dumps((copy, Chunk("acme", 1, 2)))
    assert b"hush" not in sent
    assert b"postgresql" not in sent
    assert "postgresql" not in repr(copy)
    assert pickle.loads(sent) == (copy, Chunk("acme", 1, 2))  # noqa: S301 - we have just made it
    assert copy.settings.legacy.time_zone == "Europe/Berlin"


def test_nobody_at_the_address(prepared_migration: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that does not answer, or has no worker, is a wrong setting and is known as such in seconds."""
    monkeypatch.setattr("adapters.executors.dask._SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"dask://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConfigError, match=address):
            backfill_stores(prepared_migration.app, prepared_migration.stores, executor=address)
    with pytest.raises(ConfigError, match=address):
        backfill_stores(prepared_migration.app, prepared_migration.stores, executor=address)
    done = crossfade(prepared_migration.app.settings, "backfill", "--executor", "dask:127.0.0.1")
    assert (done.returncode, "dask://HOST:PORT" in done.stderr) == (2, True), done.stderr


def test_a_scheduler_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are not left lying at a scheduler that has nobody to give them to."""
    from distributed import LocalCluster

    monkeypatch.setattr("adapters.executors.dask._SECONDS", 1.0)
    nobody = LocalCluster(n_workers=0, dashboard_address=":0", host="127.0.0.1", silence_logs=False)
    with nobody, pytest.raises(ConfigError, match="no worker"), cluster(address_of(nobody)):
        pass


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Dask is not installed, the message says how to install it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"crossfade\[dask\]"), cluster("dask://127.0.0.1:1"):
        pass
