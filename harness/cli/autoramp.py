"""``crossfade ramp --auto``: the automatic ramp over the real stores."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from adapters.postgres.ledger.courses import CourseBook
from adapters.postgres.ledger.lags import LagBook
from adapters.postgres.ledger.locks import command_lock, is_locked
from adapters.postgres.ledger.pauses import PauseBook
from adapters.postgres.ledger.statistics import StatisticsBook
from adapters.prompts.migration import Stores
from harness.autoramp import ENDED, Course, Judgement, Pilot, State, Step, begun, plan_of
from harness.cli.app import App, actor
from harness.cli.authority import LOCK as AUTHORITY
from harness.cli.authority import carry_out, recover
from harness.cli.gathering import gather
from harness.cli.planning import plan
from harness.cli.shares import Wish
from harness.errors import ConfigError, MismatchFound, Refused
from harness.gates import evaluate, names_of
from harness.moving import Stand
from harness.phases import Phase, path

LOCK = "autoramp"
_WORDS = 20  # said to a ramp that is to stop, at most


class Retreated(MismatchFound):
    """The automatic ramp has ended in a retreat. ``document``: its course, as ``--json`` prints it."""

    def __init__(self, course: Course) -> None:
        super().__init__(f"the automatic ramp has retreated to {course.present}, {course.reason}")
        self.document = as_json(course)


class StoresHelm:
    """Fulfils ``harness.autoramp.Helm``."""

    def __init__(self, app: App, stores: Stores) -> None:
        self._app, self._stores = app, stores
        self._book, self._pauses = CourseBook(stores.new), PauseBook(stores.new, LOCK)

    def course(self) -> Course | None:
        return self._book.course()

    def keep(self, course: Course, action: str, judged: Judgement | None = None) -> Course:
        return self._book.keep(course, action, judged, anew=action in {"advanced", "retreated"})

    def recover(self) -> None:
        with command_lock(self._stores.new, AUTHORITY):
            recover(self._app, self._stores)

    def stands(self) -> Step:
        route = self._stores.routes.view().route
        return Step(route.reads_percent, route.writes_percent)

    def go(self, step: Step, reason: str, only_from: Step | None) -> None:
        def wish(now: Stand) -> Stand:
            stands = Step(now.reads_percent, now.writes_percent)
            if only_from not in {None, stands}:  # asked under the lock of all who change the route
                raise Refused(f"the route stands at {stands}, and no longer at {only_from}: somebody has changed it")
            return Wish(step.reads, step.writes)(now)

        def move(wanted: Callable[[Stand], Stand]) -> None:
            carry_out(self._app, self._stores, lambda: plan(self._stores, "ramp", wanted), reason)

        try:
            move(wish)
        except (Refused, MismatchFound):
            # Whatever holds writes up, callers need not go on reading from a store that fails its gates: reads move
            # without a fence.
            if only_from is None and self.stands().reads > step.reads:
                move(Wish(step.reads, None))
            raise

    def judge(self, course: Course) -> Judgement:
        settings = self._stores.settings
        since = course.since if course.step else None  # before the first step all that was compared counts
        evidence = gather(self._stores, since, settings.ramp.gates, StatisticsBook(self._stores.new).total)
        LagBook(self._stores.new).keep(evidence.backlog)
        gates = evaluate(evidence, settings.gates, only=settings.ramp.gates, sequences=len(course.plan))
        return Judgement(gates, self._book.seconds(), evidence.statistics.asked_for)

    def paused(self) -> str:
        pause = self._pauses.present()
        return "" if pause is None else f"{pause.actor}{f': {pause.reason}' if pause.reason else ''}"


def ramp_by_itself(app: App, stores: Stores, reason: str, told: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Follow the plan, from where it was left or from its beginning, until it is done or ends otherwise.

    ``told`` is given a text at every change; without it the app says it.

    Raises CommandLocked while another process does, IllegalPhase where the migration is past all ramps, Refused where
    the route stands at no step of the plan, and Retreated, with the gate's evidence, after a retreat.
    """
    settings = stores.settings.ramp
    known = names_of(stores.settings.gates)
    if unknown := sorted(set(settings.gates) - set(known)):
        raise ConfigError(f"ramp.gates: there is no gate {', '.join(unknown)}; there are {', '.join(known)}")
    stores.require(Phase.BACKFILLED)
    path(stores.phase, Phase.RAMPING)
    with command_lock(stores.new, LOCK):
        helm, book = StoresHelm(app, stores), CourseBook(stores.new)
        steps, before = plan_of(settings), book.course()
        if before is None or before.state in ENDED:
            book.begin(begun(steps, helm.stands(), actor(), datetime.now(UTC)), reason)
        elif before.plan != steps:
            raise Refused("the automatic ramp that was left unfinished had another plan; crossfade ramp --stop ends it")
        told = told or app.say
        told(f"the plan: {'; '.join(map(str, steps))}")
        course = Pilot(helm, settings, time.monotonic, app.stop, told).follow()
    if course.state is State.RETREATED:
        raise Retreated(course)
    return as_json(course)


def steer(stores: Stores, what: str, reason: str) -> dict[str, Any]:
    """``pause``, ``resume`` or ``stop`` the automatic ramp, whoever runs it. It obeys before its next look is over.

    A pause holds the next ramp too, until it is resumed or stopped.
    """
    stores.require(Phase.PREPARED)
    pauses, book = PauseBook(stores.new, LOCK), CourseBook(stores.new)
    course = book.course()
    if what == "stop":
        under_way = course is not None and course.state not in ENDED
        if under_way:
            course = _stopped(book, reason or "by hand")
        # After the stop, lest it advance in between. What begins later should not find itself held.
        if not pauses.end(actor(), reason) and not under_way:
            raise Refused("no automatic ramp is under way")
        changed = True
    else:
        changed = pauses.ask(actor(), reason) if what == "pause" else pauses.end(actor(), reason)
    document = {"paused": pauses.present() is not None, "changed": changed, "running": is_locked(stores.new, LOCK)}
    return document | ({} if course is None else as_json(course))


def _stopped(book: CourseBook, reason: str) -> Course | None:
    """The course, stopped whatever whoever runs it notes meanwhile; as it has ended by itself, if it was quicker."""
    for _ in range(_WORDS):
        course = book.course()
        if course is None or course.state in ENDED:
            return course
        with suppress(Refused):  # the ramp has noted something since it was looked at
            return book.keep(replace(course, state=State.STOPPED, actor=actor(), reason=reason), "stopped")
    raise Refused("the automatic ramp notes one thing after the other; say it once more")


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
