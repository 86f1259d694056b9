"""The clients: applications behind a router, and two raw SQL writers that know nothing of Crossfade.

All of them change the same few scopes. Each runs until SIGTERM, or until it is killed, and writes its history.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import LiteralString

import psycopg
from psycopg import IsolationLevel, sql

from adapters.prompts.canonical import BY_NUMBER, parse_scope
from adapters.prompts.contract import PromptRepository
from adapters.prompts.dispatch_tables import tenant_schema
from adapters.prompts.migration import opened
from adapters.prompts.prompt import Prompt, PromptType
from chaos.checker import record_of
from chaos.history import History, Kind, Nothing, Outcome
from harness.config import load
from harness.errors import NoAuthority, RepositoryError, StoreUnavailable
from harness.routing import Store

_PAUSE_SECONDS = 0.05  # between two operations, at most: the machine is small, and authority must find time to move
_DAWDLE_SECONDS = 0.4  # between a write and its commit, now and then
_AWAY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Task:
    """What one client process is to do. ``history`` is its file, whose stem is its name."""

    history: Path
    seed: int
    scopes: Sequence[str]


def judge_routed(error: Exception) -> tuple[Outcome, bool]:
    if isinstance(error, RepositoryError | NoAuthority | Nothing):
        return Outcome.REFUSED, False
    return Outcome.UNKNOWN, not isinstance(error, StoreUnavailable)


def judge_raw(error: Exception) -> tuple[Outcome, bool]:
    """A rule's or the guard's refusal, a deadlock or a lost race undo the transaction; all else may have committed."""
    if isinstance(error, Nothing):
        return Outcome.REFUSED, False
    state = getattr(error, "sqlstate", None) or ""
    if state in {"XF001", "XF002"} or state[:2] in {"23", "40"}:
        return Outcome.REFUSED, False
    away = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or state[:2] in {"08", "57", "25"}
    return Outcome.UNKNOWN, not away


def run_routed(task: Task, stop: threading.Event) -> None:
    """An application that reads and writes through the library."""
    history, random = History(task.history, judge_routed), Random(task.seed)
    while not stop.is_set():
        with (
            suppress(StoreUnavailable),
            opened(load(None, os.environ), application=task.history.stem) as stores,
            stores.router() as router,
        ):
            caller = _Caller(router.repository, history, random, task.scopes)
            while not stop.wait(random.random() * _PAUSE_SECONDS):
                caller.step()
        stop.wait(_AWAY_SECONDS)


class _Caller:
    def __init__(self, prompts: PromptRepository, history: History, random: Random, scopes: Sequence[str]) -> None:
        self._prompts, self._history, self._random, self._scopes = prompts, history, random, scopes

    def step(self) -> None:
        """Read a scope, and most of the time change what was found there."""
        scope = self._random.choice(self._scopes)
        found = self._read(scope)
        act = self._random.random()
        if act < 0.25:
            return
        if found is None:
            self._save(scope)
        elif act < 0.75:
            self._update(found, scope)
        elif act < 0.9:
            record = record_of(found.content)
            self._history.perform(Kind.DELETE, scope, lambda: self._prompts.delete(found.id), record=record)
        else:
            self._update(found, self._other(scope))

    def _read(self, scope: str) -> Prompt | None:
        found: list[Prompt] = []

        def call() -> str | None:
            if prompt := self._prompts.find_enabled_by_project(scope):
                found.append(prompt)
                return prompt.content
            return None

        self._history.perform(Kind.READ, scope, call)
        return found[0] if found else None

    def _save(self, scope: str) -> None:
        token, now = self._history.token(), datetime.now(UTC)
        prompt = Prompt(
            id=uuid.UUID(int=self._random.getrandbits(128), version=4),
            name=f"Prompt {token}",
            content=f"{token} {token}",
            type=self._random.choice(list(PromptType)),
            created_at=now,
            updated_at=now,
            description=self._random.choice((None, "Written by an application")),
            system_message=self._random.choice((None, "", "Be brief.")),
            project_id=scope,
            organization_id=scope.partition("/")[0],
            enabled=True,
        )
        call = _nothing_seen(lambda: self._prompts.save(prompt))
        self._history.perform(Kind.INSERT, scope, call, record=token, value=token)

    def _update(self, found: Prompt, scope: str) -> None:
        record, token = record_of(found.content), self._history.token()
        changed = replace(found.with_content(f"{record} {token}"), project_id=scope)
        call = _nothing_seen(lambda: self._prompts.update(changed))
        self._history.perform(Kind.UPDATE, scope, call, record=record, value=token)

    def _other(self, scope: str) -> str:
        """A scope of the same organization: legacy cannot move a prompt to another one."""
        organization = scope.partition("/")[0]
        return self._random.choice([each for each in self._scopes if each.partition("/")[0] == organization])


def _nothing_seen(call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        call()

    return run


def run_raw(task: Task, store: Store, stop: threading.Event) -> None:
    """A program with its own SQL on one store: Dispatch itself, or the TypeScript service."""
    history, random = History(task.history, judge_raw), Random(task.seed)
    url = os.environ["CROSSFADE_LEGACY_URL" if store is Store.LEGACY else "CROSSFADE_NEW_URL"]
    sentences = dispatch_sentences if store is Store.LEGACY else typescript_sentences
    while not stop.is_set():
        with (
            suppress(psycopg.OperationalError, psycopg.InterfaceError),
            psycopg.connect(url, application_name=task.history.stem, connect_timeout=5) as connection,
        ):
            writer = RawWriter(connection, history, random, stop)
            while not connection.closed and not stop.wait(random.random() * _PAUSE_SECONDS):
                scope = random.choice(task.scopes)
                writer.step(scope, sentences(scope))
        stop.wait(_AWAY_SECONDS)


@dataclass(frozen=True, slots=True)
class Sentences:
    """Statements on one scope. Parameters: ``record`` and ``value``; ``find`` answers the text."""

    find: sql.Composed
    insert: sql.Composed
    update: sql.Composed
    delete: sql.Composed


class RawWriter:
    """Writes in transactions of its own: of either isolation, now and then slow to commit."""

    def __init__(self, connection: psycopg.Connection, history: History, random: Random, stop: threading.Event) -> None:
        self._connection, self._history, self._random, self._stop = connection, history, random, stop

    def step(self, scope: str, sentences: Sentences) -> None:
        self._connection.isolation_level = self._random.choice((None, None, IsolationLevel.REPEATABLE_READ))
        row = self._connection.execute(sentences.find).fetchone()
        self._connection.rollback()
        if row is None:
            self.insert(scope, sentences)
        elif self._random.random() < 0.8:
            self.update(scope, sentences)
        else:
            self.delete(scope, sentences, record_of(row[0]))

    def insert(self, scope: str, sentences: Sentences) -> Outcome:
        token = self._history.token()
        call = self._call(sentences.insert, token, token)
        return self._history.perform(Kind.INSERT, scope, call, record=token, value=token)

    def update(self, scope: str, sentences: Sentences) -> Outcome:
        """Change the text of whatever record is there by then."""
        token = self._history.token()
        return self._history.perform(Kind.UPDATE, scope, self._call(sentences.update, None, token), value=token)

    def delete(self, scope: str, sentences: Sentences, record: str) -> Outcome:
        return self._history.perform(Kind.DELETE, scope, self._call(sentences.delete, record, None), record=record)

    def _call(self, sentence: sql.Composed, record: str | None, value: str | None) -> Callable[[], None]:
        def call() -> None:
            try:
                cursor = self._connection.execute(sentence, {"record": record, "value": value})
                if self._random.random() < 0.03:
                    self._stop.wait(self._random.random() * _DAWDLE_SECONDS)
                self._connection.commit()
            except psycopg.Error:
                with suppress(psycopg.Error):  # a connection that is gone cannot roll back, and need not
                    self._connection.rollback()
                raise
            if cursor.rowcount == 0:
                raise Nothing

        return call


def dispatch_sentences(scope: str) -> Sentences:
    place = parse_scope(scope, with_type=True)
    assert place is not None
    assert place.type in BY_NUMBER
    at = sql.SQL("project_id = {} AND genai_type = {} AND enabled").format(place.project, place.type)
    return _sentences(
        sql.Identifier(tenant_schema(place.organization), "prompt"),
        sql.Identifier("genai_prompt"),
        at,
        "(genai_type, genai_prompt, enabled, created_at, updated_at, project_id) VALUES"
        " ({type}, %(record)s::text || ' ' || %(value)s::text, true, now(), now(), {project})",
        type=sql.Literal(place.type),
        project=sql.Literal(place.project),
    )


def typescript_sentences(scope: str) -> Sentences:
    at = sql.SQL("project_id = {} AND enabled").format(sql.Literal(scope))
    return _sentences(
        sql.Identifier("prompts"),
        sql.Identifier("content"),
        at,
        "(name, content, type, project_id, organization_id, enabled) VALUES"
        " ('Born new', %(record)s::text || ' ' || %(value)s::text, 'custom', {scope}, {organization}, true)",
        scope=sql.Literal(scope),
        organization=sql.Literal(scope.partition("/")[0]),
    )


def _sentences(
    table: sql.Identifier, text: sql.Identifier, at: sql.Composed, values: LiteralString, **given: sql.Literal
) -> Sentences:
    record = sql.SQL("split_part({}, ' ', 1)").format(text)
    return Sentences(
        sql.SQL("SELECT {} FROM {} WHERE {}").format(text, table, at),
        sql.SQL("INSERT INTO {} ").format(table) + sql.SQL(values).format(**given),
        sql.SQL("UPDATE {} SET {} = {} || ' ' || %(value)s::text WHERE {}").format(table, text, record, at),
        sql.SQL("DELETE FROM {} WHERE {} AND {} = %(record)s").format(table, at, record),
    )
