"""Where volume is measured: a server, a filled legacy database, and new as ``prepare`` leaves it, again and again."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from rich.console import Console
from sqlalchemy import make_url

from adapters.postgres.embedded import EmbeddedServer
from adapters.prompts.migration import opened
from benchmarks.volume.legacy import Volume, disk_needed, fill
from harness.cli.app import App
from harness.cli.prepare import prepare_stores
from harness.errors import Refused
from harness.settings import LegacySettings, NewSettings, Settings

# What the documentation of PostgreSQL asks for where more than a demo is served; the rest stays as it is by default.
_SERVER_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "log_min_messages": "fatal",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Databases of one benchmark. ``tools``: where programs of the server's version are, if not on PATH."""

    admin: str
    legacy: str
    new: str
    template: str
    tools: Path | None
    volume: Volume

    @property
    def settings(self) -> Settings:
        return Settings(legacy=LegacySettings(url=self.legacy), new=NewSettings(url=self.new))

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with the stores' addresses."""
        return os.environ | {"CROSSFADE_LEGACY_URL": self.legacy, "CROSSFADE_NEW_URL": self.new}

    def renew(self) -> None:
        """Put new back to where ``prepare`` left it, with nothing copied, and the server to rest."""
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(_database(self.new)))
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(statement.format(_database(self.new), sql.Identifier(self.template)))
            connection.execute("CHECKPOINT")

    def settle(self) -> None:
        """Make what was written durable, so that the next to be measured does not pay for it."""
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    @contextmanager
    def spare(self, name: str) -> Iterator[str]:
        """One more database, empty, for as long as the block lasts; its address."""
        url = _named(self.admin, f"{self.template}_{name}")
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(_database(url)))
            try:
                yield url
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(_database(url)))

    def program(self, name: str) -> str | None:
        """The path of a program of PostgreSQL's; None where there is none."""
        return shutil.which(name, path=str(self.tools) if self.tools else None)


def connection_environment(url: str) -> dict[str, str]:
    """The address as programs of PostgreSQL's read it, so that no password stands among their arguments."""
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    return os.environ | {names[key]: str(value) for key, value in conninfo_to_dict(url).items() if key in names}


@contextmanager
def placed(volume: Volume, log: Console) -> Iterator[Place]:
    """A filled and prepared migration, on the server CROSSFADE_TEST_URL names, or on an embedded one.

    Raises Refused where the disk has no room for it.
    """
    with ExitStack() as stack:
        admin, tools, directory = os.environ.get("CROSSFADE_TEST_URL", ""), None, None
        if not admin:
            server = stack.enter_context(EmbeddedServer())
            directory = server.directory
            require_room(volume, directory, log)
            admin, tools = _tuned(server), server.bin_path
        name = f"crossfade_bench_{uuid.uuid4().hex[:8]}"
        template = f"{name}_prepared"
        place = Place(admin, _named(admin, f"{name}_legacy"), _named(admin, f"{name}_new"), template, tools, volume)
        with psycopg.connect(admin, autocommit=True) as connection:
            for database in (_database(place.legacy), _database(place.new)):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
            stack.callback(_drop, admin, (place.legacy, place.new, _named(admin, template)))
            _prepare(place, log)
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(_database(place.new), sql.Identifier(template))
            )
        place.renew()
        yield place


def _prepare(place: Place, log: Console) -> None:
    app = App(place.settings, True, Console(file=StringIO()), log)
    with opened(place.settings, bulk=True, application="crossfade-benchmark") as stores:
        fill(stores.legacy, place.legacy, place.volume)
        prepare_stores(app, stores, id_index=True, reason="a benchmark")


def _tuned(server: EmbeddedServer) -> str:
    """Its address, once it runs with settings such as a production server has."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for name, value in _SERVER_SETTINGS.items():
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
    server.stop()
    server.start()
    return server.url()


def require_room(volume: Volume, directory: Path, log: Console) -> None:
    """Say how much disk is needed and how much there is. Raises Refused if that is less."""
    need, free = disk_needed(volume.prompts), shutil.disk_usage(directory).free
    log.print(f"{volume.prompts:,} prompts need about {need / 1e9:.1f} GB of disk; {free / 1e9:.1f} GB are free")
    if need > free:
        raise Refused(
            f"{volume.prompts:,} prompts need about {need / 1e9:.1f} GB of disk, and {directory} has "
            f"{free / 1e9:.1f} GB free; name another with TMPDIR, or ask for fewer --rows"
        )


def _drop(admin: str, urls: tuple[str, ...]) -> None:
    with psycopg.connect(admin, autocommit=True) as connection:
        for url in urls:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(_database(url)))


def _named(admin: str, database: str) -> str:
    return make_url(admin).set(database=database).render_as_string(hide_password=False)


def _database(url: str) -> sql.Identifier:
    return sql.Identifier(make_url(url).database or "")
