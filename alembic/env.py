"""Runs the revisions of one of the two databases, in one transaction.

Crossfade hands over its connection (adapters/postgres/migrations.py); the command `alembic -n alembic:new ...` opens
one to the database that the settings name.
"""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection

from adapters.postgres.migrations import run_in, which_of
from adapters.postgres.pool import open_engine
from harness.config import load
from harness.routing import Store


def _run(connection: Connection) -> None:
    run_in(connection, context)


connection = context.config.attributes.get("connection")
if connection is not None:
    _run(connection)
else:
    store = Store(which_of(context.config))
    settings = load(None, os.environ)
    url = settings.legacy.url if store is Store.LEGACY else settings.new.url
    engine = open_engine(url, store, settings.pool, application="alembic")
    try:
        with engine.begin() as connection:
            _run(connection)
    finally:
        engine.dispose()
