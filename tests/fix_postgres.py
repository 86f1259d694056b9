"""A real PostgreSQL for every test that needs one: embedded, or the server that CROSSFADE_TEST_URL names."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, make_url

from adapters.postgres.embedded import EmbeddedServer
from adapters.postgres.ledger.opening import open_ledger
from adapters.postgres.migrations import upgrade
from adapters.postgres.pool import open_engine
from harness.routing import Store
from harness.settings import PoolSettings

POOL = PoolSettings()
_ROOM = 4 * 2**30  # bytes; a server of the tests never holds more than a part of that


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that is bound to come true; fail after half a minute."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        threading.Event().wait(0.01)


@dataclass
class Server:
    """Where the tests' databases are made. ``embedded`` is None when the server was named by CROSSFADE_TEST_URL."""

    admin_url: str
    embedded: EmbeddedServer | None = None
    strategy: str = ""
    prefix: str = field(default_factory=lambda: f"crossfade_test_{uuid.uuid4().hex[:8]}")
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        return make_url(self.admin_url).set(database=database).render_as_string(hide_password=False)

    def create(self, name: str, template: str = "template1") -> str:
        """A new database as a copy of the template, under a name that no other run uses; its URL."""
        database = f"{self.prefix}_{next(self.numbers)}_{name}"
        self._run(f"CREATE DATABASE {{}} TEMPLATE {{}} {self.strategy}", database, template)
        return self.url(database)

    def drop(self, url: str) -> None:
        database = make_url(url).database or ""
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
        self._run("DROP DATABASE IF EXISTS {}", database)

    def _run(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    @contextmanager
    def database(self, name: str, template: str = "template1") -> Iterator[str]:
        url = self.create(name, template)
        try:
            yield url
        finally:
            self.drop(url)


class Databases:
    """The two databases of one test, each made when it is first asked for, from the template given for it."""

    def __init__(self, stack: ExitStack, server: Server, templates: dict[Store, str] | None = None) -> None:
        self._stack, self._server, self._templates = stack, server, templates or {}

    @cached_property
    def legacy_url(self) -> str:
        return self._make(Store.LEGACY)

    @cached_property
    def new_url(self) -> str:
        return self._make(Store.NEW)

    def _make(self, store: Store) -> str:
        template = self._templates.get(store, "template1")
        return self._stack.enter_context(self._server.database(store.value, template))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    if url := os.environ.get("CROSSFADE_TEST_URL"):
        yield Server(url)
        return
    with _quick_place() as place, EmbeddedServer(place) as embedded:
        yield Server(embedded.url(), embedded, _fastest_copy(embedded.url()))


@contextmanager
def _quick_place() -> Iterator[Path]:
    """Where a server's files go: into memory, where there is enough of it; copying databases is what tests wait for."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM
    with tempfile.TemporaryDirectory(prefix="crossfade-", dir=memory if roomy else None) as place:
        yield Path(place)


def _fastest_copy(admin_url: str) -> str:
    """How a database is copied in the shortest time: by clones of its files, where server and file system can."""
    with psycopg.connect(admin_url, autocommit=True) as admin:
        if admin.info.server_version < 180000:
            return ""
        try:
            admin.execute("SET file_copy_method = clone")
            admin.execute("CREATE DATABASE crossfade_clone TEMPLATE template1 STRATEGY file_copy")
        except psycopg.Error:
            return ""
        admin.execute("DROP DATABASE crossfade_clone")
        admin.execute("ALTER SYSTEM SET file_copy_method = clone")
        admin.execute("SELECT pg_reload_conf()")
    return "STRATEGY file_copy"


@pytest.fixture
def databases(server: Server) -> Iterator[Databases]:
    """Two empty databases."""
    with ExitStack() as stack:
        yield Databases(stack, server)


@contextmanager
def engine_for(url: str, store: Store) -> Iterator[Engine]:
    engine = open_engine(url, store, POOL, application="crossfade-test")
    try:
        yield engine
    finally:
        engine.dispose()


@pytest.fixture
def legacy_engine(databases: Databases) -> Iterator[Engine]:
    with engine_for(databases.legacy_url, Store.LEGACY) as engine:
        yield engine


@pytest.fixture
def new_engine(databases: Databases) -> Iterator[Engine]:
    with engine_for(databases.new_url, Store.NEW) as engine:
        yield engine


@pytest.fixture(scope="session")
def prepared_templates(server: Server) -> Iterator[dict[Store, str]]:
    """The names of databases to copy for ``prepared``: a copy is made faster than a migration runs."""
    with ExitStack() as stack:
        names = {}
        for store in Store:
            url = stack.enter_context(server.database(f"{store}_template"))
            names[store] = make_url(url).database or ""
            with engine_for(url, store) as engine:
                upgrade(engine, store.value)
                if store is Store.NEW:
                    open_ledger(engine, actor="test", salt="salt")
        yield names


@pytest.fixture
def prepared(server: Server, prepared_templates: dict[Store, str]) -> Iterator[Databases]:
    """Two databases with all revisions applied and the ledger opened (IDLE, salt "salt"); nothing is captured."""
    with ExitStack() as stack:
        yield Databases(stack, server, prepared_templates)


@pytest.fixture
def prepared_legacy(prepared: Databases) -> Iterator[Engine]:
    with engine_for(prepared.legacy_url, Store.LEGACY) as engine:
        yield engine


@pytest.fixture
def prepared_new(prepared: Databases) -> Iterator[Engine]:
    with engine_for(prepared.new_url, Store.NEW) as engine:
        yield engine


def recordings_place() -> Path:
    """Where recordings of the real legacy system are, if they are."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "dispatch"
    return Path(os.environ.get("CROSSFADE_RECORDINGS", beside))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recordings; tests that take it are to be marked ``real``."""
    return recordings_place()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = recordings_place()
    if not place.is_dir():
        absent = pytest.mark.skip(reason=f"no recordings of the legacy system in {place}")
        for item in items:
            if item.get_closest_marker("real"):
                item.add_marker(absent)
