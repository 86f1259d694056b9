"""The sections of the Markdown report on what may still go wrong: open risks, the ramp, the way back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.words import count, counted, share
from reports.marking import plain, table, texts
from reports.wording import NONE, rate, seconds, stamp, whole


def risks(model: Mapping[str, Any]) -> Iterator[str]:
    yield "## Open risks"
    yield ""
    if not model["risks"]:
        yield "None that the evidence shows."
        yield ""
        return
    rows = [(each["name"].replace("_", " "), each["risk"], each["do"]) for each in model["risks"]]
    yield from texts(("risk", "what is so", "what to do"), rows)


def evidence(gates: Sequence[Mapping[str, Any]]) -> str:
    """The gates that a step rests on, in one line; empty without any."""
    told = "; ".join(f"{gate['name']} {gate['verdict']}: {gate['evidence']}" for gate in gates)
    return f"(on {told})" if told else ""


def ramp(model: Mapping[str, Any]) -> Iterator[str]:
    told = model["ramp"]
    yield "## The ramp over time"
    yield ""
    if not told["steps"]:
        yield "No share was moved."
        yield ""
    else:
        rows = [
            (
                count(step["number"]),
                stamp(step["at"]),
                f"{step['reads_percent']:g} %",
                f"{step['writes_percent']:g} %",
                f"{step['actor']} ({step['action']})",
                f"{step['reason']} {evidence(step['gates'])}",
            )
            for step in told["steps"]
        ]
        yield f"{count(len(rows))} of {counted(told['total'], 'step')}:"
        yield ""
        yield from texts(("step", "from", "reads", "writes", "by", "why, and on which evidence"), rows)
    yield from _points(model["over_time"])


def _points(over: Mapping[str, Any]) -> Iterator[str]:
    if not over["points"]:
        return
    per = "minute" if over["minutes_per_point"] == 1 else counted(over["minutes_per_point"], "minute")
    sure = share(over["confidence"])
    yield f"By {per}, all operations together; the interval holds the true rate with {sure} at any time:"
    yield ""
    of_store = [f"{store} {what}" for store in ("legacy", "new") for what in ("p50", "p99", "lag")]
    heads = ("from", "compared", "not compared", "mismatched", "rate", "interval", *of_store)
    yield from table(heads, [_point(point) for point in over["points"]])


def _point(point: Mapping[str, Any]) -> list[str]:
    counts = [count(point[key]) for key in ("compared", "not_compared", "mismatched")]
    known = point["rate_high"] is not None
    interval = f"{share(point['rate_low'])} to {share(point['rate_high'])}" if known else NONE
    cells = [plain(stamp(point["at"])), *counts, rate(point["mismatch_rate"]), interval]
    for store in ("legacy", "new"):
        cells += [seconds(point["latency"][store][q]) for q in ("p50", "p99")] + [seconds(point["lag"].get(store))]
    return cells


def way_back(model: Mapping[str, Any]) -> Iterator[str]:
    told = model["way_back"]
    yield "## What rolling back would cost now"
    yield ""
    yield plain(told["sentence"])
    yield ""
    if not told["possible"]:
        return
    rows = {
        "reads that go back": f"{told['reads_percent']:g} %",
        "scopes that move": whole(told["scopes"]),
        "records in them": whole(told["records"]),
        "notes on their way back": whole(told["notes"]),
        "lag of the way back": seconds(told["lag_seconds"]),
        "records that stay behind": count(told["new_only"]),
        "rollback debt": count(told["debt"]),
        "writers held in each attempt, at most": seconds(told["hold_seconds_most"]),
        "attempts, at most": whole(told["attempts_most"]),
        f"the last act{': ' if told['last_act'] else ''}{told['last_act']} took": seconds(told["last_act_seconds"]),
    }
    yield from table(("what", "how much"), [[plain(name), plain(value)] for name, value in rows.items()])
