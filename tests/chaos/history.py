"""Histories: what each client asked for and what it was told, written so that ``kill -9`` cuts off nothing.

One JSON line goes to the client's own file before a call and one after it, each in a single ``write``. Stamps are
seconds of CLOCK_MONOTONIC, which all processes of one machine share. A call without its second line has an unknown
outcome, like one whose answer was lost.

The text of every prompt is ``<record> <value>``: who the record is, for life, and which write gave it this text.
Both are unique in a run.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Kind(StrEnum):
    INSERT = "insert"
    UPDATE = "update"  # of the text, of the scope, or both
    DELETE = "delete"
    READ = "read"


class Outcome(StrEnum):
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"  # the store said that nothing has changed
    UNKNOWN = "unknown"


class Nothing(Exception):
    """There was no row to change: a refusal, as far as the checker is concerned."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. ``record`` is None where the client cannot know it, ``value`` for deletes and reads.

    ``seen`` is the text that a read returned. ``why`` names the error, ``fault`` says that it was one that a client
    must never see.
    """

    client: str
    number: int
    kind: Kind
    scope: str
    record: str | None = None
    value: str | None = None
    invoked: float = 0.0
    returned: float = math.inf
    outcome: Outcome = Outcome.UNKNOWN
    seen: str | None = None
    why: str = ""
    fault: bool = False

    def __str__(self) -> str:
        took = f"{self.invoked:.6f} to {self.returned:.6f}"
        told = f"{self.outcome}{f' ({self.why})' if self.why else ''}"
        return f"{took} {self.client} {self.kind} {self.scope} {self.record} {self.value} {self.seen}: {told}"


Judge = Callable[[Exception], tuple[Outcome, bool]]  # what an error means, and whether it is a fault


class History:
    """One client's file. ``judge`` says what an error means for the outcome."""

    def __init__(self, path: Path, judge: Judge) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._client, self._judge, self._number = path.stem, judge, 0

    def token(self) -> str:
        """A name for the next write, and for the record if it makes one; unique in the run."""
        return f"{self._client}:{self._number + 1}"

    def perform(
        self,
        kind: Kind,
        scope: str,
        call: Callable[[], str | None],
        *,
        record: str | None = None,
        value: str | None = None,
    ) -> Outcome:
        """Call, with a line before and one after; an error of the call is judged and not raised."""
        self._number += 1
        told: dict[str, Any] = {"n": self._number}
        self._write(told | {"kind": kind, "scope": scope, "record": record, "value": value, "at": time.monotonic()})
        try:
            seen = call()
        except Exception as error:  # noqa: BLE001 - whatever it was is judged, and told to the checker
            outcome, fault = self._judge(error)
            name = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
            why = f"{name}: {error}"[:300] if fault else name
            told |= {"outcome": outcome, "why": why, "fault": fault}
        else:
            outcome = Outcome.ACKNOWLEDGED
            told |= {"outcome": outcome, "seen": seen}
        self._write(told | {"at": time.monotonic()})
        return outcome

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._file, (json.dumps(line) + "\n").encode())


def read_histories(directory: Path) -> list[Operation]:
    """All operations of all clients, in the order of their invocation."""
    found = [each for path in sorted(directory.glob("*.jsonl")) for each in _read(path)]
    return sorted(found, key=lambda each: each.invoked)


def _read(path: Path) -> Iterator[Operation]:
    pending: dict[str, Any] | None = None
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")  # what a kill cut off was never acted upon
    for text in filter(None, whole.split("\n")):
        line = json.loads(text)
        if "kind" in line:
            if pending is not None:
                yield _operation(path.stem, pending, {})
            pending = line
        elif pending is not None:
            yield _operation(path.stem, pending, line)
            pending = None
    if pending is not None:
        yield _operation(path.stem, pending, {})


def _operation(client: str, asked: dict[str, Any], told: dict[str, Any]) -> Operation:
    return Operation(
        client,
        asked["n"],
        Kind(asked["kind"]),
        asked["scope"],
        asked["record"],
        asked["value"],
        asked["at"],
        told.get("at", math.inf),
        Outcome(told.get("outcome", Outcome.UNKNOWN)),
        told.get("seen"),
        told.get("why", ""),
        told.get("fault", False),
    )
