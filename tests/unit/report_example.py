"""Evidence of an invented migration, for tests of the report and for looking at it."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.baseline import Baseline, FieldNoise, Finding, RuleUse
from harness.evidence import Evidence, WayBack, moved
from harness.phases import Phase
from harness.records import (
    AuditEntry,
    Backlog,
    Debt,
    FieldDifference,
    Kind,
    MismatchSample,
    PhaseState,
    Quarantined,
    Rejection,
    RowDifference,
    RunTotals,
    Verdict,
    Verification,
)
from harness.routing import Route, Store
from harness.statistics import Apply, Drop, Failure, Paired, Result, Role, Statistics

NOW = datetime(2025, 3, 14, 15, 9, 26, tzinfo=UTC)
TEXT = "You summarize incidents for the night shift of the Ruritanian railways."
OTHER_TEXT = "You summarize incidents for the day shift of the Ruritanian railways, briefly."
HOSTILE = "<script>alert('x')</script>|`*_[a](javascript:b)\n# head"
ID = "8f14e45f-ceea-367f-a27f-e5ef7c9a1d21"

_READS = {"find_enabled_by_project": (0.0011, 40), "find_by_id": (0.0008, 22), "find_by_name": (0.0016, 8)}
_READS["find_all"] = (0.0062, 5)


def minute(at: int, calls: int = 10, *, mismatched: int = 0, seed: int = 0) -> Statistics:
    """One minute of parallel run: ``calls`` scales how much was asked."""
    chance = random.Random(1000 * seed + at)
    found = Statistics()
    for name, (typical, weight) in _READS.items():
        for _ in range(weight * calls):
            found.latencies[name, Store.LEGACY, Role.SERVED].add(typical * chance.lognormvariate(0, 0.45))
            found.latencies[name, Store.NEW, Role.SHADOWED].add(typical * 0.8 * chance.lognormvariate(0, 0.55))
        found.paired[name, Store.LEGACY].merge(found.latencies[name, Store.LEGACY, Role.SERVED])
        found.paired[name, Store.NEW].merge(found.latencies[name, Store.NEW, Role.SHADOWED])
        found.comparisons[name, Result.MATCHED] += weight * calls
        found.pairs[name, Paired.ANSWERED] += weight * calls
    found.latencies["update", Store.LEGACY, Role.SERVED].add_all(chance.lognormvariate(-6, 0.4) for _ in range(calls))
    found.applies[Apply.CARRIED] += calls
    found.comparisons["find_all", Result.TRANSIENT] += at % 3
    found.comparisons["find_all", Result.NOT_COMPARED] += at % 5
    found.drops[Drop.UNSETTLED] += at % 5
    if mismatched:
        found.comparisons["find_by_id", Result.MISMATCHED] += mismatched
        found.fields["find_by_id", "content"] += mismatched
    return found


def merged(minutes: tuple[tuple[datetime, Statistics], ...]) -> Statistics:
    whole = Statistics()
    for _, counted in minutes:
        whole.merge(counted)
    return whole


def good(minutes: int = 30) -> Evidence:
    """A migration of which every gate passes."""
    first = NOW.replace(second=0, microsecond=0) - timedelta(minutes=minutes)
    by_minute = tuple((first + timedelta(minutes=at), minute(at, 4 + at % 4)) for at in range(minutes))
    lags = tuple(
        (at, {Store.LEGACY: 0.02 + 0.001 * (place % 7), Store.NEW: 0.0}) for place, (at, _) in enumerate(by_minute)
    )
    return Evidence(
        generated_at=NOW,
        phase=PhaseState(Phase.RAMPING, 4, NOW - timedelta(minutes=20), "ada", "reads to 10 %"),
        route=Route(epoch=7, reads_percent=10, writes_percent=1, salt="salt"),
        settings_fingerprint="3c9a01f2be77",
        versions={"crossfade": "0.1.0", "legacy": "PostgreSQL 15.13", "new": "PostgreSQL 18.1"},
        statistics=merged(by_minute),
        by_minute=by_minute,
        lag_by_minute=lags,
        writes=frozenset({"save", "update", "delete"}),
        baseline=baseline(),
        verification=verification(),
        earlier=(verification(NOW - timedelta(hours=5)),),
        backlog={Store.LEGACY: Backlog(3, 0.021), Store.NEW: Backlog()},
        audit=_audit(),
        runs=(
            RunTotals(NOW - timedelta(minutes=4), 60.0, {"operations": 4812, "compared": 4640, "dropped": {"held": 2}}),
        ),
        new_only=1,
    )


def bad() -> Evidence:
    """The same migration with something wrong of every kind, hostile texts among it."""
    fine = good()
    at, broken = fine.by_minute[12][0], minute(12, 5, mismatched=41)
    broken.errors["find_all", Store.NEW, Role.SHADOWED] += 9
    broken.latencies["find_all", Store.NEW, Role.SHADOWED].add_all([0.09] * 30)
    broken.pairs["find_all", Paired.NEW_FAILED] += 9
    broken.pairs["find_all", Paired.SLOW] += 30
    broken.paired["find_all", Store.LEGACY].add_all([0.006] * 30)
    broken.paired["find_all", Store.NEW].add_all([0.09] * 30)
    broken.applies[Apply.REJECTED] += 40
    broken.drops[Drop.TIMEOUT] += 17
    broken.drops[Drop.BREAKER_OPEN] += 212
    broken.comparisons["find_by_name", Result.NOT_COMPARED] += 229
    broken.comparisons["find_by_name", Result.IGNORED] += 12
    broken.failures[Failure.CARRY] += 2
    broken.fallbacks["find_by_id"] += 3
    broken.unrecorded["find_by_id"] += 5
    broken.rerouted["delete"] += 6
    by_minute = (*fine.by_minute[:12], (at, broken), *fine.by_minute[13:])
    return replace(
        fine,
        route=replace(fine.route, pins={"umbra": Store.LEGACY, "acme/project-7/incident-summary": Store.LEGACY}),
        statistics=merged(by_minute),
        by_minute=by_minute,
        baseline=baseline(open_=3),
        verification=verification(NOW - timedelta(minutes=3), broken=True),
        earlier=(verification(), *fine.earlier),
        backlog={Store.LEGACY: Backlog(1204, 42.5), Store.NEW: Backlog()},
        quarantined=tuple(_held()),
        quarantined_total=16,
        quarantined_accepted=2,
        rogue_writes={Store.LEGACY: 3, Store.NEW: 0},
        debts=(Debt(ID, "acme/project-9/incident-summary", "second_disabled", NOW - timedelta(hours=3)),),
        debts_total=4,
        unfinished="ramp of ada",
        mismatches=_samples(),
        rejections=(
            Rejection(
                "acme/project-7/incident-summary",
                "new refused the rows of the scope: another prompt is enabled there; see which one in new",
                12,
                NOW - timedelta(hours=2),
                NOW - timedelta(seconds=4),
            ),
        ),
        audit=(*_audit(), AuditEntry(NOW, HOSTILE, HOSTILE, HOSTILE, {HOSTILE: [HOSTILE, {"n": 0.5}]})),
    )


def empty() -> Evidence:
    """Nothing was prepared, run or verified yet."""
    return Evidence(NOW, PhaseState(Phase.IDLE, 0, NOW, "", ""), Route(), "3c9a01f2be77")


def baseline(open_: int = 0) -> Baseline:
    """A field that differs by itself, now and then where no rule excuses it."""
    fields = (
        FieldNoise("find_by_id", "viewed_at", 731, 742, 0.93, 1.0, Finding.NOISE, open_, ("stamps-of-reading",)),
        FieldNoise("find_by_id", "content", 0, 742, 0.0, 0.008, Finding.STILL),
    )
    rules = (RuleUse("stamps-of-reading", 731, Finding.NOISE),)
    return Baseline(NOW - timedelta(days=2), Store.LEGACY, 60.0, 1_113, 17, 5, 1, 0.01, fields, rules)


def verification(at: datetime = NOW - timedelta(hours=1), *, broken: bool = False) -> Verification:
    examples = (
        RowDifference(ID, "acme/project-1/incident-summary", Kind.DIFFERENT, _differences()),
        RowDifference("0c7d3f4e-0000-3000-8000-000000000002", "acme/project-2/type-99", Kind.MISSING),
    )
    return Verification(
        at=at,
        verdict=Verdict.FAIL if broken else Verdict.PASS,
        compared=52_310,
        missing=int(broken),
        extra=0,
        different=int(broken),
        transient=4,
        unsettled=0,
        quarantined=14 if broken else 0,
        unaccounted=0,
        new_only=1,
        seconds=1.84,
        examples=examples if broken else (),
    )


def _differences() -> tuple[FieldDifference, ...]:
    return (
        FieldDifference("content", TEXT, OTHER_TEXT),
        FieldDifference("description", None, TEXT),
        FieldDifference("name", HOSTILE, ""),
    )


def _samples() -> tuple[MismatchSample, ...]:
    scopes = [f"acme/project-{n}/incident-summary" for n in range(3)]
    content = [
        MismatchSample(
            NOW - timedelta(minutes=17, seconds=n), "find_by_id", Store.LEGACY, scope, f"id={ID}", _differences()[:1]
        )
        for n, scope in enumerate(scopes)
    ]
    outcome = FieldDifference("outcome", "an answer", "StoreUnavailable")
    other = MismatchSample(NOW, "find_all", Store.NEW, None, f"query={TEXT}", (outcome, *_differences()[1:]))
    return (*content, other)


def _held() -> list[Quarantined]:
    reasons = ["content_too_long"] * 9 + ["content_empty"] * 3 + ["no_project"]
    return [
        Quarantined(
            f"key-{n}",
            f"dispatch_organization_{'acme' if n % 2 else 'globex'}.prompt",
            str(310 + 7 * n),
            None if reason == "no_project" else f"acme/project-{n}/incident-summary",
            reason,
            NOW - timedelta(hours=30),
            "an essay, not a prompt" if n >= 13 else None,
        )
        for n, reason in enumerate([*reasons, "content_too_long", "content_too_long"])
    ]


def _stand(writes: float, pins: dict[str, str] | None = None) -> dict[str, Any]:
    """A route as the audit of an act says it."""
    shares = {"writes_percent": writes, "reads_percent": 10.0, "shadow_percent": 100.0}
    return shares | {"phase": "RAMPING", "pins": pins or {}, "automatic": []}


def _audit() -> tuple[AuditEntry, ...]:
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("prepare", "", {"tenants": 3}),
        ("backfill", "", {"copied": 52_310, "already_there": 0, "quarantined": 14, "seconds": 6.1}),
        ("phase", "first parallel run", {"from": "BACKFILLED", "to": "SHADOWING"}),
        ("ramp", "a first percent", {"reads_percent": {"from": 0, "to": 10}}),
        ("ramp", "one day without a mismatch; agreed with the on-call team", {"from": _stand(0), "to": _stand(1)}),
        ("ramp undone", "the importer held its transaction open", {"to": _stand(50)}),
    ]
    return tuple(
        AuditEntry(NOW - timedelta(hours=6 - n), "ada", action, reason, detail)
        for n, (action, reason, detail) in enumerate(steps)
    )


def ramping() -> Evidence:
    """An automatic ramp of three hours that advances five times, meets slow answers, and retreats."""
    shares = ((1, 0), (10, 0), (50, 0), (100, 0), (100, 10))
    first = NOW.replace(second=0, microsecond=0) - timedelta(minutes=180)
    by_minute = [(first + timedelta(minutes=at), minute(at, 2 + at % 3, mismatched=at % 61 == 9)) for at in range(178)]
    for _, slow in by_minute[160:]:
        slow.latencies["find_all", Store.NEW, Role.SHADOWED].add_all([0.21] * 30)
        slow.paired["find_all", Store.NEW].add_all([0.21] * 30)
        slow.paired["find_all", Store.LEGACY].add_all([0.009] * 30)
        slow.pairs["find_all", Paired.ANSWERED] += 30
    lags = [(at, {Store.LEGACY: 0.02 * (1 + n % 5), Store.NEW: 0.01}) for n, (at, _) in enumerate(by_minute)]
    passing = [{"name": name, "verdict": "pass", "evidence": "as it should be"} for name in ("mismatches", "latency")]
    failing = [passing[0], {"name": "latency", "verdict": "fail", "evidence": "p99 of find_all 212 ms against 9 ms"}]
    audit, before = list(_audit()[:3]), (0, 0)
    for step, (reads, writes) in enumerate(shares, 1):
        at, move = first + timedelta(minutes=30 * step), _move(before, (reads, writes))
        audit += _decision(at, "advance", step - 1, before, step, passing)
        audit.append(
            AuditEntry(at, "ada", "ramp", f"automatic ramp: advance to step {step} of 5; every gate passes", move)
        )
        before = reads, writes
    at = first + timedelta(minutes=176)
    audit += _decision(at, "retreat", 5, before, 0, failing)
    reason = "automatic ramp: retreat to step 0 of 5; latency: p99 of find_all 212 ms against 9 ms"
    audit.append(AuditEntry(at, "ada", "ramp", reason, _move(before, (0, 0))))
    return replace(
        good(),
        route=Route(epoch=12, reads_percent=0, writes_percent=0, salt="salt"),
        statistics=merged(tuple(by_minute)),
        by_minute=tuple(by_minute),
        lag_by_minute=tuple(lags),
        audit=tuple(reversed(audit)),
        acts=tuple(entry for entry in audit if moved(entry)),
        way_back=WayBack(0, 0, 0.5, 20, "ramp", 1.31),
        guard={Store.LEGACY: "enforce", Store.NEW: "record"},
        holders=("an importer in legacy (pid 4711, 93 s)",),
    )


def _move(was: tuple[float, float], became: tuple[float, float]) -> dict[str, Any]:
    stands = (_stand(writes) | {"reads_percent": float(reads)} for reads, writes in (was, became))
    return dict(zip(("from", "to"), stands, strict=True))


def _decision(
    at: datetime, what: str, step: int, stands: tuple[float, float], towards: int, gates: list[dict[str, str]]
) -> list[AuditEntry]:
    """What an automatic ramp notes before it moves, and once it has."""
    reads, writes = stands
    detail = {"step": step, "stands": f"reads {reads:g} %, writes {writes:g} %", "state": "running", "gates": gates}
    begun = AuditEntry(at - timedelta(seconds=2), "ada", f"auto {what} begun", "", detail | {"towards": towards})
    done = "retreated" if what == "retreat" else "advanced"
    return [begun, AuditEntry(at + timedelta(seconds=1), "ada", f"auto {done}", "", detail | {"towards": None})]
