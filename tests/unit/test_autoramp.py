"""The automatic ramp: it advances on evidence alone, retreats on a failed gate, and loses its way in no crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Literal

import pytest

from harness.autoramp import Course, Judgement, Pilot, State, Step, begun, plan_of
from harness.config import load
from harness.deciding import RampSettings
from harness.errors import CommandLocked, ConfigError, MismatchFound, Refused, StoreUnavailable
from harness.failpoints import FailpointRaised, arm
from harness.gates import Gate
from harness.records import Verdict

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
SETTINGS = RampSettings(reads=(10.0, 100.0), writes=(50.0,), step_seconds=60.0, look_seconds=0.001)
PLAN = (Step(0, 0), Step(10, 0), Step(100, 0), Step(100, 50))
PASS, FAIL, OPEN = (
    Gate("errors", "?", verdict, "so it is") for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
)


@dataclass
class Fake:
    """A helm whose answers a test decides; ``verdicts`` are given one after the other, the last one for ever."""

    verdicts: list[Gate]
    course_: Course | None = field(default_factory=lambda: begun(PLAN, PLAN[0], "ann", NOON))
    at: Step = PLAN[0]
    age: float = 3600.0
    pause: str = ""
    refusals: list[Exception] = field(default_factory=list)
    done: list[tuple[str, Verdict | None]] = field(default_factory=list)
    gone: list[Step] = field(default_factory=list)
    recovered: int = 0
    judged: Callable[[], object] = lambda: None

    def course(self) -> Course | None:
        return self.course_

    def keep(self, course: Course, action: str, judged: Judgement | None = None) -> Course:
        self.course_ = course
        self.done.append((action, judged.verdict if judged else None))
        return course

    def recover(self) -> None:
        self.recovered += 1

    def stands(self) -> Step:
        return self.at

    def go(self, step: Step, reason: str, only_from: Step | None) -> None:
        if self.refusals:
            raise self.refusals.pop()
        if only_from not in {None, self.at}:
            raise Refused("it stands elsewhere")
        self.at = step
        self.gone.append(step)

    def judge(self, course: Course) -> Judgement:
        gate = self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
        self.judged()
        return Judgement((gate,), self.age, 1234)

    def paused(self) -> str:
        return self.pause


class Looks(Event):
    """Set after so many pauses."""

    def __init__(self, most: int, between: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._left, self._between = most, between

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        self._between()
        if self._left <= 0:
            self.set()
        return self.is_set()


def follow(helm: Fake, looks: Event | None = None, settings: RampSettings = SETTINGS) -> Course:
    return Pilot(helm, settings, lambda: 0.0, looks or Looks(50)).follow()


def test_the_whole_plan() -> None:
    """While every gate passes it goes through all steps in order, and is done after the last one's time."""
    helm = Fake([PASS])
    course = follow(helm)
    assert (course.state, helm.gone) == (State.DONE, list(PLAN[1:]))
    assert next(each for each in helm.done if each[1] is not None) == ("advance begun", Verdict.PASS)


def test_no_evidence_no_step() -> None:
    """An inconclusive gate holds for ever, and so does a step whose time is not over."""
    for helm in (Fake([OPEN]), Fake([PASS], age=59.0)):
        assert (follow(helm).state, helm.gone) == (State.RUNNING, [])


@pytest.mark.parametrize(("retreat", "target"), [("zero", PLAN[0]), ("step", PLAN[1])])
def test_a_failed_gate_leads_back(retreat: Literal["zero", "step"], target: Step) -> None:
    """To nothing, or to the step before, as configured; the evidence is kept with it, and the ramp has ended."""
    helm = Fake([PASS, PASS, FAIL])
    course = follow(helm, settings=replace(SETTINGS, retreat=retreat))
    assert (course.state, helm.at) == (State.RETREATED, target)
    assert course.reason == "after 3,600.0 s and 1,234 operations at reads 100 %, writes 0 %: errors: so it is"
    assert ("retreat decided", Verdict.FAIL) in helm.done


def test_a_retreat_that_cannot_be_had_is_tried_again() -> None:
    """A retreat is decided once and for all: gates that pass meanwhile do not call it off."""
    helm = Fake([PASS, FAIL, PASS], refusals=[StoreUnavailable("new is away"), Refused("no fence"), CommandLocked("x")])
    helm.course_, helm.at = replace(begun(PLAN, PLAN[2], "ann", NOON)), PLAN[2]
    helm.verdicts = [FAIL, PASS]
    assert (follow(helm).state, helm.at) == (State.RETREATED, PLAN[0])


def test_records_that_differ_within_the_fence_end_nothing() -> None:
    """A move that is given up because records differ is not to be had now: a retreat goes on, and a step up waits."""
    helm = Fake([FAIL], at=PLAN[3], course_=begun(PLAN, PLAN[3], "ann", NOON), refusals=[MismatchFound("they differ")])
    assert (follow(helm).state, helm.at) == (State.RETREATED, PLAN[0])
    told: list[str] = []
    helm = Fake([PASS, OPEN], at=PLAN[2], course_=begun(PLAN, PLAN[2], "ann", NOON), refusals=[MismatchFound("differ")])
    assert Pilot(helm, SETTINGS, lambda: 0.0, Looks(5), told.append).follow().state is State.RUNNING
    assert "not now: differ" in told


def test_a_hand_on_the_route_ends_it() -> None:
    """Whoever changes the route by hand has taken over."""
    helm = Fake([PASS], age=0.0)

    def by_hand() -> None:
        helm.at = Step(42, 0)

    course = follow(helm, Looks(50, by_hand))
    assert (course.state, helm.gone) == (State.STOPPED, [])
    assert "by hand" in course.reason


def test_a_hand_quicker_than_a_step() -> None:
    """Somebody takes everything back while the gates are asked: it does not go up over their head, but stops."""
    helm = Fake([PASS], at=PLAN[1], course_=begun(PLAN, PLAN[1], "ann", NOON))

    def back() -> None:
        helm.at = PLAN[0]

    helm.judged = back
    assert follow(helm).state is State.STOPPED
    assert (helm.at, helm.gone) == (PLAN[0], [])


def test_each_step_is_told_with_its_evidence() -> None:
    """Time and operations at the step before, and what every gate that counts has counted."""
    told: list[str] = []
    Pilot(Fake([PASS, PASS, PASS, FAIL]), SETTINGS, lambda: 0.0, Looks(50), told.append).follow()
    assert told[0] == (
        "advanced to reads 10 %, writes 0 %, after 3,600.0 s and 1,234 operations at reads 0 %, writes 0 %: "
        "every gate passes\n  errors: so it is"
    )
    assert told[-1] == (
        "retreated to reads 0 %, writes 0 %, after 3,600.0 s and 1,234 operations at reads 100 %, writes 50 %: "
        "errors: so it is"
    )


def test_pause_and_stop_are_obeyed_at_once() -> None:
    """While a pause is asked for nothing goes up, asked for a moment before the step too; a stop ends it."""
    helm = Fake([PASS], pause="bob: lunch")
    assert follow(helm).state is State.RUNNING
    assert helm.gone == []

    helm = Fake([PASS])

    def asked() -> None:
        helm.pause = "bob: lunch"

    helm.judged = asked
    assert (follow(helm).state, helm.gone) == (State.RUNNING, [])

    def stopped() -> None:
        assert helm.course_ is not None
        helm.course_ = replace(helm.course_, state=State.STOPPED, reason="by bob")

    assert follow(helm, Looks(50, stopped)).reason == "by bob"


def test_a_pause_holds_it_up_but_never_in_danger() -> None:
    """Paused means: no further. A gate that fails leads back all the same."""
    helm = Fake([PASS, OPEN, FAIL], pause="bob: lunch", at=PLAN[2], course_=begun(PLAN, PLAN[2], "ann", NOON))
    assert (follow(helm).state, helm.gone) == (State.RETREATED, [PLAN[0]])


@pytest.mark.parametrize("verdicts", [[PASS], [PASS, FAIL, PASS]])
@pytest.mark.parametrize("point", ["autoramp.intended", "autoramp.moved", "autoramp.noted"])
def test_a_crash_changes_nothing_of_the_end(point: str, verdicts: list[Gate]) -> None:
    """Killed at any point, however often, the next one ends where it would have ended, without a step twice."""
    helm = Fake(list(verdicts))
    for life in range(20):
        arm(f"{point}=raise@{1 + life % 2}")
        try:
            course = follow(helm)
        except FailpointRaised:
            continue
        finally:
            arm("")
        break
    else:
        pytest.fail("it never ended")
    undisturbed = Fake(list(verdicts))
    assert helm.recovered or point == "autoramp.noted"  # what had moved half is settled before anybody looks
    assert (course.state, helm.at) == (follow(undisturbed).state, undisturbed.at)
    assert len(helm.gone) == len(set(helm.gone)) + helm.gone.count(PLAN[0]) - (PLAN[0] in helm.gone)


def test_a_route_beside_the_plan_is_refused() -> None:
    """Nobody guesses which step a route of its own belongs to."""
    with pytest.raises(Refused, match="no step of the plan"):
        begun(PLAN, Step(7, 0), "ann", NOON)
    assert plan_of(SETTINGS) == PLAN


@pytest.mark.parametrize(
    "text",
    ["reads = [10, 5]", "reads = [5, 5]", "writes = [101]", "reads = [0]", "reads = []\nwrites = []", "retreat = 'up'"],
)
def test_an_unfit_plan_is_a_clear_error(text: str, tmp_path: Path) -> None:
    """Steps that fall, stand still or leave 0 to 100 are named with file and key."""
    file = tmp_path / "crossfade.toml"
    file.write_text(f"[ramp]\n{text}\n")
    with pytest.raises(ConfigError, match="ramp"):
        load(file, {})
