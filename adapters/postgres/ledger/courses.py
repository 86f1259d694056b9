"""The automatic ramp's course: one at a time, changed only by who has seen its latest state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.postgresql import insert

from adapters.postgres.ledger.audit import write
from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import course as courses
from harness.autoramp import Course, Judgement, State, Step
from harness.errors import Refused


class CourseBook:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._revision = 0  # of the course as it was last read or written here

    def course(self) -> Course | None:
        with ledger(self._engine) as connection:
            row = connection.execute(select(courses)).one_or_none()
        if row is None:
            return None
        self._revision = row.revision
        plan = tuple(Step(reads, writes) for reads, writes in row.plan)
        return Course(plan, row.step, State(row.state), row.since, row.actor, row.reason, row.towards)

    def seconds(self) -> float:
        """How long the course has been at its step, by the server's clock."""
        age = func.extract("epoch", func.clock_timestamp() - courses.c.since)
        with ledger(self._engine) as connection:
            return float(connection.execute(select(age)).scalar_one())

    def begin(self, course: Course, reason: str) -> Course:
        """Put a new course in the place of whatever was there."""
        self.course()
        return self._write(course, "begun", reason, None, anew=True)

    def keep(self, course: Course, action: str, judged: Judgement | None = None, *, anew: bool = False) -> Course:
        """``anew``: the step is another one, and its time begins now. ``judged``: what was decided on."""
        return self._write(course, action, course.reason, judged, anew=anew)

    def _write(self, course: Course, action: str, reason: str, judged: Judgement | None, *, anew: bool) -> Course:
        values: dict[str, Any] = {
            "plan": [[step.reads, step.writes] for step in course.plan],
            "step": course.step,
            "towards": course.towards,
            "state": course.state.value,
            "actor": course.actor,
            "reason": course.reason,
            "revision": self._revision + 1,
        }
        if anew:
            values["since"] = func.clock_timestamp()
        wanted = insert(courses).values(values)
        mine = wanted.on_conflict_do_update(
            index_elements=["single"], set_=values, where=courses.c.revision == self._revision
        ).returning(courses.c.since)
        with ledger(self._engine) as connection:
            row = connection.execute(mine).one_or_none()
            if row is None:
                raise Refused("somebody else has changed the automatic ramp meanwhile")
            detail = {
                "step": course.step,
                "towards": course.towards,
                "state": course.state.value,
                "stands": str(course.present),
                **_evidence(judged),
            }
            write(connection, course.actor, f"auto {action}", reason, detail)
        self._revision += 1
        return replace(course, since=row.since)


def _evidence(judged: Judgement | None) -> dict[str, Any]:
    """The gates, and the time and operations of the step that they judge, which may be the one before ``stands``."""
    if judged is None:
        return {"gates": []}
    return {
        "gates": [
            {"name": g.name, "verdict": g.verdict.value, "evidence": g.evidence, "figures": dict(g.figures)}
            for g in judged.gates
        ],
        "seconds": round(judged.seconds, 3),
        "operations": judged.operations,
    }
