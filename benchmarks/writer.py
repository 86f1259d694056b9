"""A process that writes flat out, one prompt after the other, by plain psycopg.

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

import psycopg

from adapters.postgres.guarding import NO_AUTHORITY
from adapters.prompts.canonical import LegacyScope, parse_scope
from benchmarks import manners

_OTHER = {"legacy": "new", "new": "legacy"}
_PAUSE_SECONDS = 0.001  # between the two commits of a move both stores refuse
_TEXT = "Say in two sentences what happened, and to whom. " * 8


@dataclass(frozen=True, slots=True)
class Round:
    """Write to ``place`` (first), for ``seconds``, or, without, until the event is set; flat out without ``pause``.

    ``manner``: one of ``manners.MANNERS``.
    """

    manner: str
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

    def run(self, task: Round) -> Report:
        report, held = Report(), dict.fromkeys(self._scopes, task.place)
        connection = self._connections[task.place]
        report.holds = {
            scope: manners.present(connection, task.place, self._values(scope, None)) for scope in self._scopes
        }
        began = time.perf_counter()
        while not (self._stop.is_set() if task.seconds is None else time.perf_counter() - began > task.seconds):
            scope = self._random.choice(self._scopes)
            verb = self._choose(report.holds[scope])
            text = None if verb == "delete" else f"{_TEXT}{self._number}.{len(report.took)}"
            self._write(task.manner, report, held, verb, scope, text)
            report.holds[scope] = text
            if task.pause:
                time.sleep(task.pause)
        report.seconds = time.perf_counter() - began
        return report

    def _choose(self, present: str | None) -> str:
        if present is None:
            return "insert"
        return "update" if self._random.random() < 0.8 else "delete"

    def _write(
        self, manner: str, report: Report, held: dict[str, str], verb: str, scope: str, text: str | None
    ) -> None:
        write, values = manners.MANNERS[manner], self._values(scope, text)
        asked = time.perf_counter()
        turns = 0
        while True:
            place = held[scope]
            try:
                rows = write(self._connections[place], place, verb, values)
            except psycopg.Error as error:
                if error.sqlstate != NO_AUTHORITY:
                    raise
                report.refused += 1
                held[scope] = _OTHER[place]
                turns += 1
                if turns > 1:
                    time.sleep(_PAUSE_SECONDS)
            else:
                assert rows == 1, f"{place} had {rows} rows to {verb} in {scope}, not one"
                report.took.append(time.perf_counter() - asked)
                report.ended.append(time.time())
                return

    def _values(self, scope: str, text: str | None) -> dict[str, object]:
        at = self._places[scope]
        return {"scope": scope, "organization": at.organization, "project": at.project, "type": at.type, "text": text}


def _parsed(scope: str) -> LegacyScope:
    place = parse_scope(scope, with_type=True)
    assert place is not None, scope
    return place
