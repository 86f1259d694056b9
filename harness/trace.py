"""Traces: recorded calls of a repository contract, one JSON object a line, and their replay.

    {"at": 0.25, "operation": "find_by_id", "arguments": {"id": "…"}}

``at`` is in seconds since the recording began and never goes back. What arguments look like is the adapter's codec's
matter. Traces are read line by line, so their length does not matter.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from harness.errors import ConfigError, Refused
from harness.operations import Operation, operations_of
from harness.ports import Clock
from harness.workload import Call, Performed, perform

LONGEST_LINE = 1_000_000  # characters
_KEYS = {"at", "operation", "arguments"}


class Codec(Protocol):
    """Between the contract's arguments and their JSON."""

    def encode(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call, by name, as what ``json`` can write."""
        ...

    def decode(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The reverse. Raises ValueError, without quoting values, for what the operation does not take."""
        ...


@dataclass(frozen=True, slots=True)
class TracedCall:
    at: float
    operation: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace in a file. Reading it raises ConfigError, naming file and line, where it is no trace of the contract.

    Raises Refused for a call that writes, unless ``allow_writes``.
    """

    path: Path
    contract: type[Any]
    codec: Codec
    allow_writes: bool = False

    def check(self) -> int:
        """Read it all, so that nothing is called of a trace that is wrong further down; how many calls it has."""
        return sum(1 for _ in self.calls())

    def calls(self) -> Iterator[TracedCall]:
        operations = operations_of(self.contract)
        before = 0.0
        try:
            with self.path.open(encoding="utf-8") as lines:
                for number, line in enumerate(iter(lambda: lines.readline(LONGEST_LINE + 1), ""), 1):
                    if line.strip() or len(line) > LONGEST_LINE:
                        call = self._call(line, number, operations, before)
                        before = call.at
                        yield call
        except OSError as error:
            raise ConfigError(f"cannot read the trace {self.path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"the trace {self.path} is not UTF-8") from error

    def replay(self, repository: Any, *, speed: float = 1.0, clock: Clock, stop: Event) -> Performed:
        """Make the calls at their recorded pace times ``speed``; 0 for as fast as they are answered."""
        if not (math.isfinite(speed) and speed >= 0):
            raise ConfigError(f"speed must be a number from 0 up, not {speed}")
        schedule = (
            (call.at / speed if speed else 0.0, call.operation, _calling(call.operation, call.arguments))
            for call in self.calls()
        )
        return perform(schedule, repository, clock=clock, stop=stop)

    def _call(self, line: str, number: int, operations: Mapping[str, Operation], before: float) -> TracedCall:
        def wrong(what: str) -> ConfigError:
            return ConfigError(f"{self.path}, line {number}: {what}")

        if len(line) > LONGEST_LINE:
            raise wrong(f"longer than {LONGEST_LINE:,} characters")
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise wrong("not valid JSON") from error
        if not isinstance(entry, dict) or set(entry) != _KEYS:
            raise wrong(f"not an object of just {', '.join(sorted(_KEYS))}")
        at, name, arguments = entry["at"], entry["operation"], entry["arguments"]
        if isinstance(at, bool) or not isinstance(at, int | float) or not before <= at < math.inf:
            raise wrong('"at" must be seconds, no less than in the lines before')
        if not isinstance(name, str) or name not in operations:
            raise wrong(f'"operation" is none of {", ".join(sorted(operations))}')
        if operations[name].kind == "write" and not self.allow_writes:
            raise Refused(
                f"{self.path}, line {number}: {name} writes, and a trace is replayed for its reads alone; "
                "remove such lines"
            )
        if not isinstance(arguments, dict):
            raise wrong('"arguments" is not an object')
        try:
            return TracedCall(float(at), name, self.codec.decode(name, arguments))
        except (ValueError, TypeError) as error:
            raise wrong(f"{name} does not take these arguments: {error}") from error


def _calling(operation: str, arguments: Mapping[str, Any]) -> Call:
    def call(repository: Any) -> object:
        return getattr(repository, operation)(**arguments)

    return call


class Recorder:
    """Stands before a repository and writes each call to a trace before it is made. Safe for threads.

    A context manager: leaving it closes the file. Raises ConfigError when the trace cannot be written.
    """

    def __init__(self, contract: type[Any], repository: Any, codec: Codec, path: Path, clock: Clock) -> None:
        self._path, self._codec, self._clock = path, codec, clock
        self._lock = Lock()
        try:
            self._lines: TextIO = path.open("w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write the trace {path}: {error.strerror}") from error
        self._started = clock()
        for name in operations_of(contract):
            setattr(self, name, self._recording(name, contract, getattr(repository, name)))

    def __getattr__(self, name: str) -> Any:
        """For type checkers: the contract's methods are set one by one."""
        raise AttributeError(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()

    def _recording(self, name: str, contract: type[Any], method: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(getattr(contract, name))

        def call(*args: Any, **kwargs: Any) -> Any:
            arguments = dict(signature.bind(None, *args, **kwargs).arguments)  # None stands for self
            arguments.pop(next(iter(signature.parameters)))
            self._write(name, self._codec.encode(name, arguments))
            return method(*args, **kwargs)

        return call

    def _write(self, name: str, arguments: dict[str, Any]) -> None:
        with self._lock:  # the clock is read inside, so that "at" never goes back
            at = round(self._clock() - self._started, 6)
            line = json.dumps({"at": at, "operation": name, "arguments": arguments})
            try:
                self._lines.write(line + "\n")
            except OSError as error:
                raise ConfigError(f"cannot write the trace {self._path}: {error.strerror}") from error
