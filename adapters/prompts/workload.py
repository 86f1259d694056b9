"""Calls of the prompts' contract for a parallel run: reads of what exists, and writes in scopes of the run's own."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from threading import Lock
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, Select, delete, func, insert, select, text
from sqlalchemy.exc import DBAPIError

from adapters.postgres.errors import speaking_for
from adapters.prompts.canonical import LEGACY_TYPES, NAMESPACE, LegacyType, Reading
from adapters.prompts.contract import PromptRepository
from adapters.prompts.discover import OWN_PROJECT, Problem, organization, tenants
from adapters.prompts.dispatch import canonical_select
from adapters.prompts.dispatch_rows import scope_name
from adapters.prompts.dispatch_tables import sidecar, tenant_tables
from adapters.prompts.prompt import Prompt, PromptFilter, PromptType
from adapters.prompts.vocabulary import invent_text
from harness.errors import ConfigError, StoreUnavailable
from harness.routing import Store
from harness.workload import Mix

READ_MIX = {"find_enabled_by_project": 70.0, "find_by_id": 15.0, "find_all": 10.0, "find_by_name": 5.0}
WRITE_MIX = {"save": 30.0, "update": 50.0, "delete": 20.0}
SAMPLE = 2_000
_SPOT = 50  # neighbouring rows read at one place of a large table
_LIMITS = (10, 20, 50)


@dataclass(frozen=True, slots=True)
class Key:
    """What names one prompt."""

    id: uuid.UUID
    name: str
    scope: str
    organization: str
    type: PromptType


def discover_keys(engine: Engine, reading: Reading, random: Random, *, limit: int = SAMPLE) -> list[Key]:
    """Keys of at most about ``limit`` prompts of legacy, taken from all tenants and from all over their tables.

    Rows that cannot be carried over are left out: their reads are never compared.
    """
    found: list[Key] = []
    usable = [tenant.slug for tenant in tenants(engine) if tenant.usable and tenant.slug is not None]
    with speaking_for(Store.LEGACY), engine.connect() as connection:
        for slug in usable:
            found += _keys_of(connection, slug, reading, random, max(1, limit // len(usable)))
    return found[:limit]


def _keys_of(connection: Connection, slug: str, reading: Reading, random: Random, share: int) -> list[Key]:
    _, prompt = tenant_tables(slug)
    rows = canonical_select(slug, prompt, reading, with_sidecar=has_sidecar(connection))

    def read(first: int, count: int) -> list[Any]:
        # The inner limit makes the index on id cut the rows out; reasons are looked at afterwards.
        some = rows.where(prompt.c.id >= first).order_by(prompt.c.id).limit(count).subquery()
        chosen = (some.c.id, some.c.name, some.c.project_id, some.c.organization_id, some.c.type)
        return list(connection.execute(select(*chosen).where(some.c.reason.is_(None))))

    least, most = connection.execute(select(func.min(prompt.c.id), func.max(prompt.c.id))).one()
    if least is None:
        return []
    if most - least < share:
        answers = read(least, share)
    else:
        spots = -(-share // _SPOT)
        answers = [row for _ in range(spots) for row in read(random.randint(least, most), _SPOT)]
    return [Key(row[0], row[1], row[2], row[3], PromptType(row[4])) for row in dict.fromkeys(map(tuple, answers))]


def has_sidecar(connection: Connection) -> bool:
    """Whether Crossfade has prepared this database."""
    return connection.execute(text("SELECT to_regclass('crossfade.sidecar')")).scalar() is not None


def default_mix(write_ratio: float = 0.0) -> Mix:
    """What callers of prompts do: nearly every AI call asks for the enabled prompt. ``write_ratio`` from 0 to 1."""
    if not 0 <= write_ratio <= 1:
        raise ConfigError(f"the ratio of writes must be from 0 to 1, not {write_ratio}")
    return with_writes(Mix(READ_MIX), write_ratio)


def with_writes(mix: Mix, write_ratio: float) -> Mix:
    """The mix with the share of its writes set to ``write_ratio``; a mix that names writes itself stays as it is."""
    if not write_ratio or set(mix.weights) & set(WRITE_MIX):
        return mix
    reads, writes = sum(mix.weights.values()), sum(WRITE_MIX.values())
    weights = {name: weight / reads * (1 - write_ratio) for name, weight in mix.weights.items()}
    return Mix(weights | {name: weight / writes * write_ratio for name, weight in WRITE_MIX.items()})


class PromptCalls:
    """Fulfils ``harness.workload.Calls``: reads of the keys given, and, with scopes of its own, writes there."""

    def __init__(self, keys: Sequence[Key], own: OwnScopes | None = None) -> None:
        if not keys:
            raise ConfigError("legacy holds no prompt that could be asked for; a parallel run needs some")
        self._keys = keys
        self._calls: Mapping[str, Callable[[PromptRepository, Random], object]] = {
            "find_by_id": self._find_by_id,
            "find_by_name": self._find_by_name,
            "find_all": self._find_all,
            "find_enabled_by_project": self._find_enabled_by_project,
        }
        if own is not None:
            self._calls |= {"save": own.save, "update": own.update, "delete": own.delete}

    def operations(self) -> Collection[str]:
        return self._calls.keys()

    def call(self, name: str, repository: PromptRepository, random: Random) -> None:
        self._calls[name](repository, random)

    def _find_by_id(self, repository: PromptRepository, random: Random) -> object:
        return repository.find_by_id(random.choice(self._keys).id)

    def _find_by_name(self, repository: PromptRepository, random: Random) -> object:
        key = random.choice(self._keys)
        return repository.find_by_name(key.name, key.scope)

    def _find_enabled_by_project(self, repository: PromptRepository, random: Random) -> object:
        return repository.find_enabled_by_project(random.choice(self._keys).scope)

    def _find_all(self, repository: PromptRepository, random: Random) -> object:
        key = random.choice(self._keys)
        filters: tuple[dict[str, Any], ...] = (
            {"project_id": key.scope},
            {"organization_id": key.organization},
            {"organization_id": key.organization, "type": key.type},
            {"type": key.type, "enabled": True},
            {"enabled": random.random() < 0.5},
            {},
        )
        chosen = random.choice(filters)
        page = 1 if "project_id" in chosen else random.choice((1, 1, 1, 2, 3))
        return repository.find_all(PromptFilter(page=page, limit=random.choice(_LIMITS), **chosen))


class OwnScopes:
    """Scopes for one run's writes: a project added to one tenant of legacy, removed with all its prompts at the end.

    The project's name says whose it is and since when. A run holds an advisory lock on that name while it lives; so a
    project of an older stamp whose lock is free was left in this tenant by a run that was killed, and goes on entry.
    Safe for threads, which write one after the other: two who give one place to two prompts at the same time end in a
    deadlock, because Dispatch's deferred rule is looked at when both commit. Leave the block before the last catch-up,
    so that the removal is carried over too.
    """

    def __init__(
        self, engine: Engine, slug: str, reading: Reading, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        if not reading.by_type:
            raise ConfigError('a run writes only under scope_policy = "type"; leave out --write-ratio')
        self._engine, self._slug, self._reading, self._now = engine, slug, reading, now
        self._project, self._prompt = tenant_tables(slug)
        self._lock = Lock()
        self._made: dict[uuid.UUID, Prompt] = {}
        self._life: Connection | None = None
        self._name, self._number = "", 0

    def __enter__(self) -> Self:
        with speaking_for(Store.LEGACY):
            # Outside of any transaction: it lives as long as the run, and holds up nothing.
            self._life = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            try:
                self._begin(self._life)
            except BaseException:
                self._end()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with speaking_for(Store.LEGACY):
            try:
                with self._engine.begin() as connection:
                    self._remove(connection, self._number)
            finally:
                self._end()

    def _end(self) -> None:
        if self._life is not None:
            with suppress(DBAPIError):  # a lost connection has let go of its lock already
                self._life.execute(text("SELECT pg_advisory_unlock_all()"))
            self._life.close()
            self._life = None

    @property
    def scopes(self) -> list[str]:
        return [self._scope(known) for known in LEGACY_TYPES]

    def _scope(self, known: LegacyType) -> str:
        return scope_name(self._slug, self._number, known.number, self._reading)

    def _begin(self, life: Connection) -> None:
        stamp = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD\"T\"HH24MISS.US')"
        self._name = name = f"{OWN_PROJECT}{life.execute(text(f'SELECT {stamp}')).scalar_one()} {secrets.token_hex(4)}"
        life.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": name})
        with self._engine.begin() as connection:
            self._remove_leftovers(connection, name)
            owner = select(func.min(organization.c.id)).where(organization.c.slug == self._slug).scalar_subquery()
            added = insert(self._project).values(name=name, organization_id=owner).returning(self._project.c.id)
            self._number = connection.execute(added).scalar_one()

    def _remove_leftovers(self, connection: Connection, own: str) -> None:
        project = self._project.c
        # Names sort by their stamps; "C" because other collations skip spaces and points. The whole pattern, because
        # a person may name a project "crossfade run 1".
        ours = project.name.regexp_match(rf"^{OWN_PROJECT}\d{{8}}T\d{{6}}\.\d{{6}} [0-9a-f]{{8}}$")
        older = ours & (project.name.collate("C") < own)
        for number, name in connection.execute(select(project.id, project.name).where(older)).all():
            free = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
            if connection.execute(free, {"name": name}).scalar_one():
                self._remove(connection, number)

    def _remove(self, connection: Connection, number: int) -> None:
        local: Select[Any] = select(self._prompt.c.id).where(self._prompt.c.project_id == number)
        ids = list(connection.execute(local).scalars())
        # The rows go with their project: so it is right whichever store has authority over them, and carried over.
        connection.execute(delete(self._project).where(self._project.c.id == number))
        # After the rows: capture notes each under the id that its sidecar entry names.
        if has_sidecar(connection):
            beside = (sidecar.c.organization == self._slug) & sidecar.c.legacy_id.in_(ids)
            connection.execute(delete(sidecar).where(beside))

    # --- the writes ------------------------------------------------------------------------------------------------

    def save(self, repository: PromptRepository, random: Random) -> None:
        """Add a prompt; now and then where there is one already, because callers do that too."""
        with self._lock:
            stored = repository.save(self._invented(random))
            self._made[stored.id] = stored

    def update(self, repository: PromptRepository, random: Random) -> None:
        """Change a prompt of ours; one that is not there (a normal mistake) when there is none."""
        with self._lock:
            before = self._one(random)
            changed = random.choice(
                (
                    {"content": invent_text(random)},
                    {"enabled": not before.enabled},
                    {"name": f"{before.name[:200]}, revised", "description": invent_text(random)[:200]},
                )
            )
            stored = repository.update(replace(before, version=before.version + 1, **changed))
            self._made[stored.id] = stored

    def delete(self, repository: PromptRepository, random: Random) -> None:
        """Remove a prompt of ours; one that is not there when there is none."""
        with self._lock:
            gone = self._one(random)
            repository.delete(gone.id)
            del self._made[gone.id]

    def _one(self, random: Random) -> Prompt:
        return random.choice(list(self._made.values())) if self._made else self._invented(random)

    def _invented(self, random: Random) -> Prompt:
        taken = {(prompt.project_id, prompt.enabled) for prompt in self._made.values()}
        places = [(known, enabled) for known in LEGACY_TYPES for enabled in (True, False)]
        free = [(known, enabled) for known, enabled in places if (self._scope(known), enabled) not in taken]
        known, enabled = random.choice(free if free and random.random() < 0.9 else places)
        now = self._now()
        return Prompt(
            # Of the name too: two runs of one seed at the same time must not come up with the same ids.
            id=uuid.uuid5(NAMESPACE, f"{self._name}/{random.getrandbits(64)}"),
            name=random.choice((known.display, f"{known.display}, night shift")),
            content=invent_text(random),
            type=known.type,
            created_at=now,
            updated_at=now,
            description=random.choice((None, "Written by a parallel run")),
            system_message=random.choice((None, "", "Be brief.")),
            project_id=self._scope(known),
            organization_id=self._slug,
            enabled=enabled,
        )


def tenant_for_writes(engine: Engine) -> str:
    """The tenant whose project table takes a run's own project: the first that can."""
    for tenant in tenants(engine):
        if tenant.usable and tenant.slug is not None and not tenant.has(Problem.NO_PROJECT_TABLE):
            return tenant.slug
    raise StoreUnavailable("legacy has no tenant with the tables project and prompt; leave out --write-ratio")
