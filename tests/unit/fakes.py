"""Small stores and neighbours in memory, for tests of the core."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from adapters.prompts.prompt import Prompt, PromptFilter, PromptPage, PromptType
from harness.errors import Conflict, CrossfadeError, NoAuthority, NotFound, StoreUnavailable
from harness.records import MismatchSample
from harness.routing import Route, RouteView, Store
from harness.statistics import Role, Statistics

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
WAIT = 10.0  # seconds that a test waits for a condition, at most; none is expected to take a tenth of it


def eventually(condition: Callable[[], bool], within: float = WAIT) -> bool:
    """Wait for a condition that another thread brings about; False if it does not."""
    pause = threading.Event()
    for _ in range(round(within / 0.005)):
        if condition():
            return True
        pause.wait(0.005)
    return condition()


def prompt(scope: str | None = "acme/project-1/incident-summary", **changes: object) -> Prompt:
    made = Prompt(uuid4(), "Summary", "Say what broke.", PromptType.SUMMARIZATION, NOON, NOON, project_id=scope)
    return replace(made, **changes)  # type: ignore[arg-type]  # a test names the fields it changes


class InMemoryPrompts:
    """A PromptRepository over a dictionary. ``before`` is called with each operation's name, and may raise or wait."""

    def __init__(self, *prompts: Prompt) -> None:
        self.rows = {row.id: row for row in prompts}
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda name: None

    def _enter(self, name: str) -> None:
        self.asked.append(name)
        self.before(name)

    def _newest_first(self) -> list[Prompt]:
        by_id = sorted(self.rows.values(), key=lambda row: row.id)
        return sorted(by_id, key=lambda row: row.created_at, reverse=True)

    def find_by_id(self, id: UUID) -> Prompt | None:
        self._enter("find_by_id")
        return self.rows.get(id)

    def find_by_name(self, name: str, project_id: str | None = None) -> Prompt | None:
        self._enter("find_by_name")
        return next((r for r in self._newest_first() if (r.name, r.project_id) == (name, project_id)), None)

    def find_all(self, query: PromptFilter) -> PromptPage:
        self._enter("find_all")
        wanted = {
            name: value
            for name in ("project_id", "organization_id", "type", "enabled")
            if (value := getattr(query, name)) is not None
        }
        found = [r for r in self._newest_first() if all(getattr(r, name) == v for name, v in wanted.items())]
        start = (query.page - 1) * query.limit
        return PromptPage(tuple(found[start : start + query.limit]), len(found), query.page, query.limit)

    def find_enabled_by_project(self, project_id: str) -> Prompt | None:
        self._enter("find_enabled_by_project")
        return next((r for r in self.rows.values() if r.enabled and r.project_id == project_id), None)

    def save(self, prompt: Prompt) -> Prompt:
        self._enter("save")
        if prompt.id in self.rows:
            raise Conflict(f"prompt {prompt.id} exists already")
        self._check_enabled(prompt)
        self.rows[prompt.id] = prompt
        return prompt

    def update(self, prompt: Prompt) -> Prompt:
        self._enter("update")
        if prompt.id not in self.rows:
            raise NotFound(f"prompt {prompt.id} not found")
        self._check_enabled(prompt)
        kept = replace(prompt, created_at=self.rows[prompt.id].created_at, updated_at=datetime.now(UTC))
        self.rows[prompt.id] = kept
        return kept

    def delete(self, id: UUID) -> None:
        self._enter("delete")
        if self.rows.pop(id, None) is None:
            raise NotFound(f"prompt {id} not found")

    def _check_enabled(self, prompt: Prompt) -> None:
        if not prompt.enabled or prompt.project_id is None:
            return
        if any(r.enabled and r.project_id == prompt.project_id and r.id != prompt.id for r in self.rows.values()):
            raise Conflict(f"{prompt.project_id} has an enabled prompt already")


class GuardedPrompts(InMemoryPrompts):
    """A store whose guard refuses writes to scopes that its own copy of the route gives to the other one.

    ``lock`` is its fence: each write holds it. ``made`` lists the key of every write that was made.
    """

    def __init__(self, store: Store, *prompts: Prompt, route: Route | None = None) -> None:
        super().__init__(*prompts)
        self.store, self.route = store, route or Route()
        self.lock = threading.Lock()
        self.made: list[UUID] = []

    def save(self, prompt: Prompt) -> Prompt:
        with self.lock:
            self._guard(prompt)
            answer = super().save(prompt)
            self.made.append(prompt.id)
            return answer

    def update(self, prompt: Prompt) -> Prompt:
        with self.lock:
            if prompt.id in self.rows:  # as a trigger for each row
                self._guard(prompt, self.rows[prompt.id])
            answer = super().update(prompt)
            self.made.append(prompt.id)
            return answer

    def delete(self, id: UUID) -> None:
        with self.lock:
            self._guard(self.rows.get(id))
            super().delete(id)
            self.made.append(id)

    def _guard(self, *images: Prompt | None) -> None:
        for image in images:
            if image and image.project_id and self.route.authority(image.project_id) is not self.store:
                self.asked.append("refused")
                raise NoAuthority(f"{image.project_id} lives in {self.store.other} now")


class Rehearsing:
    """Rehearses the writes of a store: made on a copy of its rows, whatever its guard says. ``asked`` lists them."""

    def __init__(self, store: InMemoryPrompts) -> None:
        self._store = store
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda name: None

    def save(self, prompt: Prompt) -> Prompt:
        return self._copy("save").save(prompt)

    def update(self, prompt: Prompt) -> Prompt:
        return self._copy("update").update(prompt)

    def delete(self, id: UUID) -> None:
        self._copy("delete").delete(id)

    def _copy(self, name: str) -> InMemoryPrompts:
        self.asked.append(name)
        self.before(name)
        return InMemoryPrompts(*self._store.rows.values())


@dataclass
class RouteBook:
    """A Routes whose view a test replaces, and which fails while ``failing``."""

    current: RouteView = field(default_factory=RouteView)
    failing: bool = False
    reads: int = 0

    def view(self) -> RouteView:
        self.reads += 1
        if self.failing:
            raise StoreUnavailable("new cannot be reached; the route is unknown")
        return self.current

    @classmethod
    def of(cls, reads: float = 0, shadow: float = 100, **view: object) -> RouteBook:
        route = Route(epoch=1, reads_percent=reads, shadow_percent=shadow)
        return cls(RouteView(route, **view))  # type: ignore[arg-type]  # a test names the fields it sets


class CopyingCarrier:
    """A Carrier that makes new's rows equal to legacy's, as soon as it may: ``allow`` holds it back."""

    def __init__(self, legacy: InMemoryPrompts, new: InMemoryPrompts) -> None:
        self._legacy, self._new = legacy, new
        self.allow = threading.Event()
        self.allow.set()
        self.failing = False
        self.calls: list[tuple[frozenset[str], frozenset[Hashable]]] = []
        self.unsettled: set[tuple[str | None, Hashable | None]] = set()
        self.noted: dict[Hashable, Collection[Store]] = {}
        self.asked_for: list[Hashable] = []

    def carry(self, scopes: Collection[str], keys: Collection[Hashable]) -> None:
        self.allow.wait(WAIT)
        self.calls.append((frozenset(scopes), frozenset(keys)))
        if self.failing:
            raise CrossfadeError("new refused a scope; see crossfade status")
        self._new.rows = dict(self._legacy.rows)

    def is_settled(self, scope: str | None, key: Hashable | None) -> bool:
        return (scope, key) not in self.unsettled and (None, None) not in self.unsettled

    def noted_in(self, key: Hashable) -> Collection[Store]:
        self.asked_for.append(key)
        return self.noted.get(key, ())


class Published:
    """A Publisher that remembers, and raises while ``failing``."""

    def __init__(self) -> None:
        self.calls_seen: list[tuple[str, Store, Role, int, bool]] = []
        self.counted = Statistics()
        self.routes: list[RouteView] = []
        self.failing = False

    def calls(self, operation: str, store: Store, role: Role, seconds: Sequence[float], failed: bool) -> None:
        self._fail()
        self.calls_seen.append((operation, store, role, len(seconds), failed))

    def counts(self, increment: Statistics) -> None:
        self._fail()
        self.counted.merge(increment)

    def route(self, view: RouteView) -> None:
        self._fail()
        self.routes.append(view)

    def _fail(self) -> None:
        if self.failing:
            raise RuntimeError("no metrics today")


class Samples:
    """A SampleSink that remembers, and raises what ``failing`` holds."""

    def __init__(self) -> None:
        self.kept: list[MismatchSample] = []
        self.failing: Exception | None = None

    def mismatch(self, sample: MismatchSample) -> None:
        if self.failing is not None:
            raise self.failing
        self.kept.append(sample)


class HandClock:
    """Monotonic seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
