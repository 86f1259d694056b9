"""What verdicts rest on: confirmed mismatches, verifications, parallel runs."""

from __future__ import annotations

from dataclasses import asdict, replace
from hashlib import md5
from typing import Any

from sqlalchemy import Engine, delete, func, insert, or_, select

from adapters.postgres.ledger import rejections
from adapters.postgres.ledger.opening import ledger
from adapters.postgres.ledger.tables import (
    audit,
    mismatch,
    rejection,
    run,
    verification,
)
from harness.records import (
    FieldDifference,
    Kind,
    MismatchSample,
    Rejection,
    RowDifference,
    RunTotals,
    Verdict,
    Verification,
)
from harness.routing import Store

_KEPT = 64  # characters of a value kept with a verification


class EvidenceBook:
    """Fulfils ``harness.ports.SampleSink``. Of mismatches only the newest ``samples`` are kept."""

    def __init__(self, engine: Engine, samples: int = 200) -> None:
        self._engine, self._samples = engine, samples

    def mismatch(self, sample: MismatchSample) -> None:
        if not self._samples:
            return
        row = {
            "at": sample.at,
            "operation": sample.operation,
            "served": sample.served.value,
            "scope": None if sample.scope is None else _storable(sample.scope),
            "arguments": _storable(sample.arguments),
            "differences": [_dump(difference) for difference in sample.differences],
        }
        newest = select(mismatch.c.id).order_by(mismatch.c.id.desc())
        with ledger(self._engine) as connection:
            connection.execute(insert(mismatch).values(row))
            beyond = newest.offset(self._samples).limit(1).scalar_subquery()
            connection.execute(delete(mismatch).where(mismatch.c.id <= beyond))

    def mismatches(self, limit: int = 100) -> list[MismatchSample]:
        """The newest samples, newest first."""
        c = mismatch.c
        chosen = select(c.at, c.operation, c.served, c.scope, c.arguments, c.differences)
        with ledger(self._engine) as connection:
            rows = connection.execute(chosen.order_by(c.id.desc()).limit(limit)).all()
        return [_sample(row) for row in rows]

    def add_verification(self, found: Verification) -> None:
        body = asdict(found)
        at, verdict = body.pop("at"), body.pop("verdict")
        body["examples"] = [_example(example) for example in found.examples]
        with ledger(self._engine) as connection:
            connection.execute(insert(verification).values(at=at, verdict=verdict.value, body=body))

    def verifications(self, limit: int = 20) -> list[Verification]:
        """The latest verifications, latest first."""
        c = verification.c
        with ledger(self._engine) as connection:
            rows = connection.execute(select(c.at, c.verdict, c.body).order_by(c.at.desc(), c.id.desc()).limit(limit))
            return [_verification(row) for row in rows]

    def standing(self, *, whole: bool = False) -> Verification | None:
        """The verification that counts: the latest of everything, or a later one of a part of it that failed.

        That a part is equal proves nothing of the rest. ``whole``: the latest of everything in any case.
        """
        c = verification.c
        counts = func.coalesce(c.body["restriction"].astext, "") == ""
        if not whole:
            counts = or_(counts, c.verdict == Verdict.FAIL.value)
        chosen = select(c.at, c.verdict, c.body).where(counts).order_by(c.at.desc(), c.id.desc()).limit(1)
        with ledger(self._engine) as connection:
            row = connection.execute(chosen).one_or_none()
        return None if row is None else _verification(row)

    def add_run(self, totals: RunTotals) -> None:
        body = {"seconds": totals.seconds, "totals": dict(totals.totals)}
        with ledger(self._engine) as connection:
            connection.execute(insert(run).values(at=totals.at, body=body))

    def runs(self, limit: int = 20) -> list[RunTotals]:
        """The latest runs, latest first."""
        with ledger(self._engine) as connection:
            rows = connection.execute(select(run.c.at, run.c.body).order_by(run.c.at.desc(), run.c.id.desc()))
            return [RunTotals(row.at, row.body["seconds"], row.body["totals"]) for row in rows.fetchmany(limit)]

    def totals(self) -> dict[str, int]:
        """How many there are in all of what is listed in part: audit, rejection, run, verification."""
        tables = audit, rejection, run, verification
        counts = (select(func.count()).select_from(table).scalar_subquery().label(table.name) for table in tables)
        with ledger(self._engine) as connection:
            return {name: int(n) for name, n in connection.execute(select(*counts)).one()._mapping.items()}

    def rejections(self, limit: int = 100) -> list[Rejection]:
        """Scopes that could not be carried over, the longest waiting first."""
        return rejections.rejections(self._engine, limit)


def _storable(value: str) -> str:
    """The text without what PostgreSQL's text and jsonb cannot hold: NUL and lone surrogates."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _dump(difference: FieldDifference) -> dict[str, str | None]:
    return {name: None if value is None else _storable(value) for name, value in asdict(difference).items()}


def _brief(difference: FieldDifference) -> FieldDifference:
    """The difference with texts cut to what tells that they differ: the ledger keeps no prompts."""
    return replace(difference, legacy=_cut(difference.legacy), new=_cut(difference.new))


def _cut(value: str | None) -> str | None:
    if value is None or len(value) <= _KEPT:
        return value
    return f"{value[:_KEPT]}… ({len(value)} characters, md5 {md5(value.encode(), usedforsecurity=False).hexdigest()})"


def _example(example: RowDifference) -> dict[str, Any]:
    fields = [_dump(_brief(difference)) for difference in example.fields]
    return {"key": example.key, "scope": example.scope, "kind": example.kind.value, "fields": fields}


def _differences(dumped: list[dict[str, Any]]) -> tuple[FieldDifference, ...]:
    return tuple(FieldDifference(**difference) for difference in dumped)


def _sample(row: Any) -> MismatchSample:
    differences = _differences(row.differences)
    return MismatchSample(row.at, row.operation, Store(row.served), row.scope, row.arguments, differences)


def _verification(row: Any) -> Verification:
    body = dict(row.body)
    examples = tuple(
        RowDifference(shown["key"], shown["scope"], Kind(shown["kind"]), _differences(shown["fields"]))
        for shown in body.pop("examples")
    )
    return Verification(at=row.at, verdict=Verdict(row.verdict), examples=examples, **body)
