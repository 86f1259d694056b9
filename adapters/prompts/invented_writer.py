"""An application that writes to an invented Dispatch: what a running service does, chosen at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    Table,
    and_,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError, IntegrityError

from adapters.postgres.guarding import NO_AUTHORITY
from adapters.prompts.canonical import CONTENT_LIMIT, LEGACY_TYPES
from adapters.prompts.discover import OWN_PROJECT, organization
from adapters.prompts.dispatch_tables import tenant_tables
from adapters.prompts.invented import PLACES
from adapters.prompts.vocabulary import invent_system_message, invent_text, text_of_length

_Act = Callable[[Connection, str], bool]

_WILD = {"lengthen", "delete project"}


class LegacyWriter:
    """Writes as Dispatch's own service does: plain SQL, one transaction for each act, nothing known of Crossfade.

    For one thread; give each its own. ``tame``: without texts that new cannot hold, and without deleted projects.
    """

    def __init__(
        self,
        engine: Engine,
        seed: int,
        *,
        tame: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._random = Random(seed)  # noqa: S311 - repeatable acts, no secret
        self._now = now
        self._acts: Mapping[str, tuple[int, _Act]] = {
            "insert": (30, self._insert),
            "update": (30, self._update),
            "swap": (12, self._swap),
            "delete": (12, self._delete),
            "lengthen": (4, self._lengthen),
            "shorten": (6, self._shorten),
            "add project": (3, self._add_project),
            "delete project": (3, self._delete_project),
        }
        if tame:
            self._acts = {name: act for name, act in self._acts.items() if name not in _WILD}

    def step(self) -> str:
        """Do one act and name it, with nothing changed where the name is followed by more.

        ``... rejected`` by a rule of Dispatch's own, ``... refused`` by the guard.
        """
        names = list(self._acts)
        (drawn,) = self._random.choices(names, [weight for weight, _ in self._acts.values()])
        # What finds nothing to act on falls back to an act that does: insert wants a project, adding one wants nothing.
        for name in (drawn, "insert", "add project"):
            try:
                with self._engine.begin() as connection:
                    done = self._acts[name][1](connection, self._random.choice(_slugs(connection)))
            except IntegrityError:  # uniqueness speaks at commit; a foreign key, when its project has just gone
                return f"{name} rejected"
            except DatabaseError as error:
                if getattr(error.orig, "sqlstate", None) != NO_AUTHORITY:
                    raise
                return f"{name} refused"  # its scope's authority is with the other store by now
            if done:
                return name
        raise AssertionError("a project can always be added")

    def _insert(self, connection: Connection, slug: str) -> bool:
        project = self._a_project(connection, slug)
        if project is None:
            return False
        _, prompt = tenant_tables(slug)
        now = self._now()
        row = {
            "genai_type": self._random.choice(LEGACY_TYPES).number,
            "genai_prompt": invent_text(self._random),
            "genai_system_message": invent_system_message(self._random),
            "enabled": self._random.random() < 0.5,
            "created_at": now,
            "updated_at": now + timedelta(microseconds=5),
            "project_id": project,
        }
        connection.execute(insert(prompt).values(row))
        return True

    def _update(self, connection: Connection, slug: str) -> bool:
        change = self._random.choice(
            (
                {"genai_prompt": invent_text(self._random)},
                {"genai_system_message": invent_system_message(self._random)},
                {"enabled": self._random.random() < 0.5},
                {"genai_type": self._random.choice(LEGACY_TYPES).number},
                {},  # a value sent again as it was still moves updated_at
            )
        )
        return self._change(connection, slug, self._a_row(connection, slug), **change)

    def _swap(self, connection: Connection, slug: str) -> bool:
        """Enable the disabled prompt and disable the enabled one; the deferred rule allows it in this order."""
        _, prompt = tenant_tables(slug)
        other = prompt.alias("other")
        pair = (
            select(prompt.c.id, other.c.id)
            .join(other, and_(other.c.project_id == prompt.c.project_id, other.c.genai_type == prompt.c.genai_type))
            .where(~prompt.c.enabled, other.c.enabled)
            .order_by(prompt.c.id)
        )
        pairs = connection.execute(pair.limit(100)).all()
        if not pairs:
            return False
        disabled, enabled = self._random.choice(pairs)
        return self._change(connection, slug, disabled, enabled=True) and self._change(
            connection, slug, enabled, enabled=False
        )

    def _delete(self, connection: Connection, slug: str) -> bool:
        _, prompt = tenant_tables(slug)
        return connection.execute(delete(prompt).where(prompt.c.id == self._a_row(connection, slug))).rowcount == 1

    def _lengthen(self, connection: Connection, slug: str) -> bool:
        return self._change(
            connection, slug, self._a_row(connection, slug), genai_prompt=text_of_length(self._random, 12_000)
        )

    def _shorten(self, connection: Connection, slug: str) -> bool:
        _, prompt = tenant_tables(slug)
        too_long = func.char_length(prompt.c.genai_prompt) > CONTENT_LIMIT
        row = self._one_of(connection, select(prompt.c.id).where(too_long).order_by(prompt.c.id))
        return self._change(connection, slug, row, genai_prompt=invent_text(self._random))

    def _add_project(self, connection: Connection, slug: str) -> bool:
        owner = select(func.min(organization.c.id)).where(organization.c.slug == slug).scalar_subquery()
        project, _ = tenant_tables(slug)
        name = self._random.choice(PLACES)
        connection.execute(insert(project).values(name=name, organization_id=owner))
        return True

    def _delete_project(self, connection: Connection, slug: str) -> bool:
        """The cascade takes its prompts along, which no prompt service sees."""
        project, _ = tenant_tables(slug)
        row = self._a_project(connection, slug)
        return connection.execute(delete(project).where(project.c.id == row)).rowcount == 1

    def _change(self, connection: Connection, slug: str, row: int | None, **values: Any) -> bool:
        """A partial update as Dispatch's ORM sends it: the fields given, and updated_at."""
        _, prompt = tenant_tables(slug)
        statement = update(prompt).where(prompt.c.id == row).values(updated_at=self._now(), **values)
        return connection.execute(statement).rowcount == 1

    def _a_row(self, connection: Connection, slug: str) -> int | None:
        _, prompt = tenant_tables(slug)
        place = self._random.randint(1, max(1, highest_id(connection, prompt)))
        return self._one_of(connection, select(prompt.c.id).where(prompt.c.id >= place).order_by(prompt.c.id), 1)

    def _a_project(self, connection: Connection, slug: str) -> int | None:
        """Any project but those that a parallel run made for itself."""
        project, _ = tenant_tables(slug)
        ours = func.coalesce(func.starts_with(project.c.name, OWN_PROJECT), literal(False))
        return self._one_of(connection, select(project.c.id).where(~ours).order_by(project.c.id))

    def _one_of(self, connection: Connection, rows: Select[Any], among: int = 100) -> int | None:
        found = connection.execute(rows.limit(among)).scalars().all()
        return self._random.choice(found) if found else None


def highest_id(connection: Connection, table: Table) -> int:
    """The highest id in a table; 0 if it is empty."""
    return int(connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one())


def _slugs(connection: Connection) -> list[str]:
    slug = organization.c.slug
    return list(connection.execute(select(slug).where(slug.is_not(None)).distinct().order_by(slug)).scalars())
