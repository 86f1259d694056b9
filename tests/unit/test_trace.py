"""Traces: what is recorded can be replayed, and what is no trace is refused with its line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import pytest

from adapters.prompts.contract import PromptRepository
from adapters.prompts.prompt import Prompt, PromptFilter, PromptType
from adapters.prompts.trace_codec import PromptCodec
from harness.errors import ConfigError, NotFound, Refused
from harness.trace import LONGEST_LINE, Recorder, Trace

ID = UUID("4b7f6f2e-58a0-4f0e-9f0c-7b6a9d3f1a11")
STAMP = datetime(2025, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
PROMPT = Prompt(
    ID, "Näme", "a\u2028b\n🚒\ud83d".encode("utf-8", "ignore").decode(), PromptType.CUSTOM, STAMP, STAMP, enabled=True
)


class FakeTime(Event):
    """A clock that only waiting moves."""

    now = 0.0

    def clock(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0
        return self.is_set()


class FakeRepository:
    """Remembers what it was asked, and when; has no prompt."""

    def __init__(self, time: FakeTime) -> None:
        self.time = time
        self.asked: list[tuple[float, str, dict[str, Any]]] = []

    def _ask(self, operation: str, **arguments: Any) -> None:
        self.asked.append((self.time.now, operation, arguments))

    def find_by_id(self, id: UUID) -> None:
        self._ask("find_by_id", id=id)

    def find_by_name(self, name: str, project_id: str | None = None) -> None:
        self._ask("find_by_name", name=name, project_id=project_id)

    def find_all(self, query: PromptFilter) -> None:
        self._ask("find_all", query=query)

    def find_enabled_by_project(self, project_id: str) -> None:
        self._ask("find_enabled_by_project", project_id=project_id)

    def save(self, prompt: Prompt) -> Prompt:
        self._ask("save", prompt=prompt)
        return prompt

    def update(self, prompt: Prompt) -> Prompt:
        self._ask("update", prompt=prompt)
        raise NotFound("no such prompt")

    def delete(self, id: UUID) -> None:
        self._ask("delete", id=id)


def trace(path: Path, *, allow_writes: bool = True) -> Trace:
    return Trace(path, PromptRepository, PromptCodec(), allow_writes)


def written(path: Path, *lines: str | dict[str, Any]) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def read_line(at: float = 0, **other: Any) -> dict[str, Any]:
    return {"at": at, "operation": "find_by_id", "arguments": {"id": str(ID)}} | other


def ask_everything(repository: Any, time: FakeTime) -> None:
    """Each operation once, positional and named, a second apart."""
    repository.find_by_id(ID)
    time.wait(1)
    repository.find_by_name("n")
    time.wait(1)
    repository.find_by_name("n", project_id="acme/project-1/type-7")
    time.wait(1)
    repository.find_all(PromptFilter(page=2, limit=50, type=PromptType.CUSTOM, enabled=False))
    time.wait(1)
    repository.find_enabled_by_project(project_id="机构/project-1")
    time.wait(1)
    repository.save(PROMPT)
    with pytest.raises(NotFound):
        repository.update(prompt=PROMPT)
    repository.delete(ID)


def test_what_was_recorded_is_replayed(tmp_path: Path) -> None:
    """The same calls with equal arguments, at the same distances, refused ones included."""
    time = FakeTime()
    repository = FakeRepository(time)
    path = tmp_path / "trace.jsonl"
    with Recorder(PromptRepository, repository, PromptCodec(), path, time.clock) as recorder:
        ask_everything(recorder, time)
    first, repository.asked, time.now = repository.asked, [], 0.0
    assert len(first) == 8
    assert trace(path).check() == 8
    performed = trace(path).replay(repository, clock=time.clock, stop=time)
    assert repository.asked == first
    assert performed.calls["find_by_name"] == 2
    assert performed.refused == {"update": 1}


@pytest.mark.parametrize(("speed", "times"), [(1, [0, 2, 3]), (2, [0, 1, 1.5]), (0, [0, 0, 0])])
def test_speed_divides_the_distances(tmp_path: Path, speed: float, times: list[float]) -> None:
    """Twice the speed is half the time; 0 is as fast as it goes."""
    path = written(tmp_path / "t", read_line(0), read_line(2), "", read_line(3))
    time = FakeTime()
    repository = FakeRepository(time)
    trace(path).replay(repository, speed=speed, clock=time.clock, stop=time)
    assert [at for at, _, _ in repository.asked] == times


def test_stop_ends_a_replay(tmp_path: Path) -> None:
    """No call is made once the event is set."""
    path = written(tmp_path / "t", read_line(0), read_line(1))
    time = FakeTime()
    time.set()
    repository = FakeRepository(time)
    assert trace(path).replay(repository, clock=time.clock, stop=time).calls == {}
    assert repository.asked == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not an object of just arguments, at, operation"),
        (read_line(more=1), "not an object of just"),
        (read_line(at=-1), '"at" must be seconds'),
        (read_line(at=0.5), "no less than in the lines before"),
        (json.dumps(read_line()).replace("0", "NaN", 1), '"at" must be seconds'),
        (read_line(at=True), '"at" must be seconds'),
        (read_line(2, operation="find"), '"operation" is none of delete, find_all'),
        (read_line(2, operation=["x"]), '"operation" is none of'),
        (read_line(2, arguments=[]), '"arguments" is not an object'),
        (read_line(2, arguments={}), "missing id"),
        (read_line(2, arguments={"id": str(ID), "x": 1}), "unknown x"),
        (read_line(2, arguments={"id": "secret words"}), "id: Input should be a valid UUID"),
        (read_line(2, operation="find_all", arguments={"query": {"page": 0}}), "page counts from 1"),
        (read_line(2, operation="find_all", arguments={"query": {"limit": "5"}}), "limit: Input should be a valid int"),
        (read_line(2, operation="find_all", arguments={"query": {"pages": 1}}), "unknown pages"),
        (read_line(2, operation="save", arguments={"prompt": {}}), "prompt.id: "),
        ('{"at": 2, "operation": "find_by_name", "arguments": {"name": "\\ud800"}}', "name: "),
        (" " * (LONGEST_LINE + 1), "longer than 1,000,000 characters"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(tmp_path: Path, line: str | dict[str, Any], said: str) -> None:
    """The message names file, line and fault, and quotes no value."""
    path = written(tmp_path / "t.jsonl", read_line(1), line)
    with pytest.raises(ConfigError, match=said) as caught:
        trace(path).check()
    assert "t.jsonl, line 2: " in str(caught.value)
    assert "secret" not in str(caught.value)


def test_stamps_without_a_zone_are_refused(tmp_path: Path) -> None:
    """A prompt in a trace says when it was made without leaving the zone to chance."""
    prompt = PromptCodec().encode("save", {"prompt": PROMPT})["prompt"] | {"created_at": "2025-01-01T00:00:00"}
    path = written(tmp_path / "t", read_line(operation="save", arguments={"prompt": prompt}))
    with pytest.raises(ConfigError, match="stamps need a time zone"):
        trace(path).check()


def test_writes_are_refused_unless_allowed(tmp_path: Path) -> None:
    """A trace that writes is not replayed by a run that only reads."""
    path = written(tmp_path / "t", read_line(), read_line(operation="delete"))
    with pytest.raises(Refused, match="line 2: delete writes"):
        trace(path, allow_writes=False).check()
    assert trace(path).check() == 2


@pytest.mark.parametrize("content", [None, b"\xff\xfe{}"])
def test_a_file_that_cannot_be_read_is_a_settings_error(tmp_path: Path, content: bytes | None) -> None:
    """Missing, or no text: one clear message."""
    path = tmp_path / "t"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="the trace"):
        trace(path).check()


def test_a_trace_that_cannot_be_written_is_a_settings_error(tmp_path: Path) -> None:
    """Before the first call, not at the first call."""
    with pytest.raises(ConfigError, match="cannot write the trace"):
        Recorder(PromptRepository, FakeRepository(FakeTime()), PromptCodec(), tmp_path / "no" / "t", FakeTime().clock)


@pytest.mark.parametrize("speed", [-1, float("nan"), float("inf")])
def test_an_unfit_speed_is_refused(tmp_path: Path, speed: float) -> None:
    """Speed is a finite factor, 0 or more."""
    time = FakeTime()
    with pytest.raises(ConfigError, match="speed"):
        trace(written(tmp_path / "t")).replay(FakeRepository(time), speed=speed, clock=time.clock, stop=time)


def test_a_long_trace_is_read_line_by_line(tmp_path: Path) -> None:
    """The first call is there before the file has been read: further lines may still be wrong."""
    calls = trace(written(tmp_path / "t", read_line(), "{")).calls()
    assert next(calls).arguments == {"id": ID}
    with pytest.raises(ConfigError, match="line 2"):
        next(calls)
