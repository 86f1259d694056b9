"""Copying a chunk in a process of another machine, which knows the stores' addresses itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from sqlalchemy import select

from adapters.postgres.errors import speaking_for
from adapters.postgres.schema import route_copy
from adapters.prompts.migration import opened
from harness.backfill import Chunk, Copied
from harness.config import load
from harness.errors import ConfigError
from harness.routing import Store
from harness.settings import LegacySettings, NewSettings, Settings


@dataclass(frozen=True, slots=True)
class RemoteCopy:
    """Travels with each chunk; holds no address, hence no password (docs/adr/0019).

    ``settings`` are the command's own, so that every worker reads legacy as the command does. ``salt`` is what the
    migration has drawn for itself, by which a worker knows that it has come to the right stores.
    """

    settings: Settings
    salt: str

    @classmethod
    def of(cls, settings: Settings, salt: str) -> RemoteCopy:
        """The settings without the addresses."""
        bare = LegacySettings(time_zone=settings.legacy.time_zone), NewSettings()
        return cls(replace(settings, legacy=bare[0], new=bare[1]), salt)

    def __call__(self, chunk: Chunk) -> Copied:
        """Copy the chunk between the stores that this process's own settings name."""
        own = load(None, os.environ)
        legacy = replace(self.settings.legacy, url=own.legacy.url)
        settings = replace(self.settings, legacy=legacy, new=replace(self.settings.new, url=own.new.url))
        with opened(settings, bulk=True, application="crossfade backfill worker") as stores:
            with speaking_for(Store.LEGACY), stores.legacy.connect() as connection:
                salts = {stores.salt, connection.execute(select(route_copy.c.salt)).scalar()}
            if salts != {self.salt}:
                raise ConfigError(
                    "a worker's settings name the stores of another migration; give all workers the command's own "
                    "CROSSFADE_LEGACY_URL and CROSSFADE_NEW_URL"
                )
            return stores.copier.copy(chunk)
