"""Automatic ramp: a plan of steps that new's share goes up by while the gates pass, and down when one fails.

Each step is judged on what was counted since it began. Nothing advances on silence: an inconclusive gate holds. What
is about to be done is noted before it is done, so whoever comes after a crash knows what it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from threading import Event
from typing import Protocol

from harness.deciding import RampSettings
from harness.errors import CommandLocked, MismatchFound, Refused, StoreUnavailable
from harness.failpoints import passing
from harness.gates import STATISTICAL, Gate, decide
from harness.ports import Clock
from harness.records import Verdict
from harness.words import counted


@dataclass(frozen=True, slots=True)
class Step:
    """Percent of reads that new serves, and percent of scopes whose writes it takes."""

    reads: float
    writes: float

    def __str__(self) -> str:
        return f"reads {self.reads:g} %, writes {self.writes:g} %"


class State(StrEnum):
    RUNNING = "running"
    RETREATING = "retreating"
    RETREATED = "retreated"
    STOPPED = "stopped"
    DONE = "done"


BY_ITSELF = "automatic ramp: "  # how the reason of each of its moves begins

ENDED = frozenset({State.RETREATED, State.STOPPED, State.DONE})


@dataclass(frozen=True, slots=True)
class Course:
    """How far a plan has come. ``step`` is the number of the step that was reached, ``since`` when.

    ``towards``: the step that somebody is about to go to; None while nobody is.
    """

    plan: tuple[Step, ...]
    step: int
    state: State
    since: datetime
    actor: str
    reason: str = ""
    towards: int | None = None

    @property
    def present(self) -> Step:
        return self.plan[self.step]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The gates of a ramp at one look, and what they rest on: the step's time so far, and its operations."""

    gates: tuple[Gate, ...]
    seconds: float
    operations: int

    @property
    def verdict(self) -> Verdict:
        return decide(self.gates)

    def named(self, verdict: Verdict) -> list[Gate]:
        return [gate for gate in self.gates if gate.verdict is verdict]

    def rests_on(self) -> str:
        return f"after {self.seconds:,.1f} s and {counted(self.operations, 'operation')}"

    def evidence(self) -> str:
        """A line for each gate that has counted something; facts that are as they should be need no words."""
        return "".join(f"\n  {gate.name}: {gate.evidence}" for gate in self.gates if gate.name in STATISTICAL)


class Helm(Protocol):
    """What the automatic ramp sees and moves. All of it is durable."""

    def course(self) -> Course | None: ...

    def keep(self, course: Course, action: str, judged: Judgement | None = None) -> Course:
        """Note the course, and in the audit what was done on which evidence; with the moment as ``since`` if the step
        is another one. Raises Refused if somebody else has changed it meanwhile.
        """
        ...

    def recover(self) -> None:
        """Finish or undo a move that a crash left half done. Raises CommandLocked while somebody else is at it."""
        ...

    def stands(self) -> Step:
        """What the route says now."""
        ...

    def go(self, step: Step, reason: str, only_from: Step | None) -> None:
        """Move shares and authority there, and if ``only_from`` is given from nowhere else.

        Raises Refused or MismatchFound, or an error of a store, when that cannot be done now.
        """
        ...

    def judge(self, course: Course) -> Judgement:
        """The gates of a ramp, on what was counted since the step began."""
        ...

    def paused(self) -> str:
        """Who asked for a pause and why, in words; empty if nobody did."""
        ...


def plan_of(settings: RampSettings) -> tuple[Step, ...]:
    """From nothing through the reads' steps to the writes'. Writes follow once all reads are served by new."""
    reads = [Step(percent, 0.0) for percent in settings.reads]
    top = settings.reads[-1] if settings.reads else 0.0
    return Step(0.0, 0.0), *reads, *(Step(top, percent) for percent in settings.writes)


def begun(plan: tuple[Step, ...], stands: Step, actor: str, now: datetime) -> Course:
    """A course from where the route stands. Raises Refused where that is no step of the plan."""
    if stands not in plan:
        steps = "; ".join(map(str, plan))
        raise Refused(f"the route stands at {stands}, which is no step of the plan ({steps}); crossfade ramp to one")
    return Course(plan, plan.index(stands), State.RUNNING, now, actor)


@dataclass(frozen=True, slots=True)
class Pilot:
    """Follows a course until it ends. ``told`` is given a line at every change."""

    helm: Helm
    settings: RampSettings
    clock: Clock
    stop: Event
    told: Callable[[str], None] = lambda _: None

    def follow(self) -> Course:
        """The course as it ended, or as it was when ``stop`` was set. A store that is away is waited for."""
        said = ""
        while True:
            try:
                course, now_said = self._look()
            except StoreUnavailable as error:
                course, now_said = None, f"waiting: {error}"
            # The move was not to be had, or its records differed within the fence: the state is the one before.
            except (Refused, CommandLocked, MismatchFound) as error:
                course, now_said = None, f"not now: {error}"
            if now_said != said:
                self.told(now_said)
                said = now_said
            if course is not None and (course.state in ENDED or self.stop.is_set()):
                return course
            if self.stop.wait(self.settings.look_seconds):
                return self._course()

    def _course(self) -> Course:
        course = self.helm.course()
        if course is None:
            raise Refused("there is no automatic ramp; begin one with crossfade ramp --auto")
        return course

    def _look(self) -> tuple[Course, str]:
        course = self._settled(self._course())
        if course.state in ENDED:
            return course, f"{course.state}: {course.reason}"
        if course.state is State.RETREATING:
            return self._retreat(course, course.reason, None)
        stands = self.helm.stands()
        if stands != course.present:
            reason = f"by hand: the route stands at {stands}, and not at {course.present}"
            return self.helm.keep(replace(course, state=State.STOPPED, reason=reason), "stopped"), reason
        return self._judged(course, self.helm.judge(course))

    def _settled(self, course: Course) -> Course:
        """What a crash left between the intention and the note of it."""
        if course.towards is None:
            return course
        self.helm.recover()
        if self.helm.stands() == course.plan[course.towards]:
            return self._arrived(course, None)
        return self.helm.keep(replace(course, towards=None), "taken back")

    def _judged(self, course: Course, judged: Judgement) -> tuple[Course, str]:
        if failing := judged.named(Verdict.FAIL):
            reason = f"{judged.rests_on()} at {course.present}: {failing[0].name}: {failing[0].evidence}"
            return self._retreat(course, reason, judged)
        if why := self.helm.paused():  # asked for last, so that it is obeyed at once; and never in a retreat's way
            return course, f"paused at {course.present} by {why}"
        if open_ := ", ".join(gate.name for gate in judged.named(Verdict.INCONCLUSIVE)):
            return course, f"holding at {course.present}: {open_} inconclusive"
        if judged.seconds < self.settings.step_seconds:
            return course, f"holding at {course.present}: every gate passes, and the step's time is not over"
        reason = f"{judged.rests_on()} at {course.present}: every gate passes"
        if course.step < len(course.plan) - 1:
            return self._go(course, course.step + 1, reason, judged)
        ended = replace(course, state=State.DONE, reason=f"the whole plan is done, at {course.present}")
        return self.helm.keep(ended, "done", judged), f"{ended.reason}, {reason}{judged.evidence()}"

    def _retreat(self, course: Course, reason: str, judged: Judgement | None) -> tuple[Course, str]:
        target = 0 if self.settings.retreat == "zero" else max(0, course.step - 1)
        retreating = replace(course, state=State.RETREATING, reason=reason)
        if course.state is not State.RETREATING:
            retreating = self.helm.keep(retreating, "retreat decided", judged)
        return self._go(retreating, target, reason, judged)

    def _go(self, course: Course, step: int, reason: str, judged: Judgement | None) -> tuple[Course, str]:
        retreats = course.state is State.RETREATING
        action = "retreat" if retreats else "advance"
        going = self.helm.keep(replace(course, towards=step), f"{action} begun", judged)
        passing("autoramp.intended")
        why = f"{BY_ITSELF}{action} to step {step} of {len(going.plan) - 1}, {reason}"
        self.helm.go(going.plan[step], why, None if retreats else course.present)
        passing("autoramp.moved")
        arrived = self._arrived(going, judged)
        passing("autoramp.noted")
        if retreats:
            return arrived, f"retreated to {arrived.present}, {reason}"
        return arrived, f"advanced to {arrived.present}, {reason}{'' if judged is None else judged.evidence()}"

    def _arrived(self, course: Course, judged: Judgement | None) -> Course:
        assert course.towards is not None  # noqa: S101 - the callers have looked; for the type checker
        state = State.RETREATED if course.state is State.RETREATING else course.state
        there = replace(course, step=course.towards, towards=None, state=state)
        return self.helm.keep(there, "retreated" if state is State.RETREATED else "advanced", judged)
