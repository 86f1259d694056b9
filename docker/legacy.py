"""Fills an empty legacy database with invented prompts, so that there is something to migrate."""

from __future__ import annotations

import os

from sqlalchemy import text

from adapters.postgres.pool import open_engine
from adapters.prompts import invented
from harness.config import load
from harness.routing import Store


def main() -> None:
    settings = load(None, os.environ)
    engine = open_engine(settings.legacy.url, Store.LEGACY, settings.pool, application="crossfade demo")
    try:
        with engine.connect() as connection:
            there = connection.execute(text("SELECT to_regclass('dispatch_core.organization')")).scalar_one()
        if there is None:
            made = invented.create(engine, seed=7, projects=8)
            print(f"{made.rows} prompts invented in {len(made.organizations)} organizations")
    finally:
        engine.dispose()


if __name__ == "__main__":
    main()
