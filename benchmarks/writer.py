"""A process that writes flat out: single rows, each a transaction of its own, by plain psycopg.

It knows of Crossfade no more than any program has to that writes while authority moves: a write that the guard
refuses (SQLSTATE XF001) goes to the other store. Its scopes are its own, so it knows what each of them must hold.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from random import Random
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from adapters.postgres.guarding import NO_AUTHORITY
from adapters.prompts.canonical import LegacyScope, parse_scope
from adapters.prompts.dispatch_tables import tenant_schema

_OTHER = {"legacy": "new", "new": "legacy"}
_PAUSE_SECONDS = 0.001  # between the two commits of a move both stores refuse
_IN_LEGACY = "WHERE project_id = %(project)s AND genai_type = %(type)s AND enabled"
_IN_NEW = "WHERE project_id = %(scope)s AND enabled"
_LEGACY: dict[str, LiteralString] = {
    "find": "SELECT genai_prompt FROM {table} {where}",
    "insert": "INSERT INTO {table} (genai_type, genai_prompt, enabled, created_at, updated_at, project_id)"
    " VALUES (%(type)s, %(text)s, true, now(), now(), %(project)s)",
    "update": "UPDATE {table} SET genai_prompt = %(text)s, updated_at = now() {where}",
    "delete": "DELETE FROM {table} {where}",
}
_NEW: dict[str, LiteralString] = {
    "find": "SELECT content FROM prompts {where}",
    "insert": "INSERT INTO prompts (name, content, type, project_id, organization_id, enabled)"
    " VALUES ('Benchmark', %(text)s, 'custom', %(scope)s, %(organization)s, true)",
    "update": "UPDATE prompts SET content = %(text)s {where}",
    "delete": "DELETE FROM prompts {where}",
}
_TEXT = "Say in two sentences what happened, and to whom. " * 8


@dataclass(frozen=True, slots=True)
class Round:
    """Write to ``place`` (first), for ``seconds``, or, without, until the event is set; flat out without ``pause``."""

    place: str
    seconds: float | None = None
    pause: float = 0.0  # seconds between two writes


@dataclass(slots=True)
class Report:
    """``ended`` and ``took``: when each acknowledged write ended (seconds since 1970) and how long its caller waited.

    ``holds``: what each of the writer's scopes must hold now, None for nothing.
    """

    seconds: float = 0.0
    refused: int = 0
    ended: array[float] = field(default_factory=lambda: array("d"))
    took: array[float] = field(default_factory=lambda: array("d"))
    holds: dict[str, str | None] = field(default_factory=dict)


class Writer:
    def __init__(self, number: int, urls: Mapping[str, str], scopes: Sequence[str], stop: Event) -> None:
        self._number, self._scopes, self._stop = number, scopes, stop
        self._random, self._stack = Random(number), ExitStack()
        self._connections = {
            place: self._stack.enter_context(psycopg.connect(url, autocommit=True)) for place, url in urls.items()
        }
        self._places = {scope: _parsed(scope) for scope in scopes}
        self._statements: dict[tuple[str, str, str], bytes] = {}

    def run(self, task: Round) -> Report:
        report, held = Report(), dict.fromkeys(self._scopes, task.place)
        report.holds = {scope: self._present(task.place, scope) for scope in self._scopes}
        began = time.perf_counter()
        while not (self._stop.is_set() if task.seconds is None else time.perf_counter() - began > task.seconds):
            scope = self._random.choice(self._scopes)
            verb = self._choose(report.holds[scope])
            text = None if verb == "delete" else f"{_TEXT}{self._number}.{len(report.took)}"
            self._write(report, held, verb, scope, text)
            report.holds[scope] = text
            if task.pause:
                time.sleep(task.pause)
        report.seconds = time.perf_counter() - began
        return report

    def _choose(self, present: str | None) -> str:
        if present is None:
            return "insert"
        return "update" if self._random.random() < 0.8 else "delete"

    def _write(self, report: Report, held: dict[str, str], verb: str, scope: str, text: str | None) -> None:
        asked = time.perf_counter()
        turns = 0
        while True:
            place = held[scope]
            try:
                cursor = self._execute(place, verb, scope, text)
            except psycopg.Error as error:
                if error.sqlstate != NO_AUTHORITY:
                    raise
                report.refused += 1
                held[scope] = _OTHER[place]
                turns += 1
                if turns > 1:
                    time.sleep(_PAUSE_SECONDS)
            else:
                assert cursor.rowcount == 1, f"{place} had {cursor.rowcount} rows to {verb} in {scope}, not one"
                report.took.append(time.perf_counter() - asked)
                report.ended.append(time.time())
                return

    def _present(self, place: str, scope: str) -> str | None:
        row = self._execute(place, "find", scope, None).fetchone()
        return None if row is None else str(row[0])

    def _execute(self, place: str, verb: str, scope: str, text: str | None) -> psycopg.Cursor[Any]:
        at = self._places[scope]
        values = {"scope": scope, "organization": at.organization, "project": at.project, "type": at.type, "text": text}
        shape = (place, verb, at.organization)
        statement = self._statements.get(shape)
        if statement is None:
            statement = self._statements[shape] = _statement(*shape).as_bytes(None)
        return self._connections[place].execute(statement, values)


def _parsed(scope: str) -> LegacyScope:
    place = parse_scope(scope, with_type=True)
    assert place is not None, scope
    return place


def _statement(place: str, verb: str, organization: str) -> sql.Composed:
    """By a unique index, as by a primary key: in both stores one enabled prompt stands in a scope."""
    if place.endswith("legacy"):
        table = sql.Identifier(tenant_schema(organization), "prompt")
        return sql.SQL(_LEGACY[verb]).format(table=table, where=sql.SQL(_IN_LEGACY))
    return sql.SQL(_NEW[verb]).format(where=sql.SQL(_IN_NEW))
