"""Both stores, prepared and joined as the command line joins them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from threading import Event
from typing import Any

import pytest
from fix_postgres import Databases, Server
from rich.console import Console
from sqlalchemy import Connection, Engine, MetaData, insert, make_url, text
from sqlalchemy.schema import CreateSchema

from adapters.postgres.apply import set_applying
from adapters.prompts.canonical import Reading
from adapters.prompts.dispatch_tables import tenant_schema, tenant_tables
from adapters.prompts.mappings import DispatchMapping, PromptManagerMapping
from adapters.prompts.migration import Stores, opened
from adapters.prompts.repository import SqlPromptRepository
from harness.catchup import drain
from harness.cli.app import App
from harness.cli.backfill import backfill_stores
from harness.cli.prepare import prepare_stores
from harness.cli.verify import verify_stores
from harness.records import Verification
from harness.routing import Store
from harness.settings import LegacySettings, NewSettings, Settings

TENANTS = ("acme", "umbra")
PROJECTS = 6


def create_tenants(connection: Connection, tenants: tuple[str, ...] = TENANTS, projects: int = PROJECTS) -> None:
    """Dispatch-shaped schemas with numbered projects and no prompt."""
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS dispatch_core"))
    connection.execute(
        text(
            "CREATE TABLE IF NOT EXISTS dispatch_core.organization"
            " (id serial PRIMARY KEY, name varchar UNIQUE, slug varchar)"
        )
    )
    for slug in tenants:
        connection.execute(CreateSchema(tenant_schema(slug)))
        metadata = MetaData()
        project, _ = tenant_tables(slug, metadata)
        metadata.create_all(connection)
        connection.execute(
            text("INSERT INTO dispatch_core.organization (name, slug) VALUES (:slug, :slug)"), {"slug": slug}
        )
        if projects:
            connection.execute(insert(project), [{"name": f"Team {n}", "organization_id": 1} for n in range(projects)])


@dataclass(frozen=True)
class Repositories:
    legacy: SqlPromptRepository
    new: SqlPromptRepository
    legacy_engine: Engine
    new_engine: Engine
    mapping: DispatchMapping


@pytest.fixture
def repositories(prepared_legacy: Engine, prepared_new: Engine) -> Repositories:
    """The shared repository over both stores: two tenants with six projects each, and no prompt."""
    with prepared_legacy.begin() as connection:
        create_tenants(connection)
    mapping = DispatchMapping(TENANTS, Reading())
    return Repositories(
        SqlPromptRepository(prepared_legacy, mapping),
        SqlPromptRepository(prepared_new, PromptManagerMapping()),
        prepared_legacy,
        prepared_new,
        mapping,
    )


@dataclass(frozen=True)
class Migration:
    """A migration under test: both stores as the command line opens them, and the App it would have."""

    app: App
    stores: Stores

    def sql(self, statement: str, **values: object) -> list[Any]:
        """Run a statement on legacy as some other program would."""
        return _execute(self.stores.legacy, statement, values)

    def new_sql(self, statement: str, **values: object) -> list[Any]:
        return _execute(self.stores.new, statement, values)

    def behind(self, statement: str, **values: object) -> list[Any]:
        """Run a statement on new past guard and capture: what a fault, or a restored backup, would do."""
        with self.stores.new.begin() as connection:
            set_applying(connection)
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []

    def route(self, writes_percent: float = 0.0, **pins: str) -> None:
        """Write both stores' routes as a finished move of authority leaves them."""
        statement = "UPDATE crossfade.route SET epoch = epoch + 1, writes_percent = :share, pins = cast(:pins AS jsonb)"
        for store in (self.sql, self.new_sql):
            store(statement, share=writes_percent, pins=json.dumps(pins))

    def prompt(self, tenant: str = "acme", project: int | None = 1, genai_type: int = 2, **columns: object) -> int:
        """Insert a row as Dispatch's own service would; its id."""
        given = {
            "genai_type": genai_type,
            "genai_prompt": "What happened, and to whom?",
            "enabled": False,
            "created_at": datetime(2025, 1, 1, 9, 30, 0, 1),
            "updated_at": datetime(2025, 1, 1, 9, 30, 0, 7),
            "project_id": project,
        } | columns
        names = ", ".join(given)
        values = ", ".join(f":{name}" for name in given)
        table = f"{tenant_schema(tenant)}.prompt"
        [row] = self.sql(f"INSERT INTO {table} ({names}) VALUES ({values}) RETURNING id", **given)
        return int(row[0])

    def forty_eight_prompts(self) -> None:
        """Insert four types of six projects in each of two tenants, two thirds of them enabled."""
        for tenant in ("acme", "umbra"):
            self.sql(
                f"INSERT INTO dispatch_organization_{tenant}.prompt"
                " (genai_type, genai_prompt, enabled, created_at, updated_at, project_id)"
                " SELECT t, 'text ' || t || p, (t + p) % 3 > 0, timestamp '2024-05-05 10:00' + p * interval '1 minute',"
                " timestamp '2024-05-06 10:00' + t * interval '1 minute', p"
                " FROM generate_series(1, 6) p, generate_series(1, 4) t"
            )

    def notes(self) -> list[tuple[str, str | None, str | None, str | None]]:
        """Part, scope, key and local key of what is noted in legacy."""
        rows = self.sql("SELECT part, scope, key, local FROM crossfade.dirty ORDER BY seq")
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    def drain(self) -> int:
        """Carry over until nothing more can be; how many notes are left."""
        _, left = drain(self.stores.new_carrier(), stop=Event(), clock=time.monotonic, timeout=60, pause=0.01)
        return left

    def verify(self) -> Verification:
        return verify_stores(self.app, self.stores, patience=0)

    def prepare(self) -> None:
        prepare_stores(self.app, self.stores, id_index=True, reason="a test")

    def backfill(self, chunk_rows: int | None = None) -> dict[str, Any]:
        return backfill_stores(self.app, self.stores, chunk_rows)


def _execute(engine: Engine, statement: str, values: dict[str, object]) -> list[Any]:
    with engine.begin() as connection:
        result = connection.execute(text(statement), values)
        return list(result) if result.returns_rows else []


@contextmanager
def migration_between(databases: Databases, **sections: Any) -> Iterator[Migration]:
    """A migration between two databases, with settings other than the defaults where given."""
    settings = Settings(
        legacy=LegacySettings(url=databases.legacy_url), new=NewSettings(url=databases.new_url), **sections
    )
    app = App(settings, True, Console(file=StringIO()), Console(file=StringIO()))
    with opened(settings, bulk=True, application="crossfade-test") as stores:
        yield Migration(app, stores)


@contextmanager
def _templates(server: Server, build: Callable[[Migration], None]) -> Iterator[dict[Store, str]]:
    """The names of two databases to copy for a migration as ``build`` leaves it: sooner made than built anew."""
    with ExitStack() as stack:
        made = Databases(stack, server)
        with _of_two_tenants(made) as found:
            build(found)
        urls = {Store.LEGACY: made.legacy_url, Store.NEW: made.new_url}
        yield {store: make_url(url).database or "" for store, url in urls.items()}


@contextmanager
def _of_two_tenants(databases: Databases) -> Iterator[Migration]:
    with migration_between(databases) as found:
        with found.stores.legacy.begin() as connection:
            create_tenants(connection)
        yield found


@contextmanager
def _copied(server: Server, templates: dict[Store, str]) -> Iterator[Migration]:
    with ExitStack() as stack, migration_between(Databases(stack, server, templates)) as found:
        yield found


@pytest.fixture(scope="session")
def migration_templates(server: Server) -> Iterator[dict[Store, str]]:
    with _templates(server, lambda _: None) as names:
        yield names


@pytest.fixture(scope="session")
def prepared_migration_templates(server: Server) -> Iterator[dict[Store, str]]:
    with _templates(server, Migration.prepare) as names:
        yield names


def _carry(migration: Migration) -> None:
    migration.prepare()
    migration.backfill()


@pytest.fixture(scope="session")
def carried_migration_templates(server: Server) -> Iterator[dict[Store, str]]:
    with _templates(server, _carry) as names:
        yield names


@pytest.fixture
def migration(server: Server, migration_templates: dict[Store, str]) -> Iterator[Migration]:
    """Two tenants with six projects each and no prompt, not prepared yet."""
    with _copied(server, migration_templates) as found:
        yield found


@pytest.fixture
def prepared_migration(server: Server, prepared_migration_templates: dict[Store, str]) -> Iterator[Migration]:
    """The same, prepared."""
    with _copied(server, prepared_migration_templates) as found:
        yield found


@pytest.fixture
def carried_migration(server: Server, carried_migration_templates: dict[Store, str]) -> Iterator[Migration]:
    """Prepared and backfilled while empty: whatever is written now is catch-up's to carry."""
    with _copied(server, carried_migration_templates) as found:
        yield found
