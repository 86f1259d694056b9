"""What a live page shows, in words: the same for a terminal and for a browser. No reading of anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from harness.records import Verdict
from harness.routing import Store
from harness.words import count, duration, share

MARKS = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.INCONCLUSIVE: "?"}  # readable without colour
_ORDER = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
NONE = "–"
_OLD = 15.0


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of each store, and how it went, oldest first: ``points`` of whatever ``of`` says."""

    name: str
    legacy: str
    new: str
    points: tuple[float | None, ...] = ()
    of: str = ""
    most: str = ""  # the greatest point, in words


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    text: str
    points: tuple[float | None, ...] = ()
    of: str = ""
    most: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    name: str
    verdict: Verdict
    evidence: str


@dataclass(frozen=True, slots=True)
class Told:
    """``alerts``: what is wrong with looking itself. ``gates``: what needs somebody goes first."""

    phase: str
    epoch: str
    at: str
    shares: tuple[tuple[str, str], ...]
    ramp: str
    alerts: tuple[str, ...]
    span: str
    rows: tuple[Row, ...]
    lines: tuple[Line, ...]
    gates: tuple[Shown, ...]
    judged: str
    next_step: str


def told(document: Mapping[str, Any]) -> Told:
    """The live document (``harness.cli.watching``) in words."""
    history = document["history"]
    return Told(
        phase=document["phase"] or NONE,
        epoch=NONE if document["epoch"] is None else str(document["epoch"]),
        at=clock_time(document["at"]),
        shares=tuple((name, _percent(document[f"{name}_percent"])) for name in ("reads", "writes", "shadow")),
        ramp=_ramp(document["automatic_ramp"]),
        alerts=_alerts(document),
        span=f"the last {duration(history['seconds'] * len(history['lag_seconds']))}",
        rows=_rows(document, history),
        lines=_lines(document, history),
        gates=_sorted(document["gates"]),
        judged=_judged(document),
        next_step=plain(document["next"]),
    )


def plain(text: object) -> str:
    """One line without anything that a terminal would obey."""
    return " ".join("".join(each if each.isprintable() else " " for each in str(text)).split())


def clock_time(stamp: str) -> str:
    return f"{datetime.fromisoformat(stamp):%H:%M:%S} UTC"


def per_second(rate: float | None) -> str:
    """To three digits or so, however great."""
    if rate is None:
        return NONE
    if rate < 10:
        return f"{rate:.2f}"
    return f"{rate:,.1f}" if rate < 1000 else compact(rate)


def compact(n: float) -> str:
    """A number of seven characters at most."""
    if n < 100_000:
        return f"{n:,.0f}"
    for unit in ("k", "M", "G", "T"):
        n /= 1000
        if n < 999.5:
            return f"{n:.3g} {unit}"
    return f"{n:.1e}"


def _percent(share_of_new: float | None) -> str:
    return NONE if share_of_new is None else f"{share_of_new:g} %"


def seconds_told(seconds: float | None) -> str:
    return NONE if seconds is None else duration(seconds)


def _rows(document: Mapping[str, Any], history: Mapping[str, Any]) -> tuple[Row, ...]:
    def row(name: str, figures: Mapping[str, str], series: str = "", of: str = "", told: Any = str) -> Row:
        points = tuple(history[series]) if series else ()
        return Row(name, figures[Store.LEGACY], figures[Store.NEW], points, of, _most(points, told))

    def each(key: str, told: Any) -> dict[str, str]:
        return {store: NONE if value is None else told(value) for store, value in document[key].items()}

    def quantile(name: str) -> dict[str, str]:
        return {store: seconds_told(each[name]) for store, each in document["latency_seconds"].items()}

    return (
        row("served/s", each("operations_per_second", per_second), "operations_per_second", "served/s", per_second),
        row("p50", quantile("p50")),
        row("p99", quantile("p99"), "p99_seconds", "p99 of new", seconds_told),
        row("errors", each("errors_lately", compact)),
        row("lag", each("lag_seconds", seconds_told), "lag_seconds", "lag", seconds_told),
        row("dirty notes", each("dirty", compact)),
    )


def _lines(document: Mapping[str, Any], history: Mapping[str, Any]) -> tuple[Line, ...]:
    found = document["mismatch"]
    text = NONE
    if found is not None and found["compared"]:
        text = f"{share(found['rate'])} ({share(found['low'])} to {share(found['high'])})"
    points = tuple(history["mismatch_rate"])
    total, undecided = count(document["quarantined"]), count(document["quarantined_undecided"])
    last = document["last_verification"]
    verified = "never verified" if last is None else f"verified {_ago(document, last['at'])}: {last['verdict']}"
    held = f"quarantine {total} ({undecided} open), rejected {count(len(document['rejected']))}; {verified}"
    return (
        Line("compared/s", per_second(document["compared_per_second"])),
        Line("mismatches", text, points, "mismatch rate", _most(points, share)),
        Line("held", held),
    )


def _ago(document: Mapping[str, Any], stamp: str) -> str:
    age = (datetime.fromisoformat(document["at"]) - datetime.fromisoformat(stamp)).total_seconds()
    return f"{duration(round(max(0.0, age)))} ago"


def _most(points: Sequence[float | None], told: Any) -> str:
    known = [point for point in points if point is not None]
    return told(max(known)) if known else ""


def _ramp(course: Mapping[str, Any] | None) -> str:
    if course is None:
        return "none"
    text = f"{course['state']}, step {course['step']} of {course['steps']}"
    if course.get("paused"):
        text += ", paused"
    return plain(f"{text}; {course['reason']}" if course["reason"] else text)


def _alerts(document: Mapping[str, Any]) -> tuple[str, ...]:
    away = [
        f"{store} cannot be reached since {clock_time(since)}; trying again"
        for store, since in document["away"].items()
        if since
    ]
    if (age := document["look_age_seconds"]) is not None and age > _OLD:
        away.append(f"no look for {duration(round(age))}; what is shown is as old")
    if document["judging_failed"] and not away:
        away.append("the gates could not be judged; trying again")
    if unfinished := document["unfinished"]:
        act = plain(f"{unfinished['command']} by {unfinished['actor']}")
        away.append(f"{act} is under way, or was left half done")
    return tuple(away)


def _judged(document: Mapping[str, Any]) -> str:
    if not document["gates"]:
        return "not judged before prepare" if document["phase"] == "IDLE" else "being judged"
    tally = ", ".join(
        f"{count(n)} {verdict.value}"
        for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
        if (n := sum(gate["verdict"] == verdict for gate in document["gates"]))
    )
    return f"{tally}; judged {duration(round(document['gates_age_seconds']))} ago"


def _sorted(gates: Sequence[Mapping[str, str]]) -> tuple[Shown, ...]:
    shown = [Shown(plain(gate["name"]), Verdict(gate["verdict"]), plain(gate["evidence"])) for gate in gates]
    return tuple(sorted(shown, key=lambda gate: _ORDER.index(gate.verdict)))
