"""Moving authority: ramp, cutover and rollback are the same act, and so is undoing one.

The order of the steps is the design (docs/how-it-works.md; ``model/`` checks it):

1. The intention is in the journal before anything else happens.
2. What is noted is carried over while writers go on, so that little is left for the fence. Then workers are sent aside
   and the mover alone carries over what came meanwhile: no worker has a batch in hand that the fence would wait for.
3. The loser is fenced: every writer there has ended or waits. What is still noted stays with the loser, or is carried
   over and compared.
4. The gainer is fenced too, so that no worker is about to write over what it will accept.
5. The route is committed where authority is lost, then where it is gained: in between nobody may write, never both.

A crash leaves the act in the journal. The loser's route then tells whether it happened: it is finished or undone.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from threading import Event
from types import MappingProxyType
from typing import NoReturn, Protocol

from harness.errors import CrossfadeError, Refused, StoreContended, StoreTimeout, StoreUnavailable
from harness.failpoints import passing
from harness.pauses import Pauses
from harness.phases import Phase
from harness.ports import Clock
from harness.routing import Store
from harness.settings import MoveSettings

LONGEST_PAUSE = 2.0


@dataclass(frozen=True, slots=True)
class Stand:
    """What an act changes.

    ``automatic`` names the pins that nobody set: scopes in quarantine stay with legacy, and scopes that are being
    written to with whoever has them, until a move of their own.
    """

    writes_percent: float
    reads_percent: float
    shadow_percent: float
    phase: Phase
    pins: Mapping[str, Store] = field(default_factory=lambda: MappingProxyType({}))
    automatic: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Act:
    """One move of authority. ``epoch`` is the one that both routes bear once it happened.

    ``left_behind``: keys of records that the gainer cannot hold and that somebody accepted to leave behind.
    """

    id: int
    command: str
    actor: str
    reason: str
    loser: Store
    before: Stand
    after: Stand
    epoch: int
    left_behind: frozenset[str] = frozenset()


class Fence(Protocol):
    """Both stores, workers sent aside. Left without ``lose``, nothing has changed."""

    def hold_loser(self) -> float:
        """Hold back the loser's writers; when they began to be, by the clock of monotonic seconds.

        Raises StoreTimeout when they cannot be held back in time.
        """
        ...

    def hold_gainer(self) -> None:
        """Hold back the gainer's writers and the workers that carry state there, too."""
        ...

    def write(self, after: Stand) -> None:
        """Write the route in both stores; nothing of it is durable yet."""
        ...

    def lose(self) -> None:
        """Commit where authority is lost."""
        ...

    def gain(self) -> None:
        """Commit where authority is gained."""
        ...


class Fences(Protocol):
    def raised(self, act: Act, seconds: float) -> AbstractContextManager[Fence]:
        """Send workers aside for as long as the block runs, so that writers can be held back, ``seconds`` at most.

        Raises StoreTimeout when a worker does not end in time, and Refused when the act is no longer pending.
        """
        ...

    def happened(self, act: Act, *, else_undo: bool) -> bool:
        """Whether the loser has let go; whoever might still be about to make it so has ended when this returns.

        ``else_undo``: if it has not, the journal says undone before anybody else can take the act up again.
        """
        ...

    def gain_likewise(self, act: Act) -> None:
        """Give the gainer the loser's route."""
        ...


class Journal(Protocol):
    def finish(self, act: Act) -> None:
        """The act is done: phase, audit entry and journal, in one transaction."""
        ...

    def undo(self, act: Act) -> None:
        """The act did not happen."""
        ...


@dataclass(frozen=True, slots=True)
class Drained:
    """The route to write. ``busy``: scopes that it leaves with the loser, because they are being written to."""

    stand: Stand
    busy: frozenset[str] = frozenset()


Drain = Callable[[Act, float], Drained]
"""Carries over and compares what is noted for the moving scopes, until a moment of the clock, or leaves them behind."""


@dataclass(frozen=True, slots=True)
class Mover:
    """Carries acts out. ``approach`` drains while writers go on, ``settle`` (until a moment of the clock) while workers
    stand aside too; ``drain`` what is left, inside the fence.
    """

    fences: Fences
    journal: Journal
    approach: Callable[[Act], None]
    settle: Callable[[Act, float], None]
    drain: Drain
    settings: MoveSettings
    clock: Clock
    stop: Event
    told: Callable[[str], None] = lambda _: None

    def move(self, act: Act) -> frozenset[str]:  # noqa: RET503 - giving up never returns
        """Carry the act out; the scopes that stayed because they are being written to.

        Raises Refused when writers could not be held back, with nothing changed.

        Raises StoreUnavailable when a store went away; the act may then be half done, which the error says.
        """
        pauses, last = Pauses(self.settings.pause_seconds, max(self.settings.pause_seconds, LONGEST_PAUSE)), ""
        for attempt in range(1, self.settings.attempts + 1):
            try:
                self.approach(act)
                held, busy = self._attempt(act)
            except (StoreTimeout, StoreContended) as error:
                last = str(error)
                self.told(f"attempt {attempt} of {self.settings.attempts}: {last}")
                if self.stop.wait(pauses.next()):
                    self._give_up(act, Refused("stopped; nothing has changed"))
            except CrossfadeError as error:
                self._give_up(act, error)
            else:
                self._finish(act)
                passing("move.finished")
                self.told(f"writers of {act.loser} were held back for {held * 1000:.0f} ms")
                return busy
        self._give_up(
            act,
            Refused(
                f"writers could not be held back in {self.settings.attempts} attempts of "
                f"{self.settings.fence_seconds:g} s ({last}); nothing has changed. End the long transactions, which "
                "crossfade status names, or raise move.fence_seconds, and run the command again"
            ),
        )

    def recover(self, act: Act) -> bool:
        """Finish or undo what a crash left; True if the act has happened.

        Raises StoreUnavailable, with the act still pending, while one of the stores is away.
        """
        happened = self.fences.happened(act, else_undo=True)
        passing("recover.judged")
        if happened:
            self.fences.gain_likewise(act)
            passing("recover.gained")
            self.journal.finish(act)
        return happened

    def _attempt(self, act: Act) -> tuple[float, frozenset[str]]:
        """One attempt; how long writers were held back, in seconds, and which scopes stayed."""
        losing, busy = False, frozenset[str]()
        began = ended = self.clock()
        try:
            with _no_collection(), self.fences.raised(act, self.settings.fence_seconds) as fence:
                self.settle(act, self.clock() + self.settings.fence_seconds)
                began = fence.hold_loser()
                passing("move.fenced")
                drained = self.drain(act, began + self.settings.fence_seconds)
                busy = drained.busy
                passing("move.drained")
                fence.hold_gainer()
                fence.write(drained.stand)
                passing("move.written")
                losing = True
                fence.lose()
                passing("move.lost")
                fence.gain()
                passing("move.gained")
                ended = self.clock()
        except CrossfadeError:
            if not losing:
                raise
            # The answer to a commit may be lost: only the stores can tell whether it was made.
            if not self._recovered(act):
                raise
        return max(0.0, ended - began), busy

    def _finish(self, act: Act) -> None:
        try:
            self.journal.finish(act)
        except StoreUnavailable as error:
            raise Unfinished(
                f"authority has moved, as {act.command} was to do it, but the journal could not be told ({error}): run "
                "crossfade resume once new is back"
            ) from error

    def _recovered(self, act: Act) -> bool:
        try:
            if self.fences.happened(act, else_undo=False):
                self.fences.gain_likewise(act)
                return True
        except StoreUnavailable as error:
            raise Unfinished(
                f"{act.command} is half done, or has not happened: a store went away at the last step ({error}). Until "
                "it is back, both stores may refuse writes of the scopes that move; then run crossfade resume, which "
                "finishes or undoes it"
            ) from error
        return False

    def _give_up(self, act: Act, error: CrossfadeError) -> NoReturn:
        """Note that the act did not happen, and raise the error. What cannot be noted is left for resume."""
        if isinstance(error, Unfinished):
            raise error
        try:
            self.journal.undo(act)
        except StoreUnavailable as away:
            raise StoreUnavailable(
                f"{error}. No authority has moved, but the journal could not be told: run crossfade resume once new "
                "is back"
            ) from away
        raise error


@contextmanager
def _no_collection() -> Iterator[None]:
    """No search for garbage while writers wait: one through all that a process has loaded takes 100 ms and more."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Unfinished(StoreUnavailable):
    """An act is half done, and a store is away. Ends with 5."""
