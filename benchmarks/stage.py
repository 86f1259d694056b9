"""A migration to measure: all databases on one embedded server, prepared, backfilled and verified."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from random import Random
from threading import Event

import psycopg
from psycopg import sql
from rich.console import Console
from sqlalchemy import insert, select

from adapters.postgres.embedded import EmbeddedServer
from adapters.postgres.migrations import upgrade
from adapters.prompts import invented
from adapters.prompts.canonical import COLUMNS, LEGACY_TYPES
from adapters.prompts.dispatch_tables import tenant_schema
from adapters.prompts.migration import Stores, opened
from adapters.prompts.prompt_manager import prompts
from harness.catchup import drain
from harness.cli.app import App
from harness.cli.backfill import backfill_stores
from harness.cli.prepare import prepare_stores
from harness.cli.shares import ramp_shares
from harness.cli.verify import verify_stores
from harness.ports import Clock
from harness.records import Verdict
from harness.routing import Store
from harness.settings import (
    LegacySettings,
    MoveSettings,
    NewSettings,
    Settings,
)

ORGANIZATIONS = 2
PROJECTS = 50  # of each organization; with five types to a project, 500 scopes
SEED = 1
WAL_FILES = 60  # of 16 MB, enough for a whole run

_NOTING = """
CREATE TABLE noted (seq bigserial PRIMARY KEY, part text, scope text, local text, noted_at timestamptz DEFAULT now());
CREATE FUNCTION noting() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO public.noted (part, scope, local) VALUES ('part', 'scope', 'local');
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END
$$
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """``bare`` is a third database: both stores' tables with the same rows, without guard and capture.

    ``noting`` is another such, where a trigger notes a constant for each row that is written, and does nothing else.
    """

    settings: Settings
    bare: str
    noting: str
    scopes: tuple[str, ...]

    @property
    def urls(self) -> dict[str, str]:
        """Databases by the names that ``writer.Round`` has for them."""
        legacy, new = self.settings.legacy.url, self.settings.new.url
        beside = {f"{kind} {store}": url for kind, url in self._beside.items() for store in Store}
        return {"legacy": legacy, "new": new} | beside

    @property
    def _beside(self) -> dict[str, str]:
        return {"bare": self.bare, "noting": self.noting}

    @property
    def environment(self) -> dict[str, str]:
        return {"CROSSFADE_LEGACY_URL": self.settings.legacy.url, "CROSSFADE_NEW_URL": self.settings.new.url}

    @contextmanager
    def opened(self) -> Iterator[tuple[App, Stores, StringIO]]:
        """The stores as one command opens them, and what it says."""
        said = StringIO()
        app = App(self.settings, True, Console(file=StringIO()), Console(file=said, width=500))
        with opened(self.settings, bulk=True, application="crossfade-benchmark") as stores:
            yield app, stores, said

    def ramp(self, writes: float) -> str:
        """Move authority as ``crossfade ramp --writes`` does, with connections of its own; what it said.

        Raises Refused, with nothing changed.
        """
        with self.opened() as (app, stores, said):
            ramp_shares(app, stores, None, writes, "a benchmark")
            return said.getvalue()

    def await_carrying(self, seconds: float = 60.0) -> None:
        """Wait until catch-up, which somebody has just started, carries over a note that is made here."""
        place, until = sql.Identifier(tenant_schema(invented.ORGANIZATIONS[0]), "prompt"), time.monotonic() + seconds
        with psycopg.connect(self.urls["legacy"], autocommit=True) as connection:
            touch = "UPDATE {} SET updated_at = now() WHERE id = (SELECT min(id) FROM {})"
            connection.execute(sql.SQL(touch).format(place, place))
            while connection.execute("SELECT EXISTS (SELECT FROM crossfade.dirty)").fetchone() == (True,):
                assert time.monotonic() < until, f"catch-up carried nothing over within {seconds:.0f} s"
                time.sleep(0.01)

    def settle(self, clock: Clock) -> None:
        """Carry over what is noted, and fail unless every row of both stores is equal then."""
        with self.opened() as (app, stores, _):
            drain(stores.new_carrier(), stop=Event(), clock=clock, timeout=60, pause=0.01)
            found = verify_stores(app, stores, patience=10)
            assert found.verdict is Verdict.PASS, found


@contextmanager
def staged(clock: Clock, move: MoveSettings | None = None) -> Iterator[Stage]:
    with EmbeddedServer() as server:
        names = "dispatch", "prompt_manager", "bare", "noting"
        legacy, new, bare, noting = (server.create_database(name) for name in names)
        _make_lasting(bare)
        settings = Settings(legacy=LegacySettings(url=legacy), new=NewSettings(url=new), move=move or MoveSettings())
        stage = Stage(settings, bare, noting, _scopes())
        with stage.opened() as (app, stores, _):
            invented.create(stores.legacy, SEED, organizations=ORGANIZATIONS, projects=PROJECTS, odd=False)
            prepare_stores(app, stores, id_index=True, reason="a benchmark")
            backfill_stores(app, stores)
            _furnish(bare, stores)
            _furnish(noting, stores)
            _note_constants(noting)
        stage.settle(clock)
        yield stage


def _make_lasting(database: str) -> None:
    """What the embedded server does without: fsync, and, as on a server that has been up for a while, WAL files to use
    again. Without these it makes one of 16 MB every few seconds, and all writers wait for that (40 to 80 ms here).

    https://www.postgresql.org/docs/current/wal-configuration.html (min_wal_size)
    """
    with psycopg.connect(database, autocommit=True) as connection:
        for setting, value in (("fsync", "on"), ("full_page_writes", "on"), ("min_wal_size", f"{WAL_FILES * 16}MB")):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(setting), sql.Literal(value)))
        connection.execute("SELECT pg_reload_conf()")
        for _ in range(WAL_FILES):
            connection.execute("SELECT pg_logical_emit_message(false, 'crossfade', ''), pg_switch_wal()")
        connection.execute("CHECKPOINT")
        connection.execute("CHECKPOINT")  # what the first one has needed is free for the second


def _furnish(bare: str, stores: Stores) -> None:
    """The same tables and rows as in both stores, as they are without us."""
    settings = Settings(legacy=LegacySettings(url=bare), new=NewSettings(url=bare))
    with opened(settings, bulk=True, application="crossfade-benchmark") as beside:
        invented.create(beside.legacy, SEED, organizations=ORGANIZATIONS, projects=PROJECTS, odd=False)
        upgrade(beside.new, "new")
        columns = [prompts.c[name] for name in COLUMNS]
        with stores.new.connect() as full, beside.new.begin() as empty:
            empty.execute(insert(prompts), [dict(row._mapping) for row in full.execute(select(*columns))])


def _note_constants(database: str) -> None:
    """The least that capture by a trigger can be, on the tables of both stores."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(_NOTING)
        tables = [sql.Identifier(tenant_schema(slug), "prompt") for slug in invented.ORGANIZATIONS[:ORGANIZATIONS]]
        for table in [*tables, sql.Identifier("prompts")]:
            each = (
                "CREATE TRIGGER noting BEFORE INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION noting()"
            )
            connection.execute(sql.SQL(each).format(table))


def _scopes() -> tuple[str, ...]:
    """All scopes, in an order without a pattern."""
    slugs = invented.ORGANIZATIONS[:ORGANIZATIONS]
    projects = range(1, PROJECTS + 1)
    scopes = [f"{slug}/project-{n}/{known.slug}" for slug in slugs for n in projects for known in LEGACY_TYPES]
    Random(SEED).shuffle(scopes)
    return tuple(scopes)
