"""``crossfade ramp --auto``: the automatic ramp over the real stores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from adapters.postgres.ledger.courses import CourseBook
from adapters.postgres.ledger.locks import command_lock, is_locked
from adapters.postgres.ledger.pauses import PauseBook
from adapters.prompts.migration import Stores
from harness.autoramp import ENDED, Course, Pilot, State, Step, begun, plan_of
from harness.cli.app import App, actor
from harness.cli.authority import LOCK as AUTHORITY
from harness.cli.authority import recover
from harness.cli.report import gather
from harness.cli.shares import ramp_shares
from harness.errors import ConfigError, MismatchFound, Refused
from harness.gates import Gate, evaluate, names_of
from harness.phases import Phase

LOCK = "autoramp"


class StoresHelm:
    """Fulfils ``harness.autoramp.Helm``."""

    def __init__(self, app: App, stores: Stores) -> None:
        self._app, self._stores = app, stores
        self._book, self._pauses = CourseBook(stores.new), PauseBook(stores.new, LOCK)

    def course(self) -> Course | None:
        return self._book.course()

    def keep(self, course: Course, action: str, gates: Sequence[Gate] = ()) -> Course:
        return self._book.keep(course, action, gates, anew=action in {"advanced", "retreated"})

    def seconds(self, course: Course) -> float:
        return self._book.seconds()

    def recover(self) -> None:
        with command_lock(self._stores.new, AUTHORITY):
            recover(self._app, self._stores)

    def stands(self) -> Step:
        route = self._stores.routes.view().route
        return Step(route.reads_percent, route.writes_percent)

    def go(self, step: Step, reason: str) -> None:
        ramp_shares(self._app, self._stores, step.reads, step.writes, reason)

    def judge(self, course: Course) -> tuple[Gate, ...]:
        settings = self._stores.settings
        since = course.since if course.step else None  # before the first step all that was compared counts
        evidence = gather(self._stores, since, settings.ramp.gates)
        return evaluate(evidence, settings.gates, only=settings.ramp.gates, sequences=len(course.plan))

    def paused(self) -> str:
        pause = self._pauses.present()
        return "" if pause is None else f"{pause.actor}{f': {pause.reason}' if pause.reason else ''}"


def ramp_by_itself(app: App, stores: Stores, reason: str) -> dict[str, Any]:
    """Follow the plan, from where it was left or from its beginning, until it is done or ends otherwise.

    Raises CommandLocked while another process does, Refused where the route stands at no step of the plan, and
    MismatchFound, with the gate's evidence, after a retreat.
    """
    settings = stores.settings.ramp
    known = names_of(stores.settings.gates)
    if unknown := sorted(set(settings.gates) - set(known)):
        raise ConfigError(f"ramp.gates: there is no gate {', '.join(unknown)}; there are {', '.join(known)}")
    stores.require(Phase.BACKFILLED)
    with command_lock(stores.new, LOCK):
        helm, book = StoresHelm(app, stores), CourseBook(stores.new)
        plan, before = plan_of(settings), book.course()
        if before is None or before.state in ENDED:
            book.begin(begun(plan, helm.stands(), actor(), datetime.now(UTC)), reason)
        elif before.plan != plan:
            raise Refused("the automatic ramp that was left unfinished had another plan; crossfade ramp --stop ends it")
        app.say(f"the plan: {'; '.join(map(str, plan))}")
        course = Pilot(helm, settings, time.monotonic, app.stop, app.say).follow()
    if course.state is State.RETREATED:
        raise MismatchFound(f"the automatic ramp has retreated to {course.present}: {course.reason}")
    return as_json(course)


def steer(stores: Stores, what: str, reason: str) -> dict[str, Any]:
    """``pause``, ``resume`` or ``stop`` the automatic ramp, whoever runs it. It obeys before its next look is over."""
    stores.require(Phase.PREPARED)
    pauses, book = PauseBook(stores.new, LOCK), CourseBook(stores.new)
    course = book.course()
    if what == "stop":
        if course is None or course.state in ENDED:
            raise Refused("no automatic ramp is under way")
        course = book.keep(replace(course, state=State.STOPPED, reason=reason or "by hand"), "stopped", (), anew=False)
        changed = True
    else:
        changed = pauses.ask(actor(), reason) if what == "pause" else pauses.end(actor(), reason)
    document = {"paused": pauses.present() is not None, "changed": changed, "running": is_locked(stores.new, LOCK)}
    return document | ({} if course is None else as_json(course))


def as_json(course: Course) -> dict[str, Any]:
    return {
        "state": course.state.value,
        "step": course.step,
        "steps": len(course.plan) - 1,
        "reads_percent": course.present.reads,
        "writes_percent": course.present.writes,
        "since": course.since.isoformat(),
        "reason": course.reason,
    }
