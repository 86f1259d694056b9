"""What can go wrong in the demo: new's answers come late, differ, or fail."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.synchronize import Event as SharedEvent
from threading import Event
from typing import Any, cast

from sqlalchemy import func, select, update

from adapters.postgres.apply import set_applying
from adapters.prompts.contract import PromptRepository
from adapters.prompts.migration import Stores
from adapters.prompts.prompt_manager import prompts
from harness.errors import StoreUnavailable
from harness.operations import operations_of

_LATE_SECONDS = 0.08
_FAILS_EVERY = 5  # never so many in a row that a breaker would open
_EDITED = 12  # of some hundred and fifty rows
_READS = frozenset(name for name, each in operations_of(PromptRepository).items() if each.kind == "read")


class Fault(StrEnum):
    LATENCY = "latency"
    MISMATCH = "mismatch"
    ERRORS = "errors"

    @property
    def gates(self) -> frozenset[str]:
        """The gates that are there to see it."""
        return _GATES[self]

    @property
    def told(self) -> str:
        return _TOLD[self]


_GATES = {
    Fault.LATENCY: frozenset({"slow", "latency"}),
    Fault.MISMATCH: frozenset({"mismatches"}),
    Fault.ERRORS: frozenset({"errors"}),
}
_TOLD = {
    Fault.LATENCY: f"Now every answer of new takes {_LATE_SECONDS * 1000:.0f} ms longer",
    Fault.MISMATCH: f"Now somebody edits {_EDITED} prompts in new behind everybody's back",
    Fault.ERRORS: f"Now one call of new in {_FAILS_EVERY} fails",
}


@dataclass(frozen=True, slots=True)
class AroundNew:
    """Stands before new's repository in every process of a run, and lets the fault happen once ``begun`` is set."""

    fault: Fault
    begun: SharedEvent

    def __call__(self, repository: PromptRepository) -> PromptRepository:
        return cast(PromptRepository, FaultyRepository(repository, self.fault, self.begun))


class FaultyRepository:
    """A repository whose reads are late, or fail now and then; writes are left alone. Any contract."""

    def __init__(self, repository: PromptRepository, fault: Fault, begun: SharedEvent) -> None:
        self._repository, self._fault, self._begun = repository, fault, begun
        self._calls = itertools.count(1)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._repository, name)
        if name not in _READS:
            return method

        def read(*args: Any, **kwargs: Any) -> Any:
            if self._begun.is_set():
                self._happens(name)
            return method(*args, **kwargs)

        return read

    def _happens(self, name: str) -> None:
        if self._fault is Fault.LATENCY:
            Event().wait(_LATE_SECONDS)
        elif self._fault is Fault.ERRORS and next(self._calls) % _FAILS_EVERY == 0:
            raise StoreUnavailable(f"new: {name} failed, as the demo was asked for (--fault errors)")


def edit_behind(stores: Stores, most: int = _EDITED) -> int:
    """Change texts in new as nobody may, and say how many."""
    chosen = select(prompts.c.id).where(prompts.c.enabled, func.char_length(prompts.c.content) < 5000)
    edited = update(prompts).where(prompts.c.id.in_(chosen.order_by(func.random()).limit(most)))
    with stores.new.begin() as connection:
        set_applying(connection)  # the guard stands aside, as it would for a restored backup
        return connection.execute(edited.values(content=prompts.c.content + " (edited)")).rowcount
