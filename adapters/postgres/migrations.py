"""The schema's revisions, up and down, for both databases.

Each call is one transaction: all of its revisions or none. Processes that call at the same time wait for each other;
within one process only one thread may, because Alembic keeps the present environment in module globals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, func, inspect, select, text
from sqlalchemy.schema import CreateSchema

from adapters.postgres.errors import speaking_for
from adapters.postgres.schema import SCHEMA
from harness.errors import StoreUnavailable
from harness.routing import Store

Which = Literal["legacy", "new"]
VERSION_TABLE = "alembic_version"
_LOCK = "crossfade.migrations"
_LOCK_TIMEOUT = "10s"  # a lock on a live table that is not to be had holds up everybody behind us


def script_location() -> Path:
    """Where ``env.py`` and the revisions are: inside the wheel, or at the top of a checkout."""
    here = Path(__file__).resolve()
    for place in (here.parent / "alembic", here.parents[2] / "alembic"):
        if (place / "env.py").is_file():
            return place
    raise StoreUnavailable("the schema's revisions are missing from this installation; install crossfade again")


def upgrade(engine: Engine, which: Which, revision: str = "head") -> None:
    """Bring the database up to the revision; does nothing where it is there already."""
    _migrate(engine, which, lambda config: command.upgrade(config, revision))


def downgrade(engine: Engine, which: Which, revision: str = "base") -> None:
    """Take the database back to the revision; ``base`` leaves nothing of ours but tables that hold others' rows."""
    _migrate(engine, which, lambda config: command.downgrade(config, revision))


def downgrade_in(connection: Connection, which: Which) -> None:
    """Take back everything of ours, in a transaction of the caller's.

    Who wants locks of its own in there asks ``wait_for_turn`` first, in whose order everybody takes them.
    """
    with _explained(Store(which)):
        command.downgrade(configuration(which, connection), "base")


def wait_for_turn(connection: Connection) -> None:
    """Wait until nobody else changes the schema, and keep others waiting until the transaction ends."""
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(_LOCK))))


def current(engine: Engine, which: Which) -> str | None:
    """The revision that the database is at; None for one that never saw us."""
    with speaking_for(Store(which)), engine.connect() as connection:
        return _present(connection)


def configuration(which: Which, connection: Connection | None = None) -> Config:
    """Alembic's settings for one of the two databases."""
    place = str(script_location()).replace("%", "%%")
    config = Config(attributes={"connection": connection, "which": which})
    config.set_main_option("script_location", place)
    config.set_main_option("version_locations", f"{place}/versions/{which}")
    config.set_main_option("path_separator", "newline")
    return config


def which_of(config: Config) -> Which:
    """The database that a configuration is for, by what we set or by the section's name."""
    return "legacy" if config.attributes.get("which", config.config_ini_section).endswith("legacy") else "new"


def run_in(connection: Connection, context: ModuleType) -> None:
    """What ``env.py`` does inside the transaction of its connection."""
    connection.execute(select(func.set_config("lock_timeout", _LOCK_TIMEOUT, True)))
    # An adopted table may be large, and its missing indexes take their time.
    connection.execute(select(func.set_config("statement_timeout", "0", True)))
    # Before the version is read: whoever waited here must see what the other one did.
    wait_for_turn(connection)
    # IF NOT EXISTS would ask for the right to create schemas even where there is nothing to create.
    if not inspect(connection).has_schema(SCHEMA):
        connection.execute(CreateSchema(SCHEMA))
    context.configure(connection=connection, version_table=VERSION_TABLE, version_table_schema=SCHEMA)
    with context.begin_transaction():
        context.run_migrations()
    if _present(connection) is None:
        _remove_traces(connection)


def _migrate(engine: Engine, which: Which, act: Callable[[Config], None]) -> None:
    with _explained(Store(which)), engine.begin() as connection:
        act(configuration(which, connection))


@contextmanager
def _explained(store: Store) -> Iterator[None]:
    try:
        with speaking_for(store):
            yield
    except CommandError as error:
        raise StoreUnavailable(
            f"{store}: its schema is at a revision that this Crossfade does not know ({error}); "
            "use the version of Crossfade that prepared it, or a newer one"
        ) from error


def _present(connection: Connection) -> str | None:
    options = {"version_table": VERSION_TABLE, "version_table_schema": SCHEMA}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _remove_traces(connection: Connection) -> None:
    connection.execute(text(f"DROP TABLE IF EXISTS {SCHEMA}.{VERSION_TABLE}"))
    left = text(
        "SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace(:schema))"
        " OR EXISTS (SELECT FROM pg_proc WHERE pronamespace = to_regnamespace(:schema))"
        " OR EXISTS (SELECT FROM pg_type WHERE typnamespace = to_regnamespace(:schema))"
    )
    if not connection.execute(left, {"schema": SCHEMA}).scalar_one():
        connection.execute(text(f"DROP SCHEMA {SCHEMA}"))
